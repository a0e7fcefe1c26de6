//! What an archive says of itself: its serial number and a digest of every file.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::MAX_DEPTH;
use crate::model::{json, shown};

/// The name of the manifest within the archive.
pub(super) const NAME: &str = "manifest.json";
/// The one form that is written and read.
const FORMAT: u64 = 1;
/// The highest serial: the highest whole number that every JSON reader keeps exact (2^53 - 1).
const MAX_SERIAL: u64 = (1 << 53) - 1;
/// The longest path of a file, in bytes.
pub(super) const MAX_PATH: usize = 256;

/// The manifest of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    format: u64,
    /// Which of two bundles is the newer one. It never goes back unless an operator says so.
    pub serial: u64,
    /// When it was made, where that was told (RFC 3339). For people: nothing is decided by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Path and SHA-256 (lower-case hex) of every file but the manifest.
    pub(super) files: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of a bundle that is being made.
    ///
    /// # Errors
    /// A serial that is out of range.
    pub(super) fn new(serial: u64, created: Option<Timestamp>) -> Result<Self, String> {
        check_serial(serial)?;
        Ok(Self {
            format: FORMAT,
            serial,
            created: created.map(|time| time.to_string()),
            files: BTreeMap::new(),
        })
    }

    /// How many files it lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether it lists none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// What is wrong with it. Members that are not known are errors: what they mean would be guessed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut members = json::parse_object(bytes).map_err(|error| error.to_string())?;
        if members.remove("format").and_then(|v| v.as_u64()) != Some(FORMAT) {
            return Err(format!(
                "`format` is not {FORMAT}, the one this version reads"
            ));
        }
        let serial = members.remove("serial").and_then(|value| value.as_u64());
        let serial = serial.ok_or("`serial` is missing or no whole number")?;
        check_serial(serial)?;
        let created = match members.remove("created") {
            None => None,
            Some(Value::String(text)) if text.parse::<Timestamp>().is_ok() => Some(text),
            Some(_) => return Err("`created` is no time in the form of RFC 3339".to_owned()),
        };
        let Some(Value::Object(listed)) = members.remove("files") else {
            return Err("`files` is missing or no object".to_owned());
        };
        if let Some(unknown) = members.keys().next() {
            return Err(format!("unknown member `{}`", shown(unknown, 64)));
        }
        Ok(Self {
            format: FORMAT,
            serial,
            created,
            files: files(listed)?,
        })
    }
}

/// Which serials there are.
fn check_serial(serial: u64) -> Result<(), String> {
    if (1..=MAX_SERIAL).contains(&serial) {
        Ok(())
    } else {
        Err(format!("the serial must lie between 1 and {MAX_SERIAL}"))
    }
}

fn files(listed: Map<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let entry = |(path, digest): (String, Value)| {
        check_path(&path).map_err(|wrong| format!("`{}` {wrong}", shown(&path, MAX_PATH)))?;
        match digest {
            Value::String(digest) => Ok((path, digest)),
            _ => Err(format!("the digest of `{path}` is no text")),
        }
    };
    listed.into_iter().map(entry).collect()
}

/// The digest of a file as manifests write it.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a path may stand in an archive: one that stays below the bundle, reads the same everywhere, and is none that a
/// folder would pass over.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the path.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > MAX_PATH {
        return Err("is not 1 to 256 bytes long");
    }
    if path.starts_with('/') {
        return Err("is absolute");
    }
    if path.contains('\\') || shown(path, MAX_PATH) != path {
        return Err("holds a backslash or a character that cannot be seen");
    }
    let mut depth = 0;
    for part in path.split('/') {
        depth += 1;
        match part {
            "" => return Err("has an empty part"),
            "." | ".." => return Err("leads out of the bundle"),
            part if part.starts_with('.') => return Err("has a part that begins with a dot"),
            _ => {}
        }
    }
    if depth > MAX_DEPTH + 1 {
        return Err("lies within too many folders");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_bundle() {
        for good in ["a.cedar", "guardrails/b.cedar", "a/b/c/d/e/f/g/h/i.cedar"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        let long = "x".repeat(257);
        for bad in [
            "",
            "/etc/passwd",
            "../a.cedar",
            "a/../b.cedar",
            "a/./b.cedar",
            "a//b.cedar",
            "a/",
            ".hidden/a.cedar",
            "a\\..\\b.cedar",
            "a\0.cedar",
            "a\n.cedar",
            "a/b/c/d/e/f/g/h/i/j.cedar",
            &long,
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_manifest_has_one_reading() {
        let good =
            br#"{"format":1,"serial":7,"created":"2026-01-02T03:04:05Z","files":{"a.cedar":"00"}}"#;
        let manifest = Manifest::parse(good).unwrap();
        assert_eq!((manifest.serial, manifest.len()), (7, 1));
        for (bad, why) in [
            (r#"{"format":2,"serial":7,"files":{}}"#, "`format`"),
            (r#"{"format":1,"files":{}}"#, "`serial`"),
            (r#"{"format":1,"serial":0,"files":{}}"#, "serial must lie"),
            (r#"{"format":1,"serial":-1,"files":{}}"#, "`serial`"),
            (r#"{"format":1,"serial":1.5,"files":{}}"#, "`serial`"),
            (
                r#"{"format":1,"serial":9007199254740992,"files":{}}"#,
                "serial must lie",
            ),
            (r#"{"format":1,"serial":1}"#, "`files`"),
            (
                r#"{"format":1,"serial":1,"created":"soon","files":{}}"#,
                "`created`",
            ),
            (
                r#"{"format":1,"serial":1,"files":{},"x":1}"#,
                "unknown member `x`",
            ),
            (r#"{"format":1,"serial":1,"serial":2,"files":{}}"#, "twice"),
            (
                r#"{"format":1,"serial":1,"files":{"../a":""}}"#,
                "leads out",
            ),
            (r#"{"format":1,"serial":1,"files":{"a":1}}"#, "no text"),
            (
                r#"{"format":1,"serial":1,"files":{"a":"","a":""}}"#,
                "twice",
            ),
            ("[]", "not an object"),
            ("", "too early"),
        ] {
            let wrong = Manifest::parse(bad.as_bytes()).unwrap_err();
            assert!(wrong.contains(why), "{bad}: {wrong}");
        }
    }
}

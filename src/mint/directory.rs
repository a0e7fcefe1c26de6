//! A folder of private keys, one a file. All of it blocks.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::Value;

use super::key::{KeyError, SigningKey};
use super::settings::SigningAlgorithm;
use crate::model::Problem;

/// What the names of keys end in. Everything else in the folder is passed over, and so are names that begin with a dot.
pub const KEY_FILE_ENDING: &str = ".pem";

/// The most keys a folder may hold: each of them is published, and none leaves by itself.
const MOST_KEYS: usize = 16;
/// The longest file, in bytes.
const LONGEST: u64 = 16 * 1024;

/// What to do where there is no key.
const CREATE: &str = "`cardea mint create-key` makes one";

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    name: String,
    times: [i64; 4],
    place: [u64; 3],
}

/// A key, and the file it stands in.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) key: SigningKey,
    /// When its file last changed in any way, by this machine's clock.
    pub(super) changed: Timestamp,
}

/// A key in a folder, and nothing private of it.
#[derive(Debug)]
pub struct ListedKey {
    /// Its file's name.
    pub file: String,
    /// Its thumbprint.
    pub kid: String,
    /// What it signs with.
    pub algorithm: SigningAlgorithm,
    /// What verifiers need (RFC 7517, section 4).
    pub jwk: Value,
}

/// The keys in a folder, by name: the last one signs. It blocks, so it is for commands.
///
/// # Errors
/// Everything that is wrong with the folder or any of its keys.
pub fn listed_keys(folder: &Path) -> Result<Vec<ListedKey>, Vec<Problem>> {
    let stamps = list(folder).map_err(|problem| vec![problem])?;
    let found = read(folder, &stamps)?.into_iter();
    let listed = found.map(|found| ListedKey {
        file: found.name,
        kid: found.key.kid().to_owned(),
        algorithm: found.key.algorithm(),
        jwk: found.key.jwk(),
    });
    Ok(listed.collect())
}

/// The files that should hold keys, by name.
///
/// # Errors
/// A folder that cannot be looked at, or holds too many.
pub(super) fn list(folder: &Path) -> Result<Vec<Stamp>, Problem> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot look at the keys that sign: {error}");
        let problem = Problem::new(message).in_file(folder);
        if error.kind() == std::io::ErrorKind::NotFound {
            problem.hint(CREATE)
        } else {
            problem
        }
    };
    let mut stamps = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if name.starts_with('.') || !name.ends_with(KEY_FILE_ENDING) {
            continue;
        }
        // Through links: mounted secrets are made of them.
        let data = std::fs::metadata(entry.path()).map_err(failed)?;
        stamps.push(Stamp {
            name,
            times: [
                data.mtime(),
                data.mtime_nsec(),
                data.ctime(),
                data.ctime_nsec(),
            ],
            place: [data.len(), data.ino(), data.dev()],
        });
        if stamps.len() > MOST_KEYS {
            let message = format!("the folder holds more than {MOST_KEYS} keys that sign");
            return Err(Problem::new(message)
                .in_file(folder)
                .hint("take old ones away"));
        }
    }
    stamps.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(stamps)
}

/// The keys in these files.
///
/// # Errors
/// Everything that is wrong with any of them: half a set of keys is not used. No word of what was read.
pub(super) fn read(folder: &Path, stamps: &[Stamp]) -> Result<Vec<Found>, Vec<Problem>> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    let mut files: BTreeMap<String, &str> = BTreeMap::new();
    for stamp in stamps {
        let path = folder.join(&stamp.name);
        let problem = match read_key(&path) {
            Err(problem) => problem,
            Ok(key) => match files.insert(key.kid().to_owned(), &stamp.name) {
                None => {
                    found.push(Found {
                        name: stamp.name.clone(),
                        key,
                        changed: stamp.changed(),
                    });
                    continue;
                }
                Some(other) => Problem::new(format!("it holds the same key as `{other}`")),
            },
        };
        problems.push(problem.in_file(path));
    }
    if problems.is_empty() && found.is_empty() {
        let message =
            format!("the folder holds no key that signs: no file ends in `{KEY_FILE_ENDING}`");
        let problem = Problem::new(message).in_file(folder);
        problems.push(problem.hint(CREATE));
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(problems)
    }
}

fn read_key(path: &Path) -> Result<SigningKey, Problem> {
    let broken = |error: std::io::Error| Problem::new(format!("cannot read the key: {error}"));
    // To open a pipe waits for its other end.
    if !std::fs::metadata(path).map_err(broken)?.is_file() {
        return Err(Problem::new("it is no file"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(broken)?;
    let read = file
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(broken)?;
    let pem = SecretSlice::from(bytes);
    if read as u64 > LONGEST {
        return Err(Problem::new(format!("it is longer than {LONGEST} bytes")));
    }
    SigningKey::read(pem.expose_secret()).map_err(|error| {
        let problem = Problem::new(error.to_string());
        match error {
            KeyError::NoKey => {
                problem.hint("`openssl pkcs8 -topk8 -nocrypt` brings a key into that form")
            }
            KeyError::OtherKind | KeyError::NotMade => problem,
        }
    })
}

impl Stamp {
    /// A time that does not fit is one long ago.
    fn changed(&self) -> Timestamp {
        let [.., seconds, nanos] = self.times;
        let nanos = i32::try_from(nanos).unwrap_or_default();
        Timestamp::new(seconds, nanos).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

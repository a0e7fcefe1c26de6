//! Secrets in settings: named, never written down.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Where a secret is to be found. Settings hold this, never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// A file that holds the secret; one trailing newline is dropped.
    File(PathBuf),
    /// An environment variable that holds the secret.
    Env(String),
}

/// Whoever writes the secret itself in place of where it is must not find it in an error, so nothing that was read is
/// repeated.
impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl Reader {
    fn refuse<T, E: de::Error>() -> Result<T, E> {
        Err(E::custom(
            "a secret is named by `{file: PATH}` or `{env: VARIABLE}`; the settings never hold the secret itself",
        ))
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{file: PATH}` or `{env: VARIABLE}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let Some((Word(Some(kind)), Word(Some(place)))) = map.next_entry()? else {
            return Self::refuse();
        };
        let found = match kind.as_str() {
            "file" => SecretRef::File(place.into()),
            "env" => SecretRef::Env(place),
            _ => return Self::refuse(),
        };
        match map.next_entry::<Word, Word>()? {
            None => Ok(found),
            Some(_) => Self::refuse(),
        }
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretRef, E> {
        Self::refuse()
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<SecretRef, E> {
        Self::refuse()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretRef, E> {
        Self::refuse()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretRef, E> {
        Self::refuse()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<SecretRef, E> {
        Self::refuse()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretRef, E> {
        Self::refuse()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<SecretRef, E> {
        Self::refuse()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretRef, E> {
        Self::refuse()
    }
}

/// A text; anything else is read over, and is none.
struct Word(Option<String>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(Some(text))),
            _ => Ok(Self(None)),
        }
    }
}

/// Why a secret could not be had. It names the place, never what was found there.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("cannot read the secret file `{0}`: {1}")]
    File(PathBuf, std::io::Error),
    /// The variable is not set, or not text.
    #[error("the environment variable `{0}` is not set or is not text")]
    Env(String),
    /// There is nothing in it.
    #[error("the secret in {0} is empty")]
    Empty(String),
}

impl SecretRef {
    /// Fetches the secret. Reads a file or the environment, so call it at start, not on a request's way.
    ///
    /// # Errors
    /// [`SecretError`] where there is no secret at that place.
    #[expect(clippy::disallowed_methods, reason = "read once at start")]
    pub fn resolve(&self) -> Result<SecretString, SecretError> {
        let (text, place) = match self {
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| SecretError::File(path.clone(), error))?;
                (text, format!("the file `{}`", path.display()))
            }
            Self::Env(name) => {
                let text = std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?;
                (text, format!("the environment variable `{name}`"))
            }
        };
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(SecretError::Empty(place));
        }
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_without_its_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let secret = SecretRef::File(path).resolve().unwrap();
        assert_eq!(secret.expose_secret(), "s3cret");
        assert!(!format!("{secret:?}").contains("s3cret"));
    }

    #[test]
    fn a_secret_in_place_of_its_place_is_refused_and_not_repeated() {
        for (text, place) in [
            (
                "{file: /run/secrets/a}",
                SecretRef::File("/run/secrets/a".into()),
            ),
            ("{env: TOKEN}", SecretRef::Env("TOKEN".into())),
            ("env: 'yes'", SecretRef::Env("yes".into())),
        ] {
            assert_eq!(serde_saphyr::from_str::<SecretRef>(text).unwrap(), place);
        }
        for text in [
            "s3cret",
            "'s3cret'",
            "771771771",
            "771.771",
            "-771771771",
            "771771771771771771771771771",
            "true",
            "[s3cret]",
            "{s3cret}",
            "{s3cret: s3cret}",
            "{value: s3cret}",
            "{file: [s3cret]}",
            "{file: {s3cret: 1}}",
            "{env: a, file: s3cret}",
            "{env: a, s3cret: b}",
            "{}",
            "~",
        ] {
            let error = serde_saphyr::from_str::<SecretRef>(text)
                .unwrap_err()
                .to_string();
            assert!(
                !error.contains("s3cret") && !error.contains("771"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_missing_or_empty_secret_is_an_error_that_names_its_place() {
        let error = SecretRef::Env("CARDEA_NO_SUCH_VARIABLE".into()).resolve();
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("CARDEA_NO_SUCH_VARIABLE")
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "\n").unwrap();
        let error = SecretRef::File(path).resolve();
        assert!(error.unwrap_err().to_string().contains("is empty"));
    }
}

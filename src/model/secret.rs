//! Secrets in settings: named, never written down.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

/// Where a secret is to be found. Settings hold this, never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// A file that holds the secret; one trailing newline is dropped.
    File(PathBuf),
    /// An environment variable that holds the secret.
    Env(String),
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

//! Calls that change something: off until a secret is set, and then only for who has it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use secrecy::ExposeSecret;
use serde_json::Value;

use crate::model::{Problem, SecretRef};

/// The shortest secret, in bytes. It is all that stands between the port and a change.
const SHORTEST: usize = 16;

/// A change under way.
pub type Changing = Pin<Box<dyn Future<Output = Changed> + Send>>;

/// What became of a change, and what the caller is told.
pub type Changed = (Outcome, Value);

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is made.
    Done,
    /// What was asked for is wrong.
    Mistaken,
    /// There is no such thing.
    Unknown,
    /// Something else has its name.
    Conflict,
    /// There is no place for it.
    Full,
    /// It is made, and a restart would forget it although it should be kept.
    Unsaved,
}

/// What can be done about revocations.
#[derive(Clone)]
pub struct RevocationCalls {
    /// Those in force.
    pub list: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Puts one in force, from the body of a request.
    pub apply: Arc<dyn Fn(Vec<u8>) -> Changing + Send + Sync>,
    /// Takes the one of this id out of force.
    pub lift: Arc<dyn Fn(String) -> Changing + Send + Sync>,
}

impl fmt::Debug for RevocationCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationCalls").finish_non_exhaustive()
    }
}

/// The secret that callers have to show, as its hash: hashes compare in constant time, whatever their length was.
#[derive(Clone)]
pub(super) struct Secret(blake3::Hash);

impl Secret {
    /// Fetches the secret. Blocks, so it belongs to the start.
    ///
    /// # Errors
    /// Where it cannot be had, is too short, or could not stand in a header.
    pub(super) fn resolve(place: &SecretRef) -> Result<Self, Problem> {
        let secret = place
            .resolve()
            .map_err(|error| Problem::new(format!("`admin.token`: {error}")))?;
        let text = secret.expose_secret();
        let sayable = text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
        if text.len() < SHORTEST || !sayable {
            let message = format!(
                "`admin.token` must be at least {SHORTEST} visible ASCII characters, without spaces"
            );
            return Err(Problem::new(message).hint("make one with `openssl rand -hex 32`"));
        }
        Ok(Self(blake3::hash(text.as_bytes())))
    }

    /// Whether this value of `Authorization` shows it.
    pub(super) fn shown_by(&self, authorization: &[u8]) -> bool {
        let Some((scheme, token)) = authorization.split_at_checked(7) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ") && blake3::hash(token) == self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

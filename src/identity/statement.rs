//! What a known party signed that is no credential: an answer, an event, a list.
//!
//! Every such statement is a compact JWS and is believed under the same rules: a type of its own (RFC 8725, section 3.11), a
//! key of its issuer, and, where it is for somebody, for us. What it says beyond that is for whoever asked.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::denial::Denial;
use super::ground::Ground;
use super::jwk::PublicKey;
use super::keys::KeySource;
use super::settings::Algorithm;
use super::token::Token;
use crate::model::Arrival;

/// A party that signs statements.
#[derive(Debug)]
pub(super) struct Signer {
    /// The exact text of `iss`; `None` where statements name no issuer and the place they come from vouches for it.
    pub(super) issuer: Option<String>,
    /// Its keys.
    pub(super) keys: Arc<KeySource>,
}

/// What is expected of a statement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    /// The media type without `application/`, which may stand before it in `typ`.
    pub(super) media_type: &'a str,
    /// One of these has to be in `aud`; `None` where statements of that kind are for everybody.
    pub(super) audiences: Option<&'a [String]>,
    /// Until when its key may be waited for.
    pub(super) until: Instant,
}

/// A statement that was believed.
pub(super) struct Statement {
    /// What it says.
    pub(super) claims: Map<String, Value>,
    /// What believing it stands on.
    pub(super) ground: Arc<Ground>,
}

/// It shows nothing of what was said.
impl std::fmt::Debug for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statement").finish_non_exhaustive()
    }
}

/// A statement that was read, and not yet believed. It holds all it needs, so that it can go from thread to thread.
pub(super) struct Unproved {
    algorithm: Algorithm,
    kid: Option<String>,
    claims: Map<String, Value>,
    signed: String,
    signature: String,
}

/// Why a statement is not believed: the end of a sentence for operators, which quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbelieved {
    /// It is no JWS in its one reading.
    Unreadable(&'static str),
    /// It is of another type.
    Type,
    /// Its issuer was asked just now and has no such key.
    Key,
    /// Its key cannot be had now. Later it may be.
    KeysAway,
    /// Its signature does not match.
    Signature,
    /// It is another party's.
    Issuer,
    /// It is for somebody else.
    Audience,
}

impl Unbelieved {
    /// The end of the sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable(why) => why,
            Self::Type => "is a token of another type",
            Self::Key => "names a key that its issuer does not have",
            Self::KeysAway => "names a key that cannot be had now",
            Self::Signature => "has a signature that does not match",
            Self::Issuer => "is another issuer's",
            Self::Audience => "is for somebody else",
        }
    }
}

impl Unproved {
    /// Reads a statement of this media type. Whoever asks has bounded the length of `text`; it computes for as long as that is.
    ///
    /// # Errors
    /// [`Unbelieved`] where it has not one reading, or is of another type.
    pub(super) fn read(text: &[u8], media_type: &str) -> Result<Self, Unbelieved> {
        let text = std::str::from_utf8(text).map_err(|_| Unbelieved::Unreadable("is no text"))?;
        let token = Token::of_any_length(text.trim_ascii());
        let token = token.map_err(|wrong| Unbelieved::Unreadable(wrong.1))?;
        if !is_media_type(token.media_type.as_deref(), media_type) {
            return Err(Unbelieved::Type);
        }
        Ok(Self {
            signed: token.signed.to_owned(),
            signature: token.signature.to_owned(),
            algorithm: token.algorithm,
            kid: token.kid,
            claims: token.claims,
        })
    }

    /// What it says, if this key signed it. It computes for as long as it is.
    ///
    /// # Errors
    /// [`Unbelieved::Signature`].
    pub(super) fn prove(self, key: &PublicKey) -> Result<Statement, Unbelieved> {
        if !key.verifies(self.algorithm, &self.signed, &self.signature) {
            return Err(Unbelieved::Signature);
        }
        Ok(Statement {
            claims: self.claims,
            ground: Arc::clone(key.ground()),
        })
    }
}

impl Signer {
    /// Believes a statement, or not. Whoever asks has bounded the length of `text`; `now` is the time by both clocks.
    ///
    /// # Errors
    /// [`Unbelieved`] for everything that is not certainly this party's statement of that type, for us.
    pub(super) async fn believe(
        &self,
        text: &[u8],
        expected: Expected<'_>,
        now: (Timestamp, Instant),
    ) -> Result<Statement, Unbelieved> {
        let unproved = Unproved::read(text, expected.media_type)?;
        // What costs nothing comes before what costs a key that may have to be fetched, and a signature.
        self.recognise(&unproved, expected.audiences)?;
        let key = self.key(&unproved, expected.until, now).await?;
        unproved.prove(&key)
    }

    /// Whether a statement calls itself this party's and for one of these, which is yet to be proven.
    ///
    /// # Errors
    /// [`Unbelieved::Issuer`], [`Unbelieved::Audience`].
    pub(super) fn recognise(
        &self,
        unproved: &Unproved,
        audiences: Option<&[String]>,
    ) -> Result<(), Unbelieved> {
        let issuer = unproved.claims.get("iss").and_then(Value::as_str);
        if self.issuer.is_some() && issuer != self.issuer.as_deref() {
            return Err(Unbelieved::Issuer);
        }
        if audiences.is_some_and(|ours| !is_for(unproved.claims.get("aud"), ours)) {
            return Err(Unbelieved::Audience);
        }
        Ok(())
    }

    /// The key that a statement names, which may be waited for.
    ///
    /// # Errors
    /// [`Unbelieved::Key`] where there is none, [`Unbelieved::KeysAway`] where nobody can tell now.
    pub(super) async fn key(
        &self,
        unproved: &Unproved,
        until: Instant,
        now: (Timestamp, Instant),
    ) -> Result<Arc<PublicKey>, Unbelieved> {
        let arrival = Arrival {
            at: now.0,
            started: now.1,
            deadline: Some(until),
            trace_parent: None,
            grpc: false,
        };
        let (asked, key) = self.keys.key(unproved.kid.as_deref(), &arrival).await;
        key.map_err(|denial| match denial {
            Denial::KeysUnavailable(_) => Unbelieved::KeysAway,
            // Others may have used up the right to ask: then nobody knows whether there is such a key.
            _ if asked.is_none() => Unbelieved::KeysAway,
            _ => Unbelieved::Key,
        })
    }
}

/// Whether a `typ`, in lower case, is this media type, with or without `application/` (RFC 7515, section 4.1.9).
fn is_media_type(named: Option<&str>, expected: &str) -> bool {
    let named = named.map(|named| named.strip_prefix("application/").unwrap_or(named));
    named == Some(expected)
}

/// Whether `aud` names one of us: a text, or an array that holds one.
fn is_for(audience: Option<&Value>, ours: &[String]) -> bool {
    let ours = |name: &str| ours.iter().any(|own| own == name);
    match audience {
        Some(Value::String(name)) => ours(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(ours),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_media_type_may_be_written_whole() {
        for good in ["secevent+jwt", "application/secevent+jwt"] {
            assert!(is_media_type(Some(good), "secevent+jwt"), "{good}");
        }
        for bad in ["jwt", "application/jwt", "text/secevent+jwt", ""] {
            assert!(!is_media_type(Some(bad), "secevent+jwt"), "{bad}");
        }
        assert!(!is_media_type(None, "secevent+jwt"));
    }

    #[test]
    fn only_the_exact_audience_is_ours() {
        let ours = ["a".to_owned(), "b".to_owned()];
        for good in [json!("a"), json!(["x", "b"])] {
            assert!(is_for(Some(&good), &ours), "{good}");
        }
        for bad in [
            json!("A"),
            json!(["a "]),
            json!([]),
            json!(5),
            json!({"a": 1}),
        ] {
            assert!(!is_for(Some(&bad), &ours), "{bad}");
        }
        assert!(!is_for(None, &ours));
    }
}

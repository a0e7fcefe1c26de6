//! Reading a compact JWS (RFC 7515) in its one spelling, before anything in it is believed.
//!
//! Nothing here knows keys. It refuses every token that two readers could read in two ways, and every header that would
//! let the token choose how it is checked (RFC 8725).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::settings::Algorithm;
use crate::model::{CredentialFault as Fault, json};

/// The longest token that is read, in bytes.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// The longest key id, in bytes.
pub(super) const MAX_KID: usize = 256;

/// Header members that are never accepted: extensions we would have to understand (`crit`, `b64`), keys the token
/// brings or points to, compression, and everything of encryption.
const REFUSED_MEMBERS: [&str; 10] = [
    "crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "p2c", "epk",
];

/// A token that was read and not yet believed.
pub(super) struct Token<'t> {
    /// `alg`.
    pub(super) algorithm: Algorithm,
    /// `kid`.
    pub(super) kid: Option<String>,
    /// `typ`, in lower case.
    pub(super) media_type: Option<String>,
    /// The payload.
    pub(super) claims: Map<String, Value>,
    /// What the signature covers.
    pub(super) signed: &'t str,
    /// The signature, in strict base64url.
    pub(super) signature: &'t str,
}

impl<'t> Token<'t> {
    /// Reads a token.
    ///
    /// # Errors
    /// The fault, and a sentence for operators.
    pub(super) fn read(text: &'t str) -> Result<Self, Wrong> {
        if text.len() > MAX_TOKEN {
            return Err(Wrong(Fault::TooLong, "the token is longer than 8 KiB"));
        }
        Self::of_any_length(text)
    }

    /// Reads a text whose length somebody else has bounded.
    ///
    /// # Errors
    /// The fault, and a sentence for operators.
    pub(super) fn of_any_length(text: &'t str) -> Result<Self, Wrong> {
        let (header, payload) = split(text)?;
        Self::under(text, &object(header)?, payload)
    }

    /// Reads a text that brings the key it is signed with (RFC 9449, section 4.2), and that key. Nothing of it is believed
    /// until somebody else vouches for the key.
    ///
    /// # Errors
    /// The fault, and a sentence for operators.
    pub(super) fn bringing_key(text: &'t str) -> Result<(Self, Value), Wrong> {
        if text.len() > MAX_TOKEN {
            return Err(Wrong(Fault::TooLong, "it is longer than 8 KiB"));
        }
        let (header, payload) = split(text)?;
        let mut header = object(header)?;
        let key = header.remove("jwk");
        let key = key.ok_or(Wrong(Fault::Header, "the header holds no key"))?;
        let token = Self::under(text, &header, payload)?;
        Ok((token, key))
    }

    fn under(text: &'t str, header: &Map<String, Value>, payload: &str) -> Result<Self, Wrong> {
        let (signed, signature) = text.rsplit_once('.').unwrap_or_default();
        let header = Header::read(header)?;
        let claims = object(payload)?;
        if base64url(signature).is_none() {
            return Err(Wrong(
                Fault::NotAToken,
                "the signature is not strict base64url",
            ));
        }
        Ok(Self {
            algorithm: header.algorithm,
            kid: header.kid,
            media_type: header.media_type,
            claims,
            signed,
            signature,
        })
    }
}

/// What is wrong with a token, and a sentence for operators that quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) Fault, pub(super) &'static str);

/// Strict base64url (RFC 7515, section 2): no padding, no blanks, no bits left over, so each value has one spelling.
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn split(text: &str) -> Result<(&str, &str), Wrong> {
    parts(text).ok_or(Wrong(
        Fault::NotAToken,
        "the token has not three parts, each filled",
    ))
}

/// Header and payload of a text with exactly three parts, none empty.
fn parts(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.splitn(4, '.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let filled = !header.is_empty() && !payload.is_empty() && !signature.is_empty();
    (filled && parts.next().is_none()).then_some((header, payload))
}

fn object(part: &str) -> Result<Map<String, Value>, Wrong> {
    let wrong = |what| Wrong(Fault::NotAToken, what);
    let bytes = base64url(part).ok_or(wrong("a part of the token is not strict base64url"))?;
    json::parse_object(&bytes)
        .map_err(|_| wrong("a part of the token is not one JSON object with one reading"))
}

struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
    media_type: Option<String>,
}

impl Header {
    fn read(members: &Map<String, Value>) -> Result<Self, Wrong> {
        if REFUSED_MEMBERS
            .iter()
            .any(|name| members.contains_key(*name))
        {
            return Err(Wrong(
                Fault::Header,
                "the header holds a member that is never accepted",
            ));
        }
        let algorithm = match members.get("alg") {
            Some(Value::String(name)) => Algorithm::parse(name),
            _ => None,
        };
        let algorithm = algorithm.ok_or(Wrong(
            Fault::Algorithm,
            "the algorithm is none, symmetric or unknown",
        ))?;
        let kid = match members.get("kid") {
            None => None,
            Some(Value::String(kid)) if (1..=MAX_KID).contains(&kid.len()) => Some(kid.clone()),
            Some(_) => {
                return Err(Wrong(
                    Fault::Header,
                    "the key id is no text of 1 to 256 bytes",
                ));
            }
        };
        let media_type = match members.get("typ") {
            None => None,
            Some(Value::String(name)) => Some(name.to_ascii_lowercase()),
            Some(_) => return Err(Wrong(Fault::Type, "the type is no text")),
        };
        Ok(Self {
            algorithm,
            kid,
            media_type,
        })
    }
}

#[cfg(test)]
mod tests;

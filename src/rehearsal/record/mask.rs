//! Texts that look like credentials, where a credential has no business to be: in a path, in a claim.
//!
//! A guess by name and by form, on the side of masking too much. Headers, bodies and queries need no guess: they are not
//! kept at all.

use std::borrow::Cow;

use crate::model::{CanonicalPath, Trail};

/// What stands in place of a credential. It is a plain path segment, so that a masked path is a path.
pub const MASKED: &str = "masked";

/// Parts of names, in lower case and without separators, whose values are credentials.
const PARTS: [&str; 11] = [
    "token",
    "secret",
    "passw",
    "apikey",
    "credential",
    "signature",
    "session",
    "cookie",
    "authoriz",
    "jwt",
    "privatekey",
];
/// Whole names of the same kind that are too short to be looked for within others.
const WHOLE: [&str; 4] = ["code", "otp", "pin", "sig"];

/// Whether the value of something by this name is likely a credential.
#[must_use]
pub(super) fn is_secret_name(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    WHOLE.contains(&plain.as_str()) || PARTS.iter().any(|part| plain.contains(part))
}

/// Characters of the parts of our own API keys, `<prefix>_<id>_<secret and check>`.
const KEY_ID: usize = 12;
const KEY_SECRET: usize = 49;

/// Whether a text has the form of a credential: a signed or encrypted token, or an API key of ours.
#[must_use]
pub(super) fn is_token(text: &str) -> bool {
    is_jose(text) || is_api_key(text)
}

/// A key's form, whatever it begins with. Its check is not looked at: a key with a typo is still nearly the key.
fn is_api_key(text: &str) -> bool {
    let mut parts = text.rsplitn(3, '_');
    let mut next = |length: usize| {
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric());
        parts
            .next()
            .is_some_and(|part| part.len() == length && plain(part))
    };
    next(KEY_SECRET) && next(KEY_ID) && parts.next().is_some_and(|prefix| !prefix.is_empty())
}

/// The form of a signed or encrypted token (RFC 7515, RFC 7516): base64url of `{"`, and dots.
fn is_jose(text: &str) -> bool {
    let parts = text.split('.').count();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.starts_with("eyJ") && (3..=5).contains(&parts) && text.bytes().all(plain)
}

/// The texts of one request that look like credentials.
#[derive(Debug, Default)]
pub struct Mask {
    secrets: Vec<String>,
}

impl Mask {
    /// The credentials in a request's path, its parameters and its caller's claims.
    #[must_use]
    pub fn of(trail: &Trail) -> Self {
        let mut secrets = Vec::new();
        if let Some(request) = &trail.request {
            let segments = request.path.segments().iter();
            secrets.extend(segments.filter(|text| is_token(text)).cloned());
        }
        if let Some(matched) = &trail.matched {
            let named = matched.parameters.iter();
            let named = named.filter(|(name, _)| is_secret_name(name));
            secrets.extend(named.map(|(_, value)| value.clone()));
        }
        if let Some(attributes) = trail.caller.as_ref().and_then(|c| c.attributes()) {
            let subject = attributes.subject_of_token();
            for (name, values) in attributes.claims.iter().chain(&subject.claims) {
                let secret = |value: &&String| is_secret_name(name) || is_token(value);
                secrets.extend(values.iter().filter(secret).cloned());
            }
        }
        secrets.retain(|secret| !secret.is_empty());
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// A path without them.
    #[must_use]
    pub fn path(&self, path: &CanonicalPath) -> String {
        if self.secrets.is_empty() {
            return path.as_str().to_owned();
        }
        // INVARIANT: a canonical path spells each segment between two slashes, and a slash within one as `%2F`.
        let spelled = path.as_str().split('/').skip(1);
        let mut masked = String::new();
        for (spelled, segment) in spelled.zip(path.segments()) {
            masked.push('/');
            let secret = self.secrets.contains(segment);
            masked.push_str(if secret { MASKED } else { spelled });
        }
        masked
    }

    /// A text about the request without them, as far as they are spelled as they came.
    #[must_use]
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for secret in &self.secrets {
            if masked.contains(secret.as_str()) {
                masked = Cow::Owned(masked.replace(secret.as_str(), MASKED));
            }
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::identity::FreshKey;
    use crate::model::PathRules;

    #[test]
    fn names_of_credentials_are_known_in_any_spelling() {
        for name in [
            "token",
            "resetToken",
            "API-Key",
            "client_secret",
            "Passwort",
            "session-id",
            "code",
            "X-Signature",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["orderId", "countryCode", "pinned", "department", ""] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_form() {
        assert!(is_token("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.AAAA-_"));
        assert!(is_token("eyJhbGciOiJkaXIifQ..a.b.c"));
        for text in ["eyJ", "eyJ.a", "1001", "eyJ.a.b c", "", "v1.2.3"] {
            assert!(!is_token(text), "{text}");
        }
    }

    #[test]
    fn an_api_key_is_known_by_its_form_whatever_it_begins_with() {
        for prefix in ["cardea", "acme_live", "k1"] {
            let key = FreshKey::generate(prefix).unwrap();
            let text = key.text.expose_secret();
            assert!(is_token(text), "{prefix}");
            assert!(is_token(&text.replace(&key.id, "0000000000zz")), "a typo");
            assert!(!is_token(&key.id) && !is_token(&format!("{prefix}_{}", key.id)));
            let (_, bare) = text.split_at(prefix.len());
            assert!(!is_token(bare), "without a prefix");
            assert!(!is_token(&format!("{text}0")), "too long");
        }
        for text in ["order_2024_items", "a_b_c", "__", "_"] {
            assert!(!is_token(text), "{text}");
        }
    }

    #[test]
    fn a_masked_path_is_a_path_of_as_many_segments() {
        let path = CanonicalPath::parse("/reset/a%20b/x/", PathRules::default()).unwrap();
        let mask = Mask {
            secrets: vec!["a b".to_owned()],
        };
        assert_eq!(mask.path(&path), "/reset/masked/x/");
        assert_eq!(mask.text("it was `a b`"), "it was `masked`");
        assert_eq!(Mask::default().path(&path), path.as_str());
    }
}

//! SPIFFE IDs: names of workloads (the SPIFFE-ID standard, section 2).

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

/// The longest ID (section 2.3).
const MAX_ID: usize = 2048;
/// The longest name of a trust domain (section 2.1).
const MAX_TRUST_DOMAIN: usize = 255;
const SCHEME: &str = "spiffe://";

/// A workload's SPIFFE ID, such as `spiffe://example.com/ns/shop/sa/web`: in the one spelling that the standard allows, so
/// that equal texts are equal workloads. It has a path: an ID without one names the trust domain itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct SpiffeId {
    text: Arc<str>,
}

impl SpiffeId {
    /// Reads an ID to the letter: no upper case in the trust domain, no port, no user, no percent-encoding, no empty or
    /// dotted segment, no query, no fragment.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (trust_domain, path) = parts(text)?;
        let good = text.len() <= MAX_ID
            && is_trust_domain(trust_domain)
            && path.split('/').all(is_segment);
        good.then(|| Self { text: text.into() })
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain: `example.com`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        parts(&self.text).map_or("", |(trust_domain, _)| trust_domain)
    }

    /// Namespace and service account, where the path is as Kubernetes meshes write it: `/ns/<namespace>/sa/<account>`.
    #[must_use]
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (_, path) = parts(&self.text)?;
        let mut segments = path.split('/');
        let mut next = || segments.next();
        match (next()?, next()?, next()?, next()?, next()) {
            ("ns", namespace, "sa", account, None) => Some((namespace, account)),
            _ => None,
        }
    }
}

/// Whether this can be the name of a trust domain (section 2.1).
#[must_use]
pub fn is_trust_domain(name: &str) -> bool {
    let plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    (1..=MAX_TRUST_DOMAIN).contains(&name.len()) && name.bytes().all(plain)
}

/// Trust domain, and the path behind its first slash.
fn parts(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(SCHEME)?.split_once('/')
}

fn is_segment(segment: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("is no SPIFFE ID like `spiffe://example.com/ns/shop/sa/web`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_apart() {
        let id = SpiffeId::parse("spiffe://example.com/ns/shop/sa/web").unwrap();
        assert_eq!(id.trust_domain(), "example.com");
        assert_eq!(id.service_account(), Some(("shop", "web")));
        for other in [
            "spiffe://example.com/web",
            "spiffe://a_b-1.c/ns/x/sa/y/z",
            "spiffe://a/ns/x/as/y",
        ] {
            assert_eq!(SpiffeId::parse(other).unwrap().service_account(), None);
        }
    }

    #[test]
    fn x4_whatever_the_standard_does_not_allow_is_no_id() {
        let long = format!("spiffe://example.com/{}", "x".repeat(MAX_ID));
        let domain = format!("spiffe://{}/x", "x".repeat(MAX_TRUST_DOMAIN + 1));
        for bad in [
            "",
            "spiffe://",
            "spiffe://example.com",
            "spiffe://example.com/",
            "spiffe:///web",
            "Spiffe://example.com/web",
            "https://example.com/web",
            "spiffe://Example.com/web",
            "spiffe://example.com:443/web",
            "spiffe://me@example.com/web",
            "spiffe://example.com/web/",
            "spiffe://example.com//web",
            "spiffe://example.com/a/../web",
            "spiffe://example.com/./web",
            "spiffe://example.com/w%65b",
            "spiffe://example.com/web?x",
            "spiffe://example.com/web#x",
            "spiffe://example.com/victim\0evil",
            "spiffe://example.com\0/web",
            "spiffe://example.com/web\n",
            "spiffe://example.com/*",
            "spiffe://*.example.com/web",
            "spiffe://example.com/w\u{e9}b",
            " spiffe://example.com/web",
            &long,
            &domain,
        ] {
            assert_eq!(SpiffeId::parse(bad), None, "{bad:?}");
        }
    }
}

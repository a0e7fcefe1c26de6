//! Settings of API keys.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Found, seconds};
use crate::model::{Period, SecretRef};

/// API keys: long random texts that a caller sends in a header of its own. `cardea keys` makes, lists, revokes and
/// replaces them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeySettings {
    /// The header that holds the key.
    pub header: String,
    /// The keys' file (JSON, or YAML where its name ends in `.yaml` or `.yml`). It holds keyed hashes, never keys, and is
    /// read again when it changes.
    pub file: PathBuf,
    /// Where the key of those hashes is: 64 hexadecimal digits, which `cardea keys init` makes. Without it, the file
    /// `keys.hash-key`.
    pub hash_key: SecretRef,
    /// What every key begins with, so that secret scanners know it: letters, digits and `_`.
    pub prefix: String,
    /// Names of query parameters that a key may be mistaken to belong in, in any case. A request with one is refused: what
    /// stands in a URL ends up in logs.
    pub query_parameters: Vec<String>,
    /// Who vouches for owners that the file names no issuer for (`principal.issuer`).
    pub issuer: String,
    /// How often the file is looked at. A change counts once it has held still for one more look. From `50ms` to `60s`.
    pub poll: Period,
}

impl Default for ApiKeySettings {
    fn default() -> Self {
        let names = ["api_key", "apikey", "api-key", "x-api-key"];
        Self {
            header: "x-api-key".to_owned(),
            file: "keys.json".into(),
            hash_key: SecretRef::File("keys.hash-key".into()),
            prefix: "cardea".to_owned(),
            query_parameters: names.map(str::to_owned).into(),
            issuer: "api-keys".to_owned(),
            poll: Period::millis(300),
        }
    }
}

/// Headers that mean something else to whoever is on the way.
const TAKEN: [&str; 8] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "proxy-authorization",
    "transfer-encoding",
];

impl ApiKeySettings {
    pub(super) fn check(&self, found: &mut Found) {
        found.place = "identity.api_keys".into();
        let header = self.header.to_ascii_lowercase();
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=64).contains(&header.len()) || !header.bytes().all(token) {
            found.say(
                "header",
                "must be a header name of 1 to 64 letters, digits, `-` and `_`",
            );
        } else if TAKEN.contains(&header.as_str())
            || header.starts_with("x-cardea-")
            || header.starts_with("x-envoy-")
        {
            found.say("header", "names a header that means something else");
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !(2..=32).contains(&self.prefix.len()) || !self.prefix.bytes().all(word) {
            found.say("prefix", "must be 2 to 32 letters, digits and `_`");
        }
        for name in &self.query_parameters {
            found.text("query_parameters", name);
        }
        check_issuer(found, &self.issuer);
        found.between("poll", self.poll, LEAST_POLL, seconds(60));
    }
}

/// How often a file may be looked at.
pub(super) const LEAST_POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// An issuer that files name: principals are `<issuer>|<subject>`.
pub(super) fn check_issuer(found: &mut Found, issuer: &str) {
    found.text("issuer", issuer);
    if issuer.contains('|') {
        found.say(
            "issuer",
            "must not hold `|`: principals are named `<issuer>|<subject>`",
        );
    }
}

//! Settings of user names and passwords.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::api_key::{LEAST_POLL, check_issuer};
use super::{Found, seconds};
use crate::model::Period;

/// User names and passwords (Basic, RFC 7617): a bridge for clients that can do nothing better. Checking one costs tens of
/// milliseconds and as many MiB as its hash says, so how many are checked is bounded in every way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BasicSettings {
    /// The users' file (YAML or JSON), with Argon2id hashes. It is read again when it changes.
    pub file: PathBuf,
    /// Who vouches for these users (`principal.issuer`).
    pub issuer: String,
    /// Whether passwords are also accepted from requests that reached Envoy over plain http.
    pub allow_http: bool,
    /// How many passwords are checked for one user name in `window`, right or wrong. From 1 to 1000.
    pub max_attempts: u64,
    /// How many passwords are checked in `window` for all user names together. At least as many as users are active
    /// within `identity.cache.ttl`: each of them is checked once in that time. From 1 to 1000000.
    pub max_attempts_total: u64,
    /// The time that both counts are for. From `1s` to `1h`.
    pub window: Period,
    /// How many passwords are checked at the same time. From 1 to 64.
    pub concurrency: u64,
    /// How many more may wait for their turn; beyond them, requests are refused with 429. At most 1024.
    pub queue: u64,
    /// How long one request waits for its password to be checked, and never beyond its own deadline. From `100ms` to `10s`.
    pub wait: Period,
    /// How often the file is looked at. A change counts once it has held still for one more look. From `50ms` to `60s`.
    pub poll: Period,
}

impl Default for BasicSettings {
    fn default() -> Self {
        Self {
            file: "users.yaml".into(),
            issuer: "basic-users".to_owned(),
            allow_http: false,
            max_attempts: 10,
            max_attempts_total: 600,
            window: Period::seconds(60),
            concurrency: 1,
            queue: 32,
            wait: Period::seconds(2),
            poll: Period::millis(300),
        }
    }
}

impl BasicSettings {
    pub(super) fn check(&self, found: &mut Found) {
        found.place = "identity.basic".into();
        check_issuer(found, &self.issuer);
        found.within("max_attempts", self.max_attempts, 1..=1000);
        found.within("max_attempts_total", self.max_attempts_total, 1..=1_000_000);
        found.between("window", self.window, seconds(1), seconds(60 * 60));
        found.within("concurrency", self.concurrency, 1..=64);
        found.within("queue", self.queue, 0..=1024);
        let least = std::time::Duration::from_millis(100);
        found.between("wait", self.wait, least, seconds(10));
        found.between("poll", self.poll, LEAST_POLL, seconds(60));
    }
}

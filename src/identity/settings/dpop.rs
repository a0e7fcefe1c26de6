//! Settings of proofs of possession (`DPoP`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::dpop::Origin;
use super::{Algorithm, Found, ZERO, seconds};
use crate::model::{Host, Period, SecretRef};

/// Proofs of possession (`DPoP`, RFC 9449): who sends a token that is bound to a key shows with each request that the key
/// is theirs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DpopSettings {
    /// The algorithms that proofs may be signed with. Only asymmetric ones exist here.
    pub algorithms: Vec<Algorithm>,
    /// How old a proof may be, by its `iat`. In whole seconds, from `1s` to `5m`.
    pub max_age: Period,
    /// How far a proof's `iat` may lie ahead. In whole seconds, at most `60s`.
    pub clock_skew: Period,
    /// Whether proofs must hold a nonce that Cardea gave out: then none can be made ahead of time.
    pub nonce: NonceSetting,
    /// How long a nonce is given out; it is accepted for once as long again. In whole seconds, from `10s` to `1h`.
    pub nonce_lifetime: Period,
    /// Where a secret of at least 32 bytes is that nonces are made with. Give all replicas the same, so that each accepts
    /// the others' nonces. Without it, every process makes its own.
    pub nonce_secret: Option<SecretRef>,
    /// How many used proofs are remembered in each `max_age` and `clock_skew` together. Two such periods are kept, and their
    /// memory is taken at start: 40 to 80 bytes for each of this number. Where there is no room, requests with a proof are
    /// answered with 429: none is forgotten early.
    pub replay_capacity: u64,
    /// Says that clients speak https to something before Envoy, which then sees plain http.
    pub tls_ends_before_envoy: bool,
    /// Hosts (as Envoy sees them) that clients know under another origin, such as
    /// `orders.internal: https://api.example.com`.
    pub origins: BTreeMap<String, String>,
}

impl Default for DpopSettings {
    fn default() -> Self {
        Self {
            algorithms: vec![Algorithm::ES256, Algorithm::EdDSA],
            max_age: Period::seconds(60),
            clock_skew: Period::seconds(5),
            nonce: NonceSetting::Off,
            nonce_lifetime: Period::seconds(5 * 60),
            nonce_secret: None,
            replay_capacity: 100_000,
            tls_ends_before_envoy: false,
            origins: BTreeMap::new(),
        }
    }
}

/// Whether proofs must hold a nonce (RFC 9449, section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NonceSetting {
    /// They need none.
    Off,
    /// They must.
    Required,
}

impl DpopSettings {
    pub(super) fn check(&self, found: &mut Found) {
        found.place = "identity.dpop".into();
        if self.algorithms.is_empty() {
            found.say("algorithms", "must name at least one");
        }
        for (field, value, low, high) in [
            ("max_age", self.max_age, seconds(1), seconds(5 * 60)),
            ("clock_skew", self.clock_skew, ZERO, seconds(60)),
            (
                "nonce_lifetime",
                self.nonce_lifetime,
                seconds(10),
                seconds(60 * 60),
            ),
        ] {
            found.between(field, value, low, high);
            if value.0.subsec_nanos() != 0 {
                found.say(field, "must be whole seconds");
            }
        }
        if self.nonce_secret.is_some() && self.nonce == NonceSetting::Off {
            found.say("nonce_secret", "serves no end without `nonce: required`");
        }
        found.within("replay_capacity", self.replay_capacity, 1..=5_000_000);
        for (host, origin) in &self.origins {
            let known = Host::parse(host).is_ok_and(|parsed| parsed.as_str() == host);
            if !known {
                found.say("origins", "must name hosts in lower case, without a port");
            }
            if Origin::parse(origin).is_none() {
                found.say(
                    "origins",
                    format!("`{host}` must be an origin such as `https://api.example.com`"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let settings: DpopSettings = serde_saphyr::from_str(text).unwrap();
        let mut found = Found::default();
        settings.check(&mut found);
        found.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_defaults_and_what_the_page_shows_are_in_order() {
        assert_eq!(told("{}"), [""; 0]);
        let shown = "{nonce: required, origins: {orders.internal: 'https://api.example.com'}}";
        assert_eq!(told(shown), [""; 0]);
        assert_eq!(told("{nonce: off}"), [""; 0]);
    }

    #[test]
    fn mistakes_are_told_all_at_once() {
        let told = told(
            "{algorithms: [], max_age: 0s, clock_skew: 1500ms, nonce_lifetime: 2h, replay_capacity: 0, \
             nonce_secret: {env: X}, origins: {'API:1': 'api.example.com/x'}}",
        );
        assert_eq!(told.len(), 8, "{told:?}");
        assert!(told.iter().all(|line| line.contains("identity.dpop.")));
    }

    #[test]
    fn a_symmetric_algorithm_cannot_be_written() {
        for name in ["HS256", "none"] {
            let text = format!("{{algorithms: [{name}]}}");
            assert!(serde_saphyr::from_str::<DpopSettings>(&text).is_err());
        }
    }
}

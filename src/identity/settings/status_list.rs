//! Status lists: whether what an issuer says of its tokens after it gave them out is asked for.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::fetch::key_url;
use super::{Found, IssuerSettings, KeyPlace, plain, seconds};
use crate::model::Period;

/// What becomes of the claim `status` of an issuer's tokens (draft-ietf-oauth-status-list). Without this section it is not
/// looked at, which is told once for each issuer whose tokens have it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StatusListSettings {
    /// Whether the claim is looked at, and whether it has to be there.
    pub mode: StatusMode,
    /// Where lists may be fetched from: URLs, `https` or `http` on a loopback address, without query. The `uri` of a token
    /// has to have the same scheme, host and port as one of them, and its path has to begin with the path of that one, by
    /// whole segments. Must be set: a token cannot have anything else fetched.
    pub url_prefixes: Vec<String>,
    /// Who signs the lists, where that is not the issuer: the exact text of `iss` in a list that has it. Only together with
    /// `keys`.
    pub issuer: Option<String>,
    /// Where the keys of whoever signs the lists come from, where they are not the issuer's: as `identity.issuers[].keys`.
    pub keys: Option<KeyPlace>,
    /// The certificates (PEM) of the authorities that may vouch for the server of the lists, and of those keys, in place of
    /// the system's. The file is read for each fetch.
    pub ca_file: Option<PathBuf>,
    /// A list is fetched again once its own `ttl` is over, but no sooner than this after the last time. At least `1s`.
    pub min_refresh: Period,
    /// And no later than this, which is also the time where a list has no `ttl`. This long, and the fetch itself, is how late
    /// a changed status can bite. At most `1d`.
    pub max_refresh: Period,
    /// How long a list serves while it cannot be fetched again, and never beyond its own `exp`. Afterwards the tokens on it
    /// are answered with 503. A list that no token was asked about for as long is forgotten.
    pub max_stale: Period,
    /// How old a list may be by its own `iat`, however often it is fetched: whoever serves it could otherwise serve one that
    /// has no `exp` for ever. Longer than its signer takes to sign a new one. Older ones are not used, and the tokens on them
    /// are answered with 503. At most `30d`.
    pub max_age: Period,
    /// How many lists are held. Where all are in use, tokens of a further one are answered with 503. At most 1000.
    pub max_lists: u64,
    /// How long one list may be, in bytes, once it is unpacked: 4 MiB are 33 million tokens at one bit. At most 64 MiB. All
    /// lists that are held need at most `max_lists` times this.
    pub max_list_bytes: u64,
}

impl Default for StatusListSettings {
    fn default() -> Self {
        Self {
            mode: StatusMode::Honour,
            url_prefixes: Vec::new(),
            issuer: None,
            keys: None,
            ca_file: None,
            min_refresh: Period::seconds(30),
            max_refresh: Period::seconds(5 * 60),
            max_stale: Period::seconds(60 * 60),
            max_age: Period::seconds(24 * 60 * 60),
            max_lists: 64,
            max_list_bytes: 4 * MIB,
        }
    }
}

/// Whether the claim `status` is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusMode {
    /// It is not, and nothing is told of it.
    Off,
    /// A token that has it counts only where its list calls it valid. A token without it counts as before.
    Honour,
    /// The same, and a token without it is refused.
    Required,
}

const MIB: u64 = 1024 * 1024;

impl StatusListSettings {
    /// Who signs the lists, as an issuer of its own; `None` where the issuer does.
    pub(in crate::identity) fn signer(&self, tokens: &IssuerSettings) -> Option<IssuerSettings> {
        let keys = self.keys.clone()?;
        Some(IssuerSettings {
            issuer: self.name(tokens).to_owned(),
            keys,
            ca_file: self.ca_file.clone(),
            key_token: None,
            // Tokens that name a list wait for its keys; others need none of them.
            required: false,
            status_lists: None,
            ..tokens.clone()
        })
    }

    /// Where lists are fetched from, as the server of an issuer's keys. Whatever the issuer's server is shown to prove who
    /// asks, this one is not.
    pub(in crate::identity) fn server(&self, tokens: &IssuerSettings) -> IssuerSettings {
        IssuerSettings {
            ca_file: self.ca_file.clone(),
            key_token: None,
            ..tokens.clone()
        }
    }

    /// What a list that has `iss` has to say there.
    pub(in crate::identity) fn name<'a>(&'a self, tokens: &'a IssuerSettings) -> &'a str {
        self.issuer.as_deref().unwrap_or(&tokens.issuer)
    }

    /// `found.place` is that of this section.
    pub(super) fn check(&self, found: &mut Found, tokens: &IssuerSettings) {
        if self.mode == StatusMode::Off {
            return;
        }
        if self.url_prefixes.is_empty() {
            found.say(
                "url_prefixes",
                "must name at least one: a token cannot have anything else fetched",
            );
        }
        for prefix in &self.url_prefixes {
            match key_url(prefix) {
                Err(error) => found.say("url_prefixes", error.to_string()),
                Ok(url) if url.query().is_some() => {
                    found.say("url_prefixes", "must not hold a query");
                }
                Ok(_) => {}
            }
        }
        match (&self.issuer, &self.keys) {
            (Some(issuer), Some(_)) if !plain(issuer) => {
                found.say(
                    "issuer",
                    "must be 1 to 512 bytes without control characters",
                );
            }
            (Some(_), None) => found.say("issuer", "is set without `keys`"),
            _ => {}
        }
        let unnamed = |path: &PathBuf| path.as_os_str().is_empty();
        if self.ca_file.as_ref().is_some_and(unnamed) {
            found.say("ca_file", "must name a file");
        }
        if let Some(signer) = self.signer(tokens) {
            signer.check_keys(found);
        }
        self.check_limits(found);
    }

    fn check_limits(&self, found: &mut Found) {
        let day = 24 * 60 * 60;
        let (min, max) = (self.min_refresh, self.max_refresh);
        found.between("min_refresh", min, seconds(1), seconds(day));
        found.between("max_refresh", max, min.0.max(seconds(1)), seconds(day));
        found.between("max_stale", self.max_stale, max.0, seconds(7 * day));
        found.between("max_age", self.max_age, max.0, seconds(30 * day));
        found.within("max_lists", self.max_lists, 1..=1000);
        found.within("max_list_bytes", self.max_list_bytes, 1024..=64 * MIB);
    }
}

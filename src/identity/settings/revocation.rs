//! How revocations are kept.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Found, IssuerSettings, ZERO, seconds};
use crate::model::Period;

/// How revocations are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RevocationSettings {
    /// The file that revocations survive a restart in. Its folder has to exist and be writable, and each process needs a
    /// file of its own. Without it, a restart forgets them.
    pub file: Option<PathBuf>,
    /// How long a revocation is kept that does not say so itself. By default until every token that the settings accept
    /// has expired: the issuer's `max_token_lifetime`, and the clocks' difference. Where credentials have no known end
    /// (keys always; anything, with introspection), the default is for good. It never applies to keys.
    pub keep: Option<Period>,
    /// How many revocations may be in force at once. More are refused with an error: nothing is forgotten to make room.
    /// Transmitters of security events may take 80 % of them, so that an operator can still revoke.
    pub entries: u64,
}

impl Default for RevocationSettings {
    fn default() -> Self {
        Self {
            file: None,
            keep: None,
            entries: 100_000,
        }
    }
}

impl RevocationSettings {
    pub(super) fn check(&self, found: &mut Found, issuers: &[IssuerSettings]) {
        found.place = "identity.revocation".into();
        found.count("entries", self.entries);
        if let Some(keep) = self.keep {
            let longest = issuers.iter().map(life).max().unwrap_or(ZERO);
            found.between("keep", keep, longest, seconds(10 * 365 * 24 * 60 * 60));
        }
        if self
            .file
            .as_ref()
            .is_some_and(|file| file.file_name().is_none())
        {
            found.say("file", "must name a file");
        }
    }
}

/// How long after an event a token of this issuer may still be valid that was issued before it: issued up to one skew ahead
/// of our clock, and believed for another after its end.
pub(in crate::identity) fn life(issuer: &IssuerSettings) -> Duration {
    let skew = issuer.clock_skew.0;
    let life = issuer.max_token_lifetime.0.saturating_add(skew);
    life.saturating_add(skew)
}

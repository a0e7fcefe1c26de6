//! The section `decisions`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::{Period, Problem};

/// How decisions are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionSettings {
    /// What is remembered of them.
    pub cache: CacheSettings,
}

/// Judgements that are remembered. One is found again only where everything it was made from is the same: the bundle, the
/// caller's proven credential, the operation, the object, and every fact that some policy for them can read. Where
/// policies for a caller read the clock, nothing is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// How many judgements are remembered, each some hundred bytes to 2 KiB. 0 remembers none. At most 10 million.
    pub entries: u64,
    /// How long a judgement is remembered, from 1s to 1h. It cannot become wrong meanwhile; this bounds what is kept of
    /// callers and bundles that are gone.
    pub time_to_live: Period,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            entries: 20_000,
            time_to_live: Period::seconds(60),
        }
    }
}

impl DecisionSettings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let lives = Period::seconds(1)..=Period::seconds(3600);
        let (entries, life) = (self.cache.entries, self.cache.time_to_live);
        [
            Problem::out_of_bounds("decisions.cache.entries", entries, 0..=10_000_000),
            Problem::out_of_bounds("decisions.cache.time_to_live", life, lives),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_every_mistake_is_told() {
        assert_eq!(DecisionSettings::default().problems(), Vec::new());
        let off = CacheSettings {
            entries: 0,
            ..CacheSettings::default()
        };
        assert_eq!(DecisionSettings { cache: off }.problems(), Vec::new());
        let cache = CacheSettings {
            entries: 10_000_001,
            time_to_live: Period::seconds(0),
        };
        let problems: Vec<_> = DecisionSettings { cache }
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            problems,
            [
                "`decisions.cache.entries` is 10000001, but must be from 0 to 10000000",
                "`decisions.cache.time_to_live` is 0s, but must be from 1s to 1h",
            ]
        );
    }
}

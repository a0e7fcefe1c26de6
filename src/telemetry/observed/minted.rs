//! Tokens for upstreams, as metrics show them.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::Observer;

/// What is known of tokens for upstreams.
#[derive(Debug, Clone, Default)]
pub struct MintSeen {
    /// How many were signed since the start.
    pub signed: u64,
    /// How many were not, by why; each is a request that was denied.
    pub failures: Vec<(&'static str, u64)>,
    /// How many are remembered.
    pub entries: u64,
    /// How long the key that signs has been there.
    pub key_age: Option<Duration>,
    /// Whether the folder of keys cannot be read as it is now.
    pub stale: bool,
}

type Number = (&'static str, &'static str, fn(&MintSeen) -> u64);

/// Registers what is told of them. Where none are signed, nothing is.
pub(super) fn register(meter: &Meter, observer: &Arc<Observer>) {
    let look = |observer: &Arc<Observer>| {
        let observer = Arc::clone(observer);
        move || observer.look().and_then(|seen| seen.minted)
    };
    let seen = look(observer);
    meter
        .u64_observable_counter("cardea.mint.tokens")
        .with_description("Tokens signed for upstreams. Most requests get one that is remembered.")
        .with_callback(move |counter| {
            if let Some(seen) = seen() {
                counter.observe(seen.signed, &[]);
            }
        })
        .build();
    let seen = look(observer);
    meter
        .u64_observable_counter("cardea.mint.failures")
        .with_description(
            "Requests denied because their token for the upstream could not be made, by reason.",
        )
        .with_callback(move |counter| {
            for (reason, count) in seen().unwrap_or_default().failures {
                counter.observe(count, &[KeyValue::new("reason", reason)]);
            }
        })
        .build();
    let seen = look(observer);
    meter
        .f64_observable_gauge("cardea.mint.key.age")
        .with_description("How long the key that signs for upstreams has been there.")
        .with_unit("s")
        .with_callback(move |gauge| {
            if let Some(age) = seen().and_then(|seen| seen.key_age) {
                gauge.observe(age.as_secs_f64(), &[]);
            }
        })
        .build();
    let numbers: [Number; 2] = [
        (
            "cardea.mint.cache.entries",
            "Tokens for upstreams that are remembered.",
            |seen| seen.entries,
        ),
        (
            "cardea.mint.keys.stale",
            "1 where the folder of keys that sign cannot be read anew, and those known before go on signing.",
            |seen| u64::from(seen.stale),
        ),
    ];
    for (name, description, number) in numbers {
        let seen = look(observer);
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |gauge| {
                if let Some(seen) = seen() {
                    gauge.observe(number(&seen), &[]);
                }
            })
            .build();
    }
}

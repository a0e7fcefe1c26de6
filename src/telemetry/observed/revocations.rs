//! Revocations, as metrics show them.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::Observer;

/// What is known of revocations.
#[derive(Debug, Clone, Default)]
pub struct RevocationsSeen {
    /// How many were applied since the start, by what they revoke and who said so.
    pub applied: Vec<(&'static str, &'static str, u64)>,
    /// How many are in force.
    pub entries: u64,
    /// How many cached proofs they took away, since the start.
    pub evicted: u64,
    /// How many were not taken because there was no place, since the start.
    pub refused: u64,
    /// Whether some are in force that a restart would forget although they should be kept.
    pub unsaved: bool,
}

/// Registers what is told of revocations.
pub(super) fn register(meter: &Meter, observer: &Arc<Observer>) {
    let applied = Arc::clone(observer);
    meter
        .u64_observable_counter("cardea.revocations")
        .with_description("Revocations applied, by what they revoke and who said so.")
        .with_callback(move |counter| {
            let seen = applied.look().unwrap_or_default().revocations;
            for (target, source, count) in seen.applied {
                let labels = [
                    KeyValue::new("target", target),
                    KeyValue::new("source", source),
                ];
                counter.observe(count, &labels);
            }
        })
        .build();
    register_gauges(meter, observer);
    register_counts(meter, observer);
}

type Number = (&'static str, &'static str, fn(&RevocationsSeen) -> u64);

fn register_gauges(meter: &Meter, observer: &Arc<Observer>) {
    let gauges: [Number; 2] = [
        (
            "cardea.revocations.entries",
            "Revocations in force.",
            |seen| seen.entries,
        ),
        (
            "cardea.revocations.unsaved",
            "1 where revocations are in force that could not be written to their file.",
            |seen| u64::from(seen.unsaved),
        ),
    ];
    for (name, description, number) in gauges {
        let observer = Arc::clone(observer);
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |gauge| {
                if let Some(seen) = observer.look() {
                    gauge.observe(number(&seen.revocations), &[]);
                }
            })
            .build();
    }
}

fn register_counts(meter: &Meter, observer: &Arc<Observer>) {
    let counts: [Number; 2] = [
        (
            "cardea.revocations.evicted",
            "Cached proofs that revocations took away.",
            |seen| seen.evicted,
        ),
        (
            "cardea.revocations.refused",
            "Revocations that are not in force because the table was full.",
            |seen| seen.refused,
        ),
    ];
    for (name, description, number) in counts {
        let observer = Arc::clone(observer);
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |counter| {
                if let Some(seen) = observer.look() {
                    counter.observe(number(&seen.revocations), &[]);
                }
            })
            .build();
    }
}

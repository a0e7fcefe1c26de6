//! What other replicas tell, as metrics show it.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::Observer;

/// What is known of the shared state.
#[derive(Debug, Clone, Default)]
pub struct SharedSeen {
    /// Whether it can be reached.
    pub connected: bool,
    /// How long ago everything was known that others had told.
    pub age: Duration,
    /// Changes that are not told to others yet.
    pub waiting: u64,
    /// Changes told to others since the start.
    pub sent: u64,
    /// Changes heard from others since the start.
    pub received: u64,
    /// Changes that did not count since the start, by why.
    pub dropped: Vec<(&'static str, u64)>,
}

/// Registers what is told of the shared state. Where there is none, nothing is.
pub(super) fn register(meter: &Meter, observer: &Arc<Observer>) {
    register_gauges(meter, observer);
    register_counts(meter, observer);
    let dropped = Arc::clone(observer);
    meter
        .u64_observable_counter("cardea.shared.state.dropped")
        .with_description("Changes between replicas that did not count, by why.")
        .with_callback(move |counter| {
            for (reason, count) in look(&dropped).unwrap_or_default().dropped {
                counter.observe(count, &[KeyValue::new("reason", reason)]);
            }
        })
        .build();
    let age = Arc::clone(observer);
    meter
        .f64_observable_gauge("cardea.shared.state.age")
        .with_description("How long ago everything was known that other replicas had told.")
        .with_unit("s")
        .with_callback(move |gauge| {
            if let Some(seen) = look(&age) {
                gauge.observe(seen.age.as_secs_f64(), &[]);
            }
        })
        .build();
}

fn look(observer: &Observer) -> Option<SharedSeen> {
    observer.look()?.shared
}

type Number = (&'static str, &'static str, fn(&SharedSeen) -> u64);

fn register_gauges(meter: &Meter, observer: &Arc<Observer>) {
    let gauges: [Number; 2] = [
        (
            "cardea.shared.state.connected",
            "1 where other replicas are heard.",
            |seen| u64::from(seen.connected),
        ),
        (
            "cardea.shared.state.waiting",
            "Changes that other replicas are not told of yet.",
            |seen| seen.waiting,
        ),
    ];
    for (name, description, number) in gauges {
        let observer = Arc::clone(observer);
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |gauge| {
                if let Some(seen) = look(&observer) {
                    gauge.observe(number(&seen), &[]);
                }
            })
            .build();
    }
}

fn register_counts(meter: &Meter, observer: &Arc<Observer>) {
    let counts: [Number; 2] = [
        (
            "cardea.shared.state.sent",
            "Changes told to other replicas.",
            |seen| seen.sent,
        ),
        (
            "cardea.shared.state.received",
            "Changes heard from other replicas.",
            |seen| seen.received,
        ),
    ];
    for (name, description, number) in counts {
        let observer = Arc::clone(observer);
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |counter| {
                if let Some(seen) = look(&observer) {
                    counter.observe(number(&seen), &[]);
                }
            })
            .build();
    }
}

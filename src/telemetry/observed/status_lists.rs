//! Status lists, as metrics show them.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::{MOST_ISSUERS, Observation, Observer};

/// The status lists of one issuer's tokens.
#[derive(Debug, Clone)]
pub struct StatusListsSeen {
    /// The issuer, as in the settings.
    pub issuer: Arc<str>,
    /// How many lists are held.
    pub held: u64,
    /// How long ago the oldest of them was fetched; `None` where none is held.
    pub oldest: Option<Duration>,
    /// How many fetches failed since the start.
    pub failures: u64,
}

/// Registers what is told of status lists.
pub(super) fn register(meter: &Meter, observer: &Arc<Observer>) {
    let held = Arc::clone(observer);
    meter
        .u64_observable_gauge("cardea.status_lists.held")
        .with_description("Status lists of an issuer's tokens that are held.")
        .with_callback(move |gauge| {
            for_each(&held, |seen, label| gauge.observe(seen.held, label));
        })
        .build();
    let ages = Arc::clone(observer);
    meter
        .f64_observable_gauge("cardea.status_lists.age")
        .with_description("Time since the oldest status list of an issuer's tokens was fetched.")
        .with_unit("s")
        .with_callback(move |gauge| {
            for_each(&ages, |seen, label| {
                if let Some(oldest) = seen.oldest {
                    gauge.observe(oldest.as_secs_f64(), label);
                }
            });
        })
        .build();
    let failures = Arc::clone(observer);
    meter
        .u64_observable_counter("cardea.status_lists.fetch.failures")
        .with_description("Fetches of status lists that failed.")
        .with_callback(move |counter| {
            for_each(&failures, |seen, label| {
                counter.observe(seen.failures, label);
            });
        })
        .build();
}

fn for_each(observer: &Observer, observe: impl Fn(&StatusListsSeen, &[KeyValue])) {
    let Observation { status_lists, .. } = observer.look().unwrap_or_default();
    for seen in status_lists.iter().take(MOST_ISSUERS) {
        observe(seen, &[KeyValue::new("issuer", Arc::clone(&seen.issuer))]);
    }
}

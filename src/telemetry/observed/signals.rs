//! Security events that are received, as metrics show them.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::Observer;

/// The most transmitters that get series of their own.
const MOST: usize = 100;

/// What is known of one transmitter.
#[derive(Debug, Clone)]
pub struct StreamSeen {
    /// Its name in the settings.
    pub transmitter: Arc<str>,
    /// How many events came since the start, by type (a closed list) and by what became of them (another).
    pub events: Vec<(&'static str, &'static str, u64)>,
    /// How long ago it was last seen that events arrive; `None` where it never was.
    pub verified: Option<Duration>,
    /// Whether events arrive; `None` where that is not asked.
    pub alive: Option<bool>,
    /// Whether it sends, by its own last word.
    pub enabled: bool,
    /// How long ago it was last asked for events with success; `None` where it never was.
    pub polled: Option<Duration>,
    /// How often it could not be asked for events; `None` where it is not asked.
    pub poll_failures: Option<u64>,
    /// How long ago its keys were fetched; `None` where they never were.
    pub keys_age: Option<Duration>,
}

/// Registers what is told of security events.
pub(super) fn register(meter: &Meter, observer: &Arc<Observer>) {
    register_events(meter, observer);
    register_ages(meter, observer);
    register_states(meter, observer);
    let failures = Arc::clone(observer);
    meter
        .u64_observable_counter("cardea.signals.poll.failures")
        .with_description("Questions for security events that failed.")
        .with_callback(move |counter| {
            for stream in streams(&failures) {
                if let Some(count) = stream.poll_failures {
                    counter.observe(count, &label(&stream));
                }
            }
        })
        .build();
}

fn streams(observer: &Observer) -> impl Iterator<Item = StreamSeen> + use<> {
    let seen = observer.look().unwrap_or_default().signals;
    seen.into_iter().take(MOST)
}

fn label(stream: &StreamSeen) -> [KeyValue; 1] {
    [KeyValue::new(
        "transmitter",
        Arc::clone(&stream.transmitter),
    )]
}

fn register_events(meter: &Meter, observer: &Arc<Observer>) {
    let observer = Arc::clone(observer);
    meter
        .u64_observable_counter("cardea.signals")
        .with_description("Security events received, by their type and by what became of them.")
        .with_callback(move |counter| {
            for stream in streams(&observer) {
                let [transmitter] = label(&stream);
                for (event, outcome, count) in stream.events {
                    let labels = [
                        transmitter.clone(),
                        KeyValue::new("event", event),
                        KeyValue::new("outcome", outcome),
                    ];
                    counter.observe(count, &labels);
                }
            }
        })
        .build();
}

fn register_ages(meter: &Meter, observer: &Arc<Observer>) {
    type Age = (
        &'static str,
        &'static str,
        fn(&StreamSeen) -> Option<Duration>,
    );
    let ages: [Age; 3] = [
        (
            "cardea.signals.stream.verified.age",
            "Time since it was last seen that a transmitter's events arrive.",
            |stream| stream.verified,
        ),
        (
            "cardea.signals.poll.age",
            "Time since a transmitter was last asked for events with success.",
            |stream| stream.polled,
        ),
        (
            "cardea.signals.keys.age",
            "Time since a transmitter's keys were fetched.",
            |stream| stream.keys_age,
        ),
    ];
    for (name, description, age) in ages {
        let observer = Arc::clone(observer);
        meter
            .f64_observable_gauge(name)
            .with_description(description)
            .with_unit("s")
            .with_callback(move |gauge| {
                for stream in streams(&observer) {
                    if let Some(age) = age(&stream) {
                        gauge.observe(age.as_secs_f64(), &label(&stream));
                    }
                }
            })
            .build();
    }
}

fn register_states(meter: &Meter, observer: &Arc<Observer>) {
    type State = (&'static str, &'static str, fn(&StreamSeen) -> Option<bool>);
    let states: [State; 2] = [
        (
            "cardea.signals.stream.alive",
            "1 where the last question whether a transmitter's events arrive was answered in time.",
            |stream| stream.alive,
        ),
        (
            "cardea.signals.stream.enabled",
            "0 where a transmitter said that it stops sending.",
            |stream| Some(stream.enabled),
        ),
    ];
    for (name, description, state) in states {
        let observer = Arc::clone(observer);
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |gauge| {
                for stream in streams(&observer) {
                    if let Some(state) = state(&stream) {
                        gauge.observe(u64::from(state), &label(&stream));
                    }
                }
            })
            .build();
    }
}

//! Questions about opaque tokens, as metrics show them.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

/// Bounds of the latency histogram, in seconds: from a server on the same machine to the longest `timeout`.
const BOUNDS: [f64; 13] = [
    1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Debug)]
pub(super) struct Introspections {
    ended: Counter<u64>,
    duration: Histogram<f64>,
}

impl Introspections {
    pub(super) fn build(meter: &Meter) -> Self {
        Self {
            ended: meter
                .u64_counter("cardea.introspections")
                .with_description("Questions about opaque tokens, by how they ended.")
                .with_unit("{question}")
                .build(),
            duration: meter
                .f64_histogram("cardea.introspection.duration")
                .with_description("From question to answer, waiting for its turn included.")
                .with_unit("s")
                .with_boundaries(BOUNDS.to_vec())
                .build(),
        }
    }

    /// Counts a question. `took` is absent where it was refused a place.
    pub(super) fn record(&self, outcome: &'static str, took: Option<Duration>) {
        let labels = [KeyValue::new("outcome", outcome)];
        self.ended.add(1, &labels);
        if let Some(took) = took {
            self.duration.record(took.as_secs_f64(), &labels);
        }
    }
}

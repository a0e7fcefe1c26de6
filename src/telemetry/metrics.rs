//! Metrics: counted once, read twice (Prometheus at `/metrics`, OTLP where a collector is set).
//!
//! Labels are bounded: verdict, reason, effect and fault are closed lists, and operations are capped. No label ever holds a
//! caller, a path or an address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{
    Instrument, MeterProviderBuilder, PeriodicReader, SdkMeterProvider, Stream,
};
use prometheus::{Registry, TextEncoder};
use schemars::JsonSchema;
use serde::Deserialize;

use super::counted::{CountedMetrics, Deliveries};
use super::introspections::Introspections;
use super::logs::Lines;
use super::observed::{self, Observer};
use super::operations::Operations;
use super::traces::Traces;
use crate::model::{Decision, Effect, Outcome, Period, Problem, Reason};

/// How often metrics leave, and how many there may be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How often metrics are sent to the collector.
    pub interval: Period,
    /// How many operations get a label of their own; the rest share `other`. Operations come from API documents, so this
    /// is a bound on memory rather than a defence that ever acts.
    pub max_operations: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Period::seconds(30),
            max_operations: 1000,
        }
    }
}

impl Settings {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let intervals = Period::millis(100)..=Period::seconds(3600);
        let most = self.max_operations;
        [
            Problem::out_of_bounds("telemetry.metrics.interval", self.interval, intervals),
            Problem::out_of_bounds("telemetry.metrics.max_operations", most, 1..=10_000),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Bounds of the latency histogram, in seconds: from 10 us, where a warm decision lies, to the longest deadline.
const BOUNDS: [f64; 17] = [
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.25, 0.5, 1.0,
    2.5,
];
/// How many values `reason` has (`permitted`, `observed` and each [`Reason`]).
const REASONS: usize = 27;
const DECISIONS: &str = "cardea.decisions";
const OBSERVED: &str = "cardea.observed";

/// Every instrument, and the registry Prometheus reads.
#[derive(Debug)]
pub(super) struct Metrics {
    provider: SdkMeterProvider,
    registry: Registry,
    operations: Operations,
    instruments: Instruments,
}

#[derive(Debug)]
struct Instruments {
    decisions: Counter<u64>,
    observed: Counter<u64>,
    duration: Histogram<f64>,
    lookups: Counter<u64>,
    recalls: Counter<u64>,
    credential_faults: Counter<u64>,
    policy_errors: Counter<u64>,
    panics: Counter<u64>,
    cancelled: Counter<u64>,
    introspections: Introspections,
}

/// What is asked whenever metrics are read: the application, and what telemetry itself lost.
#[derive(Debug)]
pub(super) struct Watched {
    lines: Lines,
    traces: Option<Arc<Deliveries>>,
    collections: Arc<AtomicU64>,
    observer: Arc<Observer>,
}

impl Watched {
    pub(super) fn new(lines: Lines, traces: Option<&Traces>, observer: Arc<Observer>) -> Self {
        Self {
            lines,
            traces: traces.map(Traces::deliveries),
            collections: Arc::default(),
            observer,
        }
    }
}

impl Metrics {
    /// Builds the instruments. Where there is an exporter, it is fed from a thread of its own.
    pub(super) fn start<E: PushMetricExporter>(
        settings: &Settings,
        resource: Resource,
        exporter: Option<E>,
        watched: Watched,
    ) -> Result<Self, Problem> {
        let registry = Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| Problem::new(format!("metrics cannot be set up: {error}")))?;
        let mut builder = with_room_for_every_reason(settings)
            .with_resource(resource)
            .with_reader(prometheus);
        if let Some(exporter) = exporter {
            let counted = CountedMetrics::new(exporter, Arc::clone(&watched.collections));
            builder = builder.with_reader(
                PeriodicReader::builder(counted)
                    .with_interval(settings.interval.0)
                    .build(),
            );
        }
        let provider = builder.build();
        let meter = provider.meter("cardea");
        let instruments = Instruments::build(&meter);
        observed::register(&meter, &watched.observer);
        register_losses(&meter, watched);
        Ok(Self {
            provider,
            registry,
            operations: Operations::new(settings.max_operations),
            instruments,
        })
    }

    /// Counts a decision.
    pub(super) fn record(&self, decision: &Decision) {
        let trail = &decision.trail;
        let all = &self.instruments;
        let verdict = decision.verdict();
        let operation = KeyValue::new("operation", self.operations.label(trail.matched.as_ref()));
        if let Some(refusal) = decision.would_be() {
            let reason = KeyValue::new("reason", refusal.reason.code());
            all.observed.add(1, &[reason, operation.clone()]);
        }
        all.decisions.add(
            1,
            &[
                KeyValue::new("verdict", verdict),
                KeyValue::new("reason", decision.reason_code()),
                operation,
            ],
        );
        let cold = !trail.cold.is_empty();
        all.duration.record(
            decision.took.as_secs_f64(),
            &[
                KeyValue::new("verdict", verdict),
                KeyValue::new("cold", cold),
            ],
        );
        if let Some(hit) = trail.cache_hit {
            let result = if hit { "hit" } else { "miss" };
            all.lookups.add(1, &[KeyValue::new("result", result)]);
        }
        if let Some(recalled) = trail.decision_cache {
            all.recalls
                .add(1, &[KeyValue::new("result", recalled.as_str())]);
        }
        if let Outcome::Refused(refusal) = &decision.outcome
            && let Reason::CredentialInvalid(fault) = &refusal.reason
        {
            all.credential_faults
                .add(1, &[KeyValue::new("fault", fault.code())]);
        }
        for fault in &trail.faults {
            all.policy_errors.add(1, &[effect(fault.effect)]);
        }
    }

    pub(super) fn panicked(&self) {
        self.instruments.panics.add(1, &[]);
    }

    pub(super) fn cancelled(&self) {
        self.instruments.cancelled.add(1, &[]);
    }

    pub(super) fn introspected(&self, outcome: &'static str, took: Option<Duration>) {
        self.instruments.introspections.record(outcome, took);
    }

    /// The Prometheus text format, version 0.0.4.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        let families = self.registry.gather();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::error!(%error, "metrics cannot be written as text");
        }
        text
    }

    pub(super) fn provider(&self) -> SdkMeterProvider {
        self.provider.clone()
    }
}

impl Instruments {
    fn build(meter: &Meter) -> Self {
        let all = Self {
            decisions: meter
                .u64_counter(DECISIONS)
                .with_description("Decisions by verdict, reason and operation.")
                .with_unit("{decision}")
                .build(),
            observed: meter
                .u64_counter(OBSERVED)
                .with_description("Requests that passed only because their operation is observed, by the reason of the refusal that would have been.")
                .with_unit("{decision}")
                .build(),
            duration: meter
                .f64_histogram("cardea.decision.duration")
                .with_description("From arrival to verdict; cold where slow work was needed.")
                .with_unit("s")
                .with_boundaries(BOUNDS.to_vec())
                .build(),
            lookups: meter
                .u64_counter("cardea.token.cache.lookups")
                .with_description("Lookups of verified tokens, by result.")
                .with_unit("{lookup}")
                .build(),
            recalls: meter
                .u64_counter("cardea.decision.cache.lookups")
                .with_description("Lookups of remembered judgements, by result.")
                .with_unit("{lookup}")
                .build(),
            credential_faults: meter
                .u64_counter("cardea.credential.faults")
                .with_description("Refused credentials, by what was wrong with them.")
                .with_unit("{credential}")
                .build(),
            policy_errors: meter
                .u64_counter("cardea.policy.errors")
                .with_description("Policies that could not be evaluated. A forbid in error denies.")
                .with_unit("{error}")
                .build(),
            panics: meter
                .u64_counter("cardea.panics")
                .with_description("Decisions that ended in a panic, and so in a denial.")
                .with_unit("{panic}")
                .build(),
            cancelled: meter
                .u64_counter("cardea.cancelled")
                .with_description("Checks whose caller went away before the verdict.")
                .with_unit("{check}")
                .build(),
            introspections: Introspections::build(meter),
        };
        all.begin_at_zero();
        all
    }

    /// What alerts watch exists from the start, so that its first increase is seen as one.
    fn begin_at_zero(&self) {
        for each in [Effect::Permit, Effect::Forbid] {
            self.policy_errors.add(0, &[effect(each)]);
        }
        self.panics.add(0, &[]);
        self.cancelled.add(0, &[]);
    }
}

fn effect(effect: Effect) -> KeyValue {
    KeyValue::new("effect", effect.as_str())
}

/// The SDK folds what goes beyond 2000 combinations into one series without labels. Ours are bounded already, so it gets
/// room for all of them.
fn with_room_for_every_reason(settings: &Settings) -> MeterProviderBuilder {
    let combinations = settings
        .max_operations
        .saturating_add(2)
        .saturating_mul(REASONS);
    SdkMeterProvider::builder().with_view(move |instrument: &Instrument| {
        if ![DECISIONS, OBSERVED].contains(&instrument.name()) {
            return None;
        }
        Stream::builder()
            .with_cardinality_limit(combinations)
            .build()
            .ok()
    })
}

fn register_losses(meter: &Meter, watched: Watched) {
    let traces = watched.traces.clone();
    let lines = watched.lines;
    meter
        .u64_observable_counter("cardea.telemetry.dropped")
        .with_description("Spans and log lines dropped because their queue was full.")
        .with_unit("{item}")
        .with_callback(move |observer| {
            let spans = traces.as_ref().map_or(0, |traces| traces.dropped());
            observer.observe(spans, &[KeyValue::new("signal", "traces")]);
            observer.observe(lines.dropped(), &[KeyValue::new("signal", "logs")]);
        })
        .build();
    let (traces, collections) = (watched.traces, watched.collections);
    meter
        .u64_observable_counter("cardea.telemetry.export.failures")
        .with_description("Spans, and collections of metrics, that the collector did not take.")
        .with_unit("{item}")
        .with_callback(move |observer| {
            let spans = traces.as_ref().map_or(0, |traces| traces.failed());
            observer.observe(spans, &[KeyValue::new("signal", "traces")]);
            let collections = collections.load(Ordering::Relaxed);
            observer.observe(collections, &[KeyValue::new("signal", "metrics")]);
        })
        .build();
}

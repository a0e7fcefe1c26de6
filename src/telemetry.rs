//! What operators see: traces, metrics and logs of decisions.
//!
//! The pipeline hands over each finished [`Decision`] once ([`Telemetry::record`]); no other room knows this one.
//! Recording never waits: spans and lines go into bounded queues with threads of their own, and what does not fit, or
//! does not reach its destination, is dropped and counted. A collector that cannot be reached costs a decision nothing.
//!
//! No token, key, header, query or body is in any of it. Each signal lists its fields in one place: `traces.rs`,
//! `metrics.rs`, `logs/decision_line.rs`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::model::{Decision, Problem};

pub mod collector;
pub mod logs;
pub mod metrics;
pub mod panics;
pub mod traces;

mod counted;
mod introspections;
mod observed;
mod operations;
#[cfg(test)]
mod samples;
mod words;

pub use observed::{
    BundleInForce, IssuerKeys, MintSeen, Observation, RevocationsSeen, SharedSeen, StatusListsSeen,
    StreamSeen,
};

use collector::Collector;
use logs::{DecisionLog, Lines};
use metrics::{Metrics, Watched};
use observed::Observer;
use traces::Traces;

/// Traces, metrics and logs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `service.name` of spans and metrics.
    pub service_name: String,
    /// The OpenTelemetry collector.
    pub otlp: collector::Settings,
    /// Traces. They need a collector.
    pub traces: traces::Settings,
    /// Metrics. They are at the admin endpoint's `/metrics`, and sent to the collector where there is one.
    pub metrics: metrics::Settings,
    /// Logs, on standard output.
    pub log: logs::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            service_name: "cardea".to_owned(),
            otlp: collector::Settings::default(),
            traces: traces::Settings::default(),
            metrics: metrics::Settings::default(),
            log: logs::Settings::default(),
        }
    }
}

impl Settings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.service_name.trim().is_empty() || self.service_name.len() > 255 {
            problems.push(Problem::new(
                "`telemetry.service_name` is empty or longer than 255 bytes",
            ));
        }
        problems.extend(self.otlp.problems());
        problems.extend(self.traces.problems());
        problems.extend(self.metrics.problems());
        problems
    }
}

/// All signals of one application.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<Traces>,
    metrics: Metrics,
    log: DecisionLog,
    observer: Arc<Observer>,
}

impl Telemetry {
    /// Starts all signals; logs go to standard output. Connections to the collector live on the `background` runtime and
    /// are made when first needed, so a collector may come later or never.
    ///
    /// # Errors
    /// Every mistake in the settings, secrets or files that cannot be read, and threads that cannot be started.
    pub fn start(settings: &Settings, background: &Handle) -> Result<Arc<Self>, Vec<Problem>> {
        logs::init(&settings.log);
        let lines = logs::stdout().map_err(|error| {
            let message = format!("the log's thread cannot be started: {error}");
            vec![Problem::new(message)]
        })?;
        Self::start_with(settings, background, lines)
    }

    fn start_with(
        settings: &Settings,
        background: &Handle,
        lines: Lines,
    ) -> Result<Arc<Self>, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let collector = Collector::resolve(&settings.otlp)?;
        // The exporters' connections are spawned onto the runtime that is entered while they are built.
        let _inside = background.enter();
        let one = |problem| vec![problem];
        let span_exporter = collector.as_ref().map(Collector::spans).transpose();
        let metric_exporter = collector.as_ref().map(Collector::metrics).transpose();
        let traces = span_exporter
            .map_err(one)?
            .map(|exporter| Traces::start(&settings.traces, resource(settings), exporter));
        let observer = Arc::new(Observer::default());
        let watched = Watched::new(lines.clone(), traces.as_ref(), Arc::clone(&observer));
        let metrics = Metrics::start(
            &settings.metrics,
            resource(settings),
            metric_exporter.map_err(one)?,
            watched,
        )
        .map_err(one)?;
        Ok(Arc::new(Self {
            traces,
            metrics,
            log: DecisionLog::new(&settings.log, lines),
            observer,
        }))
    }

    /// Records a decision in every signal. Called once per decision, when it has fallen.
    pub fn record(&self, decision: &Decision) {
        let span = self
            .traces
            .as_ref()
            .and_then(|traces| traces.record(decision));
        self.metrics.record(decision);
        self.log.record(decision, span);
    }

    /// Counts a decision that ended in a panic.
    pub fn panicked(&self) {
        self.metrics.panicked();
    }

    /// Counts a check whose caller went away before the verdict.
    pub fn cancelled(&self) {
        self.metrics.cancelled();
    }

    /// Counts a question about an opaque token: by its outcome, one of a closed list, and by the time it took where it was
    /// asked at all.
    pub fn introspected(&self, outcome: &'static str, took: Option<Duration>) {
        self.metrics.introspected(outcome, took);
    }

    /// Sets the function that gauges ask, once. It is called several times whenever metrics are read, from threads that
    /// may wait, and should take microseconds. Returns whether it is the one in use.
    pub fn observe(&self, look: impl Fn() -> Observation + Send + Sync + 'static) -> bool {
        self.observer.set(look)
    }

    /// All metrics in the Prometheus text format, version 0.0.4. It takes a lock and walks every series, so it belongs on
    /// the background runtime.
    #[must_use]
    pub fn render(&self) -> String {
        self.metrics.render()
    }

    /// Sends and writes what is waiting, for at most `within`. Returns whether all of it went out. Afterwards nothing is
    /// exported any more.
    pub async fn shutdown(&self, within: Duration) -> bool {
        // The last quarter is the log's: it must hear the end even where the collector does not.
        let for_exports = within.mul_f32(0.75);
        let spans = self.traces.as_ref().map(Traces::provider);
        let meters = self.metrics.provider();
        let spans = off_thread(move || {
            spans.is_none_or(|spans| spans.shutdown_with_timeout(for_exports).is_ok())
        });
        let meters = off_thread(move || meters.shutdown_with_timeout(for_exports).is_ok());
        let exports = timeout(for_exports, join(spans, meters)).await;
        let lines = self.log.lines().clone();
        let for_lines = within.saturating_sub(for_exports);
        let written = timeout(for_lines, off_thread(move || lines.flush(for_lines))).await;
        exports == Ok((true, true)) && written == Ok(true)
    }
}

fn resource(settings: &Settings) -> Resource {
    Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Runs blocking work on a plain thread rather than the runtime's pool: a runtime waits for its pool when it ends, and
/// this work may be stuck for longer than anybody waits.
async fn off_thread(work: impl FnOnce() -> bool + Send + 'static) -> bool {
    let (done, result) = oneshot::channel();
    let started = std::thread::Builder::new()
        .name("cardea-flush".to_owned())
        .spawn(move || done.send(work()));
    started.is_ok() && result.await.unwrap_or(false)
}

#[cfg(test)]
mod tests;

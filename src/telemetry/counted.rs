//! Counts what never reached the collector.
//!
//! The SDK drops spans when its queue is full and forgets a batch whose export failed, and tells only its own internal
//! log, which is switched off here. So the queue is bounded one step earlier, where a drop can be counted, and exporters
//! are wrapped where a failure can be.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

/// Whether the collector takes a signal. It says so in the log when that changes, and not for every batch.
#[derive(Debug)]
struct Reach {
    signal: &'static str,
    failing: AtomicBool,
}

impl Reach {
    fn new(signal: &'static str) -> Self {
        Self {
            signal,
            failing: AtomicBool::new(false),
        }
    }

    fn note(&self, result: &OTelSdkResult) {
        let signal = self.signal;
        match (
            result,
            self.failing.swap(result.is_err(), Ordering::Relaxed),
        ) {
            (Err(error), false) => {
                tracing::warn!(signal, %error, "the collector does not take what it is sent");
            }
            (Ok(()), true) => tracing::info!(signal, "the collector takes what it is sent again"),
            (Err(_), true) | (Ok(()), false) => {}
        }
    }
}

/// What became of the spans.
#[derive(Debug)]
pub(super) struct Deliveries {
    reach: Reach,
    most: usize,
    waiting: AtomicUsize,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Deliveries {
    pub(super) fn new(most: usize) -> Self {
        Self {
            reach: Reach::new("traces"),
            most,
            waiting: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Spans that found the queue full.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Spans the collector did not take.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Takes a place in the queue, or counts a drop.
    fn admit(&self) -> bool {
        let place = |waiting: usize| (waiting < self.most).then_some(waiting + 1);
        let admitted = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, place)
            .is_ok();
        if !admitted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn leave(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::AcqRel);
    }

    fn fail(&self, spans: usize) {
        self.failed
            .fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A processor that refuses what its queue has no place for.
///
/// INVARIANT: the inner queue holds at most as many spans as `Deliveries` has admitted and not seen leave, since a span
/// is admitted before it is queued and leaves after it was taken out; so the inner queue, of the same length, is never
/// full, and every drop is counted here.
#[derive(Debug)]
pub(super) struct CountedProcessor<P> {
    inner: P,
    deliveries: Arc<Deliveries>,
}

impl<P> CountedProcessor<P> {
    pub(super) fn new(inner: P, deliveries: Arc<Deliveries>) -> Self {
        Self { inner, deliveries }
    }
}

impl<P: SpanProcessor> SpanProcessor for CountedProcessor<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.deliveries.admit() {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// A span exporter whose failures are counted.
#[derive(Debug)]
pub(super) struct CountedSpans<E> {
    inner: E,
    deliveries: Arc<Deliveries>,
}

impl<E> CountedSpans<E> {
    pub(super) fn new(inner: E, deliveries: Arc<Deliveries>) -> Self {
        Self { inner, deliveries }
    }
}

impl<E: SpanExporter> SpanExporter for CountedSpans<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.deliveries.leave(spans);
        let result = self.inner.export(batch).await;
        self.deliveries.reach.note(&result);
        if result.is_err() {
            self.deliveries.fail(spans);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// A metric exporter whose failures are counted.
pub(super) struct CountedMetrics<E> {
    inner: E,
    reach: Reach,
    failures: Arc<AtomicU64>,
}

impl<E> CountedMetrics<E> {
    pub(super) fn new(inner: E, failures: Arc<AtomicU64>) -> Self {
        Self {
            inner,
            reach: Reach::new("metrics"),
            failures,
        }
    }
}

impl<E> fmt::Debug for CountedMetrics<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountedMetrics")
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl<E: PushMetricExporter> PushMetricExporter for CountedMetrics<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.inner.export(metrics).await;
        self.reach.note(&result);
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_spans_wait_than_there_are_places() {
        let deliveries = Deliveries::new(2);
        assert!(deliveries.admit() && deliveries.admit());
        assert!(!deliveries.admit());
        assert_eq!(deliveries.dropped(), 1);
        deliveries.leave(1);
        assert!(deliveries.admit());
        assert!(!deliveries.admit());
        assert_eq!(deliveries.dropped(), 2);
    }
}

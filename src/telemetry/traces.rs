//! Traces: one span a decision, made after the fact, only where somebody samples.
//!
//! The span is a child of Envoy's, so a decision shows up inside the request's own trace. It is built from the finished
//! decision with explicit times: nothing is carried through the pipeline, and an unsampled request costs one branch.
//! Slow steps become child spans; a warm decision has none, because timing them would cost more than they take.
//!
//! Names are those of the OpenTelemetry semantic conventions 1.43 where there is one, and `cardea.*` elsewhere. What a
//! span may hold is listed in this file alone: never a header, a query, a body or a credential. `url.path` is the
//! canonical path and may hold object ids; `user.id` is the subject.

use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
    TraceId, TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanExporter,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::counted::{CountedProcessor, CountedSpans, Deliveries};
use super::words;
use crate::model::{
    AccessRequest, Arrival, Caller, Decision, Outcome, Period, PrincipalKind, Problem, Reason,
    TraceParent, shown,
};

/// What becomes a span.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The share of decisions to sample where the request carries no trace, from 0 to 1. Where it does, the flag of its
    /// `traceparent` decides. The default is 0.05: a request without a trace belongs to nobody's sampling plan, and one
    /// in twenty shows what happens without paying for a span a request.
    pub sample_ratio: f64,
    /// How many spans may wait for the collector. More are dropped and counted.
    pub queue: usize,
    /// How long a span may wait before it is sent, where no full batch is sent earlier.
    pub delay: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sample_ratio: 0.05,
            queue: 2048,
            delay: Period::seconds(5),
        }
    }
}

impl Settings {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let delays = Period::millis(10)..=Period::seconds(600);
        let ratio = self.sample_ratio;
        [
            Problem::out_of_bounds("telemetry.traces.sample_ratio", ratio, 0.0..=1.0)
                .map(|problem| problem.hint("0 samples nothing, 1 everything")),
            Problem::out_of_bounds("telemetry.traces.queue", self.queue, 1..=1_000_000),
            Problem::out_of_bounds("telemetry.traces.delay", self.delay, delays),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The most child spans of one decision.
const MOST_STEPS: usize = 32;
/// The most callers beside the principal that one span names.
const MOST_BESIDE: usize = 8;
/// The most policies one span names.
const MOST_POLICIES: usize = 64;
/// W3C Trace Context, section 3.3.1.5, asks for 512 characters of `tracestate`; more is a sender's excess.
const LONGEST_STATE: usize = 512;

/// The ids of a span, to be found in the logs.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpanIds {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

impl SpanIds {
    /// The caller's own span: what a log line names where no span of ours was sampled.
    pub(super) fn of_parent(parent: &TraceParent) -> Self {
        Self {
            trace: TraceId::from_bytes(parent.trace_id),
            span: SpanId::from_bytes(parent.span_id),
        }
    }
}

/// Makes and exports spans.
#[derive(Debug)]
pub(super) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    deliveries: Arc<Deliveries>,
}

impl Traces {
    /// Sends spans through `exporter`, from a thread of their own.
    pub(super) fn start(
        settings: &Settings,
        resource: Resource,
        exporter: impl SpanExporter + 'static,
    ) -> Self {
        let deliveries = Arc::new(Deliveries::new(settings.queue));
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue)
            .with_max_export_batch_size(settings.queue.min(512))
            .with_scheduled_delay(settings.delay.0)
            .build();
        let counted = CountedSpans::new(exporter, Arc::clone(&deliveries));
        let processor = BatchSpanProcessor::builder(counted)
            .with_batch_config(batches)
            .build();
        let ratio = Sampler::TraceIdRatioBased(settings.sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::parent_based(ratio))
            .with_resource(resource)
            .with_span_processor(CountedProcessor::new(processor, Arc::clone(&deliveries)))
            .build();
        Self {
            tracer: provider.tracer("cardea"),
            provider,
            deliveries,
        }
    }

    pub(super) fn deliveries(&self) -> Arc<Deliveries> {
        Arc::clone(&self.deliveries)
    }

    pub(super) fn provider(&self) -> SdkTracerProvider {
        self.provider.clone()
    }

    /// Makes the span of a decision, where it is sampled.
    pub(super) fn record(&self, decision: &Decision) -> Option<SpanIds> {
        let arrival = &decision.trail.arrival;
        let parent = arrival.trace_parent.as_ref();
        if parent.is_some_and(|parent| !parent.sampled()) {
            return None;
        }
        let begin = SystemTime::from(arrival.at);
        let builder = SpanBuilder::from_name("envoy.service.auth.v3.Authorization/Check")
            .with_kind(SpanKind::Server)
            .with_start_time(begin);
        let above = parent.map_or_else(Context::new, above);
        let mut span = self.tracer.build_with_context(builder, &above);
        if !span.is_recording() {
            return None;
        }
        span.set_attributes(attributes(decision));
        if let Some(code) = words::own_trouble(decision) {
            span.set_attribute(KeyValue::new("error.type", code));
            span.set_status(Status::error(code));
        }
        let own = span.span_context().clone();
        let ids = SpanIds {
            trace: own.trace_id(),
            span: own.span_id(),
        };
        self.record_steps(decision, own);
        span.end_with_timestamp(after(begin, decision.took));
        Some(ids)
    }

    /// Child spans for slow work.
    fn record_steps(&self, decision: &Decision, own: SpanContext) {
        let trail = &decision.trail;
        if trail.cold.is_empty() {
            return;
        }
        let inside = Context::new().with_remote_span_context(own);
        for step in trail.cold.iter().take(MOST_STEPS) {
            let begin = wall_time(&trail.arrival, step.began);
            let builder = SpanBuilder::from_name(step.name)
                .with_kind(SpanKind::Internal)
                .with_start_time(begin);
            self.tracer
                .build_with_context(builder, &inside)
                .end_with_timestamp(after(begin, step.took));
        }
    }
}

/// The caller's span, as the context a child is made in.
fn above(parent: &TraceParent) -> Context {
    let state = if parent.state.len() <= LONGEST_STATE {
        parent.state.parse().unwrap_or_default()
    } else {
        TraceState::default()
    };
    let ids = SpanIds::of_parent(parent);
    let flags = TraceFlags::new(parent.flags);
    Context::new()
        .with_remote_span_context(SpanContext::new(ids.trace, ids.span, flags, true, state))
}

/// A moment of the monotonic clock as wall time. A step before the arrival (work shared with an earlier request) keeps
/// its own beginning.
fn wall_time(arrival: &Arrival, moment: std::time::Instant) -> SystemTime {
    let begin = SystemTime::from(arrival.at);
    match moment.checked_duration_since(arrival.started) {
        Some(later) => after(begin, later),
        None => begin
            .checked_sub(arrival.started.saturating_duration_since(moment))
            .unwrap_or(begin),
    }
}

fn after(begin: SystemTime, length: std::time::Duration) -> SystemTime {
    begin.checked_add(length).unwrap_or(begin)
}

fn attributes(decision: &Decision) -> Vec<KeyValue> {
    let trail = &decision.trail;
    let mut list = Vec::with_capacity(24);
    list.extend([
        KeyValue::new("rpc.system.name", "grpc"),
        KeyValue::new("rpc.method", "envoy.service.auth.v3.Authorization/Check"),
        KeyValue::new("cardea.decision.id", trail.id.to_string()),
        KeyValue::new("cardea.decision.verdict", decision.verdict()),
        KeyValue::new("cardea.decision.reason", decision.reason_code()),
        KeyValue::new("cardea.operation", safe(decision.operation(), 256)),
        KeyValue::new("cardea.policies", policies(&trail.determining)),
    ]);
    if let Outcome::Refused(refusal) = &decision.outcome
        && let Reason::CredentialInvalid(fault) = &refusal.reason
    {
        list.push(KeyValue::new("cardea.credential.fault", fault.code()));
    }
    if let Some(refusal) = decision.would_be() {
        list.push(KeyValue::new("cardea.would_be", refusal.reason.code()));
    }
    if !trail.faults.is_empty() {
        let failed: Vec<_> = trail.faults.iter().map(|f| Arc::clone(&f.policy)).collect();
        list.push(KeyValue::new("cardea.policies.failed", policies(&failed)));
    }
    if let Some(severity) = trail.notes.severity {
        list.push(KeyValue::new("cardea.severity", severity.as_str()));
    }
    if !trail.notes.obligations.is_empty() {
        list.push(KeyValue::new(
            "cardea.obligations",
            policies(&trail.notes.obligations),
        ));
    }
    if !trail.notes.controls.is_empty() {
        list.push(KeyValue::new(
            "cardea.controls",
            policies(&trail.notes.controls),
        ));
    }
    if let Some(snapshot) = &trail.snapshot {
        list.push(KeyValue::new(
            "cardea.snapshot",
            safe(snapshot.as_str(), 128),
        ));
    }
    if let Some(hit) = trail.cache_hit {
        list.push(KeyValue::new("cardea.cache.hit", hit));
    }
    if let Some(recalled) = trail.decision_cache {
        list.push(KeyValue::new("cardea.decision.cache", recalled.as_str()));
    }
    if let Some(matched) = trail.matched.as_ref().filter(|m| m.operation.documented) {
        let template = &matched.operation.route.template;
        list.push(KeyValue::new("http.route", safe(template, 1024)));
    }
    if let Some(request) = &trail.request {
        push_request(&mut list, request);
    }
    if let Some(caller) = &trail.caller {
        push_caller(&mut list, caller);
    }
    if !trail.beside.is_empty() {
        list.push(KeyValue::new(
            "cardea.principals.beside",
            beside(&trail.beside),
        ));
    }
    list
}

/// Who else was proven by credentials of the same request, as `<kind>::<issuer>|<subject>`.
fn beside(callers: &[Caller]) -> Value {
    let proven = callers.iter().filter_map(Caller::attributes);
    let named = proven.take(MOST_BESIDE).map(|identity| {
        let id = safe(&identity.principal_id(), 512);
        StringValue::from(format!("{}::{id}", words::kind(identity.kind)))
    });
    Value::Array(Array::String(named.collect()))
}

fn push_request(list: &mut Vec<KeyValue>, request: &AccessRequest) {
    list.extend([
        KeyValue::new("http.request.method", request.method.as_str()),
        KeyValue::new("url.scheme", request.scheme.as_str()),
        KeyValue::new("url.path", safe(request.path.as_str(), 2048)),
        KeyValue::new("server.address", safe(request.host.as_str(), 255)),
        KeyValue::new("cardea.request.id", safe(&request.id, 128)),
    ]);
    if let Some(address) = request.client_address {
        list.push(KeyValue::new("client.address", address.to_string()));
    }
}

fn push_caller(list: &mut Vec<KeyValue>, caller: &Caller) {
    let Some(identity) = caller.attributes() else {
        list.push(KeyValue::new("cardea.principal.kind", words::ANONYMOUS));
        return;
    };
    let subject = safe(&identity.subject, 256);
    if identity.kind == PrincipalKind::User {
        list.push(KeyValue::new("user.id", subject.clone()));
    }
    list.extend([
        KeyValue::new("cardea.principal.kind", words::kind(identity.kind)),
        KeyValue::new("cardea.principal.id", subject),
        KeyValue::new("cardea.principal.issuer", safe(&identity.issuer, 256)),
    ]);
}

fn policies(ids: &[Arc<str>]) -> Value {
    let names = ids.iter().take(MOST_POLICIES);
    Value::Array(Array::String(
        names.map(|id| StringValue::from(safe(id, 256))).collect(),
    ))
}

fn safe(text: &str, max: usize) -> String {
    shown(text, max).into_owned()
}

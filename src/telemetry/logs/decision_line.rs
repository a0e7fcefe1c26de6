//! What an operator reads of one decision.
//!
//! The fields are listed here and nowhere else. Left out on purpose: headers, query, body, path parameters, token ids,
//! and Cedar's words about a policy that failed, which can quote attribute values.

use std::borrow::Cow;
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::{Format, SpanIds};
use crate::model::{
    Caller, CredentialFault, Decision, DecisionCache, Outcome, Reason, Severity, shown,
};
use crate::telemetry::words;

/// How many policies a line names.
const MOST_POLICIES: usize = 16;
/// How many callers beside the principal a line names, and how much of each name, in bytes.
const MOST_BESIDE: usize = 4;
const LONGEST_NAME: usize = 96;
/// How many controls, and the longest name of one, in bytes: with everything else they fit one line.
const MOST_CONTROLS: usize = 8;
const LONGEST_CONTROL: usize = 96;

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    target: &'static str,
    message: &'static str,
    decision: String,
    verdict: &'static str,
    reason: &'static str,
    /// The reason of the refusal that would have been, had the operation not been observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_be: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    operation: Cow<'a, str>,
    policies: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policy_errors: Vec<FailedPolicy<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    obligations: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controls: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Principal<'a>>,
    /// Who else was proven by credentials of the same request: all of them, where they were not one caller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beside: Vec<Principal<'a>>,
    #[serde(flatten)]
    request: Option<Request<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_hit: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_cache: Option<&'static str>,
    took_us: u64,
}

#[derive(Serialize)]
struct FailedPolicy<'a> {
    policy: Cow<'a, str>,
    effect: &'static str,
}

#[derive(Serialize)]
struct Principal<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(rename = "request_id")]
    id: Cow<'a, str>,
    method: &'static str,
    host: Cow<'a, str>,
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_address: Option<std::net::IpAddr>,
}

/// The line for a decision, without its end.
pub(super) fn render(decision: &Decision, span: Option<SpanIds>, format: Format) -> String {
    let line = line(decision, span);
    match format {
        Format::Json => serde_json::to_string(&line).unwrap_or_default(),
        Format::Text => text(&line),
    }
}

fn line(decision: &Decision, span: Option<SpanIds>) -> Line<'_> {
    let trail = &decision.trail;
    let refusal = decision.outcome.refusal();
    let trouble = !trail.faults.is_empty() || words::own_trouble(decision).is_some();
    let ids = span.or_else(|| trail.arrival.trace_parent.as_ref().map(SpanIds::of_parent));
    Line {
        timestamp: format!("{:.6}", trail.arrival.at),
        level: if trouble { "WARN" } else { "INFO" },
        target: "cardea::decision",
        message: match &decision.outcome {
            Outcome::Allowed(_) => "allowed",
            Outcome::Observed(..) => "observed",
            Outcome::Refused(_) => "denied",
        },
        decision: trail.id.to_string(),
        verdict: decision.verdict(),
        reason: decision.reason_code(),
        would_be: decision.would_be().map(|refusal| refusal.reason.code()),
        detail: refusal.map(|refusal| shown(&refusal.detail, 512)),
        fault: refusal.and_then(|refusal| match &refusal.reason {
            Reason::CredentialInvalid(fault) => Some(CredentialFault::code(*fault)),
            _ => None,
        }),
        operation: shown(decision.operation(), 128),
        policies: trail
            .determining
            .iter()
            .take(MOST_POLICIES)
            .map(|policy| shown(policy, 128))
            .collect(),
        policy_errors: failed_policies(decision),
        severity: trail.notes.severity.map(Severity::as_str),
        obligations: trail
            .notes
            .obligations
            .iter()
            .take(MOST_POLICIES)
            .map(|duty| shown(duty, 256))
            .collect(),
        controls: trail
            .notes
            .controls
            .iter()
            .take(MOST_CONTROLS)
            .map(|control| shown(control, LONGEST_CONTROL))
            .collect(),
        principal: trail.caller.as_ref().map(|caller| principal(caller, 256)),
        beside: trail
            .beside
            .iter()
            .take(MOST_BESIDE)
            .map(|caller| principal(caller, LONGEST_NAME))
            .collect(),
        request: request(decision),
        trace_id: ids.map(|ids| ids.trace.to_string()),
        span_id: ids.map(|ids| ids.span.to_string()),
        snapshot: trail.snapshot.as_ref().map(|id| shown(id.as_str(), 128)),
        cache_hit: trail.cache_hit,
        decision_cache: trail.decision_cache.map(DecisionCache::as_str),
        took_us: u64::try_from(decision.took.as_micros()).unwrap_or(u64::MAX),
    }
}

fn failed_policies(decision: &Decision) -> Vec<FailedPolicy<'_>> {
    let faults = decision.trail.faults.iter().take(MOST_POLICIES);
    faults
        .map(|fault| FailedPolicy {
            policy: shown(&fault.policy, 128),
            effect: fault.effect.as_str(),
        })
        .collect()
}

fn principal(caller: &Caller, most: usize) -> Principal<'_> {
    match caller.attributes() {
        None => Principal {
            kind: words::ANONYMOUS,
            issuer: None,
            subject: None,
        },
        Some(identity) => Principal {
            kind: words::kind(identity.kind),
            issuer: Some(shown(&identity.issuer, most)),
            subject: Some(shown(&identity.subject, most)),
        },
    }
}

fn request(decision: &Decision) -> Option<Request<'_>> {
    let request = decision.trail.request.as_ref()?;
    Some(Request {
        id: shown(&request.id, 128),
        method: request.method.as_str(),
        host: shown(request.host.as_str(), 255),
        path: shown(request.path.as_str(), 1024),
        client_address: request.client_address,
    })
}

/// `time level target: message name=value ..`, each value as JSON, so that a value cannot look like another field.
fn text(line: &Line<'_>) -> String {
    let mut text = format!(
        "{} {:>5} {}: {}",
        line.timestamp, line.level, line.target, line.message
    );
    let Ok(Value::Object(fields)) = serde_json::to_value(line) else {
        return text;
    };
    for (name, value) in fields {
        if !matches!(name.as_str(), "timestamp" | "level" | "target" | "message") {
            // Writing to a string cannot fail.
            let _ = write!(text, " {name}={value}");
        }
    }
    text
}

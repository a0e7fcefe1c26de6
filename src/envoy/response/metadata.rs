//! What every answer leaves in Envoy under `envoy.filters.http.ext_authz`, for its access log and for the filters that
//! follow.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use crate::model::{Caller, Decision, Reason, shown};

use super::status;
use super::upstream::kind;

/// Longest text of one entry.
const MAX_TEXT: usize = 256;
/// Most policies that are listed.
const MAX_POLICIES: usize = 32;

/// The metadata of one decision.
pub(super) fn of(decision: &Decision) -> Struct {
    let trail = &decision.trail;
    let policies = trail.determining.iter().take(MAX_POLICIES);
    let mut entries = vec![
        ("decision", text(&trail.id.to_string())),
        ("verdict", text(decision.verdict())),
        ("reason", text(decision.reason_code())),
        ("operation", text(decision.operation())),
        (
            "policies",
            list(policies.map(|policy| text(policy)).collect()),
        ),
    ];
    if let Some(refusal) = decision.would_be() {
        entries.push(("observed", value(Kind::BoolValue(true))));
        entries.push(("would_be", would_be(&refusal.reason)));
    }
    if let Some(severity) = trail.notes.severity {
        entries.push(("severity", text(severity.as_str())));
    }
    if !trail.notes.obligations.is_empty() {
        let obligations = trail.notes.obligations.iter().take(MAX_POLICIES);
        entries.push((
            "obligations",
            list(obligations.map(|duty| text(duty)).collect()),
        ));
    }
    if let Some(caller) = &trail.caller {
        entries.push(("principal", text(&principal(caller))));
    }
    if let Some(snapshot) = &trail.snapshot {
        entries.push(("snapshot", text(snapshot.as_str())));
    }
    members(entries)
}

/// The refusal that would have been, in the words a refused caller hears.
fn would_be(reason: &Reason) -> Value {
    let (http, grpc) = status(reason);
    let number = |number: i32| value(Kind::NumberValue(f64::from(number)));
    let entries = vec![
        ("status", number(http as i32)),
        ("grpc_status", number(grpc as i32)),
        ("reason", text(reason.code())),
    ];
    value(Kind::StructValue(members(entries)))
}

fn members(entries: Vec<(&str, Value)>) -> Struct {
    let entries = entries.into_iter();
    Struct {
        fields: entries
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

/// `User::"issuer|subject"`, the way Cedar writes an entity. For reading, not for parsing.
fn principal(caller: &Caller) -> String {
    match caller.attributes() {
        None => "Anonymous".to_owned(),
        Some(identity) => {
            format!(
                "{}::\"{}|{}\"",
                kind(identity.kind),
                identity.issuer,
                identity.subject
            )
        }
    }
}

/// Text without control characters: access logs print it as it is.
fn text(text: &str) -> Value {
    value(Kind::StringValue(shown(text, MAX_TEXT).into_owned()))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

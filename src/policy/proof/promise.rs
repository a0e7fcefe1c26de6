//! What Cardea promises of every request it puts to the policies, as a Cedar condition.
//!
//! A schema allows requests that nobody can send: an anonymous caller with scopes, a time of day in a billion years, an
//! operation in another API than its own. A proof that has to reckon with those fails where nothing is wrong. So each
//! question is asked of the requests that keep these promises. A test holds them against the requests that Cardea builds.

use std::collections::BTreeSet;

use cedar_policy_core::ast::{Entity, EntityUID};
use jiff::Timestamp;

use crate::model::{Operation, ResourceRule, Route};
use crate::policy::value::Kind;

/// Of whom and what a promise speaks.
#[derive(Debug, Clone, Copy)]
pub(in crate::policy) struct Subject<'a> {
    pub(in crate::policy) operation: &'a Operation,
    /// The operation's route, with all its ancestors.
    pub(in crate::policy) route: &'a Entity,
    pub(in crate::policy) principal: Kind,
}

/// The promise as conditions, all of which hold. `mentioned` are the entities that policies or invariants name: only of those
/// is it worth saying whether the route lies in them.
pub(in crate::policy) fn conditions(
    subject: &Subject<'_>,
    mentioned: &BTreeSet<EntityUID>,
) -> Vec<String> {
    let mut terms = vec![
        moment("context.time.now"),
        "context.time.localTime >= duration(\"0h\")".to_owned(),
        "context.time.localTime <= duration(\"24h\")".to_owned(),
        "context.time.weekday >= 0 && context.time.weekday <= 7".to_owned(),
        optional("context.device", "assessedAt", moment),
        optional("context", "emergency", |emergency| {
            moment(&format!("{emergency}.expiresAt"))
        }),
        "context.request.bodyBytes >= 0".to_owned(),
        format!("context.request.params == {}", Kind::Params.uid("params")),
        format!(
            "context.request.numbers == {}",
            Kind::Numbers.uid("numbers")
        ),
        format!("context.token.claims == {}", Kind::Claims.uid("claims")),
        "context.token.assurance >= 0 && context.token.assurance <= 255".to_owned(),
    ];
    terms.extend(caller(subject.principal));
    terms.extend(operation(subject.operation));
    terms.extend(hierarchy(subject, mentioned));
    terms
}

/// What a caller's credential says of it, and what nobody's credential says.
fn caller(kind: Kind) -> Vec<String> {
    if kind == Kind::Anonymous {
        let absent = [
            "issuer",
            "subject",
            "clientId",
            "acr",
            "authTime",
            "expiresAt",
        ];
        let empty = ["audience", "scopes", "amr"];
        return [
            vec![
                "context.token.kind == \"anonymous\"".to_owned(),
                "context.token.assurance == 0 && !context.token.mfa && !context.token.senderConstrained"
                    .to_owned(),
            ],
            absent
                .map(|name| format!("!(context.token has {name})"))
                .to_vec(),
            empty
                .map(|name| format!("context.token.{name}.isEmpty()"))
                .to_vec(),
        ]
        .concat();
    }
    // The token of an agent may speak of whom it acts for.
    let own = |name: &str, attribute: &str| {
        let same = format!("context.token.{name} == principal.{attribute}");
        match kind {
            Kind::Agent => {
                format!("context.token has {name} && (context has delegation || {same})")
            }
            _ => format!("context.token has {name} && {same}"),
        }
    };
    vec![
        "context.token.kind != \"anonymous\"".to_owned(),
        own("issuer", "issuer"),
        own("subject", "sub"),
        format!(
            "context.token has expiresAt && {}",
            moment("context.token.expiresAt")
        ),
        optional("context.token", "authTime", moment),
    ]
}

/// What the API documents say of an operation.
fn operation(operation: &Operation) -> Vec<String> {
    let route = &operation.route;
    let api = &route.api;
    let is = |name: &str, value: &str| format!("resource.api.{name} == {}", text(value));
    let mut terms = vec![
        format!("context.request.documented == {}", operation.documented),
        format!(
            "context.request.method == {}",
            text(operation.method.as_str())
        ),
        is("name", &api.name),
        is("version", &api.version),
        is("lifecycle", route.lifecycle.as_str()),
        is("exposure", &api.exposure),
        strings("resource.api.dataClasses", &api.data_classes),
        match &api.owner {
            Some(owner) => format!(
                "resource.api has owner && resource.api.owner == {}",
                Kind::Group.uid(owner)
            ),
            None => "!(resource.api has owner)".to_owned(),
        },
        match api.sunset {
            Some(sunset) => format!(
                "resource.api has sunset && resource.api.sunset == {}",
                datetime(sunset)
            ),
            None => "!(resource.api has sunset)".to_owned(),
        },
    ];
    match &operation.resource {
        ResourceRule::Route => terms.extend(route_facts(route)),
        ResourceRule::Object { kind, .. } => terms.push(format!("resource.kind == {}", text(kind))),
    }
    terms
}

fn route_facts(route: &Route) -> [String; 3] {
    [
        format!("resource == {}", Kind::Route.uid(&route.id)),
        format!("resource.template == {}", text(&route.template)),
        format!("resource.sensitivity == {}", route.sensitivity),
    ]
}

/// Where the resource stands. All ancestors of a route are known, so it lies in nothing else; an object may lie in more.
fn hierarchy(subject: &Subject<'_>, mentioned: &BTreeSet<EntityUID>) -> Vec<String> {
    let within = |uid: &EntityUID| subject.route.is_descendant_of(uid);
    let place = |kind: Kind, uid: &EntityUID| uid.entity_type() == kind.entity_type();
    let on_route = subject.operation.resource == ResourceRule::Route;
    mentioned
        .iter()
        .filter_map(|uid| {
            if within(uid) || (!on_route && uid == subject.route.uid()) {
                Some(format!("resource in {uid}"))
            } else if on_route && (place(Kind::Api, uid) || place(Kind::Tag, uid)) {
                Some(format!("!(resource in {uid})"))
            } else {
                None
            }
        })
        .collect()
}

/// A point in time that a timestamp can hold, from the year -9999 to 9999, so that no difference of two overflows.
fn moment(expression: &str) -> String {
    let (first, last) = (datetime(Timestamp::MIN), datetime(Timestamp::MAX));
    format!("{expression} >= {first} && {expression} <= {last}")
}

/// What holds of an optional attribute where it is present.
fn optional(record: &str, name: &str, holds: impl FnOnce(&str) -> String) -> String {
    let holds = holds(&format!("{record}.{name}"));
    format!("(if {record} has {name} then {holds} else true)")
}

fn datetime(at: Timestamp) -> String {
    let millis = at.as_millisecond();
    format!("datetime(\"1970-01-01\").offset(duration(\"{millis}ms\"))")
}

/// A set of strings. Cedar has no literal for an empty one.
fn strings(expression: &str, items: &[String]) -> String {
    if items.is_empty() {
        return format!("{expression}.isEmpty()");
    }
    let items: Vec<String> = items.iter().map(|item| text(item)).collect();
    format!("{expression} == [{}]", items.join(", "))
}

/// A string literal. Cedar reads the escapes that Rust writes.
fn text(value: &str) -> String {
    format!("\"{}\"", value.escape_debug())
}

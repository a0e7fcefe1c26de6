//! What is refuted is refuted by a request that is really decided so.

use std::collections::BTreeMap;
use std::path::Path;

use cardea::model::{
    AccessRequest, Arrival, Body, CanonicalPath, Clock as _, Facts, Headers, Host, Method, Network,
    Outcome, PathRules, Peer, Query, Scheme, SystemClock,
};
use cardea::pipeline::{Snapshot, Supposed};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, Response,
};
use serde_json::Value;

use super::bundle::Bundle;

const OVERFLOW: &str = include_str!("../fixtures/hazard/forbid_overflow.cedar");
const UNLOADED: &str = include_str!("../fixtures/hazard/forbid_unloaded_entity.cedar");

/// Puts a counterexample from a report to Cedar's authorizer.
fn replay(counterexample: &Value, policies: &str) -> Response {
    let part = |name: &str| counterexample["request"][name].clone();
    let uid = |name: &str| EntityUid::from_json(part(name)).unwrap();
    let context = Context::from_json_value(part("context"), None).unwrap();
    let request = Request::new(
        uid("principal"),
        uid("action"),
        uid("resource"),
        context,
        None,
    );
    let entities = counterexample["entities"].clone();
    let entities = Entities::from_json_value(entities, None).unwrap();
    let set: PolicySet = policies.parse().unwrap();
    Authorizer::new().is_authorized(&request.unwrap(), &set, &entities)
}

/// An order by nobody in particular, from an address that the proxy vouches for.
fn anonymous_order(bundle: &str, trusted: bool) -> Outcome {
    let snapshot = Snapshot::load(Path::new(bundle), &SystemClock).unwrap();
    let decision = snapshot.rehearse(Supposed {
        arrival: Arrival {
            at: SystemClock.now(),
            started: SystemClock.monotonic(),
            deadline: None,
            trace_parent: None,
            grpc: false,
        },
        request: Ok(AccessRequest {
            id: "r".to_owned(),
            method: Method::Post,
            scheme: Scheme::Https,
            host: Host::parse("shop.example.com").unwrap(),
            port: None,
            path: CanonicalPath::parse("/orders", PathRules::default()).unwrap(),
            query: Query::default(),
            headers: Headers::default(),
            body: Body::default(),
            client_address: None,
            peer: Peer::default(),
            sni: None,
            context_extensions: BTreeMap::new(),
            metadata: BTreeMap::new(),
            route_metadata: BTreeMap::new(),
        }),
        caller: None,
        facts: Facts {
            network: Network {
                ip_trusted: trusted,
                ..Network::default()
            },
            ..Facts::default()
        },
    });
    decision.outcome
}

#[test]
fn a_broken_invariant_is_shown_by_a_request_that_is_allowed() {
    let policies = r#"
        @id("oops") permit (principal, action == Cardea::Action::"shop.buy", resource)
        when { context.network.ipTrusted };"#;
    let bundle = Bundle::of(policies);
    bundle.file(
        "callers.invariant.cedar",
        r#"@id("no-anonymous-write") forbid (principal is Cardea::Anonymous, action in Cardea::Action::"write", resource);"#,
    );
    let run = bundle.prove(&[]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.refuted("invariant"), ["no-anonymous-write"]);
    let refuted = run.first();
    assert_eq!(refuted["sorts"].as_array().unwrap().len(), 1, "{refuted}");
    assert_eq!(refuted["place"][1], 1, "{refuted}");
    let shown = &refuted["counterexample"];
    assert_eq!(shown["principal"], r#"Cardea::Anonymous::"anonymous""#);
    assert_eq!(shown["resource"], r#"Cardea::Route::"POST /orders""#);
    assert_eq!(shown["allowed_by"], serde_json::json!(["oops"]));
    let facts = shown["facts"].to_string();
    assert!(
        facts.contains("context.network.ipTrusted = true"),
        "{facts}"
    );
    assert!(
        !facts.contains("context.geo"),
        "only what policies read is shown: {facts}"
    );
    assert_eq!(replay(shown, policies).decision(), Decision::Allow);
    // The same request on the server's own road.
    let trusted = shown["request"]["context"]["network"]["ipTrusted"]
        .as_bool()
        .unwrap();
    assert!(matches!(
        anonymous_order(&bundle.path(), trusted),
        Outcome::Allowed(_)
    ));
    assert!(matches!(
        anonymous_order(&bundle.path(), !trusted),
        Outcome::Refused(_)
    ));
}

#[test]
fn a_guardrail_keeps_the_invariant() {
    let bundle = Bundle::of(
        r#"@id("oops") permit (principal, action, resource);
           @id("guard") forbid (principal is Cardea::Anonymous, action in Cardea::Action::"write", resource);"#,
    );
    bundle.file(
        "callers.invariant.cedar",
        r#"@id("no-anonymous-write") forbid (principal is Cardea::Anonymous, action in Cardea::Action::"write", resource);"#,
    );
    let run = bundle.prove(&[]);
    assert_eq!(
        (run.code, &run.report["verdict"]),
        (0, &"proven".into()),
        "{run:?}"
    );
}

#[test]
fn e4_a_policy_that_can_overflow_is_found_with_the_numbers_that_do_it() {
    let run = Bundle::of(OVERFLOW).prove(&[]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.refuted("never_errors"), ["forbid-overflow"]);
    let shown = &run.first()["counterexample"];
    let ratio = &shown["request"]["context"]["signals"]["rateRatioPct"];
    assert!(
        ratio.as_i64().unwrap().checked_mul(1000).is_none(),
        "{ratio}"
    );
    let response = replay(shown, OVERFLOW);
    let errors: Vec<String> = response
        .diagnostics()
        .errors()
        .map(ToString::to_string)
        .collect();
    assert!(errors.concat().contains("overflow"), "{errors:?}");
    assert_eq!(
        run.first()["sorts"].as_array().unwrap().len(),
        8 * 5,
        "every sort of request"
    );
}

#[test]
fn a_policy_that_reads_what_no_request_carries_is_found() {
    let run = Bundle::of(UNLOADED).prove(&[]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.refuted("never_errors"), ["forbid-unloaded-entity"]);
    let remark = run.first()["remark"].as_str().unwrap();
    assert!(
        remark.contains("`context.delegation.subject.sub` reads an entity"),
        "{remark}"
    );
}

/// Cedar would skip the forbid that overflows and allow; Cardea denies. So the invariant holds, whatever else is wrong.
#[test]
fn a_forbid_that_errs_denies_in_proofs_too() {
    let bundle = Bundle::of(OVERFLOW);
    let invariants = bundle.file(
        "more.cedar",
        r#"@id("no-fast-caller") forbid (principal, action, resource) when { context.signals.rateRatioPct > 100 };
           @id("no-slow-caller") forbid (principal, action, resource) when { context.signals.rateRatioPct < 50 };"#,
    );
    let run = bundle.prove(&["--invariants", &invariants]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.refuted("never_errors"), ["forbid-overflow"]);
    assert_eq!(run.refuted("invariant"), ["no-slow-caller"]);
}

#[test]
fn an_invariant_that_can_err_is_refuted_as_such() {
    let bundle = Bundle::of(
        r#"@id("p") permit (principal, action == Cardea::Action::"shop.buy", resource);"#,
    );
    bundle.file(
        "x.invariant.cedar",
        r#"@id("shaky") forbid (principal is Cardea::Anonymous, action, resource)
           when { context.risk.score * 100 > 5000 && !context.request.documented };"#,
    );
    let run = bundle.prove(&[]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.refuted("never_errors"), ["shaky"]);
    assert!(run.refuted("invariant").is_empty(), "{run:?}");
}

#[test]
fn the_report_for_people_names_claim_place_request_and_json() {
    let bundle = Bundle::of(OVERFLOW);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cardea"))
        .args(["prove", "--bundle", &bundle.path()])
        .env("CARDEA_CVC5", super::bundle::solver())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in [
        "policies.cedar:4:1: `forbid-overflow` never errors",
        "context.signals.rateRatioPct = ",
        "integer overflow",
        "  to decide   {\"subject\":",
        "in full     {\"",
        "refuted: 2 policies and 0 invariants over 40 sorts of request",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let json = text
        .lines()
        .find_map(|line| line.strip_prefix("  in full     "));
    let json: Value = serde_json::from_str(json.unwrap()).unwrap();
    assert!(json["request"]["context"]["token"].is_object(), "{json}");
}

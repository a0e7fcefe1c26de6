//! Observed operations: what policies do not permit passes there, and is told everywhere; everything else is refused as
//! anywhere.

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::google::protobuf::value::Kind;
use serde_json::json;
use tokio::runtime::Builder;
use tonic::transport::Channel;

use crate::child::Child;
use crate::issuer::Key;
use crate::world::{Ask, Heard, Setup, World, eventually};

const OBSERVED: &str = r"openapi: 3.1.0
info: { title: Old, version: '1' }
servers: [{ url: /old }]
x-cardea: { api: old, observe: true }
paths:
  /things:
    get: { operationId: list, parameters: [{ name: q, in: query, schema: { type: string } }] }
    post: { operationId: create }
  /things/{id}:
    get: { operationId: read, x-cardea: { observe: false } }
  /says: { get: { operationId: says } }
  /errs: { get: { operationId: errs } }
";

const POLICIES: &str = r#"
@id("says") @mode("observable") @on_deny("quarantine") @severity("low")
forbid (principal, action == Cardea::Action::"old.says", resource);
@id("errs") @mode("observable")
forbid (principal, action == Cardea::Action::"old.errs", resource)
when { context.request.bodyBytes - 9223372036854775807 - 9223372036854775807 < 0 };
"#;

fn observed(setup: &mut Setup) {
    setup.write("apis/old.yaml", OBSERVED);
    setup.write("old.cedar", POLICIES);
}

fn world() -> World {
    World::with(observed)
}

/// It passes, and this is what would have been.
#[track_caller]
fn assert_observed(heard: &Heard, status: f64, reason: &str, policies: &serde_json::Value) {
    heard.passed();
    assert_eq!(heard.metadata("verdict"), "allow");
    assert_eq!(heard.metadata("reason"), "observed");
    assert_eq!(heard.metadata("policies"), *policies);
    let fields = &heard.response.dynamic_metadata.as_ref().unwrap().fields;
    assert_eq!(fields["observed"].kind, Some(Kind::BoolValue(true)));
    let Some(Kind::StructValue(would_be)) = &fields["would_be"].kind else {
        panic!("{fields:?}");
    };
    let said = Some(Kind::StringValue(reason.to_owned()));
    assert_eq!(would_be.fields["reason"].kind, said);
    assert_eq!(
        would_be.fields["status"].kind,
        Some(Kind::NumberValue(status))
    );
}

#[test]
fn what_no_policy_permits_passes_with_the_callers_name() {
    let world = world();
    let heard = world.get("/old/things");
    assert_observed(&heard, 403.0, "not_permitted", &json!([]));
    assert_eq!(heard.header("x-cardea-subject"), Some("alice"));
    assert_eq!(heard.metadata("operation"), "old.list");
    assert_eq!(
        heard.header("x-cardea-decision"),
        heard.metadata("decision").as_str()
    );
    // A header that a client made up does not survive here either.
    let forged = Ask::get("/old/things").header("x-cardea-subject", "root");
    let heard = world.ask(forged);
    assert_observed(&heard, 401.0, "credential_missing", &json!([]));
    assert_eq!(heard.header("x-cardea-principal"), Some("Anonymous"));
    let removed = &heard.passed().headers_to_remove;
    assert!(removed.iter().any(|name| name == "x-cardea-subject"));
}

#[test]
fn a_forbid_passes_only_where_its_author_calls_it_observable() {
    let world = world();
    let heard = world.get("/old/says");
    assert_observed(&heard, 403.0, "quarantined", &json!(["says"]));
    assert_eq!(heard.metadata("severity"), "low");
    // A guardrail of the shipped bundle holds.
    let heard = world.ask(Ask::new("POST", "/old/things"));
    heard.assert_refused(401, "credential_missing");
    assert_eq!(
        heard.metadata("policies"),
        json!(["anonymous-never-writes"])
    );
}

#[test]
fn every_error_is_denied_on_an_observed_route_too() {
    let world = world();
    let good = world.key.token();
    let list = || Ask::get("/old/things").bearer(&good);
    assert_observed(&world.ask(list()), 403.0, "not_permitted", &json!([]));
    let path = |path: &str| Ask::get(path).bearer(&good);
    let forged = Key::es256("k1").token();
    let large = "x".repeat(2 * 1024 * 1024);
    for (ask, http, reason) in [
        (path("/old/../old/things"), 400, "ambiguous_path"),
        (path("/old//things"), 400, "ambiguous_path"),
        (path("/old/things?q=1&q=2"), 400, "repeated_parameter"),
        (list().host("a b"), 400, "ambiguous_host"),
        (list().body(&large), 400, "malformed_request"),
        (Ask::new("TRACE", "/old/things"), 400, "unknown_method"),
        (
            list().header("authorization", &format!("Bearer {good}, Bearer {good}")),
            400,
            "ambiguous_credential",
        ),
        (
            Ask::get("/old/things").bearer(&forged),
            401,
            "credential_invalid",
        ),
        (
            list().header("authorization", "Basic YTpi"),
            401,
            "credential_invalid",
        ),
        (path("/old/errs"), 403, "policy_error"),
        // The operation's own word outranks its document's.
        (path("/old/things/7"), 403, "not_permitted"),
        // What nobody described, nobody marked.
        (path("/old/others"), 403, "forbidden"),
        (
            Ask::new("DELETE", "/old/things").bearer(&good),
            403,
            "forbidden",
        ),
    ] {
        let target = format!("{:?}", ask.check.attributes.as_ref().unwrap().request);
        let heard = world.ask(ask);
        assert_eq!(
            (heard.http(), &*heard.reason()),
            (http, reason),
            "{target:.300}"
        );
        let fields = &heard.response.dynamic_metadata.as_ref().unwrap().fields;
        assert!(!fields.contains_key("observed") && !fields.contains_key("would_be"));
    }
}

#[test]
fn keys_that_cannot_be_had_are_a_denial_on_an_observed_route_too() {
    let world = World::with(|setup| {
        observed(setup);
        setup.first_issuer()["required"] = false.into();
        let trouble = crate::issuer::Reply::Status(500);
        setup.issuer.reply("/jwks", trouble);
    });
    world
        .get("/old/things")
        .assert_refused(503, "keys_unavailable");
    // Whoever presents nothing needs no keys.
    let heard = world.ask(Ask::get("/old/things"));
    assert_observed(&heard, 401.0, "credential_missing", &json!([]));
}

#[test]
fn nothing_that_envoy_sends_makes_a_route_an_observed_one() {
    let world = world();
    let mut ask = Ask::get("/v1/orders").header("x-cardea-observe", "true");
    for key in ["observe", "cardea.observe", "x-cardea.observe"] {
        let extensions = &mut ask.attributes().context_extensions;
        extensions.insert(key.to_owned(), "true".to_owned());
    }
    world.ask(ask).assert_refused(401, "credential_missing");
}

#[test]
fn what_would_have_been_is_counted_and_what_is_observed_is_a_figure() {
    let world = world();
    world.get("/old/things").passed();
    world.get("/v1/orders").passed();
    let metrics = world.metrics();
    let assert_is = |expected: f64, name: &str, labels: &[&str]| {
        let sum = metrics.sum(name, labels);
        assert!((sum - expected).abs() < 0.1, "{name} {labels:?}: {sum}");
    };
    let who = [r#"operation="old.list""#, r#"reason="not_permitted""#];
    assert_is(1.0, "cardea_observed_total", &who);
    assert_is(1.0, "cardea_observed_total", &[]);
    let how = [r#"verdict="allow""#, r#"reason="observed""#];
    assert_is(1.0, "cardea_decisions_total", &how);
    assert_is(4.0, "cardea_observed_operations", &[]);
    let nothing = World::new();
    let text = nothing.metrics().0;
    assert!(
        text.lines()
            .any(|line| line == "cardea_observed_operations 0"),
        "{text}"
    );
}

#[test]
fn the_log_names_what_is_observed_at_the_start_and_what_would_have_been() {
    let mut setup = Setup::new();
    observed(&mut setup);
    setup.settings["telemetry"]["log"]["decisions"] = "denied".into();
    let child = Child::serve(&setup.settings, &[]);
    let log = child.log();
    let named = log.iter().find(|line| line["count"] == 4);
    let named = named.unwrap_or_else(|| panic!("{log:?}"));
    assert_eq!(named["level"], "WARN");
    assert_eq!(named["operations"], "old.list old.create old.says old.errs");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let heard = runtime.block_on(async {
        let url = format!("http://{}", child.check);
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        let client = AuthorizationClient::new(channel);
        Ask::get("/old/things").send(client).await
    });
    assert_observed(&heard, 401.0, "credential_missing", &json!([]));
    eventually("its line is written", || {
        let log = child.log();
        let mut lines = log
            .iter()
            .filter(|line| line["target"] == "cardea::decision");
        lines.any(|line| {
            line["decision"] == heard.metadata("decision")
                && line["message"] == "observed"
                && line["would_be"] == "credential_missing"
                && line["operation"] == "old.list"
        })
    });
}

#[test]
fn a_reload_ends_the_observation() {
    let world = world();
    world.get("/old/things").passed();
    world.write(
        "apis/old.yaml",
        &OBSERVED.replace("observe: true", "observe: false"),
    );
    eventually("the route is closed", || {
        !world.get("/old/things").allowed()
    });
    world
        .get("/old/things")
        .assert_refused(403, "not_permitted");
}

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde_json::json;

use super::*;
use crate::context::{self, Context};
use crate::envoy::request::{self, Call, RequestSettings};
use crate::envoy::response;
use crate::identity::ClaimReader;
use crate::model::{AccessRequest, Decision, ManualClock, PathRules, PrincipalKind};
use crate::pipeline::trial::USUAL_TIME;

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    Snapshot::load(&folder, &ManualClock::at(USUAL_TIME)).unwrap()
});

fn read_as(text: &str, form: Option<Form>) -> Result<Asking, Problem> {
    let staging = Staging {
        paths: PathRules::default(),
        context: Context::new(&context::Settings::default()).unwrap(),
        claims: ClaimReader::default(),
        status: response::http_status,
        clock: Arc::new(ManualClock::at(USUAL_TIME)),
    };
    let reader = Reader {
        snapshot: &SNAPSHOT,
        staging: &staging,
        now: USUAL_TIME,
    };
    reader.read(text.as_bytes(), form)
}

fn supposed(document: &Value) -> Result<Supposed, String> {
    match read_as(&document.to_string(), None) {
        Ok(Asking::Supposed(supposed)) => Ok(*supposed),
        Ok(Asking::Check(_)) => Err("a check".to_owned()),
        Err(problem) => Err(problem.to_string()),
    }
}

fn decide(document: &Value) -> Decision {
    SNAPSHOT.rehearse(supposed(document).unwrap())
}

/// An evaluation that is allowed, with some members replaced.
fn evaluation(change: &Value) -> Value {
    let mut evaluation = json!({
        "subject": {
            "type": "user", "id": "https://login.example.com|alice",
            "properties": {
                "roles": ["order-viewer"], "scopes": ["orders:read", "orders:write"],
                "audience": "https://api.example.com", "tenant": "acme",
            },
        },
        "action": { "name": "orders.getOrder" },
        "resource": { "type": "order", "id": "1001" },
    });
    for (name, value) in change.as_object().unwrap() {
        evaluation[name] = value.clone();
    }
    evaluation
}

#[test]
fn an_evaluation_names_an_operation_and_its_object() {
    let decision = decide(&evaluation(&json!({})));
    assert_eq!(
        (decision.verdict(), decision.operation()),
        ("allow", "orders.getOrder")
    );
    let caller = decision
        .trail
        .caller
        .as_ref()
        .unwrap()
        .attributes()
        .unwrap();
    assert_eq!(
        (&*caller.issuer, caller.subject.as_str()),
        ("https://login.example.com", "alice")
    );
    assert_eq!(
        decision.trail.matched.unwrap().object_id().as_deref(),
        Some("1001")
    );
}

#[test]
fn an_evaluation_names_a_method_and_a_path() {
    for resource in [
        json!({ "type": "path", "id": "/v1/orders/1001" }),
        json!({ "type": "path", "id": "/v1/orders/1001", "properties": { "host": "api.example.com" } }),
        json!({ "type": "order", "id": "1001", "properties": { "path": "/v1/orders/1001?x=y" } }),
        json!({ "type": "order", "id": "1001", "properties": { "url": "https://api.example.com/v1/orders/1001" } }),
    ] {
        let document = evaluation(&json!({ "action": { "name": "GET" }, "resource": resource }));
        let decision = decide(&document);
        assert_eq!(
            (decision.verdict(), decision.operation()),
            ("allow", "orders.getOrder"),
            "{document}"
        );
    }
}

#[test]
fn path_parameters_are_data_and_never_change_the_path() {
    for (id, path) in [
        ("a b", "/v1/users/a%20b"),
        ("\u{e4}", "/v1/users/%C3%A4"),
        ("a?b=c&d", "/v1/users/a%3Fb=c&d"),
    ] {
        let document = evaluation(&json!({
            "action": { "name": "profiles.getProfile" },
            "resource": { "type": "profile", "id": id },
        }));
        let request = supposed(&document).unwrap().request.unwrap();
        assert_eq!(
            (request.path.as_str(), request.query.pairs().len()),
            (path, 0)
        );
    }
    // A slash within a segment has two readings, and is refused like that of a request.
    for (id, reason) in [("a%2Fb", "ambiguous_path"), ("..", "ambiguous_path")] {
        let document = evaluation(&json!({
            "action": { "name": "profiles.getProfile" },
            "resource": { "type": "profile", "id": id },
        }));
        assert_eq!(decide(&document).reason_code(), reason, "{id}");
    }
    let document = evaluation(&json!({
        "action": { "name": "profiles.getProfile" },
        "resource": { "type": "profile", "id": "label", "properties": { "params": { "userId": "alice" } } },
    }));
    let error = supposed(&document).unwrap_err();
    assert!(error.contains("names another"), "{error}");
}

#[test]
fn every_type_of_subject_is_known() {
    for (kind, expected) in [
        ("user", PrincipalKind::User),
        ("client", PrincipalKind::Client),
        ("workload", PrincipalKind::Workload),
        ("agent", PrincipalKind::Agent),
    ] {
        let document = evaluation(&json!({ "subject": { "type": kind, "id": "x" } }));
        let caller = supposed(&document).unwrap().caller.unwrap();
        assert_eq!((caller.kind, caller.subject.as_str()), (expected, "x"));
        assert_eq!(&*caller.issuer, "https://issuer.test");
    }
    let anonymous = json!({ "subject": { "type": "anonymous", "id": "-" } });
    assert_eq!(
        decide(&evaluation(&anonymous)).reason_code(),
        "credential_missing"
    );
    let named =
        json!({ "subject": { "type": "user", "id": "a|b", "properties": { "issuer": "i" } } });
    let caller = supposed(&evaluation(&named)).unwrap().caller.unwrap();
    assert_eq!((&*caller.issuer, caller.subject.as_str()), ("i", "a|b"));
}

#[test]
fn the_context_of_an_evaluation_is_what_policies_read() {
    let document = evaluation(&json!({
        "action": { "name": "orders.createOrder" },
        "resource": { "type": "collection", "id": "orders" },
        "context": {
            "time": "2026-03-01T10:00:00Z", "ip": "192.0.2.7", "mutual_tls": true, "sni": "api.example.com",
            "headers": { "content-type": "application/grpc" }, "body": { "items": [] },
            "device": { "managed": true }, "geo": { "country": "DE" }, "network": { "ipTrusted": true },
            "risk": { "score": 61 }, "signals": { "newOperation": true },
            "delegation": { "humanApproved": true }, "emergency": { "ticket": "T" },
        },
    }));
    let supposed = supposed(&document).unwrap();
    let facts = &supposed.facts;
    assert_eq!(supposed.arrival.at, "2026-03-01T10:00:00Z".parse().unwrap());
    assert_eq!(facts.network.ip, Some([192, 0, 2, 7].into()));
    assert!(
        facts.tls.mutual
            && facts.device.managed
            && facts.network.ip_trusted
            && facts.signals.new_operation
    );
    assert_eq!((facts.risk.score, facts.geo.country.as_str()), (61, "DE"));
    assert!(facts.delegation.is_some() && facts.emergency.is_some() && supposed.arrival.grpc);
    assert_eq!(supposed.request.unwrap().body.bytes, br#"{"items":[]}"#);
}

#[test]
fn what_an_evaluation_cannot_mean_is_an_error_and_never_passed_over() {
    for (change, expected) in [
        (
            json!({ "subject": { "type": "robot", "id": "a" } }),
            "unknown variant `robot`",
        ),
        (
            json!({ "subject": { "type": "user", "id": "" } }),
            "`subject.id` is empty",
        ),
        (
            json!({ "subject": { "type": "user", "id": "a", "properties": { "role": "x" } } }),
            "unknown field `role`",
        ),
        (
            json!({ "subject": { "type": "user", "id": "a", "properties": { "subject": "b" } } }),
            "stand in `type` and `id`",
        ),
        (
            json!({ "subject": { "type": "anonymous", "id": "a", "properties": { "roles": "x" } } }),
            "no properties",
        ),
        (
            json!({ "action": { "name": "can_read" } }),
            "neither an operation",
        ),
        (
            json!({ "action": { "name": "get" } }),
            "neither an operation",
        ),
        (
            json!({ "action": { "name": "GET", "properties": { "soft": true } } }),
            "unknown field `soft`",
        ),
        (
            json!({ "action": { "name": "http:GET" } }),
            "is no path of its own",
        ),
        (
            json!({ "context": { "weather": "fine" } }),
            "unknown field `weather`",
        ),
        (
            json!({ "context": { "risk": { "scores": 1 } } }),
            "unknown field `scores`",
        ),
        (json!({ "context": { "time": "noon" } }), "not an instant"),
        (json!({ "options": {} }), "unknown field `options`"),
        (json!({ "evaluations": [] }), "unknown field `evaluations`"),
    ] {
        let error = supposed(&evaluation(&change)).unwrap_err();
        assert!(error.contains(expected), "{change}: {error}");
    }
}

#[test]
fn a_resource_that_is_not_what_the_action_acts_on_is_an_error() {
    let params = |params: Value| json!({ "resource": { "type": "t", "id": "1001", "properties": { "params": params } } });
    for (change, expected) in [
        (
            params(json!({ "orderNo": "1" })),
            "no path parameter `orderNo`",
        ),
        (params(json!({ "orderId": ["1", "2"] })), "needs one value"),
        (params(json!({ "orderId": "1002" })), "names another"),
        (
            json!({ "resource": { "type": "t", "id": "1/2" } }),
            "`orderId` is missing",
        ),
        (
            json!({ "resource": { "type": "t", "id": "1002", "properties": { "path": "/v1/orders/1001" } } }),
            "acts on the object `1001`",
        ),
        (
            json!({ "resource": { "type": "t", "id": "x", "properties": { "path": "/v1/orders" } } }),
            "would be the operation `orders.listOrders`",
        ),
        (
            json!({ "resource": { "type": "t", "id": "1", "properties": { "path": "/v1/orders/1", "params": { "orderId": "1" } } } }),
            "one of them is enough",
        ),
        (
            json!({ "action": { "name": "GET" }, "resource": { "type": "t", "id": "1", "properties": { "params": { "a": "1" } } } }),
            "needs an operation",
        ),
        (
            json!({ "resource": { "type": "t", "id": "1", "properties": { "path": "/v1/orders/1", "url": "https://a/b" } } }),
            "stands in place of",
        ),
    ] {
        let error = supposed(&evaluation(&change)).unwrap_err();
        assert!(error.contains(expected), "{change}: {error}");
    }
}

/// A check as Envoy would send it, in the names of the JSON form.
fn check() -> Value {
    json!({ "attributes": {
        "source": {
            "address": { "socketAddress": { "protocol": "TCP", "address": "192.0.2.7", "portValue": 4711 } },
            "principal": "spiffe://a/b",
        },
        "destination": { "address": { "pipe": { "path": "/run/x", "mode": 438 } } },
        "request": {
            "time": "2026-01-05T12:00:00.25Z",
            "http": {
                "id": "17", "method": "POST", "path": "/v1/orders?x=1", "host": "api.example.com", "scheme": "https",
                "protocol": "HTTP/2", "size": "4", "rawBody": "_v8_",
                "headerMap": { "headers": [
                    { "key": "x-a", "rawValue": "MQ==" }, { "key": "x-a", "value": "2" },
                ] },
            },
        },
        "contextExtensions": { "team": "shop" },
        "metadataContext": { "filterMetadata": { "f": { "n": 1, "l": [true, null, "s"] } }, "typedFilterMetadata": {} },
        "routeMetadataContext": null,
        "tlsSession": { "sni": "API.example.com" },
    } })
}

fn asked(text: &str) -> AccessRequest {
    let Asking::Check(check) = read_as(text, None).unwrap() else {
        panic!("no check");
    };
    let call = Call::read(&http::HeaderMap::new(), &ManualClock::at(USUAL_TIME));
    let asked = request::read(*check, call, &RequestSettings::default());
    asked.request.unwrap()
}

/// The proto's own names in place of those of the JSON form.
fn original_names(text: &str) -> String {
    [
        ("socketAddress", "socket_address"),
        ("portValue", "port_value"),
        ("rawBody", "raw_body"),
        ("headerMap", "header_map"),
        ("rawValue", "raw_value"),
        ("contextExtensions", "context_extensions"),
        ("routeMetadataContext", "route_metadata_context"),
        ("metadataContext", "metadata_context"),
        ("typedFilterMetadata", "typed_filter_metadata"),
        ("filterMetadata", "filter_metadata"),
        ("tlsSession", "tls_session"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (json, proto)| {
        text.replace(json, proto)
    })
}

#[test]
fn a_check_is_read_in_both_namings() {
    let json = check().to_string();
    let original = original_names(&json);
    assert_ne!(json, original);
    for text in [json, original] {
        let request = asked(&text);
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("POST", "/v1/orders")
        );
        assert_eq!(
            (request.host.as_str(), request.id.as_str()),
            ("api.example.com", "17")
        );
        assert_eq!(request.body.bytes, [0xfe, 0xff, 0x3f]);
        assert!(request.body.truncated, "four bytes were announced");
        assert_eq!(
            request.headers.values("x-a").collect::<Vec<_>>(),
            [b"1", b"2"]
        );
        assert_eq!(request.peer.address.unwrap().to_string(), "192.0.2.7:4711");
        assert_eq!(request.peer.principal.as_deref(), Some("spiffe://a/b"));
        assert_eq!(request.context_extensions["team"], "shop");
        assert_eq!(
            request.metadata["f"],
            json!({ "n": 1.0, "l": [true, null, "s"] })
        );
        assert_eq!(request.sni.as_deref(), Some("api.example.com"));
    }
}

#[test]
fn a_check_without_members_is_refused_as_a_request_and_is_no_error() {
    for text in ["{}", r#"{"attributes":null}"#, r#"{"attributes":{}}"#] {
        let Asking::Check(check) = read_as(text, Some(Form::Envoy)).unwrap() else {
            panic!("no check");
        };
        let call = Call::read(&http::HeaderMap::new(), &ManualClock::at(USUAL_TIME));
        let asked = request::read(*check, call, &RequestSettings::default());
        assert!(asked.request.is_err(), "{text}");
    }
}

#[test]
fn what_no_protobuf_json_may_hold_is_an_error() {
    let http =
        |members: &str| format!(r#"{{"attributes":{{"request":{{"http":{{{members}}}}}}}}}"#);
    let source =
        |members: &str| format!(r#"{{"attributes":{{"source":{{"address":{{{members}}}}}}}}}"#);
    for (text, expected) in [
        (http(r#""metod":"GET""#), "unknown field `metod`"),
        (http(r#""rawBody":"a*b""#), "not base64"),
        (http(r#""rawBody":"AB=C""#), "not base64"),
        (http(r#""rawBody":"","raw_body":"""#), "duplicate field"),
        (http(r#""size":"ten""#), "a whole number"),
        (http(r#""size":1.5"#), "a whole number"),
        (http(r#""method":7"#), "expected a string"),
        (http(r#""headers":{"a":1}"#), "expected a string"),
        (
            r#"{"attributes":{"request":{"time":"noon"}}}"#.to_owned(),
            "not an instant",
        ),
        (
            source(r#""socketAddress":{},"pipe":{}"#),
            "both `socketAddress` and `pipe`",
        ),
        (
            source(r#""socketAddress":{"portValue":1,"namedPort":"a"}"#),
            "both `portValue` and `namedPort`",
        ),
        (
            source(r#""socketAddress":{"portValue":-1}"#),
            "out of range",
        ),
    ] {
        let problem = read_as(&text, None).unwrap_err();
        assert!(problem.message.contains(expected), "{text}: {problem}");
    }
}

#[test]
fn members_tell_the_form_and_two_forms_are_none() {
    for (text, expected) in [
        ("{}", "no request"),
        (r#"{"foo":1}"#, "no request"),
        (r#"{"attributes":{},"request":{}}"#, "two forms"),
        (r#"{"subject":{},"caller":{}}"#, "two forms"),
        ("[]", "not an object"),
        ("", "the text ends too early"),
        ("{\"request\":", "the text ends too early"),
        ("{\"request\":{}} x", "not JSON"),
        (
            r#"{"caller":"anonymous","caller":"anonymous"}"#,
            "occurs twice",
        ),
        (
            r#"{"token":{"roles":["a"],"roles":["b"]},"request":{"path":"/"}}"#,
            "occurs twice",
        ),
    ] {
        let problem = read_as(text, None).unwrap_err();
        assert!(problem.message.contains(expected), "{text}: {problem}");
    }
    let deep = format!(
        r#"{{"request":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        read_as(&deep, None).unwrap_err().message,
        "nested more than 127 levels deep"
    );
}

#[test]
fn a_case_is_read_alone_or_with_what_stands_around_it() {
    let given =
        json!({ "caller": "anonymous", "request": { "url": "https://api.example.com/v1/status" } });
    assert!(decide(&given).allowed());
    let whole = json!({ "name": "n", "given": given, "expect": { "verdict": "deny" } });
    assert!(decide(&whole).allowed(), "what is expected plays no part");
    let error = supposed(&json!({ "given": given, "request": {} })).unwrap_err();
    assert!(error.contains("unknown field `request`"), "{error}");
    let problem = read_as(r#"{ "request": { "pth": "/" } }"#, None).unwrap_err();
    assert_eq!(problem.at, Some((1, 20)), "{problem}");
    let forced = read_as(&given.to_string(), Some(Form::Authzen)).unwrap_err();
    assert!(
        forced.message.contains("unknown field `caller`"),
        "{forced}"
    );
}

#[test]
fn an_answer_says_what_the_caller_would_meet() {
    let risky = evaluation(&json!({
        "subject": { "type": "user", "id": "a", "properties": { "roles": "order-editor", "scopes": "orders:write" } },
        "action": { "name": "orders.createOrder" }, "resource": { "type": "t", "id": "x" },
        "context": { "risk": { "score": 99 }, "headers": { "content-type": "application/grpc+proto" } },
    }));
    let answer = serde_json::to_value(Answer::of(&decide(&risky))).unwrap();
    let expected = json!({
        "verdict": "deny", "decision": false, "status": 401, "grpc_status": 16, "reason": "step_up_required",
        "detail": "a policy forbids this", "policies": ["step-up-on-risk"], "errors": [],
        "operation": "orders.createOrder", "snapshot": SNAPSHOT.id.as_str(),
        "step_up": { "acr_values": ["urn:cardea:strong"], "max_age": 300 },
    });
    assert_eq!(answer, expected);
    let answer = serde_json::to_value(Answer::of(&decide(&evaluation(&json!({}))))).unwrap();
    assert_eq!(
        (&answer["decision"], &answer["status"]),
        (&json!(true), &json!(200))
    );
    assert!(answer.get("step_up").is_none() && answer.get("grpc_status").is_none());
}

#[test]
fn a_line_that_is_no_request_is_denied() {
    let problem = Problem::new("what").at(1, 7).hint("do");
    let value = serde_json::to_value(NoRequest::of(3, problem)).unwrap();
    let expected = json!({
        "verdict": "deny", "decision": false,
        "error": { "line": 3, "column": 7, "message": "what", "hint": "do" },
    });
    assert_eq!(value, expected);
}

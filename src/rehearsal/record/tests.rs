use std::path::Path;
use std::sync::{Arc, LazyLock};

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::*;
use crate::context::{self, Context};
use crate::identity::{ClaimReader, FreshKey};
use crate::model::{ManualClock, PathRules};
use crate::pipeline::Snapshot;
use crate::pipeline::trial::{Staging, USUAL_TIME};
use crate::rehearsal::{Asking, Reader};

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    Snapshot::load(&folder, &ManualClock::at(USUAL_TIME)).unwrap()
});

fn decide(document: &Value) -> Decision {
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
    match reader.read(document.to_string().as_bytes(), None).unwrap() {
        Asking::Supposed(supposed) => SNAPSHOT.rehearse(*supposed),
        Asking::Check(_) => panic!("a check"),
    }
}

/// A case with everything in it that a record could keep or must not.
fn everything() -> Value {
    json!({
        "caller": {
            "issuer": "https://login.example.com", "subject": "alice", "roles": ["order-editor"], "groups": ["g"],
            "scopes": "orders:read orders:write", "audience": "https://api.example.com", "tenant": "acme", "acr": "gold",
            "amr": ["hwk"], "assurance": 1, "mfa": true, "auth_time": "2026-01-05T11:00:00Z", "client_id": "web",
            "sender_constrained": true,
            "claims": { "department": ["sales"], "session_token": ["s3cret-1"] },
        },
        "request": {
            "method": "POST", "path": "/v1/orders?limit=1&access_token=s3cret-2", "host": "api.example.com",
            "headers": { "authorization": "Bearer s3cret-3", "cookie": "a=s3cret-4", "x-api-key": "s3cret-5" },
            "body": "s3cret-6", "client_address": "192.0.2.7", "mutual_tls": "spiffe://a/b", "sni": "api.example.com",
        },
        "device": { "known": true, "managed": true, "id": "d" },
        "geo": { "country": "DE" }, "signals": { "distinct_objects": 7 },
        "delegation": { "depth": 2, "purpose": "p" }, "emergency": { "ticket": "INC-1" },
        "risk": { "score": 80, "level": "high", "reasons": ["r"], "model": "m" },
    })
}

fn read(text: &[u8]) -> Record {
    Record::read(text.strip_suffix(b"\n").unwrap()).unwrap()
}

#[test]
fn a_record_holds_what_was_decided_and_no_secret() {
    let decision = decide(&everything());
    let line = Record::of(&decision).line().unwrap();
    let text = String::from_utf8(line.clone()).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    assert_eq!(text.matches('\n').count(), 1);
    let value: Value = serde_json::from_str(&text).unwrap();
    for (member, expected) in [
        ("/version", json!(1)),
        ("/id", json!(decision.trail.id.to_string())),
        ("/time", json!("2026-01-05T12:00:00Z")),
        ("/verdict", json!("deny")),
        ("/status", json!(401)),
        ("/reason", json!("step_up_required")),
        ("/policies", json!(["step-up-on-risk"])),
        (
            "/step_up",
            json!({ "acr_values": ["urn:cardea:strong"], "max_age": 300 }),
        ),
        ("/operation", json!("orders.createOrder")),
        ("/snapshot", json!(SNAPSHOT.id.as_str())),
        ("/request/path", json!("/v1/orders")),
        ("/request/query", json!(["limit", "access_token"])),
        ("/request/body_bytes", json!(8)),
        ("/caller/kind", json!("user")),
        ("/caller/sender_constrained", json!(true)),
        ("/caller/mfa", json!(true)),
        ("/caller/claims/department", json!(["sales"])),
        ("/caller/claims/session_token", json!(["masked"])),
        ("/facts/risk/score", json!(80)),
        ("/facts/time/weekday", json!(1)),
        ("/facts/time/local_time", json!("PT12H")),
    ] {
        assert_eq!(value.pointer(member), Some(&expected), "{member}");
    }
}

#[test]
fn a_credential_is_masked_wherever_its_form_gives_it_away() {
    let key = FreshKey::generate("acme_live").unwrap();
    let key = key.text.expose_secret();
    let token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.AAAA";
    let decision = decide(&json!({
        "caller": { "subject": "alice", "claims": { "note": [key, "plain"] } },
        "request": { "path": format!("/v1/orders/{key}?{token}&limit=1&{key}"), "host": "api.example.com" },
    }));
    let line = Record::of(&decision).line().unwrap();
    let text = String::from_utf8(line.clone()).unwrap();
    assert!(!text.contains(key) && !text.contains(token), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    for (member, expected) in [
        ("/request/path", json!("/v1/orders/masked")),
        ("/request/query", json!(["masked", "limit", "masked"])),
        ("/caller/claims/note", json!(["masked", "plain"])),
    ] {
        assert_eq!(value.pointer(member), Some(&expected), "{member}");
    }
    // What is masked is still a request.
    let clock = ManualClock::at(USUAL_TIME);
    assert!(read(&line).supposed(&clock).is_ok());
}

#[test]
fn the_controls_of_the_policies_that_decided_are_in_the_record_and_in_the_answer() {
    let decision = decide(&json!({ "caller": "anonymous", "request": { "path": "/nowhere" } }));
    let controls = json!(["NIST SP 800-228 REC-API-1"]);
    let line = Record::of(&decision).line().unwrap();
    let record: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(record["controls"], controls);
    assert_eq!(read(&line).controls.len(), 1);
    let answer = serde_json::to_value(crate::rehearsal::Answer::of(&decision)).unwrap();
    assert_eq!(answer["controls"], controls);
    // Without any the member is absent, as in records from before there was one.
    let plain = decide(&json!({ "caller": "anonymous", "request": { "path": "/v1/status" } }));
    let line = Record::of(&plain).line().unwrap();
    assert!(
        !String::from_utf8(line.clone())
            .unwrap()
            .contains("controls")
    );
    assert!(read(&line).controls.is_empty());
}

#[test]
fn a_record_is_judged_as_its_request_was() {
    let anonymous = json!({ "caller": "anonymous", "request": { "path": "/v1/status" } });
    let agent = json!({
        "token": { "sub": "alice", "scope": "orders:read", "roles": ["order-viewer"], "act": { "sub": "bot" } },
        "request": { "path": "/v1/orders", "host": "api.example.com" },
    });
    let account = json!({
        "caller": { "service_account": "shop/web", "mfa": false }, "request": { "path": "/v1/orders" },
    });
    for case in [everything(), anonymous, agent, account] {
        let first = decide(&case);
        let caller = first.trail.caller.as_ref().unwrap().attributes();
        let behalf = caller.is_some_and(|caller| caller.on_behalf.is_some());
        assert_eq!(behalf, case.get("token").is_some());
        let line = Record::of(&first).line().unwrap();
        let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
        let again = SNAPSHOT.rehearse(read(&line).supposed(&clock).unwrap());
        assert_eq!(again.reason_code(), first.reason_code());
        assert_eq!(again.trail.determining, first.trail.determining);
        // What is read again and written again is the same, but for the id.
        let mut second = Record::of(&again);
        second.id = first.trail.id.to_string();
        let second: Value = serde_json::from_slice(&second.line().unwrap()).unwrap();
        let first: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(first, second);
    }
}

#[test]
fn a_request_that_was_refused_before_it_was_judged_cannot_be_judged_again() {
    let decision =
        decide(&json!({ "caller": "anonymous", "request": { "path": "/v1/../status" } }));
    let record = read(&Record::of(&decision).line().unwrap());
    assert_eq!(
        (record.reason.as_str(), record.operation.as_str()),
        ("ambiguous_path", "unread")
    );
    let clock = ManualClock::at(USUAL_TIME);
    assert_eq!(
        record.supposed(&clock).unwrap_err(),
        "the record does not say what was asked"
    );
}

#[test]
fn what_is_no_record_is_refused_with_what_is_wrong() {
    let good = Record::of(&decide(&everything())).line().unwrap();
    let good: Value = serde_json::from_slice(&good).unwrap();
    let without = |member: &str| {
        let mut changed = good.clone();
        changed.as_object_mut().unwrap().remove(member);
        changed
    };
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let mut unknown = good.clone();
    unknown["facts"]["device"]["colour"] = json!("red");
    for (value, expected) in [
        (without("version"), "it has no `version`"),
        (with("/version", json!(2)), "another version than 1"),
        (without("id"), "missing field `id`"),
        (with("/id", json!("x")), "`id` is no UUID"),
        (without("policies"), "missing field `policies`"),
        (with("/verdict", json!("maybe")), "unknown variant"),
        (unknown, "unknown field `colour`"),
        (with("/caller", json!("s3cret")), "expected `anonymous`"),
        (
            with("/facts/time/now", json!("noon")),
            "four digit integer as year",
        ),
    ] {
        let problem = Record::read(value.to_string().as_bytes()).unwrap_err();
        let text = problem.to_string();
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    let clock = ManualClock::at(USUAL_TIME);
    for (pointer, value, expected) in [
        ("/request/method", "get", "method is none"),
        ("/request/host", "a b", "host is none"),
        ("/request/path", "/a/../b", "path is none"),
        ("/request/scheme", "ftp", "scheme is none"),
        ("/caller/scheme", "Bearer JWT", "`scheme` is none"),
    ] {
        let record = Record::read(with(pointer, json!(value)).to_string().as_bytes()).unwrap();
        let wrong = record.supposed(&clock).unwrap_err();
        assert!(wrong.contains(expected), "{wrong}");
    }
}

#[test]
fn debug_of_a_record_shows_no_claim() {
    let record = Record::of(&decide(&everything()));
    assert!(!format!("{record:?}").contains("sales"));
}

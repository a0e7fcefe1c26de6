//! What operators see in Envoy: its access log, and one trace through both.

use cardea::model::TraceParent;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use crate::client::Ask;
use crate::house::house;

#[test]
fn the_access_log_tells_of_an_allowance() {
    let heard = Ask::get("/v1/orders/1001").user("alice").at("blessed");
    let line = heard.line();
    assert_eq!(line["status"], 200);
    let authz = &line["authz"];
    assert_eq!(authz["verdict"], "allow");
    assert_eq!(authz["reason"], "permitted");
    assert_eq!(authz["operation"], "orders.getOrder");
    assert_eq!(authz["policies"], json!(["orders-read-by-role"]));
    assert_eq!(
        authz["principal"],
        "User::\"https://login.example.com|alice\""
    );
    assert!(authz["snapshot"].is_string());
}

#[test]
fn the_access_log_tells_of_a_denial() {
    let heard = Ask::get("/v1/users/bob").user("alice").at("blessed");
    heard.assert_refused(403, "forbidden");
    let line = heard.line();
    assert_eq!(line["status"], 403);
    assert_eq!(line["details"], "ext_authz_denied");
    assert_eq!(line["flags"], "UAEX");
    let authz = &line["authz"];
    assert_eq!(authz["verdict"], "deny");
    assert_eq!(authz["policies"], json!(["profile-of-others"]));
    assert_eq!(authz["decision"], heard.json()["decision"]);
}

#[test]
fn a3_no_token_is_in_the_access_log_or_at_the_collector_and_no_query_in_what_cardea_sends() {
    let token = house().issuer.token("alice");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    let trace = TraceParent::parse(parent, "").unwrap().trace_id;
    let heard = Ask::get("/v1/orders?cursor=s3cret")
        .bearer(&token)
        .header("traceparent", parent)
        .at("traced");
    let line = heard.line().to_string();
    let own = house().wait_for("Cardea's span", || {
        let spans = house().collector.spans_of(&trace);
        spans.into_iter().find(is_cardeas)
    });
    let own = format!("{own:?}");
    for text in [&line, &own] {
        assert!(text.contains("alice"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    // Envoy's own spans hold the query, as its operators may know.
    let all = house().collector.heard() + &line;
    assert!(token.split('.').all(|part| !all.contains(part)));
}

#[test]
fn cardeas_span_is_a_child_of_envoys_own_client_span() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = TraceParent::parse(parent, "").unwrap().trace_id;
    let ask = Ask::get("/v1/users/bob")
        .user("alice")
        .header("traceparent", parent);
    ask.at("traced").assert_refused(403, "forbidden");
    let (own, above) = house().wait_for("the spans of both", || {
        let spans = house().collector.spans_of(&trace);
        let own = spans.iter().find(|span| is_cardeas(span))?.clone();
        let above = spans
            .into_iter()
            .find(|span| span.span_id == own.parent_span_id)?;
        Some((own, above))
    });
    assert_eq!(own.kind, SpanKind::Server as i32);
    assert_eq!(above.kind, SpanKind::Client as i32);
    assert!(above.name.contains("Authorization.Check"), "{}", above.name);
    assert_ne!(
        own.parent_span_id,
        [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]
    );
}

fn is_cardeas(span: &Span) -> bool {
    span.attributes
        .iter()
        .any(|attribute| attribute.key == "cardea.decision.id")
}

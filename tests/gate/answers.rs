//! What callers, upstreams and Envoy hear: every verdict in full.

use serde_json::{Value, json};

use crate::world::{Ask, World};

/// Rules that give every answer a policy can choose, told apart by host.
const EVERY_ANSWER: &str = r#"
@id("any") permit (principal, action, resource) when { context.request.host like "*.any" };
@id("hidden") @on_deny("not_found") forbid (principal, action, resource) when { context.request.host == "hidden.any" };
@id("slow") @on_deny("slow_down") forbid (principal, action, resource) when { context.request.host == "slow.any" };
@id("set-apart") @on_deny("quarantine:15m") forbid (principal, action, resource) when { context.request.host == "apart.any" };
@id("approve") @on_deny("human_approval") forbid (principal, action, resource) when { context.request.host == "approve.any" };
@id("contract") @on_deny("bad_request") forbid (principal, action, resource) when { context.request.host == "contract.any" };
@id("gone") @on_deny("gone") forbid (principal, action, resource) when { context.request.host == "gone.any" };
@id("plain") forbid (principal, action, resource) when { context.request.host == "plain.any" };
@id("stronger") @on_deny("step_up") @acr_values("gold silver") @max_age("300")
forbid (principal, action, resource) when { context.request.host like "strong*" && context.token.assurance < 3 };
"#;

#[test]
fn every_verdict_has_its_answer() {
    let world = World::with(|setup| setup.write("every.cedar", EVERY_ANSWER));
    let token = world.key.token();
    for (host, http, reason, policy) in [
        ("hidden.any", 404, "not_found", "hidden"),
        ("slow.any", 429, "too_many_requests", "slow"),
        ("apart.any", 403, "quarantined", "set-apart"),
        ("approve.any", 403, "approval_required", "approve"),
        ("contract.any", 400, "contract_violated", "contract"),
        ("gone.any", 410, "retired", "gone"),
        ("plain.any", 403, "forbidden", "plain"),
        ("strong.any", 401, "step_up_required", "stronger"),
    ] {
        let heard = world.ask(Ask::get("/v1/status").host(host).bearer(&token));
        heard.assert_refused(http, reason);
        assert_eq!(heard.metadata("policies"), json!([policy]));
        assert_eq!(heard.metadata("operation"), "orders.getStatus");
        assert_eq!(
            heard.metadata("principal"),
            "User::\"https://login.example.com|alice\""
        );
        assert_eq!(heard.metadata("snapshot"), world.snapshot());
    }
    let heard = world.ask(Ask::get("/v1/status").host("open.any").bearer(&token));
    heard.assert_allowed(&["any", "orders-read-by-role", "status-is-public"]);
}

#[test]
fn a_better_login_is_named_only_where_it_would_be_enough() {
    let world = World::with(|setup| {
        setup.write("every.cedar", EVERY_ANSWER);
        setup.first_issuer()["acr_levels"] = json!({ "gold": 3 });
    });
    let ask = |host: &str, claims: Value| {
        let token = world.key.token_with(claims);
        world.ask(Ask::get("/v1/orders").host(host).bearer(&token))
    };
    let heard = ask("strong.any", json!({}));
    heard.assert_refused(401, "step_up_required");
    assert_eq!(
        heard.header("www-authenticate"),
        Some(
            "Bearer realm=\"cardea\", error=\"insufficient_user_authentication\", \
             acr_values=\"gold silver\", max_age=\"300\""
        )
    );
    ask("strong.any", json!({ "acr": "gold" })).assert_allowed(&["any", "orders-read-by-role"]);
    // Nothing permits this one, so no login would help.
    ask("strong", json!({ "scope": "" })).assert_refused(403, "forbidden");
}

#[test]
fn no_credential_where_one_is_needed_is_told_without_an_error_code() {
    let world = World::new();
    let heard = world.ask(Ask::get("/v1/orders"));
    heard.assert_refused(401, "credential_missing");
    assert_eq!(
        heard.header("www-authenticate"),
        Some("Bearer realm=\"cardea\"")
    );
    assert_eq!(heard.metadata("principal"), "Anonymous");
    assert_eq!(heard.metadata("policies"), json!([]));
}

#[test]
fn an_upstream_is_told_who_asks() {
    let world = World::new();
    let token = world.key.token_with(json!({
        "sub": "al,ice é", "client_id": "app 1", "roles": ["order-editor", "order-viewer"],
    }));
    let heard = world.present(&token);
    heard.assert_allowed(&["orders-read-by-role"]);
    for (name, value) in [
        ("x-cardea-subject", "al%2Cice%20%C3%A9"),
        ("x-cardea-issuer", "https://login.example.com"),
        ("x-cardea-principal", "User"),
        ("x-cardea-client", "app%201"),
        ("x-cardea-roles", "order-editor,order-viewer"),
        ("x-cardea-scopes", "orders:read,orders:write,profile"),
        ("x-cardea-tenant", "acme"),
    ] {
        assert_eq!(heard.header(name), Some(value), "{name}");
    }
    let ok = heard.passed();
    assert_eq!(ok.headers.len(), 8);
    // 2 is OVERWRITE_IF_EXISTS_OR_ADD: a client's copy never survives beside ours.
    assert!(ok.headers.iter().all(|option| option.append_action == 2));
    assert!(
        ok.headers_to_remove.is_empty(),
        "{:?}",
        ok.headers_to_remove
    );
}

#[test]
fn an_upstream_of_an_anonymous_request_is_told_that_nobody_is_known() {
    let world = World::new();
    let heard = world.ask(Ask::get("/v1/status").header("x-cardea-subject", "root"));
    heard.assert_allowed(&["status-is-public"]);
    assert_eq!(heard.header("x-cardea-principal"), Some("Anonymous"));
    assert_eq!(heard.header("x-cardea-subject"), None);
    let removed = &heard.passed().headers_to_remove;
    for name in ["subject", "issuer", "client", "roles", "scopes", "tenant"] {
        assert!(removed.contains(&format!("x-cardea-{name}")), "{removed:?}");
    }
    assert_eq!(removed.len(), 6);
}

#[test]
fn the_credential_goes_on_or_stays_behind_as_set() {
    let kept = World::new();
    let removed = |heard: &crate::world::Heard| {
        let names = &heard.passed().headers_to_remove;
        names.iter().any(|name| name == "authorization")
    };
    assert!(!removed(&kept.get("/v1/orders")));
    let dropped = World::with(|setup| setup.settings["answer"] = json!({ "credential": "remove" }));
    assert!(removed(&dropped.get("/v1/orders")));
}

#[test]
fn identity_headers_have_the_names_that_are_set() {
    let world = World::with(|setup| {
        setup.settings["answer"] = json!({ "headers": { "subject": "X-User", "roles": null } });
    });
    let heard = world.ask(
        Ask::get("/v1/orders")
            .bearer(&world.key.token())
            .header("x-user", "root")
            .header("x_user", "root")
            .header("x-cardea-subject", "root")
            .header("x-cardea-roles", "admin"),
    );
    assert_eq!(heard.header("x-user"), Some("alice"));
    assert_eq!(heard.header("x-cardea-subject"), None);
    let mut removed = heard.passed().headers_to_remove.clone();
    removed
        .retain(|name| name.contains("user") || name.contains("subject") || name.contains("roles"));
    assert_eq!(removed, ["x-cardea-roles", "x-cardea-subject", "x_user"]);
}

#[test]
fn x1_x2_copies_and_look_alikes_that_a_client_sends_never_survive() {
    let world = World::new();
    let forged = [
        "x-cardea-user",
        "x-cardea-score",
        "x_cardea_user",
        "x_cardea_subject",
        "x-cardea_subject",
        "X_Cardea-User",
        "x-cardea-",
    ];
    let mut ask = Ask::get("/v1/orders").bearer(&world.key.token());
    for name in forged {
        ask = ask.header(name, "root");
    }
    ask = ask
        .header("x-cardea-subject", "root")
        .header("x-other", "stays");
    let heard = world.ask(ask);
    assert_eq!(heard.header("x-cardea-subject"), Some("alice"));
    let removed = &heard.passed().headers_to_remove;
    for name in forged {
        assert!(
            removed.contains(&name.to_ascii_lowercase()),
            "{name} stays: {removed:?}"
        );
    }
    // Envoy removes after it sets: what is set must not be named.
    assert!(!removed.contains(&"x-cardea-subject".to_owned()));
    assert!(!removed.contains(&"x-other".to_owned()));
}

#[test]
fn x1_identity_headers_of_a_client_are_never_read() {
    let world = World::new();
    let heard = world.ask(
        Ask::get("/v1/orders")
            .header("x-cardea-subject", "alice")
            .header("x-cardea-roles", "order-viewer")
            .header("x-cardea-principal", "User"),
    );
    heard.assert_refused(401, "credential_missing");
}

#[test]
fn x3_a_credential_that_was_stripped_on_the_way_is_missing() {
    let world = World::new();
    let heard =
        world.ask(Ask::get("/v1/orders").header("connection", "authorization, x-cardea-subject"));
    heard.assert_refused(401, "credential_missing");
}

#[test]
fn a_grpc_caller_hears_grpc() {
    let world = World::new();
    let ask = |path: &str| {
        let ask = Ask::new("POST", path).header("content-type", "application/grpc+proto");
        world.ask(ask.bearer(&world.key.token()))
    };
    let heard = ask("/v9/pkg.Svc/Method");
    assert_eq!((heard.http(), heard.grpc()), (403, 7));
    assert_eq!(heard.header("grpc-status"), Some("7"));
    assert_eq!(heard.header("content-type"), None);
    let id = heard.metadata("decision").as_str().unwrap().to_owned();
    let text = format!("a policy forbids this request (forbidden, decision {id})");
    assert_eq!(heard.denied().body, text);
    let heard = ask("/v9//x");
    assert_eq!(
        (heard.http(), heard.header("grpc-status")),
        (400, Some("3"))
    );
}

#[test]
fn a_grpc_caller_hears_which_login_would_be_enough() {
    use base64::Engine;
    use prost::Message;
    let world = World::with(|setup| setup.write("every.cedar", EVERY_ANSWER));
    let ask = Ask::get("/v1/orders").host("strong.any");
    let ask = ask.header("content-type", "application/grpc");
    let heard = world.ask(ask.bearer(&world.key.token()));
    assert_eq!((heard.http(), heard.grpc()), (401, 16));
    assert_eq!(heard.header("grpc-status"), Some("16"));
    assert_eq!(
        heard.header("www-authenticate"),
        Some(
            "Bearer realm=\"cardea\", error=\"insufficient_user_authentication\", \
             acr_values=\"gold silver\", max_age=\"300\""
        )
    );
    let details = heard.header("grpc-status-details-bin").unwrap();
    let details = base64::engine::general_purpose::STANDARD_NO_PAD.decode(details);
    let status = tonic_types::Status::decode(&*details.unwrap()).unwrap();
    assert_eq!((status.code, &*status.message), (16, &*heard.denied().body));
    let info = tonic_types::pb::ErrorInfo::decode(&*status.details[0].value).unwrap();
    assert_eq!(
        (&*info.reason, &*info.domain),
        ("STEP_UP_REQUIRED", "cardea")
    );
    assert_eq!(info.metadata["acr_values"], "gold silver");
    assert_eq!(info.metadata["max_age"], "300");
    assert_eq!(heard.metadata("decision"), info.metadata["decision"]);
}

#[test]
fn every_decision_has_its_own_id() {
    let world = World::new();
    let ids: std::collections::BTreeSet<String> = (0..50)
        .map(|_| world.get("/v1/orders").metadata("decision").to_string())
        .collect();
    assert_eq!(ids.len(), 50);
}

#[test]
fn trouble_of_its_own_is_an_error_only_where_the_operator_asks() {
    use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
    let world = World::with(|setup| {
        setup.settings["answer"] = json!({ "own_trouble": "envoy_error", "retry_after": "1500ms" });
        setup.first_issuer()["required"] = false.into();
        setup
            .issuer
            .reply("/jwks", crate::issuer::Reply::Status(500));
    });
    let heard = world.get("/v1/orders");
    assert_eq!(heard.grpc(), 14);
    assert!(
        matches!(
            &heard.response.http_response,
            Some(HttpResponse::ErrorResponse(_))
        ),
        "{heard:?}"
    );
    // A denial stays one.
    world
        .ask(Ask::get("/v1/orders"))
        .assert_refused(401, "credential_missing");
}

//! The bundle that is shipped, both ways, and rules that fail while they are judged.

use serde_json::{Value, json};

use crate::world::{Ask, Heard, World};

/// Asks with a good token but for these claims.
fn ask(world: &World, method: &str, path: &str, claims: Value) -> Heard {
    world.ask(Ask::new(method, path).bearer(&world.key.token_with(claims)))
}

#[test]
fn orders_are_read_by_role_scope_and_audience() {
    let world = World::new();
    let viewer = json!({ "roles": ["order-viewer"], "scope": "orders:read" });
    for path in ["/v1/orders", "/v1/orders/1001", "/v1/orders/unheard-of"] {
        ask(&world, "GET", path, viewer.clone()).assert_allowed(&["orders-read-by-role"]);
    }
    // An editor is a viewer too, by the entities of the bundle.
    ask(&world, "GET", "/v1/orders", json!({})).assert_allowed(&["orders-read-by-role"]);
    for claims in [
        json!({ "roles": [] }),
        json!({ "roles": null }),
        json!({ "roles": ["Order-Viewer"] }),
        json!({ "scope": "orders:write" }),
        json!({ "scope": "orders:readonly" }),
    ] {
        let heard = ask(&world, "GET", "/v1/orders", claims);
        heard.assert_refused(403, "not_permitted");
        assert_eq!(heard.metadata("policies"), json!([]));
    }
}

#[test]
fn orders_are_placed_by_editors_and_cancelled_by_their_owners() {
    let world = World::new();
    ask(&world, "POST", "/v1/orders", json!({})).assert_allowed(&["orders-create"]);
    ask(
        &world,
        "POST",
        "/v1/orders",
        json!({ "roles": ["order-viewer"] }),
    )
    .assert_refused(403, "not_permitted");
    ask(
        &world,
        "POST",
        "/v1/orders",
        json!({ "scope": "orders:read" }),
    )
    .assert_refused(403, "not_permitted");

    ask(&world, "DELETE", "/v1/orders/1001", json!({})).assert_allowed(&["owner-cancels-order"]);
    ask(&world, "DELETE", "/v1/orders/1002", json!({ "sub": "bob" }))
        .assert_allowed(&["owner-cancels-order"]);
    for (path, sub) in [
        ("/v1/orders/1002", "alice"),
        ("/v1/orders/1001", "bob"),
        ("/v1/orders/9999", "alice"),
    ] {
        ask(&world, "DELETE", path, json!({ "sub": sub })).assert_refused(403, "not_permitted");
    }
    // A client of the same name is no user.
    let client = json!({ "client_id": "alice" });
    ask(&world, "DELETE", "/v1/orders/1001", client).assert_refused(403, "not_permitted");
}

#[test]
fn tenants_are_kept_apart_whatever_roles_say() {
    let world = World::new();
    let heard = ask(
        &world,
        "GET",
        "/v1/orders/2001",
        json!({ "roles": ["order-editor", "support-tier2"] }),
    );
    heard.assert_refused(403, "forbidden");
    assert_eq!(heard.metadata("policies"), json!(["tenant-isolation"]));
    ask(
        &world,
        "GET",
        "/v1/orders/2001",
        json!({ "tenant": "globex" }),
    )
    .assert_allowed(&["orders-read-by-role"]);
    let heard = ask(
        &world,
        "DELETE",
        "/v1/orders/1001",
        json!({ "tenant": "globex" }),
    );
    heard.assert_refused(403, "forbidden");
    let client = json!({ "client_id": "alice", "tenant": "globex" });
    let heard = ask(&world, "GET", "/v1/orders/1001", client);
    assert_eq!(
        heard.metadata("policies"),
        json!(["tenant-isolation-clients"])
    );
    // Another spelling of the path is the same object.
    ask(&world, "GET", "/v1/orders/%32001", json!({})).assert_refused(403, "forbidden");
}

#[test]
fn a_profile_is_its_owners_and_supports() {
    let world = World::new();
    for method in ["GET", "PUT"] {
        ask(&world, method, "/v1/users/alice", json!({})).assert_allowed(&["profile-of-ones-own"]);
        let heard = ask(&world, method, "/v1/users/bob", json!({}));
        heard.assert_refused(403, "forbidden");
        assert_eq!(heard.metadata("policies"), json!(["profile-of-others"]));
        let support = json!({ "roles": ["support-tier2"] });
        ask(&world, method, "/v1/users/bob", support).assert_allowed(&["profile-of-ones-own"]);
    }
    ask(&world, "GET", "/v1/users/alice", json!({ "scope": "" }))
        .assert_refused(403, "not_permitted");
    world
        .ask(Ask::get("/v1/users/alice"))
        .assert_refused(401, "credential_missing");
}

#[test]
fn a_retired_api_is_gone_for_everybody() {
    let world = World::new();
    for path in ["/v0/orders", "/v0/orders/7"] {
        for heard in [world.get(path), world.ask(Ask::get(path))] {
            heard.assert_refused(410, "retired");
            assert_eq!(heard.metadata("policies"), json!(["retired-api"]));
        }
    }
    assert_eq!(
        world.get("/v0/orders").metadata("operation"),
        "legacy.listOrders"
    );
}

#[test]
fn what_no_document_describes_is_reached_by_nobody() {
    let world = World::new();
    for (method, path) in [
        ("GET", "/v9/secret"),
        ("GET", "/"),
        ("GET", "/v1/orders/"),
        ("GET", "/v1/orders/1/items"),
        ("PUT", "/v1/orders/1001"),
        ("PATCH", "/v1/users/alice"),
        ("POST", "/v1/status"),
        ("OPTIONS", "/v1/orders"),
        ("HEAD", "/v1/orders"),
    ] {
        let heard = ask(
            &world,
            method,
            path,
            json!({ "roles": ["order-editor", "support-tier2"] }),
        );
        heard.assert_refused(403, "forbidden");
        assert_eq!(
            heard.metadata("policies"),
            json!(["undocumented-operation"]),
            "{method} {path}"
        );
        assert_eq!(heard.metadata("operation"), format!("http:{method}"));
    }
}

#[test]
fn nobody_in_particular_reads_what_is_public_and_changes_nothing() {
    let world = World::new();
    world
        .ask(Ask::get("/v1/status"))
        .assert_allowed(&["status-is-public"]);
    for (method, path) in [("POST", "/v1/orders"), ("DELETE", "/v1/orders/1001")] {
        let heard = world.ask(Ask::new(method, path));
        heard.assert_refused(401, "credential_missing");
        assert_eq!(
            heard.metadata("policies"),
            json!(["anonymous-never-writes"])
        );
    }
}

#[test]
fn an_agent_changes_nothing_without_a_person() {
    let world = World::with(|setup| setup.first_issuer()["principal"] = "agent".into());
    world
        .get("/v1/orders")
        .assert_allowed(&["orders-read-by-role"]);
    let heard = ask(
        &world,
        "POST",
        "/v1/orders",
        json!({ "delegation": { "humanApproved": true } }),
    );
    heard.assert_refused(403, "approval_required");
    assert_eq!(
        heard.metadata("policies"),
        json!(["agent-write-needs-human"])
    );
    assert_eq!(
        heard.metadata("principal"),
        "Agent::\"https://login.example.com|alice\""
    );
}

/// A forbid that overflows for bodies of two bytes and more, strictly valid all the same.
const OVERFLOWING: &str = r#"
@id("overflowing") forbid (principal, action, resource == Cardea::Route::"GET /v1/status")
when { context.request.bodyBytes * 9223372036854775807 < 0 };
"#;

#[test]
fn e1_a_forbid_in_error_denies_and_is_counted() {
    let world = World::with(|setup| setup.write("overflow.cedar", OVERFLOWING));
    world
        .ask(Ask::get("/v1/status").body("x"))
        .assert_allowed(&["status-is-public"]);
    let heard = world.ask(Ask::get("/v1/status").body("xx"));
    heard.assert_refused(403, "policy_error");
    let errors = |effect: &str| {
        let label = format!("effect=\"{effect}\"");
        world.metrics().sum("cardea_policy_errors_total", &[&label])
    };
    assert!((errors("forbid") - 1.0).abs() < 0.1);
    assert!(errors("permit").abs() < 0.1);
}

#[test]
fn e1_a_permit_in_error_is_skipped_and_counted() {
    let permit = OVERFLOWING
        .replace("forbid", "permit")
        .replace("< 0", "== 0");
    let world = World::with(|setup| {
        std::fs::remove_dir_all(setup.bundle.path().join("examples")).unwrap();
        setup.write("overflow.cedar", &permit);
    });
    world
        .ask(Ask::get("/v1/status"))
        .assert_allowed(&["overflowing"]);
    world
        .ask(Ask::get("/v1/status").body("xx"))
        .assert_refused(401, "credential_missing");
    let errors = world
        .metrics()
        .sum("cardea_policy_errors_total", &["effect=\"permit\""]);
    assert!((errors - 1.0).abs() < 0.1);
}

#[test]
fn e1_the_hazards_load_and_do_no_harm_where_they_can_be_judged() {
    for (name, text) in [
        (
            "forbid_overflow",
            include_str!("../fixtures/hazard/forbid_overflow.cedar"),
        ),
        (
            "forbid_unloaded_entity",
            include_str!("../fixtures/hazard/forbid_unloaded_entity.cedar"),
        ),
    ] {
        let world = World::with(|setup| {
            std::fs::remove_dir_all(setup.bundle.path().join("examples")).unwrap();
            setup.write("hazard.cedar", text);
        });
        // No source fills what makes them fail yet; nothing that a request says can.
        let heard = world.ask(Ask::get("/v1/status").header("x-cardea-delegation", "mallory"));
        heard.assert_allowed(&["allow-all"]);
        assert_eq!(heard.metadata("policies"), json!(["allow-all"]), "{name}");
    }
}

#[test]
fn e4_what_a_caller_says_is_never_policy_text() {
    let world = World::new();
    for sub in [
        "x\" || true //",
        "alice\"] || true",
        "Cardea::Role::\"support-tier2\"",
        "a|b",
        "https://login.example.com|alice",
        "${alice}",
        "?principal",
    ] {
        let heard = ask(&world, "DELETE", "/v1/orders/1001", json!({ "sub": sub }));
        heard.assert_refused(403, "not_permitted");
    }
    let role = json!({ "roles": ["x\", Cardea::Role::\"order-viewer"] });
    ask(&world, "GET", "/v1/orders", role).assert_refused(403, "not_permitted");
}

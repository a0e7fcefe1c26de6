//! Who the upstream hears is calling: what Cardea proved, whatever a client claims.

use crate::client::Ask;

const ORDER: &str = "/v1/orders/1001";

#[test]
fn the_upstream_hears_who_is_calling() {
    let heard = Ask::get(ORDER).user("alice").at("blessed");
    for (name, value) in [
        ("x-cardea-subject", "alice"),
        ("x-cardea-issuer", "https://login.example.com"),
        ("x-cardea-principal", "User"),
        ("x-cardea-client", "test"),
        ("x-cardea-roles", "order-editor"),
        ("x-cardea-scopes", "orders:read,orders:write,profile"),
        ("x-cardea-tenant", "acme"),
    ] {
        assert_eq!(heard.upstream(name), [value], "{name}");
    }
    let decision = heard.line()["authz"]["decision"].clone();
    assert_eq!(
        heard.upstream("x-cardea-decision"),
        [decision.as_str().unwrap()]
    );
}

#[test]
fn x1_what_a_client_claims_in_the_headers_of_cardea_never_arrives() {
    for listener in ["blessed", "defaults", "defaults_raw"] {
        let heard = Ask::get(ORDER)
            .user("alice")
            .header("X-Cardea-Subject", "root")
            .header("x-cardea-tenant", "globex")
            .header("x-cardea-tenant", "evil")
            .header("x-cardea-score", "0")
            .at(listener);
        assert_eq!(heard.upstream("x-cardea-subject"), ["alice"], "{listener}");
        assert_eq!(heard.upstream("x-cardea-tenant"), ["acme"], "{listener}");
        assert!(heard.upstream("x-cardea-score").is_empty(), "{listener}");
    }
}

#[test]
fn x1_nobody_is_nobody_whatever_it_claims() {
    for listener in ["blessed", "defaults", "defaults_raw"] {
        let ask = Ask::get("/v1/status").header("x-cardea-subject", "root");
        let heard = ask.header("x-cardea-roles", "admin").at(listener);
        assert_eq!(
            heard.upstream("x-cardea-principal"),
            ["Anonymous"],
            "{listener}"
        );
        for name in ["x-cardea-subject", "x-cardea-roles", "x-cardea-tenant"] {
            assert!(heard.upstream(name).is_empty(), "{listener}: {name}");
        }
    }
}

#[test]
fn x2_twins_with_underscores_never_arrive() {
    let twins = ["x_cardea_subject", "X_Cardea-Roles", "x-cardea_anything"];
    for listener in ["defaults", "defaults_raw"] {
        let ask = Ask::get(ORDER).user("alice");
        let heard = twins
            .iter()
            .fold(ask, |ask, twin| ask.header(twin, "root"))
            .at(listener);
        assert_eq!(heard.upstream("x-cardea-subject"), ["alice"]);
        let names = heard.upstream_names();
        assert!(
            !names.iter().any(|name| name.contains('_')),
            "{listener}: {names:?}"
        );
    }
    for twin in twins {
        let heard = Ask::get(ORDER)
            .user("alice")
            .header(twin, "root")
            .at("blessed");
        assert_eq!(heard.status, 400, "{twin}");
        assert!(!heard.reached_the_upstream());
    }
}

#[test]
fn x3_a_connection_header_takes_nothing_away_from_the_upstream() {
    for listener in ["blessed", "defaults", "defaults_raw"] {
        let ask = Ask::get(ORDER).user("alice").hop_by_hop("x-cardea-subject");
        assert_eq!(
            ask.at(listener).upstream("x-cardea-subject"),
            ["alice"],
            "{listener}"
        );
        let heard = Ask::get(ORDER)
            .user("alice")
            .hop_by_hop("authorization")
            .at(listener);
        heard.assert_refused(401, "credential_missing");
    }
}

#[test]
fn x5_a_header_that_comes_twice_names_no_role() {
    for listener in ["blessed", "defaults", "defaults_raw"] {
        let heard = Ask::get(ORDER)
            .user("alice")
            .header("x-role", "user")
            .header("x-role", "admin")
            .header("x-cardea-roles", "admin")
            .header("x-cardea-roles", "root")
            .at(listener);
        assert_eq!(
            heard.upstream("x-cardea-roles"),
            ["order-editor"],
            "{listener}"
        );
    }
}

#[test]
fn x6_no_header_skips_the_check() {
    for listener in ["blessed", "defaults", "defaults_raw"] {
        for (name, value) in [
            ("user-agent", "kube-probe/1.30"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-for", "unknown"),
            ("forwarded", "for=\"a,b\""),
            ("x-envoy-internal", "true"),
            ("x-envoy-external-address", "127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
        ] {
            let heard = Ask::get(ORDER).header(name, value).at(listener);
            heard.assert_refused(401, "credential_missing");
        }
    }
}

#[test]
fn a_credential_that_is_to_be_removed_does_not_arrive() {
    let heard = Ask::get(ORDER).user("alice").at("unix_to_cardea");
    assert_eq!(heard.upstream("x-cardea-subject"), ["alice"]);
    assert!(heard.upstream("authorization").is_empty());
}

//! Between Envoy and Cardea, and between clients and Envoy: TLS both ways, a Unix socket.

use crate::client::Ask;

const ORDER: &str = "/v1/orders/1001";

#[test]
fn envoy_and_cardea_prove_themselves_to_each_other() {
    let heard = Ask::get(ORDER).user("alice").at("tls_to_cardea");
    assert_eq!(heard.upstream("x-cardea-subject"), ["alice"]);
    let heard = Ask::get("/v1/debug").user("alice").at("tls_to_cardea");
    heard.assert_refused(403, "forbidden");
}

#[test]
fn g1_whoever_is_not_envoy_is_turned_away() {
    for listener in ["tls_to_cardea_as_stranger", "tls_to_cardea_nameless"] {
        let heard = Ask::get("/v1/status").at(listener);
        assert_eq!(heard.status, 503, "{listener}");
        assert_eq!(heard.line()["details"], "ext_authz_error");
    }
}

#[test]
fn a_unix_socket_serves_as_well() {
    assert_eq!(Ask::get("/v1/status").at("unix_to_cardea").status, 200);
    Ask::get(ORDER)
        .at("unix_to_cardea")
        .assert_refused(401, "credential_missing");
}

#[test]
fn policies_see_that_a_client_proved_itself_with_a_certificate() {
    let heard = Ask::get("/v1/orders").over_tls_at("tls_from_client");
    assert_eq!(heard.status, 200, "{}", heard.body);
    let policies = &heard.line()["authz"]["policies"];
    assert_eq!(policies.as_array().unwrap(), &["certificate-lists"]);
    Ask::get("/v1/orders")
        .at("blessed")
        .assert_refused(401, "credential_missing");
}

//! Client certificates: a workload of the mesh as the caller, beside a user, and as whom a token is bound to.

use crate::client::Ask;
use crate::house::house;
use crate::papers::{CLIENT_NAME, OTHER_NAME};

const LISTENER: &str = "tls_from_client";

#[test]
fn a_workload_is_known_by_the_certificate_of_its_connection() {
    let heard = Ask::post("/v1/orders").over_tls_as("client", LISTENER);
    assert_eq!(heard.upstream("x-cardea-principal"), ["Workload"]);
    assert_eq!(heard.upstream("x-cardea-subject"), [CLIENT_NAME]);
    assert_eq!(heard.upstream("x-cardea-issuer"), ["spiffe://example.com"]);
    let policies = &heard.line()["authz"]["policies"];
    assert_eq!(policies.as_array().unwrap(), &["client-creates"]);
    let heard = Ask::post("/v1/orders").over_tls_as("other", LISTENER);
    heard.assert_refused(403, "not_permitted");
}

#[test]
fn h5_a_user_and_a_workload_come_together_where_a_rule_combines_them() {
    let heard = Ask::post("/v1/orders")
        .user("alice")
        .over_tls_as("client", LISTENER);
    assert_eq!(heard.upstream("x-cardea-subject"), ["alice"]);
    let heard = Ask::post("/v1/orders")
        .user("alice")
        .over_tls_as("other", LISTENER);
    heard.assert_refused(403, "forbidden");
    let policies = &heard.line()["authz"]["policies"];
    assert_eq!(policies.as_array().unwrap(), &["not-beside-other"]);
}

#[test]
fn x4_a_header_names_no_workload() {
    let heard = Ask::post("/v1/orders")
        .header("x-forwarded-client-cert", format!("URI={CLIENT_NAME}"))
        .header("client-cert", ":AAAA:")
        .over_tls_as("other", LISTENER);
    heard.assert_refused(403, "not_permitted");
    let heard = Ask::post("/v1/orders")
        .header("x-forwarded-client-cert", format!("URI={OTHER_NAME}"))
        .at("blessed");
    heard.assert_refused(401, "credential_missing");
}

#[test]
fn x4_a_certificate_that_names_two_or_cuts_its_name_short_is_nobodys() {
    for whose in ["double", "cut"] {
        let heard = Ask::post("/v1/orders").over_tls_as(whose, LISTENER);
        assert!(!heard.reached_the_upstream(), "{whose}");
        heard.assert_refused(400, "malformed_request");
    }
}

#[test]
fn a_token_that_is_bound_to_a_certificate_is_worth_nothing_without_it() {
    let ask = |whose: &str| {
        let token = house()
            .issuer
            .bound_token("alice", &house().thumbprint(whose));
        Ask::post("/v1/orders").bearer(&token)
    };
    for whose in ["client", "other"] {
        let heard = ask(whose).over_tls_as(whose, LISTENER);
        assert_eq!(heard.upstream("x-cardea-subject"), ["alice"]);
        // Warm: what is remembered is whose token it is, and not that this client may use it.
        let thief = if whose == "client" { "other" } else { "client" };
        for _ in 0..2 {
            ask(whose)
                .over_tls_as(thief, LISTENER)
                .assert_refused(401, "credential_invalid");
        }
        ask(whose)
            .at("blessed")
            .assert_refused(401, "credential_invalid");
    }
}

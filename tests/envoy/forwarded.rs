//! Two Envoys: one at the edge, to which clients show their certificates, and one behind it that asks Cardea. Who the
//! client is the edge says in a header, which only counts where the edge is known by where it comes from.

use crate::client::Ask;
use crate::house::house;
use crate::papers::{CLIENT_NAME, ENVOY_NAME, OTHER_NAME};

const XFCC: &str = "x-forwarded-client-cert";

fn create() -> Ask {
    Ask::post("/v1/orders")
}

/// As an honest edge would write of the client that may create orders, but for the certificate.
fn forged() -> String {
    format!("By={ENVOY_NAME};Hash={};URI={CLIENT_NAME}", "0".repeat(64))
}

#[test]
fn x4_behind_a_hop_the_caller_is_the_client_and_not_the_hop() {
    let heard = create().over_tls_as("client", "edge_sets");
    assert_eq!(heard.upstream("x-cardea-subject"), [CLIENT_NAME]);
    assert_eq!(heard.upstream("x-cardea-principal"), ["Workload"]);
    let policies = &heard.line()["authz"]["policies"];
    assert_eq!(policies.as_array().unwrap(), &["client-creates"]);
    let heard = create().over_tls_as("other", "edge_sets");
    heard.assert_refused(403, "not_permitted");
    let principal = heard.line()["authz"]["principal"].to_string();
    assert!(principal.contains(OTHER_NAME), "{principal}");
}

#[test]
fn x4_what_a_client_writes_of_itself_the_hop_replaces() {
    let element = forged();
    for fields in [
        vec![element.clone()],
        vec![element.clone(), element.clone()],
        vec![format!("{element},{element}")],
        vec![format!("{element};Cert=\"\"")],
        vec!["URI=\"a,b;c\"".to_owned()],
    ] {
        let ask = |ask: Ask| {
            fields
                .iter()
                .fold(ask, |ask, field| ask.header(XFCC, field))
        };
        let heard = ask(create()).over_tls_as("other", "edge_sets");
        heard.assert_refused(403, "not_permitted");
        let heard = ask(create()).over_tls_as("client", "edge_sets");
        assert_eq!(heard.upstream("x-cardea-subject"), [CLIENT_NAME]);
    }
}

#[test]
fn x4_a_hop_that_appends_is_believed_of_one_connection_only() {
    let heard = create().over_tls_as("client", "edge_appends");
    assert_eq!(heard.upstream("x-cardea-subject"), [CLIENT_NAME]);
    for whose in ["client", "other"] {
        let heard = create()
            .header(XFCC, forged())
            .over_tls_as(whose, "edge_appends");
        heard.assert_refused(400, "ambiguous_credential");
    }
}

#[test]
fn x4_where_the_last_of_several_counts_it_is_what_the_hop_wrote() {
    let listener = "edge_appends_to_last";
    let other = forged().replace(CLIENT_NAME, OTHER_NAME);
    let heard = create().header(XFCC, other).over_tls_as("client", listener);
    assert_eq!(heard.upstream("x-cardea-subject"), [CLIENT_NAME]);
    let heard = create()
        .header(XFCC, forged())
        .over_tls_as("other", listener);
    heard.assert_refused(403, "not_permitted");
    // A quote that a client leaves open must not swallow what the hop writes behind it.
    let open = format!("{};Subject=\"", forged());
    let heard = create().header(XFCC, open).over_tls_as("other", listener);
    assert!(!heard.reached_the_upstream());
    assert!(matches!(heard.status, 400 | 401), "{}", heard.body);
}

#[test]
fn x4_a_hop_that_says_nothing_has_no_client_and_is_none_itself() {
    let heard = create()
        .header(XFCC, forged())
        .over_tls_as("client", "edge_sanitizes");
    heard.assert_refused(401, "credential_missing");
}

#[test]
fn x4_the_header_is_read_from_the_configured_hop_and_from_nobody_else() {
    // An edge with the same certificate and the same words, that comes from elsewhere: it is the caller itself.
    let heard = create().over_tls_as("client", "edge_from_elsewhere");
    heard.assert_refused(403, "not_permitted");
    let principal = heard.line()["authz"]["principal"].to_string();
    assert!(principal.contains(ENVOY_NAME), "{principal}");
    // A client that goes around the edge.
    for listener in ["behind_hop", "behind_appending_hop"] {
        let heard = create()
            .header(XFCC, forged())
            .over_tls_as("other", listener);
        heard.assert_refused(403, "not_permitted");
        let heard = create()
            .header(XFCC, "no=certificate, \"at all")
            .over_tls_as("client", listener);
        assert_eq!(heard.upstream("x-cardea-subject"), [CLIENT_NAME]);
    }
}

#[test]
fn x4_a_token_is_bound_to_the_clients_certificate_through_the_hop() {
    let bound = |whose: &str| {
        let token = house()
            .issuer
            .bound_token("alice", &house().thumbprint(whose));
        create().bearer(&token)
    };
    for _ in 0..2 {
        let heard = bound("client").over_tls_as("client", "edge_sets");
        assert_eq!(heard.upstream("x-cardea-subject"), ["alice"]);
        // Stolen, and bound to the hop.
        let heard = bound("client").over_tls_as("other", "edge_sets");
        heard.assert_refused(401, "credential_invalid");
        let heard = bound("envoy").over_tls_as("client", "edge_sets");
        heard.assert_refused(401, "credential_invalid");
    }
}

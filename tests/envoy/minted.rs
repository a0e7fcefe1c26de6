//! A service whose own Envoy lets in only what Cardea signed for.

use crate::client::Ask;

const ORDER: &str = "/v1/orders/1001";
const HEADER: &str = "x-cardea-identity";

#[test]
fn the_services_own_envoy_verifies_what_cardea_signed() {
    let heard = Ask::get(ORDER).user("alice").at("verified");
    let tokens = heard.upstream(HEADER);
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].split('.').count(), 3);
    assert!(heard.upstream("authorization").is_empty());
}

#[test]
fn x1_a_token_that_a_client_sends_never_arrives() {
    let real = Ask::get(ORDER)
        .user("alice")
        .at("verified")
        .upstream(HEADER);
    for stolen in ["forged", real[0].as_str()] {
        let ask = Ask::get(ORDER).user("bob").header(HEADER, stolen);
        let heard = ask.header("X_Cardea_Identity", stolen).at("verified");
        let arrived = heard.upstream(HEADER);
        assert!(arrived.len() == 1 && arrived[0] != stolen, "{arrived:?}");
        assert!(!heard.upstream_names().iter().any(|name| name.contains('_')));
    }
    // Nobody in particular has none, whatever they bring, and the service's Envoy asks for one.
    for ask in [
        Ask::get("/v1/status"),
        Ask::get("/v1/status").header(HEADER, &real[0]),
    ] {
        let heard = ask.at("verified");
        assert_eq!(heard.status, 401);
        assert!(!heard.reached_the_upstream());
        assert!(heard.body.contains("Jwt"), "{}", heard.body);
    }
}

#[test]
fn a_request_that_went_around_cardeas_signature_does_not_reach_the_service() {
    let heard = Ask::get(ORDER).user("alice").at("unsigned");
    assert_eq!(heard.status, 401);
    assert!(!heard.reached_the_upstream());
}

//! What Envoy hands over, as Cardea reads it.

use std::net::IpAddr;

use crate::client::Ask;
use crate::house::house;
use crate::papers::CLIENT_NAME;

#[test]
fn header_bytes_arrive_as_they_were_sent() {
    let heard = Ask::get("/v1/status")
        .header("x-note", b"caf\xe9")
        .header("x-note", b"\xff\xfe")
        .at("recorded");
    house().recorder.with(&heard.test, |request| {
        let values: Vec<&[u8]> = request.headers.values("x-note").collect();
        assert_eq!(values, [b"caf\xe9".as_slice(), b"\xff\xfe"]);
    });
}

#[test]
fn h4_without_raw_headers_envoy_replaces_bytes_and_joins_values() {
    let heard = Ask::get("/v1/status")
        .header("x-note", b"caf\xe9")
        .header("x-note", b"\xff")
        .at("recorded_joined");
    house().recorder.with(&heard.test, |request| {
        let values: Vec<&[u8]> = request.headers.values("x-note").collect();
        assert_eq!(values, [b"caf!,!"]);
    });
}

#[test]
fn b1_a_body_that_was_cut_is_known_to_be() {
    let cut = Ask::post("/v1/orders").body("x".repeat(40)).at("recorded");
    house().recorder.with(&cut.test, |request| {
        assert_eq!(request.body.bytes.len(), 16);
        assert!(request.body.truncated);
    });
    let whole = Ask::post("/v1/orders").body("x".repeat(16)).at("recorded");
    house().recorder.with(&whole.test, |request| {
        assert_eq!(request.body.bytes, vec![b'x'; 16]);
        assert!(!request.body.truncated);
    });
}

#[test]
fn b1_a_client_cannot_say_that_a_cut_body_is_whole() {
    let ask = Ask::post("/v1/orders").header("x-envoy-auth-partial-body", "false");
    let heard = ask.body("x".repeat(40)).at("recorded");
    house()
        .recorder
        .with(&heard.test, |request| assert!(request.body.truncated));
}

#[test]
fn b2_a_body_without_a_length_is_cut_just_as_visibly() {
    let chunked = format!("28\r\n{}\r\n0\r\n\r\n", "x".repeat(40));
    let ask = Ask::post("/v1/orders").header("transfer-encoding", "chunked");
    let heard = ask.chunks(chunked).at("recorded");
    house().recorder.with(&heard.test, |request| {
        assert_eq!(request.body.bytes.len(), 16);
        assert!(request.body.truncated);
    });
}

#[test]
fn x6_the_clients_address_is_the_connections_own() {
    let ask = Ask::get("/v1/status").header("x-forwarded-for", "203.0.113.9");
    let heard = ask.at("recorded");
    house().recorder.with(&heard.test, |request| {
        assert_eq!(request.client_address, Some(IpAddr::from([127, 0, 0, 1])));
    });
}

#[test]
fn x4_a_client_certificate_arrives_with_its_name_and_the_server_name_asked_for() {
    let heard = Ask::get("/v1/status")
        .header("x-forwarded-client-cert", "URI=spiffe://example.com/root")
        .over_tls_at("recorded_tls");
    house().recorder.with(&heard.test, |request| {
        assert_eq!(request.peer.principal.as_deref(), Some(CLIENT_NAME));
        assert!(
            request
                .peer
                .certificate
                .as_ref()
                .is_some_and(|der| der.starts_with(&[0x30]))
        );
        assert_eq!(request.sni.as_deref(), Some("api.example.com"));
        assert_eq!(request.headers.values("x-forwarded-client-cert").count(), 0);
    });
}

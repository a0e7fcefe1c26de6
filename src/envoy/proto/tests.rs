//! The trimmed contract against the full one, byte for byte, in both directions.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3 as full_core;
use envoy_types::pb::envoy::service::auth::v3 as full;
use envoy_types::pb::envoy::r#type::v3 as full_type;
use envoy_types::pb::google::{protobuf as full_protobuf, rpc as full_rpc};
use prost::Message;

use super::auth::check_response::HttpResponse;
use super::core::address::Address;
use super::core::socket_address::PortSpecifier;
use super::{auth, core, rpc, types};

fn pairs<K: From<&'static str> + Eq + std::hash::Hash>(name: &'static str) -> HashMap<K, String> {
    HashMap::from([(K::from(name), format!("value of {name}"))])
}

fn full_metadata(key: &str, value: f64) -> full_core::Metadata {
    let kind = full_protobuf::value::Kind::NumberValue(value);
    let fields = [(key.to_owned(), full_protobuf::Value { kind: Some(kind) })];
    let entry = full_protobuf::Struct {
        fields: fields.into_iter().collect(),
    };
    full_core::Metadata {
        filter_metadata: [("some.filter".to_owned(), entry)].into_iter().collect(),
        ..Default::default()
    }
}

fn full_peer(address: full_core::address::Address) -> full::attribute_context::Peer {
    full::attribute_context::Peer {
        address: Some(full_core::Address {
            address: Some(address),
        }),
        service: "service".into(),
        labels: pairs("label"),
        principal: "spiffe://example.org/web".into(),
        certificate: "-----BEGIN%20CERTIFICATE".into(),
    }
}

fn full_http() -> full::attribute_context::HttpRequest {
    full::attribute_context::HttpRequest {
        id: "77".into(),
        method: "POST".into(),
        headers: pairs("x-a"),
        header_map: Some(full_core::HeaderMap {
            headers: vec![full_core::HeaderValue {
                key: "x-b".into(),
                value: "s3cret".into(),
                raw_value: vec![0xff, 0x01],
            }],
        }),
        path: "/p?q".into(),
        host: "h".into(),
        scheme: "https".into(),
        query: "q".into(),
        fragment: "f".into(),
        size: -1,
        protocol: "HTTP/2".into(),
        body: "body".into(),
        raw_body: vec![0, 255],
    }
}

fn full_request() -> full::CheckRequest {
    let socket = full_core::SocketAddress {
        protocol: 1,
        address: "192.0.2.1".into(),
        port_specifier: Some(full_core::socket_address::PortSpecifier::PortValue(443)),
        resolver_name: "skipped".into(),
        ..Default::default()
    };
    let pipe = full_core::Pipe {
        path: "/run/x".into(),
        mode: 0o600,
    };
    full::CheckRequest {
        attributes: Some(full::AttributeContext {
            source: Some(full_peer(full_core::address::Address::SocketAddress(
                socket,
            ))),
            destination: Some(full_peer(full_core::address::Address::Pipe(pipe))),
            request: Some(full::attribute_context::Request {
                time: Some(full_protobuf::Timestamp {
                    seconds: 1_700_000_000,
                    nanos: 5,
                }),
                http: Some(full_http()),
            }),
            context_extensions: pairs("route"),
            metadata_context: Some(full_metadata("m", 1.5)),
            route_metadata_context: Some(full_metadata("r", 2.5)),
            tls_session: Some(full::attribute_context::TlsSession { sni: "sni".into() }),
        }),
    }
}

#[test]
fn every_field_of_a_check_arrives_where_it_belongs() {
    let check = auth::CheckRequest::decode(full_request().encode_to_vec().as_slice()).unwrap();
    let attributes = check.attributes.unwrap();
    let source = attributes.source.unwrap();
    let Some(Address::SocketAddress(socket)) = source.address.unwrap().address else {
        panic!("no socket address");
    };
    assert_eq!(socket.address, "192.0.2.1");
    assert_eq!(socket.port_specifier, Some(PortSpecifier::PortValue(443)));
    assert_eq!(source.service, "service");
    assert_eq!(source.labels, pairs("label"));
    assert_eq!(source.principal, "spiffe://example.org/web");
    assert_eq!(source.certificate, "-----BEGIN%20CERTIFICATE");
    let destination = attributes.destination.unwrap().address.unwrap().address;
    assert_eq!(
        destination,
        Some(Address::Pipe(core::Pipe {
            path: "/run/x".into()
        }))
    );
    assert_eq!(attributes.context_extensions, pairs("route"));
    assert_eq!(attributes.tls_session.unwrap().sni, "sni");
    let metadata = attributes.metadata_context.unwrap().filter_metadata;
    let number = metadata["some.filter"].fields["m"].kind.clone();
    assert_eq!(number, Some(prost_types::value::Kind::NumberValue(1.5)));
    let route = attributes.route_metadata_context.unwrap().filter_metadata;
    assert!(route["some.filter"].fields.contains_key("r"));

    let request = attributes.request.unwrap();
    assert_eq!(request.time.unwrap().seconds, 1_700_000_000);
    let expected = auth::attribute_context::HttpRequest {
        id: "77".into(),
        method: "POST".into(),
        headers: pairs("x-a"),
        header_map: Some(core::HeaderMap {
            headers: vec![core::HeaderValue {
                key: "x-b".into(),
                value: "s3cret".into(),
                raw_value: vec![0xff, 0x01],
            }],
        }),
        path: "/p?q".into(),
        host: "h".into(),
        scheme: "https".into(),
        query: "q".into(),
        fragment: "f".into(),
        size: -1,
        protocol: "HTTP/2".into(),
        body: "body".into(),
        raw_body: vec![0, 255],
    };
    assert_eq!(request.http.unwrap(), expected);
}

#[test]
fn a_check_goes_out_and_comes_back_the_same() {
    let bytes = full_request().encode_to_vec();
    let ours = auth::CheckRequest::decode(bytes.as_slice()).unwrap();
    let theirs = full::CheckRequest::decode(ours.encode_to_vec().as_slice()).unwrap();
    let mut expected = full_request();
    // The fields that the trimmed contract leaves out.
    let attributes = expected.attributes.as_mut().unwrap();
    for peer in [&mut attributes.source, &mut attributes.destination] {
        match peer
            .as_mut()
            .unwrap()
            .address
            .as_mut()
            .unwrap()
            .address
            .as_mut()
            .unwrap()
        {
            full_core::address::Address::SocketAddress(socket) => {
                socket.protocol = 0;
                socket.resolver_name.clear();
            }
            full_core::address::Address::Pipe(pipe) => pipe.mode = 0,
            full_core::address::Address::EnvoyInternalAddress(_) => panic!("no such address"),
        }
    }
    assert_eq!(theirs, expected);
}

fn our_header(name: &str) -> core::HeaderValueOption {
    core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: name.into(),
            value: format!("value of {name}"),
            raw_value: vec![],
        }),
        append_action: core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
    }
}

fn full_header(name: &str) -> full_core::HeaderValueOption {
    full_core::HeaderValueOption {
        header: Some(full_core::HeaderValue {
            key: name.into(),
            value: format!("value of {name}"),
            raw_value: vec![],
        }),
        append_action: full_core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd
            as i32,
        ..Default::default()
    }
}

fn our_response(http_response: HttpResponse) -> auth::CheckResponse {
    let kind = prost_types::value::Kind::StringValue("d".into());
    let fields = [(
        "decision".to_owned(),
        prost_types::Value { kind: Some(kind) },
    )];
    auth::CheckResponse {
        status: Some(rpc::Status {
            code: 7,
            message: "m".into(),
            details: vec![prost_types::Any {
                type_url: "t".into(),
                value: vec![1],
            }],
        }),
        dynamic_metadata: Some(prost_types::Struct {
            fields: fields.into_iter().collect(),
        }),
        http_response: Some(http_response),
    }
}

fn full_response(http_response: full::check_response::HttpResponse) -> full::CheckResponse {
    let kind = full_protobuf::value::Kind::StringValue("d".into());
    let fields = [(
        "decision".to_owned(),
        full_protobuf::Value { kind: Some(kind) },
    )];
    full::CheckResponse {
        status: Some(full_rpc::Status {
            code: 7,
            message: "m".into(),
            details: vec![full_protobuf::Any {
                type_url: "t".into(),
                value: vec![1],
            }],
        }),
        dynamic_metadata: Some(full_protobuf::Struct {
            fields: fields.into_iter().collect(),
        }),
        http_response: Some(http_response),
    }
}

#[test]
fn every_form_of_answer_is_read_by_the_full_definition_and_back() {
    use full::check_response::HttpResponse as Full;
    let ours_denied = auth::DeniedHttpResponse {
        status: Some(types::HttpStatus {
            code: types::StatusCode::Forbidden as i32,
        }),
        headers: vec![our_header("a")],
        body: "b".into(),
    };
    let full_denied = full::DeniedHttpResponse {
        status: Some(full_type::HttpStatus {
            code: full_type::StatusCode::Forbidden as i32,
        }),
        headers: vec![full_header("a")],
        body: "b".into(),
    };
    let ours_ok = auth::OkHttpResponse {
        headers: vec![our_header("a"), our_header("b")],
        headers_to_remove: vec!["c".into()],
        response_headers_to_add: vec![our_header("d")],
    };
    let full_ok = full::OkHttpResponse {
        headers: vec![full_header("a"), full_header("b")],
        headers_to_remove: vec!["c".into()],
        response_headers_to_add: vec![full_header("d")],
        ..Default::default()
    };
    for (ours, theirs) in [
        (
            HttpResponse::DeniedResponse(ours_denied.clone()),
            Full::DeniedResponse(full_denied.clone()),
        ),
        (
            HttpResponse::ErrorResponse(ours_denied),
            Full::ErrorResponse(full_denied),
        ),
        (HttpResponse::OkResponse(ours_ok), Full::OkResponse(full_ok)),
    ] {
        let (ours, theirs) = (our_response(ours), full_response(theirs));
        assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
        assert_eq!(
            auth::CheckResponse::decode(theirs.encode_to_vec().as_slice()),
            Ok(ours.clone())
        );
        assert_eq!(
            full::CheckResponse::decode(ours.encode_to_vec().as_slice()),
            Ok(theirs)
        );
    }
}

#[test]
fn every_status_has_the_number_of_the_full_definition() {
    for number in 0..600 {
        if let Ok(ours) = types::StatusCode::try_from(number) {
            let theirs = full_type::StatusCode::try_from(number).unwrap();
            assert_eq!(ours.as_str_name(), theirs.as_str_name());
        }
    }
    assert_eq!(types::StatusCode::ServiceUnavailable as i32, 503);
}

#[test]
fn debug_shows_nothing_of_what_a_caller_or_another_filter_said() {
    let check = auth::CheckRequest::decode(full_request().encode_to_vec().as_slice()).unwrap();
    let text = format!("{check:?}");
    assert!(text.contains("HttpRequest"), "{text}");
    for secret in ["value of x-a", "s3cret", "\"body\"", "/p?q", "1.5"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn the_reason_of_an_error_is_read_by_the_full_definition_and_back() {
    let ours = rpc::ErrorInfo {
        reason: "REASON".into(),
        domain: "cardea".into(),
        metadata: pairs("member"),
    };
    let full = tonic_types::pb::ErrorInfo {
        reason: "REASON".into(),
        domain: "cardea".into(),
        metadata: pairs("member"),
    };
    let read = tonic_types::pb::ErrorInfo::decode(&*ours.encode_to_vec()).unwrap();
    assert_eq!(read, full);
    assert_eq!(
        rpc::ErrorInfo::decode(&*full.encode_to_vec()).unwrap(),
        ours
    );
}

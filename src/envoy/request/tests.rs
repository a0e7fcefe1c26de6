use std::collections::HashMap;
use std::net::IpAddr;

use http::HeaderMap;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use prost::Message;

use crate::model::{ManualClock, TwoReadings};

use super::super::proto::auth::{AttributeContext, attribute_context};
use super::super::proto::core;
use super::super::testing::Authority;
use super::*;

fn http() -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        scheme: "https".into(),
        host: "api.example.com".into(),
        path: "/v1/orders".into(),
        ..Default::default()
    }
}

fn check_of(http: HttpRequest) -> CheckRequest {
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(attribute_context::Request {
                http: Some(http),
                time: None,
            }),
            ..Default::default()
        }),
    }
}

fn with(change: impl FnOnce(&mut HttpRequest)) -> CheckRequest {
    let mut http = http();
    change(&mut http);
    check_of(http)
}

fn call() -> Call {
    Call::read(&HeaderMap::new(), &ManualClock::at(Timestamp::UNIX_EPOCH))
}

fn ask(check: CheckRequest) -> Asked {
    read(check, call(), &RequestSettings::default())
}

fn accepted(check: CheckRequest) -> AccessRequest {
    ask(check).request.unwrap()
}

fn refused(check: CheckRequest) -> Reason {
    ask(check).request.unwrap_err().reason
}

fn joined(fields: &[(&str, &str)]) -> HashMap<String, String> {
    fields
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn send_apart(http: &mut HttpRequest, fields: &[(&str, &[u8])]) {
    let header = |(name, value): &(&str, &[u8])| core::HeaderValue {
        key: (*name).into(),
        value: String::new(),
        raw_value: value.to_vec(),
    };
    http.header_map = Some(core::HeaderMap {
        headers: fields.iter().map(header).collect(),
    });
}

#[test]
fn p11_a_check_without_an_http_request_is_refused_and_nothing_panics() {
    let no_request = CheckRequest {
        attributes: Some(AttributeContext::default()),
    };
    let no_http = CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(attribute_context::Request::default()),
            ..Default::default()
        }),
    };
    for check in [CheckRequest::default(), no_request, no_http] {
        assert_eq!(refused(check), Reason::MalformedRequest);
    }
    assert_eq!(
        refused(check_of(HttpRequest::default())),
        Reason::UnknownMethod
    );
}

#[test]
fn p10_only_exact_methods_pass_and_no_header_overrides_them() {
    for method in ["get", "CARDEA", "CONNECT", "TRACE", "", "GET "] {
        assert_eq!(
            refused(with(|http| http.method = method.into())),
            Reason::UnknownMethod,
            "{method}"
        );
    }
    let request = accepted(with(|http| {
        http.headers = joined(&[
            ("x-http-method-override", "DELETE"),
            ("x-method-override", "PUT"),
        ]);
    }));
    assert_eq!(request.method, Method::Get);
}

#[test]
fn p6_the_target_is_split_at_its_first_raw_question_mark() {
    for (target, path, query) in [
        ("/admin?x=/public", "/admin", vec![("x", "/public")]),
        ("/admin%3fx=1", "/admin%3Fx=1", vec![]),
        ("/admin?", "/admin", vec![]),
        ("/a?b?c=d?e", "/a", vec![("b?c", "d?e")]),
    ] {
        let request = accepted(with(|http| http.path = target.into()));
        assert_eq!(request.path.as_str(), path, "{target}");
        let pairs = request.query.pairs().iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(pairs, query, "{target}");
    }
    let long = format!("/a?{}", "x".repeat(64 * 1024));
    assert_eq!(
        refused(with(|http| http.path = long)),
        Reason::MalformedRequest
    );
}

#[test]
fn a_target_that_can_be_read_in_two_ways_is_refused() {
    for (row, target) in [
        ("p1", "/user/../admin"),
        ("p1", "/user/%2e%2e/admin"),
        ("p2", "/pub/..%2fadmin"),
        ("p3", "//x/people"),
        ("p4", "/user/..;foo=bar/admin"),
        ("p5", "/app1/admin#foo"),
        ("p7", "/a\\..\\admin"),
        ("p7", "/a%00"),
        ("p7", "/%c0%ae%c0%ae"),
        ("p7", "/%252e%252e"),
        ("p7", "/caf\u{e9}"),
        ("p11", ""),
        ("p11", "pkg.Svc/Method"),
        ("p8", "http://evil.example/admin"),
    ] {
        let reason = refused(with(|http| http.path = target.into()));
        assert!(
            matches!(reason, Reason::AmbiguousPath(_)),
            "{row} {target}: {reason:?}"
        );
    }
    let reason = refused(with(|http| http.path = "/a?b=%zz".into()));
    assert!(matches!(reason, Reason::AmbiguousQuery(_)));
}

#[test]
fn p5_a_fragment_or_another_query_beside_the_target_is_refused() {
    let reason = refused(with(|http| http.fragment = "foo".into()));
    assert_eq!(reason, Reason::AmbiguousPath(PathError::Fragment));
    let two_queries = with(|http| {
        http.path = "/a?x=1".into();
        http.query = "x=2".into();
    });
    assert_eq!(refused(two_queries), Reason::MalformedRequest);
    assert_eq!(
        refused(with(|http| http.query = "x=2".into())),
        Reason::MalformedRequest
    );
    let repeated = accepted(with(|http| {
        http.path = "/a?x=1".into();
        http.query = "x=1".into();
    }));
    assert_eq!(repeated.query.values("x").collect::<Vec<_>>(), ["1"]);
}

#[test]
fn a_path_rule_that_is_relaxed_is_relaxed_here() {
    let mut settings = RequestSettings::default();
    settings.path.path_parameters = TwoReadings::Keep;
    let asked = read(with(|http| http.path = "/a;p=1".into()), call(), &settings);
    assert_eq!(asked.request.unwrap().path.as_str(), "/a%3Bp=1");
}

#[test]
fn p8_spellings_of_a_host_are_one_and_no_host_is_refused() {
    for host in [
        "API.Example.com:8080",
        "api.example.com.",
        "api.example.com",
    ] {
        assert_eq!(
            accepted(with(|http| http.host = host.into())).host.as_str(),
            "api.example.com"
        );
    }
    for host in ["", "user@host", "a,b"] {
        let reason = refused(with(|http| http.host = host.into()));
        assert!(matches!(reason, Reason::AmbiguousHost(_)), "{host}");
    }
    let two_hosts = with(|http| http.headers = joined(&[("host", "other.example.com")]));
    assert_eq!(refused(two_hosts), Reason::MalformedRequest);
}

#[test]
fn p9_headers_that_name_another_path_change_nothing() {
    let request = accepted(with(|http| {
        http.path = "/admin".into();
        http.headers = joined(&[
            ("x-envoy-original-path", "/public"),
            ("x-original-url", "/public"),
            ("x-rewrite-url", "/public"),
            ("x-forwarded-uri", "/public"),
            ("x-forwarded-prefix", "/public"),
            ("x-forwarded-host", "public.example.com"),
            ("x-forwarded-proto", "http"),
        ]);
    }));
    assert_eq!(request.path.as_str(), "/admin");
    assert_eq!(request.host.as_str(), "api.example.com");
    assert_eq!(request.scheme, Scheme::Https);
}

#[test]
fn only_http_and_https_are_schemes() {
    for scheme in ["", "HTTPS", "ftp", "wss"] {
        assert_eq!(
            refused(with(|http| http.scheme = scheme.into())),
            Reason::MalformedRequest
        );
    }
}

#[test]
fn both_forms_of_headers_give_the_same_request() {
    let from_map = accepted(with(|http| {
        http.headers = joined(&[
            (":path", "/v1/orders"),
            (":method", "GET"),
            (":authority", "api.example.com"),
            (":scheme", "https"),
            ("x-request-id", "r1"),
            ("authorization", "Bearer t"),
            ("accept", "*/*"),
        ]);
    }));
    let from_list = accepted(with(|http| {
        send_apart(
            http,
            &[
                (":authority", b"api.example.com"),
                (":path", b"/v1/orders"),
                (":method", b"GET"),
                (":scheme", b"https"),
                ("Authorization", b"Bearer t"),
                ("accept", b"*/*"),
                ("X-Request-Id", b"r1"),
            ],
        );
    }));
    let shown = |request: &AccessRequest| {
        let fields: Vec<_> = request
            .headers
            .names()
            .map(|name| {
                (
                    name.to_owned(),
                    request.headers.single(name).unwrap().to_owned(),
                )
            })
            .collect();
        format!("{request:?} {fields:?}")
    };
    assert_eq!(shown(&from_map), shown(&from_list));
    assert_eq!(from_map.id, "r1");
    assert_eq!(
        from_map.headers.names().collect::<Vec<_>>(),
        ["accept", "authorization", "x-request-id"]
    );
}

#[test]
fn h2_a_name_that_occurs_twice_keeps_both_values_in_order() {
    let request = accepted(with(|http| {
        send_apart(
            http,
            &[
                ("authorization", b"Bearer a"),
                ("accept", b"*/*"),
                ("Authorization", b"Bearer b"),
            ],
        );
    }));
    let values: Vec<_> = request.headers.values("authorization").collect();
    assert_eq!(values, [b"Bearer a", b"Bearer b"]);
    assert_eq!(request.headers.single("authorization"), None);
}

#[test]
fn h4_bytes_that_are_no_text_stay_the_bytes_they_are() {
    let request = accepted(with(|http| {
        send_apart(http, &[("authorization", b"Bearer \xe9")]);
    }));
    assert_eq!(
        request.headers.values("authorization").collect::<Vec<_>>(),
        [b"Bearer \xe9"]
    );
    assert_eq!(request.headers.single("authorization"), None);
}

#[test]
fn h4_a_byte_that_envoy_lost_on_the_way_to_its_field_is_refused() {
    let lossy = with(|http| {
        http.path = "/a?q=!".into();
        send_apart(http, &[(":path", b"/a?q=\xff")]);
    });
    assert_eq!(refused(lossy), Reason::MalformedRequest);
}

#[test]
fn headers_that_tell_two_stories_are_refused() {
    let both_forms = with(|http| {
        http.headers = joined(&[("accept", "*/*")]);
        send_apart(http, &[("accept", b"*/*")]);
    });
    let two_values = with(|http| {
        http.header_map = Some(core::HeaderMap {
            headers: vec![core::HeaderValue {
                key: "x-a".into(),
                value: "1".into(),
                raw_value: b"2".to_vec(),
            }],
        });
    });
    let other_method = with(|http| http.headers = joined(&[(":method", "POST")]));
    for check in [both_forms, two_values, other_method] {
        assert_eq!(refused(check), Reason::MalformedRequest);
    }
}

#[test]
fn a_header_that_could_split_a_message_is_refused() {
    for value in ["a\r\nb: c", "a\nb", "a\0b"] {
        assert_eq!(
            refused(with(|http| http.headers = joined(&[("x-a", value)]))),
            Reason::MalformedRequest
        );
    }
    for name in ["", "x a", "x\u{e9}", "x:a", "x\n"] {
        assert_eq!(
            refused(with(|http| http.headers = joined(&[(name, "v")]))),
            Reason::MalformedRequest
        );
    }
}

#[test]
fn headers_are_bounded_in_number_and_size() {
    let many: Vec<(String, String)> = (0..129)
        .map(|n| (format!("x-{n}"), String::new()))
        .collect();
    let large = [("x-large".to_owned(), "x".repeat(64 * 1024))];
    for fields in [&many[..], &large[..]] {
        let check = with(|http| http.headers = fields.iter().cloned().collect());
        assert_eq!(refused(check), Reason::MalformedRequest);
    }
    let at_limit = with(|http| http.headers = many.iter().skip(1).cloned().collect());
    assert_eq!(accepted(at_limit).headers.names().count(), 128);
}

#[test]
fn both_forms_of_body_are_read_and_only_one_of_them() {
    let text = accepted(with(|http| http.body = "{}".into()));
    let raw = accepted(with(|http| http.raw_body = b"{}".to_vec()));
    assert_eq!(text.body, raw.body);
    assert_eq!(text.body.bytes, b"{}");
    assert!(!text.body.truncated);
    let both = with(|http| {
        http.body = "{}".into();
        http.raw_body = b"{}".to_vec();
    });
    assert_eq!(refused(both), Reason::MalformedRequest);
    let settings = RequestSettings {
        max_body_bytes: 1,
        ..RequestSettings::default()
    };
    let asked = read(with(|http| http.body = "{}".into()), call(), &settings);
    assert_eq!(asked.request.unwrap_err().reason, Reason::MalformedRequest);
}

#[test]
fn b1_a_body_that_was_cut_says_so() {
    let cut = |change: fn(&mut HttpRequest)| {
        let check = with(|http| {
            http.raw_body = b"0123456789".to_vec();
            change(http);
        });
        accepted(check).body.truncated
    };
    assert!(cut(
        |http| http.headers = joined(&[("x-envoy-auth-partial-body", "true")])
    ));
    assert!(cut(
        |http| http.headers = joined(&[("x-envoy-auth-partial-body", "false,true")])
    ));
    assert!(cut(|http| send_apart(
        http,
        &[
            ("x-envoy-auth-partial-body", b"false"),
            ("x-envoy-auth-partial-body", b"true"),
        ]
    )));
    assert!(cut(|http| http.size = 11));
    assert!(cut(
        |http| http.headers = joined(&[("content-length", "11")])
    ));
    assert!(!cut(|http| http.headers = joined(&[
        ("x-envoy-auth-partial-body", "false"),
        ("content-length", "10")
    ])));
}

#[test]
fn b2_a_body_of_unknown_length_is_the_same_body() {
    for size in [-1, 0, 10, i64::MIN] {
        let request = accepted(with(|http| {
            http.raw_body = b"0123456789".to_vec();
            http.size = size;
        }));
        assert_eq!(request.body.bytes.len(), 10);
        assert!(!request.body.truncated, "{size}");
    }
    let none = accepted(with(|http| http.size = 40));
    assert!(none.body.bytes.is_empty() && !none.body.truncated);
}

#[test]
fn b1_a_body_is_never_told_shorter_than_it_is() {
    let length = |change: fn(&mut HttpRequest)| accepted(with(change)).body.length;
    assert_eq!(length(|http| http.raw_body = b"0123456789".to_vec()), 10);
    // Cut at Envoy's limit, which a caller cannot be let off by.
    let cut = length(|http| {
        http.raw_body = b"0123456789".to_vec();
        http.headers = joined(&[("x-envoy-auth-partial-body", "true")]);
    });
    assert_eq!(cut, u64::MAX);
    let announced = length(|http| {
        http.raw_body = b"0123456789".to_vec();
        http.headers = joined(&[
            ("x-envoy-auth-partial-body", "true"),
            ("content-length", "5000"),
        ]);
    });
    assert_eq!(announced, 5000);
    // Envoy does not send bodies unless asked to.
    let unsent = length(|http| http.headers = joined(&[("content-length", "40")]));
    assert_eq!(unsent, 40);
}

fn from_peer(
    peer: attribute_context::Peer,
    fields: &[(&str, &str)],
    rule: ClientAddress,
) -> AccessRequest {
    let mut check = with(|http| http.headers = joined(fields));
    check.attributes.as_mut().unwrap().source = Some(peer);
    let settings = RequestSettings {
        client_address: rule,
        ..RequestSettings::default()
    };
    read(check, call(), &settings).request.unwrap()
}

fn peer_at(address: &str) -> attribute_context::Peer {
    let socket = core::SocketAddress {
        address: address.into(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(4711)),
    };
    attribute_context::Peer {
        address: Some(core::Address {
            address: Some(core::address::Address::SocketAddress(socket)),
        }),
        ..Default::default()
    }
}

#[test]
fn x6_no_header_names_the_client_unless_the_settings_say_so() {
    let lies = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-envoy-external-address", "10.0.0.2"),
        ("x-real-ip", "10.0.0.3"),
        ("forwarded", "for=10.0.0.4"),
        ("user-agent", "kube-probe/1.30"),
    ];
    let request = from_peer(peer_at("192.0.2.7"), &lies, ClientAddress::Peer);
    assert_eq!(request.client_address, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(
        request.peer.address,
        Some("192.0.2.7:4711".parse().unwrap())
    );
    let mapped = from_peer(peer_at("::ffff:192.0.2.7"), &lies, ClientAddress::Peer);
    assert_eq!(mapped.client_address, Some("192.0.2.7".parse().unwrap()));
    let nowhere = from_peer(peer_at("not an address"), &lies, ClientAddress::Peer);
    assert_eq!(nowhere.client_address, None);
    let external = from_peer(
        peer_at("192.0.2.7"),
        &lies,
        ClientAddress::EnvoyExternalAddress,
    );
    assert_eq!(external.client_address, Some("10.0.0.2".parse().unwrap()));
}

#[test]
fn x6_forwarded_for_is_counted_from_the_right_and_what_is_no_address_is_none() {
    for (header, hops, expected) in [
        ("1.1.1.1, 2.2.2.2,3.3.3.3", 1, Some("3.3.3.3")),
        ("1.1.1.1, 2.2.2.2,3.3.3.3", 2, Some("2.2.2.2")),
        ("1.1.1.1, 2.2.2.2,3.3.3.3", 4, None),
        ("2001:db8::1", 1, Some("2001:db8::1")),
        ("unknown", 1, None),
        ("", 1, None),
        ("1.1.1.1:80", 1, None),
        ("\"1.1.1.1\"", 1, None),
        ("fe80::1%eth0", 1, None),
        ("1.1.1.1", 0, None),
    ] {
        let rule = ClientAddress::ForwardedFor { trusted_hops: hops };
        let request = from_peer(peer_at("192.0.2.7"), &[("x-forwarded-for", header)], rule);
        let expected: Option<IpAddr> = expected.map(|address| address.parse().unwrap());
        assert_eq!(request.client_address, expected, "{header:?} {hops}");
    }
    let two_fields = with(|http| {
        send_apart(
            http,
            &[
                ("x-forwarded-for", b"1.1.1.1"),
                ("x-forwarded-for", b"2.2.2.2, 3.3.3.3"),
            ],
        );
    });
    let settings = RequestSettings {
        client_address: ClientAddress::ForwardedFor { trusted_hops: 3 },
        ..RequestSettings::default()
    };
    let request = read(two_fields, call(), &settings).request.unwrap();
    assert_eq!(request.client_address, Some("1.1.1.1".parse().unwrap()));
}

fn with_certificate(encoded: String) -> Asked {
    let mut check = check_of(http());
    check.attributes.as_mut().unwrap().source = Some(attribute_context::Peer {
        certificate: encoded,
        principal: "spiffe://example.org/web".into(),
        ..Default::default()
    });
    ask(check)
}

fn percent(pem: &str) -> String {
    utf8_percent_encode(pem, NON_ALPHANUMERIC).to_string()
}

#[test]
fn a_peer_certificate_is_decoded_to_der() {
    let issued = Authority::new().issue(&["web.example.org"], &["spiffe://example.org/web"]);
    let peer = with_certificate(percent(&issued.pem)).request.unwrap().peer;
    assert_eq!(peer.certificate.as_deref(), Some(issued.der.as_ref()));
    assert_eq!(peer.principal.as_deref(), Some("spiffe://example.org/web"));
    let none = with_certificate(String::new()).request.unwrap().peer;
    assert_eq!(none.certificate, None);
}

#[test]
fn x4_a_bad_certificate_or_one_with_several_uri_names_is_refused() {
    let authority = Authority::new();
    let one = percent(&authority.issue(&[], &["spiffe://a/b"]).pem);
    let several = percent(&authority.issue(&[], &["spiffe://a/b", "spiffe://a/c"]).pem);
    let not_x509 = percent("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for certificate in [
        several,
        not_x509,
        format!("{one}{one}"),
        "nonsense".to_owned(),
        one.replace("CERTIFICATE", "PUBLIC%20KEY"),
        "A".repeat(65 * 1024),
    ] {
        let refusal = with_certificate(certificate).request.unwrap_err();
        assert_eq!(
            refusal.reason,
            Reason::MalformedRequest,
            "{}",
            refusal.detail
        );
    }
    assert!(with_certificate(one).request.is_ok());
}

#[test]
fn x4_a_principal_with_a_control_character_is_refused_and_xfcc_is_not_read() {
    for principal in ["victim\0evil", "a\nb", "a\u{85}b", &"x".repeat(2049)] {
        let mut check = check_of(http());
        check.attributes.as_mut().unwrap().source = Some(attribute_context::Peer {
            principal: principal.to_owned(),
            ..Default::default()
        });
        assert_eq!(refused(check), Reason::MalformedRequest);
    }
    let request = accepted(with(|http| {
        http.headers = joined(&[("x-forwarded-client-cert", "URI=spiffe://example.org/admin")]);
    }));
    assert_eq!(request.peer.principal, None);
}

#[test]
fn p12_the_tls_server_name_is_spelled_like_a_host() {
    let sni = |name: &str| {
        let mut check = check_of(http());
        check.attributes.as_mut().unwrap().tls_session = Some(attribute_context::TlsSession {
            sni: name.to_owned(),
        });
        ask(check).request.map(|request| request.sni)
    };
    assert_eq!(
        sni("API.Example.com").unwrap().as_deref(),
        Some("api.example.com")
    );
    assert_eq!(sni("").unwrap(), None);
    assert_eq!(sni("a b").unwrap_err().reason, Reason::MalformedRequest);
}

#[test]
fn the_parent_span_is_the_calls_else_the_checked_requests() {
    let inner = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let outer = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01";
    let check =
        || with(|http| http.headers = joined(&[("traceparent", inner), ("tracestate", "a=1")]));
    let parent = ask(check()).arrival.trace_parent.unwrap();
    assert_eq!((parent.span_id[0], parent.state.as_str()), (0, "a=1"));
    let mut metadata = HeaderMap::new();
    metadata.insert("traceparent", outer.parse().unwrap());
    let call = Call::read(&metadata, &ManualClock::at(Timestamp::UNIX_EPOCH));
    let parent = read(check(), call, &RequestSettings::default())
        .arrival
        .trace_parent
        .unwrap();
    assert_eq!((parent.span_id[0], parent.state.as_str()), (0xbb, ""));
}

#[test]
fn a_grpc_caller_is_known_even_when_its_request_is_refused() {
    let grpc = |content_type: &str| {
        ask(with(|http| {
            http.path = "//".into();
            http.headers = joined(&[("content-type", content_type)]);
        }))
        .arrival
        .grpc
    };
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;v=1",
    ] {
        assert!(grpc(content_type), "{content_type}");
    }
    for content_type in ["application/grpc-web", "application/json", ""] {
        assert!(!grpc(content_type), "{content_type}");
    }
}

#[test]
fn a_request_id_that_is_long_or_not_plain_is_not_taken_over() {
    for (header, id) in [
        ("abc-1", "abc-1"),
        ("a b", "77"),
        ("a\u{1b}[2J", "77"),
        ("x".repeat(129).as_str(), "77"),
    ] {
        let request = accepted(with(|http| {
            http.id = "77".into();
            http.headers = joined(&[("x-request-id", header)]);
        }));
        assert_eq!(request.id, id);
    }
}

#[test]
fn context_extensions_and_nothing_else_come_from_envoys_operator() {
    let mut check = check_of(http());
    let attributes = check.attributes.as_mut().unwrap();
    attributes.context_extensions = joined(&[("route", "orders")]);
    assert_eq!(accepted(check).context_extensions["route"], "orders");
}

#[test]
fn settings_that_would_refuse_everything_are_problems() {
    let settings = RequestSettings {
        max_target_bytes: 1,
        max_headers: 1,
        client_address: ClientAddress::ForwardedFor { trusted_hops: 0 },
        max_duration: crate::model::Period::seconds(0),
        ..RequestSettings::default()
    };
    assert_eq!(settings.problems().len(), 4);
    assert_eq!(RequestSettings::default().problems(), []);
}

#[test]
fn settings_are_read_from_yaml_and_unknown_ones_refused() {
    let text =
        "client_address:\n  forwarded_for:\n    trusted_hops: 2\npath:\n  merge_slashes: true\n";
    let settings: RequestSettings = serde_saphyr::from_str(text).unwrap();
    assert_eq!(
        settings.client_address,
        ClientAddress::ForwardedFor { trusted_hops: 2 }
    );
    assert!(settings.path.merge_slashes);
    assert_eq!(settings.max_headers, 128);
    let peer: RequestSettings = serde_saphyr::from_str("client_address: peer\n").unwrap();
    assert_eq!(peer, RequestSettings::default());
    assert!(serde_saphyr::from_str::<RequestSettings>("trusted_hops: 2\n").is_err());
}

proptest! {
    #[test]
    fn no_message_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(check) = CheckRequest::decode(bytes.as_slice()) {
            let _ = ask(check);
        }
    }

    #[test]
    fn what_is_accepted_keeps_its_promises(
        path in "[/a-z.%;\\\\?#=&0-9]{0,24}",
        host in "[a-zA-Z.:\\[\\]@]{0,12}",
        names in proptest::collection::vec("[:a-zA-Z_ -]{0,8}", 0..6),
        values in proptest::collection::vec("\\PC{0,8}", 6),
    ) {
        let check = with(|http| {
            http.path = path;
            http.host = host;
            http.headers = names.into_iter().zip(values).collect();
        });
        if let Ok(request) = ask(check).request {
            prop_assert!(request.path.as_str().starts_with('/'));
            prop_assert!(!request.path.segments().iter().any(|segment| segment == ".."));
            let lower = |name: &str| !name.starts_with(':') && name == name.to_ascii_lowercase();
            prop_assert!(request.headers.names().all(lower));
        }
    }
}

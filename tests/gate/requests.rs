//! Requests that two parsers could read in two ways, and messages that are no request.

use envoy_types::pb::envoy::service::auth::v3::attribute_context::TlsSession;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use prost::Message;
use serde_json::json;
use std::collections::HashMap;

use crate::issuer::Reply;
use crate::world::{Ask, Heard, Setup, World, eventually, peer};

/// Everything is permitted to everybody here but what lies below `/admin`, so that only its reading keeps a request out.
const OPEN: &str = r#"
@id("open") permit (principal, action, resource);
@id("not-admin") forbid (principal, action, resource) when { context.request.path like "/admin*" };
@id("trusted-only") forbid (principal, action, resource)
when { context.request.host == "trusted.example" && !context.network.ipTrusted };
@id("small-only") forbid (principal, action, resource)
when { context.request.host == "small.example" && context.request.bodyBytes > 64 };
@id("same-name") forbid (principal, action, resource)
when { context.request.host == "tls.example" && !(context.tls has sni && context.tls.sni == context.request.host) };
"#;

/// A world with these rules and no others.
fn open_world() -> World {
    World::with(open)
}

fn open(setup: &mut Setup) {
    for folder in ["guardrails", "examples"] {
        std::fs::remove_dir_all(setup.bundle.path().join(folder)).unwrap();
    }
    setup.write("open.cedar", OPEN);
    setup.settings["context"] = json!({ "trusted_networks": ["10.0.0.0/8"] });
}

#[track_caller]
fn assert_ambiguous(world: &World, reason: &str, paths: &[&str]) {
    for path in paths {
        let heard = world.ask(Ask::get(path));
        assert!(!heard.allowed(), "{path:?} is allowed");
        heard.assert_refused(400, reason);
        assert_eq!(heard.metadata("operation"), "unread");
    }
}

#[test]
fn p1_dot_segments_are_refused_in_every_spelling() {
    let world = open_world();
    assert_ambiguous(
        &world,
        "ambiguous_path",
        &[
            "/user/../admin",
            "/user/%2e%2e/admin",
            "/user/.%2E/admin",
            "/public/..",
            "/./admin",
            "/public/.",
            "/..",
            "/%2E%2e/",
            "/public/%2e/admin",
            "/public/../../admin",
        ],
    );
    world.ask(Ask::get("/public/...")).passed();
    world.ask(Ask::get("/public/.hidden")).passed();
}

#[test]
fn p2_encoded_slashes_are_refused_in_either_case() {
    assert_ambiguous(
        &open_world(),
        "ambiguous_path",
        &[
            "/a%2fadmin",
            "/a%2Fadmin",
            "/pub/..%2fadmin",
            "/%2fadmin",
            "/%2f",
            "/a%5cadmin",
            "/a%5Cadmin",
        ],
    );
}

#[test]
fn p3_double_slashes_and_absolute_targets_are_refused() {
    assert_ambiguous(
        &open_world(),
        "ambiguous_path",
        &[
            "//x/people",
            "//admin/dashboard",
            "///",
            "//",
            "/public//admin",
            "/admin//",
            "http://evil.example/admin",
            "https://api.example.com/admin",
            "api.example.com:443",
            "*",
            "",
        ],
    );
}

#[test]
fn p4_p5_parameters_and_fragments_are_refused() {
    assert_ambiguous(
        &open_world(),
        "ambiguous_path",
        &[
            "/user/..;foo=bar/admin",
            "/admin;x=y",
            "/;/admin",
            "/a%3bx=y",
            "/app1/admin#foo",
            "/app1/admin%23foo",
            "/#",
        ],
    );
    let world = open_world();
    assert_ambiguous(&world, "ambiguous_query", &["/a?x#y"]);
    let mut apart = Ask::get("/a");
    apart.http().fragment = "admin".to_owned();
    world.ask(apart).assert_refused(400, "ambiguous_path");
}

#[test]
fn p6_the_query_begins_at_the_first_question_mark() {
    let world = open_world();
    for path in [
        "/admin?x=/public",
        "/admin?",
        "/admin?a?b",
        "/admin?x=../public",
    ] {
        let heard = world.ask(Ask::get(path));
        heard.assert_refused(403, "forbidden");
        assert_eq!(heard.metadata("policies"), json!(["not-admin"]));
    }
    // An encoded one belongs to the path.
    world
        .ask(Ask::get("/admin%3fx=1"))
        .assert_refused(403, "forbidden");
    world.ask(Ask::get("/public?x=/admin")).passed();
    let long = format!("/public?x={}", "y".repeat(64 << 10));
    world
        .ask(Ask::get(&long))
        .assert_refused(400, "malformed_request");
    let mut differs = Ask::get("/public?x=1");
    differs.http().query = "x=2".to_owned();
    world.ask(differs).assert_refused(400, "malformed_request");
    assert_ambiguous(
        &world,
        "ambiguous_query",
        &["/a?x=%zz", "/a?x=%00", "/a?x=%ff", "/a?x=%0a"],
    );
    let many = format!("/a?{}", "x&".repeat(300));
    assert_ambiguous(&world, "ambiguous_query", &[&many]);
}

#[test]
fn p7_what_no_path_may_hold_is_refused() {
    assert_ambiguous(
        &open_world(),
        "ambiguous_path",
        &[
            "/a\\..\\admin",
            "/a\\admin",
            "/a%00b",
            "/%0d%0a",
            "/a\u{0}b",
            "/a\r\nb",
            "/a b",
            "/%c0%ae%c0%ae/admin",
            "/%252e%252e/admin",
            "/%2561dmin",
            "/%ff",
            "/%ed%a0%80",
            "/caf\u{e9}",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a<b",
            "/a\"b",
            "/a\u{7f}b",
            "/%7f",
        ],
    );
}

#[test]
fn p7_a_path_is_decoded_once_and_spelled_one_way() {
    let world = open_world();
    for path in [
        "/%61dmin",
        "/%61%64%6d%69%6e",
        "/admin",
        "/admin%2d",
        "/admin/",
    ] {
        world.ask(Ask::get(path)).assert_refused(403, "forbidden");
    }
    // Case counts, and so does the Unicode form.
    world.ask(Ask::get("/Admin")).passed();
    let profile = |path: &str, sub: &str| {
        let token = world.key.token_with(json!({ "sub": sub }));
        world
            .ask(Ask::get(path).bearer(&token))
            .metadata("operation")
    };
    assert_eq!(profile("/v1/users/caf%C3%A9", "x"), "profiles.getProfile");
    assert_eq!(profile("/v1/Users/x", "x"), "http:GET");
    assert_eq!(profile("/v1/users/x/", "x"), "http:GET");
}

#[test]
fn p8_a_host_has_one_spelling() {
    let world = open_world();
    for host in [
        "Trusted.Example",
        "trusted.example:8080",
        "trusted.example.",
        "TRUSTED.example.:443",
    ] {
        let heard = world.ask(Ask::get("/a").host(host));
        heard.assert_refused(403, "forbidden");
        assert_eq!(heard.metadata("policies"), json!(["trusted-only"]));
    }
    for host in ["[::1]:80", "[::1]", "127.0.0.1", "xn--caf-dma.example"] {
        world.ask(Ask::get("/a").host(host)).passed();
    }
    for host in [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "user@trusted.example",
        "h:port",
        "h:99999",
        "h:",
        "h:80:80",
        "h/a",
        "h?a",
        "caf\u{e9}.example",
        "h\u{0}",
        "h h",
        "[::1",
        "[trusted.example]",
        "[::1]x",
        "h,trusted.example",
        "h%2e",
    ] {
        let heard = world.ask(Ask::get("/a").host(host));
        assert!(!heard.allowed(), "{host:?} is allowed");
        heard.assert_refused(400, "ambiguous_host");
    }
    world
        .ask(Ask::get("/a").host(&"h".repeat(256)))
        .assert_refused(400, "ambiguous_host");
    let differs = Ask::get("/a").host("h").header("host", "trusted.example");
    world.ask(differs).assert_refused(400, "malformed_request");
    let authority = Ask::get("/a")
        .host("h")
        .header(":authority", "trusted.example");
    world
        .ask(authority)
        .assert_refused(400, "malformed_request");
}

#[test]
fn p9_p10_headers_that_name_another_path_or_method_are_never_read() {
    let world = open_world();
    for name in [
        "x-envoy-original-path",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-uri",
        "x-forwarded-prefix",
        "x-forwarded-host",
        "x-original-host",
    ] {
        world
            .ask(Ask::get("/admin").header(name, "/public"))
            .assert_refused(403, "forbidden");
        world
            .ask(Ask::get("/public").header(name, "/admin"))
            .passed();
    }
    for name in [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ] {
        let heard = world.ask(Ask::get("/v1/orders/1001").header(name, "DELETE"));
        assert_eq!(heard.metadata("operation"), "orders.getOrder");
    }
    let heard = world.ask(Ask::get("/v1/orders/1001?_method=DELETE"));
    assert_eq!(heard.metadata("operation"), "orders.getOrder");
}

#[test]
fn p10_methods_are_exact() {
    let world = open_world();
    for method in [
        "get", "CARDEA", "Get", "TRACE", "CONNECT", "", "GET ", "GET\n", "PROPFIND",
    ] {
        world
            .ask(Ask::new(method, "/a"))
            .assert_refused(400, "unknown_method");
    }
    // Neither HEAD nor OPTIONS is the documented GET.
    for (method, operation) in [
        ("GET", "orders.getStatus"),
        ("HEAD", "http:HEAD"),
        ("OPTIONS", "http:OPTIONS"),
    ] {
        let heard = world.ask(Ask::new(method, "/v1/status"));
        assert_eq!(heard.metadata("operation"), operation);
    }
    let shipped = World::new();
    shipped
        .ask(Ask::new("HEAD", "/v1/status"))
        .assert_refused(403, "forbidden");
}

#[test]
fn p11_what_is_no_http_request_is_refused() {
    let world = open_world();
    let empty = |check: CheckRequest| {
        let heard = world.ask(Ask { check });
        heard.assert_refused(400, "malformed_request");
    };
    empty(CheckRequest::default());
    empty(CheckRequest {
        attributes: Some(AttributeContext::default()),
    });
    let mut no_http = Ask::get("/");
    no_http.attributes().request.as_mut().unwrap().http = None;
    empty(no_http.check);
    world
        .ask(Ask::get("pkg.Svc/Method"))
        .assert_refused(400, "ambiguous_path");
    for scheme in ["", "ftp", "HTTPS", "wss"] {
        let mut ask = Ask::get("/a");
        ask.http().scheme = scheme.to_owned();
        world.ask(ask).assert_refused(400, "malformed_request");
    }
}

#[test]
fn p12_a_policy_may_hold_the_server_name_against_the_host() {
    let world = open_world();
    let ask = |sni: Option<&str>| {
        let mut ask = Ask::get("/a").host("tls.example:443");
        ask.attributes().tls_session = sni.map(|sni| TlsSession {
            sni: sni.to_owned(),
        });
        world.ask(ask)
    };
    ask(Some("tls.example")).passed();
    ask(Some("TLS.Example.")).passed();
    ask(Some("other.example")).assert_refused(403, "forbidden");
    ask(None).assert_refused(403, "forbidden");
    ask(Some("")).assert_refused(403, "forbidden");
    ask(Some("a b")).assert_refused(400, "malformed_request");
}

#[test]
fn a_parameter_that_comes_once_is_refused_twice() {
    let world = World::new();
    let get = |path: &str| world.get(path);
    get("/v1/orders?limit=5&cursor=x").passed();
    get("/v1/orders?status=paid&status=placed").passed();
    let heard = get("/v1/orders?limit=5&limit=500");
    heard.assert_refused(400, "repeated_parameter");
    assert_eq!(heard.metadata("operation"), "orders.listOrders");
    get("/v1/orders?limit=5&%6cimit=500").assert_refused(400, "repeated_parameter");
    get("/v1/orders?limit&limit").assert_refused(400, "repeated_parameter");
}

#[test]
fn x4_a_peer_is_who_envoy_says_and_a_header_is_nobody() {
    let world = open_world();
    world
        .ask(Ask::get("/a").header(
            "x-forwarded-client-cert",
            "By=x;URI=spiffe://admin;Hash=\"a,b;c\"",
        ))
        .passed();
    for principal in [
        "spiffe://victim\u{0}evil",
        "a\nb",
        "\u{85}",
        &"x".repeat(3000),
    ] {
        let mut ask = Ask::get("/a");
        ask.attributes().source.as_mut().unwrap().principal = principal.to_owned();
        world.ask(ask).assert_refused(400, "malformed_request");
    }
    for certificate in [
        "%",
        "nonsense",
        "-----BEGIN%20CERTIFICATE-----",
        &"A".repeat(70_000),
    ] {
        let mut ask = Ask::get("/a");
        ask.attributes().source.as_mut().unwrap().certificate = certificate.to_owned();
        world.ask(ask).assert_refused(400, "malformed_request");
    }
}

/// A certificate with these URI names, as Envoy encodes it.
fn certificate(names: &[&str]) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.subject_alt_names = names
        .iter()
        .map(|name| rcgen::SanType::URI((*name).try_into().unwrap()))
        .collect();
    let pem = parameters.self_signed(&key).unwrap().pem();
    pem.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn x4_a_certificate_with_two_uri_names_is_refused() {
    let world = open_world();
    let ask = |encoded: &str| {
        let mut ask = Ask::get("/a");
        ask.attributes().source.as_mut().unwrap().certificate = encoded.to_owned();
        world.ask(ask)
    };
    let one = certificate(&["spiffe://a/one"]);
    ask(&one).passed();
    ask(&certificate(&["spiffe://a/one", "spiffe://a/two"]))
        .assert_refused(400, "malformed_request");
    ask(&format!("{one}{one}")).assert_refused(400, "malformed_request");
}

#[test]
fn x6_the_client_is_where_the_connection_comes_from() {
    let world = open_world();
    let ask = |address: &str, header: Option<(&str, &str)>| {
        let mut ask = Ask::get("/a").host("trusted.example");
        ask.attributes().source = Some(peer(address));
        if let Some((name, value)) = header {
            ask = ask.header(name, value);
        }
        world.ask(ask)
    };
    ask("10.1.2.3", None).passed();
    ask("::ffff:10.1.2.3", None).passed();
    for (name, value) in [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "unknown"),
        ("forwarded", "for=\"10.0.0.1\""),
        ("forwarded", "for=\"a,b\", for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("x-envoy-external-address", "10.0.0.1"),
        ("true-client-ip", "10.0.0.1"),
        ("user-agent", "kube-probe/1.30"),
    ] {
        ask("203.0.113.9", Some((name, value))).assert_refused(403, "forbidden");
        ask("10.1.2.3", Some((name, "203.0.113.9"))).passed();
    }
    for address in [
        "",
        "10.1.2.3.4",
        "10.1.2",
        "0x0a010203",
        "10.1.2.3:80",
        "trusted",
    ] {
        ask(address, None).assert_refused(403, "forbidden");
    }
}

#[test]
fn x6_trusted_hops_are_counted_from_the_right() {
    let world = World::with(|setup| {
        open(setup);
        setup.settings["request"] =
            json!({ "client_address": { "forwarded_for": { "trusted_hops": 2 } } });
    });
    let ask = |value: &str| {
        let mut ask = Ask::get("/a")
            .host("trusted.example")
            .header("x-forwarded-for", value);
        ask.attributes().source = Some(peer("10.9.9.9"));
        world.ask(ask)
    };
    ask("10.0.0.1, 192.0.2.1").passed();
    ask("203.0.113.9, 10.0.0.1,192.0.2.1").passed();
    for value in [
        "10.0.0.1",
        "10.0.0.1, 203.0.113.9, 192.0.2.1",
        "unknown, 192.0.2.1",
        "\"10.0.0.1\", 192.0.2.1",
        "10.0.0.1:80, 192.0.2.1",
        "",
        ",",
    ] {
        ask(value).assert_refused(403, "forbidden");
    }
}

#[test]
fn b1_b2_a_body_is_never_taken_for_shorter_than_it_is() {
    let world = open_world();
    let ask = |body: &str, size: i64, headers: &[(&str, &str)]| {
        let mut ask = Ask::new("POST", "/a").host("small.example").body(body);
        for (name, value) in headers {
            ask = ask.header(name, value);
        }
        ask.http().size = size;
        world.ask(ask)
    };
    let (short, long) = ("x".repeat(40), "x".repeat(65));
    ask(&short, 40, &[("content-length", "40")]).passed();
    // Without a length, chunked or with a wrong one: the same as with one.
    for size in [-1, 0, 40, 65] {
        ask(&long, size, &[]).assert_refused(403, "forbidden");
        ask(&long, size, &[("transfer-encoding", "chunked")]).assert_refused(403, "forbidden");
    }
    ask(&short, -1, &[]).passed();
    ask(&short, 0, &[]).passed();
    // More goes upstream than arrived here: it is not taken for the little that did.
    ask(&short, 4000, &[]).assert_refused(403, "forbidden");
    ask(&short, -1, &[("content-length", "4000")]).assert_refused(403, "forbidden");
    ask(&short, -1, &[("x-envoy-auth-partial-body", "true")]).assert_refused(403, "forbidden");
    ask("", 4000, &[("content-length", "4000")]).assert_refused(403, "forbidden");
}

#[test]
fn b1_a_body_or_headers_beyond_the_limits_are_refused() {
    let world = World::with(|setup| {
        open(setup);
        setup.settings["request"] =
            json!({ "max_body_bytes": 1000, "max_headers": 50, "max_header_bytes": 4096 });
    });
    world
        .ask(Ask::new("POST", "/a").body(&"x".repeat(1000)))
        .passed();
    world
        .ask(Ask::new("POST", "/a").body(&"x".repeat(1001)))
        .assert_refused(400, "malformed_request");
    let mut both = Ask::new("POST", "/a").body("text");
    both.http().raw_body = b"bytes".to_vec();
    world.ask(both).assert_refused(400, "malformed_request");
    world
        .ask(Ask::get("/a").header("x", &"y".repeat(4096)))
        .assert_refused(400, "malformed_request");
    let mut many = Ask::get("/a");
    many.http().headers = (0..60)
        .map(|n| (format!("h{n}"), String::new()))
        .collect::<HashMap<_, _>>();
    world.ask(many).assert_refused(400, "malformed_request");
}

#[test]
fn a_header_that_two_readers_could_split_is_refused() {
    let world = open_world();
    for (name, value) in [
        ("x", "a\r\nx-cardea-subject: root"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("", "a"),
        ("x y", "a"),
        ("x:", "a"),
        ("x\n", "a"),
    ] {
        world
            .ask(Ask::get("/a").header(name, value))
            .assert_refused(400, "malformed_request");
    }
    let mut both = Ask::get("/a").raw_headers(&[("x", b"y")]);
    both.http().headers.insert("x".to_owned(), "z".to_owned());
    world.ask(both).assert_refused(400, "malformed_request");
    let mut two = Ask::get("/a").raw_headers(&[("x", b"y")]);
    two.http().header_map.as_mut().unwrap().headers[0].value = "z".to_owned();
    world.ask(two).assert_refused(400, "malformed_request");
}

#[test]
fn both_forms_of_headers_are_read_alike() {
    let world = World::new();
    let field = format!("Bearer {}", world.key.token());
    let raw: [(&str, &[u8]); 3] = [
        ("Authorization", field.as_bytes()),
        ("x_cardea_subject", b"root"),
        ("x", b"\xff"),
    ];
    let heard = world.ask(Ask::get("/v1/orders").raw_headers(&raw));
    heard.assert_allowed(&["orders-read-by-role"]);
    let removed = &heard.passed().headers_to_remove;
    assert_eq!(*removed, ["x-cardea-client", "x_cardea_subject"]);
}

/// Calls with these bytes for a body and these headers beside gRPC's own: no client in between that mends or judges it.
fn send_raw(world: &World, frames: Vec<u8>, headers: &[(&str, &str)]) -> Heard {
    let address = world.app().check_address();
    let url = format!("http://{address}/envoy.service.auth.v3.Authorization/Check");
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .unwrap();
    let mut call = client
        .post(url)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(frames);
    for (name, value) in headers {
        call = call.header(*name, *value);
    }
    let (status, failure, body) = world.wait(async {
        let answer = call.send().await.unwrap();
        let failure = answer.headers().get("grpc-status").cloned();
        (answer.status(), failure, answer.bytes().await.unwrap())
    });
    assert_eq!(
        (status.as_u16(), failure),
        (200, None),
        "a gRPC error is no denial"
    );
    let (head, message) = body.split_at(5);
    assert_eq!(head, frame(0, message.len(), b""));
    Heard {
        response: CheckResponse::decode(message).unwrap(),
    }
}

fn frame(flag: u8, length: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[flag], &length[..], bytes].concat()
}

#[test]
fn g3_g4_a_message_that_is_no_check_is_denied_and_not_failed() {
    let world = open_world();
    let garbage: [&[u8]; 5] = [
        b"garbage",
        &[0xff; 64],
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\x05abc",
        &[0x0b; 2000],
    ];
    let mut messages: Vec<Vec<u8>> = garbage
        .iter()
        .map(|bytes| frame(0, bytes.len(), bytes))
        .collect();
    // A text that is not UTF-8: attributes { request { http { method: "\xff" } } }.
    let method = b"\x0a\x07\x22\x05\x12\x03\x12\x01\xff";
    messages.push(frame(0, method.len(), method));
    messages.push(Vec::new());
    messages.push(frame(0, 0, b""));
    messages.push(frame(1, 7, b"garbage"));
    messages.push(frame(7, 7, b"garbage"));
    messages.push(frame(0, 100, b"cut off"));
    messages.push(b"\0\0".to_vec());
    messages.push([frame(0, 0, b""), frame(0, 0, b"")].concat());
    messages.push(frame(0, u32::MAX as usize, b"x"));
    for message in messages {
        send_raw(&world, message, &[]).assert_refused(400, "malformed_request");
    }
    world.ask(Ask::get("/a")).passed();
}

#[test]
fn g3_a_message_that_is_too_long_is_denied_and_not_failed() {
    let world = open_world();
    for size in [5 << 20, 20 << 20] {
        for _ in 0..5 {
            let heard = world.ask(Ask::new("POST", "/a").body(&"x".repeat(size)));
            heard.assert_refused(400, "malformed_request");
        }
    }
    world.ask(Ask::get("/a")).passed();
}

#[test]
fn g4_a_deadline_that_comes_too_near_is_denied_before_it_passes() {
    let setup = Setup::new();
    setup.issuer.reply("/jwks", Reply::Hang);
    let world = setup.start();
    eventually("the key server is asked", || world.issuer.hanging() == 1);
    let ask = Ask::get("/v1/orders").bearer(&world.key.token());
    let message = ask.check.encode_to_vec();
    let message = frame(0, message.len(), &message);
    let heard = send_raw(&world, message, &[("grpc-timeout", "100m")]);
    heard.assert_refused(503, "deadline_too_near");
    // What was known when time ran out is told: which operation, of which bundle.
    assert_eq!(heard.metadata("operation"), "orders.listOrders");
    assert_eq!(heard.metadata("snapshot"), world.snapshot());
    assert_eq!(world.issuer.hanging(), 1, "it waited for the key server");
    // It is recorded as what it is.
    let metrics = world.metrics();
    let labels = [
        "reason=\"deadline_too_near\"",
        "operation=\"orders.listOrders\"",
    ];
    let denied = metrics.sum("cardea_decisions_total", &labels);
    assert!((denied - 1.0).abs() < 0.1, "{}", metrics.0);
    let cancelled = metrics.sum("cardea_cancelled_total", &[]);
    assert!(
        cancelled.abs() < 0.1,
        "nobody went away, yet {cancelled} are counted"
    );
}

#[test]
fn a_caller_that_hangs_up_is_counted() {
    let setup = Setup::new();
    setup.issuer.reply("/jwks", Reply::Hang);
    let world = setup.start();
    eventually("the key server is asked", || world.issuer.hanging() == 1);
    let ask = Ask::get("/v1/orders").bearer(&world.key.token());
    let asking = world.spawn(ask.send(world.client()));
    eventually("the request waits", || world.figures().misses == 1);
    asking.abort();
    eventually("it is counted", || {
        world.metrics().sum("cardea_cancelled_total", &[]) > 0.5
    });
}

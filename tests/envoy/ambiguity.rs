//! What two parsers could read in two ways, sent through an Envoy with its own defaults, set to fail open: nothing but
//! Cardea's own refusal keeps it from the upstream.

use crate::client::{Ask, Heard};
use crate::house::house;

const BARE: [&str; 2] = ["defaults", "defaults_raw"];

#[test]
fn p1_p2_p3_p4_p5_p7_ambiguous_paths_are_refused_behind_an_envoy_that_does_not_normalise() {
    for (row, targets) in [
        (
            "p1",
            &[
                "/user/../admin",
                "/user/%2e%2e/admin",
                "/user/.%2E/admin",
                "/public/..",
                "/./a",
            ][..],
        ),
        ("p2", &["/a%2fadmin", "/a%2Fadmin", "/pub/..%2fadmin"]),
        (
            "p3",
            &["//x/people", "//admin/dashboard", "///", "/v1//orders"],
        ),
        (
            "p4",
            &[
                "/user/..;foo=bar/admin",
                "/admin;x=y",
                "/;/admin",
                "/v1/orders/1001;v=2",
            ],
        ),
        ("p5", &["/%23foo"]),
        (
            "p7",
            &[
                "/a\\..\\admin",
                "/a%5cadmin",
                "/a%00b",
                "/a%0d%0ab",
                "/%c0%ae%c0%ae/admin",
            ],
        ),
        ("p7", &["/%252e%252e/admin", "/a%252fadmin", "/a%zz", "/a%"]),
    ] {
        for target in targets {
            for listener in BARE {
                let heard = Ask::get(target).user("alice").at(listener);
                assert_eq!(
                    heard.status, 400,
                    "{row}: {target} at {listener}: {}",
                    heard.body
                );
                heard.assert_refused(400, "ambiguous_path");
            }
        }
    }
}

#[test]
fn p5_p7_what_envoy_refuses_by_itself_never_gets_further() {
    for target in ["/app1/admin#foo", "/caf\u{e9}", "/a\u{0}b"] {
        let heard = Ask::get(target).user("alice").at("defaults");
        assert_eq!(heard.status, 400, "{target}");
        assert!(!heard.reached_the_upstream(), "{target}");
    }
}

#[test]
fn p6_a_query_never_changes_which_path_is_judged() {
    for listener in BARE {
        let heard = Ask::get("/v1/debug?x=/v1/status")
            .user("alice")
            .at(listener);
        heard.assert_refused(403, "forbidden");
        // An escaped question mark stays in the path: no such order, and the route is the documented one.
        let heard = Ask::get("/v1/orders/1001%3fx=1").user("alice").at(listener);
        assert_eq!(heard.line()["authz"]["operation"], "orders.getOrder");
        assert_eq!(Ask::get("/v1/status?").at(listener).status, 200);
        let heard = Ask::get(format!("/v1/status?{}", "x".repeat(20_000))).at(listener);
        heard.assert_refused(400, "malformed_request");
    }
}

#[test]
fn p7_another_case_is_another_path() {
    let heard = Ask::get("/v1/Status").at("defaults");
    heard.assert_refused(403, "forbidden");
}

#[test]
fn p9_headers_about_another_path_are_not_read() {
    for name in [
        "x-envoy-original-path",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-uri",
    ] {
        for listener in BARE {
            let heard = Ask::get("/v1/orders/1001")
                .header(name, "/v1/status")
                .at(listener);
            heard.assert_refused(401, "credential_missing");
        }
    }
}

#[test]
fn h2_two_authorization_headers_are_refused_in_both_forms_envoy_sends_them_in() {
    let (alice, bob) = (house().issuer.token("alice"), house().issuer.token("bob"));
    for listener in ["defaults", "defaults_raw", "blessed"] {
        let two = |one: &str, other: &str| {
            let ask = Ask::get("/v1/orders/1001").bearer(one).bearer(other);
            ask.at(listener)
        };
        assert_ambiguous_credential(&two(&alice, &bob), listener);
        assert_ambiguous_credential(&two(&alice, &alice), listener);
        let ask = Ask::get("/v1/orders/1001");
        let joined = ask.header("authorization", format!("Bearer {alice},Bearer {bob}"));
        assert_ambiguous_credential(&joined.at(listener), listener);
    }
}

fn assert_ambiguous_credential(heard: &Heard, listener: &str) {
    assert_eq!(heard.status, 400, "{listener}: {}", heard.body);
    heard.assert_refused(400, "ambiguous_credential");
}

#[test]
fn h4_bytes_that_are_not_text_are_no_credential() {
    for listener in ["defaults", "defaults_raw", "blessed"] {
        for byte in [0xe9_u8, 0xff] {
            let value = [b"Bearer ".as_slice(), &[byte]].concat();
            let heard = Ask::get("/v1/orders/1001")
                .header("authorization", value)
                .at(listener);
            heard.assert_refused(401, "credential_invalid");
        }
    }
}

#[test]
fn nothing_odd_is_answered_with_an_allowance_nor_with_an_error() {
    let many = |ask: Ask| (0..90).fold(ask, |ask, n| ask.header(&format!("x-{n}"), "v"));
    let order = || Ask::get("/v1/orders/1001").user("alice");
    for listener in BARE {
        for (what, heard) in [
            ("method", order().method("PROPFIND").at(listener)),
            ("lower-case method", order().method("get").at(listener)),
            ("host", order().host("user@api.example.com").at(listener)),
            ("port", order().host("api.example.com:99999").at(listener)),
            (
                "bad scheme",
                order().header("authorization", "Basic YTpi").at(listener),
            ),
            (
                "long target",
                order().method("GET").host(&"a".repeat(300)).at(listener),
            ),
            (
                "many headers",
                many(Ask::get("/v1/orders/1001")).at(listener),
            ),
        ] {
            assert!(!heard.reached_the_upstream(), "{what} at {listener}");
            assert!(
                (400..500).contains(&heard.status),
                "{what}: {}",
                heard.status
            );
        }
    }
    for listener in BARE {
        for outcome in ["error", "failure_mode_allowed", "invalid"] {
            assert_eq!(
                house().counter(&format!("http.{listener}.ext_authz.{outcome}")),
                0,
                "{outcome}"
            );
        }
    }
}

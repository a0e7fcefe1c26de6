//! When Cardea cannot decide: closed, explicitly, unless the operator asked for Envoy's own error path.

use crate::client::Ask;
use crate::house::house;

const ORDER: &str = "/v1/orders/1001";

#[test]
fn without_keys_the_answer_is_503_even_where_envoy_fails_open() {
    let heard = Ask::get(ORDER).user("alice").at("no_keys_open");
    heard.assert_refused(503, "keys_unavailable");
    assert_eq!(heard.all("retry-after"), ["1"]);
    assert_eq!(heard.line()["details"], "ext_authz_denied");
    assert_eq!(house().counter("http.no_keys_open.ext_authz.error"), 0);
    assert_eq!(
        house().counter("http.no_keys_open.ext_authz.failure_mode_allowed"),
        0
    );
}

#[test]
fn without_keys_what_needs_none_is_decided_all_the_same() {
    assert_eq!(Ask::get("/v1/status").at("no_keys_open").status, 200);
}

#[test]
fn an_operator_can_ask_for_envoys_error_path() {
    let before = house().counter("http.own_error_closed.ext_authz.error");
    let heard = Ask::get(ORDER).user("alice").at("own_error_closed");
    heard.assert_refused(503, "keys_unavailable");
    assert_eq!(heard.all("retry-after"), ["1"]);
    assert_eq!(heard.line()["details"], "ext_authz_error");
    assert_eq!(
        house().counter("http.own_error_closed.ext_authz.error"),
        before + 1
    );
}

#[test]
fn on_envoys_error_path_fail_open_is_open_and_says_so() {
    let heard = Ask::get(ORDER).user("alice").at("own_error_open");
    assert!(heard.upstream("x-cardea-subject").is_empty());
    // What a policy denies stays denied.
    let heard = Ask::get("/v1/debug").at("own_error_open");
    heard.assert_refused(403, "forbidden");
}

#[test]
fn x1_the_headers_of_cardea_are_stripped_even_where_it_is_out_of_reach_and_envoy_fails_open() {
    let heard = Ask::get(ORDER)
        .header("x-cardea-subject", "root")
        .header("X-CARDEA-ROLES", "admin")
        .at("nobody_open");
    let names = heard.upstream_names();
    assert!(
        !names.iter().any(|name| name.contains("cardea")),
        "{names:?}"
    );
    let heard = Ask::get(ORDER)
        .header("x_cardea_subject", "root")
        .at("nobody_open");
    assert_eq!(heard.status, 400);
}

#[test]
fn out_of_reach_is_closed() {
    let heard = Ask::get("/v1/status").at("nobody_closed");
    assert_eq!(heard.status, 503);
    assert!(!heard.reached_the_upstream());
    assert_eq!(heard.line()["details"], "ext_authz_error");
}

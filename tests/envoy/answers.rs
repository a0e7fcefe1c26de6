//! Every row of "what callers see", as callers see it.

use tonic_types::StatusExt;

use crate::client::{Ask, Heard};
use crate::house::house;

const PLACE_ORDER: &str = "/v1/orders";

fn row(host: &str) -> Ask {
    Ask::post(PLACE_ORDER).host(host).user("alice")
}

/// A denial for HTTP callers: problem document, no caching, an id that the access log has too.
fn assert_problem(heard: &Heard, status: u16, reason: &str) {
    heard.assert_refused(status, reason);
    assert_eq!(heard.all("content-type"), ["application/problem+json"]);
    assert_eq!(heard.all("cache-control"), ["no-store"]);
    let body = heard.json();
    assert_eq!(body["status"], status);
    assert_eq!(body["decision"], heard.line()["authz"]["decision"]);
}

#[test]
fn an_allowed_request_reaches_the_upstream_with_its_query_and_its_credential() {
    let token = house().issuer.token("alice");
    let heard = Ask::get("/v1/orders?limit=5").bearer(&token).at("blessed");
    assert_eq!(heard.status, 200);
    assert_eq!(heard.json()["target"], "/v1/orders?limit=5");
    assert_eq!(heard.upstream("authorization"), [format!("Bearer {token}")]);
}

#[test]
fn without_a_credential_the_challenge_names_no_error() {
    let heard = Ask::get("/v1/orders/1001").at("blessed");
    assert_problem(&heard, 401, "credential_missing");
    assert_eq!(
        heard.all("www-authenticate"),
        ["Bearer realm=\"api.example.com\""]
    );
}

#[test]
fn an_invalid_credential_is_told_so_and_no_more() {
    let token = house().issuer.expired_token("alice");
    let heard = Ask::get("/v1/orders/1001").bearer(&token).at("blessed");
    assert_problem(&heard, 401, "credential_invalid");
    let challenge = "Bearer realm=\"api.example.com\", error=\"invalid_token\"";
    assert_eq!(heard.all("www-authenticate"), [challenge]);
    assert!(!heard.body.contains("expired"));
}

#[test]
fn a_better_login_is_asked_for_in_the_words_of_the_standard() {
    let heard = row("stronger.rows").at("blessed");
    assert_problem(&heard, 401, "step_up_required");
    let challenge = "Bearer realm=\"api.example.com\", error=\"insufficient_user_authentication\", \
                     acr_values=\"urn:cardea:strong\", max_age=\"300\"";
    assert_eq!(heard.all("www-authenticate"), [challenge]);
}

#[test]
fn every_other_refusal_has_its_status_and_its_problem_document() {
    assert_eq!(row("open.rows").at("blessed").status, 200);
    for (host, status, reason) in [
        ("plain.rows", 403, "forbidden"),
        ("hidden.rows", 404, "not_found"),
        ("contract.rows", 400, "contract_violated"),
        ("gone.rows", 410, "retired"),
    ] {
        let heard = row(host).at("blessed");
        assert_problem(&heard, status, reason);
        assert!(heard.all("retry-after").is_empty(), "{host}");
    }
    assert_problem(
        &Ask::get("/v0/orders").user("alice").at("blessed"),
        410,
        "retired",
    );
    assert_problem(
        &Ask::get("/v1/debug").user("alice").at("blessed"),
        403,
        "forbidden",
    );
}

#[test]
fn too_many_requests_are_told_when_to_come_back() {
    let heard = row("slow.rows").at("blessed");
    assert_problem(&heard, 429, "too_many_requests");
    assert_eq!(heard.all("retry-after"), ["1"]);
}

#[test]
fn a_grpc_caller_hears_the_right_grpc_status_and_a_sentence_for_each() {
    let token = house().issuer.token("alice");
    let expired = house().issuer.expired_token("alice");
    for (host, token, code, sentence) in [
        ("plain.rows", &token, "7", "a policy forbids this request"),
        ("hidden.rows", &token, "5", "there is nothing here"),
        (
            "contract.rows",
            &token,
            "3",
            "the request breaks the API's contract",
        ),
        ("slow.rows", &token, "8", "too many requests"),
        ("gone.rows", &token, "5", "this API is no longer in service"),
        (
            "stronger.rows",
            &token,
            "16",
            "a fresher or stronger login is needed",
        ),
        ("open.rows", &expired, "16", "the credential is not valid"),
    ] {
        let ask = Ask::post(PLACE_ORDER).host(host).bearer(token);
        assert_grpc(&ask.grpc_at("blessed"), code, sentence);
    }
    let missing = Ask::get("/v1/orders/1001").grpc_at("blessed");
    assert_grpc(&missing, "16", "a credential is needed");
    let ambiguous = Ask::post("/v1/orders;x=1").grpc_at("blessed");
    assert_grpc(&ambiguous, "3", "the path can be read in two ways");
    let trouble = Ask::post(PLACE_ORDER)
        .bearer(&token)
        .grpc_at("no_keys_open");
    assert_grpc(&trouble, "14", "no decision can be made right now");
}

#[test]
fn a_grpc_library_hears_which_login_would_be_enough() {
    let token = house().issuer.token("alice");
    let status = call("stronger.rows", PLACE_ORDER, &token);
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let sentence = "a fresher or stronger login is needed (step_up_required, decision ";
    assert!(status.message().starts_with(sentence), "{status:?}");
    let challenges: Vec<_> = status
        .metadata()
        .get_all("www-authenticate")
        .iter()
        .collect();
    assert_eq!(
        challenges,
        [
            "Bearer realm=\"api.example.com\", error=\"insufficient_user_authentication\", \
             acr_values=\"urn:cardea:strong\", max_age=\"300\""
        ]
    );
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (&*info.reason, &*info.domain),
        ("STEP_UP_REQUIRED", "cardea")
    );
    assert_eq!(info.metadata["acr_values"], "urn:cardea:strong");
    assert_eq!(info.metadata["max_age"], "300");
    let refused = call("plain.rows", PLACE_ORDER, &token);
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert_eq!(
        refused.get_details_error_info().unwrap().reason,
        "FORBIDDEN"
    );
    assert!(refused.metadata().get("www-authenticate").is_none());
}

/// What a gRPC library makes of a call through Envoy that is denied.
fn call(host: &str, path: &'static str, token: &str) -> tonic::Status {
    let address = format!("http://{}", house().address("blessed"));
    house().run(async {
        let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
        let origin = format!("http://{host}").parse().unwrap();
        let channel = endpoint.origin(origin).connect().await.unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let mut request = tonic::Request::new(tonic_types::Status::default());
        let credential = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", credential);
        let codec = tonic_prost::ProstCodec::<tonic_types::Status, tonic_types::Status>::default();
        let path = axum::http::uri::PathAndQuery::from_static(path);
        client.unary(request, path, codec).await.unwrap_err()
    })
}

/// Envoy turns a denial of a gRPC call into a response without content: HTTP 200, and the status in its headers.
fn assert_grpc(heard: &Heard, code: &str, sentence: &str) {
    assert_eq!(heard.status, 200);
    assert_eq!(heard.body, "");
    assert_eq!(heard.all("content-type"), ["application/grpc"]);
    assert_eq!(heard.all("grpc-status"), [code], "{sentence}");
    let [message] = heard.all("grpc-message")[..] else {
        panic!("not one grpc-message: {:?}", heard.headers);
    };
    assert!(message.starts_with(sentence), "{message}");
}

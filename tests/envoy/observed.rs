//! Observed operations, as the upstream and whoever reads Envoy's access log see them.

use serde_json::json;

use crate::client::Ask;
use crate::house::house;

#[test]
fn what_no_policy_permits_reaches_the_upstream_and_the_access_log_says_so() {
    let heard = Ask::get("/old/things").user("alice").at("blessed");
    assert_eq!(heard.status, 200);
    assert!(heard.reached_the_upstream());
    assert_eq!(heard.upstream("x-cardea-subject"), ["alice"]);
    let line = heard.line();
    assert_eq!(line["status"], 200);
    let authz = &line["authz"];
    assert_eq!(authz["verdict"], "allow");
    assert_eq!(authz["reason"], "observed");
    assert_eq!(authz["observed"], true);
    assert_eq!(authz["operation"], "old.list");
    assert_eq!(
        authz["would_be"],
        json!({ "status": 403, "grpc_status": 7, "reason": "not_permitted" })
    );
    // Nobody in particular passes as nobody in particular, whatever they call themselves.
    let forged = Ask::get("/old/things").header("x-cardea-subject", "root");
    let heard = forged.at("defaults");
    assert_eq!(heard.upstream("x-cardea-principal"), ["Anonymous"]);
    assert!(heard.upstream("x-cardea-subject").is_empty());
    assert_eq!(
        heard.line()["authz"]["would_be"]["reason"],
        "credential_missing"
    );
}

#[test]
fn a_credential_that_is_not_valid_and_a_guardrail_are_refused_on_an_observed_route_too() {
    let expired = house().issuer.expired_token("alice");
    let heard = Ask::get("/old/things").bearer(&expired).at("blessed");
    heard.assert_refused(401, "credential_invalid");
    let heard = Ask::post("/old/things").at("blessed");
    heard.assert_refused(401, "credential_missing");
    assert_eq!(
        heard.line()["authz"]["policies"],
        json!(["anonymous-never-writes"])
    );
    let heard = Ask::get("/old/things;x=1").user("alice").at("defaults");
    heard.assert_refused(400, "ambiguous_path");
}

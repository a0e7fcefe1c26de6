//! How strong a login was, and how long ago: what policies can ask for, and what the caller is then told (RFC 9470).

use serde_json::{Value, json};

use crate::issuer::now;
use crate::world::{Ask, Heard, World};

/// Writes take a login by more than one factor, reads one of the last five minutes.
const STRICT: &str = r#"
@id("mfa-to-write") @on_deny("step_up") @acr_values("urn:example:mfa")
forbid (principal, action == Cardea::Action::"orders.createOrder", resource)
unless { context.token.mfa };

@id("fresh-to-read") @on_deny("step_up") @max_age("300")
forbid (principal, action == Cardea::Action::"orders.listOrders", resource)
unless {
  context.token has authTime &&
  context.time.now.durationSince(context.token.authTime) <= duration("5m")
};
"#;

fn world() -> World {
    World::with(|setup| setup.write("strict.cedar", STRICT))
}

fn ask(world: &World, method: &str, claims: Value) -> Heard {
    let token = world.key.token_with(claims);
    world.ask(Ask::new(method, "/v1/orders").bearer(&token))
}

#[track_caller]
fn assert_asked_for(heard: &Heard, what: &str) {
    heard.assert_refused(401, "step_up_required");
    let challenge =
        format!("Bearer realm=\"cardea\", error=\"insufficient_user_authentication\", {what}");
    assert_eq!(heard.header("www-authenticate"), Some(&*challenge));
}

#[test]
fn where_more_than_one_factor_is_lacking_the_caller_is_told_the_class_of_login_that_has_it() {
    let world = world();
    let lacking = [
        json!({}),
        json!({ "amr": ["pwd", "otp"] }),
        json!({ "amr": ["MFA"], "acr": "mfa" }),
        json!({ "mfa": true }),
    ];
    for claims in lacking {
        let heard = ask(&world, "POST", claims);
        assert_asked_for(&heard, "acr_values=\"urn:example:mfa\"");
    }
    let heard = ask(&world, "POST", json!({ "amr": ["pwd", "mfa"] }));
    heard.assert_allowed(&["orders-create"]);
}

#[test]
fn whoever_acts_for_a_user_brings_the_login_of_the_user() {
    let world = World::with(|setup| {
        setup.write("strict.cedar", STRICT);
        let agents = r#"@id("agents-write") permit (principal is Cardea::Agent, action in Cardea::Action::"write", resource);"#;
        setup.write("agents.cedar", agents);
        setup.first_issuer()["claims"]["human_approved"] = json!("approved");
    });
    let act = |user: &str, bot: &str| json!({ "approved": true, "amr": [user], "act": { "sub": "bot", "amr": [bot] } });
    let heard = ask(&world, "POST", act("pwd", "mfa"));
    assert_asked_for(&heard, "acr_values=\"urn:example:mfa\"");
    let heard = ask(&world, "POST", act("mfa", "pwd"));
    heard.assert_allowed(&["agents-write", "orders-create"]);
}

#[test]
fn each_issuer_has_its_own_words_for_more_than_one_factor() {
    let world = World::with(|setup| {
        setup.write("strict.cedar", STRICT);
        setup.first_issuer()["mfa_methods"] = json!(["2fa"]);
        setup.first_issuer()["mfa_classes"] = json!(["urn:example:mfa"]);
    });
    for claims in [
        json!({ "amr": ["2fa"] }),
        json!({ "acr": "urn:example:mfa" }),
    ] {
        ask(&world, "POST", claims).assert_allowed(&["orders-create"]);
    }
    let heard = ask(&world, "POST", json!({ "amr": ["mfa"] }));
    assert_asked_for(&heard, "acr_values=\"urn:example:mfa\"");
}

#[test]
fn an_old_or_unknown_time_of_login_is_not_fresh_and_an_impossible_one_is_no_token() {
    let world = world();
    for claims in [json!({}), json!({ "auth_time": now() - 3600 })] {
        assert_asked_for(&ask(&world, "GET", claims), "max_age=\"300\"");
    }
    let heard = ask(&world, "GET", json!({ "auth_time": now() - 60 }));
    heard.assert_allowed(&["orders-read-by-role"]);
    for impossible in [json!(now() + 3600), json!("now"), json!(0), json!(-1)] {
        ask(&world, "GET", json!({ "auth_time": impossible })).assert_invalid();
    }
}

//! Tokens that somebody uses for somebody else (RFC 8693): a right that is delegated is one that both have.

use serde_json::{Value, json};

use crate::issuer::ISSUER;
use crate::world::{Ask, Heard, World};

/// What agents may do here at all. People have the shipped policies.
const AGENTS: &str = r#"
@id("agents-read") permit (principal is Cardea::Agent, action in Cardea::Action::"read", resource in Cardea::Api::"orders");
@id("agents-write") permit (principal is Cardea::Agent, action in Cardea::Action::"write", resource in Cardea::Api::"orders");
@id("short-chains") forbid (principal, action, resource) when { context has delegation && context.delegation.depth > 2 };
@id("trips-only") forbid (principal is Cardea::Agent, action in Cardea::Action::"write", resource)
unless { context has delegation && context.delegation has purpose && context.delegation.purpose == "trip" };
"#;

fn world(policies: &str) -> World {
    World::with(|setup| {
        setup.write("agents.cedar", policies);
        let claims = &mut setup.first_issuer()["claims"];
        claims["purpose"] = json!("purp");
        claims["human_approved"] = json!("approved");
    })
}

/// Asks with the token of alice, an editor, that `act` uses.
fn ask(world: &World, method: &str, act: Value, claims: Value) -> Heard {
    let mut claims = claims;
    claims["act"] = act;
    let token = world.key.token_with(claims);
    world.ask(Ask::new(method, "/v1/orders").bearer(&token))
}

#[test]
fn an_agent_does_what_both_it_and_its_user_may() {
    let world = world(AGENTS);
    let heard = ask(&world, "GET", json!({ "sub": "bot" }), json!({}));
    heard.assert_allowed(&["agents-read", "orders-read-by-role"]);
    assert_eq!(
        heard.metadata("principal"),
        json!(format!("Agent::\"{ISSUER}|bot\""))
    );
    // Again, from the cache.
    ask(&world, "GET", json!({ "sub": "bot" }), json!({}))
        .assert_allowed(&["agents-read", "orders-read-by-role"]);
    // The user may not: the agent's own right is not enough.
    for lacking in [json!({ "roles": [] }), json!({ "scope": "orders:write" })] {
        ask(&world, "GET", json!({ "sub": "bot" }), lacking).assert_refused(403, "not_permitted");
    }
}

#[test]
fn an_agent_without_rights_of_its_own_gets_none_from_its_user() {
    let world = world("");
    world.get("/v1/orders").passed();
    ask(&world, "GET", json!({ "sub": "bot" }), json!({})).assert_refused(403, "not_permitted");
}

#[test]
fn an_agent_writes_only_with_a_persons_approval_and_for_the_purpose_that_is_allowed() {
    let world = world(AGENTS);
    let write = |claims| ask(&world, "POST", json!({ "sub": "bot" }), claims);
    let good = json!({ "purp": "trip", "approved": true });
    write(good).assert_allowed(&["agents-write", "orders-create"]);
    write(json!({ "purp": "trip" })).assert_refused(403, "approval_required");
    write(json!({ "purp": "trip", "approved": "true" })).assert_refused(403, "approval_required");
    write(json!({ "purp": "fun", "approved": true })).assert_refused(403, "forbidden");
}

#[test]
fn the_length_of_the_chain_is_told_to_policies_and_has_an_end() {
    let world = world(AGENTS);
    let chain = |length: usize| {
        (1..length).fold(
            json!({ "sub": "first" }),
            |within, at| json!({ "sub": format!("actor-{at}"), "act": within }),
        )
    };
    ask(&world, "GET", chain(2), json!({})).passed();
    ask(&world, "GET", chain(3), json!({})).assert_refused(403, "forbidden");
    ask(&world, "GET", chain(5), json!({})).assert_invalid();
    ask(&world, "GET", json!("bot"), json!({})).assert_invalid();
    let stranger = json!({ "sub": "bot", "iss": "https://stranger.example" });
    ask(&world, "GET", stranger, json!({})).assert_invalid();
}

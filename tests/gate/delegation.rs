//! Tokens that somebody uses for somebody else (RFC 8693): a right that is delegated is one that both have.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, ISSUER, Key, KeyServer, b64, changed, claims};
use crate::world::{Ask, Heard, World, eventually};

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

/// The role by which people read orders, for the agent itself.
const VIEWING_AGENT: &str = r#"[{
    "uid": { "type": "Cardea::Agent", "id": "https://login.example.com|bot" },
    "attrs": { "tier": 1 },
    "parents": [{ "type": "Cardea::Role", "id": "order-viewer" }]
}]"#;

/// Without `scope`, who has the role may read orders.
fn by_role_alone(kind: &str) -> String {
    format!(
        r#"@id("any-scope") permit (principal is Cardea::{kind}, action in Cardea::Action::"read", resource in Cardea::Api::"orders")
           when {{ principal in Cardea::Role::"order-viewer" }};"#
    )
}

#[test]
fn the_scopes_of_a_delegated_token_bind_the_agent_and_the_user_alike_where_permits_ask_for_them() {
    let narrow = || json!({ "scope": "orders:write" });
    let world = |more: &str| {
        World::with(|setup| {
            setup.write("entities/agents.json", VIEWING_AGENT);
            setup.write("agents.cedar", more);
        })
    };
    let read = |world: &World, claims| ask(world, "GET", json!({ "sub": "bot" }), claims);
    // The shipped permit asks both for the role and the scope.
    let shipped = world("");
    read(&shipped, json!({})).assert_allowed(&["orders-read-by-role"]);
    for _ in 0..2 {
        read(&shipped, narrow()).assert_refused(403, "not_permitted");
    }
    // Each of the two is held to the scopes, also where the other is not.
    for free in ["User", "Agent"] {
        let world = world(&by_role_alone(free));
        read(&world, json!({})).assert_allowed(&["any-scope", "orders-read-by-role"]);
        for _ in 0..2 {
            read(&world, narrow()).assert_refused(403, "not_permitted");
        }
    }
    // It is the permits that ask: where none does, a scope is nothing that is held against anybody.
    let world = world(
        &[
            by_role_alone("User"),
            by_role_alone("Agent").replace("any-scope", "any"),
        ]
        .concat(),
    );
    read(&world, narrow()).assert_allowed(&["any", "any-scope"]);
    // And they may ask by the name that says whose scopes these are.
    world.write(
        "held.cedar",
        r#"@id("held-to-scopes") forbid (principal, action, resource)
           when { context has delegation && !context.delegation.scopes.contains("orders:read") };"#,
    );
    eventually("the policy is in force", || {
        !read(&world, narrow()).allowed()
    });
    read(&world, narrow()).assert_refused(403, "forbidden");
    read(&world, json!({})).passed();
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

/// A world that believes transaction tokens of a second issuer, whose key this is.
fn transactions(combine: &Value) -> (World, Key, KeyServer) {
    let (key, server) = (Key::es256("t1"), KeyServer::start());
    server.publish(&[&key]);
    let world = World::with(|setup| {
        let issuer = json!({
            "issuer": "https://transactions.example.com",
            "audiences": [AUDIENCE],
            "carrier": "transaction_token",
            "token_types": ["txntoken+jwt"],
            "keys": { "jwks_url": server.url("/jwks") },
            "claims": { "roles": ["roles"] },
            "actor_issuers": [ISSUER],
        });
        let identity = &mut setup.settings["identity"];
        identity["issuers"].as_array_mut().unwrap().push(issuer);
        let schemes = json!(["jwt", "transaction_token"]);
        identity["routes"] = json!([{ "schemes": schemes, "combine": combine }]);
        setup.write(
            "transactions.cedar",
            r#"@id("by-transaction") permit (principal, action, resource) when { context.token.kind == "transaction_token" };"#,
        );
    });
    (world, key, server)
}

fn transaction_token(key: &Key, typ: &str) -> String {
    transaction_token_with(key, typ, json!({}))
}

/// The same with further claims.
fn transaction_token_with(key: &Key, typ: &str, more: Value) -> String {
    let changes = json!({ "iss": "https://transactions.example.com", "txn": "97053963-771d", "sub": "alice" });
    let claims = changed(changed(claims(), changes), more);
    let mut header = key.header();
    header["typ"] = json!(typ);
    key.sign_texts(&header.to_string(), &claims.to_string())
}

#[test]
fn a_transaction_token_names_the_caller_where_there_is_no_other_credential() {
    let (world, key, _server) = transactions(&json!([]));
    let ask = |token: &str| world.ask(Ask::get("/v1/orders").header("txn-token", token));
    ask(&transaction_token(&key, "txntoken+jwt"))
        .assert_allowed(&["by-transaction", "orders-read-by-role"]);
    // Each kind of token is one only where it belongs.
    ask(&transaction_token(&key, "at+jwt")).assert_invalid();
    ask(&world.key.token()).assert_invalid();
    world
        .present(&transaction_token(&key, "txntoken+jwt"))
        .assert_invalid();
    ask("a b").assert_invalid();
    let good = transaction_token(&key, "txntoken+jwt");
    ask(&format!("{good},{good}")).assert_refused(400, "ambiguous_credential");
}

#[test]
fn j1_j2_j4_j5_j7_j8_j12_j13_j18_j19_j20_j21_transaction_tokens_are_read_as_strictly_as_others() {
    let (world, key, server) = transactions(&json!([]));
    let thief = Key::es256("t1");
    let good = transaction_token(&key, "txntoken+jwt");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (_, payload) = signed.split_once('.').unwrap();
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let usual = changed(key.header(), json!({ "typ": "txntoken+jwt" }));
    let headed = |changes: Value| changed(usual.clone(), changes).to_string();
    let mut tokens: Vec<String> = [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "ES384" }),
        json!({ "jwk": thief.jwk() }),
        json!({ "jku": server.url("/jwks") }),
        json!({ "x5c": ["AAAA"] }),
        json!({ "crit": ["x-mfa"], "x-mfa": "1" }),
        json!({ "b64": false }),
        json!({ "zip": "DEF" }),
    ]
    .into_iter()
    .flat_map(|changes| {
        [&key, &thief].map(|signer| signer.sign_texts(&headed(changes.clone()), &claims))
    })
    .collect();
    for name in ["none", "nOnE", "HS256"] {
        let signed = format!("{}.{payload}", b64(headed(json!({ "alg": name }))));
        let mac = hmac::Key::new(hmac::HMAC_SHA256, key.jwk().to_string().as_bytes());
        let mac = b64(hmac::sign(&mac, signed.as_bytes()));
        tokens.extend(["", "AAAA", &mac].map(|end| format!("{signed}.{end}")));
    }
    let double = claims.replacen('{', "{\"sub\":\"bob\",", 1);
    let texts = [&*double, "[1,2]", "\"x\"", ""];
    tokens.extend(texts.map(|text| key.sign_texts(&usual.to_string(), text)));
    tokens.extend([
        thief.sign_texts(&usual.to_string(), &claims),
        format!("{signed}.{}", b64([0; 64])),
        format!("{signed}.{signature}="),
        format!("{signed}.{signature}A"),
        format!("{good}.a.b"),
        format!("{}..{signature}", b64(usual.to_string())),
        ".".repeat(8000),
        "A".repeat(8193),
        "..".to_owned(),
        json!({ "payload": payload }).to_string(),
    ]);
    let asked = server.asked();
    for token in &tokens {
        for _ in 0..2 {
            let ask = Ask::get("/v1/orders").header("txn-token", token);
            world.ask(ask).assert_invalid();
        }
    }
    assert_eq!(server.asked(), asked, "keys were fetched");
    let ask = Ask::get("/v1/orders").header("txn-token", &good);
    world.ask(ask).passed();
}

#[test]
fn a_bound_transaction_token_without_its_proof_is_refused_cold_and_warm() {
    let (world, key, _server) = transactions(&json!([]));
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    let name = "spiffe://a/one".try_into().unwrap();
    parameters.subject_alt_names = vec![rcgen::SanType::URI(name)];
    let certificate = parameters.self_signed(&pair).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der().as_ref());
    let bound = json!({ "cnf": { "x5t#S256": b64(digest) } });
    let token = transaction_token_with(&key, "txntoken+jwt", bound);
    let alone = || Ask::get("/v1/orders").header("txn-token", &token);
    for _ in 0..2 {
        world.ask(alone()).assert_invalid();
        world
            .ask(alone().bearer(&world.key.token()))
            .assert_invalid();
    }
    let mut proven = alone();
    let pem = certificate.pem();
    proven.attributes().source.as_mut().unwrap().certificate =
        pem.bytes().map(|byte| format!("%{byte:02X}")).collect();
    world
        .ask(proven)
        .assert_allowed(&["by-transaction", "orders-read-by-role"]);
    world.ask(alone()).assert_invalid();
    // The same where it is bound to a key, which nobody proves.
    let by_key = json!({ "cnf": { "jkt": b64([7; 32]) } });
    let by_key = transaction_token_with(&key, "txntoken+jwt", by_key);
    world
        .ask(Ask::get("/v1/orders").header("txn-token", &by_key))
        .assert_invalid();
}

#[test]
fn h5_one_agent_that_acts_for_two_people_is_two_callers() {
    let (world, key, _server) = transactions(&json!([]));
    let bot = json!({ "sub": "bot", "iss": ISSUER });
    let bearer = world.key.token_with(json!({ "sub": "alice", "act": bot }));
    let bobs = json!({ "sub": "bob", "act": bot });
    let transaction = transaction_token_with(&key, "txntoken+jwt", bobs);
    for _ in 0..2 {
        let ask = Ask::get("/v1/orders").bearer(&bearer);
        world
            .ask(ask.header("txn-token", &transaction))
            .assert_refused(400, "ambiguous_credential");
    }
}

#[test]
fn h5_two_callers_on_one_request_need_a_rule_that_combines_them() {
    let both = |world: &World, transaction: &str| {
        let ask = Ask::get("/v1/orders").bearer(&world.key.token());
        world.ask(ask.header("txn-token", transaction))
    };
    let (world, key, _server) = transactions(&json!([]));
    let token = transaction_token(&key, "txntoken+jwt");
    for _ in 0..2 {
        both(&world, &token).assert_refused(400, "ambiguous_credential");
    }
    let (world, key, _server) = transactions(&json!([["jwt", "transaction_token"]]));
    let token = transaction_token(&key, "txntoken+jwt");
    for _ in 0..2 {
        both(&world, &token).assert_allowed(&["orders-read-by-role"]);
    }
    // A rule combines good credentials only.
    both(&world, &transaction_token(&key, "at+jwt")).assert_invalid();
    let (world, key, _server) = transactions(&json!([["transaction_token", "jwt"]]));
    let token = transaction_token(&key, "txntoken+jwt");
    for _ in 0..2 {
        both(&world, &token).assert_allowed(&["by-transaction", "orders-read-by-role"]);
    }
}

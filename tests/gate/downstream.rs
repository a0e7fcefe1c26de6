//! The token that upstreams get about callers: as an upstream sees it that knows nothing but the published keys.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, TokenData, Validation, decode, decode_header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Builder;
use tonic::transport::Channel;

use crate::child::{Child, run, told};
use crate::issuer::{ISSUER, now};
use crate::world::{Ask, Heard, Setup, World, eventually, http_get, start};

const CARDEA: &str = "https://cardea.internal";
const HEADER: &str = "x-cardea-identity";

/// A world that mints, with further settings of that section.
fn world(mint: Value) -> World {
    World::with(|setup| minting(setup, mint))
}

fn minting(setup: &mut Setup, mint: Value) {
    setup.settings["public"] = json!({ "address": "127.0.0.1:0" });
    setup.settings["mint"] = json!({ "issuer": CARDEA });
    let Value::Object(further) = mint else {
        panic!("no section: {mint}")
    };
    for (name, value) in further {
        setup.settings["mint"][name] = value;
    }
}

/// The published keys.
fn key_set(world: &World) -> String {
    let (status, body) = http_get(
        world.app().public_address().unwrap(),
        "/.well-known/jwks.json",
    );
    assert_eq!(status, 200);
    body
}

/// What an upstream makes of a token: by a library of its own, and the published keys alone.
fn verify(keys: &str, token: &str, audience: &str) -> Result<TokenData<Value>, String> {
    let header = decode_header(token).map_err(|error| error.to_string())?;
    let keys: JwkSet = serde_json::from_str(keys).unwrap();
    let key = keys
        .find(&header.kid.ok_or("no kid")?)
        .ok_or("no such key")?;
    let mut rules = Validation::new(header.alg);
    rules.leeway = 0;
    rules.set_issuer(&[CARDEA]);
    rules.set_audience(&[audience]);
    rules.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    let key = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
    decode(token, &key, &rules).map_err(|error| error.to_string())
}

#[track_caller]
fn minted(heard: &Heard) -> String {
    heard.passed();
    let token = heard.header(HEADER).expect("a token for the upstream");
    token.to_owned()
}

#[track_caller]
fn claims(world: &World, heard: &Heard) -> Value {
    verify(&key_set(world), &minted(heard), "orders")
        .unwrap()
        .claims
}

#[test]
fn an_upstream_can_verify_who_calls_by_the_published_keys_alone() {
    for algorithm in ["ES256", "EdDSA"] {
        let world = world(json!({ "keys": { "algorithm": algorithm } }));
        let own = world.key.token();
        let token = minted(&world.present(&own));
        let data = verify(&key_set(&world), &token, "orders").unwrap();
        assert_eq!(data.header.typ.as_deref(), Some("cardea-identity+jwt"));
        let claims = data.claims;
        assert_eq!(claims["sub"], format!("{ISSUER}|alice"));
        assert_eq!(
            (&claims["idp"], &claims["idp_sub"]),
            (&json!(ISSUER), &json!("alice"))
        );
        assert_eq!(
            (&claims["kind"], &claims["tenant"]),
            (&json!("User"), &json!("acme"))
        );
        assert_eq!(claims["roles"], json!(["order-editor"]));
        assert_eq!(claims["scope"], "orders:read orders:write profile");
        assert_eq!(claims["scheme"], "bearer_jwt");
        let (issued, ends) = (
            claims["iat"].as_i64().unwrap(),
            claims["exp"].as_i64().unwrap(),
        );
        assert_eq!(ends - issued, 60);
        assert!((issued - now()).abs() < 60);
        // The caller's own is none, and this one is no caller's.
        assert!(verify(&key_set(&world), &world.key.token(), "orders").is_err());
        world.present(&token).assert_invalid();
        // The next request of the same caller costs no signature.
        assert_eq!(minted(&world.present(&own)), token);
    }
}

#[test]
fn a_token_for_one_service_is_of_no_use_at_another() {
    let world = World::with(|setup| {
        minting(
            setup,
            json!({ "audiences": { "old": "https://old.internal" } }),
        );
        setup.write(
            "apis/old.yaml",
            "openapi: 3.1.0\ninfo: { title: Old, version: '1' }\nx-cardea: { api: old }\npaths:\n  /old: { get: { operationId: list } }\n",
        );
        setup.write(
            "old.cedar",
            r#"@id("old") permit (principal is Cardea::User, action == Cardea::Action::"old.list", resource);"#,
        );
    });
    let keys = key_set(&world);
    let orders = minted(&world.get("/v1/orders"));
    let old = minted(&world.get("/old"));
    assert!(verify(&keys, &orders, "orders").is_ok());
    assert!(verify(&keys, &orders, "https://old.internal").is_err());
    assert!(verify(&keys, &old, "https://old.internal").is_ok());
    assert!(verify(&keys, &old, "orders").is_err());
}

#[test]
fn a_token_that_is_bound_names_its_operation_and_method() {
    let world = world(json!({ "bind": "operation" }));
    let list = claims(&world, &world.get("/v1/orders"));
    assert_eq!(
        (&list["op"], &list["htm"]),
        (&json!("orders.listOrders"), &json!("GET"))
    );
    let one = claims(&world, &world.get("/v1/orders/1001"));
    assert_eq!(one["op"], "orders.getOrder");
}

#[test]
fn an_agent_stands_in_act_and_its_user_is_the_subject() {
    let world = World::with(|setup| {
        minting(setup, json!({}));
        setup.first_issuer()["claims"]["purpose"] = json!("purp");
        setup.write(
            "agents.cedar",
            r#"@id("agents-read") permit (principal is Cardea::Agent, action in Cardea::Action::"read", resource in Cardea::Api::"orders");"#,
        );
    });
    let act = json!({ "sub": "bot", "act": { "sub": "planner" } });
    let token = world.key.token_with(json!({ "act": act, "purp": "trip" }));
    let claims = claims(&world, &world.present(&token));
    assert_eq!(
        (&claims["idp_sub"], &claims["kind"]),
        (&json!("alice"), &json!("User"))
    );
    assert_eq!(claims["act"]["sub"], format!("{ISSUER}|bot"));
    assert_eq!(claims["act"]["kind"], "Agent");
    assert_eq!(
        claims["act"]["act"],
        json!({ "sub": format!("{ISSUER}|planner") })
    );
    assert_eq!(
        (&claims["purpose"], &claims["human_approved"]),
        (&json!("trip"), &json!(false))
    );
}

#[test]
fn clients_and_holders_of_keys_are_told_of_as_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let places = ["keys.json", "hash-key"].map(|name| folder.path().join(name));
    let [file, secret] = places.each_ref().map(|path| path.to_str().unwrap());
    let keys = |what: &str, more: &[&str]| {
        let places = ["keys", what, "--file", file, "--hash-key-file", secret];
        let output = run(&[&places[..], more].concat());
        assert!(output.status.success(), "{}", told(&output).1);
        String::from_utf8(output.stdout).unwrap()
    };
    keys("init", &[]);
    let key = keys(
        "create",
        &[
            "--owner",
            "billing",
            "--tenant",
            "acme",
            "--expires-in",
            "45s",
        ],
    );
    let world = World::with(|setup| {
        minting(setup, json!({}));
        setup.settings["identity"]["api_keys"] =
            json!({ "file": file, "hash_key": { "file": secret }, "issuer": "keys" });
        setup.write(
            "clients.cedar",
            r#"@id("clients") permit (principal is Cardea::Client, action == Cardea::Action::"orders.listOrders", resource);"#,
        );
    });
    let client = world
        .key
        .token_with(json!({ "sub": "shop", "client_id": "shop", "auth_time": now() - 5 }));
    let told = claims(&world, &world.present(&client));
    assert_eq!(
        (&told["kind"], &told["client_id"]),
        (&json!("Client"), &json!("shop"))
    );
    assert!(told["auth_time"].is_i64());
    let told = claims(
        &world,
        &world.ask(Ask::get("/v1/orders").header("x-api-key", key.trim())),
    );
    assert_eq!(
        (&told["sub"], &told["kind"]),
        (&json!("keys|billing"), &json!("Client"))
    );
    assert_eq!(
        (&told["scheme"], &told["tenant"]),
        (&json!("api_key"), &json!("acme"))
    );
    let life = told["exp"].as_i64().unwrap() - told["iat"].as_i64().unwrap();
    assert!(life <= 45, "the key itself ends: {life}");
}

#[test]
fn a_token_ends_with_the_credential_and_is_not_made_for_one_that_only_skew_keeps() {
    let world = world(json!({}));
    let ends = now() + 20;
    let short = world.key.token_with(json!({ "exp": ends }));
    assert_eq!(claims(&world, &world.present(&short))["exp"], ends);
    let ended = json!({ "iat": now() - 60, "exp": now() - 1 });
    let heard = world.present(&world.key.token_with(ended.clone()));
    heard.assert_refused(401, "credential_invalid");
    // Where nothing is signed, skew alone keeps it good.
    let unsigned = World::new();
    let heard = unsigned.present(&unsigned.key.token_with(ended));
    heard.passed();
}

#[test]
fn x1_what_a_client_sends_under_the_name_never_passes() {
    let forged = |path: &str| {
        Ask::get(path)
            .header(HEADER, "forged")
            .header("x_cardea_identity", "twin")
    };
    let removed = |heard: &Heard, name: &str| {
        let names = &heard.passed().headers_to_remove;
        names.iter().any(|removed| removed == name)
    };
    let world = world(json!({}));
    let known = world.ask(forged("/v1/orders").bearer(&world.key.token()));
    assert!(verify(&key_set(&world), &minted(&known), "orders").is_ok());
    assert!(removed(&known, "x_cardea_identity") && !removed(&known, HEADER));
    // Nobody in particular gets none, and what they brought goes.
    let nobody = world.ask(forged("/v1/status"));
    assert_eq!(nobody.header(HEADER), None);
    assert!(removed(&nobody, HEADER) && removed(&nobody, "x_cardea_identity"));
    let silent = world.ask(Ask::get("/v1/status"));
    assert!(removed(&silent, HEADER), "also where it was not seen");
    // Where nothing is minted, a forged one goes all the same.
    let without = World::new();
    assert!(removed(&without.ask(forged("/v1/status")), HEADER));
    // What is refused tells its caller nothing of it.
    let denied = world.ask(forged("/nowhere").bearer(&world.key.token()));
    denied.assert_refused(403, "forbidden");
    assert_eq!(denied.header(HEADER), None);
}

#[test]
fn nobody_in_particular_has_a_token_where_settings_want_one() {
    let world = world(json!({ "anonymous": true }));
    let heard = world.ask(Ask::get("/v1/status"));
    let keys: JwkSet = serde_json::from_str(&key_set(&world)).unwrap();
    let mut rules = Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.set_audience(&["orders"]);
    let key = DecodingKey::from_jwk(&keys.keys[0]).unwrap();
    let told: TokenData<Value> = decode(minted(&heard), &key, &rules).unwrap();
    assert_eq!(
        (&told.claims["kind"], told.claims.get("sub")),
        (&json!("Anonymous"), None)
    );
}

#[test]
fn a_token_may_take_the_place_of_the_callers_own() {
    let world = World::with(|setup| {
        minting(setup, json!({ "header": "authorization" }));
        setup.settings["answer"] = json!({ "credential": "remove" });
    });
    let heard = world.get("/v1/orders");
    let value = heard.header("authorization").unwrap().to_owned();
    let token = value.strip_prefix("Bearer ").unwrap();
    assert!(verify(&key_set(&world), token, "orders").is_ok());
    let removed = &heard.passed().headers_to_remove;
    assert!(!removed.contains(&"authorization".to_owned()));
    let nobody = world.ask(Ask::get("/v1/status"));
    assert!(
        nobody
            .passed()
            .headers_to_remove
            .contains(&"authorization".to_owned())
    );
}

#[test]
fn without_its_token_a_request_does_not_pass_whatever_else_settings_say() {
    let world = World::with(|setup| {
        minting(setup, json!({}));
        setup.settings["answer"] = json!({ "own_trouble": "envoy_error" });
    });
    let roles: Vec<String> = (0..70)
        .map(|number| format!("order-editor-{number:050}"))
        .collect();
    let roles: Vec<&str> = roles
        .iter()
        .map(String::as_str)
        .chain(["order-editor"])
        .collect();
    let token = world.key.token_with(json!({ "roles": roles }));
    for _ in 0..2 {
        let heard = world.present(&token);
        heard.assert_refused(503, "mint_failed");
        assert_eq!(heard.metadata("policies"), json!([]));
        assert!(!heard.problem().to_string().contains("mint.claims"));
    }
    let metrics = world.metrics();
    assert!(
        (metrics.sum("cardea_mint_failures_total", &[r#"reason="too_long""#]) - 2.0).abs() < 0.1
    );
    let denied = metrics.sum("cardea_decisions_total", &[r#"reason="mint_failed""#]);
    assert!((denied - 2.0).abs() < 0.1);
    world.get("/v1/orders").passed();
    assert!(world.metrics().sum("cardea_mint_tokens_total", &[]) > 0.9);
    assert!(world.metrics().0.contains("cardea_mint_key_age_seconds"));
}

#[test]
fn what_passes_only_because_it_is_observed_has_its_token_too() {
    let world = World::with(|setup| {
        minting(setup, json!({}));
        setup.write(
            "apis/old.yaml",
            "openapi: 3.1.0\ninfo: { title: Old, version: '1' }\nx-cardea: { api: old, observe: true }\npaths:\n  /old: { get: { operationId: list } }\n",
        );
    });
    let heard = world.get("/old");
    assert_eq!(heard.reason(), "observed");
    assert!(verify(&key_set(&world), &minted(&heard), "old").is_ok());
}

/// A folder of keys, made by the program.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    create_key(&keys, "es256");
    (folder, keys)
}

/// The path and the id of a new key.
fn create_key(folder: &Path, algorithm: &str) -> (PathBuf, String) {
    let folder = folder.to_str().unwrap();
    let output = run(&[
        "mint",
        "create-key",
        "--directory",
        folder,
        "--algorithm",
        algorithm,
    ]);
    assert!(output.status.success(), "{}", told(&output).1);
    let text = String::from_utf8(output.stdout).unwrap();
    let (path, kid) = text.trim().split_once("\nkid ").unwrap();
    (path.into(), kid.to_owned())
}

#[test]
fn replicas_that_share_a_folder_sign_alike_and_a_new_key_is_published_before_it_signs() {
    let (_keep, keys) = folder();
    let with = || world(json!({ "keys": { "directory": keys } }));
    let (one, other) = (with(), with());
    let token = minted(&one.get("/v1/orders"));
    assert!(
        verify(&key_set(&other), &token, "orders").is_ok(),
        "by the other's keys"
    );
    let old = decode_header(&token).unwrap().kid.unwrap();
    // Names hold seconds: the next has to come later than the first.
    let first = std::fs::read_dir(&keys)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let renamed = keys.join("0-first.pem");
    std::fs::rename(&first, &renamed).unwrap();
    let (_, new) = create_key(&keys, "eddsa");
    eventually("the new key is published", || key_set(&one).contains(&new));
    let bound = one.key.token_with(json!({ "jti": "another" }));
    let during = minted(&one.present(&bound));
    assert_eq!(
        decode_header(&during).unwrap().kid.unwrap(),
        old,
        "and does not sign yet"
    );
    // An old key that goes away at once signs no more, and its last tokens still verify.
    std::fs::remove_file(&renamed).unwrap();
    eventually("the new key signs", || {
        let token = minted(&one.get("/v1/orders"));
        decode_header(&token).unwrap().kid.unwrap() == new
    });
    assert!(verify(&key_set(&one), &token, "orders").is_ok());
    assert!(verify(&key_set(&one), &minted(&one.get("/v1/orders")), "orders").is_ok());
}

#[test]
fn a_folder_that_can_be_used_no_more_leaves_the_old_keys_and_is_told() {
    let (_keep, keys) = folder();
    let world = world(json!({ "keys": { "directory": keys } }));
    let own = world.key.token();
    let token = minted(&world.present(&own));
    std::fs::write(
        keys.join("zzz.pem"),
        "-----BEGIN PRIVATE KEY-----\ncanary\n",
    )
    .unwrap();
    eventually("the metric tells", || {
        world.metrics().sum("cardea_mint_keys_stale", &[]) > 0.5
    });
    let later = minted(&world.present(&own));
    let kid = |token: &str| decode_header(token).unwrap().kid;
    assert_eq!(kid(&later), kid(&token));
    assert!(verify(&key_set(&world), &token, "orders").is_ok());
    assert_eq!(world.admin("/ready").0, 200);
}

#[test]
fn without_a_key_that_can_be_used_there_is_no_start() {
    let (_keep, keys) = folder();
    std::fs::write(
        keys.join("zzz.pem"),
        "-----BEGIN PRIVATE KEY-----\ncanary\n",
    )
    .unwrap();
    let empty = tempfile::tempdir().unwrap();
    for (directory, part) in [
        (keys.as_path(), "zzz.pem"),
        (empty.path(), "holds no key that signs"),
        (Path::new("no/such/folder"), "cannot look at the keys"),
    ] {
        let mut setup = Setup::new();
        minting(&mut setup, json!({ "keys": { "directory": directory } }));
        let text = format!("{:?}", start(&setup.settings).expect_err("refused"));
        assert!(text.contains(part) && !text.contains("canary"), "{text}");
    }
}

#[test]
fn cardea_does_not_sign_in_the_name_of_an_issuer_that_it_believes() {
    let mut setup = Setup::new();
    minting(&mut setup, json!({ "issuer": ISSUER }));
    let problems = start(&setup.settings).expect_err("refused");
    assert!(
        problems[0]
            .message
            .contains("whose credentials `identity` believes")
    );
}

#[test]
fn no_signal_shows_a_token_or_a_key() {
    let (_keep, keys) = folder();
    let mut setup = Setup::new();
    minting(&mut setup, json!({ "keys": { "directory": keys } }));
    setup.settings["telemetry"]["log"] = json!({ "level": "debug", "decisions": "all" });
    let child = Child::serve(&setup.settings, &[]);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let token = setup.key.token();
    let mut heard = None;
    eventually("its keys are there", || {
        let asked = runtime.block_on(async {
            let url = format!("http://{}", child.check);
            let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
            let ask = Ask::get("/v1/orders").bearer(&token);
            ask.send(AuthorizationClient::new(channel)).await
        });
        let allowed = asked.allowed();
        heard = Some(asked);
        allowed
    });
    let token = minted(&heard.unwrap());
    let signals: String = ["/metrics", "/shadow", "/ready", "/version"]
        .map(|path| http_get(child.admin, path).1)
        .concat();
    child.terminate();
    let told = signals + &child.end().1;
    assert!(
        told.contains("permitted"),
        "the decision was told of: {told}"
    );
    let file = std::fs::read_dir(&keys).unwrap().next().unwrap().unwrap();
    let pem = std::fs::read_to_string(file.path()).unwrap();
    let secrets = token.split('.').skip(1).chain(pem.lines().skip(1).take(2));
    for secret in secrets {
        assert!(!told.contains(secret), "{told}");
    }
}

/// A library that thousands of services use, in a process of its own.
const JOSE: &str = r"
import { createRemoteJWKSet, jwtVerify } from 'jose';
const [url, token] = process.argv.slice(1);
const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(url)), {
  issuer: 'https://cardea.internal', audience: 'orders', typ: 'cardea-identity+jwt', algorithms: ['ES256', 'EdDSA'],
});
console.log(JSON.stringify(payload));
";

#[test]
fn a_service_in_another_language_verifies_it_by_the_address_of_the_keys() {
    for algorithm in ["ES256", "EdDSA"] {
        let world = world(json!({ "keys": { "algorithm": algorithm } }));
        let token = minted(&world.get("/v1/orders"));
        let keys = format!(
            "http://{}/.well-known/jwks.json",
            world.app().public_address().unwrap()
        );
        let read = |token: &str| {
            let folder = crate::provider::folder();
            let output = Command::new(folder.join("node"))
                .args(["--input-type=module", "-e", JOSE, "--", &keys, token])
                .current_dir(folder)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let claims: Option<Value> = serde_json::from_slice(&output.stdout).ok();
            claims.filter(|_| output.status.success())
        };
        assert_eq!(
            read(&token).expect("it verifies")["sub"],
            format!("{ISSUER}|alice")
        );
        assert_eq!(read(&world.key.token()), None);
    }
}

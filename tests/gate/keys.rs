//! Key servers that misbehave, and keys that change.

use std::time::Duration;

use serde_json::{Value, json};

use crate::issuer::{ISSUER, Key, KeyServer, Reply, jwks, now};
use crate::world::{Ask, PATIENCE, Setup, World, eventually};

/// A world whose key server is as given from the start, so that there are no keys.
fn without_keys(reply: Reply) -> World {
    let mut setup = Setup::new();
    setup.issuer.reply("/jwks", reply);
    setup.first_issuer()["unknown_kid_interval"] = "1s".into();
    setup.settings["identity"]["key_wait"] = "200ms".into();
    let world = setup.start();
    assert!(!world.app().wait_until_ready(Duration::ZERO));
    world
}

fn failures(world: &World) -> u64 {
    world.pipeline().identity.key_sets()[0].fetch_errors
}

#[test]
fn k1_without_keys_nothing_is_believed_and_nothing_is_called_invalid() {
    let elsewhere = KeyServer::start();
    let key = Key::es256("k1");
    elsewhere.publish(&[&key]);
    for reply in [
        Reply::Status(500),
        Reply::Status(404),
        Reply::Status(204),
        Reply::Status(304),
        Reply::Text("<html>sign in</html>".to_owned()),
        Reply::Text(String::new()),
        Reply::Text("[]".to_owned()),
        Reply::Text("{}".to_owned()),
        Reply::Text(json!({ "keys": [] }).to_string()),
        Reply::Text(json!({ "keys": {} }).to_string()),
        Reply::Text(json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] }).to_string()),
        Reply::Text(format!("{}{}", jwks(&[&key]), jwks(&[&key]))),
        Reply::Text("[".repeat(100_000)),
        Reply::Redirect(elsewhere.url("/jwks")),
        Reply::Redirect("file:///etc/passwd".to_owned()),
        Reply::Flood(100 << 20),
        Reply::Close,
    ] {
        let shown = format!("{reply:?}");
        let world = without_keys(reply);
        eventually("the first fetch fails", || failures(&world) > 0);
        world
            .present(&key.token())
            .assert_refused(503, "keys_unavailable");
        world
            .ask(Ask::get("/v1/status"))
            .assert_allowed(&["status-is-public"]);
        let (status, body) = world.admin("/ready");
        assert_eq!(status, 503, "{}", &shown[..shown.len().min(80)]);
        assert!(body.contains(ISSUER), "{body}");
        assert!(
            world.issuer.sent() < 16 << 20,
            "{} bytes were taken",
            world.issuer.sent()
        );
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect was followed");
}

#[test]
fn k1_a_server_that_hangs_or_drips_holds_up_no_request_for_long() {
    for reply in [Reply::Hang, Reply::Drip] {
        let world = without_keys(reply);
        world
            .get("/v1/orders")
            .assert_refused(503, "keys_unavailable");
        assert_eq!(
            failures(&world),
            0,
            "it waited until the server was given up"
        );
        // Whoever needs no key does not wait at all.
        world
            .ask(Ask::get("/v1/orders"))
            .assert_refused(401, "credential_missing");
        world.present("a.b.c").assert_invalid();
    }
}

#[test]
fn k1_a_hanging_server_is_given_up_and_asked_again() {
    let world = without_keys(Reply::Hang);
    eventually("the attempt is given up", || failures(&world) > 0);
    eventually("the server is asked again", || world.issuer.asked() > 1);
    world.issuer.publish(&[&world.key]);
    assert!(world.app().wait_until_ready(PATIENCE));
    world.get("/v1/orders").passed();
}

#[test]
fn k1_known_keys_go_on_serving_while_the_server_fails() {
    let world = World::new();
    let remembered = world.key.token();
    world.present(&remembered).passed();
    for reply in [
        Reply::Status(500),
        Reply::Text("{}".to_owned()),
        Reply::Flood(1 << 20),
        Reply::Close,
    ] {
        world.issuer.reply("/jwks", reply);
        let before = failures(&world);
        world.refresh();
        assert_eq!(failures(&world), before + 1);
        world.present(&remembered).passed();
        let fresh = world.key.token_with(json!({ "jti": before.to_string() }));
        world.present(&fresh).passed();
        assert_eq!(world.admin("/ready").0, 200);
    }
    let metrics = world.metrics();
    let label = format!("issuer=\"{ISSUER}\"");
    assert!(metrics.0.contains(&label), "{}", metrics.0);
    // An unknown key cannot be told from a forged one now: that is trouble of ours, not of the caller's.
    let rotated = Key::es256("k2");
    world
        .present(&rotated.token())
        .assert_refused(503, "keys_unavailable");
}

#[test]
fn k1_keys_end_when_they_are_older_than_allowed() {
    let world = World::with(|setup| {
        let issuer = setup.first_issuer();
        issuer["refresh_interval"] = "1s".into();
        issuer["max_stale"] = "2s".into();
    });
    let remembered = world.key.token();
    world.present(&remembered).passed();
    world.issuer.reply("/jwks", Reply::Status(500));
    eventually("old keys end", || !world.present(&remembered).allowed());
    world
        .present(&remembered)
        .assert_refused(503, "keys_unavailable");
    eventually("readiness ends", || world.admin("/ready").0 == 503);
    world.issuer.publish(&[&world.key]);
    eventually("keys are back", || world.present(&remembered).allowed());
    eventually("readiness is back", || world.admin("/ready").0 == 200);
}

#[test]
fn k1_one_bad_key_and_one_pair_of_twins_spoil_no_others() {
    let (twin, other) = (Key::es256("twin"), Key::es256("twin"));
    let world = World::with(|setup| {
        let keys = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "bad"}, twin.jwk(), other.jwk(), setup.key.jwk(),
        ]});
        setup.issuer.reply("/jwks", Reply::Text(keys.to_string()));
    });
    world.get("/v1/orders").passed();
    world.present(&twin.token()).assert_invalid();
    world.present(&other.token()).assert_invalid();
}

#[test]
fn c7_a_flood_of_unknown_key_ids_costs_one_fetch_an_interval() {
    let world = World::with(|setup| setup.first_issuer()["unknown_kid_interval"] = "1h".into());
    assert_eq!(world.issuer.asked(), 1);
    let tokens: Vec<String> = (0..500)
        .map(|n| {
            world
                .key
                .token_under(json!({ "kid": format!("k{}", n + 2) }))
        })
        .collect();
    let asks: Vec<_> = tokens
        .iter()
        .map(|token| world.spawn(Ask::get("/v1/orders").bearer(token).send(world.client())))
        .collect();
    for ask in asks {
        world.wait(ask).unwrap().assert_invalid();
    }
    assert_eq!(world.issuer.asked(), 2, "one fetch for all of them");
    // The flood spent its own budget; a rotation is still noticed, by the timer.
    let next = Key::es256("next");
    world.issuer.publish(&[&world.key, &next]);
    world.present(&next.token()).assert_invalid();
    world.refresh();
    world.present(&next.token()).passed();
    world.get("/v1/orders").passed();
}

#[test]
fn c7_the_timer_finds_a_rotation_while_a_flood_goes_on() {
    let world = World::with(|setup| {
        let issuer = setup.first_issuer();
        issuer["refresh_interval"] = "1s".into();
        issuer["unknown_kid_interval"] = "1h".into();
    });
    world
        .present(&world.key.token_under(json!({ "kid": "x" })))
        .assert_invalid();
    let next = Key::es256("next");
    let token = next.token();
    world.issuer.publish(&[&next]);
    eventually("the rotation is found", || {
        world.present(&world.key.token_under(json!({ "kid": now().to_string() })));
        world.present(&token).allowed()
    });
    world.get("/v1/orders").assert_invalid();
}

#[test]
fn a_rotation_is_picked_up_by_the_first_token_that_names_the_new_key() {
    let world = World::new();
    let next = Key::ed25519("k2");
    world.issuer.publish(&[&world.key, &next]);
    world.present(&next.token()).passed();
    assert_eq!(world.issuer.asked(), 2);
}

#[test]
fn c3_tokens_that_arrive_together_are_fetched_for_and_judged_once() {
    let world = World::new();
    let next = Key::es256("k2");
    world.issuer.reply("/jwks", Reply::Text(jwks(&[&next])));
    let token = next.token();
    let asks: Vec<_> = (0..50)
        .map(|_| world.spawn(Ask::get("/v1/orders").bearer(&token).send(world.client())))
        .collect();
    for ask in asks {
        world.wait(ask).unwrap().passed();
    }
    assert_eq!(world.issuer.asked(), 2);
    assert_eq!(world.figures().judged, 1);
}

#[test]
fn c8_a_failure_that_passes_is_never_remembered_as_a_refusal() {
    let world = without_keys(Reply::Status(500));
    eventually("the first fetch fails", || failures(&world) > 0);
    let token = world.key.token();
    world
        .present(&token)
        .assert_refused(503, "keys_unavailable");
    world.issuer.publish(&[&world.key]);
    eventually("keys are there", || {
        world.app().wait_until_ready(Duration::ZERO)
    });
    world.present(&token).passed();
}

/// A world whose issuer is found by discovery, with this document.
fn discovered(document: impl FnOnce(&KeyServer) -> Value) -> World {
    let mut setup = Setup::new();
    let issuer = setup.issuer.url("/tenant/");
    let document = document(&setup.issuer).to_string();
    setup.issuer.reply(
        "/tenant/.well-known/openid-configuration",
        Reply::Text(document),
    );
    let settings = setup.first_issuer();
    settings["issuer"] = issuer.into();
    settings["keys"] = "discovery".into();
    setup.start()
}

#[test]
fn keys_are_found_by_discovery() {
    let world = discovered(
        |issuer| json!({ "issuer": issuer.url("/tenant/"), "jwks_uri": issuer.url("/jwks") }),
    );
    assert!(world.app().wait_until_ready(PATIENCE));
    let token = world
        .key
        .token_with(json!({ "iss": world.issuer.url("/tenant/") }));
    world.present(&token).passed();
}

#[test]
fn k1_a_discovery_document_of_somebody_else_is_not_believed() {
    let cases: [fn(&KeyServer) -> Value; 5] = [
        |issuer| json!({ "issuer": "https://evil.example", "jwks_uri": issuer.url("/jwks") }),
        |issuer| json!({ "issuer": issuer.url("/tenant"), "jwks_uri": issuer.url("/jwks") }),
        |issuer| json!({ "issuer": issuer.url("/tenant/"), "jwks_uri": "file:///etc/passwd" }),
        |issuer| json!({ "issuer": issuer.url("/tenant/"), "jwks_uri": "http://169.254.169.254/jwks" }),
        |issuer| json!({ "issuer": issuer.url("/tenant/") }),
    ];
    for case in cases {
        let world = discovered(case);
        eventually("the first fetch fails", || failures(&world) > 0);
        let token = world
            .key
            .token_with(json!({ "iss": world.issuer.url("/tenant/") }));
        world
            .present(&token)
            .assert_refused(503, "keys_unavailable");
    }
}

#[test]
fn keys_come_from_a_file_and_follow_it() {
    let next = Key::rs256("k2");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let world = World::with(|setup| {
        std::fs::write(&file, jwks(&[&setup.key])).unwrap();
        setup.first_issuer()["keys"] = json!({ "jwks_file": file });
    });
    world.get("/v1/orders").passed();
    std::fs::write(&file, jwks(&[&next])).unwrap();
    eventually("the new key is read", || {
        world.present(&next.token()).allowed()
    });
    world.get("/v1/orders").assert_invalid();
}

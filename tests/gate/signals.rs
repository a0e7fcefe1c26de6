//! Security events (OpenID Shared Signals Framework, CAEP, RISC): what a transmitter tells ends access at the next check,
//! and nobody else's word does.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::Child;
use crate::issuer::{AUDIENCE, ISSUER, Key, KeyServer, b64, changed, claims, jwks};
use crate::transmitter::{CAEP, Manner, Push, RISC, SSF, STREAM, Transmitter, US};
use crate::world::{Setup, World, eventually, http_get, start};

/// A Cardea that hears these transmitters.
fn hearing(setup: &mut Setup, transmitters: &[Value]) {
    setup.settings["public"] = json!({ "address": "127.0.0.1:0" });
    setup.settings["signals"] = json!({ "transmitters": transmitters, "memory_only": true });
}

fn world(transmitters: &[Value]) -> World {
    keyed(World::with(|setup| hearing(setup, transmitters)))
}

/// The same once the transmitters' keys are there: the first event would wait for them, and be the one to ask.
fn keyed(world: World) -> World {
    let keyed = || {
        world
            .metrics()
            .0
            .contains("cardea_signals_keys_age_seconds{")
    };
    eventually("its keys are fetched", keyed);
    world
}

/// One that fetches events, often.
fn polled(transmitter: &Transmitter) -> Value {
    let poll = json!({ "url": transmitter.url("/poll"), "interval": "100ms", "timeout": "1s" });
    let changes = json!({ "push": null, "poll": poll });
    changed(transmitter.settings("idp"), changes)
}

fn token(world: &World, subject: &str) -> String {
    world
        .key
        .token_with(json!({ "sub": subject, "sid": format!("session-{subject}") }))
}

fn counted(world: &World, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    world.metrics().sum("cardea_signals_total", &[&label])
}

/// Every type that takes trust back, with an event that does.
fn types() -> Vec<(String, Value)> {
    let caep = |name: &str, event| (format!("{CAEP}{name}"), event);
    let risc = |name: &str| (format!("{RISC}{name}"), json!({}));
    vec![
        caep("session-revoked", json!({})),
        caep(
            "token-claims-change",
            json!({ "claims": { "role": "none" } }),
        ),
        caep(
            "credential-change",
            json!({ "credential_type": "password", "change_type": "update" }),
        ),
        caep(
            "assurance-level-change",
            json!({ "namespace": "NIST-AAL", "current_level": "nist-aal1", "change_direction": "decrease" }),
        ),
        caep(
            "device-compliance-change",
            json!({ "previous_status": "compliant", "current_status": "not-compliant" }),
        ),
        caep(
            "risk-level-change",
            json!({ "principal": "USER", "current_level": "HIGH" }),
        ),
        risc("account-disabled"),
        risc("account-purged"),
        risc("account-credential-change-required"),
        risc("credential-compromise"),
        risc("identifier-recycled"),
        risc("sessions-revoked"),
    ]
}

#[test]
fn every_type_of_event_ends_a_remembered_token_once_it_is_taken_and_nobody_elses() {
    let transmitter = Transmitter::start();
    let world = world(&[transmitter.settings("idp")]);
    let other = world.key.token();
    world.present(&other).passed();
    for (number, (uri, event)) in types().into_iter().enumerate() {
        let subject = format!("mallory-{number}");
        let token = token(&world, &subject);
        world.present(&token).passed();
        world.present(&token).passed();
        let set = transmitter.event(&uri, event, &subject);
        assert_eq!(world.push("idp", &set), (202, String::new()), "{uri}");
        world.present(&token).assert_invalid();
    }
    let before = world.figures().hits;
    world.present(&other).passed();
    assert_eq!(
        world.figures().hits,
        before + 1,
        "others are still remembered"
    );
    let metrics = world.metrics();
    let sum = |name: &str, labels: &[&str]| metrics.sum(name, labels);
    let labels = [
        "transmitter=\"idp\"",
        "event=\"risk-level-change\"",
        "outcome=\"applied\"",
    ];
    assert!((sum("cardea_signals_total", &labels) - 1.0).abs() < 0.1);
    assert!((sum("cardea_revocations_total", &["source=\"ssf\""]) - 12.0).abs() < 0.1);
}

#[test]
fn every_type_of_event_that_is_fetched_ends_a_remembered_token_and_is_acknowledged() {
    let transmitter = Transmitter::start();
    let world = world(&[polled(&transmitter)]);
    let mut held = Vec::new();
    for (number, (uri, event)) in types().into_iter().enumerate() {
        let subject = format!("mallory-{number}");
        let token = token(&world, &subject);
        world.present(&token).passed();
        let set = transmitter.event(&uri, event, &subject);
        held.push((token, transmitter.hold(&set)));
    }
    for (token, jti) in held {
        eventually("the event is acknowledged", || {
            transmitter.acknowledged(&jti)
        });
        // In force before it was acknowledged.
        world.present(&token).assert_invalid();
    }
    eventually("none waits", || transmitter.waiting() == 0);
    world.get("/v1/orders").passed();
    let age = world.metrics().sum("cardea_signals_poll_age_seconds", &[]);
    assert!((0.0..30.0).contains(&age), "{age}");
}

#[test]
fn one_session_ends_and_the_users_other_one_does_not() {
    let transmitter = Transmitter::start();
    let world = world(&[transmitter.settings("idp")]);
    let [one, two] = ["1", "2"].map(|sid| {
        world
            .key
            .token_with(json!({ "sub": "mallory", "sid": sid }))
    });
    for token in [&one, &two] {
        world.present(token).passed();
    }
    let sub_id = json!({
        "format": "complex",
        "user": { "format": "iss_sub", "iss": ISSUER, "sub": "mallory" },
        "session": { "format": "opaque", "id": "1" },
        "tenant": { "format": "opaque", "id": "acme" },
    });
    let uri = format!("{CAEP}session-revoked");
    let set = transmitter.claims(&uri, json!({}), json!({ "sub_id": sub_id }));
    assert_eq!(world.push("idp", &transmitter.sign(&set)).0, 202);
    world.present(&one).assert_invalid();
    world.present(&two).passed();
}

#[test]
fn good_news_ends_nothing_and_an_enabled_account_is_let_in_again() {
    let transmitter = Transmitter::start();
    let world = world(&[transmitter.settings("idp")]);
    let token = token(&world, "mallory");
    let tell = |uri: String, event: Value, iat: i64| {
        let changes = json!({ "iat": iat, "sub_id": { "format": "iss_sub", "iss": ISSUER, "sub": "mallory" } });
        let set = transmitter.sign(&transmitter.claims(&uri, event, changes));
        assert_eq!(world.push("idp", &set).0, 202, "{uri}");
    };
    let now = crate::issuer::now();
    for (name, event) in [
        ("caep/credential-change", json!({ "change_type": "create" })),
        (
            "caep/assurance-level-change",
            json!({ "change_direction": "increase" }),
        ),
        (
            "caep/device-compliance-change",
            json!({ "current_status": "compliant" }),
        ),
        (
            "caep/risk-level-change",
            json!({ "current_level": "LOW", "principal": "USER" }),
        ),
        ("caep/session-established", json!({})),
        ("risc/opt-in", json!({})),
        ("risc/recovery-activated", json!({})),
    ] {
        let uri = name.replace("caep/", CAEP).replace("risc/", RISC);
        tell(uri, event, now);
        world.present(&token).passed();
    }
    tell(format!("{RISC}account-disabled"), json!({}), now - 60);
    world.present(&token).assert_invalid();
    let later = world
        .key
        .token_with(json!({ "sub": "mallory", "iat": now + 5 }));
    world.present(&later).assert_invalid();
    tell(format!("{RISC}account-enabled"), json!({}), now - 90);
    world.present(&later).assert_invalid();
    tell(format!("{RISC}account-enabled"), json!({}), now - 30);
    world.present(&later).passed();
    world.present(&token).passed();
}

#[test]
fn j17_a_transmitter_that_misbehaves_is_refused_and_changes_nothing() {
    let transmitter = Transmitter::start();
    let world = world(&[transmitter.settings("idp")]);
    let token = token(&world, "alice");
    let uri = format!("{CAEP}session-revoked");
    let good = transmitter.claims(&uri, json!({}), json!({}));
    let under = |changes: Value| {
        let header = changed(transmitter.header(), changes).to_string();
        transmitter.key.sign_texts(&header, &good.to_string())
    };
    let with = |changes: Value| transmitter.sign(&changed(good.clone(), changes));
    let twice = good.to_string().replacen('{', r#"{"jti":"0","#, 1);
    let twice = transmitter
        .key
        .sign_texts(&transmitter.header().to_string(), &twice);
    let none = format!(
        "{}.{}.",
        b64(r#"{"alg":"none","typ":"secevent+jwt"}"#),
        b64(good.to_string())
    );
    let stranger =
        Key::es256("t1").sign_texts(&transmitter.header().to_string(), &good.to_string());
    let unknown = Key::es256("t9");
    let header = changed(transmitter.header(), json!({ "kid": "t9" })).to_string();
    let unknown = unknown.sign_texts(&header, &good.to_string());
    let foreign =
        json!({ "format": "iss_sub", "iss": "https://other.example.com", "sub": "alice" });
    for (set, code) in [
        (under(json!({ "typ": "JWT" })), "invalid_request"),
        (under(json!({ "typ": "at+jwt" })), "invalid_request"),
        (none, "invalid_request"),
        (twice, "invalid_request"),
        (
            with(json!({ "exp": crate::issuer::now() + 300 })),
            "invalid_request",
        ),
        (with(json!({ "sub": "alice" })), "invalid_request"),
        (with(json!({ "iss": ISSUER })), "invalid_issuer"),
        (with(json!({ "aud": AUDIENCE })), "invalid_audience"),
        (with(json!({ "sub_id": foreign })), "access_denied"),
        (stranger, "authentication_failed"),
        (unknown, "invalid_key"),
        ("<html>".to_owned(), "invalid_request"),
        (String::new(), "invalid_request"),
    ] {
        assert_eq!(world.push("idp", &set), (400, code.to_owned()), "{set}");
        world.present(&token).passed();
    }
    let set = transmitter.sign(&good);
    assert_eq!(world.push("other", &set).0, 404);
    let json = Push {
        content_type: "application/json",
        ..world.pushing("idp")
    };
    assert_eq!(json.send(&set), (400, "invalid_request".to_owned()));
    assert_eq!(world.push("idp", &"x".repeat(65 * 1024)).0, 413);
    world.present(&token).passed();
    assert_eq!(world.push("idp", &set).0, 202);
    world.present(&token).assert_invalid();
}

#[test]
fn j17_an_event_is_no_access_token_and_an_access_token_is_no_event() {
    // The issuer of the tokens transmits events too, with the same key and for the same audience.
    let world = World::with(|setup| {
        let one = json!({
            "name": "idp", "issuer": ISSUER, "audiences": [AUDIENCE], "push": { "unauthenticated": true },
            "keys": { "jwks_url": setup.issuer.url("/jwks") },
        });
        hearing(setup, &[one]);
    });
    // Issued before the event is told, however slow this machine is.
    let before = world.key.token();
    let uri = format!("{CAEP}session-revoked");
    let header = changed(world.key.header(), json!({ "typ": "secevent+jwt" })).to_string();
    let event = json!({ "jti": "1", "events": { uri: {} }, "sub_id": { "format": "iss_sub", "iss": ISSUER, "sub": "alice" } });
    // It has all that an access token needs but the type.
    let both = changed(claims(), event);
    let set = world.key.sign_texts(&header, &both.to_string());
    world.present(&set).assert_invalid();
    assert_eq!(world.push("idp", &set).1, "invalid_request");
    let pure = changed(both.clone(), json!({ "sub": null, "exp": null }));
    let pure = world.key.sign_texts(&header, &pure.to_string());
    world.present(&pure).assert_invalid();
    assert_eq!(
        world.push("idp", &before),
        (400, "invalid_request".to_owned())
    );
    let token = world
        .key
        .sign_texts(&world.key.header().to_string(), &both.to_string());
    assert_eq!(
        world.push("idp", &token),
        (400, "invalid_request".to_owned())
    );
    world.get("/v1/orders").passed();
    assert_eq!(world.push("idp", &pure).0, 202);
    world.present(&before).assert_invalid();
}

#[test]
fn two_transmitters_cannot_speak_for_each_other() {
    let (own, other) = (Transmitter::start(), Transmitter::start());
    let other_settings = changed(
        other.settings("other"),
        json!({ "subject_issuers": ["https://other.example.com"] }),
    );
    let world = World::with(|setup| {
        let mut issuer = setup.settings["identity"]["issuers"][0].clone();
        issuer["issuer"] = "https://other.example.com".into();
        let issuers = setup.settings["identity"]["issuers"].as_array_mut();
        issuers.unwrap().push(issuer);
        hearing(setup, &[own.settings("own"), other_settings]);
    });
    let world = keyed(world);
    let token = world.key.token();
    // The other's event at the own path: by its own name, by the own name, and with the own name's key id.
    assert_eq!(
        world.push("own", &other.revoked("alice")),
        (400, "invalid_issuer".to_owned())
    );
    let claims = own.claims(&format!("{CAEP}session-revoked"), json!({}), json!({}));
    assert_eq!(
        world.push("own", &other.sign(&claims)),
        (400, "authentication_failed".to_owned())
    );
    assert_eq!(
        world.push("other", &other.sign(&claims)),
        (400, "invalid_issuer".to_owned())
    );
    assert_eq!(
        world.push("other", &own.revoked("alice")),
        (400, "invalid_issuer".to_owned())
    );
    assert_eq!(
        world.push("other", &other.revoked("alice")),
        (400, "access_denied".to_owned())
    );
    world.present(&token).passed();
    assert_eq!(world.push("own", &own.revoked("alice")).0, 202);
    world.present(&token).assert_invalid();
}

/// A place for revocations.
struct Place(TempDir);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, transmitters: &[Value]) -> World {
        World::with(|setup| {
            hearing(setup, transmitters);
            let file = self.path("revoked.jsonl");
            setup.settings["identity"]["revocation"] = json!({ "file": file });
        })
    }
}

#[test]
fn a_restart_forgets_no_event_and_one_told_again_counts_once() {
    let transmitter = Transmitter::start();
    let place = Place(tempfile::tempdir().unwrap());
    let world = place.open(&[transmitter.settings("idp")]);
    let set = transmitter.revoked("mallory");
    assert_eq!(world.push("idp", &set).0, 202);
    world.stop_and(std::future::ready(()));
    let world = place.open(&[transmitter.settings("idp")]);
    world.present(&token(&world, "mallory")).assert_invalid();
    assert_eq!(world.push("idp", &set).0, 202);
    assert!((counted(&world, "replayed") - 1.0).abs() < 0.1);
    let entries = world.metrics().sum("cardea_revocations_entries", &[]);
    assert!((entries - 1.0).abs() < 0.1);
}

#[test]
fn a_transmitter_may_change_its_key() {
    let mut transmitter = Transmitter::start();
    let world = world(&[transmitter.settings("idp")]);
    assert_eq!(world.push("idp", &transmitter.revoked("bob")).0, 202);
    let old = transmitter.revoked("alice");
    transmitter.rotate("t2");
    assert_eq!(world.push("idp", &transmitter.revoked("mallory")).0, 202);
    world.present(&token(&world, "mallory")).assert_invalid();
    // Keys were fetched a moment ago and are not asked for again so soon: nobody knows that this one will not come back.
    let told = world.push("idp", &old);
    assert_eq!(told, (503, String::new()), "the old key is gone");
    assert!(counted(&world, "later") > 0.5);
    world.get("/v1/orders").passed();
}

#[test]
fn an_event_that_cannot_be_judged_or_kept_now_is_to_be_sent_again() {
    let transmitter = Transmitter::start();
    transmitter.publish("<html>");
    let world = World::with(|setup| {
        hearing(setup, &[transmitter.settings("idp")]);
        setup.settings["identity"]["revocation"] = json!({ "entries": 1 });
    });
    let first = transmitter.revoked("mallory");
    assert_eq!(world.push("idp", &first).0, 503, "its keys are not there");
    transmitter.publish(&jwks(&[&transmitter.key]));
    eventually("its keys are fetched", || {
        world.push("idp", &first).0 == 202
    });
    world.present(&token(&world, "mallory")).assert_invalid();
    let second = transmitter.revoked("alice");
    assert_eq!(world.push("idp", &second).0, 503, "there is no place");
    assert!(counted(&world, "later") >= 2.0);
    world.get("/v1/orders").passed();
}

#[test]
fn g1_only_who_was_told_to_shows_the_authorization() {
    let transmitter = Transmitter::start();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "Bearer canary-0123456789\n").unwrap();
    let push = json!({ "authorization": { "file": secret } });
    let world = world(&[changed(
        transmitter.settings("idp"),
        json!({ "push": push }),
    )]);
    let set = transmitter.revoked("alice");
    for shown in [
        None,
        Some("Bearer canary-012345678"),
        Some("canary-0123456789"),
        Some(""),
    ] {
        let push = Push {
            authorization: shown,
            ..world.pushing("idp")
        };
        assert_eq!(push.send(&set).0, 401, "{shown:?}");
    }
    world.get("/v1/orders").passed();
    let push = Push {
        authorization: Some("Bearer canary-0123456789"),
        ..world.pushing("idp")
    };
    assert_eq!(push.send("a.b.c").0, 400, "it is no proof of what is sent");
    assert_eq!(push.send(&set).0, 202);
    world.get("/v1/orders").assert_invalid();
}

#[test]
fn a_thousand_events_at_once_are_all_in_force() {
    const MANY: usize = 1000;
    let transmitter = Transmitter::start();
    let place = Place(tempfile::tempdir().unwrap());
    let settings = polled(&transmitter);
    let poll = changed(
        settings["poll"].clone(),
        json!({ "max_events": 1000, "timeout": "20s" }),
    );
    let secret = place.path("secret");
    std::fs::write(&secret, "Bearer many").unwrap();
    let push = json!({ "authorization": { "file": secret } });
    let settings = changed(settings, json!({ "poll": poll, "push": push }));
    let world = place.open(&[settings]);
    let sets: Vec<String> = (0..MANY)
        .map(|n| transmitter.revoked(&format!("pushed-{n}")))
        .collect();
    let address = world.app().public_address().unwrap();
    std::thread::scope(|scope| {
        for part in sets.chunks(MANY / 20) {
            scope.spawn(move || {
                for set in part {
                    let push = Push {
                        to: address,
                        name: "idp",
                        content_type: "application/secevent+jwt",
                        authorization: Some("Bearer many"),
                    };
                    assert_eq!(push.send(set).0, 202);
                }
            });
        }
    });
    let sets: Vec<String> = (0..MANY)
        .map(|n| transmitter.revoked(&format!("polled-{n}")))
        .collect();
    for set in &sets {
        transmitter.hold(set);
    }
    eventually("all are acknowledged", || transmitter.waiting() == 0);
    assert!(transmitter.most_at_once() > 100);
    let entries = world.metrics().sum("cardea_revocations_entries", &[]);
    assert!((entries - 2000.0).abs() < 0.1, "{entries}");
    for subject in ["pushed-0", "pushed-999", "polled-0", "polled-999"] {
        world.present(&token(&world, subject)).assert_invalid();
    }
    world.get("/v1/orders").passed();
}

#[test]
fn a_poll_endpoint_that_misbehaves_costs_nothing_but_time() {
    let transmitter = Transmitter::start();
    let elsewhere = KeyServer::start();
    let world = world(&[polled(&transmitter)]);
    let jti = transmitter.hold(&transmitter.revoked("mallory"));
    eventually("it is well", || transmitter.acknowledged(&jti));
    let failures = || {
        world
            .metrics()
            .sum("cardea_signals_poll_failures_total", &[])
    };
    for manner in [
        Manner::Text("<html>".into()),
        Manner::Text(r#"{"sets":[]}"#.into()),
        Manner::Text(r#"{"sets":{"1":"a","1":"b"}}"#.into()),
        Manner::Status(500),
        Manner::Status(204),
        Manner::Redirect(elsewhere.url("/poll")),
        Manner::Flood,
        Manner::Drip,
        Manner::Hang,
    ] {
        let before = failures();
        transmitter.behave(manner.clone());
        eventually(&format!("{manner:?} is a failure"), || failures() > before);
        let jti = transmitter.hold(&transmitter.revoked("alice-2"));
        transmitter.behave(Manner::Good);
        eventually("it goes on", || transmitter.acknowledged(&jti));
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
    world.get("/v1/orders").passed();
}

#[test]
fn a_transmitter_that_holds_its_answers_back_is_well_and_asked_again() {
    let transmitter = Transmitter::start();
    let mut settings = polled(&transmitter);
    settings["poll"]["long_poll"] = true.into();
    settings["poll"]["timeout"] = "300ms".into();
    transmitter.behave(Manner::Hang);
    let world = world(&[settings]);
    eventually("it is asked again", || transmitter.polls() > 2);
    let failures = || {
        world
            .metrics()
            .sum("cardea_signals_poll_failures_total", &[])
    };
    assert!(failures() < 0.5, "{}", failures());
    let age = "cardea_signals_poll_age_seconds{";
    assert!(world.metrics().0.contains(age), "as after an answer");
    let jti = transmitter.hold(&transmitter.revoked("mallory"));
    transmitter.behave(Manner::Good);
    eventually("it goes on", || transmitter.acknowledged(&jti));
    world.present(&token(&world, "mallory")).assert_invalid();
    transmitter.behave(Manner::Drip);
    eventually("an answer that comes to no end is a failure", || {
        failures() > 0.5
    });
    world.get("/v1/orders").passed();
}

#[test]
fn a_transmitter_that_never_forgets_is_not_asked_without_end() {
    let transmitter = Transmitter::start();
    let mut settings = polled(&transmitter);
    settings["poll"]["interval"] = "1h".into();
    transmitter.behave(Manner::Forgetful);
    transmitter.hold(&transmitter.revoked("mallory"));
    let world = world(&[settings]);
    eventually("the event comes again", || {
        counted(&world, "replayed") > 0.5
    });
    let token = token(&world, "mallory");
    world.present(&token).assert_invalid();
    assert_eq!(
        transmitter.polls(),
        2,
        "although it says that there is more"
    );
}

#[test]
fn what_is_wrong_with_a_fetched_event_is_said() {
    let transmitter = Transmitter::start();
    let world = world(&[polled(&transmitter)]);
    let uri = format!("{CAEP}session-revoked");
    let for_others = transmitter.claims(
        &uri,
        json!({}),
        json!({ "aud": "https://other.example.com" }),
    );
    let audience = transmitter.hold(&transmitter.sign(&for_others));
    let foreign =
        json!({ "format": "iss_sub", "iss": "https://other.example.com", "sub": "alice" });
    let foreign = transmitter.claims(&uri, json!({}), json!({ "sub_id": foreign }));
    let foreign = transmitter.hold(&transmitter.sign(&foreign));
    transmitter.hold_as("another", &transmitter.revoked("alice"));
    transmitter.hold_as("huge", &"x".repeat(65 * 1024));
    let good = transmitter.hold(&transmitter.revoked("mallory"));
    for (jti, code) in [
        (audience.as_str(), "invalid_audience"),
        (&foreign, "access_denied"),
        ("another", "invalid_request"),
        ("huge", "invalid_request"),
    ] {
        eventually("it is said", || transmitter.error(jti).is_some());
        let error = transmitter.error(jti).unwrap();
        assert_eq!(error["err"], code);
        assert!(error["description"].is_string());
    }
    eventually("the good one is acknowledged", || {
        transmitter.acknowledged(&good)
    });
    world.present(&token(&world, "mallory")).assert_invalid();
    world.get("/v1/orders").passed();
}

#[test]
fn the_token_for_the_transmitter_is_read_anew() {
    let transmitter = Transmitter::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "one").unwrap();
    let settings = changed(polled(&transmitter), json!({ "token": { "file": file } }));
    let _world = world(&[settings]);
    let shows = |token: &str| transmitter.authorization().as_deref() == Some(token);
    eventually("it shows the first", || shows("Bearer one"));
    std::fs::write(&file, "two").unwrap();
    eventually("it shows the second", || shows("Bearer two"));
}

/// What metrics say of whether events arrive.
fn alive(world: &World) -> f64 {
    world
        .metrics()
        .sum("cardea_signals_stream_alive", &["transmitter=\"idp\""])
}

fn verified(world: &World) -> bool {
    world
        .metrics()
        .0
        .contains("cardea_signals_stream_verified_age_seconds{")
}

#[test]
fn a_stream_is_verified_by_what_is_pushed_and_not_alive_without_it() {
    let transmitter = Transmitter::start();
    let verification = json!({ "stream_id": STREAM, "interval": "1s", "timeout": "500ms" });
    let settings = changed(
        transmitter.settings("idp"),
        json!({ "verification": verification }),
    );
    let world = world(&[settings]);
    assert!(!verified(&world));
    let mut asked = 0;
    let invented = transmitter.verification("invented");
    assert_eq!(
        world.push("idp", &invented),
        (400, "invalid_state".to_owned())
    );
    assert!(!verified(&world));
    eventually("it answers in time", || {
        let state = transmitter.state(asked);
        asked += 1;
        assert_eq!(world.push("idp", &transmitter.verification(&state)).0, 202);
        verified(&world) && alive(&world) > 0.5
    });
    eventually("it is noticed that no more arrive", || alive(&world) < 0.5);
    let state = transmitter.state(asked);
    assert!(
        !state.is_empty() && state != transmitter.state(asked - 1),
        "never the same"
    );
}

#[test]
fn a_stream_is_verified_by_what_is_fetched() {
    let transmitter = Transmitter::start();
    let verification = json!({
        "stream_id": STREAM, "endpoint": transmitter.url("/verify"), "interval": "1h", "timeout": "1m",
    });
    let settings = changed(
        polled(&transmitter),
        json!({ "verification": verification }),
    );
    let world = world(&[settings]);
    let state = transmitter.state(0);
    let jti = transmitter.hold(&transmitter.verification(&state));
    eventually("it is acknowledged", || transmitter.acknowledged(&jti));
    assert!(alive(&world) > 0.5);
}

#[test]
fn a_stream_that_its_transmitter_stops_is_told_in_metrics() {
    let transmitter = Transmitter::start();
    let world = world(&[transmitter.settings("idp")]);
    let enabled = || world.metrics().sum("cardea_signals_stream_enabled", &[]);
    assert!(enabled() > 0.5);
    let sub_id = json!({ "format": "opaque", "id": STREAM });
    let uri = format!("{SSF}stream-updated");
    let set = transmitter.claims(
        &uri,
        json!({ "status": "paused" }),
        json!({ "sub_id": sub_id }),
    );
    assert_eq!(world.push("idp", &transmitter.sign(&set)).0, 202);
    assert!(enabled() < 0.5);
}

#[test]
fn a3_events_are_counted_and_logged_without_a_word_of_them() {
    let transmitter = Transmitter::start();
    let mut setup = Setup::new();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "canary-token").unwrap();
    let changes = json!({
        "token": { "file": secret },
        "push": null,
        "poll": { "url": transmitter.url("/poll"), "interval": "100ms" },
    });
    hearing(&mut setup, &[changed(transmitter.settings("idp"), changes)]);
    setup.settings["telemetry"]["log"]["level"] = "info".into();
    let child = Child::serve(&setup.settings, &[]);
    eventually("it is ready", || http_get(child.admin, "/ready").0 == 200);
    let uri = format!("{CAEP}session-revoked");
    let reason = json!({ "reason_admin": { "en": "canary-reason" } });
    for sub_id in [
        json!({ "format": "email", "email": "canary@example.com" }),
        json!({ "format": "iss_sub", "iss": "https://canary.example.com", "sub": "canary-subject" }),
        json!({ "format": "jwt_id", "iss": ISSUER, "jti": "canary-jti" }),
        json!({ "session": { "format": "opaque", "id": "canary-session" } }),
    ] {
        let changes =
            json!({ "sub_id": sub_id, "jti": format!("canary-{}", crate::transmitter::unique()) });
        let claims = transmitter.claims(&uri, reason.clone(), changes);
        transmitter.hold(&transmitter.sign(&claims));
    }
    transmitter.hold_as("canary-key", "canary.canary.canary");
    eventually("all were taken or refused", || transmitter.waiting() == 0);
    eventually("it is logged", || {
        let log = child.log();
        let told = |what: &str| log.iter().any(|line| line.to_string().contains(what));
        let named = told("refused_subject") && told("\"setting\":\"subject_issuers\"");
        told("unmapped") && named && told("trust was taken back")
    });
    let mut all = child.output();
    write!(all, "{}", http_get(child.admin, "/metrics").1).unwrap();
    assert!(!all.contains("canary"), "{all}");
}

#[test]
fn settings_that_could_not_work_stop_the_start() {
    let transmitter = Transmitter::start();
    let mut setup = Setup::new();
    setup.settings["signals"] =
        json!({ "transmitters": [transmitter.settings("idp")], "memory_only": true });
    let problems = start(&setup.settings).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].message.contains("public.address"),
        "{problems:?}"
    );
    hearing(&mut setup, &[transmitter.settings("idp")]);
    setup.settings["signals"]["memory_only"] = false.into();
    let problems = start(&setup.settings).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let told = problems[0].to_string();
    assert!(told.contains("identity.revocation.file"), "{told}");
    let mut one = transmitter.settings("idp");
    one["push"] = json!({});
    hearing(&mut setup, &[one]);
    let problems = start(&setup.settings).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let told = problems[0].to_string();
    assert!(told.contains("push.authorization"), "{told}");
    let mut one = transmitter.settings("idp");
    one["push"] = json!({ "authorization": { "env": "CARDEA_NO_SUCH_VARIABLE" } });
    hearing(&mut setup, &[one]);
    let problems = start(&setup.settings).unwrap_err();
    assert!(problems[0].message.contains("`idp`"), "{problems:?}");
    assert_eq!(US, "https://api.example.com/ssf");
}

//! Replicas and what they tell one another through a real Redis: trust taken back at one is gone at all.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cardea::identity::{Event, RevocationSource, Revocations, Target};
use jiff::Timestamp;
use redis::Commands;
use serde_json::{Value, json};

use crate::child::Child;
use crate::issuer::{ISSUER, changed};
use crate::papers::Papers;
use crate::redis::{Redis, Road, log_length};
use crate::world::{Ask, Metrics, PATIENCE, Setup, World, eventually, http_get};

/// A replica that shares what it knows through the server at this URL.
fn alone(url: &str) -> World {
    World::with(|setup| shares(setup, url, &json!({})))
}

/// Another that believes the same issuer.
fn another(first: &World, url: &str) -> World {
    another_with(first, url, &json!({}))
}

fn another_with(first: &World, url: &str, more: &Value) -> World {
    World::with(|setup| {
        shares(setup, url, more);
        setup.first_issuer()["keys"] = json!({ "jwks_url": first.issuer.url("/jwks") });
    })
}

fn shares(setup: &mut Setup, url: &str, more: &Value) {
    let redis = &mut setup.settings["state"]["redis"];
    *redis = json!({ "url": url, "catch_up_wait": "20s" });
    for (name, value) in more.as_object().unwrap() {
        redis[name] = value.clone();
    }
}

impl World {
    fn trust(&self) -> &Arc<Revocations> {
        self.pipeline().identity.revocations()
    }

    /// Takes trust back from everything of a holder.
    fn end(&self, subject: &str) -> String {
        self.end_as(subject, subject)
    }

    fn end_as(&self, id: &str, subject: &str) -> String {
        let event = Event {
            id: id.to_owned(),
            ..self.trust().event(about(subject), RevocationSource::Admin)
        };
        self.tell(event)
    }

    fn tell(&self, event: Event) -> String {
        self.wait(self.trust().apply(event)).unwrap().id
    }

    fn lift(&self, id: &str) {
        let lifted = self.wait(self.trust().lift(id, RevocationSource::Admin));
        assert!(lifted.is_some(), "{id} is not in force");
    }

    /// Disables an account, as a transmitter does.
    fn disable(&self, told_at: i64) {
        self.tell(Event {
            id: ACCOUNT.to_owned(),
            issued_before: Event::FOR_GOOD,
            expires_at: Event::FOR_GOOD,
            at: second(told_at),
            ..self.trust().event(about("mallory"), RevocationSource::Ssf)
        });
    }

    /// Enables it again. Returns whether it was disabled before.
    fn enable(&self, told_at: i64) -> bool {
        let later = second(told_at);
        let source = RevocationSource::Ssf;
        let lifted = self.trust().lift_told_before(ACCOUNT, later, source);
        self.wait(lifted).is_some()
    }

    fn in_force(&self) -> Vec<String> {
        let events = self.trust().snapshot().into_iter();
        let mut ids: Vec<String> = events.map(|event| event.id).collect();
        ids.sort();
        ids
    }

    /// Everything in force, as far as it decides.
    fn decides(&self) -> Vec<String> {
        let events = self.trust().snapshot().into_iter();
        let mut texts: Vec<String> = events
            .map(|event| {
                let Event {
                    id,
                    target,
                    issued_before,
                    expires_at,
                    ..
                } = event;
                json!([
                    id,
                    target,
                    issued_before.to_string(),
                    expires_at.to_string()
                ])
                .to_string()
            })
            .collect();
        texts.sort();
        texts
    }

    #[track_caller]
    fn comes_to(&self, ids: &[&str]) {
        eventually("these are in force", || self.in_force() == ids);
    }

    fn shared(&self, figure: &str) -> f64 {
        self.metrics()
            .sum(&format!("cardea_shared_state_{figure}"), &[])
    }

    fn connected(&self) -> bool {
        self.shared("connected") > 0.5
    }

    fn dropped(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        self.metrics()
            .sum("cardea_shared_state_dropped_total", &[&label])
    }
}

/// The id under which a transmitter disables and enables one account.
const ACCOUNT: &str = "account:mallory";

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn about(subject: &str) -> Target {
    Target::Subject {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
    }
}

#[track_caller]
fn agree(one: &World, other: &World) {
    eventually("both decide alike", || one.decides() == other.decides());
}

#[test]
fn an_event_at_one_replica_bites_at_the_other_and_so_does_its_lifting() {
    let redis = Redis::start();
    let a = alone(&redis.url());
    let b = another(&a, &redis.url());
    let token = a.key.token_with(json!({ "sub": "mallory" }));
    b.present(&token).passed();
    let id = a.end("mallory");
    eventually("it bites", || !b.present(&token).allowed());
    b.present(&token).assert_invalid();
    b.present(&a.key.token()).passed();
    let peer = ["target=\"subject\"", "source=\"peer\""];
    assert!((b.metrics().sum("cardea_revocations_total", &peer) - 1.0).abs() < 0.1);
    a.lift(&id);
    eventually("it is lifted", || b.present(&token).allowed());
    for (world, sent, received) in [(&a, 2.0, 0.0), (&b, 0.0, 2.0)] {
        assert!((world.shared("sent_total") - sent).abs() < 0.1);
        assert!((world.shared("received_total") - received).abs() < 0.1);
        assert!(world.connected());
        assert!(world.shared("age_seconds") < PATIENCE.as_secs_f64());
    }
}

#[test]
fn who_starts_later_knows_what_is_in_force_before_anybody_is_let_in() {
    let redis = Redis::start();
    let a = alone(&redis.url());
    let lifted = a.end("bob");
    a.end("mallory");
    a.lift(&lifted);
    eventually("all is told", || log_length(&mut redis.connection()) == 4);
    let b = another(&a, &redis.url());
    let of = |sub: &str| a.key.token_with(json!({ "sub": sub }));
    b.present(&of("mallory")).assert_invalid();
    b.present(&of("bob")).passed();
}

#[test]
fn a_replica_that_was_cut_off_catches_up_and_is_caught_up_with() {
    let redis = Redis::start();
    let road = Road::to(redis.address());
    let a = alone(&redis.url());
    let b = another(&a, &road.url());
    for subject in ["one", "two", "three"] {
        a.end(subject);
    }
    b.comes_to(&["one", "three", "two"]);
    road.cut();
    eventually("it is cut off", || !b.connected());
    a.end("of-a");
    a.lift("one");
    b.end("of-b");
    b.lift("two");
    b.comes_to(&["of-b", "one", "three"]);
    a.comes_to(&["of-a", "three", "two"]);
    eventually("both changes wait", || b.shared("waiting") > 1.5);
    road.mend();
    for world in [&a, &b] {
        world.comes_to(&["of-a", "of-b", "three"]);
    }
    eventually("nothing waits", || b.shared("waiting") < 0.5);
}

#[test]
fn a_connection_that_dies_in_silence_is_noticed() {
    let redis = Redis::start();
    let road = Road::to(redis.address());
    let a = alone(&redis.url());
    let b = another(&a, &road.url());
    road.fall_silent();
    eventually("it is noticed", || !b.connected());
    assert!(b.shared("age_seconds") > 0.5);
    a.end("mallory");
    road.mend();
    b.comes_to(&["mallory"]);
    assert!(b.connected());
}

#[test]
fn a_server_that_restarts_or_loses_everything_is_told_again() {
    let mut redis = Redis::start();
    let a = alone(&redis.url());
    let b = another(&a, &redis.url());
    a.end("one");
    b.end("two");
    agree(&a, &b);
    for lost in [false, true] {
        redis.stop();
        eventually("it is lost", || !a.connected() && !b.connected());
        b.present(&a.key.token_with(json!({ "sub": "one" })))
            .assert_invalid();
        a.end(&format!("of-a-{lost}"));
        b.end(&format!("of-b-{lost}"));
        if lost {
            redis.start_empty();
        } else {
            redis.start_again();
        }
        agree(&a, &b);
    }
    let known = a.in_force();
    assert_eq!(known.len(), 6, "{known:?}");
    eventually("the server knows all", || {
        let told: usize = redis.connection().hlen("cardea:revocations:now").unwrap();
        told == 6
    });
    assert_eq!(another(&a, &redis.url()).in_force(), known);
}

#[test]
fn what_somebody_deletes_in_the_server_is_told_again() {
    let redis = Redis::start();
    let a = alone(&redis.url());
    a.end("one");
    eventually("it is told", || log_length(&mut redis.connection()) == 2);
    let () = redis::cmd("FLUSHALL")
        .query(&mut redis.connection())
        .unwrap();
    eventually("it is told again", || {
        let told: usize = redis.connection().hlen("cardea:revocations:now").unwrap();
        told == 1
    });
    another(&a, &redis.url()).comes_to(&["one"]);
}

#[test]
fn a_flood_beyond_the_outbox_arrives_all_the_same() {
    let redis = Redis::start();
    let road = Road::to(redis.address());
    let a = alone(&redis.url());
    let b = another_with(&a, &road.url(), &json!({ "outbox": 16 }));
    a.end("early");
    b.comes_to(&["early"]);
    road.cut();
    eventually("it is cut off", || !b.connected());
    for number in 0..200 {
        b.end(&format!("s{number}"));
    }
    b.lift("early");
    b.end("late");
    road.mend();
    agree(&a, &b);
    assert_eq!(a.in_force().len(), 201);
    assert!(!a.in_force().contains(&"early".to_owned()));
}

#[test]
fn a_stream_that_was_trimmed_hides_nothing() {
    let redis = Redis::start();
    let road = Road::to(redis.address());
    let short = json!({ "stream_length": 100 });
    let a = World::with(|setup| shares(setup, &redis.url(), &short));
    let b = another_with(&a, &road.url(), &short);
    a.end("early");
    b.comes_to(&["early"]);
    road.cut();
    eventually("it is cut off", || !b.connected());
    a.lift("early");
    for number in 0..600 {
        a.end(&format!("s{number}"));
    }
    eventually("all is told", || a.shared("sent_total") > 601.5);
    assert!(log_length(&mut redis.connection()) < 400);
    road.mend();
    agree(&a, &b);
    assert_eq!(b.in_force().len(), 600);
}

#[test]
fn who_was_away_does_not_bring_back_what_was_lifted() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    let file = json!({ "file": folder.path().join("revoked.jsonl") });
    let a = alone(&redis.url());
    let start = || {
        World::with(|setup| {
            shares(setup, &redis.url(), &json!({}));
            setup.settings["identity"]["revocation"] = file.clone();
        })
    };
    let b = start();
    a.end("lifted");
    a.end("kept");
    b.comes_to(&["kept", "lifted"]);
    b.stop_and(std::future::ready(()));
    a.lift("lifted");
    eventually("it is told", || log_length(&mut redis.connection()) == 4);
    let b = start();
    assert_eq!(b.in_force(), ["kept"]);
    b.end("more");
    a.comes_to(&["kept", "more"]);
}

#[test]
fn what_found_no_room_is_taken_once_there_is_some() {
    let redis = Redis::start();
    let a = alone(&redis.url());
    let b = World::with(|setup| {
        shares(setup, &redis.url(), &json!({}));
        setup.settings["identity"]["revocation"] = json!({ "entries": 2 });
    });
    for subject in ["one", "two", "three", "four"] {
        a.end(subject);
    }
    eventually("two find no room", || b.dropped("refused") > 1.5);
    b.comes_to(&["one", "two"]);
    a.lift("one");
    a.lift("three");
    b.comes_to(&["four", "two"]);
    let refused = b.dropped("refused");
    assert!((refused - 2.0).abs() < 0.1, "{refused}");
    assert!(b.connected());
}

#[test]
fn an_old_lifting_does_not_undo_what_was_told_since_then() {
    let redis = Redis::start();
    let road = Road::to(redis.address());
    let folder = tempfile::tempdir().unwrap();
    let file = json!({ "file": folder.path().join("revoked.jsonl") });
    let a = alone(&redis.url());
    let start = || {
        World::with(|setup| {
            shares(setup, &road.url(), &json!({ "catch_up_wait": "1s" }));
            setup.settings["identity"]["revocation"] = file.clone();
        })
    };
    let b = start();
    b.disable(100);
    a.comes_to(&[ACCOUNT]);
    assert!(b.enable(110));
    a.comes_to(&[]);
    road.cut();
    eventually("it is cut off", || !b.connected());
    b.disable(120);
    // Of what waited to be told, a restart leaves nothing.
    b.stop_and(std::future::ready(()));
    let b = start();
    road.mend();
    eventually("it is back", || b.connected());
    for world in [&a, &b, &another(&a, &redis.url())] {
        world.comes_to(&[ACCOUNT]);
    }
    b.lift(ACCOUNT);
    for world in [&a, &b, &another(&a, &redis.url())] {
        world.comes_to(&[]);
    }
}

#[test]
fn of_liftings_and_events_that_crossed_the_later_counts() {
    for lifting_first in [true, false] {
        let redis = Redis::start();
        let (to_a, to_b) = (Road::to(redis.address()), Road::to(redis.address()));
        let a = alone(&to_a.url());
        let b = another(&a, &to_b.url());
        a.disable(100);
        b.comes_to(&[ACCOUNT]);
        for (world, road) in [(&a, &to_a), (&b, &to_b)] {
            road.cut();
            eventually("it is cut off", || !world.connected());
        }
        assert!(a.enable(110));
        b.disable(120);
        let mut roads = [(&a, &to_a), (&b, &to_b)];
        if !lifting_first {
            roads.reverse();
        }
        for (world, road) in roads {
            road.mend();
            eventually("it is told", || {
                world.connected() && world.shared("waiting") < 0.5
            });
        }
        for world in [&a, &b, &another(&a, &redis.url())] {
            world.comes_to(&[ACCOUNT]);
        }
        agree(&a, &b);
    }
}

#[test]
fn an_event_that_was_kept_in_a_file_reaches_those_who_never_heard_of_it() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    let file = json!({ "file": folder.path().join("revoked.jsonl") });
    let local = World::with(|setup| setup.settings["identity"]["revocation"] = file.clone());
    local.end("mallory");
    local.stop_and(std::future::ready(()));
    let a = alone(&redis.url());
    let _b = World::with(|setup| {
        shares(setup, &redis.url(), &json!({}));
        setup.settings["identity"]["revocation"] = file.clone();
    });
    a.comes_to(&["mallory"]);
}

#[test]
fn an_event_told_to_two_replicas_covers_what_either_was_told() {
    let redis = Redis::start();
    let road = Road::to(redis.address());
    let a = alone(&redis.url());
    let b = another(&a, &road.url());
    road.cut();
    eventually("it is cut off", || !b.connected());
    let usual = a.trust().event(about("mallory"), RevocationSource::Admin);
    let hours = |hours: i64| jiff::SignedDuration::from_hours(hours);
    let early = Event {
        id: "case".into(),
        expires_at: usual.expires_at + hours(9),
        ..usual.clone()
    };
    let late = Event {
        id: "case".into(),
        issued_before: usual.issued_before + hours(1),
        ..usual
    };
    b.tell(early.clone());
    a.tell(late.clone());
    road.mend();
    agree(&a, &b);
    let both = &another(&a, &redis.url()).trust().snapshot()[0];
    assert_eq!(both.issued_before, late.issued_before);
    assert_eq!(both.expires_at, early.expires_at);
}

#[test]
fn two_events_of_one_id_about_different_things_are_both_in_force() {
    let redis = Redis::start();
    let road = Road::to(redis.address());
    let a = alone(&redis.url());
    let b = another(&a, &road.url());
    road.cut();
    eventually("it is cut off", || !b.connected());
    a.end_as("case", "mallory");
    b.end_as("case", "trudy");
    road.mend();
    for world in [&a, &b] {
        eventually("both are refused", || {
            ["mallory", "trudy"].iter().all(|sub| {
                let token = a.key.token_with(json!({ "sub": sub }));
                !world.present(&token).allowed()
            })
        });
    }
    agree(&another(&a, &redis.url()), &another(&a, &redis.url()));
}

#[test]
fn garbage_in_the_channel_and_in_the_stream_is_dropped_and_counted() {
    let redis = Redis::start();
    let a = alone(&redis.url());
    a.end("good");
    eventually("it is told", || log_length(&mut redis.connection()) == 2);
    let connection = &mut redis.connection();
    let log = "cardea:revocations:log";
    let long = "x".repeat(1024 * 1024);
    let ends = "2126-01-01T00:00:00Z";
    let nobody = json!({ "v": 1, "origin": "x", "n": 1, "key": "k", "ends": ends, "told": ends, "body": {} });
    let nobody = &*nobody.to_string();
    for (field, text) in [
        ("record", "\u{0}garbage"),
        ("record", &*long),
        ("record", r#"{"v":9}"#),
        ("record", nobody),
        ("other", "x"),
    ] {
        let mut add = redis::cmd("XADD");
        let add = add.arg(log).arg("*").arg(field).arg(text);
        let _: String = add.query(connection).unwrap();
    }
    let (other, key) = (nobody.replace("\"k\"", "\"l\""), "cardea:revocations:now");
    let _: usize = connection.hset(key, "k", other).unwrap();
    let _: usize = connection.hset(key, &[0xff][..], "x").unwrap();
    for message in [&b"\xff"[..], b"", b"9 x"] {
        let _: usize = connection.publish("cardea:revocations", message).unwrap();
    }
    eventually("all of it is counted", || {
        let dropped = |reason| a.dropped(reason);
        dropped("unreadable") > 4.5
            && dropped("too_long") > 0.5
            && dropped("version") > 0.5
            && dropped("refused") > 0.5
    });
    let b = another(&a, &redis.url());
    assert!(b.dropped("unreadable") > 1.5);
    b.end("more");
    for world in [&a, &b] {
        world.comes_to(&["good", "more"]);
        assert!(world.connected());
    }
}

#[test]
fn keys_of_another_kind_cost_nothing_but_the_others() {
    let redis = Redis::start();
    let () = redis
        .connection()
        .set("cardea:revocations:now", "not a hash")
        .unwrap();
    let a = World::with(|setup| shares(setup, &redis.url(), &json!({ "catch_up_wait": "0s" })));
    a.end("mallory");
    eventually("it was tried in vain", || {
        let mut errors = redis::cmd("INFO");
        let errors: String = errors
            .arg("errorstats")
            .query(&mut redis.connection())
            .unwrap();
        errors.contains("errorstat_WRONGTYPE")
    });
    assert!(!a.connected());
    let token = a.key.token_with(json!({ "sub": "mallory" }));
    a.present(&token).assert_invalid();
    let () = redis.connection().del("cardea:revocations:now").unwrap();
    eventually("it is told", || {
        let told: usize = redis.connection().hlen("cardea:revocations:now").unwrap();
        told == 1
    });
}

#[test]
fn nobody_lifts_what_was_signed_without_the_secret() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        json!({ "secret": { "file": folder.path().join(name) } })
    };
    let ours = secret("ours", "canary-0123456789abcdef");
    let a = World::with(|setup| shares(setup, &redis.url(), &ours));
    let b = another_with(&a, &redis.url(), &ours);
    a.end("mallory");
    b.comes_to(&["mallory"]);
    let theirs = secret("theirs", "canary-9876543210abcdef");
    for more in [&theirs, &json!({})] {
        let stranger = another_with(&a, &redis.url(), more);
        assert_eq!(stranger.in_force(), [""; 0]);
        stranger.end_as("mallory", "mallory");
        stranger.lift("mallory");
        stranger.end("alice");
        eventually("it told all", || stranger.shared("sent_total") > 2.5);
    }
    eventually("it is dropped", || b.dropped("signature") > 5.5);
    a.end("more");
    b.comes_to(&["mallory", "more"]);
    a.comes_to(&["mallory", "more"]);
}

#[test]
fn tls_with_a_certificate_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let papers = Papers::new(folder.path());
    let redis = Redis::with(|_, port| {
        let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
        [
            ("--port", "0".to_owned()),
            ("--tls-port", port.to_string()),
            ("--tls-auth-clients", "yes".to_owned()),
            ("--tls-cert-file", text(papers.certificate_file("redis"))),
            ("--tls-key-file", text(papers.key_file("redis"))),
            ("--tls-ca-cert-file", text(papers.authority_file())),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    });
    let url = format!("rediss://{}", redis.address());
    let own = json!({
        "ca_file": papers.authority_file(),
        "certificate_file": papers.certificate_file("cardea"),
        "key_file": papers.key_file("cardea"),
    });
    let a = World::with(|setup| shares(setup, &url, &own));
    let b = another_with(&a, &url, &own);
    a.end("mallory");
    b.comes_to(&["mallory"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let strange = Papers::new(elsewhere.path());
    for (more, why) in [
        (
            json!({ "ca_file": papers.authority_file() }),
            "the connection broke",
        ),
        (
            changed(own, json!({ "ca_file": strange.authority_file() })),
            "invalid peer certificate",
        ),
        (json!({}), "invalid peer certificate"),
    ] {
        let mut setup = Setup::new();
        shares(
            &mut setup,
            &url,
            &changed(more, json!({ "catch_up_wait": "100ms" })),
        );
        let child = Child::serve(&setup.settings, &[]);
        eventually("the reason is told", || {
            reasons(&child).iter().any(|told| told.contains(why))
        });
        let line = child.line();
        line.ask(Ask::get("/v1/orders").bearer(&setup.key.token()))
            .passed();
        let metrics = Metrics(http_get(child.admin, "/metrics").1);
        assert!(metrics.sum("cardea_shared_state_connected", &[]) < 0.5);
        assert!(metrics.sum("cardea_revocations_entries", &[]) < 0.5);
    }
}

/// Why the server was not reached, as the log tells it.
fn reasons(child: &Child) -> Vec<String> {
    let log = child.log().into_iter();
    log.filter_map(|line| line["reason"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn the_rights_that_are_documented_are_enough_and_a_wrong_password_names_no_secret() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/shared-state.md"));
    let page = page.unwrap();
    let rights = page.lines().find(|line| line.starts_with("user cardea "));
    let rights = rights.unwrap().replace("THE-PASSWORD", "canary-right");
    let redis = Redis::with(|folder, port| {
        let rules = folder.join("users.acl");
        fs::write(&rules, format!("user default off\n{rights}\n")).unwrap();
        let rules = rules.to_str().unwrap().to_owned();
        vec!["--port".into(), port.to_string(), "--aclfile".into(), rules]
    });
    let folder = tempfile::tempdir().unwrap();
    let login = |password: &str| {
        let file = folder.path().join(password);
        fs::write(&file, password).unwrap();
        json!({ "username": "cardea", "password": { "file": file }, "catch_up_wait": "2s" })
    };
    let right = login("canary-right");
    let a = World::with(|setup| shares(setup, &redis.url(), &right));
    let b = another_with(&a, &redis.url(), &right);
    a.end("mallory");
    a.end("bob");
    a.lift("bob");
    b.comes_to(&["mallory"]);
    b.end("more");
    a.comes_to(&["mallory", "more"]);
    let mut setup = Setup::new();
    shares(&mut setup, &redis.url(), &login("canary-wrong"));
    let child = Child::serve(&setup.settings, &[]);
    eventually("it is ready", || http_get(child.admin, "/ready").0 == 200);
    let metrics = Metrics(http_get(child.admin, "/metrics").1);
    assert!(metrics.sum("cardea_shared_state_connected", &[]) < 0.5);
    assert_eq!(
        reasons(&child),
        ["cannot log in: the user name or the password is wrong"]
    );
    assert!(!child.output().contains("canary"), "{}", child.output());
}

#[test]
fn a_server_that_is_not_there_at_the_start_is_joined_later() {
    let redis = Redis::start();
    let road = Road::to(redis.address());
    road.cut();
    let a = World::with(|setup| shares(setup, &road.url(), &json!({ "catch_up_wait": "50ms" })));
    eventually("it was tried in vain", || road.turned_away() > 1);
    assert!(!a.connected());
    a.end("mallory");
    let token = a.key.token_with(json!({ "sub": "mallory" }));
    a.present(&token).assert_invalid();
    a.get("/v1/orders").passed();
    assert_eq!(a.admin("/ready").0, 200);
    road.mend();
    eventually("it is joined", || a.connected());
    another(&a, &redis.url()).comes_to(&["mallory"]);
}

#[test]
fn ended_records_are_swept() {
    let redis = Redis::start();
    let connection = &mut redis.connection();
    let (now, ends) = ("cardea:revocations:now", "cardea:revocations:ends");
    for number in 0..600 {
        let key = format!("k{number}");
        let _: usize = connection.hset(now, &key, "{}").unwrap();
        let _: usize = connection.zadd(ends, &key, 1000).unwrap();
    }
    let a = alone(&redis.url());
    a.end("good");
    eventually("they are gone", || {
        let left: (usize, usize) = (
            redis.connection().hlen(now).unwrap(),
            redis.connection().zcard(ends).unwrap(),
        );
        left == (1, 1)
    });
}

#[test]
fn replicas_agree_in_the_end_whatever_happened() {
    let mut redis = Redis::start();
    let road = Road::to(redis.address());
    let short = json!({ "stream_length": 100, "outbox": 16 });
    let a = World::with(|setup| shares(setup, &redis.url(), &short));
    let b = another_with(&a, &road.url(), &short);
    // The same at every run, and of no pattern.
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut fresh = 0;
    for _ in 0..12 {
        match random(6) {
            0 => {
                redis.stop();
                redis.start_again();
            }
            1 | 2 => road.cut(),
            3 => road.fall_silent(),
            _ => road.mend(),
        }
        for _ in 0..random(60) {
            let world = if random(2) == 0 { &a } else { &b };
            let known = world.in_force();
            let few = u64::try_from(known.len()).unwrap();
            if random(3) == 0 && few > 0 {
                let at = usize::try_from(random(few)).unwrap();
                let _lifted = world.wait(world.trust().lift(&known[at], RevocationSource::Admin));
            } else {
                fresh += 1;
                world.end(&format!("s{fresh}"));
            }
        }
    }
    road.mend();
    eventually("both are there", || {
        let there = |world: &World| world.connected() && world.shared("waiting") < 0.5;
        there(&a) && there(&b)
    });
    agree(&a, &b);
    let c = another(&a, &redis.url());
    agree(&a, &c);
    assert!(!c.in_force().is_empty());
}

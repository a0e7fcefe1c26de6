//! Status lists on a server of their own: what an issuer says of its tokens after it gave them out.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, ISSUER, Key, KeyServer, Reply, b64, changed, claims, now};
use crate::world::{Ask, Setup, World, eventually};

/// How many requests use a list for the first time at once.
const AT_ONCE: u64 = 100;

const PATH: &str = "/lists/1";

/// A Cardea that honours the lists of a server.
struct Room {
    lists: KeyServer,
    world: World,
}

impl Room {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// One that fetches lists again only after longer than any test takes, and waits for them as long.
    fn patient() -> Self {
        Self::with(|setup| {
            let lists = &mut setup.first_issuer()["status_lists"];
            lists["min_refresh"] = "60s".into();
            lists["max_refresh"] = "60s".into();
            setup.settings["identity"]["key_wait"] = "10s".into();
        })
    }

    /// One whose setup is changed first.
    fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let lists = KeyServer::start();
        let world = World::with(|setup: &mut Setup| {
            setup.first_issuer()["status_lists"] = json!({
                "url_prefixes": [lists.url("/lists")],
                "min_refresh": "1s",
                "max_refresh": "1s",
            });
            change(setup);
        });
        Self { lists, world }
    }

    /// The list in which these are the statuses, at eight bits each, but for these claims.
    fn list_with(&self, statuses: &[u8], changes: Value) -> String {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(statuses).unwrap();
        let lst = b64(encoder.finish().unwrap());
        let list = json!({
            "sub": self.lists.url(PATH), "iat": now(), "exp": now() + 300, "ttl": 1,
            "status_list": { "bits": 8, "lst": lst },
        });
        changed(list, changes).to_string()
    }

    fn signed(key: &Key, typ: &str, list: &str) -> Reply {
        let header = changed(key.header(), json!({ "typ": typ }));
        Reply::Text(key.sign_texts(&header.to_string(), list))
    }

    fn publish(&self, statuses: &[u8]) {
        let list = self.list_with(statuses, json!({}));
        let reply = Self::signed(&self.world.key, "statuslist+jwt", &list);
        self.lists.reply(PATH, reply);
    }

    /// A token at this place of the list.
    fn token(&self, index: u64) -> String {
        let status = status(&self.lists.url(PATH), &json!(index));
        self.world.key.token_with(status)
    }
}

fn status(uri: &str, index: &Value) -> Value {
    json!({ "status": { "status_list": { "idx": index, "uri": uri } } })
}

/// A listener that nobody may come to, and who came.
fn canary() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let came = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&came);
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (format!("http://{address}"), came)
}

#[test]
fn c5_a_status_that_changes_ends_a_cached_proof_and_one_that_changes_back_renews_it() {
    let room = Room::new();
    room.publish(&[1, 0, 0]);
    let (bad, good, other) = (room.token(0), room.token(1), room.token(2));
    room.world.present(&bad).assert_invalid();
    room.world.present(&good).passed();
    room.world.present(&good).passed();
    room.world.present(&other).passed();
    let judged = room.world.figures().judged;
    assert_eq!(judged, 3);

    let mut renewed = judged;
    for (status, kind) in [(1, "invalid"), (2, "suspended"), (3, "of their own")] {
        room.publish(&[1, status, 0]);
        eventually(kind, || !room.world.present(&good).allowed());
        room.world.present(&good).assert_invalid();
        room.world.present(&other).passed();
        assert_eq!(
            room.world.figures().judged,
            renewed,
            "nothing is verified anew"
        );
        room.publish(&[1, 0, 0]);
        eventually("valid again", || room.world.present(&good).allowed());
        // The proof was dropped with the first refusal.
        renewed += 1;
        assert_eq!(room.world.figures().judged, renewed);
    }
    room.world.present(&bad).assert_invalid();
}

#[test]
fn only_a_valid_token_passes_and_none_beyond_the_end() {
    let room = Room::patient();
    room.publish(&[0, 1, 2, 3, 15, 255]);
    room.world.present(&room.token(0)).passed();
    for index in [1, 2, 3, 4, 5, 6, u64::MAX] {
        room.world.present(&room.token(index)).assert_invalid();
    }
    assert_eq!(room.lists.asked(), 1);
}

#[test]
fn many_first_uses_of_a_list_at_once_cost_one_fetch() {
    let room = Room::patient();
    room.lists.reply(PATH, Reply::Hold);
    let uses: Vec<_> = (0..AT_ONCE)
        .map(|index| {
            let ask = Ask::get("/v1/orders").bearer(&room.token(index));
            room.world.spawn(ask.send(room.world.client()))
        })
        .collect();
    eventually("the list is asked for", || room.lists.asked() == 1);
    room.publish(&[0; 100]);
    for heard in uses {
        room.world.wait(heard).unwrap().passed();
    }
    assert_eq!(room.lists.asked(), 1);
}

#[test]
fn c8_a_list_that_cannot_be_had_refuses_for_now_and_is_believed_once_it_is_back() {
    let room = Room::new();
    let (token, free) = (room.token(0), room.world.key.token());
    for reply in [Reply::Status(500), Reply::Close, Reply::Hang] {
        room.lists.reply(PATH, reply);
        room.world
            .present(&token)
            .assert_refused(503, "status_unavailable");
        room.world.present(&free).passed();
    }
    assert_eq!(room.world.admin("/ready").0, 200);
    room.publish(&[0]);
    eventually("the list is back", || room.world.present(&token).allowed());
    let failed = room.world.metrics();
    let label = format!("issuer=\"{ISSUER}\"");
    assert!(failed.sum("cardea_status_lists_fetch_failures_total", &[&label]) > 0.5);
    assert!((failed.sum("cardea_status_lists_held", &[&label]) - 1.0).abs() < 0.1);
    assert!(failed.0.contains("cardea_status_lists_age_seconds{"));
}

#[test]
fn c8_a_list_that_became_too_old_refuses_what_is_cached_until_it_is_back() {
    let room = Room::with(|setup| {
        setup.first_issuer()["status_lists"]["max_stale"] = "2s".into();
    });
    room.publish(&[0]);
    let token = room.token(0);
    room.world.present(&token).passed();
    room.lists.reply(PATH, Reply::Status(500));
    eventually("it is too old", || !room.world.present(&token).allowed());
    room.world
        .present(&token)
        .assert_refused(503, "status_unavailable");
    room.publish(&[0]);
    eventually("the list is back", || room.world.present(&token).allowed());
}

#[test]
fn j5_no_token_has_anything_fetched_but_its_issuers_lists() {
    let room = Room::new();
    room.publish(&[0]);
    let (canary, came) = canary();
    let listed = room.lists.url("/lists");
    for uri in [
        format!("{canary}/lists/1"),
        format!("{listed}x/1"),
        format!("{listed}/../keys"),
        format!("{listed}/%2e%2e/keys"),
        room.lists.url("/"),
        format!("{}@{}", listed, canary.trim_start_matches("http://")),
        "http://169.254.169.254/latest".to_owned(),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ] {
        let token = room.world.key.token_with(status(&uri, &json!(0)));
        room.world.present(&token).assert_invalid();
    }
    for index in [json!(-1), json!(0.0), json!("0"), Value::Null, json!([0])] {
        let token = status(&room.lists.url(PATH), &index);
        room.world
            .present(&room.world.key.token_with(token))
            .assert_invalid();
    }
    for claim in [json!("active"), json!({}), json!({ "assertion": {} })] {
        let token = room.world.key.token_with(json!({ "status": claim }));
        room.world.present(&token).assert_invalid();
    }
    // Whoever is not the issuer has nothing fetched at all, wherever it is.
    let forged = Key::es256("k1").token_with(status(&room.lists.url(PATH), &json!(0)));
    room.world.present(&forged).assert_invalid();
    let expired = changed(
        status(&room.lists.url(PATH), &json!(0)),
        json!({ "iat": now() - 600, "exp": now() - 300 }),
    );
    let expired = room.world.key.token_with(expired);
    room.world.present(&expired).assert_invalid();
    assert_eq!(room.lists.asked(), 0);
    // Nor does a list lead anywhere else.
    room.lists
        .reply(PATH, Reply::Redirect(format!("{canary}/lists/1")));
    room.world
        .present(&room.token(0))
        .assert_refused(503, "status_unavailable");
    assert!(room.lists.asked() > 0);
    assert_eq!(came.load(Ordering::SeqCst), 0, "nobody came to the canary");
}

#[test]
fn j17_only_the_issuers_own_list_of_that_place_is_believed() {
    let token = |room: &Room| room.world.present(&room.token(0));
    let replies: [fn(&Room) -> Reply; 9] = [
        |room| Room::signed(&Key::es256("k1"), TYP, &room.list_with(&[0], json!({}))),
        |room| {
            let other = json!({ "sub": room.lists.url("/lists/2") });
            Room::signed(&room.world.key, TYP, &room.list_with(&[0], other))
        },
        |room| {
            let other = json!({ "iss": "https://other.example.com" });
            Room::signed(&room.world.key, TYP, &room.list_with(&[0], other))
        },
        |room| {
            let over = json!({ "exp": now() - 60 });
            Room::signed(&room.world.key, TYP, &room.list_with(&[0], over))
        },
        |room| {
            let list = room.list_with(&[0], json!({}));
            Room::signed(&room.world.key, "at+jwt", &list)
        },
        |room| Reply::Text(room.world.key.token()),
        |room| {
            // 8 MiB in 8 KiB.
            let bomb = room.list_with(&vec![0; 8 << 20], json!({}));
            Room::signed(&room.world.key, TYP, &bomb)
        },
        |_| Reply::Flood(64 << 20),
        |_| Reply::Text("{}".to_owned()),
    ];
    for (number, reply) in replies.into_iter().enumerate() {
        let room = Room::new();
        room.lists.reply(PATH, reply(&room));
        let heard = token(&room);
        assert_eq!(heard.reason(), "status_unavailable", "{number}");
        assert!(room.lists.sent() < 16 << 20, "{number}");
    }
    // A list is none of the issuer's tokens either.
    let room = Room::new();
    let header = changed(room.world.key.header(), json!({ "typ": TYP }));
    let list = room
        .world
        .key
        .sign_texts(&header.to_string(), &claims().to_string());
    room.world.present(&list).assert_invalid();
}

const TYP: &str = "statuslist+jwt";

#[test]
fn what_the_settings_say_decides_over_tokens_without_a_list_and_without_settings() {
    let room = Room::with(|setup| {
        setup.first_issuer()["status_lists"]["mode"] = "required".into();
    });
    room.publish(&[0]);
    room.world.present(&room.token(0)).passed();
    room.world.get("/v1/orders").assert_invalid();

    let nowhere = status("http://127.0.0.1:1/lists/1", &json!(0));
    let off = |setup: &mut Setup| {
        setup.first_issuer()["status_lists"] = json!({ "mode": "off" });
    };
    for world in [World::new(), World::with(off)] {
        world
            .present(&world.key.token_with(nowhere.clone()))
            .passed();
    }
}

#[test]
fn transaction_tokens_are_held_against_lists_too() {
    let (key, server) = (Key::es256("t1"), KeyServer::start());
    server.publish(&[&key]);
    let issuer = "https://transactions.example.com";
    let world = World::with(|setup| {
        let added = json!({
            "issuer": issuer,
            "audiences": [AUDIENCE],
            "carrier": "transaction_token",
            "token_types": ["txntoken+jwt"],
            "keys": { "jwks_url": server.url("/jwks") },
            "claims": { "roles": ["roles"] },
            "status_lists": { "url_prefixes": [server.url("/lists")] },
        });
        let identity = &mut setup.settings["identity"];
        identity["issuers"].as_array_mut().unwrap().push(added);
    });
    let room = Room {
        lists: server,
        world,
    };
    let list = room.list_with(&[0, 1], json!({ "iss": issuer }));
    room.lists.reply(PATH, Room::signed(&key, TYP, &list));
    let ask = |index: u64| {
        let named = changed(claims(), status(&room.lists.url(PATH), &json!(index)));
        let payload = changed(named, json!({ "iss": issuer }));
        let header = changed(key.header(), json!({ "typ": "txntoken+jwt" }));
        let token = key.sign_texts(&header.to_string(), &payload.to_string());
        room.world
            .ask(Ask::get("/v1/orders").header("txn-token", &token))
    };
    ask(0).passed();
    ask(1).assert_refused(401, "credential_invalid");
}

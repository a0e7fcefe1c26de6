//! What is remembered of tokens, and when it must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cardea::identity::Identity;
use cardea::model::{
    AccessRequest, Arrival, Body, CanonicalPath, Clock, Headers, Host, ManualClock, Method,
    PathRules, Peer, Query, Scheme, SnapshotId,
};
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::issuer::{AUDIENCE, ISSUER, Key, b64, claims, now};
use crate::world::{Ask, World, eventually};

#[test]
fn a_token_is_judged_once_and_then_remembered() {
    let world = World::new();
    let token = world.key.token();
    for _ in 0..5 {
        world.present(&token).passed();
    }
    let figures = world.figures();
    assert_eq!((figures.judged, figures.hits), (1, 4), "{figures:?}");
    let metrics = world.metrics();
    assert!(
        (metrics.sum("cardea_token_cache_lookups_total", &["result=\"hit\""]) - 4.0).abs() < 0.1
    );
    assert!(
        (metrics.sum("cardea_token_cache_lookups_total", &["result=\"miss\""]) - 1.0).abs() < 0.1
    );
}

#[test]
fn a_judgement_is_remembered_and_every_decision_is_still_its_own() {
    let world = World::new();
    let token = world.key.token();
    let ids: BTreeSet<String> = (0..5)
        .map(|_| {
            let heard = world.present(&token);
            heard.passed();
            heard.metadata("decision").to_string()
        })
        .collect();
    assert_eq!(ids.len(), 5, "an id for each");
    // The same caller by another proof is judged anew.
    world
        .present(&world.key.token_with(json!({ "jti": "2" })))
        .passed();
    let metrics = world.metrics();
    let lookups = |result: &str| {
        let label = format!("result=\"{result}\"");
        metrics.sum("cardea_decision_cache_lookups_total", &[&label])
    };
    assert!((lookups("hit") - 4.0).abs() < 0.1 && (lookups("miss") - 2.0).abs() < 0.1);
}

#[test]
fn c1_a_remembered_token_ends_with_its_exp() {
    let world = World::with(|setup| setup.first_issuer()["clock_skew"] = "0s".into());
    let ends = now() + 2;
    let token = world.key.token_with(json!({ "exp": ends }));
    world.present(&token).passed();
    eventually("the token ends", || {
        let before = now();
        let heard = world.present(&token);
        if heard.allowed() {
            assert!(before < ends, "believed after its end");
        } else {
            heard.assert_invalid();
            assert!(now() >= ends, "refused too early");
        }
        !heard.allowed()
    });
    assert!(world.figures().hits > 0, "it was remembered meanwhile");
}

#[test]
fn c2_a_remembered_token_may_do_no_more_than_before() {
    let world = World::new();
    let reader = world.key.token_with(json!({ "scope": "orders:read" }));
    world.present(&reader).passed();
    let write = world.ask(Ask::new("POST", "/v1/orders").bearer(&reader));
    write.assert_refused(403, "not_permitted");
    let others = world.ask(Ask::get("/v1/users/bob").bearer(&reader));
    others.assert_refused(403, "forbidden");
    assert_eq!(world.figures().hits, 2);
}

#[test]
fn c4_tokens_that_share_all_but_a_byte_are_not_each_other() {
    let world = World::new();
    let token = world.key.token();
    world.present(&token).passed();
    for at in (0..token.len()).step_by(7) {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        world.present(&other).assert_invalid();
    }
    world.present(&token[..token.len() - 1]).assert_invalid();
    world.present(&format!("{token}A")).assert_invalid();
    assert_eq!(world.figures().hits, 0);
}

#[test]
fn c5_a_key_that_is_withdrawn_takes_its_tokens_along() {
    let old = Key::es256("old");
    let world = World::with(|setup| setup.issuer.publish(&[&setup.key, &old]));
    let tokens: Vec<String> = (0..200)
        .map(|n| old.token_with(json!({ "jti": n.to_string() })))
        .collect();
    for token in &tokens {
        world.present(token).passed();
        world.present(token).passed();
    }
    assert_eq!(world.figures().hits, 200);
    let kept = world.key.token();
    world.present(&kept).passed();
    world.issuer.publish(&[&world.key]);
    world.refresh();
    for token in &tokens {
        world.present(token).assert_invalid();
    }
    // Tokens by the key that stays were not forgotten.
    let before = world.figures().hits;
    world.present(&kept).passed();
    assert_eq!(world.figures().hits, before + 1);
}

#[test]
fn c6_a_flood_of_forged_tokens_pushes_out_no_good_one() {
    const FORGED: usize = 20_000;
    let world = World::with(|setup| {
        setup.settings["identity"]["cache"] = json!({
            "capacity": 1000, "refused_capacity": 2000, "ttl": "5m", "refused_ttl": "5m",
        });
        setup.first_issuer()["refresh_interval"] = "1h".into();
        setup.first_issuer()["unknown_kid_interval"] = "1h".into();
    });
    let good: Vec<String> = (0..20)
        .map(|n| world.key.token_with(json!({ "jti": n.to_string() })))
        .collect();
    for token in &good {
        world.present(token).passed();
    }
    let header = b64(world.key.header().to_string());
    let unknown = b64(json!({"alg": "ES256", "kid": "nobody", "typ": "at+jwt"}).to_string());
    let forge = move |number: usize| {
        let payload =
            b64(crate::issuer::changed(claims(), json!({ "sub": number.to_string() })).to_string());
        let header = if number.is_multiple_of(4) {
            &unknown
        } else {
            &header
        };
        format!("{header}.{payload}.{}", b64([7; 64]))
    };
    let forge = Arc::new(forge);
    let floods: Vec<_> = (0..4)
        .map(|flood| {
            let (client, forge) = (world.client(), Arc::clone(&forge));
            world.spawn(async move {
                for number in (flood..FORGED).step_by(4) {
                    let ask = Ask::get("/v1/orders").bearer(&forge(number));
                    let heard = ask.send(client.clone()).await;
                    assert_eq!(heard.grpc(), 16, "{heard:?}");
                }
            })
        })
        .collect();
    for flood in floods {
        world.wait(flood).unwrap();
    }
    let before = world.figures();
    for token in &good {
        world.present(token).passed();
    }
    let after = world.figures();
    assert_eq!(
        after.hits - before.hits,
        20,
        "every good one is still known"
    );
    assert_eq!(after.judged, before.judged, "none was judged again");
    eventually("the memory of refused tokens settles", || {
        // Sizes are told late; looking something up lets them catch up.
        world.present("a.b.c").assert_invalid();
        let figures = world.figures();
        figures.refused_entries <= 2000 && figures.entries == 20
    });
    // The unknown key cost one fetch beside the first, not five thousand.
    assert_eq!(world.issuer.asked(), 2);
}

#[test]
fn a_changed_bundle_makes_principals_anew_without_judging_tokens_again() {
    let world = World::new();
    let token = world.key.token_with(json!({ "roles": ["newcomer"] }));
    world.present(&token).assert_refused(403, "not_permitted");
    // A role that stands below another one from now on.
    let roles = r#"[
        {"uid": {"type": "Cardea::Role", "id": "newcomer"}, "parents": [{"type": "Cardea::Role", "id": "order-viewer"}]},
        {"uid": {"type": "Cardea::Role", "id": "order-editor"}, "parents": [{"type": "Cardea::Role", "id": "order-viewer"}]},
        {"uid": {"type": "Cardea::Role", "id": "order-viewer"}},
        {"uid": {"type": "Cardea::Role", "id": "support-tier2"}}
    ]"#;
    let before = world.snapshot();
    world.write("entities/roles.json", roles);
    eventually("the bundle is swapped", || world.snapshot() != before);
    world
        .present(&token)
        .assert_allowed(&["orders-read-by-role"]);
    let figures = world.figures();
    assert_eq!((figures.judged, figures.hits), (1, 1), "{figures:?}");
}

/// Who asks, as the identity room alone tells it, by a clock that is moved by hand.
struct ByHand {
    clock: Arc<ManualClock>,
    identity: Arc<Identity<()>>,
    runtime: Runtime,
    _keys: TempDir,
}

impl ByHand {
    fn new(key: &Key, start: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, crate::issuer::jwks(&[key])).unwrap();
        let settings = json!({ "issuers": [{
            "issuer": ISSUER, "audiences": [AUDIENCE], "keys": { "jwks_file": file }, "clock_skew": "0s",
            "max_stale": "24h",
        }] });
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(start).unwrap()));
        let settings = serde_json::from_value(settings).unwrap();
        let identity = Identity::start(
            &settings,
            Arc::<ManualClock>::clone(&clock),
            runtime.handle(),
        )
        .unwrap();
        runtime.block_on(identity.refresh());
        Self {
            clock,
            identity,
            runtime,
            _keys: folder,
        }
    }

    fn believes(&self, token: &str) -> bool {
        let field = format!("Bearer {token}");
        let request = AccessRequest {
            id: String::new(),
            method: Method::Get,
            scheme: Scheme::Https,
            host: Host::parse("api.example.com").unwrap(),
            port: None,
            path: CanonicalPath::parse("/", PathRules::default()).unwrap(),
            query: Query::default(),
            headers: Headers::new(vec![("authorization".to_owned(), field.into_bytes())]),
            body: Body::default(),
            client_address: None,
            peer: Peer::default(),
            sni: None,
            context_extensions: BTreeMap::new(),
            metadata: BTreeMap::new(),
            route_metadata: BTreeMap::new(),
        };
        let arrival = Arrival {
            at: self.clock.now(),
            started: self.clock.monotonic(),
            deadline: None,
            trace_parent: None,
            grpc: false,
        };
        let (snapshot, finish) = (SnapshotId::new("5eed"), |_: &_| ());
        let identified =
            self.identity
                .identify((&request, "http:GET"), &arrival, &snapshot, finish);
        self.runtime.block_on(identified).who.is_ok()
    }

    fn step(&self, to: i64) {
        self.clock
            .step_wall_clock(Timestamp::from_second(to).unwrap());
    }
}

#[test]
fn s2_clock_steps_end_tokens_by_the_wall_clock_and_lock_nobody_out() {
    let (key, start) = (Key::es256("k1"), now());
    let by_hand = ByHand::new(&key, start);
    let token = key.token_with(json!({ "iat": start, "exp": start + 600 }));
    assert!(by_hand.believes(&token));
    // Forward an hour, or ten minutes of suspension: no time has passed for the cache, and the token has ended all the same.
    for step in [3600, 600] {
        by_hand.step(start + step);
        assert!(!by_hand.believes(&token));
    }
    // Back again: the refusal was not for good.
    by_hand.step(start + 10);
    assert!(by_hand.believes(&token));
    // Back an hour: who was believed goes on being believed, and keys do not get younger or older.
    by_hand.step(start - 3600);
    assert!(by_hand.believes(&token));
    // What is only remembered ends by the other clock, which never steps.
    by_hand.clock.advance(Duration::from_secs(61));
    assert!(
        !by_hand.believes(&token),
        "issued an hour from now, and nobody remembers it"
    );
    by_hand.step(start + 71);
    assert!(by_hand.believes(&token));
}

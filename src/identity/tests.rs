use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;

use super::settings::KeyPlace;
use super::testing::{
    ISSUER, Idp, NOW, OPERATION, Reply, TestKey, arrival, b64, bearing, changed, claims, clock,
    jwks, request, snapshot,
};
use super::*;
use crate::model::{CredentialFault as Fault, ManualClock, Period, Reason};

/// An identity room with one issuer that has published `k1`, and a principal that is the subject.
struct Room {
    clock: Arc<ManualClock>,
    idp: Idp,
    key: TestKey,
    identity: Arc<Identity<String>>,
    finished: AtomicUsize,
}

impl Room {
    async fn open() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let key = TestKey::es256("k1");
        let idp = Idp::start(Reply::Status(200, jwks(&[&key]))).await;
        let mut settings = Settings {
            issuers: vec![idp.settings()],
            ..Settings::default()
        };
        change(&mut settings);
        let clock = clock();
        let dynamic: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let identity = Identity::start(&settings, dynamic, &Handle::current()).unwrap();
        identity.readiness().wait_for(|ready| *ready).await.unwrap();
        Self {
            clock,
            idp,
            key,
            identity,
            finished: AtomicUsize::new(0),
        }
    }

    async fn ask(&self, request: &AccessRequest) -> Identified<String> {
        self.ask_in(request, &snapshot()).await
    }

    async fn ask_in(&self, request: &AccessRequest, snapshot: &SnapshotId) -> Identified<String> {
        let arrival = arrival(&self.clock);
        let finish = |identity: &VerifiedIdentity| {
            self.finished.fetch_add(1, Ordering::SeqCst);
            identity.subject.clone()
        };
        self.identity
            .identify((request, OPERATION), &arrival, snapshot, finish)
            .await
    }

    async fn token(&self, token: &str) -> Result<String, Reason> {
        told(self.ask(&bearing(token)).await)
    }

    async fn header(&self, value: &[u8]) -> Result<String, Reason> {
        told(self.ask(&request(&[value], "")).await)
    }

    fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    fn judged(&self) -> u64 {
        self.identity.figures().judged
    }
}

fn told(identified: Identified<String>) -> Result<String, Reason> {
    match identified.who {
        Ok(Who::Anonymous) => Ok("nobody".into()),
        Ok(Who::Verified(known)) => Ok(known.principal().clone()),
        Err(refusal) => Err(refusal.reason),
    }
}

fn invalid(fault: Fault) -> Result<String, Reason> {
    Err(Reason::CredentialInvalid(fault))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with results")]
fn alice() -> Result<String, Reason> {
    Ok("alice".into())
}

#[tokio::test]
async fn a_good_token_is_believed_and_the_second_time_nothing_is_built() {
    let room = Room::open().await;
    let request = bearing(&room.key.token("alice"));
    let cold = room.ask(&request).await;
    assert_eq!(cold.cache_hit, Some(false));
    let steps: Vec<&str> = cold.cold.iter().map(|step| step.name).collect();
    assert_eq!(steps, ["verify token"]);
    let warm = room.ask(&request).await;
    assert_eq!(warm.cache_hit, Some(true));
    assert_eq!(warm.cold, []);
    match (cold.who.unwrap(), warm.who.unwrap()) {
        (Who::Verified(cold), Who::Verified(warm)) => {
            assert!(Arc::ptr_eq(&cold, &warm));
            assert_eq!(warm.identity().subject, "alice");
            assert_eq!(&*warm.identity().issuer, ISSUER);
            assert_eq!(warm.identity().scheme, "bearer_jwt");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((room.finished(), room.judged()), (1, 1));
}

#[tokio::test]
async fn no_credential_is_anonymous() {
    let room = Room::open().await;
    let identified = room.ask(&request(&[], "")).await;
    assert_eq!(identified.cache_hit, None);
    assert!(matches!(identified.who, Ok(Who::Anonymous)));
}

#[tokio::test]
async fn h1_only_bearer_one_space_and_one_token_will_do() {
    let room = Room::open().await;
    let token = room.key.token("alice");
    for scheme in ["Bearer", "bearer", "bEaReR"] {
        assert_eq!(
            room.header(format!("{scheme} {token}").as_bytes()).await,
            alice()
        );
    }
    for (value, fault) in [
        ("Bearer".to_owned(), Fault::Malformed),
        ("Bearer ".into(), Fault::Malformed),
        (format!("Bearer  {token}"), Fault::Malformed),
        (format!("Bearer\t{token}"), Fault::Malformed),
        (format!("bEaReR \t {token}"), Fault::Malformed),
        (format!(" Bearer {token}"), Fault::Malformed),
        (format!("Bearer {token} "), Fault::Malformed),
        (format!("Bearer {token} x"), Fault::Malformed),
        (format!("Bearer \"{token}\""), Fault::Malformed),
        (String::new(), Fault::Malformed),
        (token.clone(), Fault::Malformed),
        ("Bearer ===".into(), Fault::Malformed),
        ("Basic YWxpY2U6cHc=".into(), Fault::Scheme),
        (format!("DPoP {token}"), Fault::Possession),
        (format!("Bearer {}", ".".repeat(1 << 20)), Fault::TooLong),
    ] {
        assert_eq!(
            room.header(value.as_bytes()).await,
            invalid(fault),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn h2_several_credentials_are_ambiguous() {
    let room = Room::open().await;
    let token = format!("Bearer {}", room.key.token("alice"));
    let ambiguous = || Err(Reason::AmbiguousCredential);
    for value in [
        format!("{token},{token}"),
        format!("{token}, Bearer bad"),
        format!("Basic x, {token}"),
        format!("{token},"),
    ] {
        assert_eq!(room.header(value.as_bytes()).await, ambiguous());
    }
    for fields in [
        [token.as_bytes(), token.as_bytes()],
        [token.as_bytes(), b"Basic x"],
    ] {
        assert_eq!(told(room.ask(&request(&fields, "")).await), ambiguous());
    }
}

#[tokio::test]
async fn h3_a_token_in_the_query_is_no_credential_and_ambiguous_beside_one() {
    let room = Room::open().await;
    let token = room.key.token("alice");
    let query = format!("access_token={token}");
    assert_eq!(
        told(room.ask(&request(&[], &query)).await),
        Ok("nobody".into())
    );
    let both = request(&[format!("Bearer {token}").as_bytes()], &query);
    assert_eq!(
        told(room.ask(&both).await),
        Err(Reason::AmbiguousCredential)
    );
}

#[tokio::test]
async fn h4_bytes_that_may_stand_for_others_are_refused_before_the_cache() {
    let room = Room::open().await;
    for value in [
        &b"Bearer !"[..],
        b"Bearer abc!def",
        b"Bearer \xe9",
        b"Bearer \xff",
        b"Bearer a\0b",
    ] {
        assert_eq!(room.header(value).await, invalid(Fault::Malformed));
    }
    let figures = room.identity.figures();
    assert_eq!((figures.misses, figures.refused_entries), (0, 0));
}

#[tokio::test]
async fn each_way_of_being_wrong_is_told_apart() {
    let room = Room::open().await;
    let key = &room.key;
    let thief = TestKey::es256("k1");
    let stranger = TestKey::ed25519("k1");
    let (good, signed) = (key.token("alice"), key.token("mallory"));
    let signature = good.rsplit_once('.').unwrap().1;
    let signed = signed.rsplit_once('.').unwrap().0;
    for (token, fault) in [
        ("x".into(), Fault::NotAToken),
        (thief.token("alice"), Fault::Signature),
        (stranger.token("alice"), Fault::Algorithm),
        (format!("{signed}.{signature}"), Fault::Signature),
        (
            key.token_with(json!({"exp": NOW - 60, "iat": NOW - 90})),
            Fault::Expired,
        ),
        (key.token_with(json!({"nbf": NOW + 60})), Fault::NotYetValid),
        (key.token_with(json!({"aud": "billing"})), Fault::Audience),
        (key.token_with(json!({"sub": null})), Fault::Claims),
        (key.token_under(json!({"typ": "JWT"})), Fault::Type),
        (key.token_under(json!({"crit": ["x"]})), Fault::Header),
        (key.token_under(json!({"kid": "k2"})), Fault::UnknownKey),
        (
            key.token_with(json!({"exp": NOW + 90_000})),
            Fault::Lifetime,
        ),
    ] {
        assert_eq!(room.token(&token).await, invalid(fault));
    }
    assert_eq!(room.finished(), 0);
}

#[tokio::test]
async fn j2_a_mac_keyed_with_the_public_key_is_refused() {
    let room = Room::open().await;
    let jwk = room.key.jwk().to_string();
    let signed = format!(
        "{}.{}",
        b64(r#"{"alg":"HS256","kid":"k1","typ":"at+jwt"}"#),
        b64(claims("alice").to_string())
    );
    for secret in [jwk.clone(), format!("\n{jwk}"), String::new()] {
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let mac = aws_lc_rs::hmac::sign(&secret, signed.as_bytes());
        let token = format!("{signed}.{}", b64(mac));
        assert_eq!(room.token(&token).await, invalid(Fault::Algorithm));
    }
    assert_eq!(room.judged(), 0);
}

#[tokio::test]
async fn j4_j5_a_token_brings_no_key_and_causes_no_connection() {
    let room = Room::open().await;
    let canary = Idp::start(Reply::Status(200, jwks(&[&room.key]))).await;
    let thief = TestKey::es256("k1");
    let before = room.idp.asked();
    for header in [
        json!({"jku": format!("{}/keys", canary.url)}),
        json!({"x5u": format!("{}/keys", canary.url)}),
        json!({"jwk": thief.jwk()}),
    ] {
        assert_eq!(
            room.token(&thief.token_under(header)).await,
            invalid(Fault::Header)
        );
    }
    assert_eq!((canary.asked(), room.idp.asked()), (0, before));
}

#[tokio::test]
async fn j15_the_issuer_is_compared_to_the_letter_and_a_strange_one_fetches_nothing() {
    let room = Room::open().await;
    let before = room.idp.asked();
    for issuer in [
        json!(["evil", ISSUER]),
        json!(null),
        json!(1),
        json!(format!("{ISSUER}/")),
        json!("https://idp.exampl"),
        json!("https://IDP.example"),
        json!("https://evil.example"),
    ] {
        let token = room.key.token_with(json!({"iss": issuer}));
        assert_eq!(room.token(&token).await, invalid(Fault::Issuer), "{issuer}");
    }
    assert_eq!(room.idp.asked(), before);
}

#[tokio::test]
async fn j16_c3_issuers_with_the_same_kid_are_not_mixed_up() {
    let (other_key, other) = (TestKey::es256("k1"), "https://other.example");
    let other_idp = Idp::start(Reply::Status(200, jwks(&[&other_key]))).await;
    let room = Room::with(|settings| {
        let mut issuer = other_idp.settings();
        issuer.issuer = other.into();
        settings.issuers.push(issuer);
    })
    .await;
    let as_other = json!({"iss": other});
    assert_eq!(room.token(&room.key.token("alice")).await, alice());
    assert_eq!(
        room.token(&other_key.token_with(as_other.clone())).await,
        alice()
    );
    assert_eq!(
        room.token(&other_key.token("alice")).await,
        invalid(Fault::Signature)
    );
    assert_eq!(
        room.token(&room.key.token_with(as_other)).await,
        invalid(Fault::Signature)
    );
}

#[tokio::test]
async fn c3_one_text_under_two_rules_at_once_is_judged_by_each_for_itself() {
    let room = Arc::new(
        Room::with(|settings| {
            let mut other = settings.issuers[0].clone();
            other.issuer = "https://other.example".into();
            other.carrier = Carrier::TransactionToken;
            other.token_types = vec!["txntoken+jwt".into()];
            settings.issuers.push(other);
            settings.cache.ttl = Period::seconds(3600);
        })
        .await,
    );
    // Both issuers have the same key. Each text is good in one place, and one is good nowhere.
    let claims = |issuer: &str| changed(claims("alice"), json!({ "iss": issuer }));
    let typed = |typ: &str| changed(room.key.header(), json!({ "typ": typ }));
    let transaction = typed("txntoken+jwt");
    let texts = [
        room.key.token("alice"),
        room.key
            .sign_parts(&transaction, &claims("https://other.example")),
        room.key.sign_parts(&transaction, &claims(ISSUER)),
    ];
    let sent = |text: &str, bearer: bool| {
        if bearer {
            return bearing(text);
        }
        let field = ("txn-token".to_owned(), text.as_bytes().to_vec());
        AccessRequest {
            headers: crate::model::Headers::new(vec![field]),
            ..request(&[], "")
        }
    };
    for round in 0..2 {
        let asked = (0..120).map(|number| {
            let (text, bearer) = (number % 3, number % 2 == 0);
            let request = sent(&texts[text], bearer);
            let room = Arc::clone(&room);
            async move { (text, bearer, told(room.ask(&request).await)) }
        });
        for (text, bearer, told) in futures_util::future::join_all(asked).await {
            let good = (text == 0 && bearer) || (text == 1 && !bearer);
            assert_eq!(
                told.is_ok(),
                good,
                "round {round}, text {text}, bearer {bearer}"
            );
        }
    }
    // Each text was believed once; what is refused by its header never comes to a judgement.
    assert_eq!(room.identity.figures().entries, 2);
    assert_eq!(room.finished(), 2);
}

#[tokio::test]
async fn c5_ten_thousand_warm_tokens_end_at_once_with_their_key_or_one_by_its_id() {
    const TOKENS: usize = 10_000;
    let room = Room::open().await;
    let (old, kept) = (TestKey::ed25519("old"), TestKey::ed25519("kept"));
    room.idp.publish(&[&old, &kept]);
    room.identity.refresh().await;
    let make = |number: usize| {
        let key = if number.is_multiple_of(2) {
            &old
        } else {
            &kept
        };
        bearing(&key.token_with(json!({ "jti": number.to_string() })))
    };
    let warm: Vec<AccessRequest> = (0..TOKENS).map(make).collect();
    for request in &warm {
        assert!(room.ask(request).await.who.is_ok());
    }
    let target = Target::TokenId {
        token_id: "7".to_owned(),
        issuer: None,
    };
    let revocations = room.identity.revocations();
    let event = revocations.event(target, RevocationSource::Admin);
    revocations.apply(event).await.unwrap();
    room.idp.publish(&[&kept]);
    room.identity.refresh().await;
    for (number, request) in warm.iter().enumerate() {
        let expected = match number {
            7 => invalid(Fault::Revoked),
            _ if number.is_multiple_of(2) => invalid(Fault::UnknownKey),
            _ => alice(),
        };
        assert_eq!(told(room.ask(request).await), expected, "{number}");
    }
    // The revoked one was judged once more, and no other.
    assert_eq!(room.judged(), TOKENS as u64 + 1);
}

#[tokio::test]
async fn c7_an_empty_or_broken_set_neither_wipes_keys_nor_lifts_the_limit_on_fetches() {
    let room = Room::with(|settings| {
        settings.issuers[0].unknown_kid_interval = Period::seconds(30);
        settings.issuers[0].refresh_interval = Period::seconds(3600);
    })
    .await;
    let empty = json!({ "keys": [] }).to_string();
    let broken = json!({ "keys": [{ "kty": "oct" }] }).to_string();
    for (interval, reply) in [
        Reply::Status(200, empty),
        Reply::Status(200, broken),
        Reply::Status(500, String::new()),
        Reply::Closed,
    ]
    .into_iter()
    .enumerate()
    {
        room.idp.reply("/keys", reply);
        let before = room.idp.asked();
        for number in 0..200 {
            let kid = format!("k-{interval}-{number}");
            let told = room
                .token(&room.key.token_under(json!({ "kid": kid })))
                .await;
            assert!(told.is_err());
            assert_eq!(room.token(&room.key.token("alice")).await, alice());
        }
        assert_eq!(room.idp.asked(), before + 1, "one fetch an interval");
        room.clock.advance(Duration::from_secs(30));
    }
    // A rotation in the middle of it is noticed in the next interval at the latest.
    let next = TestKey::es256("k2");
    room.idp.publish(&[&room.key, &next]);
    assert_eq!(room.token(&next.token("alice")).await, alice());
}

#[tokio::test]
async fn a_token_without_kid_is_believed_by_the_only_key() {
    let room = Room::open().await;
    assert_eq!(
        room.token(&room.key.token_under(json!({"kid": null})))
            .await,
        alice()
    );
    let second = TestKey::es256("k2");
    room.idp.publish(&[&room.key, &second]);
    room.identity.refresh().await;
    let token = second.token_under(json!({"kid": null}));
    assert_eq!(room.token(&token).await, invalid(Fault::UnknownKey));
}

#[tokio::test]
async fn c1_an_entry_does_not_outlive_exp() {
    let room = Room::open().await;
    // Expires in 2 s, and with the skew of 30 s in 32 s: well within the 60 s that entries live.
    let token = room.key.token_with(json!({"exp": NOW + 2}));
    assert_eq!(room.token(&token).await, alice());
    room.clock.advance(Duration::from_secs(31));
    assert_eq!(room.token(&token).await, alice());
    assert_eq!(room.judged(), 1);
    room.clock.advance(Duration::from_secs(1));
    assert_eq!(room.token(&token).await, invalid(Fault::Expired));
}

#[tokio::test]
async fn c1_exp_is_judged_by_the_wall_clock_even_while_the_monotonic_one_stands() {
    let room = Room::open().await;
    let token = room.key.token("alice");
    assert_eq!(room.token(&token).await, alice());
    room.clock
        .step_wall_clock(Timestamp::from_second(NOW + 330).unwrap());
    assert_eq!(room.token(&token).await, invalid(Fault::Expired));
}

#[tokio::test]
async fn a_proof_is_made_again_when_its_time_to_live_is_over() {
    let room = Room::open().await;
    let token = room.key.token("alice");
    for (seconds, judged) in [(0, 1), (59, 1), (1, 2)] {
        room.clock.advance(Duration::from_secs(seconds));
        assert_eq!(room.token(&token).await, alice());
        assert_eq!(room.judged(), judged);
    }
}

#[tokio::test]
async fn a_new_snapshot_rebuilds_the_principal_without_verifying_again() {
    let room = Room::open().await;
    let request = bearing(&room.key.token("alice"));
    room.ask(&request).await;
    room.clock.advance(Duration::from_secs(30));
    let other = SnapshotId::new("0ther");
    assert_eq!(room.ask_in(&request, &other).await.cache_hit, Some(true));
    assert_eq!((room.finished(), room.judged()), (2, 1));
    assert_eq!(room.ask_in(&request, &other).await.cache_hit, Some(true));
    assert_eq!((room.finished(), room.judged()), (2, 1));
    // It is remembered no longer than the proof it was made of.
    room.clock.advance(Duration::from_secs(30));
    assert_eq!(room.ask_in(&request, &other).await.cache_hit, Some(false));
    assert_eq!(room.judged(), 2);
}

#[tokio::test]
async fn c5_a_removed_key_ends_its_tokens_at_once_and_no_others() {
    let room = Room::open().await;
    let second = TestKey::es256("k2");
    room.idp.publish(&[&room.key, &second]);
    room.identity.refresh().await;
    let (old, new) = (room.key.token("alice"), second.token("alice"));
    assert_eq!(room.token(&old).await, alice());
    assert_eq!(room.token(&new).await, alice());
    room.idp.publish(&[&second]);
    room.identity.refresh().await;
    assert_eq!(room.token(&old).await, invalid(Fault::UnknownKey));
    assert_eq!(room.token(&new).await, alice());
    assert_eq!(room.judged(), 2);
}

#[tokio::test]
async fn a_refusal_by_a_key_ends_with_that_key() {
    let room = Room::open().await;
    let rotated = TestKey::es256("k1");
    let token = rotated.token("alice");
    assert_eq!(room.token(&token).await, invalid(Fault::Signature));
    room.idp.publish(&[&rotated]);
    room.identity.refresh().await;
    assert_eq!(room.token(&token).await, alice());
}

#[tokio::test]
async fn keys_that_are_too_old_end_even_warm_tokens() {
    let room = Room::with(|settings| {
        settings.issuers[0].max_stale = Period::seconds(300);
        settings.issuers[0].unknown_kid_interval = Period::seconds(3600);
    })
    .await;
    room.idp.reply("/keys", Reply::Closed);
    let token = room.key.token("alice");
    room.clock.advance(Duration::from_secs(270));
    assert_eq!(room.token(&token).await, alice());
    room.clock.advance(Duration::from_secs(30));
    assert_eq!(room.token(&token).await, Err(Reason::KeysUnavailable));
    assert!(!room.identity.ready());
    assert!(!room.identity.key_sets()[0].usable);
    room.idp.publish(&[&room.key]);
    room.identity.refresh().await;
    assert_eq!(room.token(&token).await, alice());
}

#[tokio::test]
async fn c6_a_flood_of_forgeries_pushes_no_good_token_out() {
    let room = Room::with(|settings| {
        settings.cache.capacity = 8;
        settings.cache.refused_capacity = 50;
    })
    .await;
    let good: Vec<String> = (0..8).map(|n| room.key.token(&n.to_string())).collect();
    for token in &good {
        assert!(room.token(token).await.is_ok());
    }
    let thief = TestKey::es256("k1");
    for n in 0..1000 {
        let forged = thief.token(&format!("forged-{n}"));
        assert_eq!(room.token(&forged).await, invalid(Fault::Signature));
    }
    room.identity.cache.settle();
    let figures = room.identity.figures();
    assert_eq!(figures.entries, 8);
    assert!(figures.refused_entries <= 50, "{figures:?}");
    let judged = room.judged();
    for token in &good {
        assert!(room.token(token).await.is_ok());
    }
    assert_eq!(room.judged(), judged, "all were still known");
}

#[tokio::test]
async fn a_repeated_forgery_is_judged_once_in_a_while() {
    let room = Room::open().await;
    let forged = TestKey::es256("k1").token("alice");
    for _ in 0..100 {
        assert_eq!(room.token(&forged).await, invalid(Fault::Signature));
    }
    assert_eq!(room.judged(), 1);
    assert_eq!(room.identity.figures().refused_hits, 99);
    room.clock.advance(Duration::from_secs(10));
    assert_eq!(room.token(&forged).await, invalid(Fault::Signature));
    assert_eq!(room.judged(), 2);
}

#[tokio::test]
async fn what_time_heals_is_not_remembered() {
    let room = Room::open().await;
    let token = room.key.token_with(json!({"nbf": NOW + 31}));
    assert_eq!(room.token(&token).await, invalid(Fault::NotYetValid));
    room.clock.advance(Duration::from_secs(1));
    assert_eq!(room.token(&token).await, alice());
}

#[tokio::test]
async fn c8_a_token_of_keys_that_were_down_passes_once_they_are_up() {
    let room = Room::open().await;
    let rotated = TestKey::es256("k2");
    room.idp.reply("/keys", Reply::Closed);
    let token = rotated.token("alice");
    assert_eq!(room.token(&token).await, Err(Reason::KeysUnavailable));
    room.idp.publish(&[&rotated]);
    room.identity.refresh().await;
    assert_eq!(room.token(&token).await, alice());
}

#[tokio::test]
async fn a_rotation_shows_as_slow_work() {
    let room = Room::open().await;
    let rotated = TestKey::es256("k2");
    room.idp.publish(&[&rotated]);
    let identified = room.ask(&bearing(&rotated.token("alice"))).await;
    let steps: Vec<&str> = identified.cold.iter().map(|step| step.name).collect();
    assert_eq!(steps, ["fetch keys", "verify token"]);
}

#[tokio::test]
async fn one_thousand_first_uses_verify_once() {
    let room = Arc::new(Room::open().await);
    let token = Arc::new(room.key.token("alice"));
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (room, token, barrier) =
                (Arc::clone(&room), Arc::clone(&token), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                barrier.wait();
                let asking = (0..125).map(|_| room.token(&token));
                let all = runtime
                    .unwrap()
                    .block_on(futures_util::future::join_all(asking));
                assert!(all.iter().all(|told| *told == alice()));
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!((room.judged(), room.finished()), (1, 1));
}

#[tokio::test]
async fn the_future_can_move_between_threads_and_is_small() {
    fn checked<F: Future + Send>(future: F) -> usize {
        let size = size_of_val(&future);
        drop(future);
        size
    }
    let room = Room::open().await;
    let (request, arrival, snapshot) = (bearing("x"), arrival(&room.clock), snapshot());
    let finish = |identity: &VerifiedIdentity| identity.subject.clone();
    let size = checked(
        room.identity
            .identify((&request, OPERATION), &arrival, &snapshot, finish),
    );
    assert!(size <= 512, "{size}");
}

#[tokio::test]
async fn readiness_waits_for_required_issuers_only() {
    let key = TestKey::es256("k1");
    let go = Arc::new(Notify::new());
    let idp = Idp::start(Reply::Held(Arc::clone(&go), jwks(&[&key]))).await;
    let broken = Idp::start(Reply::Closed).await;
    let mut optional = broken.settings();
    optional.issuer = "https://optional.example".into();
    optional.required = false;
    let settings = Settings {
        issuers: vec![idp.settings(), optional],
        ..Settings::default()
    };
    let identity = Identity::<()>::start(&settings, clock(), &Handle::current()).unwrap();
    let mut readiness = identity.readiness();
    assert!(!identity.ready() && !*readiness.borrow_and_update());
    go.notify_one();
    readiness.wait_for(|ready| *ready).await.unwrap();
    assert!(identity.ready());
    let status = identity.key_sets();
    assert_eq!(
        (status[0].keys, status[0].usable, status[1].usable),
        (1, true, false)
    );
}

#[tokio::test]
async fn without_issuers_it_is_ready_and_believes_no_token() {
    let settings = Settings::default();
    let identity = Identity::<()>::start(&settings, clock(), &Handle::current()).unwrap();
    assert!(identity.ready() && *identity.readiness().borrow());
    let (request, arrival) = (
        bearing(&TestKey::es256("k").token("alice")),
        arrival(&clock()),
    );
    let identified = identity
        .identify((&request, OPERATION), &arrival, &snapshot(), |_| ())
        .await;
    let reason = identified.who.unwrap_err().reason;
    assert_eq!(reason, Reason::CredentialInvalid(Fault::Issuer));
}

#[tokio::test]
async fn wrong_settings_do_not_start() {
    let mut settings = Settings {
        issuers: vec![super::testing::issuer_settings(KeyPlace::Discovery)],
        ..Settings::default()
    };
    settings.issuers[0].audiences.clear();
    settings.issuers[0].clock_skew = Period::seconds(300);
    let problems = Identity::<()>::start(&settings, clock(), &Handle::current()).unwrap_err();
    assert_eq!(problems.len(), 2);
}

#[tokio::test]
async fn nothing_shown_holds_a_token_or_a_claim() {
    let room = Room::open().await;
    let token = room
        .key
        .token_with(json!({"email": "alice@secret.example"}));
    let identified = room.ask(&bearing(&token)).await;
    let shown = format!(
        "{identified:?} {:?} {:?}",
        room.identity,
        room.identity.key_sets()
    );
    assert!(
        shown.contains("alice") && !shown.contains("secret"),
        "{shown}"
    );
    assert!(
        token.split('.').all(|part| !shown.contains(part)),
        "{shown}"
    );
    let refused = room.ask(&bearing("s3cret.s3cret.s3cret")).await;
    assert!(!format!("{refused:?}").contains("s3cret"));
}

#[tokio::test]
async fn dropping_it_ends_its_tasks() {
    let room = Room::open().await;
    let source = Arc::downgrade(&room.identity.sources[0]);
    drop(room);
    while source.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(source.strong_count(), 0);
}

#[tokio::test]
async fn a_bound_token_without_its_proof_is_refused_warm_and_cold() {
    let room = Room::open().await;
    for cnf in [
        json!({ "jkt": b64([7; 32]) }),
        json!({ "x5t#S256": b64([7; 32]) }),
    ] {
        let token = room.key.token_with(json!({ "cnf": cnf }));
        for _ in 0..2 {
            assert_eq!(room.token(&token).await, invalid(Fault::Possession));
        }
    }
    assert_eq!(room.judged(), 2, "what is remembered is whose token it is");
}

#[tokio::test]
async fn a_certificate_bound_token_is_believed_with_that_certificate_only() {
    let room = Room::open().await;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"a certificate");
    let token = room
        .key
        .token_with(json!({ "sub": "alice", "cnf": { "x5t#S256": b64(digest) } }));
    let mut request = bearing(&token);
    for (certificate, expected) in [
        (Some(&b"a certificate"[..]), alice()),
        (Some(&b"another"[..]), invalid(Fault::Possession)),
        (None, invalid(Fault::Possession)),
    ] {
        request.peer.certificate = certificate.map(<[u8]>::to_vec);
        assert_eq!(told(room.ask(&request).await), expected);
    }
}

#[tokio::test]
async fn a_token_sent_as_bound_that_is_not_is_refused() {
    let room = Room::open().await;
    let field = format!("DPoP {}", room.key.token("alice"));
    assert_eq!(
        room.header(field.as_bytes()).await,
        invalid(Fault::Possession)
    );
}

#[tokio::test]
async fn an_operation_hears_only_the_schemes_it_accepts() {
    let rules = |schemes: Vec<SchemeName>| RouteSettings {
        operations: vec![OPERATION.to_owned()],
        schemes,
        ..RouteSettings::default()
    };
    let room = Room::with(|settings| settings.routes = vec![rules(Vec::new())]).await;
    let token = room.key.token("alice");
    assert_eq!(room.token(&token).await, invalid(Fault::Scheme));
    assert_eq!(told(room.ask(&request(&[], "")).await), Ok("nobody".into()));
    let room = Room::with(|settings| settings.routes = vec![rules(vec![SchemeName::Jwt])]).await;
    let token = room.key.token("alice");
    assert_eq!(room.token(&token).await, alice());
}

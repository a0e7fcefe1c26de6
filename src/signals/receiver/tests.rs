use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::super::settings::{PushSettings, VerificationSettings};
use super::super::testing::{TestKey, b64, changed};
use super::*;
use crate::identity::{Identity, IssuerSettings, KeyPlace, RevocationSettings, Settings};
use crate::model::{ManualClock, Period, SecretRef};

const IDP: &str = "https://idp.example";
const OTHER: &str = "https://other.example";
const US: &str = "https://api.example/ssf";
const NOW: i64 = 1_900_000_000;
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// What a transmitter's events meet.
struct House {
    key: TestKey,
    folder: TempDir,
    clock: Arc<ManualClock>,
    revocations: Arc<Revocations>,
}

impl House {
    /// Must be called on a runtime.
    fn new() -> Self {
        Self::with_places(100)
    }

    fn with_places(entries: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = TestKey::new("k1");
        std::fs::write(folder.path().join("jwks.json"), key.jwks()).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(NOW).unwrap()));
        let settings = Settings {
            issuers: vec![IssuerSettings {
                issuer: IDP.into(),
                audiences: vec!["a".into()],
                keys: KeyPlace::JwksFile(folder.path().join("jwks.json")),
                max_token_lifetime: Period::seconds(3600),
                ..IssuerSettings::default()
            }],
            revocation: RevocationSettings {
                entries,
                ..RevocationSettings::default()
            },
            ..Settings::default()
        };
        let identity =
            Identity::<()>::start(&settings, Arc::clone(&clock) as _, &Handle::current());
        let revocations = Arc::clone(identity.unwrap().revocations());
        Self {
            key,
            folder,
            clock,
            revocations,
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A transmitter whose settings are changed first.
    fn transmitter(&self, change: impl FnOnce(&mut TransmitterSettings)) -> Transmitter {
        let mut settings = TransmitterSettings {
            name: "idp".into(),
            issuer: IDP.into(),
            audiences: vec![US.into()],
            keys: KeyPlace::JwksFile(self.file("jwks.json")),
            push: Some(PushSettings::default()),
            ..TransmitterSettings::default()
        };
        change(&mut settings);
        let shared = (Arc::clone(&self.revocations), Arc::clone(&self.clock) as _);
        Transmitter::start(&settings, shared, &Handle::current()).unwrap()
    }

    /// The same, once its keys are there: so that nobody has used up the right to ask for more.
    async fn ready(&self, change: impl FnOnce(&mut TransmitterSettings)) -> Transmitter {
        let transmitter = self.transmitter(change);
        while transmitter.party().keys().age.is_none() {
            tokio::task::yield_now().await;
        }
        transmitter
    }

    fn event(&self, claims: &Value) -> String {
        self.key.event(claims)
    }

    /// What is in force, as it would be written.
    fn in_force(&self) -> Vec<Value> {
        let events = self.revocations.snapshot();
        events
            .iter()
            .map(|event| serde_json::to_value(event).unwrap())
            .collect()
    }
}

/// The claims of an event about alice.
fn claims(uri: &str, event: impl Into<Value>, changes: Value) -> Value {
    let event = event.into();
    let claims = json!({
        "iss": IDP, "aud": US, "jti": "1", "iat": NOW - 5, "sub_id": alice(), "events": { uri: event },
    });
    changed(claims, changes)
}

fn alice() -> Value {
    json!({ "format": "iss_sub", "iss": IDP, "sub": "alice" })
}

fn revoked(jti: &str) -> Value {
    let uri = format!("{CAEP}session-revoked");
    claims(&uri, json!({}), json!({ "jti": jti }))
}

fn account(name: &str, jti: &str, iat: i64) -> Value {
    claims(
        &format!("{RISC}{name}"),
        json!({}),
        json!({ "jti": jti, "iat": iat }),
    )
}

async fn take(transmitter: &Transmitter, text: &str) -> Taken {
    transmitter.take(text.as_bytes(), None).await
}

async fn code(transmitter: &Transmitter, text: &str) -> &'static str {
    match take(transmitter, text).await {
        Taken::Refused(refused) => refused.code,
        other => panic!("{other:?}"),
    }
}

fn outcomes(transmitter: &Transmitter) -> Vec<(&'static str, &'static str, u64)> {
    transmitter.figures().events
}

fn second(second: i64) -> String {
    Timestamp::from_second(second).unwrap().to_string()
}

/// What an event about alice's session `s1` takes back, and up to when.
enum Back {
    /// What she was issued before it happened.
    Happened,
    /// What she was issued before it was told.
    Told,
    /// All she has and gets.
    ForGood,
    /// The session, whenever issued.
    Session,
}

#[tokio::test]
async fn each_type_of_event_takes_back_what_it_should() {
    use Back::{ForGood, Happened, Session, Told};
    let none = json!({});
    let high = |principal: &str| json!({ "current_level": "HIGH", "principal": principal });
    for (uri, event, back) in [
        ("caep/session-revoked", none.clone(), Session),
        ("caep/token-claims-change", none.clone(), Session),
        ("caep/credential-change", none.clone(), Happened),
        ("caep/assurance-level-change", none.clone(), Session),
        ("caep/device-compliance-change", none.clone(), Session),
        ("caep/risk-level-change", high("SESSION"), Session),
        ("caep/risk-level-change", high("USER"), Told),
        ("risc/account-disabled", none.clone(), ForGood),
        ("risc/account-purged", none.clone(), ForGood),
        (
            "risc/account-credential-change-required",
            none.clone(),
            Told,
        ),
        ("risc/credential-compromise", none.clone(), Told),
        ("risc/sessions-revoked", none.clone(), Happened),
        ("risc/identifier-recycled", none, Happened),
    ] {
        let of_session = json!({
            "toe": NOW - 100,
            "sub_id": { "user": alice(), "session": { "format": "opaque", "id": "s1" } },
        });
        assert_takes_back(uri, (&event, of_session), &back).await;
    }
    // Where no session is named, all of the user's up to then.
    let at = json!({ "event_timestamp": NOW - 100 });
    for (uri, back) in [
        ("caep/session-revoked", Happened),
        ("caep/assurance-level-change", Happened),
        ("caep/device-compliance-change", Told),
    ] {
        assert_takes_back(uri, (&at, json!({})), &back).await;
    }
}

async fn assert_takes_back(uri: &str, (event, changes): (&Value, Value), back: &Back) {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    let uri = uri.replace("caep/", CAEP).replace("risc/", RISC);
    let text = house.event(&claims(&uri, event.clone(), changes));
    assert_eq!(take(&transmitter, &text).await, Taken::Done, "{uri}");
    let subject = json!({ "subject": { "issuer": IDP, "subject": "alice" } });
    let session = json!({ "session": { "issuer": IDP, "session_id": "s1" } });
    let (target, before) = match back {
        Back::Happened => (subject, second(NOW - 99)),
        Back::Told => (subject, second(NOW - 4)),
        Back::ForGood => (subject, Revocation::FOR_GOOD.to_string()),
        Back::Session => (session, Revocation::FOR_GOOD.to_string()),
    };
    let [event] = &house.in_force()[..] else {
        panic!("{uri}: {:?}", house.in_force());
    };
    assert_eq!(event["target"], target, "{uri}");
    assert_eq!(event["issued_before"], before, "{uri}");
    assert_eq!(event["source"], "ssf");
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.ends_with(" by idp"), "{reason}");
}

#[tokio::test]
async fn good_news_other_types_and_what_the_settings_ignore_change_nothing() {
    let house = House::new();
    let transmitter = house.transmitter(|settings| {
        settings.on = [(Signal::CredentialCompromise, Action::Ignore)].into();
    });
    let create = json!({ "change_type": "create" });
    for (uri, event) in [
        (format!("{CAEP}credential-change"), create),
        (format!("{CAEP}session-established"), json!({})),
        (format!("{RISC}opt-out-effective"), json!({})),
        (format!("{RISC}credential-compromise"), json!({})),
        (format!("{RISC}identifier-changed"), json!({})),
        (format!("{RISC}account-enabled"), json!({})),
        ("https://example.com/anything".to_owned(), json!({})),
    ] {
        let text = house.event(&claims(&uri, event, json!({ "jti": uri })));
        assert_eq!(take(&transmitter, &text).await, Taken::Done, "{uri}");
    }
    assert_eq!(house.in_force(), Vec::<Value>::new());
    let outcomes = outcomes(&transmitter);
    assert!(
        outcomes.iter().all(|(_, outcome, _)| *outcome == "ignored"),
        "{outcomes:?}"
    );
    let named = house.transmitter(|settings| {
        settings.on = [(Signal::IdentifierChanged, Action::Apply)].into();
    });
    let uri = format!("{RISC}identifier-changed");
    let text = house.event(&claims(&uri, json!({}), json!({})));
    assert_eq!(take(&named, &text).await, Taken::Done);
    assert_eq!(house.in_force().len(), 1);
}

#[tokio::test]
async fn an_event_told_twice_counts_once_also_after_a_restart() {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    let text = house.event(&revoked("1"));
    assert_eq!(take(&transmitter, &text).await, Taken::Done);
    let before = house.in_force();
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(take(&transmitter, &text).await, Taken::Done);
    let restarted = house.transmitter(|_| {});
    assert_eq!(take(&restarted, &text).await, Taken::Done);
    assert_eq!(house.in_force(), before);
    assert_eq!(house.revocations.figures().applied.len(), 1);
    let twice = [
        ("session-revoked", "applied", 1),
        ("session-revoked", "replayed", 1),
    ];
    assert_eq!(outcomes(&transmitter), twice);
    assert_eq!(outcomes(&restarted), twice[1..]);
}

#[tokio::test]
async fn a_transmitter_that_uses_one_jti_twice_does_not_silence_itself() {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    let bob = json!({ "sub_id": { "format": "iss_sub", "iss": IDP, "sub": "bob" } });
    for claims in [revoked("1"), changed(revoked("1"), bob)] {
        assert_eq!(take(&transmitter, &house.event(&claims)).await, Taken::Done);
    }
    assert_eq!(house.in_force().len(), 2);
}

#[tokio::test]
async fn j17_what_is_no_event_of_this_transmitter_for_us_is_refused_and_says_why() {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    let good = revoked("1");
    let with = |changes: Value| house.event(&changed(good.clone(), changes));
    let under = |changes: Value| house.key.sign(&changed(house.key.header(), changes), &good);
    let mallory = TestKey::new("k1");
    let none = format!(
        "{}.{}.",
        b64(r#"{"alg":"none","typ":"secevent+jwt"}"#),
        b64(good.to_string())
    );
    let text = house.event(&good);
    let (head, _) = text.rsplit_once('.').unwrap();
    for (text, expected) in [
        (under(json!({ "typ": "JWT" })), "invalid_request"),
        (under(json!({ "typ": "at+jwt" })), "invalid_request"),
        (under(json!({ "typ": null })), "invalid_request"),
        (under(json!({ "crit": ["b64"] })), "invalid_request"),
        (under(json!({ "alg": "HS256" })), "invalid_request"),
        (none, "invalid_request"),
        (String::new(), "invalid_request"),
        ("a.b.c".to_owned(), "invalid_request"),
        (with(json!({ "exp": NOW + 300 })), "invalid_request"),
        (with(json!({ "sub": "alice" })), "invalid_request"),
        (with(json!({ "events": {} })), "invalid_request"),
        (with(json!({ "sub_id": null })), "invalid_request"),
        (with(json!({ "sub_id": "alice" })), "invalid_request"),
        (with(json!({ "iat": NOW + 61 })), "invalid_request"),
        (with(json!({ "iss": OTHER })), "invalid_issuer"),
        (with(json!({ "iss": null })), "invalid_issuer"),
        (
            with(json!({ "aud": "https://api.example" })),
            "invalid_audience",
        ),
        (with(json!({ "aud": null })), "invalid_audience"),
        (mallory.event(&good), "authentication_failed"),
        (format!("{head}.{}", b64([0; 64])), "authentication_failed"),
    ] {
        assert_eq!(code(&transmitter, &text).await, expected, "{text}");
    }
    let taken = transmitter.take(text.as_bytes(), Some("2")).await;
    assert!(matches!(taken, Taken::Refused(_)), "under another name");
    assert_eq!(house.in_force(), Vec::<Value>::new());
    assert_eq!(take(&transmitter, &text).await, Taken::Done);
}

#[tokio::test]
async fn nobody_revokes_what_another_issuer_vouches_for() {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    let foreign = json!({ "format": "iss_sub", "iss": OTHER, "sub": "bob" });
    for name in [
        "caep/session-revoked",
        "risc/account-disabled",
        "risc/account-enabled",
    ] {
        let uri = name.replace("caep/", CAEP).replace("risc/", RISC);
        let text = house.event(&claims(&uri, json!({}), json!({ "sub_id": foreign })));
        assert_eq!(code(&transmitter, &text).await, "access_denied");
    }
    assert_eq!(house.in_force(), Vec::<Value>::new());
    let allowed = house.transmitter(|settings| {
        settings.subject_issuers = vec![IDP.into(), OTHER.into()];
    });
    let text = house.event(&changed(revoked("2"), json!({ "sub_id": foreign })));
    assert_eq!(take(&allowed, &text).await, Taken::Done);
    assert_eq!(house.in_force().len(), 1);
}

#[tokio::test]
async fn an_event_about_somebody_unknown_is_taken_and_counted() {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    let email = json!({ "sub_id": { "format": "email", "email": "alice@example.com" } });
    let text = house.event(&changed(revoked("1"), email));
    assert_eq!(take(&transmitter, &text).await, Taken::Done);
    assert_eq!(outcomes(&transmitter), [("session-revoked", "unmapped", 1)]);
    assert_eq!(house.in_force(), Vec::<Value>::new());
}

#[tokio::test]
async fn an_account_stays_disabled_until_it_is_enabled_and_the_later_word_counts() {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    let tell = async |name: &str, jti: &str, iat: i64| {
        let text = house.event(&account(name, jti, iat));
        assert_eq!(take(&transmitter, &text).await, Taken::Done);
        house.in_force().len()
    };
    assert_eq!(tell("account-disabled", "1", NOW - 100).await, 1);
    assert_eq!(
        tell("account-enabled", "2", NOW - 200).await,
        1,
        "told before"
    );
    assert_eq!(
        tell("account-enabled", "3", NOW - 100).await,
        1,
        "nobody knows which was first"
    );
    assert_eq!(tell("account-disabled", "4", NOW - 80).await, 1);
    assert_eq!(
        tell("account-enabled", "5", NOW - 90).await,
        1,
        "and disabled again since"
    );
    assert_eq!(tell("account-enabled", "6", NOW - 70).await, 0);
    assert_eq!(
        tell("account-disabled", "7", NOW - 75).await,
        0,
        "came late"
    );
    assert_eq!(tell("account-disabled", "8", NOW - 60).await, 1);
    let superseded = outcomes(&transmitter);
    assert!(
        superseded.contains(&("account-disabled", "superseded", 1)),
        "{superseded:?}"
    );
}

#[tokio::test]
async fn an_account_is_enabled_by_nobody_but_who_disabled_it() {
    let house = House::new();
    let own = house.transmitter(|_| {});
    let other = house.transmitter(|settings| {
        settings.name = "other".into();
        settings.issuer = OTHER.into();
        settings.subject_issuers = vec![IDP.into()];
    });
    let disabled = house.event(&account("account-disabled", "1", NOW - 100));
    assert_eq!(take(&own, &disabled).await, Taken::Done);
    let by_other = changed(
        account("account-enabled", "2", NOW - 50),
        json!({ "iss": OTHER }),
    );
    assert_eq!(take(&other, &house.event(&by_other)).await, Taken::Done);
    assert_eq!(house.in_force().len(), 1);
    // Nor is anything enabled that an operator took back.
    let target = Target::Subject {
        issuer: IDP.into(),
        subject: "alice".into(),
    };
    let event = house.revocations.event(target, RevocationSource::Admin);
    house.revocations.apply(event).await.unwrap();
    let enabled = house.event(&account("account-enabled", "3", NOW - 50));
    assert_eq!(take(&own, &enabled).await, Taken::Done);
    assert_eq!(house.in_force().len(), 1);
    assert_eq!(house.in_force()[0]["source"], "admin");
}

#[tokio::test]
async fn where_there_is_no_place_the_transmitter_sends_again() {
    let house = House::with_places(1);
    let transmitter = house.transmitter(|_| {});
    let bob = json!({ "sub_id": { "format": "iss_sub", "iss": IDP, "sub": "bob" } });
    let (first, second) = (
        house.event(&revoked("1")),
        house.event(&changed(revoked("2"), bob)),
    );
    assert_eq!(take(&transmitter, &first).await, Taken::Done);
    assert_eq!(take(&transmitter, &second).await, Taken::Later);
    assert_eq!(
        take(&transmitter, &second).await,
        Taken::Later,
        "it is not taken for known"
    );
    let id = house.in_force()[0]["id"].as_str().unwrap().to_owned();
    house.revocations.lift(&id, RevocationSource::Admin).await;
    assert_eq!(take(&transmitter, &second).await, Taken::Done);
}

#[test]
fn what_is_in_force_and_not_saved_is_to_be_sent_again() {
    let applied = |saved| Applied {
        id: "1".into(),
        evicted: 0,
        known_already: false,
        saved,
    };
    assert_eq!(of_applied(Ok(applied(Saved::No))).0, Outcome::Later);
    assert_eq!(of_applied(Ok(applied(Saved::Yes))).0, Outcome::Applied);
    assert_eq!(of_applied(Err(NotApplied::Conflict)).0, Outcome::Later);
    let (outcome, refused) = of_applied(Err(NotApplied::Invalid(Vec::new())));
    assert_eq!(
        (outcome, refused.unwrap().code),
        (Outcome::RefusedRequest, "invalid_request")
    );
}

#[tokio::test]
async fn without_keys_nothing_is_refused_for_good() {
    let house = House::new();
    let transmitter = house.transmitter(|settings| {
        settings.keys = KeyPlace::JwksFile(house.file("none.json"));
    });
    let text = house.event(&revoked("1"));
    assert_eq!(take(&transmitter, &text).await, Taken::Later);
    assert_eq!(house.in_force(), Vec::<Value>::new());
    assert_eq!(outcomes(&transmitter), [("unread", "later", 1)]);
}

#[tokio::test]
async fn c7_what_is_of_or_for_somebody_else_asks_for_no_key_and_no_signature() {
    let house = House::new();
    let transmitter = house.transmitter(|settings| {
        settings.keys = KeyPlace::JwksFile(house.file("none.json"));
    });
    for (changes, expected) in [
        (json!({ "iss": OTHER }), "invalid_issuer"),
        (json!({ "aud": OTHER }), "invalid_audience"),
    ] {
        let text = TestKey::new("invented").event(&changed(revoked("1"), changes));
        assert_eq!(code(&transmitter, &text).await, expected);
    }
}

#[tokio::test]
async fn c7_strangers_have_two_events_verified_at_once_and_the_known_wait_for_a_place() {
    let house = House::new();
    let open = house.ready(|_| {}).await;
    let secret = house.file("secret");
    std::fs::write(&secret, "Bearer s3cret").unwrap();
    let push = PushSettings {
        authorization: Some(SecretRef::File(secret)),
        unauthenticated: false,
    };
    let guarded = house.ready(|settings| settings.push = Some(push)).await;
    let [one, two, three] = ["1", "2", "3"].map(|jti| house.event(&revoked(jti)));
    let taken = open.places.acquire_many(2).await.unwrap();
    assert_eq!(take(&open, &one).await, Taken::Later);
    let fetched = open.take(one.as_bytes(), Some("1"));
    let (fetched, ()) = tokio::join!(fetched, async { drop(taken) });
    assert_eq!(fetched, Taken::Done);
    let taken = open.places.acquire().await.unwrap();
    assert_eq!(take(&open, &two).await, Taken::Done, "there is a second");
    drop(taken);
    let taken = guarded.places.acquire_many(2).await.unwrap();
    let pushed = take(&guarded, &three);
    let (pushed, ()) = tokio::join!(pushed, async { drop(taken) });
    assert_eq!(pushed, Taken::Done);
}

#[tokio::test]
async fn c7_invented_key_ids_cannot_have_an_event_under_a_new_key_refused() {
    let house = House::new();
    let transmitter = house.ready(|_| {}).await;
    assert_eq!(
        take(&transmitter, &house.event(&revoked("0"))).await,
        Taken::Done
    );
    let invented = TestKey::new("invented").event(&revoked("1"));
    assert_eq!(
        code(&transmitter, &invented).await,
        "invalid_key",
        "the issuer was asked"
    );
    let rotated = TestKey::new("k2");
    std::fs::write(house.file("jwks.json"), rotated.jwks()).unwrap();
    let text = rotated.event(&revoked("2"));
    assert_eq!(
        take(&transmitter, &text).await,
        Taken::Later,
        "it may not be asked again yet"
    );
    house.clock.advance(Duration::from_secs(31));
    assert_eq!(take(&transmitter, &text).await, Taken::Done);
}

#[tokio::test]
async fn an_event_about_times_long_past_changes_nothing() {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    let old = changed(revoked("1"), json!({ "iat": NOW - 3 * 3600 }));
    assert_eq!(take(&transmitter, &house.event(&old)).await, Taken::Done);
    assert_eq!(outcomes(&transmitter), [("session-revoked", "past", 1)]);
    let late = changed(revoked("2"), json!({ "iat": NOW - 1800 }));
    assert_eq!(take(&transmitter, &house.event(&late)).await, Taken::Done);
    assert_eq!(house.in_force().len(), 1, "late is better than never");
}

#[tokio::test]
async fn several_events_in_one_token_end_as_the_worst_of_them() {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    let good = format!("{CAEP}session-revoked");
    let bad = format!("{SSF}stream-updated");
    let both = json!({ "events": { good: {}, bad: { "status": "gone" } } });
    let text = house.event(&changed(revoked("1"), both));
    assert_eq!(code(&transmitter, &text).await, "invalid_request");
    assert_eq!(house.in_force().len(), 1, "what could be applied is");
}

#[tokio::test]
async fn a_verification_event_has_to_answer_what_was_asked() {
    let house = House::new();
    let transmitter = house.transmitter(|settings| {
        settings.verification = Some(VerificationSettings {
            stream_id: "s1".into(),
            // Nobody listens there.
            endpoint: Some("http://127.0.0.1:9/".into()),
            ..VerificationSettings::default()
        });
    });
    let event = |jti: &str, stream: &str, event: Value| {
        let sub_id = json!({ "format": "opaque", "id": stream });
        let changes = json!({ "jti": jti, "sub_id": sub_id });
        house.event(&claims(&format!("{SSF}verification"), event, changes))
    };
    let wrong = event("1", "s1", json!({ "state": "invented" }));
    assert_eq!(code(&transmitter, &wrong).await, "invalid_state");
    let strange = event("2", "s1", json!({ "state": 5 }));
    assert_eq!(code(&transmitter, &strange).await, "invalid_request");
    let other = event("3", "s2", json!({}));
    assert_eq!(code(&transmitter, &other).await, "invalid_request");
    assert_eq!(transmitter.figures().verified, None);
    assert_eq!(transmitter.figures().alive, Some(false));
    let unasked = event("4", "s1", json!({}));
    assert_eq!(take(&transmitter, &unasked).await, Taken::Done);
    assert_eq!(transmitter.figures().verified, Some(Duration::ZERO));
}

#[tokio::test]
async fn a_stream_that_is_paused_is_told() {
    let house = House::new();
    let transmitter = house.transmitter(|_| {});
    for (jti, status, enabled) in [
        ("1", "paused", false),
        ("2", "enabled", true),
        ("3", "disabled", false),
    ] {
        let uri = format!("{SSF}stream-updated");
        let changes = json!({ "jti": jti, "sub_id": { "format": "opaque", "id": "s" } });
        let text = house.event(&claims(&uri, json!({ "status": status }), changes));
        assert_eq!(take(&transmitter, &text).await, Taken::Done);
        assert_eq!(transmitter.figures().enabled, enabled);
    }
}

#[tokio::test]
async fn whoever_sends_shows_what_the_transmitter_was_told_to_show() {
    let house = House::new();
    let open = house.transmitter(|_| {});
    assert!(open.admits(None) && open.admits(Some(b"Bearer x")));
    let secret = house.file("secret");
    std::fs::write(&secret, "Bearer s3cret\n").unwrap();
    let guarded = |place: &Path| PushSettings {
        authorization: Some(SecretRef::File(place.to_owned())),
        unauthenticated: false,
    };
    let closed = house.transmitter(|settings| settings.push = Some(guarded(&secret)));
    assert!(closed.admits(Some(b"Bearer s3cret")));
    for bad in [
        None,
        Some(&b""[..]),
        Some(b"s3cret"),
        Some(b"bearer s3cret"),
        Some(b"Bearer s3cret "),
    ] {
        assert!(!closed.admits(bad));
    }
    assert_eq!(outcomes(&closed), [("unread", "refused_authorization", 5)]);
    let settings = TransmitterSettings {
        name: "idp".into(),
        issuer: IDP.into(),
        push: Some(guarded(&house.file("none"))),
        ..TransmitterSettings::default()
    };
    let shared = (
        Arc::clone(&house.revocations),
        Arc::clone(&house.clock) as _,
    );
    let problem = Transmitter::start(&settings, shared, &Handle::current()).unwrap_err();
    assert!(
        problem.message.starts_with(
            "the transmitter `idp`: `signals.transmitters[..].push.authorization`: cannot read"
        ),
        "{problem}"
    );
}

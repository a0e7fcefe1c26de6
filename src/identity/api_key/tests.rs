use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use super::super::testing::{NOW, OPERATION, TestKey, arrival, clock, request, snapshot};
use super::super::{Identified, Identity, RouteSettings, Settings, Who};
use super::*;
use crate::model::{
    AccessRequest, Challenge, Headers, ManualClock, Period, PrincipalKind, Reason, SecretRef,
};

const HASH_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn hash_key() -> HashKey {
    HashKey::parse(&SecretString::from(HASH_KEY)).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn in_seconds(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn owner(subject: &str) -> Owner {
    Owner {
        issuer: None,
        subject: subject.to_owned(),
        kind: PrincipalKind::Client,
        scopes: vec!["orders:read".to_owned()],
        roles: vec!["viewer".to_owned()],
        groups: Vec::new(),
        tenant: Some("acme".to_owned()),
    }
}

/// Adds a key that lives for so many seconds, and returns its id and its text.
fn add(file: &mut KeyFile, subject: &str, seconds: i64) -> (String, String) {
    let key = FreshKey::generate("cardea").unwrap();
    let times = (in_seconds(-60), in_seconds(seconds));
    file.add((&key, &hash_key()), owner(subject), times, None);
    (key.id, key.text.expose_secret().to_owned())
}

/// An identity room with a file of keys.
struct Room {
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    file: KeyFile,
    settings: ApiKeySettings,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("hash-key");
        std::fs::write(&secret, HASH_KEY).unwrap();
        let settings = ApiKeySettings {
            file: folder.path().join("keys.json"),
            hash_key: SecretRef::File(secret),
            poll: Period::millis(50),
            ..ApiKeySettings::default()
        };
        Self {
            clock: clock(),
            file: KeyFile::empty(&hash_key()),
            folder,
            settings,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    fn write(&self) {
        std::fs::write(self.path(), self.file.text().unwrap()).unwrap();
    }

    fn start(&self, change: impl FnOnce(&mut Settings)) -> Arc<Identity<String>> {
        self.write();
        let mut settings = Settings {
            api_keys: Some(self.settings.clone()),
            ..Settings::default()
        };
        change(&mut settings);
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Identity::start(&settings, clock, &Handle::current()).unwrap()
    }

    /// Only the scheme, so that a test says when the file is read.
    fn scheme(&self) -> ApiKeys {
        self.write();
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let settings = ApiKeySettings {
            poll: Period::seconds(60),
            ..self.settings.clone()
        };
        ApiKeys::start(&settings, &clock, &Handle::current()).unwrap()
    }

    async fn ask(
        &self,
        identity: &Identity<String>,
        request: &AccessRequest,
    ) -> Identified<String> {
        let arrival = arrival(&self.clock);
        let finish = |identity: &crate::model::VerifiedIdentity| identity.subject.clone();
        let asked = (request, OPERATION);
        identity
            .identify(asked, &arrival, &snapshot(), finish)
            .await
    }

    async fn key(&self, identity: &Identity<String>, key: &str) -> Result<String, Reason> {
        told(self.ask(identity, &sending(&[key], "")).await)
    }
}

/// A request with these keys in its header, and this query.
fn sending(keys: &[&str], query: &str) -> AccessRequest {
    let fields = keys
        .iter()
        .map(|key| ("x-api-key".to_owned(), key.as_bytes().to_vec()));
    AccessRequest {
        headers: Headers::new(fields.collect()),
        ..request(&[], query)
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

/// Looks until it holds: the file is looked at every 50 ms.
async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let limit = Duration::from_secs(20);
    let looks = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, looks).await.unwrap();
}

#[tokio::test]
async fn a_key_names_its_owner_cold_and_warm_and_says_what_the_file_says() {
    let mut room = Room::new();
    let (id, key) = add(&mut room.file, "billing", 600);
    let identity = room.start(|_| {});
    let cold = room.ask(&identity, &sending(&[&key], "")).await;
    assert_eq!(cold.cache_hit, Some(false));
    let warm = room.ask(&identity, &sending(&[&key], "")).await;
    assert_eq!(warm.cache_hit, Some(true));
    let Ok(Who::Verified(known)) = warm.who else {
        panic!("{warm:?}");
    };
    let known = known.identity();
    assert_eq!((known.scheme, &*known.issuer), ("api_key", "api-keys"));
    assert_eq!(known.subject, "billing");
    assert_eq!(known.kind, PrincipalKind::Client);
    assert_eq!(known.client_id.as_deref(), Some("billing"));
    assert_eq!(
        (&*known.scopes, &*known.roles),
        (&["orders:read".to_owned()][..], &["viewer".to_owned()][..])
    );
    assert_eq!(known.tenant.as_deref(), Some("acme"));
    assert_eq!(known.key_id.as_deref(), Some(&*id));
    assert_eq!(known.issued_at, Some(in_seconds(-60)));
    assert_eq!(known.expires_at, in_seconds(600));
    assert_eq!(identity.figures().judged, 1);
    assert!(!format!("{identity:?}").contains(&key));
}

#[tokio::test]
async fn h2_several_or_joined_keys_are_refused_as_ambiguous() {
    let mut room = Room::new();
    let (_, key) = add(&mut room.file, "billing", 600);
    let (_, other) = add(&mut room.file, "audit", 600);
    let identity = room.start(|_| {});
    for keys in [
        &[&*key, &*other][..],
        &[&*key, &*key],
        &[&*format!("{key},{other}")],
        &[&*format!("{key}, {key}")],
        &[&*format!("{key},")],
    ] {
        let answer = told(room.ask(&identity, &sending(keys, "")).await);
        assert_eq!(answer, Err(Reason::AmbiguousCredential));
    }
}

#[tokio::test]
async fn h3_a_key_in_the_query_is_refused_and_never_read() {
    let mut room = Room::new();
    let (_, key) = add(&mut room.file, "billing", 600);
    let identity = room.start(|_| {});
    for name in [
        "api_key",
        "apikey",
        "API_KEY",
        "api-key",
        "X-Api-Key",
        "api%5Fkey",
    ] {
        let query = format!("limit=1&{name}={key}");
        let alone = room.ask(&identity, &sending(&[], &query)).await;
        let refusal = alone.who.as_ref().unwrap_err();
        assert!(!refusal.detail.contains(&key));
        assert_eq!(told(alone), invalid(Fault::Misplaced), "{name}");
        let beside = told(room.ask(&identity, &sending(&[&key], &query)).await);
        assert_eq!(beside, Err(Reason::AmbiguousCredential), "{name}");
    }
    let bearer = request(&[b"Bearer a.b.c"], &format!("api_key={key}"));
    assert_eq!(
        told(room.ask(&identity, &bearer).await),
        Err(Reason::AmbiguousCredential)
    );
    let other = sending(&[&key], "key=1&limit=2");
    assert_eq!(
        told(room.ask(&identity, &other).await),
        Ok("billing".into())
    );
    assert_eq!(identity.figures().judged, 1);
}

#[tokio::test]
async fn h4_what_is_no_key_is_refused_before_the_cache() {
    let mut room = Room::new();
    let (_, key) = add(&mut room.file, "billing", 600);
    let identity = room.start(|_| {});
    let typo = format!(
        "{}{}",
        key.get(..key.len() - 1).unwrap(),
        if key.ends_with('0') { '1' } else { '0' }
    );
    for wrong in [
        "",
        "!",
        "s3cret",
        key.get(..key.len() - 1).unwrap(),
        &format!(" {key}"),
        &format!("{key} "),
        &key.replace('_', "!"),
        &typo,
        "cardea__",
    ] {
        assert_eq!(
            room.key(&identity, wrong).await,
            invalid(Fault::Malformed),
            "{wrong:?}"
        );
    }
    let long = "a".repeat(MAX_KEY + 1);
    assert_eq!(room.key(&identity, &long).await, invalid(Fault::TooLong));
    let mut bytes = sending(&[], "");
    for byte in [0xe9, 0xff, 0] {
        bytes.headers = Headers::new(vec![("x-api-key".to_owned(), vec![byte])]);
        assert_eq!(
            told(room.ask(&identity, &bytes).await),
            invalid(Fault::Malformed)
        );
    }
    let figures = identity.figures();
    assert_eq!((figures.misses, figures.refused_entries), (0, 0));
}

#[tokio::test]
async fn h5_a_key_and_a_token_of_different_callers_are_refused_and_of_one_caller_are_not() {
    let mut room = Room::new();
    let (_, key) = add(&mut room.file, "bob", 600);
    let signer = TestKey::es256("k1");
    let same = FreshKey::generate("cardea").unwrap();
    let alice = Owner {
        issuer: Some(super::super::testing::ISSUER.to_owned()),
        kind: PrincipalKind::User,
        ..owner("alice")
    };
    room.file
        .add((&same, &hash_key()), alice, (now(), in_seconds(600)), None);
    let jwks = room.folder.path().join("jwks.json");
    std::fs::write(&jwks, super::super::testing::jwks(&[&signer])).unwrap();
    let identity = room.start(|settings| {
        let place = super::super::KeyPlace::JwksFile(jwks);
        settings.issuers = vec![super::super::testing::issuer_settings(place)];
    });
    identity.readiness().wait_for(|ready| *ready).await.unwrap();
    let both = |key: &str| {
        let bearer = format!("Bearer {}", signer.token("alice"));
        let fields = [("authorization", bearer.as_str()), ("x-api-key", key)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        AccessRequest {
            headers: Headers::new(fields.into()),
            ..request(&[], "")
        }
    };
    let two = room.ask(&identity, &both(&key)).await;
    assert_eq!(two.beside.len(), 2, "both are recorded");
    assert_eq!(told(two), Err(Reason::AmbiguousCredential));
    let one = room.ask(&identity, &both(same.text.expose_secret())).await;
    assert_eq!(told(one), Ok("alice".into()));
    // A good token does not make up for a bad key.
    let fresh = FreshKey::generate("cardea").unwrap();
    let bad = room.ask(&identity, &both(fresh.text.expose_secret())).await;
    assert_eq!(told(bad), invalid(Fault::Unregistered));
}

#[tokio::test]
async fn c1_a_key_ends_when_its_time_ends_however_warm_it_is() {
    let mut room = Room::new();
    let (_, key) = add(&mut room.file, "billing", 2);
    let identity = room.start(|_| {});
    assert_eq!(room.key(&identity, &key).await, Ok("billing".into()));
    room.clock.advance(Duration::from_secs(1));
    assert_eq!(room.key(&identity, &key).await, Ok("billing".into()));
    room.clock.advance(Duration::from_secs(1));
    assert_eq!(room.key(&identity, &key).await, invalid(Fault::Expired));
}

#[tokio::test]
async fn c5_a_revoked_removed_or_changed_key_is_out_of_the_cache_once_the_file_is_read() {
    let mut room = Room::new();
    let (revoked, one) = add(&mut room.file, "one", 600);
    let (_, two) = add(&mut room.file, "two", 600);
    let before = room.file.clone();
    let (_, three) = add(&mut room.file, "three", 600);
    let identity = room.start(|_| {});
    for (key, name) in [(&one, "one"), (&two, "two"), (&three, "three")] {
        assert_eq!(room.key(&identity, key).await, Ok(name.into()));
        assert_eq!(room.key(&identity, key).await, Ok(name.into()));
    }
    room.file = before;
    assert_eq!(room.file.revoke(&revoked), Ok(true));
    assert_eq!(room.file.revoke(&revoked), Ok(false));
    room.write();
    eventually(async || room.key(&identity, &one).await == invalid(Fault::Revoked)).await;
    assert_eq!(
        room.key(&identity, &three).await,
        invalid(Fault::Unregistered)
    );
    // The key that did not change is still warm.
    let judged = identity.figures().judged;
    assert_eq!(room.key(&identity, &two).await, Ok("two".into()));
    assert_eq!(identity.figures().judged, judged);
}

#[tokio::test]
async fn c6_a_flood_of_unknown_keys_stays_small_and_pushes_no_good_one_out() {
    let mut room = Room::new();
    let (_, key) = add(&mut room.file, "billing", 600);
    let identity = room.start(|settings| settings.cache.refused_capacity = 10);
    assert_eq!(room.key(&identity, &key).await, Ok("billing".into()));
    for _ in 0..500 {
        let forged = FreshKey::generate("cardea").unwrap();
        let answer = room.key(&identity, forged.text.expose_secret()).await;
        assert_eq!(answer, invalid(Fault::Unregistered));
    }
    identity.cache.settle();
    let figures = identity.figures();
    assert!(figures.refused_entries <= 10, "{figures:?}");
    assert_eq!(figures.entries, 1);
    let judged = figures.judged;
    assert_eq!(room.key(&identity, &key).await, Ok("billing".into()));
    // The same forgery again costs one look.
    let forged = FreshKey::generate("cardea").unwrap();
    for _ in 0..50 {
        let answer = room.key(&identity, forged.text.expose_secret()).await;
        assert_eq!(answer, invalid(Fault::Unregistered));
    }
    assert!(
        identity.figures().judged <= judged + 2,
        "{:?}",
        identity.figures()
    );
}

#[tokio::test]
async fn c8_a_key_that_is_made_after_it_was_tried_works_once_the_file_is_read() {
    let mut room = Room::new();
    let (_, late) = add(&mut room.file, "late", 600);
    let full = std::mem::replace(&mut room.file, KeyFile::empty(&hash_key()));
    let identity = room.start(|settings| settings.cache.refused_ttl = Period::seconds(300));
    assert_eq!(
        room.key(&identity, &late).await,
        invalid(Fault::Unregistered)
    );
    room.file = full;
    room.write();
    eventually(async || room.key(&identity, &late).await == Ok("late".into())).await;
}

#[tokio::test]
async fn a_deleted_half_written_or_bad_file_changes_nothing() {
    let mut room = Room::new();
    let (_, key) = add(&mut room.file, "billing", 600);
    let scheme = room.scheme();
    let good = room.file.text().unwrap();
    let other = HashKey::parse(&SecretString::from("1".repeat(64))).unwrap();
    let foreign = KeyFile::empty(&other).text().unwrap();
    for bad in [
        "",
        "{",
        good.get(..good.len() / 2).unwrap(),
        &foreign,
        "\u{0}",
        &good.replace("\"version\": 1", "\"version\": 2"),
    ] {
        let problems = scheme.keys.renew(bad.as_bytes(), &room.path()).unwrap_err();
        assert!(!problems.is_empty());
        assert!(
            problems.iter().all(|problem| problem.file.is_some()),
            "{problems:?}"
        );
        let arrival = arrival(&room.clock);
        assert!(
            scheme.keys.judge(key.as_bytes(), &arrival).is_ok(),
            "{bad:?}"
        );
    }
    scheme.keys.renew(good.as_bytes(), &room.path()).unwrap();
}

#[test]
fn all_mistakes_of_a_file_are_told_with_their_lines() {
    let mut file = KeyFile::empty(&hash_key());
    let (first, _) = add(&mut file, "one", 600);
    add(&mut file, "two", 600);
    let text = file.text().unwrap();
    let twice = text.replace(&file.keys()[1].id, &first);
    let path = PathBuf::from("keys.json");
    let problems = KeyFile::parse(twice.as_bytes(), &path, &hash_key()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .message
            .contains("keys[1]: `id` is the same as that of keys[0]")
    );
    let wrong = text
        .replacen("\"two\"", "\"\"", 1)
        .replacen("orders:read", "orders read", 1)
        .replacen("2030-03-17T17:46:40Z", "2030-03-18T00:00:00Z", 1);
    let problems = KeyFile::parse(wrong.as_bytes(), &path, &hash_key()).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(
            |line| line.starts_with("keys.json:") && line.contains("keys[1]: owner: `subject`")
        ),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|line| line.contains("keys[0]: owner: `scopes`")),
        "{told:?}"
    );
    for (from, to, line) in [
        ("\"active\"", "\"asleep\"", true),
        ("\"state\"", "\"stale\"", true),
        ("\"version\"", "\"more\": 1,\n  \"version\"", true),
        ("\"version\": 1", "\"version\": 1, \"version\": 1", true),
    ] {
        let problems = KeyFile::parse(text.replacen(from, to, 1).as_bytes(), &path, &hash_key());
        let problem = problems.unwrap_err().remove(0);
        assert_eq!(problem.at.is_some(), line, "{from}: {problem}");
    }
}

#[test]
fn a_file_in_yaml_says_the_same() {
    let mut file = KeyFile::empty(&hash_key());
    add(&mut file, "one", 600);
    let entry = &file.keys()[0];
    let value: serde_json::Value = serde_json::from_str(&file.text().unwrap()).unwrap();
    let yaml = format!(
        "# ours\nversion: 1\nhash_key_id: {}\nkeys:\n  - id: {}\n    hash: \"{}\"\n    owner: {{ subject: one, scopes: [\"orders:read\"], roles: [viewer], tenant: acme }}\n    created_at: {}\n    expires_at: {}\n    state: active\n",
        hash_key().id(),
        entry.id,
        value["keys"][0]["hash"].as_str().unwrap(),
        entry.created_at,
        entry.expires_at,
    );
    let read = KeyFile::parse(yaml.as_bytes(), &PathBuf::from("keys.yaml"), &hash_key());
    assert_eq!(read, Ok(file));
}

#[test]
fn a_rotated_key_has_a_successor_and_ends_after_the_overlap() {
    let mut file = KeyFile::empty(&hash_key());
    let (id, _) = add(&mut file, "billing", 3540);
    let fresh = FreshKey::generate("cardea").unwrap();
    let day = SignedDuration::from_secs(600);
    let new = file
        .rotate(&id, (&fresh, &hash_key()), (now(), day), None)
        .unwrap();
    assert_eq!(
        (new.replaces.as_deref(), &new.owner),
        (Some(&*id), &owner("billing"))
    );
    assert_eq!(
        new.expires_at,
        in_seconds(3600),
        "as long as the old one was made for"
    );
    let old = &file.keys()[0];
    assert_eq!(
        (old.successor.as_deref(), old.expires_at),
        (Some(&*fresh.id), in_seconds(600))
    );
    assert!(old.usable(in_seconds(599)) && !old.usable(in_seconds(600)));
    let again = FreshKey::generate("cardea").unwrap();
    let twice = file
        .rotate(&id, (&again, &hash_key()), (now(), day), None)
        .unwrap_err();
    assert!(twice.message.contains(&fresh.id));
    file.revoke(&fresh.id).unwrap();
    let revoked = file.rotate(&fresh.id, (&again, &hash_key()), (now(), day), None);
    assert!(revoked.unwrap_err().message.contains("revoked"));
    assert!(
        file.rotate("nobody", (&again, &hash_key()), (now(), day), None)
            .is_err()
    );
    assert_eq!(file.keys().len(), 2);
}

#[tokio::test]
async fn what_keeps_keys_from_being_used_at_start_is_told() {
    let room = Room::new();
    let clock: Arc<dyn Clock> = Arc::clone(&room.clock) as _;
    let start = |settings: &ApiKeySettings| {
        let problems = ApiKeys::start(settings, &clock, &Handle::current()).unwrap_err();
        problems[0].to_string()
    };
    assert!(start(&room.settings).contains("cannot read the file"));
    room.write();
    let missing = ApiKeySettings {
        hash_key: SecretRef::File(room.folder.path().join("nowhere")),
        ..room.settings.clone()
    };
    assert!(start(&missing).contains("identity.api_keys.hash_key"));
    let wrong = ApiKeySettings {
        hash_key: SecretRef::File(room.path()),
        ..room.settings.clone()
    };
    assert!(start(&wrong).contains("64 hexadecimal digits"));
}

#[tokio::test]
async fn an_operation_says_how_its_callers_prove_themselves() {
    let mut room = Room::new();
    let (_, key) = add(&mut room.file, "billing", 600);
    let api_key = || Challenge::ApiKey {
        header: "x-api-key".into(),
    };
    let identity = room.start(|_| {});
    let nobody = room.ask(&identity, &sending(&[], "")).await;
    assert_eq!(
        *nobody.challenges,
        [api_key()],
        "no issuer, no bearer tokens"
    );
    let route = |schemes: &[crate::identity::SchemeName]| RouteSettings {
        schemes: schemes.to_vec(),
        ..RouteSettings::default()
    };
    let identity = room.start(|settings| settings.routes = vec![route(&[])]);
    let refused = room.ask(&identity, &sending(&[&key], "")).await;
    assert!(refused.challenges.is_empty());
    assert_eq!(
        told(refused),
        invalid(Fault::Scheme),
        "keys do not count here"
    );
}

#[tokio::test]
async fn c5_a_key_is_taken_back_without_its_file_by_its_id_and_by_its_owner() {
    use crate::identity::{RevocationSource as Source, Target};
    let mut room = Room::new();
    let (id, one) = add(&mut room.file, "one", 600);
    let (_, two) = add(&mut room.file, "two", 600);
    let (_, three) = add(&mut room.file, "three", 600);
    let token_issuer = super::super::testing::issuer_settings(super::super::KeyPlace::JwksFile(
        room.folder.path().join("jwks.json"),
    ));
    let identity = room.start(|settings| settings.issuers = vec![token_issuer]);
    for (key, name) in [(&one, "one"), (&two, "two"), (&three, "three")] {
        assert_eq!(room.key(&identity, key).await, Ok(name.into()));
    }
    let revocations = identity.revocations();
    let by_id = Target::Key {
        issuer: None,
        key_id: id,
    };
    let by_owner = Target::Subject {
        issuer: "api-keys".to_owned(),
        subject: "two".to_owned(),
    };
    for target in [by_id, by_owner] {
        let event = revocations.event(target, Source::Cli);
        revocations.apply(event).await.unwrap();
    }
    assert_eq!(room.key(&identity, &one).await, invalid(Fault::Revoked));
    assert_eq!(room.key(&identity, &two).await, invalid(Fault::Revoked));
    assert_eq!(room.key(&identity, &three).await, Ok("three".into()));
    // A file of keys may name the issuer of tokens, and its keys live longer than those.
    let owner = |issuer: &str| Target::Subject {
        issuer: issuer.to_owned(),
        subject: "alice".to_owned(),
    };
    for issuer in ["api-keys", super::super::testing::ISSUER] {
        let event = revocations.event(owner(issuer), Source::Cli);
        assert_eq!(
            event.expires_at,
            crate::identity::Event::FOR_GOOD,
            "{issuer}"
        );
    }
}

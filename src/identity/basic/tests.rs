use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::super::ground::Ground;
use super::super::testing::{NOW, OPERATION, arrival, clock, request, snapshot};
use super::super::{Identified, Identity, Settings, Who};
use super::*;
use crate::model::{AccessRequest, Challenge, ManualClock, Period, PrincipalKind, Reason};

const PASSWORD: &str = "correct horse";

/// Hashing is slow, so all tests share this one.
static HASH: LazyLock<String> = LazyLock::new(|| Hash::of(PASSWORD).unwrap().to_string());

fn users() -> String {
    let hash = &*HASH;
    let ends = Timestamp::from_second(NOW).unwrap() + SignedDuration::from_secs(10);
    format!(
        "version: 1\nusers:\n  erp:\n    hash: {hash}\n    roles: [viewer]\n    scopes: [\"orders:read\"]\n    tenant: acme\n  crm: {{ hash: \"{hash}\", kind: user }}\n  gone: {{ hash: \"{hash}\", disabled: true }}\n  brief: {{ hash: \"{hash}\", expires_at: {ends} }}\n"
    )
}

fn sent(name_and_password: impl AsRef<[u8]>) -> String {
    format!("Basic {}", STANDARD.encode(name_and_password))
}

fn erp() -> String {
    sent(format!("erp:{PASSWORD}"))
}

/// A file of users, and what is configured of them.
struct Room {
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    settings: BasicSettings,
}

impl Room {
    fn new(change: impl FnOnce(&mut BasicSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = BasicSettings {
            file: folder.path().join("users.yaml"),
            poll: Period::millis(50),
            // A busy machine checks slowly, and no test is about that.
            wait: Period::seconds(10),
            ..BasicSettings::default()
        };
        change(&mut settings);
        let room = Self {
            clock: clock(),
            folder,
            settings,
        };
        room.write(&users());
        room
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("users.yaml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn start(&self, change: impl FnOnce(&mut Settings)) -> Arc<Identity<String>> {
        let mut settings = Settings {
            basic: Some(self.settings.clone()),
            ..Settings::default()
        };
        change(&mut settings);
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Identity::start(&settings, clock, &Handle::current()).unwrap()
    }

    fn scheme(&self) -> Basic {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Basic::start(&self.settings, &clock, &Handle::current()).unwrap()
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

    async fn send(&self, identity: &Identity<String>, value: &str) -> Result<String, Reason> {
        told(self.ask(identity, &request(&[value.as_bytes()], "")).await)
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

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looks)
        .await
        .unwrap();
}

#[tokio::test]
async fn without_the_section_a_password_is_refused() {
    let room = Room::new(|_| {});
    let identity = room.start(|settings| settings.basic = None);
    assert_eq!(room.send(&identity, &erp()).await, invalid(Fault::Scheme));
}

#[tokio::test]
async fn a_user_is_known_cold_and_warm_and_is_what_the_file_says() {
    let room = Room::new(|_| {});
    let identity = room.start(|_| {});
    let header = erp();
    let asked = request(&[header.as_bytes()], "");
    let cold = room.ask(&identity, &asked).await;
    assert!(cold.cold.iter().any(|step| step.name == "verify password"));
    assert_eq!(*cold.challenges, [Challenge::Basic]);
    let warm = room.ask(&identity, &asked).await;
    assert_eq!((warm.cache_hit, &*warm.cold), (Some(true), &[][..]));
    let Ok(Who::Verified(known)) = warm.who else {
        panic!("{warm:?}");
    };
    let known = known.identity();
    assert_eq!(
        (known.scheme, &*known.issuer, &*known.subject),
        ("basic", "basic-users", "erp")
    );
    assert_eq!(
        (known.kind, known.tenant.as_deref()),
        (PrincipalKind::Client, Some("acme"))
    );
    assert_eq!(known.amr, ["pwd"]);
    assert_eq!(
        (&*known.roles, &*known.scopes),
        (&["viewer".to_owned()][..], &["orders:read".to_owned()][..])
    );
    let debug = format!("{identity:?}");
    assert!(!debug.contains(PASSWORD) && !debug.contains(HASH.get(30..60).unwrap()));
}

#[tokio::test]
async fn wrong_passwords_unknown_disabled_and_ended_users_are_refused() {
    let room = Room::new(|_| {});
    let identity = room.start(|_| {});
    for (text, fault) in [
        ("erp:wrong horse", Fault::Password),
        ("erp:", Fault::Password),
        ("nobody:correct horse", Fault::Password),
        ("ERP:correct horse", Fault::Password),
        ("gone:correct horse", Fault::Revoked),
        ("gone:wrong horse", Fault::Password),
    ] {
        assert_eq!(
            room.send(&identity, &sent(text)).await,
            invalid(fault),
            "{text}"
        );
    }
    let brief = sent(format!("brief:{PASSWORD}"));
    assert_eq!(room.send(&identity, &brief).await, Ok("brief".into()));
    room.clock.advance(Duration::from_secs(10));
    assert_eq!(room.send(&identity, &brief).await, invalid(Fault::Expired));
}

#[tokio::test]
async fn h4_what_is_no_name_and_password_is_refused_and_nothing_is_checked() {
    let room = Room::new(|settings| settings.max_attempts_total = 1);
    let identity = room.start(|_| {});
    let unpadded = sent("erp:x").trim_end_matches('=').to_owned();
    let long = sent(format!("erp:{}", "x".repeat(MAX_PASSWORD + 1)));
    for (header, fault) in [
        ("Basic !".to_owned(), Fault::Malformed),
        ("Basic abc".to_owned(), Fault::Malformed),
        ("Basic ZXJwOng!".to_owned(), Fault::Malformed),
        // The same bytes in another spelling: the last digit has bits that mean nothing.
        ("Basic ZXJwOnh=".to_owned(), Fault::Malformed),
        (unpadded, Fault::Malformed),
        (sent("erp"), Fault::Malformed),
        (sent(":secret"), Fault::Malformed),
        (sent("erp:a\0b"), Fault::Malformed),
        (sent("erp:a\nb"), Fault::Malformed),
        (sent("erp:a\u{85}b"), Fault::Malformed),
        (sent(b"erp:\xff\xfe"), Fault::Malformed),
        (
            sent(format!("{}:x", "n".repeat(MAX_NAME + 1))),
            Fault::Malformed,
        ),
        (long, Fault::Malformed),
        (
            format!("Basic {}", "a".repeat(MAX_CREDENTIAL + 4)),
            Fault::TooLong,
        ),
    ] {
        assert_eq!(
            room.send(&identity, &header).await,
            invalid(fault),
            "{header}"
        );
    }
    // None of them used up the one check there is.
    assert_eq!(room.send(&identity, &erp()).await, Ok("erp".into()));
}

#[tokio::test]
async fn h2_two_credentials_in_one_header_are_refused_as_ambiguous() {
    let room = Room::new(|_| {});
    let identity = room.start(|_| {});
    let joined = format!("{}, Bearer x", erp());
    assert_eq!(
        room.send(&identity, &joined).await,
        Err(Reason::AmbiguousCredential)
    );
    let two = request(&[erp().as_bytes(), erp().as_bytes()], "");
    assert_eq!(
        told(room.ask(&identity, &two).await),
        Err(Reason::AmbiguousCredential)
    );
}

#[tokio::test]
async fn h3_a_password_over_plain_http_is_refused_unless_that_is_allowed() {
    for (allow_http, expected) in [(false, invalid(Fault::Misplaced)), (true, Ok("erp".into()))] {
        let room = Room::new(|settings| settings.allow_http = allow_http);
        let identity = room.start(|_| {});
        let plain = AccessRequest {
            scheme: UrlScheme::Http,
            ..request(&[erp().as_bytes()], "")
        };
        assert_eq!(told(room.ask(&identity, &plain).await), expected);
    }
}

#[tokio::test]
async fn a_password_may_hold_colons_and_any_letters() {
    let room = Room::new(|_| {});
    let hash = Hash::of("pa:ss:wört").unwrap();
    room.write(&format!(
        "{{version: 1, users: {{\"jürgen müller\": {{hash: \"{hash}\"}}}}}}"
    ));
    let identity = room.start(|_| {});
    let answer = room
        .send(&identity, &sent("jürgen müller:pa:ss:wört"))
        .await;
    assert_eq!(answer, Ok("jürgen müller".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_first_uses_at_once_cost_one_verification() {
    // One check is all that the meter admits: a second one would be refused.
    let room = Arc::new(Room::new(|settings| settings.max_attempts = 1));
    let identity = room.start(|_| {});
    let mut all = JoinSet::new();
    for _ in 0..200 {
        let (room, identity) = (Arc::clone(&room), Arc::clone(&identity));
        all.spawn(async move { room.send(&identity, &erp()).await });
    }
    for answer in all.join_all().await {
        assert_eq!(answer, Ok("erp".into()));
    }
    let another = room.send(&identity, &sent("erp:another password")).await;
    assert_eq!(another, Err(Reason::TooManyRequests));
}

#[tokio::test]
async fn c6_guesses_are_limited_for_each_name_and_in_total_and_never_allowed() {
    let room = Room::new(|settings| {
        settings.max_attempts = 2;
        settings.max_attempts_total = 5;
    });
    let identity = room.start(|settings| settings.cache.ttl = Period::seconds(3600));
    assert_eq!(room.send(&identity, &erp()).await, Ok("erp".into()));
    let mut answers = Vec::new();
    for number in 0..10 {
        answers.push(
            room.send(&identity, &sent(format!("erp:guess {number}")))
                .await,
        );
    }
    assert_eq!(answers[0], invalid(Fault::Password));
    assert!(
        answers[1..]
            .iter()
            .all(|answer| *answer == Err(Reason::TooManyRequests))
    );
    // Unknown names are limited in the same way: nothing tells them from known ones.
    let mut answers = Vec::new();
    for number in 0..10 {
        answers.push(
            room.send(&identity, &sent(format!("nobody:guess {number}")))
                .await,
        );
    }
    let wrong = answers
        .iter()
        .filter(|answer| **answer == invalid(Fault::Password));
    assert_eq!(wrong.count(), 2);
    // Who is known already is not touched by it.
    assert_eq!(room.send(&identity, &erp()).await, Ok("erp".into()));
    // Nothing of it is remembered: later the same password is checked.
    room.clock.advance(Duration::from_secs(60));
    assert_eq!(
        room.send(&identity, &sent("erp:guess 9")).await,
        invalid(Fault::Password)
    );
    let crm = sent(format!("crm:{PASSWORD}"));
    assert_eq!(room.send(&identity, &crm).await, Ok("crm".into()));
}

#[tokio::test]
async fn c6_a_refused_password_is_not_checked_twice() {
    let room = Room::new(|settings| settings.max_attempts = 1);
    let identity = room.start(|_| {});
    for _ in 0..5 {
        assert_eq!(
            room.send(&identity, &sent("erp:wrong")).await,
            invalid(Fault::Password)
        );
    }
}

/// What preparing one credential comes to: whether the password is right, or why that cannot be told.
async fn prepared(room: &Room, basic: &Basic, text: &str) -> Result<bool, Reason> {
    let credential = STANDARD.encode(text);
    let arrival = arrival(&room.clock);
    match basic.prepare(credential.as_bytes(), &arrival).await.proof {
        Ok(proof) => Ok(proof().is_ok()),
        Err(denial) => {
            assert!(!denial.lasts(), "{denial:?}");
            Err(denial.refusal().reason)
        }
    }
}

#[tokio::test]
async fn where_too_many_wait_the_next_is_refused_and_passes_later() {
    let room = Room::new(|_| {});
    let basic = room.scheme();
    let good = format!("erp:{PASSWORD}");
    let full = basic.verifier.fill();
    assert!(full.is_some());
    assert_eq!(
        prepared(&room, &basic, &good).await,
        Err(Reason::TooManyRequests)
    );
    drop(full);
    assert_eq!(prepared(&room, &basic, &good).await, Ok(true));
}

#[tokio::test]
async fn who_cannot_wait_long_enough_is_refused_and_the_outcome_is_not_lost() {
    let room = Room::new(|settings| {
        settings.wait = Period::millis(100);
        settings.max_attempts = 1;
    });
    let mut basic = room.scheme();
    let good = format!("erp:{PASSWORD}");
    let held = basic.verifier.hold();
    assert!(held.is_some());
    assert_eq!(
        prepared(&room, &basic, &good).await,
        Err(Reason::DeadlineTooNear)
    );
    drop(held);
    basic.wait = Duration::from_secs(10);
    assert_eq!(
        prepared(&room, &basic, &good).await,
        Ok(true),
        "the check went on"
    );
}

/// Whether the password is the one of this hash.
async fn verified(
    verifier: &Verifier,
    hash: &Hash,
    (ground, now): (&Arc<Ground>, Instant),
) -> Result<bool, Denial> {
    let check = Check {
        credential: b"erp",
        password: PASSWORD.into(),
        hash,
        ground,
    };
    let patience = Duration::from_secs(10);
    verifier.verify(check, (now, patience), || Ok(())).await
}

#[tokio::test]
async fn c5_an_outcome_counts_only_for_the_entry_it_was_found_for() {
    let now = clock().monotonic();
    let lease = Lease::endless(now);
    let verifier = Verifier::new((1, 8), Handle::current()).unwrap();
    let (old, new) = (Ground::under(&lease), Ground::under(&lease));
    let right = Hash::parse(&HASH).unwrap();
    let other = Hash::of("another horse").unwrap();
    // Both hold, as they do while the file is being read again.
    for (hash, ground, expected) in [
        (&right, &old, true),
        (&other, &new, false),
        (&right, &old, true),
    ] {
        let outcome = verified(&verifier, hash, (ground, now)).await;
        assert_eq!(outcome.unwrap(), expected);
    }
}

#[tokio::test]
async fn c5_a_user_that_changes_while_the_password_is_checked_is_not_let_in() {
    let now = clock().monotonic();
    let ground = Ground::under(&Lease::endless(now));
    let verifier = Verifier::new((1, 8), Handle::current()).unwrap();
    let right = Hash::parse(&HASH).unwrap();
    let held = verifier.hold();
    assert!(held.is_some());
    let change = async {
        ground.withdraw();
        drop(held);
    };
    let (outcome, ()) = tokio::join!(verified(&verifier, &right, (&ground, now)), change);
    assert!(matches!(outcome, Err(Denial::TooLate(_))), "{outcome:?}");
}

#[tokio::test]
async fn c5_a_changed_disabled_or_removed_user_is_out_of_the_cache_once_the_file_is_read() {
    let room = Room::new(|settings| settings.max_attempts = 100);
    let identity = room.start(|settings| settings.cache.ttl = Period::seconds(3600));
    let (erp, crm) = (erp(), sent(format!("crm:{PASSWORD}")));
    assert_eq!(room.send(&identity, &erp).await, Ok("erp".into()));
    assert_eq!(room.send(&identity, &crm).await, Ok("crm".into()));
    let hash = &*HASH;
    room.write(&format!(
        "version: 1\nusers:\n  crm: {{ hash: \"{hash}\", kind: user, disabled: true }}\n"
    ));
    eventually(async || room.send(&identity, &erp).await == invalid(Fault::Password)).await;
    assert_eq!(room.send(&identity, &crm).await, invalid(Fault::Revoked));
    room.write(&users());
    eventually(async || room.send(&identity, &erp).await == Ok("erp".into())).await;
}

#[tokio::test]
async fn a_deleted_half_written_or_bad_file_changes_nothing() {
    let room = Room::new(|_| {});
    let basic = room.scheme();
    let good = users();
    let weak = good.replace("m=19456", "m=1024");
    for bad in [
        "",
        "version: 1\nusers:\n  erp: {",
        &good.replace("version: 1", "version: 2"),
        &weak,
        &good.replace("crm:", "erp:"),
        &good.replace("crm:", "\"c:rm\":"),
    ] {
        let problems = basic
            .directory
            .renew(bad.as_bytes(), &room.path())
            .unwrap_err();
        assert!(
            problems.iter().all(|problem| problem.file.is_some()),
            "{problems:?}"
        );
    }
    let problems = basic
        .directory
        .renew(weak.as_bytes(), &room.path())
        .unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems[0].message.contains("too cheap") && problems[0].at.is_some());
    assert!(!format!("{problems:?}").contains("$argon2id"));
    let bare = format!("{{version: 1, users: {{erp: {{hash: {}}}}}}}", &*HASH);
    let problems = basic
        .directory
        .renew(bare.as_bytes(), &room.path())
        .unwrap_err();
    assert!(problems[0].at.is_some() && problems[0].to_string().contains("in quotes"));
    let tag = HASH.rsplit('$').next().unwrap();
    assert!(
        !format!("{problems:?}").contains(tag.get(..8).unwrap()),
        "{problems:?}"
    );
    assert_eq!(
        prepared(&room, &basic, &format!("erp:{PASSWORD}")).await,
        Ok(true)
    );
}

#[test]
fn a_password_for_the_file_has_a_length_and_no_control_characters() {
    for bad in [
        "",
        "short",
        "with\ttab in it",
        &"x".repeat(MAX_PASSWORD + 1),
    ] {
        let problem = hash_password(&SecretString::from(bad)).unwrap_err();
        assert!(bad.is_empty() || !problem.to_string().contains(bad));
    }
    let hash = hash_password(&SecretString::from("long enough it is")).unwrap();
    assert!(Hash::parse(&hash).unwrap().verify("long enough it is"));
}

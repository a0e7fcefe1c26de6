use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jiff::SignedDuration;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::super::settings::{
    BasicSettings, CertificateSettings, IssuerSettings, NameSettings, RevocationSettings, Settings,
    TrustDomainSettings,
};
use super::journal::Journal;
use super::*;
use crate::model::{Binding, ManualClock, OnBehalf, Period, PrincipalKind};

const ISSUER: &str = "https://idp.example";

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn holder(issuer: &str, subject: &str) -> IdentityAttributes {
    let who = (issuer.into(), subject.to_owned());
    IdentityAttributes::of(PrincipalKind::User, "bearer_jwt", who, second(1_000_000))
}

fn subject(name: &str) -> Target {
    Target::Subject {
        issuer: ISSUER.into(),
        subject: name.into(),
    }
}

fn event(id: &str, target: Target, issued_before: i64) -> Event {
    Event {
        id: id.into(),
        target,
        issued_before: second(issued_before),
        expires_at: Event::FOR_GOOD,
        reason: None,
        source: Source::Ssf,
        at: second(100),
    }
}

fn lifting(id: &str, told_before: Timestamp) -> Change {
    let id = id.to_owned();
    Change::Lift { id, told_before }
}

/// Revocations on a runtime of their own, so that a test can live through a restart.
struct Life {
    revocations: Arc<Revocations>,
    clock: Arc<ManualClock>,
    runtime: Runtime,
}

impl Life {
    /// A change that was made elsewhere.
    fn hear(&self, change: Change) -> Applied {
        let applied = self.revocations.apply_remote(change);
        self.runtime.block_on(applied).unwrap()
    }

    fn with(settings: RevocationSettings) -> Result<Self, Problem> {
        Self::as_(settings, Access::Own)
    }

    fn as_(revocation: RevocationSettings, access: Access) -> Result<Self, Problem> {
        let runtime = Runtime::new().unwrap();
        let settings = Settings {
            revocation,
            issuers: vec![IssuerSettings {
                issuer: ISSUER.into(),
                max_token_lifetime: Period::seconds(1000),
                clock_skew: Period::seconds(10),
                ..IssuerSettings::default()
            }],
            ..Settings::default()
        };
        let clock = Arc::new(ManualClock::at(second(100)));
        let dynamic: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let revocations = Revocations::start(&settings, dynamic, runtime.handle(), access)?;
        Ok(Self {
            revocations,
            clock,
            runtime,
        })
    }

    fn in_memory() -> Self {
        Self::with(RevocationSettings::default()).unwrap()
    }

    fn apply(&self, event: Event) -> Result<Applied, NotApplied> {
        self.runtime.block_on(self.revocations.apply(event))
    }

    fn lift(&self, id: &str) -> Option<Saved> {
        let lifting = self.revocations.lift(id, Source::Admin);
        self.runtime.block_on(lifting)
    }

    fn refuses(&self, holder: &IdentityAttributes) -> bool {
        let never = AtomicU64::new(0);
        let now = self.clock.now();
        self.revocations.check(holder, &never, now).is_err()
    }
}

/// A folder with a place for the file.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("revocations.jsonl")
    }

    fn settings(&self) -> RevocationSettings {
        RevocationSettings {
            file: Some(self.file()),
            ..RevocationSettings::default()
        }
    }

    fn open(&self) -> Life {
        Life::with(self.settings()).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "nobody waits for a test")]
    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }
}

#[test]
fn what_was_issued_before_is_refused_and_a_later_login_is_not() {
    let life = Life::in_memory();
    let mut alice = holder(ISSUER, "alice");
    alice.issued_at = Some(second(99));
    assert!(!life.refuses(&alice));
    let applied = life.apply(event("1", subject("alice"), 100)).unwrap();
    assert_eq!(applied.saved, Saved::MemoryOnly);
    assert!(!applied.known_already);
    assert!(life.refuses(&alice));
    alice.issued_at = Some(second(100));
    assert!(!life.refuses(&alice), "issued at that instant, not before");
    alice.issued_at = None;
    assert!(
        life.refuses(&alice),
        "what does not say when counts as issued before"
    );
    assert!(!life.refuses(&holder(ISSUER, "bob")));
    assert!(!life.refuses(&holder("https://other.example", "alice")));
}

#[test]
fn the_generation_is_the_guard_and_is_asked_again_only_after_a_change() {
    let life = Life::in_memory();
    let mut alice = holder(ISSUER, "alice");
    alice.issued_at = Some(second(50));
    let seen = AtomicU64::new(0);
    let check = || {
        let now = life.clock.now();
        life.revocations.check(&alice, &seen, now).is_ok()
    };
    assert!(check());
    let before = seen.load(Ordering::Relaxed);
    life.apply(event("1", subject("bob"), 100)).unwrap();
    assert!(check());
    assert!(seen.load(Ordering::Relaxed) > before);
    life.apply(event("2", subject("alice"), 100)).unwrap();
    let noted = seen.load(Ordering::Relaxed);
    assert!(!check());
    assert!(!check(), "a refusal is not noted as good");
    assert_eq!(seen.load(Ordering::Relaxed), noted);
}

#[test]
fn every_kind_of_target_refuses_its_own_and_nothing_else() {
    let text = |name: &str| Some(name.to_owned());
    let mut all = holder(ISSUER, "alice");
    all.client_id = text("web");
    all.session_id = text("s1");
    all.token_id = text("t1");
    all.key_id = text("k1");
    let (issuer, other) = (ISSUER.to_owned(), "https://other.example".to_owned());
    let cases = [
        (r#"{"token_id":{"token_id":"t1"}}"#, true),
        (r#"{"token_id":{"token_id":"s1"}}"#, false),
        (r#"{"token_id":{"issuer":"I","token_id":"t1"}}"#, true),
        (r#"{"token_id":{"issuer":"O","token_id":"t1"}}"#, false),
        (r#"{"subject":{"issuer":"I","subject":"alice"}}"#, true),
        (r#"{"subject":{"issuer":"I","subject":"Alice"}}"#, false),
        (r#"{"client":{"client_id":"web"}}"#, true),
        (r#"{"client":{"issuer":"O","client_id":"web"}}"#, false),
        (r#"{"session":{"issuer":"I","session_id":"s1"}}"#, true),
        (r#"{"session":{"issuer":"O","session_id":"s1"}}"#, false),
        (r#"{"issuer":{"issuer":"I"}}"#, true),
        (r#"{"issuer":{"issuer":"O"}}"#, false),
        (r#"{"key":{"key_id":"k1"}}"#, true),
        (r#"{"key":{"key_id":"k2"}}"#, false),
    ];
    for (target, refused) in cases {
        let target = target.replace("\"I\"", &format!("{issuer:?}"));
        let target = target.replace("\"O\"", &format!("{other:?}"));
        let life = Life::in_memory();
        let body = format!(r#"{{"target":{target}}}"#);
        let event = life.revocations.read(body.as_bytes()).unwrap();
        life.apply(event).unwrap();
        assert_eq!(life.refuses(&all), refused, "{target}");
    }
}

#[test]
fn a_revoked_key_refuses_what_is_bound_to_it() {
    let life = Life::in_memory();
    let fingerprint = "AB:".repeat(31) + "AB";
    for key in ["thumbprint", &fingerprint] {
        let body = format!(r#"{{"target":{{"key":{{"key_id":"{key}"}}}}}}"#);
        let event = life.revocations.read(body.as_bytes()).unwrap();
        life.apply(event).unwrap();
    }
    let mut bound = holder(ISSUER, "alice");
    for binding in [
        Binding::Key("thumbprint".into()),
        Binding::Certificate([0xab; 32]),
    ] {
        bound.binding = Some(binding);
        assert!(life.refuses(&bound));
    }
    bound.binding = Some(Binding::Certificate([0xaa; 32]));
    assert!(!life.refuses(&bound));
    bound.binding = None;
    bound.key_id = Some("ab".repeat(32));
    assert!(life.refuses(&bound), "a certificate that is the credential");
}

#[test]
fn an_agent_ends_with_whom_it_acts_for_and_with_whoever_passed_the_token_on() {
    let mut agent = holder(ISSUER, "agent");
    agent.on_behalf = Some(OnBehalf {
        subject: Box::new(holder(ISSUER, "alice")),
        earlier: vec![
            format!("{ISSUER}|first"),
            "https://other.example|a|b".into(),
        ],
        purpose: None,
        human_approved: false,
    });
    let of = |issuer: &str, name: &str| Target::Subject {
        issuer: issuer.into(),
        subject: name.into(),
    };
    for (target, refused) in [
        (of(ISSUER, "agent"), true),
        (of(ISSUER, "alice"), true),
        (of(ISSUER, "first"), true),
        (of("https://other.example", "a|b"), true),
        (of("https://other.example", "first"), false),
        (of(ISSUER, "bob"), false),
    ] {
        let life = Life::in_memory();
        life.apply(event("1", target.clone(), 100)).unwrap();
        assert_eq!(life.refuses(&agent), refused, "{:?}", target.parts().name);
    }
}

#[test]
fn an_event_told_twice_counts_once_and_an_id_means_one_thing() {
    let life = Life::in_memory();
    let mut heard = life.revocations.subscribe();
    assert!(
        !life
            .apply(event("1", subject("alice"), 100))
            .unwrap()
            .known_already
    );
    for before in [100, 50] {
        assert!(
            life.apply(event("1", subject("alice"), before))
                .unwrap()
                .known_already
        );
    }
    let other = life.apply(event("1", subject("bob"), 100));
    assert_eq!(other, Err(NotApplied::Conflict));
    assert!(!life.refuses(&holder(ISSUER, "bob")));
    assert!(matches!(heard.try_recv(), Ok(Change::Revoke(_))));
    assert_eq!(heard.try_recv(), Err(TryRecvError::Empty));
    let figures = life.revocations.figures();
    assert_eq!(figures.applied, [(Kind::Subject, Source::Ssf, 1)]);
}

#[test]
fn an_event_told_again_with_later_times_covers_more_and_never_less() {
    let place = Place::new();
    let life = Life::with(RevocationSettings {
        entries: 1,
        ..place.settings()
    })
    .unwrap();
    let mut heard = life.revocations.subscribe();
    let told = |before, ends| Event {
        expires_at: second(ends),
        ..event("1", subject("alice"), before)
    };
    for (before, ends, in_force) in [
        (200, 500, Some((200, 500))),
        (200, 500, None),
        (150, 400, None),
        (300, 400, Some((300, 500))),
        (250, 600, Some((300, 600))),
        (300, 600, None),
    ] {
        let applied = life.apply(told(before, ends)).unwrap();
        let expected = in_force.map(|(before, ends)| told(before, ends));
        assert_eq!(applied.known_already, expected.is_none(), "{before} {ends}");
        assert_eq!(applied.saved, Saved::Yes);
        match expected {
            Some(event) => {
                assert_eq!(life.revocations.snapshot(), std::slice::from_ref(&event));
                assert_eq!(heard.try_recv(), Ok(Change::Revoke(event)));
            }
            None => assert_eq!(heard.try_recv(), Err(TryRecvError::Empty)),
        }
    }
    let counted = life.revocations.figures().applied;
    assert_eq!(counted, [(Kind::Subject, Source::Ssf, 3)]);
    drop(life);
    let life = place.open();
    assert_eq!(life.revocations.snapshot(), [told(300, 600)]);
    let mut alice = holder(ISSUER, "alice");
    alice.issued_at = Some(second(299));
    assert!(life.refuses(&alice));
    alice.issued_at = Some(second(300));
    assert!(!life.refuses(&alice));
}

/// For how many seconds an event about alice of this issuer is kept, `None` for good. A second issuer has tokens that live
/// longer.
fn kept(issuer: &str, change: impl FnOnce(&mut Settings)) -> Option<i64> {
    let tokens = |issuer: &str, seconds| IssuerSettings {
        issuer: issuer.into(),
        max_token_lifetime: Period::seconds(seconds),
        clock_skew: Period::seconds(10),
        ..IssuerSettings::default()
    };
    let mut settings = Settings {
        issuers: vec![tokens(ISSUER, 1000), tokens("spiffe://long.example", 5000)],
        ..Settings::default()
    };
    change(&mut settings);
    let target = Target::Subject {
        issuer: issuer.into(),
        subject: "alice".into(),
    };
    let event = Lives::new(&settings).event(target, Source::Cli, second(100));
    let good = event.expires_at == Event::FOR_GOOD;
    (!good).then(|| event.expires_at.as_second() - 100)
}

#[test]
fn who_vouches_for_more_than_tokens_is_remembered_for_good() {
    let other = "spiffe://long.example";
    assert_eq!(kept(ISSUER, |_| {}), Some(1020));
    assert_eq!(kept(other, |_| {}), Some(5020));
    let basic = |settings: &mut Settings| {
        settings.basic = Some(BasicSettings {
            issuer: ISSUER.into(),
            ..BasicSettings::default()
        });
    };
    let name = |settings: &mut Settings| {
        settings.certificates = Some(CertificateSettings {
            names: vec![NameSettings {
                issuer: ISSUER.into(),
                ..NameSettings::default()
            }],
            ..CertificateSettings::default()
        });
    };
    let domain = |settings: &mut Settings| {
        settings.certificates = Some(CertificateSettings {
            trust_domains: vec![TrustDomainSettings {
                name: "long.example".into(),
                ..TrustDomainSettings::default()
            }],
            ..CertificateSettings::default()
        });
    };
    assert_eq!(
        (kept(ISSUER, basic), kept(other, basic)),
        (None, Some(5020))
    );
    assert_eq!((kept(ISSUER, name), kept(other, name)), (None, Some(5020)));
    assert_eq!(
        (kept(ISSUER, domain), kept(other, domain)),
        (Some(1020), None)
    );
}

#[test]
fn an_actor_is_remembered_as_long_as_a_token_lives_that_may_name_it() {
    let listed = |settings: &mut Settings| {
        for issuer in &mut settings.issuers {
            issuer.actor_issuers = vec![ISSUER.into(), "https://agents.example".into()];
        }
    };
    assert_eq!(kept(ISSUER, listed), Some(5020));
    assert_eq!(kept("spiffe://long.example", listed), Some(5020));
    assert_eq!(kept("https://agents.example", listed), None);
}

#[test]
fn transmitters_cannot_take_the_places_that_are_left_to_operators() {
    let place = Place::new();
    let open = |entries| {
        Life::with(RevocationSettings {
            entries,
            ..place.settings()
        })
    };
    let life = open(10).unwrap();
    let told_by = |n: usize, source| Event {
        source,
        ..event(&n.to_string(), subject(&n.to_string()), 100)
    };
    for n in 0..8 {
        life.apply(told_by(n, Source::Ssf)).unwrap();
    }
    assert_eq!(
        life.apply(told_by(8, Source::Ssf)),
        Err(NotApplied::Full(8))
    );
    assert!(!life.refuses(&holder(ISSUER, "8")));
    let more = Event {
        issued_before: second(200),
        ..told_by(7, Source::Ssf)
    };
    assert!(!life.apply(more).unwrap().known_already, "it has a place");
    life.apply(told_by(8, Source::Admin)).unwrap();
    life.hear(Change::Revoke(told_by(9, Source::Ssf)));
    assert_eq!(
        life.apply(told_by(10, Source::Cli)),
        Err(NotApplied::Full(10))
    );
    life.lift("8").unwrap();
    assert_eq!(
        life.apply(told_by(8, Source::Ssf)),
        Err(NotApplied::Full(8))
    );
    life.lift("0").unwrap();
    life.apply(told_by(8, Source::Ssf)).unwrap();
    drop(life);
    let life = open(10).unwrap();
    assert_eq!(
        life.apply(told_by(11, Source::Ssf)),
        Err(NotApplied::Full(8)),
        "a restart knows who said what"
    );
    drop(life);
    // Nothing is forgotten where the settings leave them less than they have.
    assert_eq!(open(9).unwrap().revocations.figures().entries, 9);
}

#[test]
fn a_full_table_refuses_new_events_and_forgets_none_in_force() {
    let life = Life::with(RevocationSettings {
        entries: 2,
        ..RevocationSettings::default()
    })
    .unwrap();
    let mut first = event("1", subject("alice"), 100);
    first.expires_at = second(150);
    life.apply(first).unwrap();
    life.apply(event("2", subject("bob"), 100)).unwrap();
    let third = event("3", subject("carol"), 100);
    assert_eq!(life.apply(third.clone()), Err(NotApplied::Full(2)));
    assert!(life.refuses(&holder(ISSUER, "alice")));
    assert_eq!(life.revocations.figures().refused, 1);
    life.clock.advance(std::time::Duration::from_secs(50));
    life.apply(third).unwrap();
    assert!(
        !life.refuses(&holder(ISSUER, "alice")),
        "that one has expired"
    );
    assert!(life.refuses(&holder(ISSUER, "bob")));
    assert_eq!(life.revocations.figures().entries, 2);
}

#[test]
fn one_thing_revoked_again_and_again_takes_few_places() {
    let life = Life::in_memory();
    for n in 0..1000 {
        life.apply(event(&n.to_string(), subject("alice"), 100 + n))
            .unwrap();
    }
    assert!(life.revocations.figures().entries <= 32);
    let mut alice = holder(ISSUER, "alice");
    alice.issued_at = Some(second(1098));
    assert!(life.refuses(&alice));
    alice.issued_at = Some(second(1099));
    assert!(!life.refuses(&alice));
}

#[test]
fn what_may_be_lifted_takes_nobodys_place_and_gives_up_its_own_to_nobody() {
    let life = Life::in_memory();
    let lasting = |id: &str| Event {
        issued_before: Event::FOR_GOOD,
        ..event(id, subject("alice"), 0)
    };
    for n in 0..40 {
        let event = event(&n.to_string(), subject("alice"), 1000 - n);
        life.apply(event).unwrap();
    }
    life.apply(lasting("account:1")).unwrap();
    assert_eq!(life.revocations.figures().entries, 41);
    life.apply(lasting("admin")).unwrap();
    let left = life.revocations.snapshot();
    let left: Vec<&str> = left.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(left, ["account:1", "admin"]);
    assert_eq!(life.lift("account:1"), Some(Saved::MemoryOnly));
    assert!(life.refuses(&holder(ISSUER, "alice")), "by somebody else");
}

#[test]
fn what_was_told_since_then_is_not_lifted() {
    let place = Place::new();
    let life = place.open();
    let told_at = |at| Event {
        at: second(at),
        ..event("account:1", subject("alice"), 500)
    };
    let lift = |life: &Life, later| {
        let lifting = life
            .revocations
            .lift_told_before("account:1", second(later), Source::Ssf);
        life.runtime.block_on(lifting)
    };
    assert!(!life.apply(told_at(10)).unwrap().known_already);
    assert!(
        !life.apply(told_at(30)).unwrap().known_already,
        "told later"
    );
    assert!(life.apply(told_at(20)).unwrap().known_already);
    assert_eq!(lift(&life, 30), None);
    drop(life);
    let life = place.open();
    assert_eq!(lift(&life, 25), None, "a restart knows when it was told");
    assert!(life.refuses(&holder(ISSUER, "alice")));
    assert_eq!(lift(&life, 31), Some(Saved::Yes));
    assert!(!life.refuses(&holder(ISSUER, "alice")));
}

#[test]
fn a_lifting_from_elsewhere_ends_only_what_was_told_before_it_in_whatever_order() {
    let place = Place::new();
    let life = place.open();
    let told_at = |at| Event {
        at: second(at),
        ..event("account:1", subject("alice"), 500)
    };
    assert!(life.hear(lifting("account:1", second(10))).known_already);
    life.apply(told_at(20)).unwrap();
    assert!(life.hear(lifting("account:1", second(20))).known_already);
    assert!(life.refuses(&holder(ISSUER, "alice")));
    drop(life);
    // A file in which the two crossed on their way to the disk.
    let line = serde_json::to_string(&lifting("account:1", second(15))).unwrap();
    fs::write(place.file(), format!("{}{line}\n", place.text())).unwrap();
    let life = place.open();
    assert!(life.refuses(&holder(ISSUER, "alice")));
    assert!(!life.hear(lifting("account:1", second(21))).known_already);
    assert!(!life.refuses(&holder(ISSUER, "alice")));
    drop(life);
    assert!(!place.open().refuses(&holder(ISSUER, "alice")));
}

#[test]
fn an_operator_lifts_what_a_clock_ahead_of_ours_told() {
    let life = Life::in_memory();
    let mut heard = life.revocations.subscribe();
    let ahead = Event {
        at: second(500),
        ..event("1", subject("alice"), 100)
    };
    life.apply(ahead.clone()).unwrap();
    life.lift("1").unwrap();
    assert!(!life.refuses(&holder(ISSUER, "alice")));
    let moment = second(500) + SignedDuration::from_nanos(1);
    assert_eq!(heard.try_recv(), Ok(Change::Revoke(ahead)));
    assert_eq!(heard.try_recv(), Ok(lifting("1", moment)));
}

#[test]
fn events_that_no_settings_could_hold_are_refused() {
    let life = Life::in_memory();
    let long = "x".repeat(513);
    for wrong in [
        event("", subject("alice"), 100),
        event("a/b", subject("alice"), 100),
        event(&"i".repeat(129), subject("alice"), 100),
        event("1", subject(""), 100),
        event("1", subject("a\nb"), 100),
        event("1", subject(&long), 100),
        Event {
            reason: Some("two\nlines".into()),
            ..event("1", subject("alice"), 100)
        },
    ] {
        let refused = life.apply(wrong.clone());
        assert!(matches!(refused, Err(NotApplied::Invalid(_))), "{wrong:?}");
    }
    assert_eq!(life.revocations.figures().entries, 0);
}

#[test]
fn what_is_left_out_of_a_request_is_filled_in() {
    let life = Life::in_memory();
    let read = |target: &str| {
        let body = format!(r#"{{"target":{target},"reason":"lost","source":"cli"}}"#);
        life.revocations.read(body.as_bytes()).unwrap()
    };
    let of = |seconds| second(100) + SignedDuration::from_secs(seconds);
    let alice = read(r#"{"subject":{"issuer":"https://idp.example","subject":"alice"}}"#);
    assert_eq!(alice.target, subject("alice"));
    assert_eq!((alice.issued_before, alice.at), (of(0), of(0)));
    // A life of 1000 s, and twice the skew.
    assert_eq!(alice.expires_at, of(1020));
    assert_eq!(alice.reason.as_deref(), Some("lost"));
    assert_eq!(alice.source, Source::Cli);
    assert_ne!(alice.id, read(r#"{"issuer":{"issuer":"x"}}"#).id);
    let session = read(r#"{"session":{"issuer":"https://idp.example","session_id":"s"}}"#);
    assert_eq!(session.issued_before, Event::FOR_GOOD);
    assert_eq!(session.expires_at, of(1020));
    let token = read(r#"{"token_id":{"token_id":"t"}}"#);
    assert_eq!(
        (token.issued_before, token.expires_at),
        (Event::FOR_GOOD, of(1020))
    );
    // Nobody knows how long these live.
    for target in [
        r#"{"key":{"key_id":"k"}}"#,
        r#"{"subject":{"issuer":"https://other.example","subject":"alice"}}"#,
    ] {
        assert_eq!(read(target).expires_at, Event::FOR_GOOD, "{target}");
    }
    let later = br#"{"target":{"issuer":{"issuer":"https://idp.example"}},"issued_before":"1970-01-01T00:10:00Z"}"#;
    let later = life.revocations.read(later).unwrap();
    assert_eq!(
        (later.issued_before, later.expires_at),
        (second(600), second(1620))
    );
}

#[test]
fn a_request_is_refused_with_all_its_mistakes() {
    let life = Life::in_memory();
    let body = br#"{"target":{"subject":{"subject":7,"x":1}},"issued_before":"soon","expires_at":"1970-01-01T00:00:01Z",
        "id":"a b","reason":["x"],"source":"ssf","extra":1}"#;
    let mistakes = life.revocations.read(body).unwrap_err();
    let all: Vec<&str> = mistakes.iter().map(|one| one.message.as_str()).collect();
    for part in [
        "the event has a member other than",
        "`target.subject` has a member other than",
        "`target.subject.issuer` must be",
        "`target.subject.subject` must be",
        "`issued_before` must be a time",
        "`expires_at` has passed",
        "`id` must be",
        "`reason` must be a text",
        "`source` must be",
    ] {
        assert!(
            all.iter().any(|one| one.starts_with(part)),
            "{part}: {all:#?}"
        );
    }
    assert_eq!(all.len(), 9);
    for body in [
        "",
        "[]",
        "{}",
        r#"{"target":"alice"}"#,
        r#"{"target":{}}"#,
        r#"{"target":{"issuer":{"issuer":"a"},"client":{"client_id":"b"}}}"#,
        r#"{"target":{"tenant":{"issuer":"a"}}}"#,
        r#"{"target":{"issuer":{"issuer":"a","issuer":"b"}}}"#,
    ] {
        assert!(life.revocations.read(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn others_hear_what_was_changed_here_and_not_what_they_said_themselves() {
    let life = Life::in_memory();
    let mut heard = life.revocations.subscribe();
    let theirs = Change::Revoke(event("theirs", subject("alice"), 100));
    let remote = life.revocations.apply_remote(theirs);
    let applied = life.runtime.block_on(remote).unwrap();
    assert_eq!(applied.id, "theirs");
    assert!(life.refuses(&holder(ISSUER, "alice")));
    assert_eq!(heard.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(
        life.revocations.figures().applied,
        [(Kind::Subject, Source::Peer, 1)]
    );
    let ours = event("ours", subject("bob"), 100);
    life.apply(ours.clone()).unwrap();
    assert_eq!(heard.try_recv(), Ok(Change::Revoke(ours)));
    life.lift("ours").unwrap();
    // Told at second 100, which it is still: what lifts it is later all the same.
    let moment = second(100) + SignedDuration::from_nanos(1);
    assert_eq!(heard.try_recv(), Ok(lifting("ours", moment)));
    life.hear(lifting("theirs", moment));
    assert!(!life.refuses(&holder(ISSUER, "alice")));
    assert_eq!(heard.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn who_missed_changes_is_told_and_finds_them_in_the_snapshot() {
    let life = Life::in_memory();
    let mut heard = life.revocations.subscribe();
    for n in 0..=BEHIND {
        let name = n.to_string();
        life.apply(event(&name, subject(&name), 100)).unwrap();
    }
    let missed = life.runtime.block_on(heard.recv());
    assert_eq!(missed, Err(RecvError::Lagged(1)));
    assert_eq!(life.revocations.snapshot().len(), BEHIND + 1);
}

#[test]
fn revocations_survive_a_restart_and_what_was_lifted_stays_so() {
    let place = Place::new();
    let life = place.open();
    let applied = life.apply(event("1", subject("alice"), 100)).unwrap();
    assert_eq!(applied.saved, Saved::Yes);
    life.apply(event("2", subject("bob"), 100)).unwrap();
    let mut short = event("3", subject("carol"), 100);
    short.expires_at = second(100) + SignedDuration::from_nanos(1);
    life.apply(short).unwrap();
    assert_eq!(life.lift("2"), Some(Saved::Yes));
    assert_eq!(life.lift("2"), None);
    let told = life.revocations.snapshot();
    life.clock.advance(std::time::Duration::from_secs(1));
    drop(life);
    let mode = fs::metadata(place.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let life = place.open();
    assert!(life.refuses(&holder(ISSUER, "alice")));
    assert!(!life.refuses(&holder(ISSUER, "bob")));
    assert_eq!(life.revocations.snapshot(), told);
    assert_eq!(place.text().lines().count(), 3, "{}", place.text());
}

#[test]
fn a_line_that_was_cut_off_is_dropped_and_the_rest_is_kept() {
    let place = Place::new();
    let life = place.open();
    life.apply(event("1", subject("alice"), 100)).unwrap();
    life.apply(event("2", subject("bob"), 100)).unwrap();
    drop(life);
    let whole = place.text();
    let last = whole.lines().last().unwrap().len();
    for cut in 1..=last {
        fs::write(place.file(), &whole.as_bytes()[..whole.len() - cut]).unwrap();
        let life = place.open();
        assert!(life.refuses(&holder(ISSUER, "alice")), "cut by {cut}");
        assert!(!life.refuses(&holder(ISSUER, "bob")), "cut by {cut}");
        drop(life);
        assert!(place.text().ends_with('\n'), "written anew");
    }
}

#[test]
fn a_line_that_cannot_be_believed_stops_the_start_and_is_named() {
    let place = Place::new();
    let life = place.open();
    life.apply(event("1", subject("alice"), 100)).unwrap();
    life.apply(event("2", subject("bob"), 100)).unwrap();
    drop(life);
    let whole = place.text();
    let lines: Vec<&str> = whole.lines().collect();
    let other = lines[1].replace("alice", "mallory");
    for (line, text) in [
        (2, "{}".to_owned()),
        (2, "garbage".to_owned()),
        (2, lines[1].replace("revoke", "revok")),
        (2, lines[1].replace("issued_before", "issued_befor")),
        (2, lines[1].replace("\"id\"", "\"x\":1,\"id\"")),
        (2, lines[1].replace("alice", "a\\nb")),
        (2, "x".repeat(20_000)),
        (3, format!("{}\n{other}", lines[1])),
    ] {
        fs::write(
            place.file(),
            format!("{}\n{text}\n{}\n", lines[0], lines[2]),
        )
        .unwrap();
        let before = place.text();
        let problem = Life::with(place.settings()).err().expect(&text);
        assert_eq!(problem.at, Some((line, 1)), "{problem}");
        assert_eq!(problem.file, Some(place.file()));
        assert!(problem.hint.is_some());
        assert!(!problem.to_string().contains("alice"), "{problem}");
        assert_eq!(place.text(), before, "the file is left as it was");
    }
    for head in ["", "{}\n", "{\"cardea_revocations\":2}\n"] {
        fs::write(place.file(), head).unwrap();
        let problem = Life::with(place.settings()).err().expect(head);
        assert_eq!(problem.at, Some((1, 1)), "{problem}");
    }
}

#[test]
fn more_than_there_may_be_stops_the_start() {
    let place = Place::new();
    let life = place.open();
    for name in ["1", "2", "3"] {
        life.apply(event(name, subject(name), 100)).unwrap();
    }
    drop(life);
    let fewer = RevocationSettings {
        entries: 2,
        ..place.settings()
    };
    let problem = Life::with(fewer).err().unwrap();
    assert!(problem.message.contains("entries"), "{problem}");
}

#[test]
fn a_file_belongs_to_one_process_and_others_may_read_it() {
    let place = Place::new();
    let life = place.open();
    life.apply(event("1", subject("alice"), 100)).unwrap();
    let problem = Life::with(place.settings()).err().unwrap();
    assert!(problem.message.contains("another process"), "{problem}");
    let before = place.text();
    let reader = Life::as_(place.settings(), Access::Read).unwrap();
    assert!(reader.refuses(&holder(ISSUER, "alice")));
    assert_eq!(place.text(), before);
    let nowhere = RevocationSettings {
        file: Some(place.folder.path().join("none").join("file")),
        ..RevocationSettings::default()
    };
    let problem = Life::with(nowhere).err().unwrap();
    assert!(problem.message.contains("cannot be kept"), "{problem}");
}

#[test]
fn a_write_that_fails_is_told_and_made_good_later() {
    let place = Place::new();
    let life = place.open();
    let obstacle = place.folder.path().join("revocations.jsonl.tmp");
    fs::create_dir(&obstacle).unwrap();
    life.revocations.note_unsaved();
    let applied = life.apply(event("1", subject("alice"), 100)).unwrap();
    assert_eq!(applied.saved, Saved::No);
    assert!(
        life.refuses(&holder(ISSUER, "alice")),
        "in force all the same"
    );
    assert!(life.revocations.figures().unsaved);
    let again = life.apply(event("1", subject("alice"), 100)).unwrap();
    assert_eq!((again.known_already, again.saved), (true, Saved::No));
    fs::remove_dir(&obstacle).unwrap();
    let again = life.apply(event("1", subject("alice"), 100)).unwrap();
    assert_eq!((again.known_already, again.saved), (true, Saved::Yes));
    assert!(!life.revocations.figures().unsaved);
    drop(life);
    assert!(place.open().refuses(&holder(ISSUER, "alice")));
}

#[test]
fn a_file_that_grew_is_written_anew_with_what_is_in_force() {
    let place = Place::new();
    let mut journal = Journal::open(&place.file()).unwrap();
    let kept = event("kept", subject("alice"), 100);
    journal.rewrite([&kept].into_iter()).unwrap();
    let lifted = |n: i32| lifting(&n.to_string(), second(200));
    let changes: Vec<Change> = (0..5000).map(lifted).collect();
    assert!(!journal.is_large(1));
    journal.append(&changes).unwrap();
    assert!(journal.is_large(1));
    assert_eq!(place.text().lines().count(), 5002);
    drop(journal);
    let life = place.open();
    assert_eq!(place.text().lines().count(), 2);
    assert!(life.refuses(&holder(ISSUER, "alice")));
}

#[test]
fn the_record_of_an_event_reads_back_as_it_was() {
    let life = Life::in_memory();
    for target in [
        subject("a\"b\\c"),
        Target::Key {
            issuer: None,
            key_id: "k".into(),
        },
    ] {
        let event = life.revocations.event(target, Source::Cli);
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}

#[test]
fn debug_texts_name_no_token_session_or_key() {
    let target = Target::TokenId {
        issuer: None,
        token_id: "canary".into(),
    };
    let event = event("1", target, 100);
    assert!(!format!("{event:?}").contains("canary"));
}

/// What happens to a table.
#[derive(Debug, Clone)]
enum Step {
    Apply {
        target: Target,
        before: i64,
        life: i64,
    },
    Lift(usize),
    Wait(i64),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["a", "b"]
}

pub(in crate::identity) fn any_target() -> impl Strategy<Value = Target> {
    let maybe = || proptest::option::of(name());
    prop_oneof![
        (maybe(), name()).prop_map(|(issuer, token_id)| Target::TokenId { issuer, token_id }),
        (name(), name()).prop_map(|(issuer, subject)| Target::Subject { issuer, subject }),
        (maybe(), name()).prop_map(|(issuer, client_id)| Target::Client { issuer, client_id }),
        (name(), name()).prop_map(|(issuer, session_id)| Target::Session { issuer, session_id }),
        name().prop_map(|issuer| Target::Issuer { issuer }),
        (maybe(), name()).prop_map(|(issuer, key_id)| Target::Key { issuer, key_id }),
    ]
}

pub(in crate::identity) fn any_holder() -> impl Strategy<Value = IdentityAttributes> {
    let maybe = || proptest::option::of(name());
    let names = (maybe(), maybe(), maybe(), maybe());
    let issued = proptest::option::of(90_i64..130);
    (name(), name(), names, issued).prop_map(|(issuer, subject, names, issued)| {
        let (client_id, session_id, token_id, key_id) = names;
        IdentityAttributes {
            client_id,
            session_id,
            token_id,
            key_id,
            issued_at: issued.map(second),
            ..holder(&issuer, &subject)
        }
    })
}

/// The same question as [`Event::covers`], asked plainly.
pub(in crate::identity) fn plainly_covers(event: &Event, who: &IdentityAttributes) -> bool {
    let own = &*who.issuer;
    let anyones = |issuer: &Option<String>| issuer.as_ref().is_none_or(|issuer| issuer == own);
    let named = match &event.target {
        Target::TokenId { issuer, token_id } => {
            anyones(issuer) && who.token_id.as_ref() == Some(token_id)
        }
        Target::Subject { issuer, subject } => issuer == own && who.subject == *subject,
        Target::Client { issuer, client_id } => {
            anyones(issuer) && who.client_id.as_ref() == Some(client_id)
        }
        Target::Session { issuer, session_id } => {
            issuer == own && who.session_id.as_ref() == Some(session_id)
        }
        Target::Issuer { issuer } => issuer == own,
        Target::Key { issuer, key_id } => anyones(issuer) && who.key_id.as_ref() == Some(key_id),
    };
    named
        && who
            .issued_at
            .is_none_or(|issued| issued < event.issued_before)
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any_target(), 90_i64..130, 1_i64..30)
            .prop_map(|(target, before, life)| Step::Apply { target, before, life }),
        1 => (0_usize..40).prop_map(Step::Lift),
        1 => (1_i64..10).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn the_table_answers_as_a_plain_list_does(
        steps in proptest::collection::vec(any_step(), 0..80),
        holders in proptest::collection::vec(any_holder(), 1..8),
    ) {
        let mut table = Table::new(1000);
        let mut list: Vec<Event> = Vec::new();
        let mut now = 100;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Apply { target, before, life } => {
                    let new = Event {
                        expires_at: second(now + life),
                        ..event(&number.to_string(), target, before)
                    };
                    table.insert(new.clone(), second(now)).unwrap();
                    list.push(new);
                }
                Step::Lift(number) => {
                    table.remove(&number.to_string());
                    list.retain(|event| event.id != number.to_string());
                }
                Step::Wait(seconds) => now += seconds,
            }
            list.retain(|event| event.expires_at > second(now));
            for holder in &holders {
                let plainly = list.iter().any(|event| plainly_covers(event, holder));
                let answer = table.refuses(holder, second(now)).is_some();
                prop_assert_eq!(answer, plainly, "{:?}", holder);
            }
        }
        table.sweep(second(now));
        prop_assert_eq!(table.len(), list.len());
    }
}

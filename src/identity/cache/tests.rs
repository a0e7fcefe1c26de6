use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;
use tokio::runtime::{Handle, Runtime};

use super::super::ground::Lease;
use super::super::revocation::tests::{any_holder, any_target, plainly_covers};
use super::super::revocation::{Access, Applied, Event, Source, Target};
use super::super::settings::Settings;
use super::super::testing::{arrival, clock, snapshot};
use super::*;
use crate::model::{Clock, IdentityAttributes, ManualClock, PrincipalKind, Reason};

/// A cache of proofs that are what tests say they are.
struct Room {
    cache: Cache<()>,
    revocations: Arc<Revocations>,
    clock: Arc<ManualClock>,
    ground: Arc<Ground>,
    snapshot: SnapshotId,
    runtime: Runtime,
}

impl Room {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let clock = clock();
        let dynamic: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let background: &Handle = runtime.handle();
        let started =
            Revocations::start(&Settings::default(), dynamic, background, Access::Own).unwrap();
        let lease = Lease::new(clock.monotonic());
        lease.renew(clock.monotonic() + Duration::from_secs(1000));
        Self {
            cache: Cache::new(&CacheSettings::default(), Arc::clone(&started)),
            ground: Ground::under(&lease),
            revocations: started,
            clock,
            snapshot: snapshot(),
            runtime,
        }
    }

    /// Presents the credential of that name: from memory where it is there, else it is judged to be this holder's.
    fn ask(&self, name: &str, holder: &IdentityAttributes) -> Result<(), Reason> {
        self.ask_in(&self.cache, name, holder)
    }

    fn ask_in(
        &self,
        cache: &Cache<()>,
        name: &str,
        holder: &IdentityAttributes,
    ) -> Result<(), Reason> {
        let arrival = arrival(&self.clock);
        let moment = Moment {
            digest: Digest(blake3::hash(name.as_bytes())),
            arrival: &arrival,
            snapshot: &self.snapshot,
        };
        let proof = || {
            let until = arrival.at + SignedDuration::from_secs(100);
            Ok(Proven::new(holder.clone(), until, Arc::clone(&self.ground)))
        };
        match cache.look_up(moment) {
            Memory::Known(_) => Ok(()),
            Memory::Outdated(old) => {
                cache.renew(moment, &old, ());
                Ok(())
            }
            Memory::Refused(refusal) => Err(refusal.reason),
            Memory::Nothing => cache
                .judge(moment, proof, |_| ())
                .map(|_| ())
                .map_err(|denial| denial.refusal().reason),
        }
    }

    fn apply(&self, event: Event) -> Applied {
        self.runtime
            .block_on(self.revocations.apply(event))
            .unwrap()
    }

    fn revoke(&self, target: Target) -> Applied {
        self.apply(self.revocations.event(target, Source::Admin))
    }

    fn judged(&self) -> u64 {
        self.cache.figures().judged
    }
}

fn revoked() -> Result<(), Reason> {
    Err(Reason::CredentialInvalid(
        crate::model::CredentialFault::Revoked,
    ))
}

fn alice() -> IdentityAttributes {
    let who = ("https://idp.example".into(), "alice".to_owned());
    let mut alice = IdentityAttributes::of(PrincipalKind::User, "bearer_jwt", who, Timestamp::MAX);
    alice.session_id = Some("s1".into());
    alice
}

fn session(id: &str) -> Target {
    Target::Session {
        issuer: "https://idp.example".into(),
        session_id: id.into(),
    }
}

#[test]
fn a_remembered_proof_ends_with_the_event_and_is_refused_without_being_judged() {
    let room = Room::new();
    assert_eq!(room.ask("a", &alice()), Ok(()));
    assert_eq!(room.revoke(session("other")).evicted, 0);
    assert_eq!(room.ask("a", &alice()), Ok(()));
    assert_eq!(room.judged(), 1);
    assert_eq!(room.revoke(session("s1")).evicted, 1);
    assert_eq!(room.ask("a", &alice()), revoked());
    let judged = room.judged();
    assert_eq!(room.ask("a", &alice()), revoked());
    assert_eq!(room.judged(), judged, "the refusal was remembered");
}

#[test]
fn a_credential_nobody_remembers_is_refused_too() {
    let room = Room::new();
    room.revoke(session("s1"));
    assert_eq!(room.ask("a", &alice()), revoked());
    assert_eq!(room.cache.figures().hits, 0);
}

#[test]
fn a_remembered_refusal_ends_with_its_event() {
    let room = Room::new();
    let applied = room.revoke(session("s1"));
    assert_eq!(room.ask("a", &alice()), revoked());
    let lifting = room.revocations.lift(&applied.id, Source::Admin);
    assert!(room.runtime.block_on(lifting).is_some());
    assert_eq!(room.ask("a", &alice()), Ok(()));
    let mut short = room.revocations.event(session("s1"), Source::Ssf);
    short.expires_at = room.clock.now() + SignedDuration::from_secs(1);
    assert_eq!(room.apply(short).evicted, 1);
    assert_eq!(room.ask("a", &alice()), revoked());
    room.clock.advance(Duration::from_secs(1));
    assert_eq!(room.ask("a", &alice()), Ok(()));
}

#[test]
fn a_proof_for_another_bundle_stays_in_the_index_once() {
    let mut room = Room::new();
    assert_eq!(room.ask("a", &alice()), Ok(()));
    room.snapshot = SnapshotId::new("0ther");
    assert_eq!(room.ask("a", &alice()), Ok(()));
    room.cache.settle();
    // Issuer, subject, session.
    assert_eq!(room.cache.index.len(), 3);
    assert_eq!(room.revoke(session("s1")).evicted, 1);
    room.cache.settle();
    assert_eq!(room.cache.index.len(), 0);
}

#[test]
fn the_index_forgets_what_the_cache_forgets() {
    let room = Room::new();
    let few = CacheSettings {
        capacity: 10,
        ..CacheSettings::default()
    };
    let cache = Cache::new(&few, Arc::clone(&room.revocations));
    for n in 0..1000 {
        assert_eq!(room.ask_in(&cache, &n.to_string(), &alice()), Ok(()));
    }
    cache.settle();
    assert!(cache.figures().entries <= 10);
    let entries = usize::try_from(cache.figures().entries).unwrap();
    assert_eq!(cache.index.len(), entries * 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_event_evicts_exactly_what_it_covers_and_the_guard_needs_no_index(
        holders in proptest::collection::vec(any_holder(), 1..40),
        events in proptest::collection::vec((any_target(), 90_i64..130), 1..6),
    ) {
        let room = Room::new();
        // Only the first cache is evicted from: this one has nothing but the generation.
        let guarded = Cache::new(&CacheSettings::default(), Arc::clone(&room.revocations));
        let mut told: Vec<Event> = Vec::new();
        for (target, before) in events {
            let refused = |told: &[Event], holder: &IdentityAttributes| {
                told.iter().any(|event| plainly_covers(event, holder))
            };
            for (number, holder) in holders.iter().enumerate() {
                let expected = if refused(&told, holder) { revoked() } else { Ok(()) };
                let name = number.to_string();
                prop_assert_eq!(room.ask(&name, holder), expected.clone());
                prop_assert_eq!(room.ask_in(&guarded, &name, holder), expected);
            }
            let event = Event {
                issued_before: Timestamp::from_second(before).unwrap(),
                expires_at: Event::FOR_GOOD,
                ..room.revocations.event(target, Source::Ssf)
            };
            let covered = holders
                .iter()
                .filter(|holder| !refused(&told, holder) && plainly_covers(&event, holder));
            let covered = u64::try_from(covered.count()).unwrap();
            let hits = room.cache.figures().hits;
            prop_assert_eq!(room.apply(event.clone()).evicted, covered);
            told.push(event);
            // Everybody else is still remembered.
            let others = holders.iter().enumerate();
            let others: Vec<_> = others.filter(|(_, holder)| !refused(&told, holder)).collect();
            for (number, holder) in &others {
                prop_assert_eq!(room.ask(&number.to_string(), holder), Ok(()));
            }
            let still = u64::try_from(others.len()).unwrap();
            prop_assert_eq!(room.cache.figures().hits - hits, still);
        }
    }
}

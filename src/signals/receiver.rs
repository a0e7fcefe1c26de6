//! One transmitter: what becomes of an event, however it came.
//!
//! ```text
//! event ▶ signature, issuer, audience ▶ shape ▶ seen before? ▶ type and settings ▶ subject ▶ revocation, saved ▶ taken
//! ```
//!
//! Two answers are for good: taken and refused. Where an event cannot be judged, applied or saved now, the transmitter is
//! told to send it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use super::events::{Effect, EventType, Signal, Since, Whom};
use super::figures::{Counts, Figures, Outcome};
use super::poll::Polls;
use super::replay::{Memory, Name, name, written};
use super::set::{Event, Set};
use super::settings::{Action, TransmitterSettings};
use super::subject::{Lost, Subjects};
use super::verify::Stream;
use crate::identity::{
    Applied, Event as Revocation, NoAnswer, NotApplied, Party, PartyAnswer, PartySettings,
    Question, RevocationKind, RevocationSource, Revocations, Saved, Target, Unbelieved,
};
use crate::model::{Clock, Problem, SecretRef};

/// How many events are verified at once.
const AT_ONCE: usize = 2;

/// How many events are remembered, and for how long at least.
const SEEN: (usize, Duration) = (20_000, Duration::from_secs(60 * 60));

/// How many accounts that were enabled are remembered, and for how long at least.
const ENABLED: (usize, Duration) = (20_000, Duration::from_secs(24 * 60 * 60));

/// A transmitter of events.
#[derive(Debug)]
pub(super) struct Transmitter {
    settings: TransmitterSettings,
    party: Party,
    subjects: Subjects,
    /// Hashes compare in constant time, whatever their length was.
    authorization: Option<blake3::Hash>,
    revocations: Arc<Revocations>,
    clock: Arc<dyn Clock>,
    /// A place for each event that is being verified.
    places: Semaphore,
    seen: Memory<()>,
    /// How many events were taken that had not been seen before.
    fresh: AtomicU64,
    enabled: Memory<Timestamp>,
    stream: Stream,
    polls: Polls,
    counts: Counts,
}

/// What the transmitter is told of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It need not be sent again.
    Done,
    /// It is refused for good.
    Refused(Refused),
    /// It should be sent again.
    Later,
}

/// Why an event is refused (RFC 8935, section 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) description: &'static str,
}

impl Taken {
    /// What is told of several: the worst.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Later, _) | (_, Self::Later) => Self::Later,
            (refused @ Self::Refused(_), _) | (_, refused) => refused,
        }
    }
}

/// How an event ended: what is counted, and why it is refused.
type Ended = (Outcome, Option<Refused>);

fn refused(outcome: Outcome, code: &'static str, description: &'static str) -> Ended {
    (outcome, Some(Refused { code, description }))
}

impl Transmitter {
    /// Starts to keep its keys. It blocks to read secrets and files, so call it at start.
    ///
    /// # Errors
    /// What cannot be read, or not be asked.
    pub(super) fn start(
        settings: &TransmitterSettings,
        (revocations, clock): (Arc<Revocations>, Arc<dyn Clock>),
        background: &Handle,
    ) -> Result<Self, Problem> {
        let named = |problem: Problem| Problem {
            message: format!("the transmitter `{}`: {}", settings.name, problem.message),
            ..problem
        };
        let push = settings.push.as_ref();
        let secret = push.and_then(|push| push.authorization.as_ref());
        let secret = secret.map(SecretRef::resolve).transpose();
        let secret = secret.map_err(|error| {
            let place = "signals.transmitters[..].push.authorization";
            named(Problem::new(format!("`{place}`: {error}")))
        })?;
        let keys = PartySettings {
            issuer: settings.issuer.clone(),
            keys: settings.keys.clone(),
            algorithms: settings.algorithms.clone(),
            ca_file: settings.ca_file.clone(),
        };
        let party = Party::start(&keys, Arc::clone(&clock), background).map_err(named)?;
        Ok(Self {
            subjects: Subjects::new(settings),
            authorization: secret.map(|secret| blake3::hash(secret.expose_secret().as_bytes())),
            settings: settings.clone(),
            party,
            revocations,
            clock,
            places: Semaphore::new(AT_ONCE),
            seen: Memory::new(SEEN.0, SEEN.1),
            fresh: AtomicU64::new(0),
            enabled: Memory::new(ENABLED.0, ENABLED.1),
            stream: Stream::new(),
            polls: Polls::default(),
            counts: Counts::default(),
        })
    }

    pub(super) fn settings(&self) -> &TransmitterSettings {
        &self.settings
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(super) fn party(&self) -> &Party {
        &self.party
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn polls(&self) -> &Polls {
        &self.polls
    }

    /// The time by both clocks.
    pub(super) fn now(&self) -> (Timestamp, Instant) {
        (self.clock.now(), self.clock.monotonic())
    }

    /// Whether whoever sends shows what the transmitter was told to show.
    pub(super) fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let Some(expected) = &self.authorization else {
            return true;
        };
        let admitted = authorization.is_some_and(|shown| blake3::hash(shown) == *expected);
        if !admitted {
            self.count(
                "unread",
                Outcome::RefusedAuthorization,
                "does not come from whom it should",
            );
        }
        admitted
    }

    /// Asks one of the transmitter's servers, with the token of the settings: time and length of the answer are bounded.
    ///
    /// # Errors
    /// [`NoAnswer`] where there is no answer to read.
    pub(super) async fn ask(
        &self,
        url: &Url,
        body: &Value,
        (timeout, longest): (Duration, usize),
    ) -> Result<PartyAnswer, NoAnswer> {
        let place = self.settings.token.clone();
        let read = move || place.as_ref().map(SecretRef::resolve).transpose();
        let token = tokio::task::spawn_blocking(read).await;
        let unread = |_| NoAnswer::Failed("the token cannot be read".to_owned());
        let token = token.map_err(unread)?;
        let token = token.map_err(|error| NoAnswer::Failed(error.to_string()))?;
        let question = Question {
            url,
            token: token.as_ref(),
            body,
            timeout,
            longest,
        };
        self.party.post(question).await
    }

    /// Takes an event, or not. `named`: under which `jti` it came, where it came under one. Whoever hands it in has bounded
    /// its length.
    pub(super) async fn take(&self, text: &[u8], named: Option<&str>) -> Taken {
        // Whoever was asked for events, or shows the authorization, is no stranger.
        let known = named.is_some() || self.authorization.is_some();
        let Some(place) = self.place(known).await else {
            return self.end("unread", (Outcome::Later, None));
        };
        let audiences = &self.settings.audiences;
        let believed = self.party.believe(text, "secevent+jwt", audiences).await;
        drop(place);
        let claims = match believed {
            Ok(claims) => claims,
            Err(why) => return self.end("unread", unbelieved(why)),
        };
        let (now, at) = self.now();
        let set = match Set::read(&claims, (now, self.settings.clock_skew.0)) {
            Ok(set) if named.is_none_or(|named| named == set.jti) => set,
            Ok(_) => return self.malformed("came under another `jti` than its own"),
            Err(why) => return self.malformed(why),
        };
        // What was told, and not the `jti` alone: a transmitter that uses one twice would silence itself.
        let told = std::str::from_utf8(text).unwrap_or_default();
        let told = name(&[told.trim_ascii().split('.').nth(1).unwrap_or_default()]);
        if self.seen.noted(&told).is_some() {
            for event in &set.events {
                self.end(event.kind.as_str(), (Outcome::Replayed, None));
            }
            return Taken::Done;
        }
        let mut taken = Taken::Done;
        for event in &set.events {
            let ended = self.settle(&set, event).await;
            taken = taken.and(self.end(event.kind.as_str(), ended));
        }
        if taken == Taken::Done {
            self.seen.note(told, (), at);
            self.fresh.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// A place to have an event verified in. Those who are known wait for one; where anybody may send, nobody does, or strangers
    /// could make a queue.
    async fn place(&self, known: bool) -> Option<SemaphorePermit<'_>> {
        if known {
            return self.places.acquire().await.ok();
        }
        self.places.try_acquire().ok()
    }

    /// How many events were taken that had not been seen before.
    pub(super) fn fresh(&self) -> u64 {
        self.fresh.load(Ordering::Relaxed)
    }

    /// How it stands.
    pub(super) fn figures(&self) -> Figures {
        let (_, now) = self.now();
        let ago = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let settings = &self.settings;
        Figures {
            transmitter: settings.name.clone(),
            events: self.counts.events(),
            verified: ago(self.stream.verified()),
            alive: settings.verification.as_ref().map(|_| self.stream.alive()),
            enabled: self.stream.enabled(),
            polls: settings.poll.as_ref().map(|_| {
                let (last, failures) = self.polls.figures();
                (ago(last), failures)
            }),
            keys_age: self.party.keys().age,
        }
    }

    async fn settle(&self, set: &Set<'_>, event: &Event<'_>) -> Ended {
        match event.kind {
            EventType::Other => (Outcome::Ignored, None),
            EventType::Verification => self.verified(set, event),
            EventType::StreamUpdated => self.updated(set, event),
            EventType::Signal(signal) => {
                let action = self.settings.on.get(&signal).copied();
                match action.unwrap_or_else(|| signal.usual()) {
                    Action::Ignore => (Outcome::Ignored, None),
                    Action::Apply => self.apply(signal, set, event).await,
                }
            }
        }
    }

    async fn apply(&self, signal: Signal, set: &Set<'_>, event: &Event<'_>) -> Ended {
        let effect = signal.effect(event.members);
        let whom = match effect {
            Effect::Nothing => return (Outcome::Ignored, None),
            Effect::Revoke(whom, _) => whom,
            Effect::Disable | Effect::Enable => Whom::User,
        };
        let nobody = Lost::Malformed("is about nobody");
        let targets = event.subject.ok_or(nobody);
        let targets = targets.and_then(|subject| self.subjects.targets(subject, whom));
        let targets = match targets {
            Ok(targets) => targets,
            Err(lost) => return of_lost(lost),
        };
        // The one that is told: trouble before success, and success before nothing.
        let mut ended = (Outcome::Past, None);
        for target in targets {
            let one = match effect {
                Effect::Enable => self.enable(&target, set).await,
                _ => self.revoke(signal, effect, (target, set, event)).await,
            };
            ended = worse(ended, one);
        }
        ended
    }

    async fn revoke(
        &self,
        signal: Signal,
        effect: Effect,
        (target, set, event): (Target, &Set<'_>, &Event<'_>),
    ) -> Ended {
        let (now, _) = self.now();
        let lasting = effect == Effect::Disable && comes_back(target.kind());
        let account = self.account(&target);
        let mut revocation = if lasting {
            let enabled = self.enabled.noted(&account);
            if enabled.is_some_and(|at| at > set.issued_at) {
                return (Outcome::Superseded, None);
            }
            self.disabling(target, set.issued_at)
        } else {
            self.revoking(target, effect, (set, event))
        };
        if revocation.expires_at <= now {
            return (Outcome::Past, None);
        }
        revocation.reason = Some(format!("{} by {}", signal.as_str(), self.name()));
        of_applied(self.revocations.apply(revocation).await)
    }

    /// A revocation of what was issued before. Its id and times depend on the event alone, so that the same event told twice
    /// counts once, a restart between the two included.
    fn revoking(
        &self,
        target: Target,
        effect: Effect,
        (set, event): (&Set<'_>, &Event<'_>),
    ) -> Revocation {
        let named = serde_json::to_string(&target).unwrap_or_default();
        let id = name(&[&self.settings.issuer, set.jti, &named]);
        let source = RevocationSource::Ssf;
        let mut revocation = self
            .revocations
            .event_told_at(target, source, set.issued_at);
        if comes_back(revocation.target.kind()) {
            let since = match effect {
                Effect::Revoke(_, Since::Happened) => event.happened_at,
                _ => set.issued_at,
            };
            // Times have whole seconds, and what was issued within the same one may have been issued before.
            revocation.issued_before = since.saturating_add(SECOND).unwrap_or(since);
        }
        Revocation {
            id: format!("ssf:{}", written(id)),
            at: self.now().0,
            ..revocation
        }
    }

    /// A revocation of all that somebody has and gets, until this transmitter lifts it.
    fn disabling(&self, target: Target, told_at: Timestamp) -> Revocation {
        let id = format!("{}{}", Revocation::LIFTABLE, written(self.account(&target)));
        let source = RevocationSource::Ssf;
        Revocation {
            id,
            issued_before: Revocation::FOR_GOOD,
            expires_at: Revocation::FOR_GOOD,
            at: told_at,
            ..self.revocations.event_told_at(target, source, told_at)
        }
    }

    async fn enable(&self, target: &Target, set: &Set<'_>) -> Ended {
        let account = self.account(target);
        let known = self.enabled.noted(&account);
        let latest = known.map_or(set.issued_at, |known| known.max(set.issued_at));
        self.enabled.note(account, latest, self.now().1);
        let id = format!("{}{}", Revocation::LIFTABLE, written(account));
        let source = RevocationSource::Ssf;
        let lifted = self
            .revocations
            .lift_told_before(&id, set.issued_at, source);
        match lifted.await {
            None => (Outcome::Ignored, None),
            Some(Saved::No) => (Outcome::Later, None),
            Some(Saved::Yes | Saved::MemoryOnly) => (Outcome::Applied, None),
        }
    }

    /// The name of an account that this issuer may disable and enable, and nobody else may enable.
    fn account(&self, target: &Target) -> Name {
        let named = serde_json::to_string(target).unwrap_or_default();
        name(&["account", &self.settings.issuer, &named])
    }

    fn verified(&self, set: &Set<'_>, event: &Event<'_>) -> Ended {
        let told = event.subject.and_then(|subject| subject.get("id"));
        let asked = self.settings.verification.as_ref();
        let ours = asked.map(|asked| asked.stream_id.as_str());
        if let (Some(told), Some(ours)) = (told, ours)
            && told.as_str() != Some(ours)
        {
            let why = "verifies another stream";
            return refused(Outcome::RefusedRequest, "invalid_request", why);
        }
        let word = match event.members.get("state") {
            None => None,
            Some(Value::String(word)) => Some(word.as_str()),
            Some(_) => {
                let why = "holds a `state` that is no text";
                return refused(Outcome::RefusedRequest, "invalid_request", why);
            }
        };
        if self.stream.arrived(word, set.issued_at, self.now()) {
            return (Outcome::Applied, None);
        }
        let why = "holds a `state` that was not asked for";
        refused(Outcome::RefusedState, "invalid_state", why)
    }

    fn updated(&self, set: &Set<'_>, event: &Event<'_>) -> Ended {
        let status = event.members.get("status").and_then(Value::as_str);
        let Some(status @ ("enabled" | "paused" | "disabled")) = status else {
            let why = "holds no status of a stream";
            return refused(Outcome::RefusedRequest, "invalid_request", why);
        };
        if self.stream.updated(status == "enabled", set.issued_at) {
            let transmitter = self.name();
            if status == "enabled" {
                tracing::info!(transmitter, "the transmitter sends security events again");
            } else {
                tracing::error!(
                    transmitter,
                    status,
                    "the transmitter stops sending security events"
                );
            }
        }
        (Outcome::Applied, None)
    }

    pub(super) fn malformed(&self, why: &'static str) -> Taken {
        self.end(
            "unread",
            refused(Outcome::RefusedRequest, "invalid_request", why),
        )
    }

    /// Counts and tells how an event ended.
    fn end(&self, kind: &'static str, (outcome, refused): Ended) -> Taken {
        let why = refused.map_or("", |refused| refused.description);
        self.count(kind, outcome, why);
        match refused {
            Some(refused) => Taken::Refused(refused),
            None if outcome == Outcome::Later => Taken::Later,
            None => Taken::Done,
        }
    }

    fn count(&self, kind: &'static str, outcome: Outcome, why: &'static str) {
        let (_, now) = self.now();
        if self.counts.note(kind, outcome, now) {
            let setting = outcome.setting();
            let outcome = outcome.as_str();
            tracing::warn!(
                transmitter = self.name(),
                event = kind,
                outcome,
                why,
                setting,
                "a security event changes nothing; more of that outcome are not told for 10 seconds"
            );
        }
    }
}

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// Whether something of that kind is trusted again once it is issued anew.
fn comes_back(kind: RevocationKind) -> bool {
    matches!(
        kind,
        RevocationKind::Subject | RevocationKind::Client | RevocationKind::Issuer
    )
}

fn worse(one: Ended, other: Ended) -> Ended {
    let rank = |ended: &Ended| match ended.0 {
        Outcome::Later => 4,
        _ if ended.1.is_some() => 3,
        Outcome::Applied => 2,
        Outcome::Past => 0,
        _ => 1,
    };
    if rank(&other) > rank(&one) {
        other
    } else {
        one
    }
}

fn unbelieved(why: Unbelieved) -> Ended {
    let (outcome, code) = match why {
        Unbelieved::Unreadable(_) | Unbelieved::Type => {
            (Outcome::RefusedRequest, "invalid_request")
        }
        Unbelieved::Key => (Outcome::RefusedKey, "invalid_key"),
        Unbelieved::KeysAway => return (Outcome::Later, None),
        Unbelieved::Signature => (Outcome::RefusedSignature, "authentication_failed"),
        Unbelieved::Issuer => (Outcome::RefusedIssuer, "invalid_issuer"),
        Unbelieved::Audience => (Outcome::RefusedAudience, "invalid_audience"),
    };
    refused(outcome, code, why.as_str())
}

fn of_applied(applied: Result<Applied, NotApplied>) -> Ended {
    match applied {
        // In force, but a restart would forget it: the transmitter has to keep what we could not write down.
        Ok(applied) if applied.saved == Saved::No => (Outcome::Later, None),
        Ok(applied) if applied.known_already => (Outcome::Replayed, None),
        Ok(_) => (Outcome::Applied, None),
        Err(NotApplied::Full(_) | NotApplied::Conflict) => (Outcome::Later, None),
        Err(NotApplied::Invalid(_)) => {
            let why = "names somebody as no credential can";
            refused(Outcome::RefusedRequest, "invalid_request", why)
        }
    }
}

fn of_lost(lost: Lost) -> Ended {
    match lost {
        // To refuse it would have the transmitter send it again, or stop, and help nobody.
        Lost::Unmapped => (Outcome::Unmapped, None),
        Lost::Foreign => {
            let why = "is about a subject of an issuer that this transmitter may not speak for";
            refused(Outcome::RefusedSubject, "access_denied", why)
        }
        Lost::Malformed(why) => refused(Outcome::RefusedRequest, "invalid_request", why),
    }
}

#[cfg(test)]
mod tests;

//! What was decided, and what is known about how.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    AccessRequest, Arrival, Caller, Challenge, Facts, Matched, Minted, Period, Refusal, Severity,
};

/// The id of one decision: in the record, the trace, Envoy's metadata and the denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId(Uuid);

impl DecisionId {
    /// A fresh id that sorts by time (UUID version 7, RFC 9562).
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The digest of everything a decision was made from: policies, schema, entities, API documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SnapshotId(Arc<str>);

impl SnapshotId {
    /// A digest in hex.
    #[must_use]
    pub fn new(digest: &str) -> Self {
        Self(digest.into())
    }

    /// The digest in hex.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The proof that the judge lets a request pass: a Cedar permit allowed it, no forbid applied and none failed; or its
/// operation is observed, and nothing stood against it that holds there too ([`Outcome::Observed`]). An allowing answer
/// cannot be built without one.
#[derive(Debug)]
pub struct Permit {
    _proof: (),
}

impl Permit {
    /// Claims that the request may pass. Called in one place: the judge.
    #[must_use]
    pub(crate) fn assertion() -> Self {
        Self { _proof: () }
    }
}

/// The one thing that matters.
#[derive(Debug)]
pub enum Outcome {
    /// The request may pass: policies permit it.
    Allowed(Permit),
    /// Policies do not permit it, and it passes all the same, only because its operation is observed. The refusal is what
    /// would have been. A variant of its own, so that whoever looks at an outcome has to say what it means to them.
    Observed(Permit, Refusal),
    /// It may not pass.
    Refused(Refusal),
}

impl Outcome {
    /// Whether the request may pass, whatever the reason.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Allowed(_) | Self::Observed(..) => true,
            Self::Refused(_) => false,
        }
    }

    /// Whether policies permit the request: it would pass without being observed, too.
    #[must_use]
    pub fn permitted(&self) -> bool {
        match self {
            Self::Allowed(_) => true,
            Self::Observed(..) | Self::Refused(_) => false,
        }
    }

    /// The refusal that stands, or would have stood.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Allowed(_) => None,
            Self::Observed(_, refusal) | Self::Refused(refusal) => Some(refusal),
        }
    }

    /// The refusal that would have stood, had the operation not been observed.
    #[must_use]
    pub fn would_be(&self) -> Option<&Refusal> {
        match self {
            Self::Allowed(_) | Self::Refused(_) => None,
            Self::Observed(_, refusal) => Some(refusal),
        }
    }

    /// The stable code of the reason: `permitted`, `observed`, or the refusal's.
    #[must_use]
    pub fn reason_code(&self) -> &'static str {
        match self {
            Self::Allowed(_) => "permitted",
            Self::Observed(..) => "observed",
            Self::Refused(refusal) => refusal.reason.code(),
        }
    }
}

/// What a policy does when it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It permits.
    Permit,
    /// It forbids, over any permit.
    Forbid,
}

impl Effect {
    /// The word policies begin with.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
        }
    }
}

/// A policy that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFault {
    /// Its id.
    pub policy: Arc<str>,
    /// What it would have done. A forbid in error denies; a permit in error is skipped.
    pub effect: Effect,
    /// Cedar's words.
    pub message: String,
}

/// What the determining policies ask to be noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The highest of their severities (`@severity`).
    pub severity: Option<Severity>,
    /// What has to happen now (`@obligation`), for whoever reads Envoy's metadata, the record or the log.
    pub obligations: Vec<Arc<str>>,
    /// The controls of a catalogue that they carry out (`@control`), each once.
    pub controls: Vec<Arc<str>>,
    /// How long the caller is to be set apart, where a policy says so (`@on_deny("quarantine:15m")`); of several the
    /// longest. It counts from this denial: nobody here remembers an earlier one.
    pub set_apart: Option<Period>,
    /// What the caller may be told about a denial (`@reason`).
    pub said: Option<Arc<str>>,
}

/// Whether a judgement was remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecisionCache {
    /// The same was judged before, from the same facts.
    Hit,
    /// It was not, and is remembered now, unless a policy failed.
    Miss,
    /// It was not looked for: policies read the clock, what they read is too long to remember, or nothing is remembered.
    Bypass,
}

impl DecisionCache {
    /// Of two judgements that make one: what can be said of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Bypass, _) | (_, Self::Bypass) => Self::Bypass,
            (Self::Miss, _) | (_, Self::Miss) => Self::Miss,
            (Self::Hit, Self::Hit) => Self::Hit,
        }
    }

    /// The label in logs, metrics and spans.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

impl Notes {
    /// What both ask for.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let add = |own: &mut Vec<Arc<str>>, more: Vec<Arc<str>>| {
            for text in more {
                if !own.contains(&text) {
                    own.push(text);
                }
            }
        };
        self.severity = self.severity.max(other.severity);
        add(&mut self.obligations, other.obligations);
        add(&mut self.controls, other.controls);
        self.set_apart = self.set_apart.max(other.set_apart);
        self.said = self.said.or(other.said);
        self
    }
}

/// Slow work done on the way: it becomes a child span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdStep {
    /// What was done (`verify token`, `fetch keys`).
    pub name: &'static str,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
}

/// What is known of a request at any point of its road. It grows from step to step, so that even a request that fails
/// halfway is recorded with all that was known by then.
#[derive(Debug)]
pub struct Trail {
    /// The decision's id.
    pub id: DecisionId,
    /// The circumstances of the check.
    pub arrival: Arrival,
    /// The snapshot that judged it.
    pub snapshot: Option<SnapshotId>,
    /// The request, if it has one reading.
    pub request: Option<AccessRequest>,
    /// The operation it is.
    pub matched: Option<Matched>,
    /// Who asks.
    pub caller: Option<Caller>,
    /// Who else was proven by credentials of the same request.
    pub beside: Vec<Caller>,
    /// How callers of this operation may prove who they are.
    pub challenges: Arc<[Challenge]>,
    /// The nonce that the sender's next proof of possession should hold (RFC 9449, section 8), where it has to be told.
    pub proof_nonce: Option<String>,
    /// In which circumstances.
    pub facts: Option<Facts>,
    /// Whether a verified token was found in the cache; `None` where no token was looked up.
    pub cache_hit: Option<bool>,
    /// Whether the judgement was remembered; `None` where it did not come to one.
    pub decision_cache: Option<DecisionCache>,
    /// The policies that determined the verdict: the permits that applied, or the forbids.
    pub determining: Vec<Arc<str>>,
    /// Policies that could not be evaluated.
    pub faults: Vec<PolicyFault>,
    /// What the determining policies ask to be noted.
    pub notes: Notes,
    /// What the upstream is told of the caller, signed, where that is asked for.
    pub minted: Option<Minted>,
    /// Slow work done on the way.
    pub cold: Vec<ColdStep>,
}

impl Trail {
    /// The beginning of the road.
    #[must_use]
    pub fn begin(arrival: Arrival) -> Self {
        Self::begin_as(DecisionId::fresh(), arrival)
    }

    fn begin_as(id: DecisionId, arrival: Arrival) -> Self {
        Self {
            id,
            arrival,
            snapshot: None,
            request: None,
            matched: None,
            caller: None,
            beside: Vec::new(),
            challenges: Arc::default(),
            proof_nonce: None,
            facts: None,
            cache_hit: None,
            decision_cache: None,
            determining: Vec::new(),
            faults: Vec::new(),
            notes: Notes::default(),
            minted: None,
            cold: Vec::new(),
        }
    }

    /// Takes what is known, and leaves a trail that has only just begun under the same id.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let fresh = Self::begin_as(self.id, self.arrival.clone());
        std::mem::replace(self, fresh)
    }
}

/// What was decided, and what is known about how.
#[derive(Debug)]
pub struct Decision {
    /// The verdict.
    pub outcome: Outcome,
    /// What was known when it fell.
    pub trail: Trail,
    /// From arrival to verdict.
    pub took: Duration,
}

impl Decision {
    /// Whether the request may pass, be it only because its operation is observed.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.outcome.passes()
    }

    /// `allow` or `deny`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        if self.allowed() { "allow" } else { "deny" }
    }

    /// The stable code of the reason: `permitted`, `observed`, or the refusal's.
    #[must_use]
    pub fn reason_code(&self) -> &'static str {
        self.outcome.reason_code()
    }

    /// The refusal that would have stood, had the operation not been observed.
    #[must_use]
    pub fn would_be(&self) -> Option<&Refusal> {
        self.outcome.would_be()
    }

    /// The operation's id, or `unread` where the request was refused before one was found.
    #[must_use]
    pub fn operation(&self) -> &str {
        self.trail
            .matched
            .as_ref()
            .map_or("unread", |matched| &matched.operation.id)
    }
}

//! What was decided, and what is known about how.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{AccessRequest, Arrival, Caller, Facts, Matched, Refusal, Severity};

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

/// The proof that a Cedar permit allowed the request, that no forbid applied, and that none failed. An allowing answer
/// cannot be built without one.
#[derive(Debug)]
pub struct Permit {
    _proof: (),
}

impl Permit {
    /// Claims that policies permit the request. Called in one place: the judge.
    #[must_use]
    pub(crate) fn assertion() -> Self {
        Self { _proof: () }
    }
}

/// The one thing that matters.
#[derive(Debug)]
pub enum Outcome {
    /// The request may pass.
    Allowed(Permit),
    /// It may not.
    Refused(Refusal),
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
    /// Slow work done on the way.
    pub cold: Vec<ColdStep>,
}

impl Trail {
    /// The beginning of the road.
    #[must_use]
    pub fn begin(arrival: Arrival) -> Self {
        Self {
            id: DecisionId::fresh(),
            arrival,
            snapshot: None,
            request: None,
            matched: None,
            caller: None,
            facts: None,
            cache_hit: None,
            decision_cache: None,
            determining: Vec::new(),
            faults: Vec::new(),
            notes: Notes::default(),
            cold: Vec::new(),
        }
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
    /// Whether the request may pass.
    #[must_use]
    pub fn allowed(&self) -> bool {
        matches!(self.outcome, Outcome::Allowed(_))
    }

    /// `allow` or `deny`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        if self.allowed() { "allow" } else { "deny" }
    }

    /// The stable code of the reason: `permitted`, or the refusal's.
    #[must_use]
    pub fn reason_code(&self) -> &'static str {
        match &self.outcome {
            Outcome::Allowed(_) => "permitted",
            Outcome::Refused(refusal) => refusal.reason.code(),
        }
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

//! A decision as it is written down: one JSON object a line, enough to explain it and to judge its request again under
//! another bundle, without the token and without the body.
//!
//! | file | holds |
//! |---|---|
//! | `request` | what was asked, and the request it becomes again |
//! | `caller` | who asked, by what the credential said |
//! | `mask` | which texts look like credentials |
//! | `reader` | records from a stream, with line numbers |
//!
//! No header, no body and no value of a query is ever in a record: no policy reads them. A path parameter or claim whose
//! name or value looks like a credential is masked; so is a name in the query that has the form of one. What remains says who did what from where: personal data, to be kept
//! as such.

mod caller;
mod mask;
mod reader;
mod request;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::envoy::response;
use crate::model::{Arrival, Caller, Clock, Decision, Facts, Outcome, Problem, Reason, json};
use crate::pipeline::Supposed;

pub use caller::{RecordedAttributes, RecordedBehalf, RecordedCaller};
pub use mask::{MASKED, Mask};
pub use reader::{MAX_RECORDS, Records};
pub use request::RecordedRequest;

/// The version of the form that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// A decision, written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// The decision's id, a UUID.
    pub id: String,
    /// When the request arrived, by the wall clock.
    pub time: Timestamp,
    /// Whether the request was allowed.
    pub verdict: Verdict,
    /// The HTTP status of the answer; 200 where the request passed.
    pub status: u16,
    /// The reason's code.
    pub reason: String,
    /// The reason of the refusal that would have been, where the operation is observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_be: Option<String>,
    /// A sentence for operators, where it was refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The determining policies.
    pub policies: Vec<String>,
    /// Policies that could not be evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<RecordedFault>,
    /// The login that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<RecordedLogin>,
    /// How much the determining policies say that it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// What they ask to be done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<String>,
    /// The controls that they carry out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<String>,
    /// The operation's id, or `unread`.
    pub operation: String,
    /// The digest of the bundle that decided; absent where none was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// What was asked; absent where that has no single reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RecordedRequest>,
    /// Who asked; absent where the request was refused before that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<RecordedCaller>,
    /// The workload whose certificate was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<RecordedCaller>,
    /// In which circumstances; absent where the request was refused before they were gathered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
}

/// Whether a request was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was.
    Allow,
    /// It was not.
    Deny,
}

/// A policy that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedFault {
    /// Its id.
    pub policy: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// Cedar's words.
    pub message: String,
}

/// A login that would be enough (RFC 9470).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedLogin {
    /// Authentication context classes, any of which will do.
    #[serde(default)]
    pub acr_values: Vec<String>,
    /// How old it may be, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
}

impl Record {
    /// A decision, written down.
    #[must_use]
    pub fn of(decision: &Decision) -> Self {
        let trail = &decision.trail;
        let mask = Mask::of(trail);
        let refusal = decision.outcome.refusal();
        let step_up = match &decision.outcome {
            Outcome::Refused(refusal) => login(&refusal.reason),
            Outcome::Allowed(_) | Outcome::Observed(..) => None,
        };
        let texts = |texts: &[std::sync::Arc<str>]| texts.iter().map(ToString::to_string).collect();
        Self {
            version: VERSION,
            id: trail.id.to_string(),
            time: trail.arrival.at,
            verdict: if decision.allowed() {
                Verdict::Allow
            } else {
                Verdict::Deny
            },
            status: response::http_status(decision),
            reason: decision.reason_code().to_owned(),
            would_be: decision.would_be().map(|r| r.reason.code().to_owned()),
            detail: refusal.map_or_else(String::new, |refusal| refusal.detail.to_string()),
            policies: texts(&trail.determining),
            errors: trail
                .faults
                .iter()
                .map(|fault| RecordedFault {
                    policy: fault.policy.to_string(),
                    effect: fault.effect.as_str().to_owned(),
                    message: mask.text(&fault.message).into_owned(),
                })
                .collect(),
            step_up,
            severity: trail.notes.severity.map(|s| s.as_str().to_owned()),
            obligations: texts(&trail.notes.obligations),
            controls: texts(&trail.notes.controls),
            operation: decision.operation().to_owned(),
            snapshot: trail.snapshot.as_ref().map(|id| id.as_str().to_owned()),
            request: trail
                .request
                .as_ref()
                .map(|request| RecordedRequest::of(request, trail.arrival.grpc, &mask)),
            caller: trail.caller.as_ref().map(RecordedCaller::of),
            peer: trail
                .facts
                .as_ref()
                .and_then(|facts| facts.tls.peer.as_ref())
                .map(RecordedCaller::of),
            facts: trail.facts.clone(),
        }
    }

    /// Whether both give the same answer: verdict, status, reason (given or kept back), and the login that is asked for.
    #[must_use]
    pub fn answers_as(&self, other: &Self) -> bool {
        let answer = |record: &Self| (record.verdict, record.status, record.step_up.clone());
        answer(self) == answer(other)
            && (&self.reason, &self.would_be) == (&other.reason, &other.would_be)
    }

    /// The record as a line, with its end.
    ///
    /// # Errors
    /// Never in practice: everything in a record can be written as JSON.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads a record from one line.
    ///
    /// # Errors
    /// Text that is no JSON object, holds a member twice, misses one or knows one too many, is of another version, or
    /// names no decision. It says where; a record holds no secrets that its words could quote.
    pub fn read(text: &[u8]) -> Result<Self, Problem> {
        let members = json::parse_object(text).map_err(|error| {
            let (line, column) = error.place();
            Problem::new(error.what()).at(line, column)
        })?;
        let version = members.get("version").ok_or_else(|| {
            Problem::new("the line is no recorded decision: it has no `version`")
                .hint("`cardea decide --record FILE` writes them")
        })?;
        if version.as_u64() != Some(VERSION.into()) {
            return Err(Problem::new(format!(
                "the record is of another version than {VERSION}, which is the one read here"
            )));
        }
        let record: Self = super::typed(text)?;
        match Uuid::try_parse(&record.id) {
            Ok(_) => Ok(record),
            Err(_) => Err(Problem::new("the record's `id` is no UUID")),
        }
    }

    /// The request as it can be judged again: with the same caller, in the same circumstances, at the same time.
    ///
    /// # Errors
    /// What the record does not hold, or holds in a spelling that is none.
    pub fn supposed(&self, clock: &dyn Clock) -> Result<Supposed, String> {
        let absent = |what: &str| format!("the record does not say {what}");
        let request = self
            .request
            .as_ref()
            .ok_or_else(|| absent("what was asked"))?;
        let caller = self.caller.as_ref().ok_or_else(|| absent("who asked"))?;
        let facts = self.facts.clone();
        let mut facts = facts.ok_or_else(|| absent("in which circumstances"))?;
        if let Some(peer) = &self.peer {
            facts.tls.peer = peer.attributes()?.map(Caller::Supposed);
        }
        Ok(Supposed {
            arrival: Arrival {
                at: self.time,
                started: clock.monotonic(),
                deadline: None,
                trace_parent: None,
                grpc: request.grpc,
            },
            request: Ok(request.request()?),
            caller: caller.attributes()?,
            facts,
        })
    }
}

/// Opens a file that records are appended to. Made anew, only its owner may read it: it says who did what.
///
/// # Errors
/// Where it cannot be opened.
pub fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// The login that a reason asks for.
#[must_use]
pub fn login(reason: &Reason) -> Option<RecordedLogin> {
    match reason {
        Reason::StepUpRequired(step_up) => Some(RecordedLogin {
            acr_values: step_up.acr_values.clone(),
            max_age: step_up.max_age,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

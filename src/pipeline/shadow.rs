//! What would have been decided otherwise: by policies in shadow mode, and by a whole candidate bundle.
//!
//! Both are asked after the answer, on the background runtime, through a bounded queue that drops and counts. So neither
//! can decide, delay or break a request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Snapshot, Snapshots};
use crate::model::{Decision, Headers, Query, shown};
use crate::policy::Judgement;

/// The most decisions that wait to be looked at again.
const QUEUE: usize = 1024;
/// The most operations that are counted apart; the rest are counted together.
const MOST_OPERATIONS: usize = 1000;
/// The examples kept for each line of the report, newest last.
const EXAMPLES: usize = 5;

/// Looks at decisions again once they are answered.
#[derive(Debug)]
pub struct Shadow {
    queue: Sender<Seen>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    candidate: Option<Arc<Snapshots>>,
    lines: Mutex<BTreeMap<Key, Line>>,
    disagreements: AtomicU64,
    dropped: AtomicU64,
}

/// A decision, and the snapshot it was made from.
#[derive(Debug)]
struct Seen {
    snapshot: Option<Arc<Snapshot>>,
    decision: Box<Decision>,
}

/// Who disagrees about what, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Key {
    by: By,
    operation: Arc<str>,
    change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum By {
    ShadowPolicies,
    Candidate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    NewlyAllowed,
    NewlyDenied,
    OtherReason,
}

#[derive(Debug, Default, Serialize)]
struct Line {
    count: u64,
    examples: VecDeque<Disagreement>,
}

/// One decision that would have been another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// The decision's id.
    pub decision: String,
    /// Method and path.
    pub request: String,
    /// The reason that was given.
    pub was: &'static str,
    /// The reason that would have been.
    pub would_be: &'static str,
    /// The policies that would have determined it.
    pub policies: Vec<Arc<str>>,
}

impl Shadow {
    /// Starts to look, on the background runtime, until this is dropped.
    #[must_use]
    pub fn start(candidate: Option<Arc<Snapshots>>, background: &Handle) -> Self {
        let (queue, seen) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            candidate,
            lines: Mutex::default(),
            disagreements: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        background.spawn(Arc::clone(&shared).look(seen));
        Self { queue, shared }
    }

    /// Takes a decision that was answered. Never waits; where nobody is in the shadows it does nothing at all.
    pub fn consider(&self, mut decision: Decision, current: Option<Arc<Snapshot>>) {
        let made_from = decision.trail.snapshot.as_ref();
        // After a reload the shadow policies of the snapshot that decided are gone, and with them the question.
        let snapshot = current
            .filter(|snapshot| snapshot.policies.has_shadow() && Some(&snapshot.id) == made_from);
        if snapshot.is_none() && self.shared.candidate.is_none() {
            return;
        }
        lighten(&mut decision);
        let seen = Seen {
            snapshot,
            decision: Box::new(decision),
        };
        if self.queue.try_send(seen).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many decisions would have been others, since start.
    #[must_use]
    pub fn disagreements(&self) -> u64 {
        self.shared.disagreements.load(Ordering::Relaxed)
    }

    /// How many decisions were not looked at, since start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Everything that would have been decided otherwise, by operation, with examples.
    #[must_use]
    pub fn report(&self) -> Value {
        let lines = self
            .shared
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<Value> = lines
            .iter()
            .map(|(key, line)| {
                json!({
                    "by": key.by, "operation": key.operation, "change": key.change,
                    "count": line.count, "examples": line.examples,
                })
            })
            .collect();
        let refused = self.shared.candidate.as_ref().map(|candidate| {
            candidate
                .refused()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        });
        json!({ "disagreements": lines, "dropped": self.dropped(), "candidate_problems": refused })
    }
}

/// Drops what no policy can read and a caller can make large: with bodies, a full queue would hold a gigabyte of them, and
/// credentials would outlive their request.
fn lighten(decision: &mut Decision) {
    decision.trail.minted = None;
    if let Some(request) = &mut decision.trail.request {
        request.body.bytes = Vec::new();
        request.headers = Headers::default();
        request.query = Query::default();
        request.peer.certificate = None;
        request.metadata.clear();
        request.route_metadata.clear();
    }
}

impl Shared {
    async fn look(self: Arc<Self>, mut queue: Receiver<Seen>) {
        while let Some(Seen { snapshot, decision }) = queue.recv().await {
            let candidate = self
                .candidate
                .as_ref()
                .and_then(|candidate| candidate.current());
            for (by, snapshot) in [(By::ShadowPolicies, snapshot), (By::Candidate, candidate)] {
                if let Some(snapshot) = snapshot {
                    self.compare(by, &snapshot, &decision);
                }
            }
            // One decision costs tens of microseconds: others on this runtime get their turn in between.
            tokio::task::yield_now().await;
        }
    }

    fn compare(&self, by: By, snapshot: &Snapshot, decision: &Decision) {
        let Some((operation, judgement)) = snapshot.reconsider(decision) else {
            return;
        };
        let would_be = judgement.verdict.reason_code();
        let Some(change) = change(decision, &judgement, would_be) else {
            return;
        };
        self.disagreements.fetch_add(1, Ordering::Relaxed);
        let request = decision.trail.request.as_ref();
        let request =
            request.map(|r| format!("{} {}", r.method.as_str(), shown(r.path.as_str(), 256)));
        self.note(
            Key {
                by,
                operation,
                change,
            },
            Disagreement {
                decision: decision.trail.id.to_string(),
                request: request.unwrap_or_default(),
                was: decision.reason_code(),
                would_be,
                policies: judgement.determining,
            },
        );
    }

    fn note(&self, mut key: Key, example: Disagreement) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= MOST_OPERATIONS && !lines.contains_key(&key) {
            key.operation = "other".into();
        }
        let line = lines.entry(key).or_default();
        line.count += 1;
        if line.examples.len() == EXAMPLES {
            line.examples.pop_front();
        }
        line.examples.push_back(example);
    }
}

/// How a judgement differs from a decision that policies made. (One refused before them has no facts to judge by.)
fn change(decision: &Decision, judgement: &Judgement, would_be: &'static str) -> Option<Change> {
    if decision.reason_code() == would_be {
        return None;
    }
    Some(match (decision.allowed(), judgement.verdict.passes()) {
        (false, true) => Change::NewlyAllowed,
        (true, false) => Change::NewlyDenied,
        _ => Change::OtherReason,
    })
}

#[cfg(test)]
mod tests;

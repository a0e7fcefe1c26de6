//! What came of the questions: what is refuted, what stays open, what was seen to apply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cedar_policy::Effect;

use super::report::{Claim, Refuted, Report, Sort, Topic, Unsettled, Verdict, Witness};
use super::stage::{Prepared, SortOfRequest, Stage};

/// What all inquiries found so far.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Findings>);

#[derive(Debug, Default)]
struct Findings {
    answered: usize,
    refuted: BTreeMap<Topic, Refuted>,
    unsettled: BTreeSet<Unsettled>,
    /// Policies and invariants that some request matches.
    matched: BTreeSet<Topic>,
    /// Forbids that some request meets which a permit allows.
    met: BTreeSet<Topic>,
}

pub(super) const OUT_OF_TIME: &str = "the time of the run was up (`--timeout`)";
pub(super) const UNCONFIRMED: &str =
    "the solver found a request that speaks against it, and Cedar's authorizer does not confirm it";
pub(super) const ERRING_EXAMPLE: &str =
    "requests get through for which no forbid errs; the one shown also makes a forbid err";

impl Ledger {
    pub(super) fn new(stage: &Stage<'_>) -> Self {
        let ledger = Self::default();
        ledger
            .findings()
            .unsettled
            .extend(stage.incomparable.clone());
        ledger
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        // What was found stays true, whoever panicked meanwhile.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn answered(&self) {
        self.findings().answered += 1;
    }

    /// Notes that some request matches a policy or an invariant.
    pub(super) fn matched(&self, topic: &Topic) {
        self.findings().matched.insert(topic.clone());
    }

    pub(super) fn is_matched(&self, topic: &Topic) -> bool {
        self.findings().matched.contains(topic)
    }

    /// Notes that a forbid takes something away from a permit.
    pub(super) fn met(&self, topic: &Topic) {
        self.findings().met.insert(topic.clone());
    }

    pub(super) fn is_met(&self, topic: &Topic) -> bool {
        self.findings().met.contains(topic)
    }

    /// Notes that nothing more can be asked.
    pub(super) fn broken(&self, reason: String) {
        self.findings().unsettled.insert(Unsettled {
            topic: about(Claim::NeverErrors),
            reason,
        });
    }

    /// Notes that a claim stays open for a sort of request.
    pub(super) fn open(&self, topic: &Topic, sort: &SortOfRequest<'_>, reason: &str) {
        let sort = name(sort);
        let reason = if reason == OUT_OF_TIME {
            reason.to_owned()
        } else {
            format!("{sort}: {reason}")
        };
        self.findings().unsettled.insert(Unsettled {
            topic: topic.clone(),
            reason,
        });
    }

    /// Notes that a claim does not hold for a sort of request.
    pub(super) fn refute(
        &self,
        topic: &Topic,
        sort: &SortOfRequest<'_>,
        witness: Option<Witness>,
        remark: Option<String>,
    ) {
        let mut findings = self.findings();
        let refuted = findings.refuted.entry(topic.clone());
        let refuted = refuted.or_insert_with(|| Refuted {
            topic: topic.clone(),
            sorts: BTreeSet::new(),
            counterexample: None,
            remark: None,
        });
        refuted.sorts.insert(name(sort));
        if refuted.counterexample.is_none() {
            refuted.counterexample = witness;
        }
        if refuted.remark.is_none() {
            refuted.remark = remark;
        }
    }

    /// Adds what else there is to say of a claim that does not hold.
    pub(super) fn remark(&self, topic: &Topic, remark: &str) {
        if let Some(refuted) = self.findings().refuted.get_mut(topic) {
            refuted.remark.get_or_insert_with(|| remark.to_owned());
        }
    }

    pub(super) fn report(self, stage: &Stage<'_>) -> Report {
        let findings = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let verdict = if !findings.refuted.is_empty() {
            Verdict::Refuted
        } else if !findings.unsettled.is_empty() {
            Verdict::Unsettled
        } else {
            Verdict::Proven
        };
        let notes = if findings.unsettled.is_empty() {
            notes(stage, &findings)
        } else {
            Vec::new()
        };
        Report {
            verdict,
            policies: stage.policies.len(),
            invariants: stage.invariants.len(),
            sorts: stage.sorts.len(),
            answered: findings.answered,
            refuted: findings.refuted.into_values().collect(),
            unsettled: findings.unsettled.into_iter().collect(),
            notes,
        }
    }
}

/// What breaks no claim and deserves a look, where every question was answered.
fn notes(stage: &Stage<'_>, findings: &Findings) -> Vec<String> {
    let never = |one: &&Prepared<'_>| !findings.matched.contains(&one.topic);
    let mut notes = Vec::new();
    for one in stage.policies.iter().filter(never) {
        notes.push(format!("the policy `{}` applies to no request", one.id));
    }
    for one in stage.invariants.iter().filter(never) {
        notes.push(format!(
            "the invariant `{}` matches no request, so it holds of nothing",
            one.id
        ));
    }
    let idle: Vec<&str> = stage
        .policies
        .iter()
        .filter(|one| one.is_live() && one.policy.effect() == Effect::Forbid)
        .filter(|one| findings.matched.contains(&one.topic) && !findings.met.contains(&one.topic))
        .map(|one| one.id.as_str())
        .collect();
    if !idle.is_empty() {
        let idle = idle.join("`, `");
        notes.push(format!(
            "no permit reaches what these forbid today: `{idle}`"
        ));
    }
    notes
}

fn name(sort: &SortOfRequest<'_>) -> Sort {
    Sort {
        operation: sort.operation.id.to_string(),
        principal: sort.principal.name().to_owned(),
    }
}

/// A claim about the bundle as a whole.
pub(super) fn about(claim: Claim) -> Topic {
    Topic {
        claim,
        id: None,
        place: None,
    }
}

//! What is told of a decision, and the same as JSON. Nothing that looks like a credential is in it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::mint::Preview;
use crate::model::{Caller, Decision, Severity};
use crate::pipeline::{Snapshot, Why};
use crate::policy::{Clause, Explanation, PolicyView};
use crate::rehearsal::Answer;
use crate::rehearsal::record::{Mask, Record, RecordedCaller, RecordedRequest, Verdict};

/// What is told.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// When the request takes place, or took place.
    pub(super) time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<RecordedRequest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caller: Option<RecordedCaller>,
    /// `anonymous`, `verified`, `supposed` or `recorded`; absent where it was never known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caller_is: Option<&'static str>,
    /// What this bundle decides.
    pub(super) decided: Answer,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) severity: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) obligations: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) controls: Vec<Arc<str>>,
    /// What the caller is told about a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) said: Option<Arc<str>>,
    /// Why; absent where the request was refused before policies were asked.
    pub(super) why: Option<Explanation>,
    /// What would be decided otherwise if the policies in shadow mode counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shadow: Option<Shadow>,
    /// What was decided then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recorded: Option<Then>,
}

/// A recorded decision that no policy was asked about: there is nothing to judge again.
#[derive(Debug, Serialize)]
pub(super) struct Unjudged<'r> {
    pub(super) recorded: &'r Record,
    pub(super) why: Option<Explanation>,
    pub(super) because: String,
}

/// What the policies in shadow mode would change.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Shadow {
    pub(super) verdict: &'static str,
    pub(super) reason: &'static str,
    pub(super) policies: Vec<Arc<str>>,
}

/// The decision as it was recorded.
#[derive(Debug, Serialize)]
pub(super) struct Then {
    pub(super) id: String,
    pub(super) verdict: Verdict,
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) policies: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<String>,
    /// Whether the answer is still the same.
    pub(super) same: bool,
}

impl Told {
    /// What is told of a decision that this snapshot made; of a recorded one what it was then, too.
    pub(super) fn of(mut decision: Decision, record: Option<&Record>, snapshot: &Snapshot) -> Self {
        let mask = Mask::of(&decision.trail);
        for fault in &mut decision.trail.faults {
            fault.message = mask.text(&fault.message).into_owned();
        }
        let why = snapshot.why(&decision);
        let now = Record::of(&decision);
        let shadow = why.as_ref().and_then(|why| shadow(why, &decision));
        let trail = &decision.trail;
        let matched = trail.matched.as_ref();
        Self {
            time: trail.arrival.at,
            route: matched.map(|matched| Arc::clone(&matched.operation.route.id)),
            caller_is: trail.caller.as_ref().map(|caller| match caller {
                Caller::Anonymous => "anonymous",
                Caller::Verified(_) => "verified",
                Caller::Supposed(_) if record.is_some() => "recorded",
                Caller::Supposed(_) => "supposed",
            }),
            decided: Answer::of(&decision),
            severity: trail.notes.severity.map(Severity::as_str),
            obligations: trail.notes.obligations.clone(),
            controls: trail.notes.controls.clone(),
            said: trail.notes.said.clone(),
            why: why.map(|why| {
                let mut explanation = why.explanation;
                let given = match &trail.caller {
                    Some(Caller::Supposed(_) | Caller::Anonymous) if record.is_some() => {
                        Some("the recorded decision")
                    }
                    Some(Caller::Supposed(_)) => Some("the request as it is written"),
                    _ => None,
                };
                each_clause(&mut explanation, &mut |clause| mend(clause, &mask, given));
                explanation
            }),
            shadow,
            recorded: record.map(|then| Then {
                id: then.id.clone(),
                verdict: then.verdict,
                status: then.status,
                reason: then.reason.clone(),
                policies: then.policies.clone(),
                snapshot: then.snapshot.clone(),
                same: now.answers_as(then),
            }),
            request: now.request,
            caller: now.caller,
        }
    }
}

impl Told {
    /// The same, with the token that the upstream would get.
    pub(super) fn with_token(self, token: Option<Preview>) -> Self {
        Self {
            decided: self.decided.with_token(token),
            ..self
        }
    }
}

fn shadow(why: &Why, decision: &Decision) -> Option<Shadow> {
    let judgement = why.shadow.as_ref()?;
    let reason = judgement.verdict.reason_code();
    (reason != decision.reason_code()).then(|| Shadow {
        verdict: if judgement.verdict.passes() {
            "allow"
        } else {
            "deny"
        },
        reason,
        policies: judgement.determining.clone(),
    })
}

/// Every clause of an explanation, and every part of one.
fn each_clause(explanation: &mut Explanation, mend: &mut dyn FnMut(&mut Clause)) {
    fn within(clause: &mut Clause, mend: &mut dyn FnMut(&mut Clause)) {
        mend(clause);
        for part in &mut clause.parts {
            within(part, mend);
        }
    }
    let nearest = explanation.nearest.iter_mut();
    let near = nearest.map(|nearest| &mut nearest.policy);
    for PolicyView { clauses, .. } in explanation.policies.iter_mut().chain(near) {
        for clause in clauses {
            within(clause, mend);
        }
    }
    if let Some(subject) = &mut explanation.subject {
        each_clause(subject, mend);
    }
}

/// Takes out what looks like a credential; and says where facts come from that no source of this Cardea told.
fn mend(clause: &mut Clause, mask: &Mask, given: Option<&'static str>) {
    let values = clause.facts.iter_mut();
    let values = values.filter_map(|fact| fact.value.as_mut());
    for text in values.chain(&mut clause.error) {
        *text = mask.text(text).into_owned();
    }
    for fact in &mut clause.facts {
        if let Some(given) = given
            && fact.origin.starts_with("no source")
        {
            fact.origin = given;
        }
    }
}

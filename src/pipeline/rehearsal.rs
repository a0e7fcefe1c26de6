//! Decisions that nobody asked for: what would be decided if this caller asked this, now or then.
//!
//! The same road as a real request's, but for the caller, who is supposed and not proven. Policy tests, explanations and
//! replays stand on it.

use std::sync::Arc;
use std::time::Duration;

use super::Snapshot;
use crate::model::{
    AccessRequest, Arrival, Caller, Decision, Delegation, Facts, IdentityAttributes, Outcome,
    Refusal, Trail,
};
use crate::policy::{Explanation, Judgement, Question};

/// A request that might have been.
#[derive(Debug)]
pub struct Supposed {
    /// The circumstances of the check.
    pub arrival: Arrival,
    /// What is asked, or why that has no single reading.
    pub request: Result<AccessRequest, Refusal>,
    /// Who is supposed to ask; `None` for nobody in particular.
    pub caller: Option<Arc<IdentityAttributes>>,
    /// In which circumstances.
    pub facts: Facts,
}

/// Why a request was decided as it was.
#[derive(Debug)]
pub struct Why {
    /// Which policies spoke, on which facts.
    pub explanation: Explanation,
    /// What would be decided if the policies in shadow mode counted; `None` where there are none.
    pub shadow: Option<Judgement>,
}

impl Snapshot {
    /// Why this snapshot decided as it did. `None` where policies were never asked.
    #[must_use]
    pub fn why(&self, decision: &Decision) -> Option<Why> {
        let trail = &decision.trail;
        let principal = match trail.caller.as_ref()?.attributes() {
            None => self.policies.anonymous().clone(),
            Some(attributes) => self.policies.supposed(attributes),
        };
        let question = Question {
            principal: &principal,
            request: trail.request.as_ref()?,
            matched: trail.matched.as_ref()?,
            facts: trail.facts.as_ref()?,
        };
        let shadow = self.policies.has_shadow();
        Some(Why {
            explanation: self.policies.explain(question),
            shadow: shadow.then(|| self.policies.judge_with_shadow(question)),
        })
    }

    /// Decides a request that might have been. Nothing is recorded.
    #[must_use]
    pub fn rehearse(&self, supposed: Supposed) -> Decision {
        let mut trail = Trail::begin(supposed.arrival);
        trail.snapshot = Some(self.id.clone());
        trail.caller = Some(match &supposed.caller {
            None => Caller::Anonymous,
            Some(attributes) => Caller::Supposed(Arc::clone(attributes)),
        });
        let caller = supposed.caller.as_deref();
        let outcome = self
            .road(supposed.request, caller, supposed.facts, &mut trail)
            .unwrap_or_else(Outcome::Refused);
        Decision {
            outcome,
            trail,
            took: Duration::ZERO,
        }
    }

    /// What policies say of a request that was decided already, by this snapshot or another.
    pub(super) fn reconsider(&self, decision: &Decision) -> Option<(Arc<str>, Judgement)> {
        let trail = &decision.trail;
        let (request, facts) = (trail.request.as_ref()?, trail.facts.as_ref()?);
        let matched = self
            .inventory
            .find(request.method, &request.host, &request.path);
        let principal = match trail.caller.as_ref()?.attributes() {
            None => self.policies.anonymous().clone(),
            Some(attributes) => self.policies.supposed(attributes),
        };
        let judgement = self.policies.judge_with_shadow(Question {
            principal: &principal,
            request,
            matched: &matched,
            facts,
        });
        Some((Arc::clone(&matched.operation.id), judgement))
    }

    fn road(
        &self,
        asked: Result<AccessRequest, Refusal>,
        caller: Option<&IdentityAttributes>,
        facts: Facts,
        trail: &mut Trail,
    ) -> Result<Outcome, Refusal> {
        let (request, matched) = self.read(asked, &mut trail.request, &mut trail.matched)?;
        let facts = &*trail.facts.insert(Facts {
            delegation: facts.delegation.or_else(|| caller.and_then(Delegation::of)),
            ..facts
        });
        let principal = match caller {
            None => self.policies.anonymous().clone(),
            Some(attributes) => self.policies.supposed(attributes),
        };
        let judgement = self.policies.judge(Question {
            principal: &principal,
            request,
            matched,
            facts,
        });
        trail.determining = judgement.determining;
        trail.faults = judgement.faults;
        trail.notes = judgement.notes;
        Ok(judgement.verdict)
    }
}

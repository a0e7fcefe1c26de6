//! Why: which policies spoke, clause by clause, on which facts; and what was missing where none permitted.
//!
//! Built only when somebody asks, from the same parts a judgement is made from, with the whole context at hand.

mod change;
mod clause;
mod reach;

use std::path::PathBuf;
use std::sync::Arc;

use cedar_policy::PolicyId;
use cedar_policy_core::ast::{Effect as CedarEffect, Entity, EntityUIDEntry, Request};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use serde::Serialize;

use super::entities::{numbers_entity, params_entity, store};
use super::evidence::Plan;
use super::judge::Question;
use super::obligation::OnDeny;
use super::slice::{CompiledPolicy, Slice};
use super::{Judgement, Policies};
use crate::model::{Effect, Reason};
use clause::Clauses;

pub use clause::{Clause, Fact, State};
pub use reach::{Condition, Given, Reach};

/// How many near misses are shown.
const NEAREST: usize = 3;

/// Why a request was judged as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The policies that determined the verdict, and those that could not be evaluated.
    pub policies: Vec<PolicyView>,
    /// Where no policy permitted: the permits that came closest, and what each of them lacked.
    pub nearest: Vec<Nearest>,
    /// Where a forbid that applied asks for a better login: whether that is offered, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_up: Option<Offer>,
    /// Who was judged: the principal's entity.
    pub principal: String,
    /// What was said of them alone: `permitted`, or the reason's code.
    pub reason: &'static str,
    /// The same of whom they act for, where they do: both have to be permitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<Explanation>>,
}

/// Whether a better login is offered in place of a plain denial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Whether it is.
    pub offered: bool,
    /// Why, or why not.
    pub because: String,
}

/// One policy, held against one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyView {
    /// Its id.
    pub id: Arc<str>,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// The file it stands in.
    pub file: PathBuf,
    /// The line it begins on, from 1; of a linked template the line of its link.
    pub line: usize,
    /// Its text; of a linked template the template's, with its slots filled.
    pub source: String,
    /// Whether the text stands in the file as it is shown: not where a template is linked.
    pub verbatim: bool,
    /// Its scope and its conditions, in order.
    pub clauses: Vec<Clause>,
}

/// A permit that did not apply, and the smallest change that would have made it apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// The permit.
    pub policy: PolicyView,
    /// What it lacked: every one of these.
    pub changes: Vec<String>,
}

/// What spoke of one principal, what came near, whether a login is offered, and the reason's code.
type OfOne = (Vec<PolicyView>, Vec<Nearest>, Option<Offer>, &'static str);

impl Policies {
    /// Explains what is judged of a question: of who asks, and of whom they act for. Costs some milliseconds.
    #[must_use]
    pub fn explain(&self, question: Question<'_>) -> Explanation {
        let principal = &question.principal.0;
        let subject = principal.subject.as_ref();
        let slice = self.slices.get(&question.matched.operation.id);
        let of_one = slice.and_then(|slice| {
            let judgement = slice.judge(&self.statics, question);
            self.with_clauses(slice, question, |clauses| self.of_one(clauses, &judgement))
        });
        let (policies, nearest, step_up, reason) =
            of_one.unwrap_or_else(|| (Vec::new(), Vec::new(), None, Reason::Internal.code()));
        Explanation {
            policies,
            nearest,
            step_up,
            principal: principal.entity.uid().to_string(),
            reason,
            subject: subject.map(|principal| {
                let question = Question {
                    principal,
                    ..question
                };
                Box::new(self.explain(question))
            }),
        }
    }

    fn of_one(&self, clauses: &Clauses<'_>, judgement: &Judgement) -> OfOne {
        let step_up = self.offer(clauses, judgement);
        // A login that is not offered for want of a permit: then that is what was missing.
        let unpermitted =
            judgement.determining.is_empty() || step_up.is_some() && !self.permits_apply(clauses);
        let nearest = if unpermitted {
            self.nearest(clauses, judgement)
        } else {
            Vec::new()
        };
        let reason = judgement.verdict.reason_code();
        (self.spoke(clauses, judgement), nearest, step_up, reason)
    }

    /// Makes one question ready to hold clauses against, with the whole context at hand.
    fn with_clauses<T>(
        &self,
        slice: &Slice,
        question: Question<'_>,
        look: impl FnOnce(&Clauses<'_>) -> T,
    ) -> Option<T> {
        let principal = &question.principal.0;
        let resource = self.statics.resource(question.matched, &slice.target);
        let entities = store([
            Arc::clone(&principal.entity),
            Arc::clone(&principal.claims),
            Arc::clone(&slice.target.action),
            Arc::clone(&resource),
            Arc::new(params_entity(question.matched)),
            Arc::new(numbers_entity()),
        ])?;
        let known = |entity: &Entity| EntityUIDEntry::known(entity.uid().clone(), None);
        let evidence = question.evidence();
        let request = Request::new_unchecked(
            known(&principal.entity),
            known(&slice.target.action),
            known(&resource),
            Some(Plan::everything().context(&evidence)),
        );
        Some(look(&Clauses {
            evaluator: Evaluator::new(request, &entities, Extensions::all_available()),
            principal: &principal.entity,
            action: &slice.target.action,
            resource: &resource,
        }))
    }

    fn spoke(&self, clauses: &Clauses<'_>, judgement: &Judgement) -> Vec<PolicyView> {
        let failed = judgement.faults.iter().map(|fault| &fault.policy);
        let ids = judgement.determining.iter().chain(failed);
        ids.filter_map(|id| self.sources.compiled.iter().find(|policy| policy.id == *id))
            .filter_map(|policy| self.view(policy, clauses))
            .collect()
    }

    /// The permits in force.
    fn permits_in_force(&self) -> impl Iterator<Item = &Arc<CompiledPolicy>> {
        let all = self.sources.compiled.iter();
        all.filter(|policy| policy.effect == CedarEffect::Permit && !policy.obligation.shadow)
    }

    fn permits_apply(&self, clauses: &Clauses<'_>) -> bool {
        self.permits_in_force()
            .any(|policy| clauses.applies(policy))
    }

    /// Whether a better login is offered: see `judge`, which decides it. `None` where no forbid asks for one.
    fn offer(&self, clauses: &Clauses<'_>, judgement: &Judgement) -> Option<Offer> {
        let refusal = judgement.verdict.refusal()?;
        let of = |id: &Arc<str>| self.sources.compiled.iter().find(|policy| policy.id == *id);
        let forbids: Vec<&CompiledPolicy> = judgement
            .determining
            .iter()
            .filter_map(|id| of(id).map(|policy| &**policy))
            .collect();
        let asks = |policy: &&&CompiledPolicy| policy.obligation.on_deny == OnDeny::StepUp;
        let asking = forbids.iter().find(asks)?;
        if judgement.verdict.passes() {
            return Some(Offer {
                offered: false,
                because: "the operation is observed, and the request passes without".to_owned(),
            });
        }
        if matches!(refusal.reason, Reason::StepUpRequired(_)) {
            return Some(Offer {
                offered: true,
                because: "every forbid that applies asks for a better login, and a permit applies"
                    .to_owned(),
            });
        }
        let failed = judgement.faults.iter();
        let mut failed = failed.filter(|fault| fault.effect == Effect::Forbid);
        let because = if let Some(other) = forbids.iter().find(|policy| !asks(policy)) {
            format!("`{}` would forbid it after any login", other.id)
        } else if let Some(fault) = failed.next() {
            format!(
                "`{}` could not be evaluated, and may forbid it after any login",
                fault.policy
            )
        } else if !self.permits_apply(clauses) {
            "no permit would apply after it either".to_owned()
        } else {
            format!(
                "`{}` asks for it, but another answer outranks it",
                asking.id
            )
        };
        Some(Offer {
            offered: false,
            because,
        })
    }

    /// The permits that lacked least, where nothing permitted. After a forbid in error no permit would help.
    fn nearest(&self, clauses: &Clauses<'_>, judgement: &Judgement) -> Vec<Nearest> {
        match judgement.verdict.refusal() {
            None => return Vec::new(),
            Some(refusal) if refusal.reason == Reason::PolicyError => return Vec::new(),
            Some(_) => {}
        }
        let permits = self.permits_in_force();
        let permits = permits.filter(|policy| clauses.can_be_about(policy));
        let mut nearest: Vec<Nearest> = permits
            .filter_map(|policy| {
                let changes = clauses.changes(policy);
                let policy = self.view(policy, clauses)?;
                (!changes.is_empty()).then_some(Nearest { policy, changes })
            })
            .collect();
        nearest.sort_by(|one, other| {
            let key = |nearest: &Nearest| (nearest.changes.len(), Arc::clone(&nearest.policy.id));
            key(one).cmp(&key(other))
        });
        nearest.truncate(NEAREST);
        nearest
    }

    fn view(&self, policy: &CompiledPolicy, clauses: &Clauses<'_>) -> Option<PolicyView> {
        let source = self.sources.set.policy(&PolicyId::new(&*policy.id))?;
        let (file, line, _) = self.sources.places.get(&policy.id)?;
        Some(PolicyView {
            id: Arc::clone(&policy.id),
            effect: match policy.effect {
                CedarEffect::Permit => "permit",
                CedarEffect::Forbid => "forbid",
            },
            file: file.clone(),
            line: *line,
            source: source.to_string(),
            verbatim: source.template_id().is_none(),
            clauses: clauses.of(policy, source.as_ref()),
        })
    }
}

#[cfg(test)]
mod tests;

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
use super::evidence::{Evidence, Plan};
use super::judge::Question;
use super::slice::{CompiledPolicy, Slice};
use super::{Judgement, Policies};
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
    /// The line it begins on, from 1.
    pub line: usize,
    /// Its text.
    pub source: String,
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

impl Policies {
    /// Explains a judgement of a question. Costs some milliseconds.
    #[must_use]
    pub fn explain(&self, question: Question<'_>, judgement: &Judgement) -> Explanation {
        let Some(slice) = self.slices.get(&question.matched.operation.id) else {
            return Explanation {
                policies: Vec::new(),
                nearest: Vec::new(),
            };
        };
        let explained = self.with_clauses(slice, question, |clauses| Explanation {
            policies: self.spoke(clauses, judgement),
            nearest: self.nearest(clauses, judgement),
        });
        explained.unwrap_or(Explanation {
            policies: Vec::new(),
            nearest: Vec::new(),
        })
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
        let evidence = Evidence {
            principal,
            request: question.request,
            matched: question.matched,
            facts: question.facts,
        };
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

    /// The permits that lacked least, where nothing permitted and nothing forbade.
    fn nearest(&self, clauses: &Clauses<'_>, judgement: &Judgement) -> Vec<Nearest> {
        if judgement.verdict.permitted() || !judgement.determining.is_empty() {
            return Vec::new();
        }
        let permits =
            self.sources.compiled.iter().filter(|policy| {
                policy.effect == CedarEffect::Permit && clauses.can_be_about(policy)
            });
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
            clauses: clauses.of(policy, source.as_ref()),
        })
    }
}

#[cfg(test)]
mod tests;

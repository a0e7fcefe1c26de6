//! Who can do what: which policies can apply where only some facts are given, and what the others would have to be.
//!
//! A clause is settled if everything it reads is given; then it is evaluated like any other. A clause that reads more is
//! open, but `&&`, `||`, `!` and `if` around open clauses are still decided where one side decides them. So nothing is
//! called settled that some fact could turn round, and what is open is named.

mod partly;

use std::sync::Arc;

use cedar_policy_core::ast::{Effect as CedarEffect, EntityUID, ExprKind, Literal};
use serde::Serialize;

use super::change::change;
use super::clause::{conjuncts, written};
use crate::model::Effect;
use crate::policy::slice::{CompiledPolicy, Place};
use crate::policy::value::Kind;
use crate::policy::{Policies, Question};
use partly::{Partly, Truth};

/// Which facts of a caller are given. Its kind, roles and groups are, wherever a caller is; the operation and the present
/// instant are in any case; circumstances never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says of one fact whether it is given"
)]
pub struct Given {
    /// Whether a caller is given at all.
    pub caller: bool,
    /// Who vouches, and for whom: both together are the caller's id.
    pub issuer: bool,
    /// The caller's name at its issuer.
    pub subject: bool,
    /// The token's scopes.
    pub scopes: bool,
    /// The token's audience.
    pub audience: bool,
    /// The caller's tenant.
    pub tenant: bool,
}

/// A policy that can apply to a request of which only some facts are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Its id.
    pub policy: Arc<str>,
    /// What it does where it applies.
    pub effect: Effect,
    /// The callers its scope asks for, in words; empty where it asks for none in particular.
    pub principal: String,
    /// The roles its scope and conditions name, and those the entity files put below them.
    pub roles: Vec<String>,
    /// The groups, in the same way.
    pub groups: Vec<String>,
    /// What is open: it applies where all of these hold, and always where there are none.
    pub open: Vec<Condition>,
}

/// A clause that the given facts do not settle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// As it is written.
    pub text: String,
    /// What would make it hold, in words.
    pub wanted: String,
}

impl Policies {
    /// The policies that can apply to a question of which only `given` is to be believed, in the order of the files.
    /// Costs some microseconds a policy of the operation.
    #[must_use]
    pub fn reach(&self, question: Question<'_>, given: Given) -> Vec<Reach> {
        let Some(slice) = self.slices.get(&question.matched.operation.id) else {
            return Vec::new();
        };
        let reached = self.with_clauses(slice, question, |clauses| {
            let partly = Partly {
                clauses,
                object_places: self.statics.object_places(),
                given,
                anonymous: given.caller && question.principal.0.kind == Kind::Anonymous,
                on_route: clauses.resource.uid().entity_type() == Kind::Route.entity_type(),
            };
            let all = self.sources.compiled.iter();
            all.filter_map(|policy| self.reach_of(policy, &partly))
                .collect()
        });
        reached.unwrap_or_default()
    }

    /// The roles and groups that the entity files put below one, sorted.
    fn below(&self, uid: &EntityUID) -> Vec<String> {
        let same_kind = self
            .statics
            .all()
            .filter(|entity| entity.uid().entity_type() == uid.entity_type());
        let mut names: Vec<String> = same_kind
            .filter(|entity| entity.is_descendant_of(uid))
            .map(|entity| AsRef::<str>::as_ref(entity.uid().eid()).to_owned())
            .collect();
        names.sort();
        names
    }

    fn reach_of(&self, policy: &CompiledPolicy, partly: &Partly<'_>) -> Option<Reach> {
        // What only says what it would decide gives nobody anything.
        if policy.obligation.shadow || !policy.action_holds(partly.clauses.action) {
            return None;
        }
        let mut open = Vec::new();
        for (truth, text) in [
            partly.principal(&policy.principal),
            partly.resource(&policy.resource),
        ] {
            match truth {
                Truth::No => return None,
                Truth::Open => open.push(Condition {
                    wanted: text.clone(),
                    text,
                }),
                Truth::Yes => {}
            }
        }
        for conjunct in conjuncts(policy) {
            match partly.truth(conjunct) {
                Truth::No => return None,
                Truth::Open => {
                    let text = written(conjunct);
                    let wanted = change(conjunct, &text);
                    open.push(Condition { text, wanted });
                }
                Truth::Yes => {}
            }
        }
        Some(Reach {
            policy: Arc::clone(&policy.id),
            effect: match policy.effect {
                CedarEffect::Permit => Effect::Permit,
                CedarEffect::Forbid => Effect::Forbid,
            },
            principal: policy.principal_wanted(),
            roles: self.named(policy, Kind::Role),
            groups: self.named(policy, Kind::Group),
            open,
        })
    }

    /// The names of one kind in a policy's scope and conditions, each followed by those below it.
    fn named(&self, policy: &CompiledPolicy, kind: Kind) -> Vec<String> {
        let scope = match &policy.principal.place {
            Place::Anywhere => None,
            Place::Exactly(uid) | Place::In(uid) => Some(uid),
        };
        let conditions = policy.condition.iter().flat_map(|c| c.subexpressions());
        let literals = conditions.filter_map(|expr| match expr.expr_kind() {
            ExprKind::Lit(Literal::EntityUID(uid)) => Some(&**uid),
            _ => None,
        });
        let mut names: Vec<String> = Vec::new();
        for uid in scope.into_iter().chain(literals) {
            if uid.entity_type() != kind.entity_type() {
                continue;
            }
            let own = AsRef::<str>::as_ref(uid.eid()).to_owned();
            for name in std::iter::once(own).chain(self.below(uid)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }
}

#[cfg(test)]
mod tests;

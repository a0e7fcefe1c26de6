//! Who can do what: which policies can apply where only some facts are given, and what the others would have to be.
//!
//! A clause is settled if everything it reads is given; then it is evaluated like any other. A clause that reads more is
//! open, but `&&`, `||`, `!` and `if` around open clauses are still decided where one side decides them. So nothing is
//! called settled that some fact could turn round, and what is open is named.

use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy_core::ast::{
    BinaryOp, Effect as CedarEffect, EntityType, EntityUID, Expr, ExprKind, Literal, UnaryOp,
    ValueKind, Var,
};
use serde::Serialize;

use super::change::change;
use super::clause::{Clauses, conjuncts, written};
use crate::model::Effect;
use crate::policy::reads::ReadSet;
use crate::policy::slice::{CompiledPolicy, Place, Scope};
use crate::policy::value::Kind;
use crate::policy::{Policies, Question};

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

/// What is known of a truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Open,
}

impl Truth {
    fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Open => Self::Open,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Open,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

/// One request of which some facts are given.
struct Partly<'a> {
    clauses: &'a Clauses<'a>,
    object_places: HashSet<&'a EntityUID>,
    given: Given,
    anonymous: bool,
    /// Whether the operation acts on its route: then all of the resource is known.
    on_route: bool,
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
        if !policy.action_holds(partly.clauses.action) {
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

impl Partly<'_> {
    fn principal(&self, scope: &Scope) -> (Truth, String) {
        let entity = self.clauses.principal;
        let given = self.given;
        let text = || scope.wanted();
        if !given.caller {
            // Who asks is what the scope says; it is told apart from what else is needed.
            return (Truth::Yes, String::new());
        }
        if !scope.allows_type(entity.uid().entity_type()) {
            return (Truth::No, String::new());
        }
        let settled = match &scope.place {
            Place::Anywhere => true,
            Place::Exactly(uid) => {
                self.knows_principal() || uid.entity_type() != entity.uid().entity_type()
            }
            Place::In(uid) => self.knows_ancestors(uid.entity_type()),
        };
        if settled {
            (Truth::of(scope.holds(entity)), text())
        } else {
            (Truth::Open, text())
        }
    }

    fn resource(&self, scope: &Scope) -> (Truth, String) {
        let entity = self.clauses.resource;
        if !scope.allows_type(entity.uid().entity_type()) {
            return (Truth::No, String::new());
        }
        let (settled, text) = match &scope.place {
            Place::Anywhere => (true, String::new()),
            Place::Exactly(uid) => (self.on_route, format!("resource == {uid}")),
            Place::In(uid) => (
                self.on_route || self.settles_place(uid),
                format!("resource in {uid}"),
            ),
        };
        if settled {
            (Truth::of(scope.holds(entity)), text)
        } else {
            (Truth::Open, text)
        }
    }

    fn truth(&self, expr: &Expr) -> Truth {
        match expr.expr_kind() {
            ExprKind::And { left, right } => self.truth(left).and(self.truth(right)),
            ExprKind::Or { left, right } => self.truth(left).or(self.truth(right)),
            ExprKind::UnaryApp {
                op: UnaryOp::Not,
                arg,
            } => self.truth(arg).not(),
            ExprKind::If {
                test_expr,
                then_expr,
                else_expr,
            } => match self.truth(test_expr) {
                Truth::Yes => self.truth(then_expr),
                Truth::No => self.truth(else_expr),
                Truth::Open => {
                    let (yes, no) = (self.truth(then_expr), self.truth(else_expr));
                    if yes == no { yes } else { Truth::Open }
                }
            },
            _ if self.settled(expr) => self.evaluated(expr),
            _ => Truth::Open,
        }
    }

    /// What cannot be evaluated settles nothing.
    fn evaluated(&self, expr: &Expr) -> Truth {
        let slots = cedar_policy_core::ast::SlotEnv::default();
        match self.clauses.evaluator.interpret(expr, &slots) {
            Ok(value) => match value.value_kind() {
                ValueKind::Lit(Literal::Bool(holds)) => Truth::of(*holds),
                _ => Truth::Open,
            },
            Err(_) => Truth::Open,
        }
    }

    /// Whether everything an expression reads is given.
    fn settled(&self, expr: &Expr) -> bool {
        match expr.expr_kind() {
            ExprKind::Is { expr, .. } => match variable(expr) {
                Some(Var::Principal) => self.given.caller,
                Some(_) => true,
                None => self.settled(expr),
            },
            ExprKind::BinaryApp {
                op: BinaryOp::In,
                arg1,
                arg2,
            } => match variable(arg1) {
                Some(Var::Principal) => {
                    all_of(arg2, &|uid| self.knows_ancestors(uid.entity_type())).unwrap_or(false)
                }
                Some(Var::Resource) if !self.on_route => {
                    all_of(arg2, &|uid| self.settles_place(uid)).unwrap_or(false)
                }
                _ => self.settled(arg1) && self.settled(arg2),
            },
            _ => ReadSet::of_expr(expr)
                .dotted()
                .all(|path| self.is_given(&path)),
        }
    }

    fn is_given(&self, path: &str) -> bool {
        let given = self.given;
        let mut parts = path.split('.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("action"), ..)
            | (Some("context"), Some("time"), Some("now"))
            | (Some("context"), Some("request"), Some("documented" | "method")) => true,
            (Some("principal"), None, _) => self.knows_principal(),
            (Some("principal"), Some("issuer"), _)
            | (Some("context"), Some("token"), Some("issuer")) => self.anonymous || given.issuer,
            (Some("principal"), Some("sub"), _)
            | (Some("context"), Some("token"), Some("subject")) => self.anonymous || given.subject,
            (Some("principal"), Some("tenant"), _) => given.tenant,
            (Some("principal"), Some("kind"), _)
            | (Some("context"), Some("token"), Some("kind")) => given.caller,
            (Some("context"), Some("token"), Some("scopes")) => self.anonymous || given.scopes,
            (Some("context"), Some("token"), Some("audience")) => self.anonymous || given.audience,
            (Some("context"), Some("token"), Some(_)) => self.anonymous,
            (Some("resource"), Some("api" | "kind"), _) => true,
            (Some("resource"), ..) => self.on_route,
            _ => false,
        }
    }

    /// Whether all objects of the operation are in this place, or none is: they lie in what their route lies in, and
    /// wherever the entity files put some.
    fn settles_place(&self, uid: &EntityUID) -> bool {
        let behind_route = [Kind::Route, Kind::Api, Kind::Tag]
            .iter()
            .any(|kind| kind.entity_type() == uid.entity_type());
        behind_route
            && (self.clauses.resource.is_descendant_of(uid) || !self.object_places.contains(uid))
    }

    /// Whether it is known exactly who asks.
    fn knows_principal(&self) -> bool {
        self.anonymous || (self.given.caller && self.given.issuer && self.given.subject)
    }

    /// Whether it is known in which entities of a type the caller is.
    fn knows_ancestors(&self, place: &EntityType) -> bool {
        let is = |kind: Kind| place == kind.entity_type();
        self.anonymous
            || (self.given.caller
                && if is(Kind::Role) || is(Kind::Group) {
                    true
                } else if is(Kind::Tenant) {
                    self.given.tenant
                } else {
                    self.knows_principal()
                })
    }
}

fn variable(expr: &Expr) -> Option<Var> {
    match expr.expr_kind() {
        ExprKind::Var(var) => Some(*var),
        _ => None,
    }
}

/// Whether something is true of every entity an expression names; `None` where it is not a list of names.
fn all_of(expr: &Expr, such: &dyn Fn(&EntityUID) -> bool) -> Option<bool> {
    match expr.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(uid)) => Some(such(uid)),
        ExprKind::Set(items) => items
            .iter()
            .map(|item| all_of(item, such))
            .try_fold(true, |all, one| Some(all && one?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

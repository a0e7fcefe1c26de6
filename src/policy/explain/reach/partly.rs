//! What can be told of a request of which only some facts are given.

use std::collections::HashSet;

use cedar_policy_core::ast::{
    BinaryOp, EntityType, EntityUID, Expr, ExprKind, Literal, SlotEnv, UnaryOp, ValueKind, Var,
};

use super::Given;
use crate::policy::explain::clause::Clauses;
use crate::policy::reads::ReadSet;
use crate::policy::slice::{Place, Scope};
use crate::policy::value::Kind;

/// What is known of a truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
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
pub(super) struct Partly<'a> {
    pub(super) clauses: &'a Clauses<'a>,
    pub(super) object_places: HashSet<&'a EntityUID>,
    pub(super) given: Given,
    pub(super) anonymous: bool,
    /// Whether the operation acts on its route: then all of the resource is known.
    pub(super) on_route: bool,
}

impl Partly<'_> {
    pub(super) fn principal(&self, scope: &Scope) -> (Truth, String) {
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

    pub(super) fn resource(&self, scope: &Scope) -> (Truth, String) {
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

    /// What is known of a condition.
    pub(super) fn truth(&self, expr: &Expr) -> Truth {
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
        let slots = SlotEnv::default();
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
            | (Some("resource"), Some("api" | "kind"), _)
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

//! Policies that read entities which no request carries.
//!
//! The solver takes for granted that every entity a request speaks of is there. Cardea gives the policies the principal,
//! the resource, the action, the claims, the path parameters and the numbers, and nothing else: to read an attribute of
//! another entity (of `context.delegation.subject`, say) is an error, and to ask whether it has one is always false.

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Policy, Var};
use cedar_policy_core::validator::typecheck::{PolicyCheck, Typechecker};
use cedar_policy_core::validator::types::{RequestEnv, Type};

type Typed = Expr<Option<Type>>;

/// Entities of the context that come with every request.
const CARRIED: [[&str; 2]; 3] = [
    ["token", "claims"],
    ["request", "params"],
    ["request", "numbers"],
];

/// The first expression that reads an attribute or a tag of an entity that no request carries.
pub(super) fn find(
    typechecker: &Typechecker<'_>,
    policy: &Policy,
    env: &RequestEnv<'_>,
) -> Option<String> {
    match typechecker.typecheck_by_single_request_env(policy.template(), env) {
        PolicyCheck::Success(expr) => expr
            .subexpressions()
            .find(|expr| {
                read_from(expr).is_some_and(|entity| is_entity(entity) && !is_carried(entity))
                    || passes_through(expr)
            })
            .map(ToString::to_string),
        // It never applies here.
        PolicyCheck::Irrelevant(..) | PolicyCheck::Fail(_) => None,
    }
}

/// What an expression reads an attribute or a tag of.
fn read_from(expr: &Typed) -> Option<&Typed> {
    match expr.expr_kind() {
        ExprKind::GetAttr { expr, .. }
        | ExprKind::HasAttr { expr, .. }
        | ExprKind::ExtHasAttr { expr, .. } => Some(&**expr),
        ExprKind::BinaryApp {
            op: BinaryOp::GetTag | BinaryOp::HasTag,
            arg1,
            ..
        } => Some(&**arg1),
        _ => None,
    }
}

/// Whether `a has b.c` looks into an entity on its way. It may be one that is carried; nobody needs to write that.
fn passes_through(expr: &Typed) -> bool {
    let ExprKind::ExtHasAttr { expr, attrs } = expr.expr_kind() else {
        return false;
    };
    let mut at = expr.data().clone();
    for (depth, attr) in attrs.iter().enumerate() {
        at = match at {
            Some(Type::Record { attrs, .. }) => {
                attrs.get_attr(attr).map(|found| (*found.attr_type).clone())
            }
            Some(Type::Entity(_)) => return depth > 0,
            _ => return false,
        };
    }
    false
}

fn is_entity(expr: &Typed) -> bool {
    matches!(expr.data(), Some(Type::Entity(_)))
}

fn is_carried(expr: &Typed) -> bool {
    match expr.expr_kind() {
        ExprKind::Var(Var::Principal | Var::Action | Var::Resource) => true,
        ExprKind::GetAttr { expr, attr } => CARRIED.iter().any(|[group, name]| {
            attr == name
                && matches!(expr.expr_kind(), ExprKind::GetAttr { expr, attr }
                    if attr == group && matches!(expr.expr_kind(), ExprKind::Var(Var::Context)))
        }),
        _ => false,
    }
}

//! An expression without its places in the source.
//!
//! Cedar's evaluator copies the place of every expression it evaluates into the value: two atomic operations a node. Only
//! Cedar's own error reports use places, and those are not shown.

use std::sync::Arc;

use cedar_policy_core::ast::{Expr, ExprBuilder, ExprKind};
use cedar_policy_core::expr_builder::ExprBuilder as _;

/// The same expression, node for node.
pub(super) fn placeless(expr: &Expr) -> Expr {
    let one = |expr: &Arc<Expr>| Arc::new(placeless(expr));
    let all = |items: &Arc<Vec<Expr>>| Arc::new(items.iter().map(placeless).collect());
    let kind = match expr.expr_kind() {
        ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {
            expr.expr_kind().clone()
        }
        ExprKind::If {
            test_expr,
            then_expr,
            else_expr,
        } => ExprKind::If {
            test_expr: one(test_expr),
            then_expr: one(then_expr),
            else_expr: one(else_expr),
        },
        ExprKind::And { left, right } => ExprKind::And {
            left: one(left),
            right: one(right),
        },
        ExprKind::Or { left, right } => ExprKind::Or {
            left: one(left),
            right: one(right),
        },
        ExprKind::UnaryApp { op, arg } => ExprKind::UnaryApp {
            op: *op,
            arg: one(arg),
        },
        ExprKind::BinaryApp { op, arg1, arg2 } => ExprKind::BinaryApp {
            op: *op,
            arg1: one(arg1),
            arg2: one(arg2),
        },
        ExprKind::ExtensionFunctionApp { fn_name, args } => ExprKind::ExtensionFunctionApp {
            fn_name: fn_name.clone(),
            args: all(args),
        },
        ExprKind::GetAttr { expr, attr } => ExprKind::GetAttr {
            expr: one(expr),
            attr: attr.clone(),
        },
        ExprKind::HasAttr { expr, attr } => ExprKind::HasAttr {
            expr: one(expr),
            attr: attr.clone(),
        },
        ExprKind::ExtHasAttr { expr, attrs } => ExprKind::ExtHasAttr {
            expr: one(expr),
            attrs: attrs.clone(),
        },
        ExprKind::Like { expr, pattern } => ExprKind::Like {
            expr: one(expr),
            pattern: pattern.clone(),
        },
        ExprKind::Is { expr, entity_type } => ExprKind::Is {
            expr: one(expr),
            entity_type: entity_type.clone(),
        },
        ExprKind::Set(items) => ExprKind::Set(all(items)),
        ExprKind::Record(fields) => ExprKind::Record(Arc::new(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), placeless(value)))
                .collect(),
        )),
    };
    ExprBuilder::new().with_expr_kind(kind)
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy as PublicPolicy;

    use super::*;

    #[test]
    fn nothing_but_places_is_lost() {
        let text = r#"permit (principal, action, resource) when {
            (if !context.tls.mutual then 1 + 1 == 2 else -context.risk.score < 3) &&
            (context has token.acr || [context.token, {"a": 1}].contains(context.token)) &&
            principal in Cardea::Role::"x" && resource is Cardea::Object && "abc" like "a*c" &&
            context.request.params.hasTag("id") && context.network.ip.isInRange(ip("10.0.0.0/8"))
        };"#;
        let policy = PublicPolicy::parse(None, text).unwrap();
        let policy: &cedar_policy_core::ast::Policy = policy.as_ref();
        let condition = policy.non_scope_constraints().unwrap();
        let bare = placeless(condition);
        assert!(bare.eq_shape(condition));
        assert_eq!(bare.to_string(), condition.to_string());
        assert!(
            bare.subexpressions()
                .all(|expr| expr.source_loc().is_none())
        );
        assert!(condition.source_loc().is_some());
    }
}

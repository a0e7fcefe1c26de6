//! Which facts a policy can read: found in its syntax tree at load, so that nothing else is gathered for it.

use std::collections::BTreeSet;

use cedar_policy_core::ast::{Expr, ExprKind, Policy, UnaryOp, Var};
use smol_str::SmolStr;

/// The attributes that some policy can read, as paths from a variable: `context.token.scopes`, `principal.tenant`. A
/// path stands for everything below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadSet {
    paths: BTreeSet<Vec<SmolStr>>,
}

impl ReadSet {
    /// What the conditions of `policy` can read. (Its scope reads only the ids and the hierarchy, which are always there.)
    pub(super) fn of(policy: &Policy) -> Self {
        policy
            .non_scope_constraints()
            .map_or_else(Self::default, Self::of_expr)
    }

    /// What an expression can read.
    pub(super) fn of_expr(expr: &Expr) -> Self {
        let mut reads = Self::default();
        reads.walk(expr);
        reads
    }

    /// What an expression can read where `has` settles that some paths are always there, or never: what stands behind
    /// an `&&`, `||` or `if` that goes the other way is not evaluated, and so not read.
    pub(super) fn given(expr: &Expr, has: impl Fn(&[SmolStr]) -> Option<bool>) -> Self {
        let mut reads = Self::default();
        reads.walk_given(expr, &has);
        reads
    }

    /// Everything there is.
    pub(super) fn everything() -> Self {
        let all = ["principal", "action", "resource", "context"];
        Self {
            paths: all
                .into_iter()
                .map(|root| vec![SmolStr::new_static(root)])
                .collect(),
        }
    }

    /// Adds what another policy can read.
    pub(super) fn extend(&mut self, other: &Self) {
        self.paths.extend(other.paths.iter().cloned());
    }

    /// Whether anything of `context.<group>` can be read.
    pub(super) fn wants_group(&self, group: &str) -> bool {
        self.context_paths()
            .any(|path| path.first().is_none_or(|first| first == group))
    }

    /// Whether `context.<group>.<field>` can be read.
    pub(super) fn wants_field(&self, group: &str, field: &str) -> bool {
        self.context_paths().any(|path| match path {
            [] => true,
            [first] => first == group,
            [first, second, ..] => first == group && second == field,
        })
    }

    /// Whether anything about the caller can be read.
    pub(super) fn asks_who(&self) -> bool {
        self.wants_group("token")
            || self
                .paths
                .iter()
                .any(|path| path.first().is_some_and(|root| root == "principal"))
    }

    /// The paths, dotted, in order.
    pub fn dotted(&self) -> impl Iterator<Item = String> {
        self.paths.iter().map(|path| path.join("."))
    }

    fn context_paths(&self) -> impl Iterator<Item = &[SmolStr]> {
        self.paths
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(root, _)| *root == "context")
            .map(|(_, rest)| rest)
    }

    fn walk_given(&mut self, expr: &Expr, has: &impl Fn(&[SmolStr]) -> Option<bool>) {
        match expr.expr_kind() {
            ExprKind::And { left, right } => {
                self.walk_given(left, has);
                if settled(left, has) != Some(false) {
                    self.walk_given(right, has);
                }
            }
            ExprKind::Or { left, right } => {
                self.walk_given(left, has);
                if settled(left, has) != Some(true) {
                    self.walk_given(right, has);
                }
            }
            ExprKind::UnaryApp { arg, .. } => self.walk_given(arg, has),
            _ => self.walk(expr),
        }
    }

    fn walk(&mut self, expr: &Expr) {
        if let Some(path) = path_of(expr) {
            self.paths.insert(path);
            return;
        }
        match expr.expr_kind() {
            ExprKind::GetAttr { expr, .. }
            | ExprKind::HasAttr { expr, .. }
            | ExprKind::ExtHasAttr { expr, .. }
            | ExprKind::Like { expr, .. }
            | ExprKind::Is { expr, .. }
            | ExprKind::UnaryApp { arg: expr, .. } => self.walk(expr),
            ExprKind::And { left, right } | ExprKind::Or { left, right } => {
                self.walk(left);
                self.walk(right);
            }
            ExprKind::BinaryApp { arg1, arg2, .. } => {
                self.walk(arg1);
                self.walk(arg2);
            }
            ExprKind::If {
                test_expr,
                then_expr,
                else_expr,
            } => {
                self.walk(test_expr);
                self.walk(then_expr);
                self.walk(else_expr);
            }
            ExprKind::ExtensionFunctionApp { args: items, .. } | ExprKind::Set(items) => {
                items.iter().for_each(|item| self.walk(item));
            }
            ExprKind::Record(fields) => fields.values().for_each(|value| self.walk(value)),
            ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
        }
    }
}

/// What an expression comes to in any case, as far as that follows from what is there. What is settled evaluates without
/// an error.
fn settled(expr: &Expr, has: &impl Fn(&[SmolStr]) -> Option<bool>) -> Option<bool> {
    match expr.expr_kind() {
        ExprKind::HasAttr { .. } => has(&path_of(expr)?),
        ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } => settled(arg, has).map(|truth| !truth),
        _ => None,
    }
}

/// The path an expression names, if it is a chain of attributes on a variable. Anything else is walked, and whatever
/// variable stands in it bare counts as read in full.
fn path_of(expr: &Expr) -> Option<Vec<SmolStr>> {
    match expr.expr_kind() {
        ExprKind::Var(var) => Some(vec![SmolStr::new_static(match var {
            Var::Principal => "principal",
            Var::Action => "action",
            Var::Resource => "resource",
            Var::Context => "context",
        })]),
        ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => {
            let mut path = path_of(expr)?;
            path.push(attr.clone());
            Some(path)
        }
        ExprKind::ExtHasAttr { expr, attrs } => {
            let mut path = path_of(expr)?;
            path.extend(attrs.iter().cloned());
            Some(path)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy as PublicPolicy;

    use super::*;

    fn reads(condition: &str) -> ReadSet {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        let policy = PublicPolicy::parse(None, text).unwrap();
        ReadSet::of(policy.as_ref())
    }

    #[test]
    fn a_chain_of_attributes_is_one_path() {
        let reads = reads(
            r#"context.token.scopes.contains("x") && principal.tenant == resource.tenant
               && context has emergency && context.request.params.hasTag("id")"#,
        );
        assert_eq!(
            reads.dotted().collect::<Vec<_>>(),
            [
                "context.emergency",
                "context.request.params",
                "context.token.scopes",
                "principal.tenant",
                "resource.tenant",
            ]
        );
        assert!(reads.wants_field("token", "scopes") && !reads.wants_field("token", "amr"));
        assert!(reads.wants_group("request") && !reads.wants_group("risk"));
    }

    #[test]
    fn what_is_read_in_full_wants_every_field() {
        for condition in [
            "context.token == context.token",
            "(if true then context.token else context.token).assurance > 1",
            "[context.token].contains(context.token)",
        ] {
            assert!(reads(condition).wants_field("token", "amr"), "{condition}");
        }
        assert!(reads("context == context").wants_field("risk", "score"));
        assert!(reads("{a: context}.a.risk.score > 1").wants_field("token", "amr"));
    }

    #[test]
    fn what_is_never_evaluated_is_not_read() {
        let reads = |condition: &str, there: bool| {
            let text = format!("permit (principal, action, resource) when {{ {condition} }};");
            let policy = PublicPolicy::parse(None, text).unwrap();
            let policy: &Policy = policy.as_ref();
            ReadSet::given(policy.non_scope_constraints().unwrap(), |path| {
                (path.join(".") == "resource.api.sunset").then_some(there)
            })
            .wants_group("time")
        };
        let time = "context.time.weekday == 1";
        for (condition, if_there, if_not) in [
            (format!("resource.api has sunset && {time}"), true, false),
            (format!("!(resource.api has sunset) && {time}"), false, true),
            (format!("resource.api has sunset || {time}"), false, true),
            (format!("!(resource.api has sunset || {time})"), false, true),
            (
                format!("true && (resource.api has sunset && {time})"),
                true,
                false,
            ),
            // Not settled, or not skipped: read.
            (format!("{time} && resource.api has sunset"), true, true),
            (format!("resource.api has owner && {time}"), true, true),
            (format!("resource has sunset && {time}"), true, true),
            (format!("(resource.api has sunset) == ({time})"), true, true),
            (
                format!("if resource.api has sunset then {time} else false"),
                true,
                true,
            ),
        ] {
            assert_eq!(reads(&condition, true), if_there, "{condition}, there");
            assert_eq!(reads(&condition, false), if_not, "{condition}, not there");
        }
    }

    #[test]
    fn every_kind_of_expression_is_walked() {
        for condition in [
            "!context.tls.mutual",
            "false || context.tls.mutual",
            "if context.tls.mutual then true else false",
            "if true then context.tls.mutual else false",
            "if true then false else context.tls.mutual",
            "1 == 2 && context.tls.mutual",
            "(1 + 1) * 2 == 4 && [context.tls.mutual] == [true]",
            r#"ip("::1").isLoopback() == context.tls.mutual"#,
            "context.tls has mutual",
            r#"{"a": context.tls.mutual}.a"#,
        ] {
            assert!(reads(condition).wants_field("tls", "mutual"), "{condition}");
        }
    }
}

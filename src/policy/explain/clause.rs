//! A policy taken apart into clauses, each held against one request.

use std::fmt::Write as _;
use std::sync::Arc;

use cedar_policy_core::ast::{
    BinaryOp, Entity, Expr, ExprKind, Literal, Policy, SlotEnv, UnaryOp, ValueKind, Var,
};
use cedar_policy_core::evaluator::Evaluator;
use jiff::Timestamp;
use serde::Serialize;

use super::change::{change, is_asked_for_by};
use crate::policy::reads::ReadSet;
use crate::policy::slice::CompiledPolicy;

/// One clause of a policy: a part of its scope, or one conjunct of its conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// As it is written.
    pub text: String,
    /// Whether it held.
    pub state: State,
    /// Why it could not be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it read.
    pub facts: Vec<Fact>,
    /// For an `unless` of several conjuncts: each of them. It holds where one of these does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Clause>,
}

/// Whether a clause held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It held.
    Held,
    /// It did not.
    Failed,
    /// It could not be evaluated.
    Error,
    /// An earlier clause had settled the matter, and this one makes no sense without it.
    NotReached,
}

/// One fact a clause read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// Where policies find it.
    pub path: String,
    /// What it was; absent where there was none.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: &'static str,
}

/// One request, ready to hold clauses against.
pub(super) struct Clauses<'a> {
    pub(super) evaluator: Evaluator<'a>,
    pub(super) principal: &'a Arc<Entity>,
    pub(super) action: &'a Arc<Entity>,
    pub(super) resource: &'a Arc<Entity>,
}

impl Clauses<'_> {
    /// Whether a policy speaks of this action and this kind of resource at all.
    pub(super) fn can_be_about(&self, policy: &CompiledPolicy) -> bool {
        policy.action_holds(self.action) && policy.resource_holds(self.resource)
    }

    /// Every clause of a policy.
    pub(super) fn of(&self, policy: &CompiledPolicy, source: &Policy) -> Vec<Clause> {
        let scope = [
            (
                source.principal_constraint().to_string(),
                policy.principal_holds(self.principal),
                "principal",
            ),
            (
                source.action_constraint().to_string(),
                policy.action_holds(self.action),
                "action",
            ),
            (
                source.resource_constraint().to_string(),
                policy.resource_holds(self.resource),
                "resource",
            ),
        ];
        let mut settled = scope.iter().any(|(_, held, _)| !held);
        let mut clauses: Vec<Clause> = scope
            .into_iter()
            .map(|(text, held, variable)| Clause {
                text,
                state: if held { State::Held } else { State::Failed },
                error: None,
                facts: self.fact(variable).into_iter().collect(),
                parts: Vec::new(),
            })
            .collect();
        for conjunct in conjuncts(policy) {
            let clause = self.hold(conjunct, policy, settled);
            settled |= clause.state != State::Held;
            clauses.push(clause);
        }
        clauses
    }

    /// What a policy lacks: one sentence for each clause that does not hold.
    pub(super) fn changes(&self, policy: &CompiledPolicy) -> Vec<String> {
        let mut changes = Vec::new();
        if !policy.principal_holds(self.principal) {
            changes.push(policy.principal_wanted());
        }
        let mut settled = false;
        let conjuncts = conjuncts(policy);
        for (index, conjunct) in conjuncts.iter().enumerate() {
            let clause = self.hold(conjunct, policy, settled);
            if clause.state == State::Held {
                continue;
            }
            settled = true;
            let next = conjuncts.get(index + 1);
            if !next.is_some_and(|next| is_asked_for_by(conjunct, next)) {
                changes.push(change(conjunct, &clause.text));
            }
        }
        changes
    }

    /// Whether a policy applies.
    pub(super) fn applies(&self, policy: &CompiledPolicy) -> bool {
        let truth = |expr: &Arc<Expr>| {
            let value = self.evaluator.interpret(expr, &policy.slots).ok();
            value.is_some_and(|value| {
                matches!(value.value_kind(), ValueKind::Lit(Literal::Bool(true)))
            })
        };
        self.can_be_about(policy)
            && policy.principal_holds(self.principal)
            && policy.condition.as_ref().is_none_or(truth)
    }

    fn hold(&self, conjunct: &Expr, policy: &CompiledPolicy, settled: bool) -> Clause {
        let (state, error) = match self.evaluator.interpret(conjunct, &policy.slots) {
            Ok(value) => match value.value_kind() {
                ValueKind::Lit(Literal::Bool(true)) => (State::Held, None),
                _ => (State::Failed, None),
            },
            Err(_) if settled => (State::NotReached, None),
            Err(error) => (State::Error, Some(error.to_string())),
        };
        let parts = self.parts(conjunct, policy);
        let facts = if parts.is_empty() {
            self.facts(conjunct)
        } else {
            Vec::new()
        };
        Clause {
            text: written(conjunct),
            state,
            error,
            facts,
            parts,
        }
    }

    /// The conjuncts within an `unless`, if there are several.
    fn parts(&self, conjunct: &Expr, policy: &CompiledPolicy) -> Vec<Clause> {
        let ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } = conjunct.expr_kind()
        else {
            return Vec::new();
        };
        let mut inner = Vec::new();
        split(arg, &mut inner);
        if inner.len() < 2 {
            return Vec::new();
        }
        let mut settled = false;
        let parts = inner.into_iter().map(|part| {
            let clause = self.hold(part, policy, settled);
            settled |= clause.state != State::Held;
            clause
        });
        parts.collect()
    }

    /// What an expression reads: attributes by their paths, and claims and path parameters by their names.
    fn facts(&self, expr: &Expr) -> Vec<Fact> {
        let reads = ReadSet::of_expr(expr);
        let named: Vec<Fact> = expr
            .subexpressions()
            .filter_map(|part| self.named(part))
            .collect();
        // The whole of which a named one was read says nothing more.
        let whole = |path: &String| {
            named
                .iter()
                .any(|fact| fact.path.starts_with(&format!("{path}[")))
        };
        let paths: Vec<String> = reads.dotted().filter(|path| !whole(path)).collect();
        let facts = paths.iter().filter_map(|path| self.fact(path));
        let mut facts: Vec<Fact> = facts.chain(named).collect();
        facts.dedup();
        facts
    }

    /// `context.token.claims.getTag("department")`, and the same with `hasTag`.
    fn named(&self, expr: &Expr) -> Option<Fact> {
        let ExprKind::BinaryApp {
            op: BinaryOp::GetTag | BinaryOp::HasTag,
            arg1,
            arg2,
        } = expr.expr_kind()
        else {
            return None;
        };
        let ExprKind::Lit(Literal::String(name)) = arg2.expr_kind() else {
            return None;
        };
        let path = ReadSet::of_expr(arg1).dotted().next()?;
        let tag = Expr::binary_app(BinaryOp::GetTag, (**arg1).clone(), (**arg2).clone());
        let value = self.evaluator.interpret(&tag, &SlotEnv::default()).ok();
        Some(Fact {
            origin: origin(&path),
            path: format!("{path}[{name:?}]"),
            value: value.map(|value| readable(&value.to_string())),
        })
    }

    fn fact(&self, path: &str) -> Option<Fact> {
        let mut parts = path.split('.');
        let root = match parts.next()? {
            "principal" => Var::Principal,
            "action" => Var::Action,
            "resource" => Var::Resource,
            _ => Var::Context,
        };
        let expr = parts.fold(Expr::var(root), |expr, attribute| {
            Expr::get_attr(expr, attribute.into())
        });
        let value = self.evaluator.interpret(&expr, &SlotEnv::default()).ok();
        Some(Fact {
            path: path.to_owned(),
            value: value.map(|value| readable(&value.to_string())),
            origin: origin(path),
        })
    }
}

/// The conjuncts of a policy's conditions, in order.
pub(super) fn conjuncts(policy: &CompiledPolicy) -> Vec<&Expr> {
    let mut all = Vec::new();
    if let Some(condition) = &policy.condition {
        split(condition, &mut all);
    }
    all
}

fn split<'e>(expr: &'e Expr, into: &mut Vec<&'e Expr>) {
    if let ExprKind::And { left, right } = expr.expr_kind() {
        split(left, into);
        split(right, into);
    } else {
        into.push(expr);
    }
}

/// The clause as its author wrote it, in one line.
pub(super) fn written(expr: &Expr) -> String {
    let snippet = |expr: &Expr| {
        let text = expr.source_loc()?.snippet()?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    if let ExprKind::UnaryApp {
        op: UnaryOp::Not,
        arg,
    } = expr.expr_kind()
        && snippet(expr).is_none_or(|text| text.starts_with("unless"))
    {
        let inner = snippet(arg).unwrap_or_else(|| arg.to_string());
        return format!("unless {{ {inner} }}");
    }
    snippet(expr).unwrap_or_else(|| expr.to_string())
}

/// Cedar spells an instant by its distance from 1970; people read dates.
fn readable(value: &str) -> String {
    const BEFORE: &str = r#"datetime("1970-01-01").offset(duration(""#;
    const AFTER: &str = r#"ms"))"#;
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once(BEFORE) {
        let Some((number, tail)) = after.split_once(AFTER) else {
            break;
        };
        let at = number.parse().ok();
        let Some(at) = at.and_then(|ms| Timestamp::from_millisecond(ms).ok()) else {
            break;
        };
        out.push_str(before);
        // Writing to a string cannot fail.
        let _ = write!(out, "datetime(\"{at}\")");
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Where a fact comes from, by its path.
fn origin(path: &str) -> &'static str {
    let mut parts = path.split('.');
    match (parts.next(), parts.next()) {
        (Some("principal"), _) => "the caller's credential and the bundle's entities",
        (Some("resource"), _) => "the API document, the path and the bundle's entities",
        (Some("action"), _) => "the API document",
        (_, Some("token" | "delegation")) => "the caller's credential",
        (_, Some("request")) => "the request",
        (_, Some("network")) => "the client's address by the configured rule",
        (_, Some("time")) => "Cardea's clock",
        (_, Some("tls")) => "the connection to Envoy",
        (_, Some("device" | "geo" | "risk" | "signals" | "emergency")) => "no source yet: unknown",
        _ => "the request as a whole",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_shown_as_dates() {
        let spelled = r#"{now: datetime("1970-01-01").offset(duration("1767614400000ms")), x: 1}"#;
        assert_eq!(
            readable(spelled),
            r#"{now: datetime("2026-01-05T12:00:00Z"), x: 1}"#
        );
        for other in [
            "1",
            r#"datetime("1970-01-01").offset(duration("xms"))"#,
            r#"datetime("1970-01-01").offset(duration("1"#,
        ] {
            assert_eq!(readable(other), other);
        }
    }
}

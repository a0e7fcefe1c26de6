//! A policy taken apart into clauses, each held against one request.

use std::sync::Arc;

use cedar_policy_core::ast::{
    Entity, Expr, ExprKind, Literal, Policy, SlotEnv, UnaryOp, ValueKind, Var,
};
use cedar_policy_core::evaluator::Evaluator;
use serde::Serialize;

use super::change::change;
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
        for conjunct in conjuncts(policy) {
            let clause = self.hold(conjunct, policy, settled);
            if clause.state != State::Held {
                settled = true;
                changes.push(change(conjunct, &clause.text));
            }
        }
        changes
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
        let reads = ReadSet::of_expr(conjunct);
        Clause {
            text: written(conjunct),
            state,
            error,
            facts: reads.dotted().filter_map(|path| self.fact(&path)).collect(),
        }
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
            value: value.map(|value| value.to_string()),
            origin: origin(path),
        })
    }
}

/// The conjuncts of a policy's conditions, in order.
pub(super) fn conjuncts(policy: &CompiledPolicy) -> Vec<&Expr> {
    fn split<'e>(expr: &'e Expr, into: &mut Vec<&'e Expr>) {
        if let ExprKind::And { left, right } = expr.expr_kind() {
            split(left, into);
            split(right, into);
        } else {
            into.push(expr);
        }
    }
    let mut all = Vec::new();
    if let Some(condition) = &policy.condition {
        split(condition, &mut all);
    }
    all
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

//! Permits that say less than they seem to: no scope, patterns on text.

use std::sync::Arc;

use cedar_policy_core::ast::{ActionConstraint, Effect, ExprKind};

use super::{Ground, Judged, Rule, Warning};
use crate::policy::reads::ReadSet;
use crate::policy::slice::{Place, Scope};

/// How many operations one message names.
const MOST_NAMED: usize = 3;

impl Ground<'_> {
    /// Permits without a scope, and patterns on the path.
    pub(super) fn width(&self, warnings: &mut Vec<Warning>) {
        for judged in &self.judged {
            warnings.extend(self.no_scope(judged));
            warnings.extend(judged.path_patterns());
        }
    }

    fn no_scope(&self, judged: &Judged<'_>) -> Option<Warning> {
        let policy = judged.compiled;
        let open =
            |scope: &Scope| scope.entity_type.is_none() && matches!(scope.place, Place::Anywhere);
        let wide =
            policy.effect == Effect::Permit && open(&policy.principal) && open(&policy.resource);
        if !wide {
            return None;
        }
        let id = &policy.id;
        if matches!(policy.action, ActionConstraint::Any) {
            return Some(judged.warning(
                Rule::NoScope,
                format!("the permit `{id}` has no scope: it speaks of every caller, operation and resource"),
                "name the operations it is about (`action == ..`) and the role it is for (`principal in ..`)",
            ));
        }
        if policy.condition.is_some() {
            return None;
        }
        let opened = self.opened(judged);
        let (first, more) = (
            opened.iter().take(MOST_NAMED),
            opened.len().saturating_sub(MOST_NAMED),
        );
        let names: Vec<String> = first.map(|id| format!("`{id}`")).collect();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        (!opened.is_empty()).then(|| {
            judged.warning(
                Rule::NoScope,
                format!(
                    "the permit `{id}` lets everybody, without a credential too, call {}{more}",
                    names.join(", ")
                ),
                "name the role it is for (`principal in ..`), or let the API document say that everybody may: `security: []`",
            )
        })
    }

    /// The operations a policy opens that no document calls public.
    fn opened(&self, judged: &Judged<'_>) -> Vec<&Arc<str>> {
        let operations = self.operations.iter().enumerate();
        operations
            .filter(|(index, (operation, _))| {
                judged.extent.operations.has(*index)
                    && operation.route.sensitivity > 0
                    && !self.surroundings.public.contains(&operation.id)
            })
            .map(|(_, (operation, _))| &operation.id)
            .collect()
    }
}

impl Judged<'_> {
    /// `like` compares text: it knows neither segments nor encodings, and a new route can slip under a pattern.
    fn path_patterns(&self) -> Vec<Warning> {
        let patterns = self.expressions().filter(|expr| match expr.expr_kind() {
            ExprKind::Like { expr, .. } => ReadSet::of_expr(expr)
                .dotted()
                .any(|path| path == "context.request.path"),
            _ => false,
        });
        patterns
            .map(|pattern| {
                let id = &self.compiled.id;
                self.warning_at(
                    pattern.source_loc(),
                    Rule::PathPattern,
                    format!("the policy `{id}` compares the path with a pattern, in which `*` matches `/` too"),
                    "name what it means: `action == ..`, `resource in Cardea::Api::\"..\"` or `resource in Cardea::Tag::\"..\"`",
                )
            })
            .collect()
    }
}

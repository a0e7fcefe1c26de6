//! Counterexamples: replayed by Cedar's own authorizer before anybody sees them, and put into words.

use std::collections::BTreeSet;

use cedar_policy::{
    AuthorizationError, Authorizer, Decision, Effect, EntityUid, PolicySet, Response,
};
use cedar_policy_symcc::Env;
use serde_json::{Value, json};

use super::report::Witness;
use crate::model::Operation;

/// What the policies say of a counterexample.
#[derive(Debug)]
pub(super) struct Replay {
    response: Response,
    /// Whether a forbid errs.
    pub(super) forbid_failed: bool,
}

impl Replay {
    pub(super) fn of(env: &Env, policies: &PolicySet) -> Self {
        let response = Authorizer::new().is_authorized(&env.request, policies, &env.entities);
        let forbid_failed = response.diagnostics().errors().any(|error| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            let policy = policies.policy(error.policy_id());
            policy.is_none_or(|policy| policy.effect() == Effect::Forbid)
        });
        Self {
            response,
            forbid_failed,
        }
    }

    /// Whether Cedar allows it, which skips what errs.
    pub(super) fn cedar_allows(&self) -> bool {
        self.response.decision() == Decision::Allow
    }

    /// Whether it is allowed by the rule of the house: a forbid that errs denies.
    pub(super) fn allowed(&self) -> bool {
        self.cedar_allows() && !self.forbid_failed
    }

    /// Whether the policy errs.
    pub(super) fn errs(&self, id: &str) -> bool {
        self.response.diagnostics().errors().any(|error| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            AsRef::<str>::as_ref(error.policy_id()) == id
        })
    }

    /// The counterexample in words, with those of its facts that lie at or below one of the paths in `reads`.
    pub(super) fn tell(
        &self,
        env: &Env,
        operation: &Operation,
        reads: &BTreeSet<String>,
    ) -> Witness {
        let name = |uid: Option<&EntityUid>| uid.map(ToString::to_string).unwrap_or_default();
        let context = env.request.context();
        let context = context.and_then(|context| context.to_json_value().ok());
        let context = context.unwrap_or_default();
        let entities = env.entities.to_json_value().unwrap_or_default();
        let mut facts = Vec::new();
        flatten("context", &context, &mut facts);
        let ends = [
            ("principal", env.request.principal()),
            ("resource", env.request.resource()),
        ];
        for (role, uid) in ends {
            if let Some(entity) = uid.and_then(|uid| find(&entities, uid)) {
                flatten(
                    role,
                    entity.pointer("/attrs").unwrap_or(&Value::Null),
                    &mut facts,
                );
            }
        }
        facts.retain(|(path, _)| reads.iter().any(|read| covers(read, path)));
        let mut lines = hierarchies(env);
        lines.extend(
            facts
                .into_iter()
                .map(|(path, value)| format!("{path} = {value}")),
        );
        lines.extend(tags(&entities));
        let mut allowed_by: Vec<String> = if self.cedar_allows() {
            let reasons = self.response.diagnostics().reason();
            reasons.map(ToString::to_string).collect()
        } else {
            Vec::new()
        };
        allowed_by.sort();
        Witness {
            route: if operation.documented {
                let template = &operation.route.template;
                format!("{} {template}", operation.method.as_str())
            } else {
                format!("{} of something undocumented", operation.method.as_str())
            },
            principal: name(env.request.principal()),
            action: name(env.request.action()),
            resource: name(env.request.resource()),
            allowed_by,
            errors: self
                .response
                .diagnostics()
                .errors()
                .map(ToString::to_string)
                .collect(),
            facts: lines,
            request: json!({
                "principal": uid_json(env.request.principal()),
                "action": uid_json(env.request.action()),
                "resource": uid_json(env.request.resource()),
                "context": context,
            }),
            entities,
            evaluation: None,
        }
    }
}

/// What the caller and the resource lie in.
fn hierarchies(env: &Env) -> Vec<String> {
    let ends = [
        ("principal", env.request.principal()),
        ("resource", env.request.resource()),
    ];
    ends.into_iter()
        .filter_map(|(role, uid)| {
            let mut above: Vec<String> = env
                .entities
                .ancestors(uid?)?
                .map(ToString::to_string)
                .collect();
            above.sort();
            (!above.is_empty()).then(|| format!("{role} in {}", above.join(", ")))
        })
        .collect()
}

/// The tags of whatever has some: claims, parameters, numbers.
fn tags(entities: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for entity in entities.as_array().into_iter().flatten() {
        let uid = entity.pointer("/uid").map(render).unwrap_or_default();
        if let Some(Value::Object(tags)) = entity.pointer("/tags") {
            for (name, value) in tags {
                lines.push(format!("{uid} has tag {name:?} = {}", render(value)));
            }
        }
    }
    lines
}

fn uid_json(uid: Option<&EntityUid>) -> Value {
    uid.map_or(
        Value::Null,
        |uid| json!({ "type": uid.type_name().to_string(), "id": uid.id().unescaped() }),
    )
}

fn find<'a>(entities: &'a Value, uid: &EntityUid) -> Option<&'a Value> {
    let wanted = uid_json(Some(uid));
    let mut all = entities.as_array()?.iter();
    all.find(|entity| entity.pointer("/uid") == Some(&wanted))
}

/// Whether a policy that reads `read` can see the fact at `path`.
fn covers(read: &str, path: &str) -> bool {
    let below = |outer: &str, inner: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    below(read, path) || below(path, read)
}

/// The leaves of a record, each with its path.
fn flatten(path: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(fields) if !is_special(fields) => {
            for (name, value) in fields {
                flatten(&format!("{path}.{name}"), value, leaves);
            }
        }
        _ => leaves.push((path.to_owned(), render(value))),
    }
}

fn is_special(fields: &serde_json::Map<String, Value>) -> bool {
    fields.contains_key("__extn") || fields.contains_key("__entity")
}

/// A value as Cedar would write it.
fn render(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(render).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            if let Some(entity) = fields.get("__entity") {
                return render(entity);
            }
            if let Some(call) = fields.get("__extn") {
                return render_call(call);
            }
            if let (Some(kind), Some(id)) = (fields.get("type"), fields.get("id"))
                && let (Some(kind), Some(id)) = (kind.as_str(), id.as_str())
            {
                return format!("{kind}::{id:?}");
            }
            value.to_string()
        }
        _ => value.to_string(),
    }
}

fn render_call(call: &Value) -> String {
    let name = call.pointer("/fn").and_then(Value::as_str).unwrap_or("?");
    let arguments: Vec<String> = match (call.pointer("/arg"), call.pointer("/args")) {
        (Some(argument), _) => vec![render(argument)],
        (None, Some(Value::Array(arguments))) => arguments.iter().map(render).collect(),
        _ => Vec::new(),
    };
    match arguments.split_first() {
        Some((first, rest)) if name == "offset" => format!("{first}.offset({})", rest.join(", ")),
        _ => format!("{name}({})", arguments.join(", ")),
    }
}

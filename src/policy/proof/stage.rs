//! What is asked about, prepared once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::{Policy, PolicyId, RequestEnv, Schema, SchemaFragment};
use cedar_policy_core::ast::EntityUID;
use cedar_policy_symcc::CompiledSchema;
use serde_json::{Value, json};

use super::promise::{self, Subject};
use super::report::{Claim, Topic, Unsettled};
use super::shape;
use super::{Bundle, Task};
use crate::model::{Operation, Problem};
use crate::policy::bundle::Document;
use crate::policy::entities::Target;
use crate::policy::schema::{assemble, resource_kind};
use crate::policy::slice::CompiledPolicy;
use crate::policy::source::{Chain, Sources};
use crate::policy::value::Kind;

/// Everything that questions are made from.
pub(super) struct Stage<'a> {
    pub(super) schema: CompiledSchema,
    pub(super) policies: Vec<Prepared<'a>>,
    pub(super) invariants: Vec<Prepared<'a>>,
    pub(super) old: Option<Old<'a>>,
    pub(super) sorts: Vec<SortOfRequest<'a>>,
    /// What keeps the comparison with the old bundle from being asked at all.
    pub(super) incomparable: Option<Unsettled>,
    mentioned: BTreeSet<EntityUID>,
}

/// A policy or an invariant.
pub(super) struct Prepared<'a> {
    pub(super) id: String,
    pub(super) policy: Policy,
    pub(super) compiled: &'a CompiledPolicy,
    pub(super) topic: Topic,
    json: Value,
}

/// The older bundle.
pub(super) struct Old<'a> {
    pub(super) policies: Vec<Prepared<'a>>,
    operations: HashMap<&'a str, &'a Operation>,
}

/// One operation, asked for by one type of caller.
pub(super) struct SortOfRequest<'a> {
    pub(super) operation: &'a Operation,
    pub(super) principal: Kind,
    pub(super) env: RequestEnv,
    target: &'a Target,
}

impl<'a> Stage<'a> {
    pub(super) fn prepare(task: &Task<'a>) -> Result<Self, Vec<Problem>> {
        let bundle = task.bundle;
        let policies = prepared(&bundle.policies.sources, Claim::NeverErrors)?;
        let mut invariants = prepared(&bundle.policies.invariants.sources, Claim::Invariant)?;
        invariants.extend(prepared(&task.invariants.sources, Claim::Invariant)?);
        unique(&invariants)?;
        let incomparable = task.old.and_then(|old| incomparable(&bundle, &old));
        let old = task.old.filter(|_| incomparable.is_none());
        let schema = match old {
            Some(old) => common_schema(&bundle, &old)?,
            None => bundle.policies.schema().clone(),
        };
        let old = old.map(Old::prepare).transpose()?;
        let of_old = old.iter().flat_map(|old| &old.policies);
        let everything = policies.iter().chain(&invariants).chain(of_old);
        let mentioned = everything.flat_map(|one| one.policy.entity_literals());
        Ok(Self {
            mentioned: mentioned
                .map(|uid| AsRef::<EntityUID>::as_ref(&uid).clone())
                .collect(),
            schema: CompiledSchema::new(&schema).map_err(|error| {
                let error = Chain(&error);
                vec![Problem::new(format!(
                    "the schema cannot be put to a solver: {error}"
                ))]
            })?,
            sorts: sorts(&bundle),
            policies,
            invariants,
            old,
            incomparable,
        })
    }

    /// What every request of a sort keeps to, as conditions in Cedar's JSON form.
    pub(super) fn promise(&self, sort: &SortOfRequest<'_>) -> Result<Vec<Value>, String> {
        let subject = Subject {
            operation: sort.operation,
            route: &sort.target.route,
            principal: sort.principal,
        };
        let conditions = promise::conditions(&subject, &self.mentioned);
        let when = conditions.iter().map(|one| format!(" when {{ {one} }}"));
        let text = format!(
            "permit (principal, action, resource){};",
            when.collect::<String>()
        );
        let policy = Policy::parse(None, text).map_err(|error| Chain(&error).to_string())?;
        let mut json = policy
            .to_json()
            .map_err(|error| Chain(&error).to_string())?;
        Ok(shape::conditions(&mut json))
    }
}

impl SortOfRequest<'_> {
    /// Whether a policy's scope can hold for requests of this sort.
    pub(super) fn fits(&self, one: &Prepared<'_>) -> bool {
        let resource = resource_kind(self.operation);
        one.compiled
            .fits(&self.target.action, self.principal, resource)
    }
}

impl Prepared<'_> {
    /// Whether it decides. A shadow policy only says what it would decide.
    pub(super) fn is_live(&self) -> bool {
        !self.compiled.obligation.shadow
    }

    /// The policy in the shape that a solver is given.
    pub(super) fn plain(&self) -> Result<Policy, String> {
        self.shaped(&[], None)
    }

    /// The policy for requests that keep a promise: for all others it is false, and does not error.
    pub(super) fn promised(&self, promise: &[Value]) -> Result<Policy, String> {
        self.shaped(promise, None)
    }

    /// The same as a permit, whatever it was.
    pub(super) fn promised_permit(&self, promise: &[Value]) -> Result<Policy, String> {
        self.shaped(promise, Some("permit"))
    }

    fn shaped(&self, promise: &[Value], effect: Option<&str>) -> Result<Policy, String> {
        let mut json = self.json.clone();
        let own = shape::conditions(&mut json);
        // The promise first, so that the policy's own conditions are met only by requests that keep it.
        let all = promise.iter().cloned().chain(own);
        if let Some(members) = json.as_object_mut() {
            let all = shape::all_of(all.collect());
            let body = all.map(|body| json!([{ "kind": "when", "body": body }]));
            members.insert("conditions".to_owned(), body.unwrap_or_else(|| json!([])));
            if let Some(effect) = effect {
                members.insert("effect".to_owned(), json!(effect));
            }
        }
        Policy::from_json(Some(PolicyId::new(&self.id)), json)
            .map_err(|error| Chain(&error).to_string())
    }
}

impl<'a> Old<'a> {
    fn prepare(bundle: Bundle<'a>) -> Result<Self, Vec<Problem>> {
        let operations = bundle.operations.iter();
        Ok(Self {
            policies: prepared(&bundle.policies.sources, Claim::NoMoreThanOld)?,
            operations: operations.map(|one| (&*one.id, &**one)).collect(),
        })
    }

    /// What the old bundle's API documents say otherwise of an operation, `None` where nothing.
    pub(super) fn described_otherwise(&self, operation: &Operation) -> Option<&'static str> {
        match self.operations.get(&*operation.id) {
            None => Some("the old bundle does not know the operation"),
            Some(old) if *old != operation => {
                Some("the old bundle's API documents describe the operation otherwise")
            }
            Some(_) => None,
        }
    }
}

fn prepared(sources: &Sources, claim: Claim) -> Result<Vec<Prepared<'_>>, Vec<Problem>> {
    let all = sources.compiled.iter().map(|compiled| {
        let id = compiled.id.to_string();
        let policy = sources.set.policy(&PolicyId::new(&id));
        let policy = policy.ok_or_else(|| Problem::new(format!("the policy `{id}` is lost")))?;
        let json = policy.to_json().map_err(|error| {
            Problem::new(format!(
                "the policy `{id}` has no JSON form: {}",
                Chain(&error)
            ))
        })?;
        // Anew, so that a template's link is a policy like any other.
        let policy =
            Policy::from_json(Some(PolicyId::new(&id)), json.clone()).map_err(|error| {
                let error = Chain(&error);
                Problem::new(format!("the policy `{id}` cannot be read again: {error}"))
            })?;
        let place = sources.places.get(&*id).cloned();
        Ok(Prepared {
            topic: Topic {
                claim,
                id: Some(id.clone()),
                place,
            },
            id,
            policy,
            compiled,
            json,
        })
    });
    all.collect::<Result<_, Problem>>()
        .map_err(|problem| vec![problem])
}

fn unique(invariants: &[Prepared<'_>]) -> Result<(), Vec<Problem>> {
    let mut known = BTreeSet::new();
    let mut problems = Vec::new();
    for one in invariants {
        if !known.insert(&one.id) {
            let id = &one.id;
            let problem = Problem::new(format!("there is another invariant `{id}`"));
            problems.push(match &one.topic.place {
                Some((file, line, column)) => problem.in_file(file).at(*line, *column),
                None => problem,
            });
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

fn sorts<'a>(bundle: &Bundle<'a>) -> Vec<SortOfRequest<'a>> {
    let mut sorts = Vec::new();
    for operation in bundle.operations {
        // INVARIANT: every operation has a slice; one without is not judged, and so denied.
        let Some(slice) = bundle.policies.slices.get(&operation.id) else {
            continue;
        };
        for principal in Kind::PRINCIPALS {
            let action = slice.target.action.uid().clone();
            sorts.push(SortOfRequest {
                operation,
                principal,
                env: RequestEnv::new(
                    principal.entity_type().clone().into(),
                    action.into(),
                    resource_kind(operation).entity_type().clone().into(),
                ),
                target: &slice.target,
            });
        }
    }
    sorts
}

/// Why two bundles cannot be held against each other, if they cannot.
fn incomparable(new: &Bundle<'_>, old: &Bundle<'_>) -> Option<Unsettled> {
    let reason = if forms(&new.files.schema) != forms(&old.files.schema) {
        "the bundles have different schemas, so that the same words may mean different things; compare a bundle with the new \
         schema and the old policies first"
    } else if values(&new.files.entities) != values(&old.files.entities) {
        "the bundles have different entities (roles, owners), which decide too; compare a bundle with the new entities and \
         the old policies by its tests first"
    } else {
        return None;
    };
    Some(Unsettled {
        topic: Topic {
            claim: Claim::NoMoreThanOld,
            id: None,
            place: None,
        },
        reason: reason.to_owned(),
    })
}

/// Schemas without their comments and layout.
fn forms(documents: &[Document]) -> Vec<Option<Value>> {
    documents
        .iter()
        .map(|document| {
            let fragment: SchemaFragment = document.text.parse().ok()?;
            fragment.to_json_value().ok()
        })
        .collect()
}

fn values(documents: &[Document]) -> Vec<Option<Value>> {
    documents
        .iter()
        .map(|document| serde_json::from_str(&document.text).ok())
        .collect()
}

/// The schema in which both bundles' policies can be read: it knows the operations of either.
fn common_schema(new: &Bundle<'_>, old: &Bundle<'_>) -> Result<Schema, Vec<Problem>> {
    let mut operations: Vec<Arc<Operation>> = new.operations.to_vec();
    let known: BTreeSet<&str> = new.operations.iter().map(|one| &*one.id).collect();
    let more = old
        .operations
        .iter()
        .filter(|one| !known.contains(&*one.id));
    operations.extend(more.cloned());
    assemble(&new.files.schema, &operations).map(|grounds| grounds.whole().clone())
}

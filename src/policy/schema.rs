//! The schema a bundle is judged by: its own files, one action for each documented operation, and proof that it still
//! fits what Cardea says of a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::{Schema, SchemaFragment};
use cedar_policy_core::ast::{EntityUID, Request};
use cedar_policy_core::entities::{Dereference, Entities, TCComputation};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::CoreSchema;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::bounds::types::too_many;
use super::bounds::{Grammar, Measure};
use super::bundle::Document;
use super::entities::{anonymous, numbers_entity, params_entity};
use super::evidence::{Evidence, Plan};
use super::source::{Chain, problem};
use super::statics::StaticEntities;
use super::validate::Grounds;
use super::value::Kind;
use crate::model::{
    AccessRequest, Binding, Caller, CanonicalPath, Delegation, Emergency, Facts, Host,
    IdentityAttributes, Matched, Method, Moment, Operation, PathRules, PrincipalKind, Problem,
    ResourceRule, ServiceAccount, SpiffeId,
};

/// Builds the schema from a bundle's files and its operations.
pub(super) fn assemble(
    documents: &[Document],
    operations: &[Arc<Operation>],
) -> Result<Grounds, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut fragments = Vec::new();
    let mut measure = Measure::new(Grammar::Schema);
    for document in documents {
        if let Err(limit) = measure.take(document) {
            problems.push(limit);
            continue;
        }
        match document.text.parse::<SchemaFragment>() {
            Ok(fragment) => fragments.push(fragment),
            Err(error) => problems.push(problem(&error, document)),
        }
    }
    if documents.is_empty() {
        problems.push(
            Problem::new("the bundle holds no schema")
                .hint("copy `schema/cardea.cedarschema` from the default bundle"),
        );
    }
    let grows = (1..=fragments.len()).find_map(|count| {
        let problem = too_many(fragments.get(..count)?, operations.len())?;
        let document = documents.get(count - 1).filter(|_| problems.is_empty());
        Some(match document {
            Some(document) => problem.in_file(&document.path),
            None => problem,
        })
    });
    problems.extend(grows);
    if !problems.is_empty() {
        return Err(problems);
    }
    let generated =
        SchemaFragment::from_json_value(generated_actions(operations)).map_err(|error| {
            vec![Problem::new(format!(
                "cannot make the operations' actions: {error}"
            ))]
        })?;
    let all = fragments.iter().cloned().chain([generated]);
    let whole = Schema::from_schema_fragments(all).map_err(|error| {
        let mut problem = Problem::new(format!("the schema does not hold together: {error}"));
        if let [document] = documents {
            problem = problem.in_file(&document.path);
        }
        vec![problem.hint("each documented operation has an action of its own already; declare types and attributes only")]
    })?;
    Ok(Grounds::new(fragments, operations, whole))
}

/// One action for each operation that a document describes, in Cedar's JSON form, so that no id is ever parsed.
pub(super) fn generated_actions(operations: &[Arc<Operation>]) -> serde_json::Value {
    let principals = Kind::PRINCIPALS.map(Kind::name);
    let actions: BTreeMap<&str, serde_json::Value> = operations
        .iter()
        .filter(|operation| operation.documented)
        .map(|operation| {
            let action = json!({
                "memberOf": [{ "id": action_group(operation.method) }],
                "appliesTo": {
                    "principalTypes": principals,
                    "resourceTypes": [resource_kind(operation).name()],
                    "context": { "type": "Ctx" },
                },
            });
            (&*operation.id, action)
        })
        .collect();
    json!({ "Cardea": { "entityTypes": {}, "actions": actions } })
}

/// The group of actions a method belongs to.
pub(super) fn action_group(method: Method) -> &'static str {
    match method {
        Method::Get | Method::Head | Method::Options => "read",
        Method::Post | Method::Put | Method::Patch => "write",
        Method::Delete => "delete",
    }
}

/// The type of entity an operation acts on.
pub(super) fn resource_kind(operation: &Operation) -> Kind {
    match operation.resource {
        ResourceRule::Route => Kind::Route,
        ResourceRule::Object { .. } => Kind::Object,
    }
}

/// Holds the least and the most that Cardea says of a request against the schema, for every type of principal, so that
/// a schema that moved away is refused at load and not met by a policy at run time.
pub(super) fn check_vocabulary(
    schema: &Schema,
    actions: &Entities,
    statics: &StaticEntities,
    operations: &[Arc<Operation>],
) -> Vec<Problem> {
    // Documented operations have actions that Cardea writes, so that one of each kind stands for all; the generic ones are
    // the bundle's own, and each may have moved away alone.
    let documented = |rule: fn(&ResourceRule) -> bool| {
        operations
            .iter()
            .find(move |o| o.documented && rule(&o.resource))
    };
    let generic = operations.iter().filter(|o| !o.documented);
    let mut problems: Vec<Problem> = documented(|rule| *rule == ResourceRule::Route)
        .into_iter()
        .chain(documented(|rule| *rule != ResourceRule::Route))
        .chain(generic)
        .flat_map(Probe::both)
        .flat_map(|probe| probe.problems(schema, actions, statics))
        .collect();
    problems.sort();
    problems.dedup();
    problems
}

/// A request made up to try the schema with.
struct Probe {
    matched: Matched,
    request: AccessRequest,
    facts: Facts,
    full: bool,
}

impl Probe {
    fn both(operation: &Arc<Operation>) -> Vec<Self> {
        [false, true]
            .into_iter()
            .filter_map(|full| {
                Some(Self {
                    matched: Matched {
                        operation: Arc::clone(operation),
                        parameters: vec![("id".into(), "1".to_owned())],
                    },
                    request: probe_request()?,
                    facts: if full { full_facts() } else { Facts::default() },
                    full,
                })
            })
            .collect()
    }

    fn problems(
        &self,
        schema: &Schema,
        actions: &Entities,
        statics: &StaticEntities,
    ) -> Vec<Problem> {
        let Some(action) = action_entity(actions, &self.matched.operation.id) else {
            let id = &self.matched.operation.id;
            return vec![Problem::new(format!("the schema has no action `{id}`"))];
        };
        let target = statics.target(&self.matched.operation, action);
        let kinds = [
            Some(PrincipalKind::User),
            Some(PrincipalKind::Client),
            Some(PrincipalKind::Workload),
            Some(PrincipalKind::Agent),
            None,
        ];
        let wrong = kinds.into_iter().filter_map(|kind| {
            let principal = match kind {
                Some(kind) => statics.principal(&probe_identity(kind, self.full)),
                None => anonymous(),
            };
            let resource = statics.resource(&self.matched, &target);
            let entities = [
                Arc::clone(&principal.0.entity),
                Arc::clone(&principal.0.claims),
                resource.clone(),
                Arc::new(params_entity(&self.matched)),
                Arc::new(numbers_entity()),
            ];
            let evidence = Evidence {
                principal: &principal.0,
                request: &self.request,
                matched: &self.matched,
                facts: &self.facts,
            };
            conforms(
                schema,
                [
                    principal.0.entity.uid(),
                    target.action.uid(),
                    resource.uid(),
                ],
                &evidence,
                entities,
            )
            .err()
        });
        wrong
            .map(|error| {
                Problem::new(format!("the schema does not fit what a request says: {error}"))
                    .hint("start from `schema/cardea.cedarschema` of the default bundle, and only add to it")
            })
            .collect()
    }
}

fn conforms(
    schema: &Schema,
    [principal, action, resource]: [&EntityUID; 3],
    evidence: &Evidence<'_>,
    entities: [Arc<cedar_policy_core::ast::Entity>; 5],
) -> Result<(), String> {
    let extensions = Extensions::all_available();
    Entities::new()
        .add_entities(
            entities,
            Some(&CoreSchema::new(schema.as_ref())),
            TCComputation::AssumeAlreadyComputed,
            extensions,
        )
        .map_err(|error| Chain(&error).to_string())?;
    Request::new(
        (principal.clone(), None),
        (action.clone(), None),
        (resource.clone(), None),
        Plan::everything().context(evidence),
        Some(schema.as_ref()),
        extensions,
    )
    .map(drop)
    .map_err(|error| Chain(&error).to_string())
}

/// The entity of an action, with the groups it is in.
pub(super) fn action_entity(
    actions: &Entities,
    id: &str,
) -> Option<Arc<cedar_policy_core::ast::Entity>> {
    match actions.entity(&Kind::Action.uid(id)) {
        Dereference::Data(entity) => Some(Arc::new(entity.clone())),
        Dereference::NoSuchEntity | Dereference::Residual(_) => None,
    }
}

fn probe_request() -> Option<AccessRequest> {
    Some(AccessRequest::bare(
        Host::parse("probe.invalid").ok()?,
        CanonicalPath::parse("/", PathRules::default()).ok()?,
    ))
}

fn full_facts() -> Facts {
    let some = || Some("x".to_owned());
    let mut facts = Facts {
        moment: Moment {
            now: Timestamp::UNIX_EPOCH,
            local_time: SignedDuration::ZERO,
            weekday: 1,
        },
        delegation: Some(Delegation {
            subject: "x".to_owned(),
            agent: some(),
            client: some(),
            workload: some(),
            depth: 1,
            scopes: vec!["x".to_owned()],
            purpose: some(),
            human_approved: true,
        }),
        emergency: Some(Emergency {
            ticket: "x".to_owned(),
            approver: "x".to_owned(),
            expires_at: Timestamp::UNIX_EPOCH,
        }),
        ..Facts::default()
    };
    facts.tls.sni = some();
    let peer = probe_identity(PrincipalKind::Workload, true);
    facts.tls.peer = Some(Caller::Supposed(Arc::new(peer)));
    facts.device.id = some();
    facts.device.platform = some();
    facts.device.assessed_at = Some(Timestamp::UNIX_EPOCH);
    facts.risk.reasons = vec!["x".to_owned()];
    facts
}

fn probe_identity(kind: PrincipalKind, full: bool) -> IdentityAttributes {
    let some = || full.then(|| "x".to_owned());
    let list = || some().into_iter().collect::<Vec<_>>();
    IdentityAttributes {
        client_id: some(),
        audience: list(),
        scopes: list(),
        amr: list(),
        acr: some(),
        mfa: full,
        auth_time: full.then_some(Timestamp::UNIX_EPOCH),
        issued_at: full.then_some(Timestamp::UNIX_EPOCH),
        token_id: some(),
        spiffe: full
            .then(|| SpiffeId::parse("spiffe://probe.invalid/ns/x/sa/x"))
            .flatten(),
        service_account: full.then(|| ServiceAccount::new("x", "x")).flatten(),
        binding: some().map(Binding::Key),
        roles: list(),
        groups: list(),
        tenant: some(),
        claims: some().map(|name| (name, list())).into_iter().collect(),
        ..IdentityAttributes::of(
            kind,
            // Says the most of a client.
            if full { "api_key" } else { "bearer_jwt" },
            ("https://probe.invalid".into(), "x".to_owned()),
            Timestamp::UNIX_EPOCH,
        )
    }
}

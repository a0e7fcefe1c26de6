//! Every judgement is held against Cedar's own authorizer, asked about the full set with the full context.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Entities, Request};
use cedar_policy_core::ast::{EntityUIDEntry, Request as CoreRequest};
use cedar_policy_core::entities::Entities as CoreEntities;
use proptest::prelude::*;

use super::fixture::{World, compile, operations};
use crate::model::{Delegation, PrincipalKind};
use crate::policy::entities::{numbers_entity, params_entity, store};
use crate::policy::evidence::{Evidence, Plan};
use crate::policy::{Policies, Question};

/// What can be said of a judgement: the verdict, who determined it, who failed.
type Said = (bool, BTreeSet<String>, BTreeSet<String>);

/// A request with its full context, and every entity it may speak of.
pub(super) fn request_of(
    policies: &Policies,
    question: Question<'_>,
) -> (CoreRequest, CoreEntities) {
    let principal = &question.principal.0;
    let target = &policies.slices[&question.matched.operation.id].target;
    let resource = policies.statics.resource(question.matched, target);
    let entities = store([
        Arc::clone(&principal.entity),
        Arc::clone(&principal.claims),
        Arc::clone(&target.action),
        Arc::clone(&resource),
        Arc::new(params_entity(question.matched)),
        Arc::new(numbers_entity()),
    ]);
    let evidence = Evidence {
        principal,
        request: question.request,
        matched: question.matched,
        facts: question.facts,
    };
    let request = CoreRequest::new_unchecked(
        EntityUIDEntry::known(principal.entity.uid().clone(), None),
        EntityUIDEntry::known(target.action.uid().clone(), None),
        EntityUIDEntry::known(resource.uid().clone(), None),
        Some(Plan::everything().context(&evidence)),
    );
    (request, entities.unwrap())
}

fn cedar_says(policies: &Policies, question: Question<'_>) -> Said {
    let (request, entities) = request_of(policies, question);
    let response = Authorizer::new().is_authorized(
        &Request::from(request),
        &policies.sources.set,
        &Entities::from(entities),
    );
    (
        response.decision() == Decision::Allow,
        response
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect(),
        response
            .diagnostics()
            .errors()
            .map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    error.policy_id().to_string()
                }
            })
            .collect(),
    )
}

fn we_say(policies: &Policies, question: Question<'_>) -> Said {
    let judgement = policies.judge(question);
    (
        judgement.verdict.is_ok(),
        judgement
            .determining
            .iter()
            .map(ToString::to_string)
            .collect(),
        judgement
            .faults
            .iter()
            .map(|fault| fault.policy.to_string())
            .collect(),
    )
}

const PRINCIPALS: [&str; 8] = [
    "principal",
    "principal is Cardea::User",
    "principal is Cardea::Anonymous",
    r#"principal == Cardea::User::"https://i|alice""#,
    r#"principal in Cardea::Role::"r0""#,
    r#"principal in Cardea::Role::"above""#,
    r#"principal is Cardea::User in Cardea::Group::"g0""#,
    r#"principal is Cardea::Client in Cardea::Role::"r0""#,
];

const ACTIONS: [&str; 7] = [
    "action",
    r#"action == Cardea::Action::"a0.get""#,
    r#"action == Cardea::Action::"http:GET""#,
    r#"action in Cardea::Action::"read""#,
    r#"action in Cardea::Action::"write""#,
    r#"action in [Cardea::Action::"delete", Cardea::Action::"a1.list"]"#,
    r#"action in [Cardea::Action::"a0.get"]"#,
];

const RESOURCES: [&str; 9] = [
    "resource",
    "resource is Cardea::Object",
    "resource is Cardea::Route",
    r#"resource == Cardea::Object::"a0/things/1""#,
    r#"resource == Cardea::Route::"GET /a0/things""#,
    r#"resource in Cardea::Api::"a0""#,
    r#"resource in Cardea::Tag::"t0""#,
    r#"resource in Cardea::Route::"GET /a0/things/{id}""#,
    r#"resource is Cardea::Object in Cardea::Tenant::"acme""#,
];

const CONDITIONS: [&str; 11] = [
    "",
    "when { context.token.scopes.contains(\"s0\") }",
    "when { context.token.assurance >= 2 }",
    "unless { context.request.documented }",
    "when { context has delegation }",
    "when { context has delegation && context.delegation.subject.sub == \"mallory\" }",
    "when { context.signals.rateRatioPct * 1000 > 100000 }",
    "when { context.request.params.hasTag(\"id\") && context.request.params.getTag(\"id\") == \"1\" }",
    "when { context.time.localTime < duration(\"18h\") } unless { context.network.ip.isLoopback() }",
    "when { resource.api.lifecycle == \"unknown\" }",
    "when { if context.tls.mutual then false else context.request.method like \"*E*\" }",
];

/// The index of one choice in each of the lists, and whether the policy forbids.
type Shape = (bool, usize, usize, usize, usize);

fn policy((forbid, principal, action, resource, condition): Shape) -> String {
    let effect = if forbid { "forbid" } else { "permit" };
    let scope = [PRINCIPALS[principal], ACTIONS[action], RESOURCES[resource]].join(", ");
    format!("{effect} ({scope}) {};\n", CONDITIONS[condition])
}

/// Compiles the policies that pass strict validation, one a line; those that can never hold together are left out.
fn compile_valid(shapes: Vec<Shape>) -> Option<(String, Policies)> {
    let mut lines: Vec<String> = shapes.into_iter().map(policy).collect();
    for _ in 0..2 {
        match compile(&[("p.cedar", &lines.concat())], &[("e.json", ENTITIES)]) {
            Ok(policies) => return Some((lines.concat(), policies)),
            Err(problems) => {
                for problem in problems {
                    lines[problem.at?.0 - 1] = "\n".to_owned();
                }
            }
        }
    }
    None
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (
        any::<bool>(),
        0..PRINCIPALS.len(),
        0..ACTIONS.len(),
        0..RESOURCES.len(),
        0..CONDITIONS.len(),
    );
    prop::collection::vec(shape, 1..12)
}

const ENTITIES: &str = r#"[
    {"uid":{"type":"Cardea::Role","id":"r0"},"parents":[{"type":"Cardea::Role","id":"above"}]},
    {"uid":{"type":"Cardea::User","id":"https://i|alice"},"parents":[{"type":"Cardea::Group","id":"g0"}]},
    {"uid":{"type":"Cardea::Object","id":"a0/things/1"},"parents":[{"type":"Cardea::Tenant","id":"acme"}]}
]"#;

pub(super) fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for operation in operations() {
        for who in 0..5 {
            let mut world = World::new(&operation.id, if who % 2 == 0 { "1" } else { "2" });
            match who {
                0 => {}
                1 => world.attributes = None,
                2 => world.attributes.as_mut().unwrap().kind = PrincipalKind::Client,
                3 => world.facts.signals.rate_ratio_pct = i64::MAX,
                _ => {
                    let attributes = world.attributes.as_mut().unwrap();
                    attributes.subject = "bob".to_owned();
                    attributes.roles.clear();
                    attributes.assurance = 3;
                    world.facts.delegation = Some(Delegation {
                        subject: "mallory".to_owned(),
                        agent: None,
                        client: None,
                        workload: None,
                        depth: 1,
                        scopes: Vec::new(),
                        purpose: None,
                        human_approved: true,
                    });
                }
            }
            worlds.push(world);
        }
    }
    worlds
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn e5_a_slice_says_what_cedar_says_of_the_full_set(shapes in shapes()) {
        let compiled = compile_valid(shapes);
        prop_assume!(compiled.is_some());
        let (text, policies) = compiled.unwrap();
        for world in worlds() {
            let principal = world.principal(&policies);
            let question = world.question(&principal);
            let (allowed, determining, failed) = cedar_says(&policies, question);
            let ours = we_say(&policies, question);
            let forbid_failed = failed.iter().any(|id| {
                let policy = policies.sources.compiled.iter().find(|policy| *policy.id == **id);
                policy.unwrap().effect == cedar_policy_core::ast::Effect::Forbid
            });
            // The one difference that is meant: a forbid in error denies.
            let expected = if allowed && forbid_failed {
                (false, BTreeSet::new(), failed)
            } else {
                (allowed, determining, failed)
            };
            prop_assert_eq!(ours, expected, "{}", text);
        }
    }
}

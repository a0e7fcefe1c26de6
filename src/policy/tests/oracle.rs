//! Every judgement is held against Cedar's own authorizer, asked about the full set with the full context.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Entities, Request};
use cedar_policy_core::ast::{EntityUIDEntry, Request as CoreRequest};
use cedar_policy_core::entities::Entities as CoreEntities;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::fixture::{World, compile_linked, delegation, operations};
use crate::model::{Caller, IdentityAttributes, PrincipalKind, SpiffeId};
use crate::policy::entities::{numbers_entity, params_entity, store};
use crate::policy::evidence::Plan;
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
    let always = [
        Arc::clone(&principal.entity),
        Arc::clone(&principal.claims),
        Arc::clone(&target.action),
        Arc::clone(&resource),
        Arc::new(params_entity(question.matched)),
        Arc::new(numbers_entity()),
    ];
    let peer = policies.statics.peer(question.facts, principal);
    let entities = store(always.into_iter().chain(peer));
    let evidence = question.evidence();
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
        judgement.verdict.permitted(),
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

const CONDITIONS: [&str; 13] = [
    "",
    "when { context.token.scopes.contains(\"s0\") }",
    "when { context.token.assurance >= 2 }",
    "when { context.token.mfa }",
    "unless { context.request.documented }",
    "when { context has delegation }",
    "when { context has delegation && context.delegation.subject.sub == \"mallory\" }",
    "when { context.signals.rateRatioPct * 1000 > 100000 }",
    "when { context.request.params.hasTag(\"id\") && context.request.params.getTag(\"id\") == \"1\" }",
    "when { context.time.localTime < duration(\"18h\") } unless { context.network.ip.isLoopback() }",
    "when { resource.api.lifecycle == \"unknown\" }",
    "when { context.tls has peer && context.tls.peer has namespace && context.tls.peer.namespace == \"shop\" && context.tls.peer in Cardea::TrustDomain::\"example.com\" }",
    "when { if context.tls.mutual then false else context.request.method like \"*E*\" }",
];

/// Slots of a template's scope, and what its links may fill them with.
const SLOTS: [&str; 2] = ["principal == ?principal", "principal in ?principal"];
const RESOURCE_SLOTS: [&str; 2] = ["resource == ?resource", "resource in ?resource"];
const FILLS: [(&str, &str); 3] = [
    ("Cardea::User", "https://i|alice"),
    ("Cardea::Role", "above"),
    ("Cardea::Group", "g0"),
];
const RESOURCE_FILLS: [(&str, &str); 3] = [
    ("Cardea::Object", "a0/things/1"),
    ("Cardea::Api", "a1"),
    ("Cardea::Tag", "t0"),
];

/// One generated policy: the index of a choice in each of the lists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    forbid: bool,
    action: usize,
    condition: usize,
    scope: Scope,
}

#[derive(Debug, Clone, Copy)]
enum Scope {
    Fixed {
        principal: usize,
        resource: usize,
    },
    /// A template, and what its two links fill in.
    Linked {
        principal: (usize, [usize; 2]),
        resource: Option<(usize, [usize; 2])>,
    },
}

impl Shape {
    /// The policy, in one line.
    fn policy(self, number: usize) -> String {
        let effect = if self.forbid { "forbid" } else { "permit" };
        let (id, principal, resource) = match self.scope {
            Scope::Fixed {
                principal,
                resource,
            } => (String::new(), PRINCIPALS[principal], RESOURCES[resource]),
            Scope::Linked {
                principal,
                resource,
            } => (
                format!("@id(\"t{number}\") "),
                SLOTS[principal.0],
                resource.map_or("resource", |(slot, _)| RESOURCE_SLOTS[slot]),
            ),
        };
        let scope = [principal, ACTIONS[self.action], resource].join(", ");
        format!("{id}{effect} ({scope}) {};\n", CONDITIONS[self.condition])
    }

    /// Its links, in one line, as JSON; nothing for a policy that is no template.
    fn links(self, number: usize) -> String {
        let Scope::Linked {
            principal,
            resource,
        } = self.scope
        else {
            return "\n".to_owned();
        };
        let reference = |(kind, id): (&str, &str)| serde_json::json!({ "type": kind, "id": id });
        let links = [0, 1].map(|link| {
            let mut entry = serde_json::json!({
                "id": format!("t{number}-{link}"),
                "template": format!("t{number}"),
                "principal": reference(FILLS[principal.1[link]]),
            });
            if let Some((_, fills)) = resource {
                entry["resource"] = reference(RESOURCE_FILLS[fills[link]]);
            }
            format!("{entry},")
        });
        format!("{}\n", links.concat())
    }

    /// The features it has, for the coverage of the generator.
    fn features(self) -> Vec<String> {
        let mut features = vec![
            format!("action {}", ACTIONS[self.action]),
            format!("condition {}", CONDITIONS[self.condition]),
            format!("forbid {}", self.forbid),
        ];
        match self.scope {
            Scope::Fixed {
                principal,
                resource,
            } => {
                features.push(PRINCIPALS[principal].to_owned());
                features.push(RESOURCES[resource].to_owned());
                if (principal, self.action, resource) == (0, 0, 0) {
                    features.push("no scope at all".to_owned());
                }
            }
            Scope::Linked {
                principal,
                resource,
            } => {
                features.push(SLOTS[principal.0].to_owned());
                features.extend(resource.map(|(slot, _)| RESOURCE_SLOTS[slot].to_owned()));
            }
        }
        features
    }
}

/// Every feature a thorough run has met: all scopes, actions, conditions, slots, and every way a judgement can end.
fn every_feature() -> BTreeSet<String> {
    let lists: [&[&str]; 4] = [&PRINCIPALS, &RESOURCES, &SLOTS, &RESOURCE_SLOTS];
    let mut features: BTreeSet<String> = lists.concat().into_iter().map(str::to_owned).collect();
    features.extend(ACTIONS.map(|action| format!("action {action}")));
    features.extend(CONDITIONS.map(|condition| format!("condition {condition}")));
    features.extend(
        [
            "forbid true",
            "forbid false",
            "no scope at all",
            "ends in allow",
            "ends in a forbid",
            "ends with no permit",
            "a permit errs",
            "a forbid errs where Cedar would allow",
        ]
        .map(str::to_owned),
    );
    features
}

/// Compiles the policies that pass strict validation, one a line, with some `more` behind them; those that can never hold
/// together are left out.
pub(super) fn compile_valid(shapes: &mut Vec<Shape>, more: &str) -> Option<(String, Policies)> {
    let mut keep: Vec<Option<Shape>> = shapes.iter().copied().map(Some).collect();
    for _ in 0..3 {
        let line = |write: fn(Shape, usize) -> String| -> String {
            let lines = keep.iter().enumerate();
            lines
                .map(|(number, shape)| shape.map_or("\n".to_owned(), |shape| write(shape, number)))
                .collect()
        };
        let text = line(Shape::policy) + more;
        let links = format!("[{}]", line(Shape::links));
        match compile_linked(&text, &links, ENTITIES) {
            Ok(policies) => {
                *shapes = keep.into_iter().flatten().collect();
                return Some((format!("{text}{links}"), policies));
            }
            Err(problems) => {
                for problem in problems {
                    *keep.get_mut(problem.at?.0 - 1)? = None;
                }
            }
        }
    }
    None
}

pub(super) fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let fixed =
        (0..PRINCIPALS.len(), 0..RESOURCES.len()).prop_map(|(principal, resource)| Scope::Fixed {
            principal,
            resource,
        });
    let slot = |slots: usize, fills: usize| (0..slots, [0..fills, 0..fills]);
    let linked = (
        slot(SLOTS.len(), FILLS.len()),
        prop::option::of(slot(RESOURCE_SLOTS.len(), RESOURCE_FILLS.len())),
    )
        .prop_map(|(principal, resource)| Scope::Linked {
            principal,
            resource,
        });
    let scope = prop_oneof![3 => fixed, 1 => linked];
    let shape = (any::<bool>(), 0..ACTIONS.len(), 0..CONDITIONS.len(), scope).prop_map(
        |(forbid, action, condition, scope)| Shape {
            forbid,
            action,
            condition,
            scope,
        },
    );
    let unscoped = (any::<bool>(), 0..CONDITIONS.len()).prop_map(|(forbid, condition)| Shape {
        forbid,
        action: 0,
        condition,
        scope: Scope::Fixed {
            principal: 0,
            resource: 0,
        },
    });
    prop::collection::vec(prop_oneof![8 => shape, 1 => unscoped], 1..12)
}

const ENTITIES: &str = r#"[
    {"uid":{"type":"Cardea::Role","id":"r0"},"parents":[{"type":"Cardea::Role","id":"above"}]},
    {"uid":{"type":"Cardea::User","id":"https://i|alice"},"parents":[{"type":"Cardea::Group","id":"g0"}]},
    {"uid":{"type":"Cardea::Object","id":"a0/things/1"},"parents":[{"type":"Cardea::Tenant","id":"acme"}]}
]"#;

/// A workload on the connection.
fn supposed_workload() -> Caller {
    let id = SpiffeId::parse("spiffe://example.com/ns/shop/sa/web").unwrap();
    let attributes = IdentityAttributes::workload(id, jiff::Timestamp::UNIX_EPOCH);
    Caller::Supposed(Arc::new(attributes))
}

pub(super) fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for operation in operations() {
        for who in 0..5 {
            let mut world = World::new(&operation.id, if who % 2 == 0 { "1" } else { "2" });
            match who {
                0 => {}
                1 => world.attributes = None,
                2 => world.attributes.as_mut().unwrap().kind = PrincipalKind::Client,
                3 => {
                    world.facts.signals.rate_ratio_pct = i64::MAX;
                    world.facts.tls.prove(supposed_workload());
                }
                _ => {
                    let attributes = world.attributes.as_mut().unwrap();
                    attributes.subject = "bob".to_owned();
                    attributes.roles.clear();
                    attributes.assurance = 3;
                    attributes.mfa = true;
                    world.facts.delegation = Some(delegation(true));
                }
            }
            worlds.push(world);
        }
    }
    worlds
}

/// Holds one set against Cedar, for every world; says which features it met.
fn compare(
    policies: &Policies,
    text: &str,
    met: &mut BTreeSet<String>,
) -> Result<(), TestCaseError> {
    for world in worlds() {
        let principal = world.principal(policies);
        let question = world.question(&principal);
        let (allowed, determining, failed) = cedar_says(policies, question);
        let ours = we_say(policies, question);
        let forbids = |id: &String| {
            let policy = policies
                .sources
                .compiled
                .iter()
                .find(|policy| *policy.id == **id);
            policy.unwrap().effect == cedar_policy_core::ast::Effect::Forbid
        };
        let forbid_failed = failed.iter().any(forbids);
        met.insert(match (allowed, determining.is_empty()) {
            (true, _) => "ends in allow".to_owned(),
            (false, false) => "ends in a forbid".to_owned(),
            (false, true) => "ends with no permit".to_owned(),
        });
        if failed.iter().any(|id| !forbids(id)) {
            met.insert("a permit errs".to_owned());
        }
        // The one difference that is meant: a forbid in error denies.
        let expected = if allowed && forbid_failed {
            met.insert("a forbid errs where Cedar would allow".to_owned());
            (false, BTreeSet::new(), failed)
        } else {
            (allowed, determining, failed)
        };
        prop_assert_eq!(ours, expected, "{}", text);
    }
    Ok(())
}

/// How many sets are compared: few in a test run, more where a figure is asked for.
#[expect(
    clippy::disallowed_methods,
    reason = "a figure asks for more sets than a test run has time for"
)]
pub(super) fn sets() -> u32 {
    std::env::var("CARDEA_ORACLE_SETS")
        .ok()
        .and_then(|sets| sets.parse().ok())
        .unwrap_or(64)
}

#[test]
fn e5_a_slice_says_what_cedar_says_of_the_full_set() {
    let config = ProptestConfig {
        cases: sets(),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // The same sets in every run, so that what they cover is known; a figure's run draws more of them.
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let met = std::cell::RefCell::new(BTreeSet::new());
    let compared = std::cell::Cell::new(0_u32);
    runner
        .run(&shapes(), |mut shapes| {
            let compiled = compile_valid(&mut shapes, "");
            prop_assume!(compiled.is_some());
            let (text, policies) = compiled.unwrap();
            let mut met = met.borrow_mut();
            met.extend(shapes.into_iter().flat_map(Shape::features));
            compared.set(compared.get() + 1);
            compare(&policies, &text, &mut met)
        })
        .unwrap();
    let missed: Vec<_> = every_feature().difference(&met.borrow()).cloned().collect();
    assert_eq!(
        missed,
        Vec::<String>::new(),
        "the generator met every feature"
    );
    assert!(compared.get() >= sets());
    print_figure(compared.get());
}

/// For whoever collects figures: `cargo test -- --nocapture` shows it.
#[expect(
    clippy::print_stdout,
    reason = "a figure is printed for the script that collects it"
)]
fn print_figure(sets: u32) {
    println!("figure slice_checked_sets {sets} sets");
}

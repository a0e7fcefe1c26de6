//! A proof is worth what its premises are worth: every request that Cardea builds keeps its promises.

use std::collections::BTreeSet;

use cedar_policy::{Authorizer, Entities, PolicySet, Request};
use cedar_policy_core::ast::EntityUID;

use super::fixture::{World, operations, user};
use super::oracle::{request_of, worlds};
use super::*;
use crate::model::{Delegation, IdentityAttributes, OnBehalf, PrincipalKind};
use crate::policy::proof::promise::{Subject, conditions};
use crate::policy::value::Kind;

/// Entities that a policy might name: of the world, and of no world.
fn mentioned() -> BTreeSet<EntityUID> {
    let of = |kind: Kind, ids: [&str; 3]| ids.map(|id| kind.uid(id)).to_vec();
    [
        of(Kind::Api, ["a0", "a1", "none"]),
        of(Kind::Tag, ["t0", "none", "t\"0\u{1}"]),
        of(
            Kind::Route,
            ["GET /a0/things", "GET /a0/things/{id}", "none"],
        ),
        of(Kind::Role, ["r0", "above", "none"]),
    ]
    .concat()
    .into_iter()
    .collect()
}

/// An agent of another issuer that acts for a user: the token speaks of the user.
fn acting(id: &str) -> World {
    let mut world = World::new(id, "1");
    let bob = user("bob");
    let agent = IdentityAttributes {
        on_behalf: Some(OnBehalf {
            subject: Box::new(bob.clone()),
            earlier: Vec::new(),
            purpose: None,
            human_approved: false,
        }),
        ..IdentityAttributes::of(
            PrincipalKind::Agent,
            "bearer_jwt",
            ("https://agents".into(), "bot".to_owned()),
            bob.expires_at,
        )
    };
    world.facts.delegation = Delegation::of(&agent);
    world.attributes = Some(agent);
    world
}

#[test]
fn every_request_that_cardea_builds_keeps_the_promises_of_proofs() {
    let policies = compile("permit (principal, action, resource);").unwrap();
    let mut held = 0;
    let acting = operations().into_iter().map(|one| acting(&one.id));
    for world in worlds().into_iter().chain(acting) {
        let principal = world.principal(&policies);
        // Whoever acts for somebody is judged, and so is that somebody.
        for principal in std::iter::once(&principal).chain(&principal.0.subject) {
            let broken = broken(&policies, world.question(principal));
            assert!(
                broken.is_empty(),
                "{}: {broken:?}",
                world.matched.operation.id
            );
            held += 1;
        }
    }
    assert_eq!(held, operations().len() * 7);
}

/// The promises that a request does not keep.
fn broken(policies: &Policies, question: Question<'_>) -> Vec<String> {
    let (request, entities) = request_of(policies, question);
    let operation = &question.matched.operation;
    let subject = Subject {
        operation,
        route: &policies.slices[&operation.id].target.route,
        principal: question.principal.0.kind,
    };
    // Each alone, so that a broken one shows.
    let promises = conditions(&subject, &mentioned());
    let permits = promises
        .iter()
        .map(|promise| format!("permit (principal, action, resource) when {{ {promise} }};\n"));
    let set: PolicySet = permits.collect::<String>().parse().unwrap();
    let (request, entities) = (Request::from(request), Entities::from(entities));
    let response = Authorizer::new().is_authorized(&request, &set, &entities);
    let reasons = response.diagnostics().reason();
    let kept: BTreeSet<String> = reasons.map(ToString::to_string).collect();
    let broken = promises.into_iter().enumerate();
    broken
        .filter(|(number, _)| !kept.contains(&format!("policy{number}")))
        .map(|(_, promise)| promise)
        .collect()
}

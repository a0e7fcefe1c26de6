//! A proof is worth what its premises are worth: every request that Cardea builds keeps its promises.

use std::collections::BTreeSet;

use cedar_policy::{Authorizer, Entities, PolicySet, Request};
use cedar_policy_core::ast::EntityUID;

use super::fixture::operations;
use super::oracle::{request_of, worlds};
use super::*;
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

#[test]
fn every_request_that_cardea_builds_keeps_the_promises_of_proofs() {
    let policies = compile("permit (principal, action, resource);").unwrap();
    let mut held = 0;
    for world in worlds() {
        let principal = world.principal(&policies);
        let question = world.question(&principal);
        let (request, entities) = request_of(&policies, question);
        let operation = &world.matched.operation;
        let subject = Subject {
            operation,
            route: &policies.slices[&operation.id].target.route,
            principal: principal.0.kind,
        };
        // Each alone, so that a broken one shows.
        let promises = conditions(&subject, &mentioned());
        let permits = promises
            .iter()
            .map(|promise| format!("permit (principal, action, resource) when {{ {promise} }};\n"));
        let set: PolicySet = permits.collect::<String>().parse().unwrap();
        let response = Authorizer::new().is_authorized(
            &Request::from(request),
            &set,
            &Entities::from(entities),
        );
        let errors: Vec<_> = response.diagnostics().errors().collect();
        let kept: BTreeSet<String> = response
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect();
        let broken = promises
            .iter()
            .enumerate()
            .filter(|(number, _)| !kept.contains(&format!("policy{number}")))
            .map(|(_, promise)| promise);
        let broken: Vec<&String> = broken.collect();
        assert!(broken.is_empty(), "{}: {broken:?} {errors:?}", operation.id);
        held += 1;
    }
    assert_eq!(held, operations().len() * 5);
}

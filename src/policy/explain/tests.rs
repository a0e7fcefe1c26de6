use super::*;
use crate::policy::tests::fixture::{World, compile};

const POLICIES: &str = r#"
@id("read-by-role")
permit (principal in Cardea::Role::"order-viewer", action in Cardea::Action::"read", resource in Cardea::Api::"a0")
when { context.token.scopes.contains("orders:read") && context.token.audience.contains("aud") };

@id("read-with-strong-login")
permit (principal is Cardea::User, action == Cardea::Action::"a0.list", resource)
when { context.token.assurance >= 3 && context.token has authTime &&
       context.time.now.durationSince(context.token.authTime) <= duration("5m") &&
       context.token.amr.contains("hwk") }
unless { context.network.ip.isLoopback() };

@id("elsewhere")
permit (principal, action == Cardea::Action::"a1.list", resource);

@id("no-agents-at-night")
forbid (principal, action, resource)
when { context.tls.mutual };
"#;

fn explain(world: &World) -> Explanation {
    let policies = compile(&[("dir/p.cedar", POLICIES)], &[]).unwrap();
    let principal = world.principal(&policies);
    let question = world.question(&principal);
    policies.explain(question, &policies.judge(question))
}

#[test]
fn a_default_deny_names_the_nearest_permits_and_what_they_lacked() {
    let mut world = World::new("a0.list", "");
    world.attributes.as_mut().unwrap().roles.clear();
    let explanation = explain(&world);
    assert_eq!(explanation.policies, []);
    let nearest: Vec<(&str, &[String])> = explanation
        .nearest
        .iter()
        .map(|nearest| (&*nearest.policy.id, &*nearest.changes))
        .collect();
    assert_eq!(
        nearest.len(),
        2,
        "a permit for another operation is not near"
    );
    assert_eq!(nearest[0].0, "read-by-role");
    assert_eq!(
        nearest[0].1,
        ["the role `order-viewer`", "scope `orders:read`"]
    );
    assert_eq!(nearest[1].0, "read-with-strong-login");
    assert_eq!(
        nearest[1].1,
        [
            "a login of assurance 3 or more",
            "that `context.token has authTime` holds",
            "a login of at most 5m",
            "a login by `hwk`",
        ]
    );
}

#[test]
fn what_the_nearest_permit_lacked_is_what_makes_it_apply() {
    let mut world = World::new("a0.list", "");
    let attributes = world.attributes.as_mut().unwrap();
    attributes.roles = vec!["order-viewer".to_owned()];
    attributes.scopes = vec!["orders:read".to_owned()];
    let explanation = explain(&world);
    assert_eq!(explanation.nearest, []);
    assert_eq!(explanation.policies.len(), 1);
    let policy = &explanation.policies[0];
    assert_eq!(
        (&*policy.id, policy.effect, policy.line),
        ("read-by-role", "permit", 2)
    );
    assert!(
        policy
            .clauses
            .iter()
            .all(|clause| clause.state == State::Held)
    );
    let scopes = policy
        .clauses
        .iter()
        .find(|clause| clause.text.contains("scopes"))
        .unwrap();
    assert_eq!(
        scopes.text,
        r#"context.token.scopes.contains("orders:read")"#
    );
    assert_eq!(
        scopes.facts,
        [Fact {
            path: "context.token.scopes".to_owned(),
            value: Some(r#"["orders:read"]"#.to_owned()),
            origin: "the caller's credential",
        }]
    );
}

#[test]
fn a_forbid_shows_the_facts_it_read_and_no_near_misses() {
    let mut world = World::new("a0.list", "");
    world.facts.tls.mutual = true;
    let explanation = explain(&world);
    assert_eq!(explanation.nearest, []);
    let policy = &explanation.policies[0];
    assert_eq!(
        (&*policy.id, policy.effect),
        ("no-agents-at-night", "forbid")
    );
    let fact = &policy.clauses.last().unwrap().facts[0];
    assert_eq!(
        (&*fact.path, fact.value.as_deref()),
        ("context.tls.mutual", Some("true"))
    );
}

#[test]
fn clauses_that_make_no_sense_after_a_failed_one_are_not_reached() {
    let mut world = World::new("a0.list", "");
    world.attributes.as_mut().unwrap().assurance = 1;
    let nearest = explain(&world).nearest;
    let strong = nearest
        .iter()
        .find(|n| &*n.policy.id == "read-with-strong-login")
        .unwrap();
    let states: Vec<(&str, State)> = strong
        .policy
        .clauses
        .iter()
        .skip(3)
        .map(|clause| (clause.text.as_str(), clause.state))
        .collect();
    assert_eq!(states[0], ("context.token.assurance >= 3", State::Failed));
    assert_eq!(states[2].1, State::NotReached);
    assert_eq!(
        states[4],
        ("unless { context.network.ip.isLoopback() }", State::Held)
    );
}

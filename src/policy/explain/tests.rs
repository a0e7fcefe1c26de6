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
    policies.explain(question)
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
            "a login of at most 5 minutes",
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
fn a_login_by_one_factor_is_told_what_it_lacked() {
    let policies = r#"@id("two") permit (principal, action, resource) when { context.token.mfa };"#;
    let policies = compile(&[("p.cedar", policies)], &[]).unwrap();
    let world = World::new("a0.list", "");
    let principal = world.principal(&policies);
    let nearest = policies.explain(world.question(&principal)).nearest;
    assert_eq!(nearest[0].changes, ["a login by more than one factor"]);
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

const MORE: &str = r#"
@id("claim")
permit (principal, action == Cardea::Action::"a0.list", resource)
when { context.token.claims.hasTag("dept") && context.token.claims.getTag("dept").contains("sales") };

@id("shadowed") @mode("shadow")
permit (principal, action == Cardea::Action::"a0.list", resource) when { context.geo.inOffice };

@id("fresh") @on_deny("step_up") @max_age("300")
forbid (principal, action, resource)
when { context.risk.score >= 60 }
unless { context.token.assurance >= 3 && context.token has authTime };

@id("never")
forbid (principal, action, resource) when { context.tls.mutual };
"#;

fn explain_more(world: &World) -> Explanation {
    let policies = compile(&[("p.cedar", MORE)], &[]).unwrap();
    let principal = world.principal(&policies);
    let question = world.question(&principal);
    policies.explain(question)
}

fn in_department(department: &str) -> World {
    let mut world = World::new("a0.list", "");
    let claims = &mut world.attributes.as_mut().unwrap().claims;
    claims.insert("dept".to_owned(), vec![department.to_owned()]);
    world
}

#[test]
fn a_claim_that_was_read_is_shown_by_its_name() {
    let explanation = explain_more(&in_department("sales"));
    let clause = explanation.policies[0].clauses.last().unwrap();
    assert_eq!(
        clause.facts,
        [Fact {
            path: "context.token.claims[\"dept\"]".to_owned(),
            value: Some("[\"sales\"]".to_owned()),
            origin: "the caller's credential",
        }]
    );
}

#[test]
fn a_permit_that_does_not_count_is_no_near_miss() {
    let explanation = explain_more(&in_department("law"));
    let nearest: Vec<&str> = explanation.nearest.iter().map(|n| &*n.policy.id).collect();
    assert_eq!(nearest, ["claim"]);
    assert_eq!(explanation.step_up, None);
}

#[test]
fn a_login_is_offered_or_not_for_a_reason() {
    let mut world = in_department("sales");
    world.facts.risk.score = 60;
    let offer = explain_more(&world).step_up.unwrap();
    assert!(offer.offered, "{offer:?}");

    world.facts.tls.mutual = true;
    let offer = explain_more(&world).step_up.unwrap();
    assert_eq!(
        (offer.offered, offer.because.as_str()),
        (false, "`never` would forbid it after any login")
    );

    let mut world = in_department("law");
    world.facts.risk.score = 60;
    let explanation = explain_more(&world);
    let offer = explanation.step_up.unwrap();
    assert_eq!(
        (offer.offered, offer.because.as_str()),
        (false, "no permit would apply after it either")
    );
    assert_eq!(&*explanation.nearest[0].policy.id, "claim");
}

#[test]
fn an_unless_of_several_conjuncts_is_taken_apart() {
    let mut world = in_department("sales");
    world.facts.risk.score = 60;
    let explanation = explain_more(&world);
    let unless = explanation.policies[0].clauses.last().unwrap();
    let parts: Vec<(&str, State)> = unless
        .parts
        .iter()
        .map(|part| (part.text.as_str(), part.state))
        .collect();
    assert_eq!(unless.state, State::Held);
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0], ("context.token.assurance >= 3", State::Failed));
    assert_eq!(unless.facts, []);
    assert_eq!(unless.parts[0].facts[0].path, "context.token.assurance");
}

#[test]
fn whom_the_caller_acts_for_is_explained_too() {
    let mut world = in_department("law");
    let user = world.attributes.take().unwrap();
    let mut agent = user.clone();
    agent.kind = crate::model::PrincipalKind::Agent;
    agent.subject = "agent".to_owned();
    agent
        .claims
        .insert("dept".to_owned(), vec!["sales".to_owned()]);
    agent.on_behalf = Some(crate::model::OnBehalf {
        subject: Box::new(user),
        earlier: Vec::new(),
        purpose: None,
        human_approved: false,
    });
    world.attributes = Some(agent);
    let explanation = explain_more(&world);
    assert_eq!(explanation.reason, "permitted");
    assert!(explanation.principal.starts_with("Cardea::Agent::"));
    let subject = explanation.subject.unwrap();
    assert_eq!(subject.reason, "not_permitted");
    assert!(subject.principal.starts_with("Cardea::User::"));
    assert_eq!(&*subject.nearest[0].policy.id, "claim");
}

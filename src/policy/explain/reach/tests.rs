use super::*;
use crate::policy::tests::fixture::{World, compile};

const ROLES: &str = r#"[
  { "uid": { "type": "Cardea::Role", "id": "editor" }, "parents": [{ "type": "Cardea::Role", "id": "viewer" }] }
]"#;

/// `policy: what is open` of everything that can apply.
fn reach(world: &World, text: &str, given: Given) -> Vec<String> {
    reached(world, text, given)
        .iter()
        .map(|reach| {
            let open: Vec<&str> = reach.open.iter().map(|open| &*open.wanted).collect();
            format!("{}: {}", reach.policy, open.join("; "))
        })
        .collect()
}

fn reached(world: &World, text: &str, given: Given) -> Vec<Reach> {
    let policies = compile(&[("p.cedar", text)], &[("roles.json", ROLES)]).unwrap();
    let principal = world.principal(&policies);
    policies.reach(world.question(&principal), given)
}

fn caller() -> Given {
    Given {
        caller: true,
        ..Given::default()
    }
}

fn as_role(operation: &str, role: &str) -> World {
    let mut world = World::new(operation, "1");
    world.attributes.as_mut().unwrap().roles = vec![role.to_owned()];
    world
}

const READ: &str = r#"
@id("by-role") permit (principal in Cardea::Role::"viewer", action in Cardea::Action::"read", resource in Cardea::Api::"a0")
when { context.token.scopes.contains("s0") && context.token.audience.contains("aud") };
@id("clients") permit (principal is Cardea::Client, action, resource);
@id("other-api") permit (principal, action == Cardea::Action::"a1.list", resource);
"#;

#[test]
fn what_is_not_given_is_open_and_what_is_given_is_settled() {
    let world = as_role("a0.list", "editor");
    assert_eq!(
        reach(&world, READ, caller()),
        ["by-role: scope `s0`; a token for the audience `aud`"]
    );
    let scopes = Given {
        scopes: true,
        ..caller()
    };
    assert_eq!(
        reach(&world, READ, scopes),
        ["by-role: a token for the audience `aud`"]
    );
    let mut wrong = as_role("a0.list", "editor");
    wrong.attributes.as_mut().unwrap().scopes = vec!["s1".to_owned()];
    assert_eq!(reach(&wrong, READ, scopes), [] as [&str; 0]);
    assert_eq!(
        reach(&as_role("a0.list", "x"), READ, caller()),
        [] as [&str; 0]
    );
}

#[test]
fn without_a_caller_every_policy_of_the_operation_is_named_with_whom_it_is_for() {
    let world = World::new("a0.list", "");
    let all = reached(&world, READ, Given::default());
    let who: Vec<(&str, &str)> = all.iter().map(|r| (&*r.policy, &*r.principal)).collect();
    assert_eq!(
        who,
        [
            ("by-role", "the role `viewer`"),
            ("clients", "a caller of type `Cardea::Client`")
        ]
    );
    assert_eq!(
        all[0].roles,
        ["viewer", "editor"],
        "a role includes those below it"
    );
    assert_eq!(all[0].open.len(), 2);
    assert_eq!(
        all[0].open[0].text,
        r#"context.token.scopes.contains("s0")"#
    );
}

#[test]
fn one_settled_side_decides_where_it_can() {
    let text = |condition: &str| {
        format!(
            r#"@id("p") permit (principal is Cardea::User, action == Cardea::Action::"a0.get", resource) when {{ {condition} }};"#
        )
    };
    let world = as_role("a0.get", "editor");
    let decided = |condition: &str| reach(&world, &text(condition), caller());
    for condition in [
        r#"principal in Cardea::Role::"viewer" || context.tls.mutual"#,
        r#"context.tls.mutual || principal in [Cardea::Role::"viewer"]"#,
        r#"!(context.tls.mutual && principal in Cardea::Role::"other")"#,
        r#"if principal in Cardea::Role::"viewer" then true else context.tls.mutual"#,
        r#"if context.tls.mutual then true else 1 == 1"#,
        r#"resource in Cardea::Api::"a0" && resource.api.lifecycle == "active" && resource.kind == "things""#,
        r#"context.request.documented && context.request.method == "GET" && action in Cardea::Action::"read""#,
    ] {
        assert_eq!(decided(condition), ["p: "], "{condition}");
    }
    for condition in [
        r#"principal in Cardea::Role::"other" && context.tls.mutual"#,
        r#"resource in Cardea::Api::"a1" || resource in Cardea::Tag::"t9""#,
        r#"if principal in Cardea::Role::"other" then context.tls.mutual else false"#,
    ] {
        assert_eq!(decided(condition), [] as [&str; 0], "{condition}");
    }
    for condition in [
        "resource has owner && resource.owner == principal",
        r#"resource in Cardea::Tenant::"t""#,
        r#"principal in Cardea::Tenant::"t""#,
        r#"principal == Cardea::User::"https://i|alice""#,
        r#"principal.sub == "alice""#,
        r#"resource.id == "1""#,
        r#"context.request.path == "/""#,
        "context.token.assurance >= 1",
        "!context.signals.quarantined",
        r#"[principal].contains(Cardea::User::"https://i|alice")"#,
    ] {
        assert!(!decided(condition).is_empty(), "{condition}");
        assert_ne!(decided(condition), ["p: "], "{condition}");
    }
}

#[test]
fn a_caller_given_by_name_settles_what_is_said_of_it() {
    let given = Given {
        issuer: true,
        subject: true,
        ..caller()
    };
    let text = r#"
@id("alice") permit (principal == Cardea::User::"https://i|alice", action == Cardea::Action::"a0.list", resource);
@id("bob") permit (principal == Cardea::User::"https://i|bob", action == Cardea::Action::"a0.list", resource);
@id("client") permit (principal == Cardea::Client::"c", action == Cardea::Action::"a0.list", resource);
@id("one-object") permit (principal is Cardea::User, action == Cardea::Action::"a0.get", resource == Cardea::Object::"a0/things/7");
"#;
    let list = World::new("a0.list", "");
    assert_eq!(reach(&list, text, given), ["alice: "]);
    assert_eq!(
        reach(&list, text, caller()),
        [
            "alice: to be `Cardea::User::\"https://i|alice\"`",
            "bob: to be `Cardea::User::\"https://i|bob\"`"
        ]
    );
    assert_eq!(
        reach(&World::new("a0.get", "1"), text, given),
        ["one-object: resource == Cardea::Object::\"a0/things/7\""]
    );
}

#[test]
fn nobody_in_particular_is_known_in_full() {
    let world = World::new("a0.list", "").anonymous();
    let text = r#"
@id("role") permit (principal in Cardea::Role::"viewer", action == Cardea::Action::"a0.list", resource);
@id("scope") permit (principal, action == Cardea::Action::"a0.list", resource) when { context.token.scopes.contains("s0") };
@id("open") permit (principal, action == Cardea::Action::"a0.list", resource) when { context.network.ipTrusted };
@id("never") forbid (principal is Cardea::Anonymous, action == Cardea::Action::"a0.list", resource);
"#;
    assert_eq!(
        reach(&world, text, caller()),
        ["open: that `context.network.ipTrusted` holds", "never: "]
    );
}

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
        "if context.tls.mutual then true else 1 == 1",
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

/// Requests that differ from `world` in what a [`caller`] leaves open, each in one respect or all.
fn variations(world: impl Fn() -> World) -> Vec<World> {
    let changes: [fn(&mut World); 10] = [
        |_| {},
        |w| w.facts.tls.mutual = true,
        |w| w.facts.risk.score = 90,
        |w| w.facts.signals.quarantined = true,
        |w| w.facts.network.ip_trusted = true,
        |w| w.attributes.as_mut().unwrap().scopes = vec!["s1".to_owned(), "s2".to_owned()],
        |w| w.attributes.as_mut().unwrap().audience = vec!["other".to_owned()],
        |w| w.attributes.as_mut().unwrap().assurance = 3,
        |w| w.attributes.as_mut().unwrap().tenant = Some("t1".to_owned()),
        |w| w.attributes.as_mut().unwrap().subject = "7".to_owned(),
    ];
    let mut all: Vec<World> = Vec::new();
    for id in ["1", "7"] {
        for change in &changes {
            let mut varied = world();
            varied.matched.parameters = vec![("id".into(), id.to_owned())];
            change(&mut varied);
            all.push(varied);
        }
        let mut varied = world();
        for change in &changes {
            change(&mut varied);
        }
        all.push(varied);
    }
    all
}

#[test]
fn nothing_that_is_called_settled_is_turned_round_by_what_is_open() {
    let text = r#"
@id("a") permit (principal in Cardea::Role::"viewer", action, resource) when { context.token.scopes.contains("s1") };
@id("b") permit (principal is Cardea::User, action in Cardea::Action::"read", resource in Cardea::Api::"a0");
@id("c") permit (principal, action, resource in Cardea::Tag::"special");
@id("d") permit (principal, action, resource) when { !(principal in Cardea::Role::"other") || context.tls.mutual };
@id("e") permit (principal, action, resource) when { principal in Cardea::Tenant::"t1" };
@id("f") permit (principal is Cardea::User, action, resource) when { context.request.params.hasTag("id") && context.request.params.getTag("id") == principal.sub };
@id("g") permit (principal, action, resource) when { resource in Cardea::Tag::"t0" && resource.api.name == "a0" };
@id("h") permit (principal, action, resource) when { if context.network.ipTrusted then context.token.assurance > 2 else principal in Cardea::Role::"viewer" };
@id("i") permit (principal == Cardea::User::"https://i|7", action, resource);
@id("j") permit (principal, action, resource == Cardea::Object::"a0/things/7") unless { context.risk.score > 50 };
"#;
    let objects = r#"[{ "uid": { "type": "Cardea::Object", "id": "a0/things/7" }, "parents": [{ "type": "Cardea::Tag", "id": "special" }] }]"#;
    let policies = compile(
        &[("p.cedar", text)],
        &[("o.json", objects), ("r.json", ROLES)],
    )
    .unwrap();
    let mut sure = 0;
    for operation in ["a0.get", "a0.list", "a0.drop", "a1.get"] {
        for role in ["viewer", "editor", "other", "none"] {
            let world = || as_role(operation, role);
            let asked = world();
            let principal = asked.principal(&policies);
            let reached = policies.reach(asked.question(&principal), caller());
            for varied in variations(world) {
                let principal = varied.principal(&policies);
                let judged = policies.judge(varied.question(&principal)).determining;
                for id in "abcdefghij".chars().map(|id| id.to_string()) {
                    let known = reached.iter().find(|reach| *reach.policy == *id);
                    let applied = judged.iter().any(|spoke| **spoke == *id);
                    match known {
                        None => assert!(!applied, "{id} can apply to {operation} by {role}"),
                        Some(reach) if reach.open.is_empty() => {
                            sure += 1;
                            assert!(applied, "{id} need not apply to {operation} by {role}");
                        }
                        Some(_) => {}
                    }
                }
            }
        }
    }
    assert!(sure > 500, "{sure}");
}

#[test]
fn a_policy_in_shadow_mode_gives_and_takes_nothing() {
    let text = r#"
@id("p") @mode("shadow") permit (principal, action == Cardea::Action::"a0.list", resource);
@id("f") @mode("shadow") forbid (principal, action, resource);
@id("live") permit (principal is Cardea::Client, action == Cardea::Action::"a0.list", resource);
"#;
    assert_eq!(
        reach(&World::new("a0.list", ""), text, caller()),
        [] as [&str; 0]
    );
    let policies = compile(&[("p.cedar", text)], &[]).unwrap();
    let permits: Vec<String> = policies.permits().map(ToString::to_string).collect();
    assert_eq!(permits, ["live"]);
}

//! The room as a whole: what bundles it takes and refuses, and that it judges as Cedar itself would.

mod files;
pub(super) mod fixture;
mod invariants;
mod memory;
mod observed;
mod oracle;
#[cfg(feature = "prove")]
mod promises;
mod validation;
mod verdicts;

use super::*;
use fixture::{BASE_SCHEMA, World, document, operations};

fn compile(policies: &str) -> Result<Policies, Vec<Problem>> {
    fixture::compile(&[("p.cedar", policies)], &[])
}

fn problems(policies: &str) -> String {
    let problems = compile(policies).expect_err("the bundle is refused");
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_bundle_without_policies_or_schema_is_refused() {
    assert!(problems("// nothing here").contains("the bundle holds no policy"));
    let files = BundleFiles {
        policies: vec![document("p.cedar", "permit (principal, action, resource);")],
        ..BundleFiles::default()
    };
    let problems = Policies::compile(&files, &operations()).unwrap_err();
    assert!(problems[0].message.contains("the bundle holds no schema"));
}

#[test]
fn mistakes_are_shown_with_file_line_and_column_and_all_at_once() {
    let text = problems(
        "permit (principal, action, resource);\n\n  permit (principal, action, resource) when {",
    );
    assert!(text.starts_with("p.cedar:3:"), "{text}");

    let text = problems(
        "permit (principal, action, resource)\nwhen { context.token.colour == 1 };\n\n\
         @ondeny(\"gone\")\nforbid (principal, action, resource);",
    );
    assert!(text.contains("p.cedar:4:1: `@ondeny`"), "{text}");

    let text = problems(
        "permit (principal, action, resource) when { context.token.colour == 1 };\n\
         forbid (principal, action, resource) when { context.risk.score == \"9\" };",
    );
    assert!(
        text.contains("p.cedar:1:45:") && text.contains("p.cedar:2:45:"),
        "{text}"
    );
    // One mistake is told once, however many actions it is made for.
    assert_eq!(text.matches("colour").count(), 1, "{text}");
    assert!(text.contains("Action::\"a0.create\" not found"), "{text}");
}

#[test]
fn a_policy_that_follows_more_than_one_step_is_refused() {
    let text = problems(
        "permit (principal is Cardea::Agent, action, resource)\n\
         when { principal has operator && principal.operator.kind == \"x\" };",
    );
    assert!(text.contains("level"), "{text}");
}

#[test]
fn a_workload_is_known_by_its_id_as_the_caller_and_beside_it() {
    let policies = compile(
        "@id(\"own\") permit (principal is Cardea::Workload in Cardea::TrustDomain::\"example.com\", action, resource)\n\
         when { principal has serviceAccount && principal.serviceAccount == \"web\" && principal has spiffeId && principal.spiffeId like \"*/web\" };\n\
         @id(\"beside\") permit (principal is Cardea::User, action, resource)\n\
         when { context.tls.mutual && context.tls has peer && context.tls.peer has namespace && context.tls.peer.namespace == \"shop\" };",
    )
    .unwrap();
    let workload = |id: &str| {
        let id = crate::model::SpiffeId::parse(id).unwrap();
        crate::model::IdentityAttributes::workload(id, jiff::Timestamp::UNIX_EPOCH)
    };
    let determining = |world: &World| {
        let principal = world.principal(&policies);
        let judgement = policies.judge(world.question(&principal));
        assert!(judgement.faults.is_empty(), "{:?}", judgement.faults);
        judgement.determining.join(",")
    };
    let mut world = World::new("a0.get", "1");
    assert_eq!(determining(&world), "");
    for (id, own, beside) in [
        ("spiffe://example.com/ns/shop/sa/web", "own", "beside"),
        ("spiffe://example.com/ns/other/sa/web", "own", ""),
        ("spiffe://evil.com/ns/shop/sa/web", "", "beside"),
        ("spiffe://example.com/web", "", ""),
    ] {
        let caller = crate::model::Caller::Supposed(Arc::new(workload(id)));
        world.facts.tls.prove(caller);
        world.attributes = Some(fixture::user("alice"));
        assert_eq!(determining(&world), beside, "{id}");
        // The caller may be the workload on the connection itself.
        world.attributes = Some(workload(id));
        assert_eq!(determining(&world), own, "{id}");
    }
}

#[test]
fn policy_ids_are_unique_over_all_files_and_plain() {
    let twice = "@id(\"a\") permit (principal, action, resource);";
    let error = fixture::compile(&[("1.cedar", twice), ("2.cedar", twice)], &[]).unwrap_err();
    assert!(
        error[0]
            .to_string()
            .starts_with("2.cedar:1:1: the policy id `a` is taken")
    );
    assert!(
        problems("@id(\"a,b\") permit (principal, action, resource);").contains("visible ASCII")
    );
    let named =
        compile("permit (principal, action, resource);\nforbid (principal, action, resource);")
            .unwrap();
    let ids: Vec<&str> = named
        .sources
        .compiled
        .iter()
        .map(|policy| &*policy.id)
        .collect();
    assert_eq!(ids, ["p#1", "p#2"]);
}

#[test]
fn a_template_is_judged_by_its_links() {
    let template = r#"@id("t") permit (principal == ?principal, action, resource in ?resource);"#;
    let link = |more: &str| {
        format!(
            r#"- {{ id: l, template: t, principal: {{ type: "Cardea::User", id: "https://i|alice" }}, {more} }}"#
        )
    };
    let api = r#"resource: { type: "Cardea::Api", id: "a0" }"#;
    let policies = fixture::compile_linked(template, &link(api), "[]").unwrap();
    for (operation, allowed) in [("a0.list", true), ("a1.list", false)] {
        let world = fixture::World::new(operation, "");
        let principal = world.principal(&policies);
        let judgement = policies.judge(world.question(&principal));
        assert_eq!(judgement.verdict.permitted(), allowed, "{operation}");
        let expected: &[std::sync::Arc<str>] = if allowed { &["l".into()] } else { &[] };
        assert_eq!(judgement.determining, expected);
    }
    for (links, expected) in [
        (
            link("resource: null"),
            "l.links.yaml:1:3: `l` cannot be linked",
        ),
        (
            "- { id: l, template: nothing }".to_owned(),
            "no template has the id `nothing`",
        ),
        (
            link("resource: { type: \"a b\", id: x }"),
            "`a b` is no entity type",
        ),
        (link("colour: red"), "l.links.yaml:1:"),
        ("{".to_owned(), "l.links.yaml:1:"),
        (
            format!("{}\n{}", link(api), link(api)),
            "l.links.yaml:2:3: `l` cannot be linked",
        ),
    ] {
        let problems = fixture::compile_linked(template, &links, "[]").unwrap_err();
        assert!(
            problems[0].to_string().contains(expected),
            "{links}: {}",
            problems[0]
        );
    }
    assert!(
        problems("permit (principal == ?principal, action, resource);").contains("needs an `@id`")
    );
}

#[test]
fn a_template_that_nothing_links_is_refused() {
    assert!(
        problems(r#"@id("t") permit (principal == ?principal, action, resource);"#)
            .contains("a template that nothing links")
    );
}

#[test]
fn a_schema_that_moved_away_is_refused_at_load() {
    let moved = BASE_SCHEMA.replace("assurance: Long", "assurance: String");
    let files = BundleFiles {
        schema: vec![document("s.cedarschema", &moved)],
        policies: vec![document("p.cedar", "permit (principal, action, resource);")],
        ..BundleFiles::default()
    };
    let problems = Policies::compile(&files, &operations()).unwrap_err();
    assert!(
        problems[0]
            .message
            .contains("does not fit what a request says"),
        "{problems:?}"
    );

    let broken = BundleFiles {
        schema: vec![document(
            "s.cedarschema",
            "namespace Cardea {\n  entity ;\n}",
        )],
        ..files.clone()
    };
    let problems = Policies::compile(&broken, &operations()).unwrap_err();
    assert!(
        problems[0].to_string().starts_with("s.cedarschema:2:"),
        "{}",
        problems[0]
    );

    let more = BASE_SCHEMA.replace("entity Tenant;", "entity Tenant; entity Ledger;");
    let files = BundleFiles {
        schema: vec![document("s.cedarschema", &more)],
        ..files
    };
    assert!(Policies::compile(&files, &operations()).is_ok());
}

#[test]
fn entities_that_do_not_fit_are_named() {
    let permit = "permit (principal, action, resource);";
    for (text, expected) in [
        ("{", "are not JSON"),
        ("{}", "are not a JSON list"),
        (
            r#"[{"uid":{"type":"Cardea::Role","id":"a"},"uid":{}}]"#,
            "occurs twice",
        ),
        (
            r#"[{"uid":{"type":"Cardea::Nothing","id":"a"}}]"#,
            "Cardea::Nothing::\"a\" does not fit",
        ),
        (
            r#"[{"uid":{"type":"Cardea::Role","id":"a"}},{"uid":{"type":"Cardea::Role","id":"a"}}]"#,
            "stands in e.json already",
        ),
        (
            r#"[{"uid":{"type":"Cardea::Role","id":"a"},"parents":[{"type":"Cardea::Role","id":"b"}]},
                {"uid":{"type":"Cardea::Role","id":"b"},"parents":[{"type":"Cardea::Role","id":"a"}]}]"#,
            "do not fit together",
        ),
    ] {
        let problems = fixture::compile(&[("p.cedar", permit)], &[("e.json", text)]).unwrap_err();
        assert!(
            problems[0].to_string().contains(expected),
            "{text}: {}",
            problems[0]
        );
    }
}

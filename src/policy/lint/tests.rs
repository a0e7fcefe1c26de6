use super::*;
use crate::policy::tests::fixture::{BASE_SCHEMA, compile, document, operations};

const ROLES: &str = r#"[
  { "uid": { "type": "Cardea::Role", "id": "editor" }, "parents": [{ "type": "Cardea::Role", "id": "viewer" }] },
  { "uid": { "type": "Cardea::Group", "id": "staff" } }
]"#;

/// A permit that keeps a set from being empty and from being warned of.
const FINE: &str = r#"@id("fine") permit (principal in Cardea::Role::"viewer", action == Cardea::Action::"a0.list", resource);"#;

fn lint_with(text: &str, entities: &[(&str, &str)], around: &Surroundings) -> Vec<String> {
    let text = format!("{FINE}\n{text}");
    let policies = compile(&[("p.cedar", &text)], entities).unwrap();
    let warnings = policies.lint(&operations(), around);
    warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.rule.name(), warning.problem))
        .collect()
}

fn lint(text: &str) -> Vec<String> {
    lint_with(text, &[], &Surroundings::default())
}

fn rules(text: &str) -> Vec<String> {
    let warnings = lint(text);
    let rule = |warning: &String| warning.split(':').next().unwrap().to_owned();
    warnings.iter().map(rule).collect()
}

#[test]
fn a_policy_whose_scope_fits_nothing_is_told() {
    assert_eq!(
        lint(
            r#"@id("x") permit (principal, action, resource in Cardea::Api::"nowhere") when { context.tls.mutual };"#
        ),
        [
            "never_applies: p.cedar:2:1: the policy `x` can never apply: no operation and caller fit its scope\n  \
             hint: compare its action, API, tag and route with `cardea generate schema`: names are compared to the letter"
        ]
    );
    for never in [
        r#"forbid (principal, action, resource in Cardea::Tag::"nowhere");"#,
        r#"forbid (principal, action, resource == Cardea::Route::"GET /nowhere");"#,
        r#"permit (principal == Cardea::Anonymous::"anonymous", action == Cardea::Action::"a0.drop", resource is Cardea::Route);"#,
        r#"permit (principal is Cardea::Anonymous in Cardea::Role::"viewer", action == Cardea::Action::"a0.list", resource);"#,
    ] {
        assert_eq!(rules(never), ["never_applies"], "{never}");
    }
}

#[test]
fn a_condition_that_no_request_meets_is_told_once() {
    let warnings = lint(
        r#"@id("x") permit (principal is Cardea::User, action == Cardea::Action::"a0.list", resource)
           when { principal is Cardea::Agent };"#,
    );
    assert_eq!(
        warnings,
        [
            "never_applies: p.cedar:2:1: the policy `x` can never apply: what it asks for holds for no request\n  \
             hint: no caller, operation and resource fit its scope and conditions together; compare them with `cardea generate schema`"
        ]
    );
}

#[test]
fn a_forbid_where_nothing_is_permitted_is_told() {
    assert_eq!(
        lint(
            r#"@id("x") forbid (principal, action == Cardea::Action::"a1.list", resource) when { context.tls.mutual };"#
        ),
        [
            "meets_no_permit: p.cedar:2:1: the forbid `x` meets no permit: nothing that it names is permitted anyway\n  \
             hint: compare its scope with that of the permits it should overrule, or leave it out"
        ]
    );
    for idle in [
        r#"forbid (principal, action, resource in Cardea::Api::"a1") when { context.tls.mutual };"#,
        r#"forbid (principal is Cardea::Anonymous, action == Cardea::Action::"a0.list", resource);"#,
        r#"forbid (principal is Cardea::User, action in [Cardea::Action::"a1.get"], resource);"#,
    ] {
        assert_eq!(rules(idle), ["meets_no_permit"], "{idle}");
    }
}

#[test]
fn a_forbid_that_meets_a_permit_or_stands_guard_is_no_mistake() {
    for useful in [
        r#"forbid (principal, action == Cardea::Action::"a0.list", resource) when { context.tls.mutual };"#,
        r#"forbid (principal in Cardea::Role::"other", action, resource in Cardea::Tag::"t0");"#,
        // A rule about kinds of callers and actions stands for permits that are yet to come.
        r#"forbid (principal is Cardea::Anonymous, action in [Cardea::Action::"write", Cardea::Action::"admin"], resource);"#,
        "forbid (principal, action, resource is Cardea::Object) when { context.tls.mutual };",
    ] {
        assert_eq!(lint(useful), [] as [&str; 0], "{useful}");
    }
}

#[test]
fn objects_named_on_both_sides_meet_only_if_they_are_the_same() {
    let permit = r#"permit (principal is Cardea::User, action == Cardea::Action::"a0.get", resource == Cardea::Object::"a0/things/1");"#;
    let forbid = |id: &str| {
        format!(
            r#"{permit} forbid (principal, action, resource == Cardea::Object::"a0/things/{id}") when {{ context.tls.mutual }};"#
        )
    };
    assert_eq!(rules(&forbid("1")), [] as [&str; 0]);
    assert_eq!(rules(&forbid("2")), ["meets_no_permit"]);
}

#[test]
fn a_permit_that_a_forbid_covers_is_told_with_the_forbids_place() {
    assert_eq!(
        lint(
            "@id(\"x\") permit (principal in Cardea::Role::\"r\", action == Cardea::Action::\"a1.get\", resource);\n\
             @id(\"no\") forbid (principal, action, resource in Cardea::Api::\"a1\");"
        ),
        [
            "shadowed: p.cedar:2:1: the permit `x` never decides: the forbid `no` (p.cedar:3) has no condition and covers all of it\n  \
             hint: leave out one of the two, or give the forbid a condition"
        ]
    );
    let below = |forbid: &str| {
        let permit = r#"permit (principal in Cardea::Role::"editor", action == Cardea::Action::"a0.get", resource);"#;
        let text = format!("{permit}\n{forbid}");
        lint_with(&text, &[("roles.json", ROLES)], &Surroundings::default()).len()
    };
    for (forbid, shadows) in [
        (
            r#"forbid (principal in Cardea::Role::"viewer", action == Cardea::Action::"a0.get", resource);"#,
            1,
        ),
        (
            r#"forbid (principal in Cardea::Role::"editor", action == Cardea::Action::"a0.get", resource is Cardea::Object);"#,
            1,
        ),
        (
            r#"forbid (principal is Cardea::User, action == Cardea::Action::"a0.get", resource);"#,
            0,
        ),
        (
            r#"forbid (principal in Cardea::Role::"editor", action == Cardea::Action::"a0.get", resource == Cardea::Object::"a0/things/1");"#,
            0,
        ),
        (
            r#"forbid (principal, action == Cardea::Action::"a0.get", resource) when { context.tls.mutual };"#,
            0,
        ),
    ] {
        assert_eq!(below(forbid), shadows, "{forbid}");
    }
}

#[test]
fn permits_without_a_scope_are_told() {
    assert_eq!(
        lint(r#"@id("x") permit (principal, action, resource) when { context.tls.mutual };"#),
        [
            "no_scope: p.cedar:2:1: the permit `x` has no scope: it speaks of every caller, operation and resource\n  \
             hint: name the operations it is about (`action == ..`) and the role it is for (`principal in ..`)"
        ]
    );
    assert_eq!(
        lint(r#"@id("x") permit (principal, action in Cardea::Action::"read", resource);"#),
        [
            "no_scope: p.cedar:2:1: the permit `x` lets everybody, without a credential too, call `a0.list`, `a0.get`, `a1.list` and 4 more\n  \
             hint: name the role it is for (`principal in ..`), or let the API document say that everybody may: `security: []`"
        ]
    );
    let public = r#"permit (principal, action == Cardea::Action::"a0.list", resource);"#;
    assert_eq!(rules(public), ["no_scope"]);
    let around = Surroundings {
        public: ["a0.list".into()].into(),
        ..Surroundings::default()
    };
    assert_eq!(lint_with(public, &[], &around), [] as [&str; 0]);
    for narrow in [
        r#"permit (principal, action == Cardea::Action::"a0.list", resource) when { context.tls.mutual };"#,
        "permit (principal is Cardea::User, action, resource);",
        r#"permit (principal, action, resource in Cardea::Tag::"t0");"#,
    ] {
        assert_eq!(lint(narrow), [] as [&str; 0], "{narrow}");
    }
}

#[test]
fn names_that_no_entity_file_knows_are_told_where_they_stand() {
    let text = "@id(\"x\")\npermit (principal in Cardea::Role::\"viewr\", action == Cardea::Action::\"a0.get\", resource)\n\
                when { principal in Cardea::Role::\"acme:boss\" || principal in Cardea::Group::\"nobody\" };";
    let entities = [("roles.json", ROLES)];
    let warnings = lint_with(text, &entities, &Surroundings::default());
    assert_eq!(
        warnings,
        [
            "unknown_role: p.cedar:3:22: the policy `x` names the role `viewr`, which no entity file knows\n  \
             hint: did you mean `viewer`?",
            "unknown_role: p.cedar:4:21: the policy `x` names the role `acme:boss`, which no entity file knows\n  \
             hint: describe it in the entity files, or set the issuer's `claims.role_prefix` if a token brings it",
            "unknown_group: p.cedar:4:63: the policy `x` names the group `nobody`, which no entity file knows\n  \
             hint: describe it in the entity files, or set the issuer's `claims.group_prefix` if a token brings it",
        ]
    );
    let around = Surroundings {
        role_prefixes: vec!["acme:".into(), String::new()],
        group_prefixes: vec!["no".into()],
        ..Surroundings::default()
    };
    assert_eq!(lint_with(text, &entities, &around).len(), 1);
    assert_eq!(
        lint(text),
        [] as [&str; 0],
        "without entity files nobody knows better"
    );
}

#[test]
fn p13_a_pattern_on_the_path_is_told_where_it_stands() {
    assert_eq!(
        lint(
            "@id(\"x\")\npermit (principal is Cardea::User, action == Cardea::Action::\"a0.get\", resource)\n\
             when { context.request.path like \"/public/*\" };"
        ),
        [
            "path_pattern: p.cedar:4:8: the policy `x` compares the path with a pattern, in which `*` matches `/` too\n  \
             hint: name what it means: `action == ..`, `resource in Cardea::Api::\"..\"` or `resource in Cardea::Tag::\"..\"`"
        ]
    );
    let host = r#"permit (principal is Cardea::User, action == Cardea::Action::"a0.get", resource) when { context.request.host like "*.example.com" };"#;
    assert_eq!(lint(host), [] as [&str; 0]);
}

#[test]
fn text_that_reads_otherwise_than_it_compares_is_told() {
    let confusable = "permit (principal in Cardea::Role::\"аdmin\", action == Cardea::Action::\"a0.get\", resource) when { context.token.scopes.contains(\"оrders\") };";
    let rules = rules(confusable);
    assert!(rules.contains(&"misleading_text".to_owned()), "{rules:?}");
}

#[test]
fn a_forbid_in_shadow_mode_shadows_nothing() {
    let text = r#"permit (principal in Cardea::Role::"r", action == Cardea::Action::"a1.get", resource);
        @mode("shadow") forbid (principal, action, resource in Cardea::Api::"a1");"#;
    assert_eq!(lint(text), [] as [&str; 0]);
}

#[test]
fn what_a_link_is_warned_of_stands_where_the_link_does() {
    let template = r#"@id("t") permit (principal == ?principal, action in Cardea::Action::"read", resource in ?resource)
        when { context.request.path like "/a/*" };"#;
    let link = "- id: one\n  template: t\n  principal: { type: 'Cardea::User', id: 'i|a' }\n  resource: { type: 'Cardea::Api', id: 'nowhere' }\n";
    let files = crate::policy::BundleFiles {
        schema: vec![document("s.cedarschema", BASE_SCHEMA)],
        policies: vec![document("p.cedar", template)],
        links: vec![document("links/l.yaml", &format!("\n{link}"))],
        ..Default::default()
    };
    let policies = Policies::compile(&files, &operations()).unwrap();
    let warnings = policies.lint(&operations(), &Surroundings::default());
    let told: Vec<String> = warnings
        .iter()
        .map(|w| w.problem.to_string().lines().next().unwrap().to_owned())
        .collect();
    assert_eq!(
        told,
        [
            "links/l.yaml:2:3: the policy `one` can never apply: no operation and caller fit its scope",
            "links/l.yaml:2:3: the policy `one` compares the path with a pattern, in which `*` matches `/` too",
        ]
    );
}

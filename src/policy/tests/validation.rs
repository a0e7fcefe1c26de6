//! Validation in parts finds what validation with the whole schema finds.

use std::collections::BTreeSet;

use cedar_policy::{ValidationMode, ValidationResult, Validator};

use super::fixture::{BASE_SCHEMA, document, operations};
use crate::policy::schema::assemble;
use crate::policy::source::Sources;

const ACTIONS: [&str; 8] = [
    "action",
    r#"action == Cardea::Action::"a0.get""#,
    r#"action == Cardea::Action::"http:GET""#,
    r#"action in Cardea::Action::"read""#,
    r#"action in [Cardea::Action::"delete", Cardea::Action::"a1.list"]"#,
    r#"action in [Cardea::Action::"a0.get", Cardea::Action::"a1.drop"]"#,
    r#"action == Cardea::Action::"a0.nothing""#,
    r#"action in [Cardea::Action::"a0.create", Cardea::Action::"a1.create"]"#,
];

const SCOPES: [&str; 6] = [
    "principal, ACTION, resource",
    "principal is Cardea::Agent, ACTION, resource",
    "principal, ACTION, resource is Cardea::Object",
    r#"principal in Cardea::Role::"r", ACTION, resource is Cardea::Route"#,
    "principal in ?principal, ACTION, resource",
    "principal is Cardea::Nobody, ACTION, resource",
];

/// Conditions that hold for every action, for some kinds of resource or principal only, that name actions, or are wrong.
const CONDITIONS: [&str; 11] = [
    "true",
    "context.token.scopes.contains(1)",
    "resource.kind == \"things\"",
    "principal.tier > 1",
    "context.nothing",
    r#"action == Cardea::Action::"a0.get" && resource.template == "x""#,
    r#"action in Cardea::Action::"write" || resource has owner"#,
    r#"if action == Cardea::Action::"a1.drop" then resource.kind == "x" else resource.sensitivity > 1"#,
    r#"action in [Cardea::Action::"a1.list", Cardea::Action::"a1.nothing"]"#,
    "resource.owner.tenant.name == \"x\"",
    "principal is Cardea::Agent && principal.tier > 1",
];

/// A message without the ids of actions: of alike actions it names the one it met.
fn nameless(message: &str) -> String {
    let mut parts = message.split("Cardea::Action::\"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (_, rest) = part.split_once('"').unwrap_or_default();
        text + "<action>" + rest
    })
}

/// What was found: the policy, what, and where.
fn found(results: &[ValidationResult]) -> BTreeSet<(String, String)> {
    let place = |finding: &dyn miette::Diagnostic| {
        let labels = finding.labels().into_iter().flatten();
        format!("{:?}", labels.map(|l| l.offset()).next())
    };
    let errors = results
        .iter()
        .flat_map(ValidationResult::validation_errors)
        .map(|error| (nameless(&error.to_string()), place(error)));
    let warnings = results
        .iter()
        .flat_map(ValidationResult::validation_warnings)
        .map(|warning| (nameless(&warning.to_string()), place(warning)));
    errors.chain(warnings).collect()
}

#[test]
fn e5_validation_in_parts_finds_what_validation_as_a_whole_finds() {
    let mut text = String::new();
    let mut links = String::new();
    let mut number = 0;
    for action in ACTIONS {
        for scope in SCOPES {
            for condition in CONDITIONS {
                number += 1;
                let scope = scope.replace("ACTION", action);
                text += &format!("@id(\"p{number}\") permit ({scope}) when {{ {condition} }};\n");
                if scope.contains('?') {
                    links += &format!(
                        "- {{ id: l{number}, template: p{number}, principal: {{ type: Cardea::Role, id: r }} }}\n"
                    );
                }
            }
        }
    }
    let sources = Sources::parse(&[document("p.cedar", &text)], &[document("l.yaml", &links)]);
    let sources = sources.unwrap();
    let schema = [document("s.cedarschema", BASE_SCHEMA)];
    let grounds = assemble(&schema, &operations()).unwrap();
    for level in [None, Some(1)] {
        let validator = Validator::new(grounds.whole().clone());
        let mode = ValidationMode::Strict;
        let whole = match level {
            Some(level) => validator.validate_with_level(&sources.set, mode, level),
            None => validator.validate(&sources.set, mode),
        };
        let parts = grounds.validate(&sources.set, level);
        assert!(parts.len() > 5, "the set was taken apart");
        let (whole, parts) = (found(&[whole]), found(&parts));
        assert!(whole.len() > 200, "the set holds mistakes");
        let differ: Vec<_> = whole.symmetric_difference(&parts).take(5).collect();
        assert!(differ.is_empty(), "{differ:#?}");
    }
}

#[test]
fn a_schema_of_the_bundles_own_that_names_an_operation_is_validated_as_a_whole() {
    let groups = r#"action "read", "write", "admin";"#;
    let mine = r#"action "mine" in [Action::"a1.list"] appliesTo { principal: User, resource: Route, context: Ctx };"#;
    assert!(BASE_SCHEMA.contains(groups));
    let own = BASE_SCHEMA.replacen(groups, &format!("{groups} {mine}"), 1);
    let grounds = assemble(&[document("s.cedarschema", &own)], &operations()).unwrap();
    let text = "permit (principal, action == Cardea::Action::\"a0.get\", resource) when { context.nothing };";
    let sources = Sources::parse(&[document("p.cedar", text)], &[]).unwrap();
    let problems = sources.validate(&grounds);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let text = "permit (principal, action == Cardea::Action::\"mine\", resource) when { resource.sensitivity > 1 };";
    let sources = Sources::parse(&[document("p.cedar", text)], &[]).unwrap();
    assert_eq!(sources.validate(&grounds), []);
}

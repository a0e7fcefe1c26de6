//! What an invariant may be.

use super::fixture::{BASE_SCHEMA, document, operations};
use crate::policy::{BundleFiles, Policies};

fn compile(invariant: &str) -> Result<Policies, String> {
    let files = BundleFiles {
        schema: vec![document("s.cedarschema", BASE_SCHEMA)],
        policies: vec![document("p.cedar", "permit (principal, action, resource);")],
        invariants: vec![document("i.cedar", invariant)],
        ..BundleFiles::default()
    };
    Policies::compile(&files, &operations())
        .map_err(|problems| problems.iter().map(|p| format!("{p}\n")).collect())
}

#[test]
fn an_invariant_is_no_policy() {
    let policies = compile(r#"@id("i") forbid (principal, action, resource);"#).unwrap();
    assert_eq!((policies.len(), policies.invariants().len()), (1, 1));
}

#[test]
fn a_malformed_invariant_is_refused_with_its_place() {
    for (text, expected) in [
        ("forbid (", "i.cedar:1:9: "),
        (
            r#"@id("i") permit (principal, action, resource);"#,
            "i.cedar:1:1: an invariant is a `permit`",
        ),
        (
            "\nforbid (principal, action, resource);",
            "i.cedar:2:1: an invariant has no name",
        ),
        (
            r#"@id("i") @on_deny("gone") forbid (principal, action, resource);"#,
            "`@on_deny` means nothing on an invariant",
        ),
        (
            r#"@id("i") forbid (principal, action, resource) when { context.nothing };"#,
            "i.cedar:1:54: ",
        ),
    ] {
        let problems = compile(text).unwrap_err();
        assert!(problems.contains(expected), "{text}: {problems}");
    }
}

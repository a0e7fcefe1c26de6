use std::fs;

use super::*;

const SCHEMA: &str = include_str!("../../../policies/schema/cardea.cedarschema");
const API: &str = "openapi: 3.1.0\ninfo: { title: t, version: '1' }\nx-cardea: { api: a }\npaths:\n  /things:\n    get: { operationId: list, security: [] }\n    post: { operationId: create }\n";
const FINE: &str =
    "permit (principal is Cardea::User, action == Cardea::Action::\"a.list\", resource);\n";

struct Case {
    folder: tempfile::TempDir,
    config: bool,
}

impl Case {
    /// A bundle that is well but for these files, which stand in place of its own.
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let well = [
            ("s.cedarschema", SCHEMA),
            ("a.openapi.yaml", API),
            ("p.cedar", FINE),
        ];
        for (name, text) in well.iter().chain(files) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let config = files.iter().any(|(name, _)| *name == "cardea.yaml");
        Self { folder, config }
    }

    fn report(&self) -> Report {
        let path = self.folder.path();
        Report::of(&ConfigArgument {
            config: self.config.then(|| path.join("cardea.yaml")),
            bundle: Some(path.to_owned()),
        })
    }

    fn findings(&self) -> String {
        self.named(&self.report().findings())
    }

    fn named(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn findings(name: &str, text: &str) -> String {
    Case::new(&[(name, text)]).findings()
}

#[test]
fn a_bundle_that_is_well_is_summed_up() {
    let case = Case::new(&[]);
    assert_eq!(case.findings(), "");
    let conclusion = case.report().conclusion();
    let (first, second) = conclusion.split_once('\n').unwrap();
    assert_eq!(first, "settings and bundle are well");
    assert!(
        second.ends_with(": 1 policies, 2 operations in 1 APIs, 0 entities\n"),
        "{second}"
    );
}

#[test]
fn a_policy_that_does_not_parse_is_shown_with_its_line() {
    assert_eq!(
        findings(
            "p.cedar",
            "permit (principal, action, resource\nwhen { true };"
        ),
        "\
error: unexpected token `when`
 --> p.cedar:2:1
  |
2 | when { true };
  | ^^^^
  |
  = help: expected `!=`, `)`, `,`, `:`, `<`, `<=`, `==`, `>`, `>=`, `in`, or `is`

"
    );
}

#[test]
fn a_policy_that_names_what_the_schema_does_not_have_is_shown_where_it_does() {
    let text = "permit (principal is Cardea::User,\n  action == Cardea::Action::\"a.lists\", resource)\nwhen { context.token.scope.contains(\"x\") };\n";
    assert_eq!(
        findings("p.cedar", text),
        "\
error: for policy `p#1`, unrecognized action `Cardea::Action::\"a.lists\"`
 --> p.cedar:2:13
  |
2 |   action == Cardea::Action::\"a.lists\", resource)
  |             ^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: did you mean `Cardea::Action::\"a.list\"`?

"
    );
    let text = text.replace("a.lists", "a.list");
    let found = findings("p.cedar", &text);
    assert!(
        found.starts_with(
            "error: for policy `p#1`, attribute `token.scope` in context for Cardea::Action::\"a.list\" not found\n --> p.cedar:3:8\n"
        ),
        "{found}"
    );
}

#[test]
fn a_schema_an_annotation_and_a_document_are_shown_with_their_lines() {
    assert_eq!(
        findings(
            "s.cedarschema",
            "namespace Cardea {\n  entity User in [Rol;\n}\n"
        ),
        "\
error: error parsing schema: unexpected token `;`
 --> s.cedarschema:2:22
  |
2 |   entity User in [Rol;
  |                      ^
  |
  = help: expected `,` or `]`

"
    );
    assert_eq!(
        findings("p.cedar", &format!("@ondeny(\"gone\")\n{FINE}")),
        "\
error: `@ondeny` means nothing here: the annotations are `@id`, `@on_deny`, `@status`, `@acr_values`, `@max_age`, `@reason`, `@severity`, `@control`, `@obligation`, `@mode`, `@title`
 --> p.cedar:1:1
  |
1 | @ondeny(\"gone\")
  | ^^^^^^^^^^^^^^^

"
    );
    assert_eq!(
        findings(
            "a.openapi.yaml",
            &API.replace("operationId: create", "summary: x")
        ),
        "\
error: `POST /things` has no `operationId`
 --> a.openapi.yaml:7:11
  |
7 |     post: { summary: x }
  |           ^
  |
  = help: add one, such as `operationId: postThings`: policies name the action by it

"
    );
}

#[test]
fn settings_are_shown_where_they_are_wrong() {
    assert_eq!(
        findings(
            "cardea.yaml",
            "listen:\n  workers: 0\nidentity:\n  issuers:\n    - issuer: https://idp\n      audiences: []\n"
        ),
        "\
error: `listen.workers` is 0, but must be from 1 to 256
 --> cardea.yaml:2:3
  |
2 |   workers: 0
  |   ^^^^^^^
  |
  = help: `cardea config schema` describes every setting

error: `identity.issuers[0].audiences` must name at least one
 --> cardea.yaml:6:7
  |
6 |       audiences: []
  |       ^^^^^^^^^
  |
  = help: `cardea config schema` describes every setting

"
    );
}

#[test]
fn a_secret_written_into_the_settings_is_not_shown() {
    let found = findings("cardea.yaml", "listen:\n  client_secret: hunter2\n");
    assert!(
        found.contains("2 |   client_secret: (not shown)\n"),
        "{found}"
    );
    assert!(!found.contains("hunter2"), "{found}");
    let kept = "a: { secret: { file: /x } }\nsecret: {env: X}\nkey: 1 # secret\nb: 2\n";
    assert_eq!(settings::without_secrets(kept), kept);
    assert_eq!(
        settings::without_secrets("headers: { Authorization: Bearer x }\nb: 1"),
        "headers: { Authorization: (not shown)\nb: 1"
    );
}

#[test]
fn a_mistake_in_an_invariant_is_shown_with_its_line() {
    let permit = "@id(\"never\")\npermit (principal, action, resource);\n";
    let found = findings("i.invariant.cedar", permit);
    for part in [
        "error: an invariant is a `permit`\n --> i.invariant.cedar:",
        "1 | @id(\"never\")\n",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
}

#[test]
fn warnings_are_shown_with_their_rule_and_do_not_fail_alone() {
    let case = Case::new(&[(
        "q.cedar",
        "@id(\"x\")\npermit (principal, action == Cardea::Action::\"a.create\", resource);\n",
    )]);
    let report = case.report();
    assert_eq!(
        case.named(&report.findings()),
        "\
warning[no_scope]: the permit `x` lets everybody, without a credential too, call `a.create`
 --> q.cedar:1:1
  |
1 | @id(\"x\")
  | ^^^^^^^^
  |
  = help: name the role it is for (`principal in ..`), or let the API document say that everybody may: `security: []`

"
    );
    assert!(report.errors.is_empty());
    assert!(
        report
            .conclusion()
            .starts_with("settings and bundle are well, 1 warning\n")
    );
    let command = |deny_warnings| CheckCommand {
        config: ConfigArgument {
            config: None,
            bundle: Some(case.folder.path().to_owned()),
        },
        format: Format::Text,
        deny_warnings,
    };
    assert_eq!(run(&command(false)), Ok(true));
    assert_eq!(run(&command(true)), Ok(false), "all is told already");
}

#[test]
fn what_a_document_calls_public_may_be_permitted_to_everybody() {
    let public = "permit (principal, action == Cardea::Action::\"a.list\", resource);\n";
    assert_eq!(findings("p.cedar", public), "");
}

#[test]
fn a_document_that_names_an_undeclared_scheme_is_warned_of() {
    let api = API.replace(
        "operationId: create",
        "operationId: create, security: [{ ghost: [] }]",
    );
    let found = findings("a.openapi.yaml", &api);
    assert!(
        found.starts_with(
            "warning[unknown_security_scheme]: `security` of `a.create` names the scheme `ghost`"
        ),
        "{found}"
    );
}

#[test]
fn roles_an_issuer_brings_are_known_by_their_prefix() {
    let role = "permit (principal in Cardea::Role::\"acme:boss\", action == Cardea::Action::\"a.list\", resource);\n";
    let roles = r#"[{ "uid": { "type": "Cardea::Role", "id": "clerk" } }]"#;
    let entities = ("e.entities.json", roles);
    let unknown = Case::new(&[("p.cedar", role), entities]).findings();
    assert!(unknown.starts_with("warning[unknown_role]: "), "{unknown}");
    let config = "identity:\n  issuers:\n    - issuer: https://idp\n      audiences: [a]\n      claims: { role_prefix: 'acme:' }\n";
    let known = Case::new(&[("p.cedar", role), entities, ("cardea.yaml", config)]);
    assert_eq!(known.findings(), "");
}

#[test]
fn an_audience_for_an_api_that_no_document_describes_is_warned_of() {
    let config = |audiences: &str| {
        format!(
            "public: {{ address: '127.0.0.1:0' }}\nidentity: {{ issuers: [{{ issuer: 'https://idp', audiences: [a] }}] }}\nmint: {{ issuer: 'https://me', audiences: {{ {audiences} }} }}\n"
        )
    };
    let good = config("a: one, undocumented: two");
    assert_eq!(Case::new(&[("cardea.yaml", &good)]).findings(), "");
    let bad = config("a: one, ordres: two");
    let case = Case::new(&[("cardea.yaml", &bad)]);
    let found = case.findings();
    assert!(
        found.starts_with("warning[unknown_api]: `mint.audiences` names the API `ordres`"),
        "{found}"
    );
    let report = case.report();
    assert_eq!((report.errors.len(), report.warnings.len()), (0, 1));
}

#[test]
fn json_says_the_same_with_places_apart() {
    let case = Case::new(&[("p.cedar", "permit (principal, action, resource")]);
    let value: serde_json::Value = serde_json::from_str(&case.report().json().unwrap()).unwrap();
    assert_eq!(value["ok"], false);
    assert_eq!(value["bundle"], serde_json::Value::Null);
    let error = &value["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&1.into(), &36.into()));
    assert!(error["file"].as_str().unwrap().ends_with("p.cedar"));
    let well: serde_json::Value =
        serde_json::from_str(&Case::new(&[]).report().json().unwrap()).unwrap();
    assert_eq!(well["ok"], true);
    assert_eq!(well["bundle"]["operations"], 2);
}

#[test]
fn an_observed_operation_is_warned_of_where_it_stands_and_counted() {
    let api = API.replace(
        "operationId: create",
        "operationId: create, x-cardea: { observe: true }",
    );
    let case = Case::new(&[("a.openapi.yaml", &api)]);
    let found = case.findings();
    assert!(
        found.starts_with(
            "warning[observed_operation]: `a.create` is observed: what policies do not permit passes there\n --> a.openapi.yaml:7:"
        ),
        "{found}"
    );
    let value: serde_json::Value = serde_json::from_str(&case.report().json().unwrap()).unwrap();
    assert_eq!(value["bundle"]["observed"], 1);
    assert_eq!(value["warnings"].as_array().unwrap().len(), 1);
}

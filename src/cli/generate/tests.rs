use std::fs;

use super::*;
use crate::model::SystemClock;
use crate::pipeline::Snapshot;

/// A document that uses everything the starter set looks at, with names nobody should choose.
const ODD: &str = r#"
openapi: 3.1.0
info: { title: t, version: "1\n// 2" }
x-cardea: { api: odd }
security: [{ oauth: ["a:b"], cert: [] }, { oidc: ["c\"; permit (principal, action, resource); //"] }]
components:
  securitySchemes:
    oauth: { type: oauth2, flows: {} }
    oidc: { type: openIdConnect, openIdConnectUrl: "https://i" }
    cert: { type: mutualTLS }
    key: { type: apiKey, in: header, name: k }
paths:
  /things/{userId}/of/{thing}:
    get: { operationId: "get,one", summary: "evil\n}; permit (principal, action, resource);" }
    put: { operationId: get_one, x-cardea: { roles: ["a \"quoted\" role", other] } }
    patch: { operationId: key, security: [{ key: [clerk] }] }
    delete: { operationId: optional, security: [{}, { oauth: [x] }] }
  /users/{userId}:
    get: { operationId: user, tags: [people] }
  /silent:
    post:
      operationId: silent
      x-cardea: { lifecycle: deprecated }
      requestBody: { content: { application/json: { schema: { properties: { n: { type: integer, minimum: 1 } } } } } }
"#;
const SILENT: &str = "openapi: 3.0.3\ninfo: { title: t, version: '1' }\npaths:\n  /a/{b}: { get: { operationId: get } }\n  /a: { post: { operationId: post } }\n";

fn documents(all: &[(&str, &str)]) -> Vec<(PathBuf, String)> {
    all.iter()
        .map(|(file, text)| ((*file).into(), (*text).to_owned()))
        .collect()
}

fn everything() -> Vec<(PathBuf, String)> {
    documents(&[
        (
            "apis/legacy.yaml",
            include_str!("../../../policies/apis/legacy.yaml"),
        ),
        ("apis/odd.yaml", ODD),
        (
            "apis/orders.yaml",
            include_str!("../../../policies/apis/orders.yaml"),
        ),
        (
            "apis/profiles.yaml",
            include_str!("../../../policies/apis/profiles.yaml"),
        ),
        ("apis/silent.yaml", SILENT),
    ])
}

fn set(documents: &[(PathBuf, String)]) -> String {
    policies::starter_set(&outlines(documents).unwrap(), None)
}

/// A bundle of these policies and documents, checked as `cardea check` does.
fn check(policies: &str, documents: &[(PathBuf, String)]) -> Result<Snapshot, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("apis")).unwrap();
    for (file, text) in documents {
        fs::write(folder.path().join(file), text).unwrap();
    }
    fs::write(folder.path().join("s.cedarschema"), VOCABULARY).unwrap();
    fs::write(folder.path().join("starter.cedar"), policies).unwrap();
    Snapshot::load(folder.path(), &SystemClock)
}

/// One permit of the set, by its operation.
fn permit_of(set: &str, id: &str) -> String {
    let own = set
        .split("\n\n")
        .find(|part| part.contains(&format!("@id(\"{id}\")")));
    own.unwrap().trim_end().to_owned()
}

#[test]
fn the_starter_set_passes_check_with_its_documents() {
    let documents = everything();
    let set = set(&documents);
    let snapshot = check(&set, &documents).unwrap();
    assert_eq!(snapshot.policies.len(), 17);
    assert_eq!(snapshot.inventory.operations().count(), 17);
    let public = outlines(&documents).unwrap().into_iter();
    let public = public.filter(|outline| outline.security == Security::Public);
    let around = crate::policy::Surroundings {
        public: public.map(|outline| outline.operation.id.clone()).collect(),
        ..Default::default()
    };
    let operations: Vec<_> = snapshot.inventory.operations().cloned().collect();
    assert_eq!(snapshot.policies.lint(&operations, &around), []);
}

#[test]
fn the_starter_set_is_the_same_every_time() {
    assert_eq!(set(&everything()), set(&everything()));
}

#[test]
fn the_hints_hold_when_they_are_taken() {
    let documents = everything();
    let set = set(&documents);
    assert!(set.contains("  // && "));
    check(&set.replace("  // && ", "  && "), &documents).unwrap();
}

#[test]
fn a_permit_is_as_narrow_as_its_document_says() {
    let set = set(&everything());
    assert_eq!(
        permit_of(&set, "orders.listOrders"),
        r#"// GET /v1/orders
// The role is a placeholder.
@id("orders.listOrders")
permit (principal in Cardea::Role::"orders-read", action == Cardea::Action::"orders.listOrders", resource)
when {
  context.token.scopes.contains("orders:read") &&
  context.token.audience.contains("urn:example:replace-this-audience")
};"#
    );
    assert_eq!(
        permit_of(&set, "orders.getStatus"),
        r#"// ---- orders 1.4.0

// GET /v1/status: Whether the service is up. Anybody may ask.
// The document opens it to everybody, with a credential or without.
@id("orders.getStatus")
permit (principal, action == Cardea::Action::"orders.getStatus", resource);"#
            .split_once("\n\n")
            .unwrap()
            .1
    );
    assert_eq!(
        permit_of(&set, "profiles.getProfile"),
        r#"// GET /v1/users/{userId}
// The role is a placeholder.
@id("profiles.getProfile")
permit (principal in Cardea::Role::"profiles-read", action == Cardea::Action::"profiles.getProfile", resource)
when {
  context.token.audience.contains("urn:example:replace-this-audience")
  // Only one's own, where the entity files say who owns what:
  // && principal is Cardea::User && resource has owner && resource.owner == principal
  // Only oneself, where the path holds the caller's subject:
  // && principal is Cardea::User && context.request.params.hasTag("userId") && context.request.params.getTag("userId") == principal.sub
};"#
    );
    let unstated = permit_of(&set, "silent.post");
    assert!(
        unstated
            .contains("// The document has no `security`: who may call it is for you to say.\n")
    );
    assert!(unstated.contains(r#"permit (principal in Cardea::Role::"silent-write", "#));
    assert!(permit_of(&set, "legacy.getOrder").contains("// It is retired: "));
}

#[test]
fn alternatives_certificates_and_stated_roles_are_kept() {
    let set = set(&everything());
    let one = permit_of(&set, "odd.user");
    assert!(
        one.contains(
            r#"((context.token.scopes.contains("a:b") && context.tls.mutual) || (context.token.scopes.contains("c\"; permit (principal, action, resource); //"))) &&"#
        ),
        "{one}"
    );
    assert!(
        permit_of(&set, "odd.get_one~2").contains(
            r#"principal in [Cardea::Role::"a \"quoted\" role", Cardea::Role::"other"] &&"#
        )
    );
    assert!(!permit_of(&set, "odd.get_one~2").contains("placeholder"));
    assert!(permit_of(&set, "odd.key").contains(r#"permit (principal in Cardea::Role::"clerk", "#));
    assert!(permit_of(&set, "odd.optional").contains("permit (principal, action =="));
    // An id may hold no comma, and no two permits share one.
    assert!(set.contains(r#"@id("odd.get_one~2")"#));
}

#[test]
fn an_audience_that_is_given_stands_in_place_of_the_placeholder() {
    let outlines = outlines(&documents(&[("apis/silent.yaml", SILENT)])).unwrap();
    let set = policies::starter_set(&outlines, Some("https://api"));
    assert_eq!(
        set.matches(r#"audience.contains("https://api")"#).count(),
        2
    );
    assert!(!set.contains("urn:example"));
}

#[test]
fn an_api_is_chosen_by_name_and_a_wrong_name_is_told_with_the_right_ones() {
    let all = || outlines(&everything()).unwrap();
    let orders = of_api(all(), Some("orders")).unwrap();
    assert_eq!(orders.len(), 5);
    let wrong = of_api(all(), Some("order")).unwrap_err();
    assert_eq!(
        wrong[0].to_string(),
        "no document describes an API `order`\n  hint: there is `legacy`, `odd`, `orders`, `profiles`, `silent`"
    );
    let none = of_api(Vec::new(), None).unwrap_err();
    assert_eq!(none[0].message, "the documents describe no operations");
}

#[test]
fn the_schema_shows_every_name_an_author_can_use() {
    let source = Source {
        schema: vec![Document {
            path: "s.cedarschema".into(),
            text: VOCABULARY.to_owned(),
        }],
        apis: everything(),
    };
    let text = schema(&source).unwrap();
    assert_eq!(text, schema(&source).unwrap());
    for expected in [
        r#"
  // DELETE /v1/orders/{orderId}
  // resource: Cardea::Object::"orders/orders/{orderId}", in Cardea::Route::"DELETE /v1/orders/{orderId}"
  // in: Cardea::Api::"orders", Cardea::Tag::"orders"; sensitivity 2, active
  // security: oauth (orders:write)
  // context.request.params.getTag("orderId"): string, like ^[A-Za-z0-9-]{1,64}$, always read as a String
  action "orders.cancelOrder" in ["delete"] appliesTo {
    principal: [User, Client, Workload, Agent, Anonymous], resource: [Object], context: Ctx };
"#,
        r#"
  // POST /silent
  // resource: Cardea::Route::"POST /silent"
  // in: Cardea::Api::"odd"; sensitivity 1, deprecated
  // security: oauth and cert (a:b), or oidc (c"; permit (principal, action, resource); //)
  // body field `n`: integer, at least 1; no policy can read it yet
  action "odd.silent" in ["write"]"#,
        "\n  // GET /things/{userId}/of/{thing}: evil }; permit (principal, action, resource);\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn documents_are_read_from_files_no_more_than_one_may_hold() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("silent.yaml");
    fs::write(&file, SILENT).unwrap();
    let from = |files: Vec<PathBuf>| From {
        bundle: None,
        files,
    };
    let source = from(vec![file]).read().unwrap();
    assert!(schema(&source).unwrap().contains(r#"action "silent.get""#));

    let large = folder.path().join("large.yaml");
    fs::write(&large, " ".repeat(yaml::MAX_BYTES + 10)).unwrap();
    let source = from(vec![large]).read().unwrap();
    assert!(
        schema(&source).unwrap_err()[0]
            .message
            .contains("too large")
    );

    let missing = from(vec![folder.path().join("a"), folder.path().join("b")]);
    let problems = missing.read().map(drop).unwrap_err();
    assert_eq!(problems.len(), 2);
    assert!(
        problems[0]
            .message
            .starts_with("cannot read the document: ")
    );
}

use super::*;

fn outlined(text: &str) -> Vec<Outline> {
    outlines(&[("apis/api.yaml".into(), text.to_owned())]).unwrap()
}

fn example(name: &str) -> Vec<Outline> {
    outlined(match name {
        "orders" => include_str!("../../../policies/apis/orders.yaml"),
        "profiles" => include_str!("../../../policies/apis/profiles.yaml"),
        _ => include_str!("../../../policies/apis/legacy.yaml"),
    })
}

fn fields(fields: &[Field]) -> Vec<(&str, &str)> {
    fields.iter().map(|f| (&*f.name, &*f.kind)).collect()
}

fn scopes(security: &Security) -> Vec<&[String]> {
    match security {
        Security::AnyOf(any_of) => any_of.iter().map(|one| &*one.scopes).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operation_says_who_must_prove_what() {
    let orders = example("orders");
    let ids: Vec<&str> = orders.iter().map(|o| &*o.operation.id).collect();
    assert_eq!(
        ids,
        [
            "orders.getStatus",
            "orders.listOrders",
            "orders.createOrder",
            "orders.getOrder",
            "orders.cancelOrder"
        ]
    );
    assert_eq!(orders[0].security, Security::Public);
    assert_eq!(
        orders[0].summary.as_deref(),
        Some("Whether the service is up. Anybody may ask.")
    );
    assert_eq!(scopes(&orders[1].security), [["orders:read"]]);
    assert_eq!(scopes(&orders[4].security), [["orders:write"]]);
    // The document's own requirement counts where the operation says nothing.
    let profile = &example("profiles")[0].security;
    assert_eq!(scopes(profile), [&[] as &[String]]);
    assert!(matches!(profile, Security::AnyOf(any_of) if any_of[0].schemes == ["bearer"]));
}

#[test]
fn paths_and_bodies_show_every_name() {
    let orders = example("orders");
    assert_eq!(
        fields(&orders[3].parameters),
        [("orderId", "string, like ^[A-Za-z0-9-]{1,64}$")]
    );
    assert_eq!(
        fields(&orders[2].body),
        [("items", "array"), ("note", "string")]
    );
    assert_eq!(
        fields(&example("legacy")[1].parameters),
        [("id", "integer (int64)")]
    );
}

#[test]
fn alternatives_roles_and_certificates_are_told_apart() {
    let text = r##"
openapi: 3.1.0
info: { title: t, version: "1" }
x-cardea: { roles: [everybody] }
components:
  securitySchemes:
    oauth: { type: oauth2, flows: {} }
    oidc: { type: openIdConnect, openIdConnectUrl: "https://i" }
    cert: { type: mutualTLS }
    key: { $ref: "#/components/securitySchemes/realKey" }
    realKey: { type: apiKey, in: header, name: k }
paths:
  /a:
    x-cardea: { roles: [path-role] }
    get:
      operationId: both
      security: [{ oauth: [a, b], cert: [] }, { oidc: [c] }]
      x-cardea: { roles: [own-role, path-role] }
    put:
      operationId: optional
      security: [{ oauth: [a] }, {}]
  /b:
    get:
      operationId: silent
      responses: { 200: { description: numbers are keys too } }
    put:
      operationId: key
      security: [{ key: [clerk] }]
    post:
      operationId: odd
      security: [7]
"##;
    let all = outlined(text);
    assert_eq!(
        all[0].security,
        Security::AnyOf(vec![
            Requirement {
                schemes: vec!["oauth".into(), "cert".into()],
                scopes: vec!["a".into(), "b".into()],
                roles: vec![],
                mutual_tls: true
            },
            Requirement {
                schemes: vec!["oidc".into()],
                scopes: vec!["c".into()],
                ..Requirement::default()
            }
        ])
    );
    assert_eq!(all[0].roles, ["own-role", "path-role"]);
    assert_eq!(all[1].security, Security::Public);
    assert_eq!(all[1].roles, ["path-role"]);
    assert_eq!(all[2].security, Security::Unstated);
    assert_eq!(all[2].roles, ["everybody"]);
    assert!(matches!(&all[4].security, Security::AnyOf(one) if one[0].roles == ["clerk"]));
    assert_eq!(
        all[3].security,
        Security::Unstated,
        "an odd shape opens nothing"
    );
}

#[test]
fn a_scheme_nobody_declared_is_a_mistake_with_its_place() {
    let text = "openapi: 3.1.0\ninfo: { title: t, version: '1' }\npaths:\n  /a:\n    get:\n      operationId: a\n      security: [{ ghost: [] }]\n";
    let problems = outlines(&[("api.yaml".into(), text.to_owned())]).unwrap_err();
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "api.yaml:6:7: `security` of `api.a` names the scheme `ghost`, which the document does not have\n  \
             hint: declare it: `components: { securitySchemes: { ghost: .. } }`"
        ]
    );
}

#[test]
fn references_in_a_circle_end() {
    let text = r##"
openapi: 3.1.0
info: { title: t, version: "1" }
components:
  schemas:
    A: { allOf: [{ $ref: "#/components/schemas/B" }], properties: { a: { $ref: "#/components/schemas/C" } } }
    B: { allOf: [{ $ref: "#/components/schemas/A" }], properties: { b: { type: [integer, "null"], minimum: 1 } } }
    C: { $ref: "#/components/schemas/C" }
paths:
  /a:
    post:
      operationId: a
      summary: "two
        lines \u001b[2J"
      requestBody: { content: { application/merge-patch+json: { schema: { $ref: "#/components/schemas/A" } } } }
"##;
    let all = outlined(text);
    assert_eq!(
        fields(&all[0].body),
        [
            ("a", "a value whose schema stands elsewhere"),
            ("b", "integer or null, at least 1")
        ]
    );
    assert_eq!(all[0].summary.as_deref(), Some("two lines \\u{1b}[2J"));
}

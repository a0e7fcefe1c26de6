use super::*;
use crate::model::{PathRules, TwoReadings};

const ORDERS: &str = include_str!("../../policies/apis/orders.yaml");
const PROFILES: &str = include_str!("../../policies/apis/profiles.yaml");
const LEGACY: &str = include_str!("../../policies/apis/legacy.yaml");

fn compile(documents: &[(&str, &str)]) -> Result<Inventory, Vec<Problem>> {
    let documents: Vec<_> = documents
        .iter()
        .map(|(file, text)| (PathBuf::from(file), (*text).to_owned()))
        .collect();
    Inventory::compile(&documents)
}

fn examples() -> Inventory {
    compile(&[
        ("apis/orders.yaml", ORDERS),
        ("apis/profiles.yaml", PROFILES),
        ("apis/legacy.yaml", LEGACY),
    ])
    .unwrap()
}

/// A document that holds these paths (YAML, indented by two) and nothing else of interest.
fn document(paths: &str) -> String {
    format!("openapi: 3.1.0\ninfo: {{ title: t, version: '1' }}\npaths:\n{paths}")
}

fn single(paths: &str) -> Inventory {
    compile(&[("api.yaml", &document(paths))]).unwrap()
}

fn mistakes(documents: &[(&str, &str)]) -> Vec<String> {
    compile(documents)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn mistake(text: &str) -> String {
    let mut all = mistakes(&[("api.yaml", text)]);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn keep_everything() -> PathRules {
    PathRules {
        escaped_slashes: TwoReadings::Keep,
        path_parameters: TwoReadings::Keep,
        double_encoding: TwoReadings::Keep,
        merge_slashes: false,
    }
}

fn find_at(inventory: &Inventory, host: &str, request: &str) -> Matched {
    let (method, path) = request.split_once(' ').unwrap();
    inventory.find(
        Method::parse(method).unwrap(),
        &Host::parse(host).unwrap(),
        &CanonicalPath::parse(path, keep_everything()).unwrap(),
    )
}

fn find(inventory: &Inventory, request: &str) -> Matched {
    find_at(inventory, "api.example.com", request)
}

fn id(inventory: &Inventory, request: &str) -> String {
    find(inventory, request).operation.id.to_string()
}

#[test]
fn the_example_documents_say_what_requests_are() {
    let inventory = examples();
    for (request, expected) in [
        ("GET /v1/status", "orders.getStatus"),
        ("GET /v1/orders", "orders.listOrders"),
        ("POST /v1/orders", "orders.createOrder"),
        ("GET /v1/orders/42", "orders.getOrder"),
        ("DELETE /v1/orders/42", "orders.cancelOrder"),
        ("GET /v1/users/alice", "profiles.getProfile"),
        ("PUT /v1/users/alice", "profiles.updateProfile"),
        ("GET /v0/orders/7", "legacy.getOrder"),
        ("GET /v1", "http:GET"),
        ("GET /v1/orders/42/items", "http:GET"),
        ("PATCH /v1/orders/42", "http:PATCH"),
        ("DELETE /v1/users/alice", "http:DELETE"),
    ] {
        assert_eq!(id(&inventory, request), expected, "{request}");
    }
    assert_eq!(inventory.operations().count(), 9);
    assert_eq!(inventory.apis().count(), 3);
}

#[test]
fn an_operation_carries_its_route_api_and_resource() {
    let inventory = examples();
    let matched = find(&inventory, "GET /v1/orders/a%20b");
    let operation = &matched.operation;
    assert!(operation.documented);
    assert_eq!(matched.parameter("orderId"), Some("a b"));
    assert_eq!(matched.object_id().as_deref(), Some("a b"));
    assert_eq!(&*operation.route.id, "GET /v1/orders/{orderId}");
    assert_eq!(operation.route.template, "/v1/orders/{orderId}");
    assert_eq!(operation.route.tags, ["orders"]);
    assert_eq!(operation.route.sensitivity, 1);
    let kind = "orders".to_owned();
    let names = vec!["orderId".into()];
    assert_eq!(operation.resource, ResourceRule::Object { kind, id: names });
    let api = &operation.route.api;
    assert_eq!((&*api.name, api.version.as_str()), ("orders", "1.4.0"));
    assert_eq!(api.exposure, "public");
    assert_eq!(api.owner.as_deref(), Some("team-orders"));
    assert_eq!(api.data_classes, ["commercial"]);

    let list = find(&inventory, "GET /v1/orders");
    assert_eq!(list.operation.resource, ResourceRule::Route);
    assert_eq!(list.object_id(), None);
    let status = find(&inventory, "GET /v1/status");
    assert_eq!(status.operation.route.sensitivity, 0);
    assert_eq!(status.operation.route.tags, ["recovery"]);
    let update = find(&inventory, "PUT /v1/users/alice");
    assert_eq!(update.operation.route.sensitivity, 3);
    let kind = "profile".to_owned();
    let names = vec!["userId".into()];
    assert_eq!(
        update.operation.resource,
        ResourceRule::Object { kind, id: names }
    );
    let legacy = find(&inventory, "GET /v0/orders");
    assert_eq!(legacy.operation.route.lifecycle, Lifecycle::Retired);
    let sunset = legacy.operation.route.api.sunset.unwrap();
    assert_eq!(sunset.to_string(), "2026-06-30T00:00:00Z");
}

#[test]
fn an_undocumented_request_is_the_generic_action_on_the_strict_side() {
    let matched = find(&Inventory::empty(), "POST /anything");
    assert_eq!(&*matched.operation.id, "http:POST");
    assert!(!matched.operation.documented);
    assert!(matched.parameters.is_empty());
    let route = &matched.operation.route;
    assert_eq!((&*route.id, &*route.api.name), (UNDOCUMENTED, UNDOCUMENTED));
    assert_eq!(route.lifecycle, Lifecycle::Unknown);
    assert_eq!(
        (route.sensitivity, route.api.exposure.as_str()),
        (3, "internal")
    );
    for method in Method::ALL {
        let request = format!("{} /x", method.as_str());
        let matched = find(&Inventory::empty(), &request);
        assert_eq!(matched.operation.method, method);
        assert_eq!(*matched.operation.id, *format!("http:{}", method.as_str()));
    }
    assert_eq!(Inventory::empty().generic_operations().count(), 7);
}

#[test]
fn json_yaml_3_0_and_3_1_say_the_same() {
    let yaml = "
openapi: 3.0.3
info: { title: t, version: 1.0 }
servers: [{ url: 'https://{region}.example.com/{base}', variables: { region: { default: eu }, base: { default: v2 } } }]
paths:
  x-ignored: 5
  /things/{thingId}:
    parameters:
      - { name: thingId, in: path, required: true, schema: { type: string } }
    get:
      operationId: getThing
      tags: [Things]
      parameters:
        - { name: view, in: query, schema: { type: string, nullable: true } }
      responses: { '200': { description: ok } }
x-cardea: { api: things, lifecycle: deprecated, data_classes: [personal] }
";
    let json = "{
\t\"openapi\": \"3.1.1\",
\t\"info\": {\"title\": \"t\", \"version\": \"1.0\"},
\t\"servers\": [{\"url\": \"\\/v2\\/\"}],
\t\"webhooks\": {\"x\": {\"post\": {}}},
\t\"paths\": {\"/things/{thingId}\": {\"get\": {
\t\t\"operationId\": \"getThing\", \"tags\": [\"Things\"],
\t\t\"parameters\": [
\t\t\t{\"name\": \"view\", \"in\": \"query\", \"schema\": {\"type\": [\"string\", \"null\"]}},
\t\t\t{\"name\": \"thingId\", \"in\": \"path\", \"required\": true, \"schema\": true}
\t\t],
\t\t\"responses\": {\"200\": {\"description\": \"ok\"}}
\t}}},
\t\"x-cardea\": {\"api\": \"things\", \"lifecycle\": \"deprecated\", \"data_classes\": [\"personal\"]}
}";
    let yaml = compile(&[("things.yaml", yaml)]).unwrap();
    let json = compile(&[("things.json", json)]).unwrap();
    let of = |inventory: &Inventory| find(inventory, "GET /v2/things/7").operation;
    assert_eq!(&*of(&yaml).id, "things.getThing");
    assert_eq!(of(&yaml), of(&json));
}

#[test]
fn references_to_parameters_and_paths_are_followed() {
    let inventory = compile(&[(
        "api.yaml",
        "openapi: 3.1.0
info: { title: t, version: '1' }
paths:
  /a/{id}: { $ref: '#/components/pathItems/A' }
components:
  pathItems:
    A:
      parameters: [{ $ref: '#/components/parameters/Id' }]
      get:
        operationId: getA
        parameters:
          - $ref: '#/components/parameters/Twice'
          - $ref: '#/components/parameters/Many'
  parameters:
    Id: { name: id, in: path, required: true }
    Twice: { $ref: '#/components/parameters/Once' }
    Once: { name: once, in: query, schema: { $ref: '#/components/schemas/Word' } }
    Many: { name: many, in: query, schema: { $ref: '#/components/schemas/Words' } }
  schemas:
    Word: { enum: [a, b] }
    Words: { oneOf: [{ type: 'null' }, { $ref: '#/components/schemas/List' }] }
    List: { items: { $ref: '#/components/schemas/Word' } }
",
    )])
    .unwrap();
    let matched = find(&inventory, "GET /a/1");
    assert_eq!(&*matched.operation.id, "api.getA");
    assert_eq!(matched.operation.single_query_parameters, ["once"]);
}

#[test]
fn a_parameter_is_single_unless_its_encoding_repeats_it() {
    let inventory = single(
        "  /a:
    parameters:
      - { name: path_says_list, in: query, schema: { type: array } }
      - { name: shared, in: query, schema: { type: string } }
    get:
      operationId: a
      parameters:
        - { name: path_says_list, in: query, schema: { type: integer } }
        - { name: list, in: query, schema: { type: array } }
        - { name: nullable_list, in: query, schema: { type: [array, null] } }
        - { name: commas, in: query, explode: false, schema: { type: array } }
        - { name: pipes, in: query, style: pipeDelimited, schema: { type: array } }
        - { name: exploded_pipes, in: query, style: pipeDelimited, explode: true, schema: { type: array } }
        - { name: anything, in: query, schema: true }
        - { name: json, in: query, content: { application/json: {} } }
        - { name: bare, in: query }
        - { name: header, in: header, schema: { type: string } }
",
    );
    let matched = find(&inventory, "GET /a");
    assert_eq!(
        matched.operation.single_query_parameters,
        [
            "path_says_list",
            "commas",
            "pipes",
            "anything",
            "json",
            "bare",
            "shared"
        ]
    );
    let repeated = |raw: &str| {
        let query = Query::parse(raw).unwrap();
        repeated_parameter(&matched, &query).map(str::to_owned)
    };
    assert_eq!(repeated("json=1&list=a&list=b&other=1&other=2"), None);
    assert_eq!(
        repeated("shared=1&list=a&shared=1").as_deref(),
        Some("shared")
    );
    assert_eq!(repeated("shared=1&%73hared=2").as_deref(), Some("shared"));
    let generic = find(&inventory, "GET /b");
    assert_eq!(
        repeated_parameter(&generic, &Query::parse("a&a").unwrap()),
        None
    );
}

#[test]
fn a_fixed_segment_wins_over_a_parameter_and_a_method_over_neither() {
    let inventory = single(
        "  /users/{id}: { get: { operationId: one }, delete: { operationId: remove } }
  /users/me: { get: { operationId: me } }
  /users/{name}/keys: { get: { operationId: keys } }
  /users/me/mail: { get: { operationId: mail } }
  /users/{id}.json: { get: { operationId: asJson } }
  /users/{id}.tar.gz: { get: { operationId: asTarGz } }
  /users/{id}.gz: { get: { operationId: asGz } }
  /users/{id}:block: { post: { operationId: block } }
  /: { get: { operationId: root } }
  /slash/: { get: { operationId: slash } }
",
    );
    for (request, expected) in [
        ("GET /users/me", "api.me"),
        ("GET /users/Me", "api.one"),
        ("GET /users/m%65", "api.me"),
        ("DELETE /users/me", "api.remove"),
        ("GET /users/me/keys", "api.keys"),
        ("GET /users/me/mail", "api.mail"),
        ("GET /users/you/mail", "http:GET"),
        ("GET /users/7.json", "api.asJson"),
        ("GET /users/.json", "api.one"),
        ("GET /users/7.tar.gz", "api.asTarGz"),
        ("GET /users/7.gz", "api.asGz"),
        ("POST /users/7:block", "api.block"),
        ("POST /users/:block", "http:POST"),
        ("POST /users/7", "http:POST"),
        ("GET /", "api.root"),
        ("GET /slash/", "api.slash"),
        ("GET /slash", "http:GET"),
    ] {
        assert_eq!(id(&inventory, request), expected, "{request}");
    }
    let keys = find(&inventory, "GET /users/me/keys");
    assert_eq!(keys.parameters, [("name".into(), "me".to_owned())]);
}

#[test]
fn empty_values_and_trailing_slashes_match_nothing() {
    let inventory = examples();
    for request in [
        "GET /v1/orders/",
        "GET /v1/orders/42/",
        "GET /",
        "GET /v1/status/",
    ] {
        assert_eq!(id(&inventory, request), "http:GET", "{request}");
    }
}

#[test]
fn p2_a_kept_encoded_slash_never_crosses_a_segment() {
    let inventory = examples();
    for path in ["/v1%2Forders", "/v1/orders%2f42", "%2Fv1/orders"] {
        let request = format!("GET /{}", path.trim_start_matches('/'));
        assert_eq!(id(&inventory, &request), "http:GET", "{path}");
    }
    let matched = find(&inventory, "GET /v1/orders/a%2Fb");
    assert_eq!(matched.parameter("orderId"), Some("a/b"));
    assert_eq!(matched.object_id().as_deref(), Some("a%2Fb"));
}

#[test]
fn p2_values_that_hold_slashes_do_not_make_the_id_of_another_object() {
    let inventory = single("  /t/{tenant}/o/{id}: { get: { operationId: get } }\n");
    let object = |path: &str| find(&inventory, path).object_id().unwrap();
    assert_eq!(object("GET /t/a/o/b"), "a/b");
    assert_ne!(object("GET /t/a%2Fb/o/c"), object("GET /t/a/o/b%2Fc"));
    assert_ne!(object("GET /t/a%2Fb/o/c"), object("GET /t/a%252Fb/o/c"));
}

#[test]
fn p4_a_kept_path_parameter_makes_another_segment() {
    let inventory = examples();
    assert_eq!(id(&inventory, "GET /v1/status;x=y"), "http:GET");
    assert_eq!(id(&inventory, "GET /v1;x=y/status"), "http:GET");
    let matched = find(&inventory, "GET /v1/orders/42;x=y");
    assert_eq!(matched.parameter("orderId"), Some("42;x=y"));
}

#[test]
fn p7_segments_are_compared_byte_for_byte_and_decoded_once() {
    let inventory = single(
        "  /caf%C3%A9: { get: { operationId: nfc } }
  /raw/caf\u{e9}: { get: { operationId: raw } }
  /v/{id}: { get: { operationId: value } }
",
    );
    for (request, expected) in [
        ("GET /caf%c3%a9", "api.nfc"),
        ("GET /raw/caf%C3%A9", "api.raw"),
        ("GET /cafe%CC%81", "http:GET"),
        ("GET /CAF%C3%A9", "http:GET"),
        ("GET /caf%25C3%25A9", "http:GET"),
        ("GET /V/1", "http:GET"),
    ] {
        assert_eq!(id(&inventory, request), expected, "{request}");
    }
    let matched = find(&inventory, "GET /v/%252e%252e");
    assert_eq!(matched.parameter("id"), Some("%2e%2e"));
}

#[test]
fn p8_an_api_with_hosts_is_served_on_those_only() {
    let here = document("  /a: { get: { operationId: a } }\n")
        + "x-cardea: { hosts: [API.Example.com., '[::1]'] }\n";
    let there = document("  /a: { get: { operationId: a } }\n")
        + "x-cardea: { hosts: [other.example.com], qualify_routes: true }\n";
    let anywhere = document("  /b: { get: { operationId: b } }\n");
    let inventory = compile(&[
        ("here.yaml", &here),
        ("there.yaml", &there),
        ("any.yaml", &anywhere),
    ])
    .unwrap();
    for (host, request, expected) in [
        ("api.example.com", "GET /a", "here.a"),
        ("API.example.com:8443", "GET /a", "here.a"),
        ("[0:0::1]:80", "GET /a", "here.a"),
        ("other.example.com", "GET /a", "there.a"),
        ("evil.example.com", "GET /a", "http:GET"),
        ("api.example.com.evil.example", "GET /a", "http:GET"),
        ("api.example.com", "GET /b", "any.b"),
        ("evil.example.com", "GET /b", "any.b"),
    ] {
        let matched = find_at(&inventory, host, request);
        assert_eq!(&*matched.operation.id, expected, "{host} {request}");
    }
    let there = find_at(&inventory, "other.example.com", "GET /a");
    assert_eq!(&*there.operation.route.id, "there:GET /a");
}

#[test]
fn p10_head_and_options_match_only_where_documented() {
    let inventory = single(
        "  /a: { get: { operationId: get }, options: { operationId: preflight } }
  /b: { head: { operationId: probe }, trace: { operationId: never } }
",
    );
    for (request, expected) in [
        ("GET /a", "api.get"),
        ("HEAD /a", "http:HEAD"),
        ("OPTIONS /a", "api.preflight"),
        ("HEAD /b", "api.probe"),
        ("GET /b", "http:GET"),
        ("OPTIONS /b", "http:OPTIONS"),
    ] {
        assert_eq!(id(&inventory, request), expected, "{request}");
    }
    assert!(inventory.operations().all(|one| &*one.id != "api.never"));
}

#[test]
fn p13_a_star_in_a_template_is_a_star() {
    let inventory = single("  /files/*: { get: { operationId: star } }\n");
    assert_eq!(id(&inventory, "GET /files/*"), "api.star");
    assert_eq!(id(&inventory, "GET /files/a"), "http:GET");
}

#[test]
fn base_paths_come_from_the_innermost_servers() {
    let text = document(
        "  /a: { get: { operationId: a }, servers: [{ url: //h/p/ }], put: { operationId: put, servers: [{ url: / }] } }
  /b: { get: { operationId: b } }
",
    ) + "servers: [{ url: 'https://x.example/d' }, { url: 'http://localhost:8080/d/' }]\n";
    let inventory = compile(&[("api.yaml", &text)]).unwrap();
    for (request, expected) in [
        ("GET /p/a", "api.a"),
        ("PUT /a", "api.put"),
        ("GET /d/b", "api.b"),
        ("GET /b", "http:GET"),
    ] {
        assert_eq!(id(&inventory, request), expected, "{request}");
    }
    let stated = text + "x-cardea: { base_path: /only }\n";
    let inventory = compile(&[("api.yaml", &stated)]).unwrap();
    assert_eq!(id(&inventory, "GET /only/a"), "api.a");
    assert_eq!(id(&inventory, "GET /only/b"), "api.b");
}

#[test]
fn lifecycle_is_the_operations_own_word_else_its_apis() {
    let text = document(
        "  /a: { get: { operationId: a } }
  /b: { get: { operationId: b, deprecated: true } }
  /c:
    x-cardea: { lifecycle: retired }
    get: { operationId: c }
    put: { operationId: d, x-cardea: { lifecycle: active } }
",
    );
    let lifecycles = |text: &str| {
        let inventory = compile(&[("api.yaml", text)]).unwrap();
        inventory
            .operations()
            .map(|one| one.route.lifecycle.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        lifecycles(&text),
        ["active", "deprecated", "retired", "active"]
    );
    let retired = text + "x-cardea: { lifecycle: retired }\n";
    assert_eq!(
        lifecycles(&retired),
        ["retired", "retired", "retired", "active"]
    );
}

#[test]
fn observed_is_the_operations_own_word_else_its_paths_else_its_documents() {
    let text = document(
        "  /a:
    get: { operationId: a }
    put: { operationId: b, x-cardea: { observe: true } }
  /c:
    x-cardea: { observe: true }
    get: { operationId: c }
    put: { operationId: d, x-cardea: { observe: false } }
  /e:
    x-cardea: { observe: false }
    get: { operationId: e }
",
    );
    let ids = |text: &str| {
        let inventory = compile(&[("api.yaml", text)]).unwrap();
        let ids: Vec<String> = inventory.observed().map(|one| one.id.to_string()).collect();
        // What no document describes is never among them.
        assert!(inventory.generic_operations().all(|one| !one.observed));
        ids
    };
    assert_eq!(ids(&text), ["api.b", "api.c"]);
    let whole = text.clone() + "x-cardea: { observe: true }\n";
    assert_eq!(ids(&whole), ["api.a", "api.b", "api.c"]);
    let told = observed(&[(PathBuf::from("api.yaml"), text)]);
    let places: Vec<_> = told.iter().map(|one| one.at.unwrap().0).collect();
    assert_eq!(places, [6, 9]);
    assert!(told[0].message.starts_with("`api.b` is observed"));
}

#[test]
fn observe_is_true_or_false_and_nothing_else() {
    for word in ["all", "1", "{ invalid_credentials: true }"] {
        let text = document(&format!(
            "  /a: {{ get: {{ operationId: a, x-cardea: {{ observe: {word} }} }} }}\n"
        ));
        let mistake = mistake(&text);
        assert!(mistake.starts_with("api.yaml:4:53: "), "{mistake}");
    }
}

mod mistakes;

//! What a proof says of a request is what `cardea decide` says of it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::bundle::{Bundle, Run};

/// What `cardea decide` says of a document.
fn decide(bundle: &Bundle, document: &Value) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardea"))
        .args(["decide", "--strict", "--bundle", &bundle.path()])
        .env_remove("CARDEA_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = command.stdin.take().unwrap();
    input.write_all(document.to_string().as_bytes()).unwrap();
    drop(input);
    let output = command.wait_with_output().unwrap();
    assert!(output.status.success(), "{document}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The documents by what they show, in the order of the report.
fn documents(run: &Run) -> Vec<(&str, &Value)> {
    let refuted = run.report["refuted"].as_array().unwrap().iter();
    refuted
        .map(|one| {
            let id = one["id"].as_str().unwrap_or("the bundle");
            (id, &one["counterexample"]["evaluation"])
        })
        .collect()
}

const ADDRESS: &str = r#"
    @id("oops") permit (principal, action == Cardea::Action::"shop.buy", resource)
    when { context.network.ip.isInRange(ip("192.0.2.0/24")) && context.time.weekday == 6 };"#;

#[test]
fn a_broken_invariant_is_a_request_that_is_allowed_and_says_no_more_than_it_takes() {
    let bundle = Bundle::of(ADDRESS);
    bundle.file(
        "callers.invariant.cedar",
        r#"@id("no-anonymous-write") forbid (principal is Cardea::Anonymous, action in Cardea::Action::"write", resource);"#,
    );
    let run = bundle.prove(&[]);
    let [("no-anonymous-write", document)] = documents(&run)[..] else {
        panic!("{run:?}");
    };
    assert_eq!(document["subject"]["type"], "anonymous", "{document}");
    let context = document["context"].as_object().unwrap();
    let mut sections: Vec<&String> = context.keys().collect();
    sections.sort();
    assert_eq!(sections, ["network", "time"], "{document}");
    assert_eq!(context["network"].as_object().unwrap().len(), 1);
    let said = decide(&bundle, document);
    assert_eq!(
        [&said["verdict"], &said["operation"], &said["policies"]],
        [&json!("allow"), &json!("shop.buy"), &json!(["oops"])],
        "{said}"
    );
    // What is left is what it takes.
    let mut less = document.clone();
    less["context"].as_object_mut().unwrap().remove("network");
    assert_eq!(decide(&bundle, &less)["verdict"], "deny");
}

#[test]
fn a_policy_that_can_err_is_a_request_for_which_it_errs() {
    let bundle = Bundle::of(include_str!("../fixtures/hazard/forbid_overflow.cedar"));
    let invariants = bundle.file(
        "more.cedar",
        r#"@id("shaky") forbid (principal is Cardea::User, action == Cardea::Action::"shop.buy", resource)
           when { context.risk.score * 100 > 5000 };"#,
    );
    let run = bundle.prove(&["--invariants", &invariants]);
    let documents = documents(&run);
    let (id, document) = documents[0];
    assert_eq!(id, "forbid-overflow", "{run:?}");
    let said = decide(&bundle, document);
    assert_eq!(said["verdict"], "deny", "{said}");
    assert_eq!(said["errors"][0]["policy"], "forbid-overflow", "{said}");
    let shaky = documents.iter().find(|(id, _)| *id == "shaky").unwrap();
    let score = shaky.1["context"]["risk"]["score"].as_i64().unwrap();
    assert!(score.checked_mul(100).is_none(), "{}", shaky.1);
}

/// By a role, on one host of several.
#[test]
fn what_a_broader_bundle_allows_is_a_request_that_the_old_one_denies() {
    let bundle = |acr: &str| {
        let bundle = Bundle::of(&format!(
            r#"@id("staff") permit (principal in Cardea::Role::"staff", action == Cardea::Action::"shop.buy", resource)
               when {{ context.device.managed && context.token has acr && context.token.acr like "{acr}" }};"#
        ));
        let hosts = "api: shop, hosts: [shop.example.com],";
        let document = super::bundle::SHOP.replace("api: shop,", hosts);
        bundle.file("shop.openapi.yaml", &document);
        bundle
    };
    let (old, new) = (bundle("gold*"), bundle("*d*"));
    let run = new.prove(&["--old", &old.path()]);
    let [("the bundle", document)] = documents(&run)[..] else {
        panic!("{run:?}");
    };
    assert_eq!(decide(&new, document)["verdict"], "allow", "{document}");
    assert_eq!(decide(&old, document)["verdict"], "deny", "{document}");
    assert_eq!(
        document["resource"]["properties"]["host"], "shop.example.com",
        "{document}"
    );
}

const BASKETS: &str = r#"
openapi: 3.1.0
info: { title: Shop, version: 1.0.0 }
x-cardea: { api: shop, exposure: public }
paths:
  /baskets/{id}:
    get:
      operationId: look
      x-cardea: { resource: { kind: basket, id: [id] } }
      parameters: [{ name: id, in: path, required: true, schema: { type: string } }]
      responses: { "200": { description: A basket } }
"#;

/// Whose an object is stands in files of entities: where they know none that will do, no document can say it.
#[test]
fn what_no_document_can_say_is_shown_without_one() {
    let bundle = Bundle::of(
        r#"@id("look") permit (principal is Cardea::User, action == Cardea::Action::"shop.look", resource);"#,
    );
    bundle.file("shop.openapi.yaml", BASKETS);
    let invariants = bundle.file(
        "more.cedar",
        r#"@id("own-tenant") forbid (principal is Cardea::User, action, resource is Cardea::Object)
           when { resource has tenant } unless { principal has tenant && principal.tenant == resource.tenant };"#,
    );
    let arguments = ["--invariants", &invariants];
    let run = bundle.prove(&arguments);
    assert_eq!(documents(&run), [("own-tenant", &Value::Null)], "{run:?}");

    bundle.file(
        "baskets.entities.json",
        r#"[{"uid":{"type":"Cardea::Object","id":"shop/basket/b 7"},
             "attrs":{"tenant":{"type":"Cardea::Tenant","id":"acme"}}}]"#,
    );
    let run = bundle.prove(&arguments);
    let [("own-tenant", document)] = documents(&run)[..] else {
        panic!("{run:?}");
    };
    assert_eq!(document["resource"]["id"], "b 7", "{run:?}");
    assert_eq!(decide(&bundle, document)["verdict"], "allow", "{document}");
}

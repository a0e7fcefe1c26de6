//! What entity files say is never passed over in silence: a forbid that stands on it would not apply.

use super::fixture::{BASE_SCHEMA, World, compile, document, operations};
use crate::model::{PrincipalKind, Problem};
use crate::policy::{BundleFiles, Policies};

const PERMIT: &str = "permit (principal, action, resource);";

fn allowed(policies: &str, entities: &str, world: &World) -> bool {
    let policies = compile(&[("p.cedar", policies)], &[("e.json", entities)]).unwrap();
    let principal = world.principal(&policies);
    policies
        .judge(world.question(&principal))
        .verdict
        .permitted()
}

fn refused(policies: &str, entities: &str) -> String {
    let problems = compile(&[("p.cedar", policies)], &[("e.json", entities)]).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

fn caller(kind: PrincipalKind) -> World {
    let mut world = World::new("a0.list", "");
    world.attributes.as_mut().unwrap().kind = kind;
    world
}

#[test]
fn an_attribute_that_a_file_gives_a_caller_counts() {
    let old_key = r#"[{"uid":{"type":"Cardea::Client","id":"https://i|alice"},
        "attrs":{"keyIssuedAt":{"__extn":{"fn":"datetime","arg":"2020-01-01"}}}}]"#;
    let forbid = r#"permit (principal, action, resource); forbid (principal is Cardea::Client, action, resource)
        when { principal has keyIssuedAt && principal.keyIssuedAt < datetime("2024-01-01") };"#;
    let client = caller(PrincipalKind::Client);
    assert!(!allowed(forbid, old_key, &client));
    assert!(allowed(forbid, "[]", &client));

    let ranked = r#"[{"uid":{"type":"Cardea::Agent","id":"https://i|alice"},"attrs":{"tier":3}}]"#;
    let permit =
        "permit (principal is Cardea::Agent, action, resource) when { principal.tier >= 3 };";
    let agent = caller(PrincipalKind::Agent);
    assert!(allowed(permit, ranked, &agent));
    assert!(!allowed(permit, "[]", &agent));
}

#[test]
fn what_a_credential_says_outranks_what_a_file_says_of_its_holder() {
    let lies = r#"[{"uid":{"type":"Cardea::User","id":"https://i|alice"},
        "attrs":{"sub":"bob","issuer":"https://other","tenant":{"type":"Cardea::Tenant","id":"listed"}}}]"#;
    let permit = r#"permit (principal is Cardea::User, action, resource)
        when { principal.sub == "alice" && principal.issuer == "https://i"
               && principal has tenant && principal.tenant == Cardea::Tenant::"claimed" };"#;
    let mut world = caller(PrincipalKind::User);
    assert!(!allowed(permit, lies, &world));
    world.attributes.as_mut().unwrap().tenant = Some("claimed".to_owned());
    assert!(allowed(permit, lies, &world));
}

#[test]
fn an_attribute_that_a_bundle_adds_to_objects_counts() {
    let schema = BASE_SCHEMA.replace(
        "owner?: User, tenant",
        "frozen?: Bool, owner?: User, tenant",
    );
    let frozen =
        r#"[{"uid":{"type":"Cardea::Object","id":"a0/things/7"},"attrs":{"frozen":true}}]"#;
    let forbid = "permit (principal, action, resource); forbid (principal, action, resource is Cardea::Object)
        when { resource has frozen && resource.frozen };";
    let files = BundleFiles {
        schema: vec![document("s.cedarschema", &schema)],
        policies: vec![document("p.cedar", forbid)],
        entities: vec![document("e.json", frozen)],
        ..BundleFiles::default()
    };
    let policies = Policies::compile(&files, &operations()).unwrap();
    for (id, expected) in [("7", false), ("8", true)] {
        let world = World::new("a0.get", id);
        let principal = world.principal(&policies);
        let verdict = policies.judge(world.question(&principal)).verdict;
        assert_eq!(verdict.permitted(), expected, "{id}");
    }
}

#[test]
fn e5_a_place_that_a_file_gives_a_route_counts_for_it_and_the_objects_behind_it() {
    let entities = r#"[
        {"uid":{"type":"Cardea::Route","id":"GET /a0/things"},"parents":[{"type":"Cardea::Tag","id":"frozen"}]},
        {"uid":{"type":"Cardea::Route","id":"GET /a0/things/{id}"},"parents":[{"type":"Cardea::Tag","id":"frozen"}]}]"#;
    let forbid = r#"permit (principal, action, resource);
        forbid (principal, action, resource in Cardea::Tag::"frozen");"#;
    for (operation, id, expected) in [
        ("a0.list", "", false),
        ("a0.get", "7", false),
        ("a1.list", "", true),
        ("a1.get", "7", true),
    ] {
        let world = World::new(operation, id);
        assert_eq!(allowed(forbid, entities, &world), expected, "{operation}");
    }
}

#[test]
fn e5_an_object_that_a_file_places_in_another_route_is_in_all_that_route_is_in() {
    let entities = r#"[
        {"uid":{"type":"Cardea::Object","id":"a0/things/7"},"parents":[{"type":"Cardea::Object","id":"a0/things/all"}]},
        {"uid":{"type":"Cardea::Object","id":"a0/things/all"},"parents":[{"type":"Cardea::Route","id":"GET /a1/things"}]}]"#;
    let forbid = r#"permit (principal, action, resource);
        forbid (principal, action, resource in Cardea::Api::"a1");"#;
    assert!(!allowed(forbid, entities, &World::new("a0.get", "7")));
    assert!(allowed(forbid, entities, &World::new("a0.get", "8")));
}

#[test]
fn entities_that_only_requests_make_are_refused_in_files() {
    for uid in [
        r#"{"type":"Cardea::Anonymous","id":"anonymous"}"#,
        r#"{"type":"Cardea::Claims","id":"claims"}"#,
        r#"{"type":"Cardea::Params","id":"params"}"#,
        r#"{"type":"Cardea::Numbers","id":"numbers"}"#,
    ] {
        let text = refused(PERMIT, &format!(r#"[{{"uid":{uid}}}]"#));
        assert!(text.contains("made anew for every request"), "{text}");
    }
}

#[test]
fn e5_a_policy_cannot_ask_of_entities_that_no_request_brings() {
    for condition in [
        r#"Cardea::Role::"r0" in Cardea::Role::"above""#,
        r#"Cardea::User::"https://i|alice" has tenant"#,
        r#"(if context.tls.mutual then principal else Cardea::User::"u") in Cardea::Role::"r0""#,
        r#"principal has tenant && principal.tenant in Cardea::Tenant::"acme""#,
        r#"{ r: Cardea::Role::"r0" }.r in Cardea::Role::"above""#,
    ] {
        let policy =
            format!("forbid (principal is Cardea::User, action, resource) when {{ {condition} }};");
        let text = refused(&policy, "[]");
        assert!(text.contains("level"), "{condition}: {text}");
    }
}

#[test]
fn every_generic_action_has_to_fit_what_a_request_says() {
    let moved = BASE_SCHEMA.replace(
        r#"action "http:DELETE" in ["delete"] appliesTo {
    principal: [User, Client, Workload, Agent, Anonymous], resource: [Route], context: Ctx };"#,
        r#"action "http:DELETE" in ["delete"] appliesTo {
    principal: [User, Client, Workload, Agent, Anonymous], resource: [Route], context: { token: Token } };"#,
    );
    assert_ne!(moved, BASE_SCHEMA);
    let files = BundleFiles {
        schema: vec![document("s.cedarschema", &moved)],
        policies: vec![document("p.cedar", PERMIT)],
        ..BundleFiles::default()
    };
    let problems: Vec<Problem> = Policies::compile(&files, &operations()).unwrap_err();
    assert!(
        problems[0]
            .message
            .contains("does not fit what a request says"),
        "{problems:?}"
    );
}

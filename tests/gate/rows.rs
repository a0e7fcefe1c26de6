//! Rows of the catalogue of attacks (docs/security/attacks.md) that concern several kinds of credentials at once.

use std::path::Path;

use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

use crate::api_keys::keys;
use crate::child::{Child, Line};
use crate::collector::Collector;
use crate::issuer::{AUDIENCE, Key, changed, claims};
use crate::world::{Ask, Setup, World, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A certificate whose subject has this common name, as Envoy encodes it.
pub(crate) fn certificate_of(name: &str) -> String {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let pair = KeyPair::generate().unwrap();
    let pem = parameters.self_signed(&pair).unwrap().pem();
    pem.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Has `setup` know API keys in this folder, and people by the common names of their certificates.
fn furnish(setup: &mut Setup, folder: &Path) {
    let identity = &mut setup.settings["identity"];
    identity["api_keys"] = json!({
        "file": folder.join("keys.json"), "hash_key": { "file": folder.join("hash-key") }, "poll": "50ms",
    });
    identity["certificates"] = json!({
        "validated_elsewhere": true,
        "names": [{ "from": "common_name", "issuer": "staff", "principal": "user" }],
    });
}

/// The token of alice, the key of bob and the certificate of carol on one request.
fn all_three(setup: &Setup, key: &str) -> Ask {
    let mut ask = Ask::get("/v1/orders")
        .bearer(&setup.key.token())
        .header("x-api-key", key);
    ask.attributes().source.as_mut().unwrap().certificate = certificate_of("carol");
    ask
}

/// Everybody whom a decision's line names beside the principal.
fn beside(child: &Child, id: &Value) -> Vec<String> {
    let mut line = None;
    eventually("the decision is logged", || {
        line = child.log().into_iter().find(|line| line["decision"] == *id);
        line.is_some()
    });
    let line = line.unwrap();
    let all = line["beside"].as_array().unwrap().iter();
    let mut names: Vec<String> = all
        .map(|one| one["subject"].as_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    names
}

/// A program that logs every decision and sends every span to `collector`, and a line to it.
fn logged(setup: &mut Setup, collector: &Collector) -> (Child, Line, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let port = runtime.block_on(collector.serve());
    setup.settings["telemetry"] = json!({
        "log": { "level": "info", "decisions": "all" },
        "traces": { "delay": "10ms" },
        "otlp": { "endpoint": format!("http://127.0.0.1:{port}") },
    });
    let child = Child::serve(&setup.settings, &[]);
    let line = child.line();
    (child, line, runtime)
}

#[test]
fn h5_a_token_a_key_and_a_certificate_of_three_callers_are_refused_and_all_three_recorded() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path(), "init", &[]);
    let key = keys(folder.path(), "create", &["--owner", "bob"]);
    let mut setup = Setup::new();
    furnish(&mut setup, folder.path());
    let collector = Collector::default();
    let (child, line, _runtime) = logged(&mut setup, &collector);
    let ask = all_three(&setup, key.trim());
    // Cold, and once all three are remembered.
    for _ in 0..2 {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let heard = line.ask_within(&parent, ask.clone());
        heard.assert_refused(400, "ambiguous_credential");
        assert_eq!(heard.metadata("principal"), Value::Null);
        assert_eq!(
            beside(&child, &heard.metadata("decision")),
            ["alice", "bob", "carol"]
        );
    }
    let trace: Vec<u8> = (0..16)
        .map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    eventually("the span names all three", || {
        let spans = format!("{:?}", collector.spans_of(&trace));
        ["|alice", "|bob", "|carol"]
            .iter()
            .all(|name| spans.contains(name))
    });
}

#[test]
fn h5_settings_say_which_of_three_callers_counts_and_the_others_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path(), "init", &[]);
    let key = keys(folder.path(), "create", &["--owner", "bob"]);
    let mut setup = Setup::new();
    furnish(&mut setup, folder.path());
    setup.settings["identity"]["routes"] = json!([{
        "schemes": ["certificate", "api_key", "jwt"],
        "combine": [["jwt", "api_key"], ["jwt", "certificate"]],
    }]);
    let (child, line, _runtime) = logged(&mut setup, &Collector::default());
    let ask = all_three(&setup, key.trim());
    for _ in 0..2 {
        let heard = line.ask(ask.clone());
        heard.assert_allowed(&["orders-read-by-role"]);
        assert_eq!(heard.header("x-cardea-subject"), Some("alice"));
        assert_eq!(
            beside(&child, &heard.metadata("decision")),
            ["bob", "carol"]
        );
    }
    // One bad credential among them spoils them all.
    let bad = ask.header("x-api-key", "cardea_aaaaaaaaaaaa_forged");
    line.ask(bad).assert_refused(401, "credential_invalid");
}

#[test]
fn c3_one_token_on_routes_with_rules_of_their_own_at_once_is_judged_by_each_routes_rule() {
    let world = World::with(|setup| {
        setup.settings["identity"]["routes"] = json!([
            { "operations": ["orders.listOrders"], "schemes": ["jwt"] },
            { "schemes": [] },
        ]);
    });
    let token = world.key.token();
    for _ in 0..2 {
        let asked: Vec<_> = (0..60)
            .map(|number| {
                let path = if number % 2 == 0 {
                    "/v1/orders"
                } else {
                    "/v1/orders/1001"
                };
                (
                    path,
                    world.spawn(Ask::get(path).bearer(&token).send(world.client())),
                )
            })
            .collect();
        for (path, heard) in asked {
            let heard = world.wait(heard).unwrap();
            if path == "/v1/orders" {
                heard.assert_allowed(&["orders-read-by-role"]);
            } else {
                heard.assert_refused(401, "credential_invalid");
            }
        }
    }
    assert_eq!(world.figures().judged, 1);
}

#[test]
fn c3_one_text_in_two_places_at_once_is_believed_in_its_own_only() {
    let world = World::with(|setup| {
        let mut second = setup.first_issuer().clone();
        second["issuer"] = "https://transactions.example.com".into();
        second["carrier"] = "transaction_token".into();
        second["token_types"] = json!(["txntoken+jwt"]);
        let issuers = setup.settings["identity"]["issuers"]
            .as_array_mut()
            .unwrap();
        issuers.push(second);
    });
    // Both issuers publish the same key, so nothing but the rules of each tells their tokens apart.
    let claims = changed(
        claims(),
        json!({ "iss": "https://transactions.example.com" }),
    );
    let header = changed(world.key.header(), json!({ "typ": "txntoken+jwt" }));
    let transaction = world
        .key
        .sign_texts(&header.to_string(), &claims.to_string());
    let bearer = world.key.token();
    for _ in 0..2 {
        let asked: Vec<_> = (0..80)
            .map(|number| {
                let token = if number % 2 == 0 {
                    &bearer
                } else {
                    &transaction
                };
                let in_authorization = number % 4 < 2;
                let ask = Ask::get("/v1/orders");
                let ask = if in_authorization {
                    ask.bearer(token)
                } else {
                    ask.header("txn-token", token)
                };
                let good = (number % 2 == 0) == in_authorization;
                (good, world.spawn(ask.send(world.client())))
            })
            .collect();
        for (good, heard) in asked {
            let heard = world.wait(heard).unwrap();
            if good {
                heard.passed();
            } else {
                heard.assert_invalid();
            }
        }
    }
}

#[test]
fn x5_a_value_that_comes_twice_is_a_set_or_is_refused() {
    let world = World::with(|setup| {
        setup.write(
            "roles.cedar",
            r#"@id("admins") permit (principal in Cardea::Role::"admin", action == Cardea::Action::"orders.createOrder", resource);"#,
        );
    });
    let create = |roles: Value| {
        let token = world.key.token_with(json!({ "roles": roles, "scope": "" }));
        Ask::new("POST", "/v1/orders").bearer(&token)
    };
    world
        .ask(create(json!(["user", "admin"])))
        .assert_allowed(&["admins"]);
    // Joined, they are the name of another role.
    for roles in [
        json!("user,admin"),
        json!("user admin"),
        json!(["user,admin"]),
        json!(["user, admin"]),
    ] {
        world
            .ask(create(roles))
            .assert_refused(403, "not_permitted");
    }
    // Headers that name roles are nobody's, however often they come.
    let user = create(json!(["user"]));
    let bearer = user.clone().http().headers["authorization"].clone();
    for fields in [
        vec![("x-role", "user"), ("x-role", "admin")],
        vec![("x-role", "admin")],
        vec![("x-role", "user, admin")],
        vec![("x-cardea-roles", "user"), ("x-cardea-roles", "admin")],
    ] {
        let mut all: Vec<(&str, &[u8])> = vec![("authorization", bearer.as_bytes())];
        all.extend(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        let ask = user.clone().raw_headers(&all);
        world.ask(ask).assert_refused(403, "not_permitted");
    }
}

#[test]
fn x5_headers_that_cardea_reads_are_read_once_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path(), "init", &[]);
    let key = keys(folder.path(), "create", &["--owner", "bob"]);
    let transactions = Key::es256("k1");
    let world = World::with(|setup| {
        furnish(setup, folder.path());
        setup.settings["identity"]["certificates"]["forwarded"] =
            json!({ "header": "client-cert", "from": ["203.0.113.0/24"] });
        let mut second = setup.first_issuer().clone();
        second["issuer"] = "https://transactions.example.com".into();
        second["audiences"] = json!([AUDIENCE]);
        second["carrier"] = "transaction_token".into();
        second["token_types"] = json!(["txntoken+jwt"]);
        let issuers = setup.settings["identity"]["issuers"]
            .as_array_mut()
            .unwrap();
        issuers.push(second);
    });
    let bearer = format!("Bearer {}", world.key.token());
    let transaction = transactions.token();
    for (name, value) in [
        ("authorization", &*bearer),
        ("x-api-key", key.trim()),
        ("txn-token", &*transaction),
    ] {
        let twice = [(name, value.as_bytes()), (name, value.as_bytes())];
        let heard = world.ask(Ask::get("/v1/status").raw_headers(&twice));
        heard.assert_refused(400, "ambiguous_credential");
        let joined = format!("{value},{value}");
        let heard = world.ask(Ask::get("/v1/status").header(name, &joined));
        heard.assert_refused(400, "ambiguous_credential");
    }
    let der: [(&str, &[u8]); 2] = [("client-cert", b":AAAA:"), ("client-cert", b":AAAA:")];
    let heard = world.ask(Ask::get("/v1/status").raw_headers(&der));
    assert!(!heard.allowed(), "{heard:?}");
    assert!(matches!(heard.http(), 400 | 401), "{heard:?}");
}

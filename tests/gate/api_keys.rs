//! API keys, from making one with the program to losing it.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::child::{run, told};
use crate::world::{Ask, World, eventually};

const CHALLENGE: &str = "ApiKey realm=\"cardea\", in=\"header\", name=\"x-api-key\"";

/// The shipped policies ask for an audience, which no key has.
const POLICY: &str = r#"@id("api_key-read-orders") permit (principal is Cardea::Client in Cardea::Role::"order-viewer", action == Cardea::Action::"orders.listOrders", resource)
    when { context.token.kind == "api_key" && principal.kind == "api_key" && context.token.scopes.contains("orders:read") };"#;

/// A folder with a hash key, and a Cardea that knows keys only.
struct Keys {
    folder: TempDir,
    world: World,
}

impl Keys {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        keys(folder.path(), "init", &[]);
        let places = [
            folder.path().join("keys.json"),
            folder.path().join("hash-key"),
        ];
        let world = World::with(|setup| {
            let [file, secret] = &places;
            setup.write("keys.cedar", POLICY);
            let identity = &mut setup.settings["identity"];
            identity["issuers"] = json!([]);
            identity["api_keys"] =
                json!({ "file": file, "hash_key": { "file": secret }, "poll": "50ms" });
        });
        Self { folder, world }
    }

    /// Makes a key that may read orders.
    fn create(&self) -> String {
        let arguments = [
            "--owner",
            "billing",
            "--scope",
            "orders:read",
            "--role",
            "order-viewer",
            "--tenant",
            "acme",
        ];
        keys(self.folder.path(), "create", &arguments)
            .trim()
            .to_owned()
    }

    fn present(&self, key: &str) -> crate::world::Heard {
        let ask = Ask::get("/v1/orders").header("x-api-key", key);
        self.world.ask(ask)
    }
}

/// Runs `cardea keys` on the files of a folder: standard output.
#[track_caller]
pub(crate) fn keys(folder: &Path, what: &str, more: &[&str]) -> String {
    let [file, secret] = ["keys.json", "hash-key"].map(|name| folder.join(name));
    let (file, secret) = (file.to_str().unwrap(), secret.to_str().unwrap());
    let places = ["keys", what, "--file", file, "--hash-key-file", secret];
    let output = run(&[&places[..], more].concat());
    assert_eq!(told(&output), (Some(0), told(&output).1));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn c5_a_key_passes_once_it_is_made_cold_and_warm_and_ends_when_it_is_revoked() {
    let room = Keys::start();
    let key = room.create();
    eventually("the new key is known", || room.present(&key).allowed());
    let warm = room.present(&key);
    warm.passed();
    assert_eq!(warm.header("x-cardea-subject"), Some("billing"));
    assert_eq!(warm.header("x-cardea-principal"), Some("Client"));
    assert!(room.world.figures().hits > 0);
    let id = key.split('_').nth(1).unwrap();
    keys(room.folder.path(), "revoke", &[id]);
    eventually("the key is revoked", || !room.present(&key).allowed());
    let refused = room.present(&key);
    refused.assert_refused(401, "credential_invalid");
    assert_eq!(refused.header("www-authenticate"), Some(CHALLENGE));
}

#[test]
fn c5_a_rotated_key_passes_beside_its_successor_until_the_overlap_ends() {
    let room = Keys::start();
    let old = room.create();
    let id = old.split('_').nth(1).unwrap();
    let new = keys(room.folder.path(), "rotate", &[id, "--overlap", "1h"]);
    let new = new.trim();
    eventually("the new key is known", || room.present(new).allowed());
    room.present(&old).passed();
    let id = new.split('_').nth(1).unwrap();
    let newest = keys(room.folder.path(), "rotate", &[id, "--overlap", "0s"]);
    eventually("the newest key is known", || {
        room.present(newest.trim()).allowed()
    });
    eventually("its predecessor has ended", || !room.present(new).allowed());
    room.present(&old).passed();
}

#[test]
fn h3_a_key_in_the_query_is_refused_and_told_where_it_belongs() {
    let room = Keys::start();
    let key = room.create();
    eventually("the key is known", || room.present(&key).allowed());
    let heard = room
        .world
        .ask(Ask::get(&format!("/v1/orders?api_key={key}")));
    heard.assert_refused(401, "credential_invalid");
    assert_eq!(heard.header("www-authenticate"), Some(CHALLENGE));
    assert!(!format!("{heard:?}").contains(&key));
    let both = Ask::get(&format!("/v1/status?api_key={key}")).header("x-api-key", &key);
    room.world
        .ask(both)
        .assert_refused(400, "ambiguous_credential");
}

#[test]
fn an_operation_that_needs_a_caller_says_that_a_key_would_do_and_a_bearer_token_would_not() {
    let room = Keys::start();
    let heard = room.world.ask(Ask::get("/v1/orders"));
    heard.assert_refused(401, "credential_missing");
    assert_eq!(heard.header("www-authenticate"), Some(CHALLENGE));
    room.world.ask(Ask::get("/v1/status")).passed();
    let forged = room.present("cardea_aaaaaaaaaaaa_forged");
    forged.assert_refused(401, "credential_invalid");
}

#[test]
fn a_start_without_its_keys_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = crate::issuer::KeyServer::start();
    let bundle = crate::world::shipped_bundle();
    let mut settings = crate::world::settings(&issuer, bundle.path());
    settings["identity"]["api_keys"] = json!({
        "file": folder.path().join("keys.json"),
        "hash_key": { "file": folder.path().join("hash-key") },
    });
    let problems = crate::world::start(&settings).expect_err("refused");
    assert!(
        format!("{problems:?}").contains("cardea keys init"),
        "{problems:?}"
    );
}

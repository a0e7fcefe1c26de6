//! User names and passwords, as legacy clients send them.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;

use crate::world::{Ask, Heard, World, eventually, write};

const PASSWORD: &str = "correct horse battery";

/// The shipped policies ask for an audience, which no password has.
const POLICY: &str = r#"@id("basic-read-orders") permit (principal is Cardea::Client in Cardea::Role::"order-viewer", action == Cardea::Action::"orders.listOrders", resource)
    when { context.token.kind == "basic" && principal.kind == "basic" && context.token.scopes.contains("orders:read") };"#;

/// The hash of the password, made by the program.
fn hash() -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cardea"))
        .args(["keys", "hash-password"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(PASSWORD.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn users(hash: &str, disabled: bool) -> String {
    format!(
        "{{version: 1, users: {{erp: {{hash: \"{hash}\", roles: [order-viewer], scopes: [\"orders:read\"], tenant: acme, disabled: {disabled}}}}}}}"
    )
}

fn start(hash: &str) -> (TempDir, World) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "users.yaml", &users(hash, false));
    let world = World::with(|setup| {
        setup.write("legacy.cedar", POLICY);
        setup.settings["identity"]["basic"] = json!({
            "file": folder.path().join("users.yaml"), "poll": "50ms", "wait": "10s", "max_attempts": 3,
        });
    });
    (folder, world)
}

fn present(world: &World, password: &str) -> Heard {
    let sent = STANDARD.encode(format!("erp:{password}"));
    world.ask(Ask::get("/v1/orders").header("authorization", &format!("Basic {sent}")))
}

#[test]
fn a_password_opens_the_door_until_its_user_is_disabled_and_guesses_do_not() {
    let hash = hash();
    let (folder, world) = start(&hash);
    let cold = present(&world, PASSWORD);
    cold.passed();
    assert_eq!(cold.header("x-cardea-subject"), Some("erp"));
    present(&world, PASSWORD).passed();
    let wrong = present(&world, "battery horse");
    wrong.assert_refused(401, "credential_invalid");
    let challenge = "Bearer realm=\"cardea\", Basic realm=\"cardea\", charset=\"UTF-8\"";
    assert_eq!(wrong.header("www-authenticate"), Some(challenge));
    present(&world, "another guess").assert_refused(401, "credential_invalid");
    present(&world, "too many").assert_refused(429, "too_many_requests");
    present(&world, PASSWORD).passed();
    write(folder.path(), "users.yaml", &users(&hash, true));
    eventually("the user is disabled", || {
        !present(&world, PASSWORD).allowed()
    });
}

#[test]
fn h3_a_password_over_plain_http_is_refused() {
    let (_folder, world) = start(&hash());
    let sent = STANDARD.encode(format!("erp:{PASSWORD}"));
    let mut ask = Ask::get("/v1/orders").header("authorization", &format!("Basic {sent}"));
    ask.http().scheme = "http".to_owned();
    world.ask(ask).assert_refused(401, "credential_invalid");
}

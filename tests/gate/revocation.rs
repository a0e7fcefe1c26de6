//! Trust taken back: the next check after the answer is refused, and nobody else notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, run, told};
use crate::issuer::{ISSUER, now};
use crate::world::{Metrics, Setup, World, eventually, http_get, start};

const SECRET: &str = "canary-0123456789abcdef";

/// A folder with the secret and a place for revocations.
struct Office {
    folder: TempDir,
}

impl Office {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), SECRET).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn furnish(&self, setup: &mut Setup) {
        setup.settings["admin"]["token"] = json!({ "file": self.path("token") });
        setup.settings["identity"]["revocation"] = json!({ "file": self.path("revoked.jsonl") });
    }

    fn open(&self) -> World {
        World::with(|setup| self.furnish(setup))
    }

    /// Runs `cardea revoke` against a server.
    fn revoke(&self, admin: SocketAddr, arguments: &[&str]) -> (Option<i32>, String) {
        let (admin, token) = (format!("http://{admin}"), self.path("token"));
        let mut all = vec!["revoke"];
        all.extend(arguments);
        all.extend(["--admin", &admin, "--token-file", token.to_str().unwrap()]);
        let output = run(&all);
        let said = String::from_utf8(output.stdout.clone()).unwrap() + &told(&output).1;
        assert!(!said.contains(SECRET));
        (output.status.code(), said)
    }
}

/// One call to the admin endpoint: status and body.
fn call(admin: SocketAddr, line: &str, secret: Option<&str>, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(admin).unwrap();
    let authorization = secret.map_or_else(String::new, |secret| {
        format!("authorization: Bearer {secret}\r\n")
    });
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

impl World {
    fn admin_address(&self) -> SocketAddr {
        self.app().admin_address().unwrap()
    }

    #[track_caller]
    fn revoke(&self, target: &Value) -> Value {
        let body = json!({ "target": target }).to_string();
        let (status, answer) = call(
            self.admin_address(),
            "POST /revocations",
            Some(SECRET),
            &body,
        );
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

fn subject(name: &str) -> Value {
    json!({ "subject": { "issuer": ISSUER, "subject": name } })
}

#[test]
fn the_next_check_after_the_answer_is_refused_and_others_are_still_remembered() {
    let office = Office::new();
    let world = office.open();
    let token = world
        .key
        .token_with(json!({ "sub": "mallory", "jti": "1" }));
    let second = world
        .key
        .token_with(json!({ "sub": "mallory", "jti": "2" }));
    let other = world.key.token();
    for token in [&token, &second, &other, &token] {
        world.present(token).passed();
    }
    let answer = world.revoke(&subject("mallory"));
    assert_eq!(answer["evicted"], 2);
    assert_eq!(answer["saved"], "yes");
    world.present(&token).assert_invalid();
    world.present(&second).assert_invalid();
    let before = world.figures().hits;
    world.present(&other).passed();
    assert_eq!(
        world.figures().hits,
        before + 1,
        "others are still remembered"
    );
    let metrics = world.metrics();
    let sum = |name: &str, labels: &[&str]| metrics.sum(name, labels);
    let labels = ["target=\"subject\"", "source=\"admin\""];
    assert!((sum("cardea_revocations_total", &labels) - 1.0).abs() < 0.1);
    assert!((sum("cardea_revocations_evicted_total", &[]) - 2.0).abs() < 0.1);
    assert!((sum("cardea_revocations_entries", &[]) - 1.0).abs() < 0.1);
    assert!((sum("cardea_credential_faults_total", &["fault=\"revoked\""]) - 2.0).abs() < 0.1);
}

#[test]
fn who_logs_in_again_is_believed() {
    let office = Office::new();
    let world = office.open();
    let old = world.key.token();
    world.present(&old).passed();
    let who = world
        .key
        .token_with(json!({ "jti": "again", "iat": now() + 2 }));
    world.revoke(&json!({ "issuer": { "issuer": ISSUER } }));
    world.present(&old).assert_invalid();
    world.present(&who).passed();
}

#[test]
fn a_token_is_refused_by_whatever_was_revoked_of_it_the_first_time_it_is_seen() {
    for (claims, target) in [
        (
            json!({ "jti": "t" }),
            json!({ "token_id": { "token_id": "t" } }),
        ),
        (
            json!({ "sid": "s" }),
            json!({ "session": { "issuer": ISSUER, "session_id": "s" } }),
        ),
        (
            json!({ "client_id": "c" }),
            json!({ "client": { "issuer": ISSUER, "client_id": "c" } }),
        ),
    ] {
        let office = Office::new();
        let world = office.open();
        world.revoke(&target);
        world
            .present(&world.key.token_with(claims))
            .assert_invalid();
        world.get("/v1/orders").passed();
        assert_eq!(world.figures().hits, 0, "{target}");
    }
}

#[test]
fn a_restart_does_not_forget_and_what_was_lifted_stays_so() {
    let office = Office::new();
    let world = office.open();
    world.revoke(&subject("mallory"));
    let lifted = world.revoke(&subject("bob"));
    let line = format!("DELETE /revocations/{}", lifted["id"].as_str().unwrap());
    let admin = world.admin_address();
    assert_eq!(call(admin, &line, Some(SECRET), "").0, 200);
    assert_eq!(call(admin, &line, Some(SECRET), "").0, 404);
    world.stop_and(std::future::ready(()));
    let world = office.open();
    let of = |sub: &str| world.key.token_with(json!({ "sub": sub }));
    world.present(&of("mallory")).assert_invalid();
    world.present(&of("bob")).passed();
    let (status, list) = call(world.admin_address(), "GET /revocations", Some(SECRET), "");
    assert_eq!((status, &list["total"]), (200, &json!(1)));
    assert_eq!(list["revocations"][0]["target"], subject("mallory"));
}

#[test]
fn a_file_that_cannot_be_read_stops_the_start() {
    let office = Office::new();
    std::fs::write(
        office.path("revoked.jsonl"),
        "{\"cardea_revocations\":1}\n{\"revoke\":{}}\n",
    )
    .unwrap();
    let mut setup = Setup::new();
    office.furnish(&mut setup);
    let problems = start(&setup.settings).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].at, Some((2, 1)), "{problems:?}");
}

#[test]
fn g1_nobody_changes_or_reads_revocations_without_the_secret() {
    let office = Office::new();
    let body = json!({ "target": subject("mallory") }).to_string();
    let open = office.open();
    let shut = World::new();
    for (world, expected) in [(&open, 401), (&shut, 403)] {
        let token = world.key.token_with(json!({ "sub": "mallory" }));
        for secret in [None, Some("canary-0123456789abcdee"), Some("x")] {
            for line in [
                "POST /revocations",
                "GET /revocations",
                "DELETE /revocations/1",
            ] {
                let body = if line.starts_with("POST") { &body } else { "" };
                let (status, answer) = call(world.admin_address(), line, secret, body);
                assert_eq!(status, expected, "{line} {answer}");
            }
        }
        world.present(&token).passed();
        assert_eq!(world.admin("/metrics").0, 200);
    }
}

#[test]
fn a_mistaken_call_hears_all_its_mistakes_and_changes_nothing() {
    let office = Office::new();
    let world = office.open();
    let body = json!({ "target": { "subject": { "subject": "mallory" } }, "issued_before": 7 });
    let admin = world.admin_address();
    let (status, answer) = call(admin, "POST /revocations", Some(SECRET), &body.to_string());
    assert_eq!(status, 400);
    assert_eq!(answer["mistakes"].as_array().unwrap().len(), 2, "{answer}");
    let token = world.key.token_with(json!({ "sub": "mallory" }));
    world.present(&token).passed();
}

#[test]
fn the_command_revokes_lists_and_lifts() {
    let office = Office::new();
    let world = office.open();
    let admin = world.admin_address();
    let token = world.key.token_with(json!({ "sub": "mallory" }));
    world.present(&token).passed();
    let who = ["--subject", "mallory", "--issuer", ISSUER, "--id", "one"];
    let until = |before| {
        let times = [
            "--issued-before",
            before,
            "--expires-at",
            "2127-01-01T00:00:00Z",
        ];
        [&who[..], &times[..]].concat()
    };
    let arguments = until("2126-01-01T00:00:00Z");
    let (code, said) = office.revoke(admin, &arguments);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said,
        "one is in force: 1 cached proofs evicted, saved: yes\n"
    );
    world.present(&token).assert_invalid();
    let (_, said) = office.revoke(admin, &arguments);
    assert!(said.starts_with("one is in force already"), "{said}");
    let (_, said) = office.revoke(admin, &until("2126-06-01T00:00:00Z"));
    assert!(said.starts_with("one is in force: 0 cached"), "{said}");
    let (code, said) = office.revoke(admin, &["list", "--format", "json"]);
    let list: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &list["revocations"][0]["source"]),
        (Some(0), &json!("cli"))
    );
    let (_, said) = office.revoke(admin, &["list"]);
    assert!(
        said.starts_with("one  ") && said.ends_with("1 in force\n"),
        "{said}"
    );
    let (code, said) = office.revoke(admin, &["lift", "one"]);
    assert_eq!((code, said.as_str()), (Some(0), "one is lifted\n"));
    world.present(&token).passed();
    assert_eq!(office.revoke(admin, &["lift", "one"]).0, Some(1));
    let conflict = ["--token-id", "t", "--expires-at", "2001-01-01T00:00:00Z"];
    let (code, said) = office.revoke(admin, &conflict);
    assert_eq!(code, Some(1));
    assert!(said.contains("`expires_at` has passed"), "{said}");
}

#[test]
fn the_command_says_what_is_missing() {
    let office = Office::new();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    for (arguments, part) in [
        (&["--subject", "alice"][..], "--issuer"),
        (&["--issuer", ISSUER], "--everyone"),
        (&["--token-id", "t", "--client", "c"], "cannot be used"),
        (&["--token-id", "t"], "cannot be asked"),
        (&["lift", "../metrics"], "no id"),
        (&[], "it is not said what to revoke"),
    ] {
        let (code, said) = office.revoke(nobody, arguments);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(part), "{said}");
    }
    let far = ["revoke", "list", "--admin", "http://192.0.2.1:9192"];
    let (code, said) = told(&run(&far));
    assert_eq!(code, Some(2));
    assert!(said.contains("must be an https URL"), "{said}");
}

#[test]
fn a3_an_event_is_logged_without_the_secret_and_without_what_it_names() {
    let office = Office::new();
    let mut setup = Setup::new();
    office.furnish(&mut setup);
    setup.settings["telemetry"]["log"]["level"] = "info".into();
    let child = Child::serve(&setup.settings, &[]);
    eventually("it is ready", || http_get(child.admin, "/ready").0 == 200);
    for target in [
        json!({ "token_id": { "token_id": "canary-jti" } }),
        json!({ "session": { "issuer": ISSUER, "session_id": "canary-sid" } }),
        json!({ "key": { "key_id": "canary-key" } }),
        subject("mallory"),
    ] {
        let body = json!({ "target": target, "id": "e-1", "reason": "lost" });
        let body = match target.get("subject") {
            Some(_) => body,
            None => json!({ "target": target }),
        };
        let (status, _) = call(
            child.admin,
            "POST /revocations",
            Some(SECRET),
            &body.to_string(),
        );
        assert_eq!(status, 200);
    }
    call(
        child.admin,
        "POST /revocations",
        Some("canary-wrong-secret"),
        "{}",
    );
    eventually("the events are logged", || {
        let log = child.log();
        let told = |line: &&Value| line["message"] == "trust was taken back";
        let last = log.iter().rfind(told).cloned().unwrap_or_default();
        let refused = |line: &Value| {
            let text = line["message"].as_str().unwrap_or_default();
            text.contains("without its secret")
        };
        last["id"] == "e-1"
            && last["subject"] == "mallory"
            && last["reason"] == "lost"
            && log.iter().any(refused)
    });
    let metrics = Metrics(http_get(child.admin, "/metrics").1);
    assert!((metrics.sum("cardea_revocations_total", &[]) - 4.0).abs() < 0.1);
    assert!(!metrics.0.contains("canary"));
    assert!(!child.output().contains("canary"), "{}", child.output());
}

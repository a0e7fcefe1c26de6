//! `cardea decide`: one line in, one line out; and the verdict is the server's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardea::app::App;
use cardea::config::Config;
use cardea::envoy::request::{self, Call, RequestSettings};
use cardea::model::SystemClock;
use cardea::rehearsal::{Answer, Asking, Form, Reader};
use serde_json::{Value, json};

use crate::{cardea, shipped, text};

fn decide(more: &[&str], input: &[u8]) -> (Option<i32>, Vec<Value>) {
    let bundle = shipped();
    let mut arguments = vec!["decide", "--bundle", bundle.to_str().unwrap()];
    arguments.extend(more);
    let output = cardea(&arguments, input);
    assert_eq!(text(&output.stderr), "");
    let lines = text(&output.stdout);
    let answers = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), answers.collect())
}

fn verdicts(answers: &[Value]) -> Vec<&str> {
    let verdicts = answers.iter().map(|answer| answer["verdict"].as_str());
    verdicts.map(Option::unwrap).collect()
}

#[test]
fn every_line_has_its_answer_in_order_whatever_it_holds() {
    let status = r#"{"caller":"anonymous","request":{"path":"/v1/status"}}"#;
    let mut input = Vec::new();
    let deep = format!("{{\"request\":{}", "[".repeat(100_000));
    let long = format!("{{\"caller\":\"{}\"}}", "a".repeat(1024 * 1024));
    for line in [
        status,
        "not json",
        "",
        r#"{"subject":{"type":"anonymous","id":"a"},"action":{"name":"orders.getStatus"},"resource":{"type":"route","id":"s"}}"#,
        &deep,
        &long,
        r#"{"attributes":{"request":{"http":{"method":"GET","path":"/v1/status","host":"a","scheme":"http"}}}}"#,
        "\u{0}\u{1b}[2J",
        "{}",
    ] {
        input.extend_from_slice(line.as_bytes());
        input.push(b'\n');
    }
    input.extend_from_slice(b"\xff\xfe\n");
    input.extend_from_slice(status.as_bytes());
    let (code, answers) = decide(&[], &input);
    assert_eq!(code, Some(0));
    assert_eq!(
        verdicts(&answers),
        [
            "allow", "deny", "deny", "allow", "deny", "deny", "allow", "deny", "deny", "deny",
            "allow"
        ]
    );
    for (index, answer) in answers.iter().enumerate() {
        let error = answer.get("error");
        assert_eq!(error.is_some(), answer["verdict"] == "deny", "{answer}");
        if let Some(error) = error {
            assert_eq!(
                (&error["line"], &answer["decision"]),
                (&(index + 1).into(), &false.into())
            );
        }
    }
    assert_eq!(
        answers[5]["error"]["message"],
        "the line is longer than 1 MiB"
    );
    assert_eq!(decide(&["--strict"], &input).0, Some(1));
    assert_eq!(decide(&["--strict"], status.as_bytes()).0, Some(0));
    assert_eq!(decide(&[], b"").1.len(), 0);
}

#[test]
fn a_form_can_be_forced_and_the_time_set() {
    let case = br#"{"caller":"anonymous","request":{"path":"/v1/status"}}"#;
    assert!(
        decide(&["--format", "authzen"], case).1[0]
            .get("error")
            .is_some()
    );
    assert_eq!(decide(&["--format", "case"], case).1[0]["verdict"], "allow");
    let risky = br#"{"caller":{"roles":"order-editor","scopes":"orders:write","assurance":3,"auth_time":"2026-01-05T11:58:00Z"},
        "risk":{"score":80},"request":{"method":"POST","path":"/v1/orders"}}"#;
    let risky: Vec<u8> = risky
        .iter()
        .copied()
        .filter(|byte| *byte != b'\n')
        .collect();
    for (at, reason) in [
        ("2026-01-05T12:00:00Z", "permitted"),
        ("2026-01-05T12:09:00Z", "step_up_required"),
    ] {
        assert_eq!(decide(&["--at", at], &risky).1[0]["reason"], reason);
    }
}

#[test]
fn an_answer_comes_before_the_next_line_is_asked_for() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cardea"))
        .args(["decide", "--bundle", shipped().to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for path in ["/v1/status", "/v1/orders"] {
        writeln!(
            input,
            r#"{{"caller":"anonymous","request":{{"path":"{path}"}}}}"#
        )
        .unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["decision"], path == "/v1/status");
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

const ISSUER: &str = "https://login.example.com";

/// An issuer with a key of its own; its key set lies in a file.
pub(crate) struct Issuer {
    key: Ed25519KeyPair,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self {
            key: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn key_set(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k1", "x": x }] }).to_string()
    }

    /// A token; `change` replaces some of its claims.
    pub(crate) fn token(&self, change: &Value) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({
            "iss": ISSUER, "sub": "alice", "aud": "https://api.example.com", "iat": now, "exp": now + 300,
            "scope": "orders:read", "roles": ["order-viewer"], "tenant": "acme",
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(&json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "k1" })),
            part(&claims)
        );
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

pub(crate) fn check(path: &str, authorization: Option<&str>) -> Value {
    let mut headers = json!({ ":path": path, "accept": "*/*" });
    if let Some(value) = authorization {
        headers["authorization"] = value.into();
    }
    json!({ "attributes": { "request": { "http": {
        "method": "GET", "path": path, "host": "api.example.com", "scheme": "https", "headers": headers,
    } } } })
}

/// Settings that believe one issuer, written where the program can read them.
pub(crate) fn settings(folder: &std::path::Path, issuer: &Issuer) -> String {
    let keys = folder.join("keys.json");
    fs::write(&keys, issuer.key_set()).unwrap();
    let settings = json!({
        "listen": { "address": "127.0.0.1:0", "workers": 1 },
        "admin": { "address": "127.0.0.1:0" },
        "bundle": { "path": shipped() },
        "telemetry": { "log": { "decisions": "none", "level": "error" } },
        "identity": { "issuers": [{
            "issuer": ISSUER, "audiences": ["https://api.example.com"], "keys": { "jwks_file": keys },
            "claims": { "roles": ["roles"], "tenant": "tenant" },
        }] },
    });
    settings.to_string()
}

fn checks(issuer: &Issuer) -> Vec<(Value, &'static str)> {
    let bearer = |token: &str| format!("Bearer {token}");
    let good = issuer.token(&json!({}));
    let (rest, _) = good.rsplit_once('.').unwrap();
    let forged = Issuer::new().token(&json!({}));
    let at = |path: &str, value: &str| check(path, Some(value));
    vec![
        (at("/v1/orders/1001", &bearer(&good)), "permitted"),
        (at("/v1/orders/2001", &bearer(&good)), "forbidden"),
        (
            at(
                "/v1/orders/1001",
                &bearer(&issuer.token(&json!({ "roles": [] }))),
            ),
            "not_permitted",
        ),
        (
            at(
                "/v1/orders/1001",
                &bearer(&issuer.token(&json!({ "exp": 1_700_000_000 }))),
            ),
            "credential_invalid",
        ),
        (
            at(
                "/v1/orders/1001",
                &bearer(&issuer.token(&json!({ "aud": "other" }))),
            ),
            "credential_invalid",
        ),
        (
            at("/v1/orders/1001", &bearer(&forged)),
            "credential_invalid",
        ),
        (
            at("/v1/orders/1001", &bearer(&format!("{rest}.AAAA"))),
            "credential_invalid",
        ),
        (at("/v1/orders/1001", "Basic YTpi"), "credential_invalid"),
        (check("/v1/orders/1001", None), "credential_missing"),
        (check("/v1/status", None), "permitted"),
        (at("/v1/status", &bearer(&forged)), "credential_invalid"),
        (check("/v1/../status", None), "ambiguous_path"),
        (check("/nowhere", None), "forbidden"),
    ]
}

#[test]
fn envoys_checks_are_decided_as_the_server_decides_them() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let settings = settings(folder.path(), &issuer);
    let file = folder.path().join("cardea.yaml");
    fs::write(&file, &settings).unwrap();
    let checks = checks(&issuer);
    let input: String = checks
        .iter()
        .map(|(check, _)| format!("{check}\n"))
        .collect();
    let (code, answers) = decide(&["--config", file.to_str().unwrap()], input.as_bytes());
    assert_eq!((code, answers.len()), (Some(0), checks.len()));

    let config = Config::parse(&settings).unwrap();
    let app = App::start(&config).unwrap();
    assert!(app.wait_until_ready(Duration::from_secs(30)));
    let pipeline = app.pipeline();
    let snapshot = pipeline.snapshots.current().unwrap();
    let staging = cardea::app::staging(&config, pipeline.clock.clone()).unwrap();
    let reader = Reader {
        snapshot: &snapshot,
        staging: &staging,
        now: pipeline.clock.now(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for ((check, reason), answer) in checks.iter().zip(&answers) {
        let asking = reader
            .read(check.to_string().as_bytes(), Some(Form::Envoy))
            .unwrap();
        let Asking::Check(message) = asking else {
            panic!("no check");
        };
        let call = Call::read(&http::HeaderMap::new(), &SystemClock);
        let asked = request::read(*message, call, &RequestSettings::default());
        let decision = runtime.block_on(pipeline.decide(asked));
        let server = serde_json::to_value(Answer::of(&decision)).unwrap();
        assert_eq!(*answer, server, "{check}");
        assert_eq!(answer["reason"], *reason, "{check}");
    }
    app.stop();
}

#[test]
fn without_settings_no_token_is_believed() {
    let issuer = Issuer::new();
    let line = check(
        "/v1/orders/1001",
        Some(&format!("Bearer {}", issuer.token(&json!({})))),
    );
    let (_, answers) = decide(&[], line.to_string().as_bytes());
    assert_eq!(
        (&answers[0]["reason"], &answers[0]["status"]),
        (&json!("credential_invalid"), &json!(401))
    );
}

#[test]
fn the_time_that_is_set_decides_whether_a_token_has_expired() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let file = folder.path().join("cardea.yaml");
    fs::write(&file, settings(folder.path(), &issuer)).unwrap();
    let token = issuer.token(&json!({ "iat": 1_699_999_900, "exp": 1_700_000_000 }));
    let line = check("/v1/orders/1001", Some(&format!("Bearer {token}"))).to_string();
    for (at, reason) in [
        ("2023-11-14T22:12:30Z", "permitted"),
        ("2023-11-14T23:00:00Z", "credential_invalid"),
    ] {
        let arguments = ["--config", file.to_str().unwrap(), "--at", at];
        let (_, answers) = decide(&arguments, line.as_bytes());
        assert_eq!(answers[0]["reason"], reason, "{at}");
    }
}

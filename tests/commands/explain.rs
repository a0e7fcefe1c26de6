//! `cardea explain`: what an answer stands on, from a document and from a recorded decision.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::decide::{Issuer, check, settings};
use crate::judge::copy;
use crate::{cardea, shipped, text};

/// Exit code, standard output, standard error.
type Ended = (Option<i32>, String, String);

fn explain(bundle: &Path, more: &[&str], input: &str) -> Ended {
    let mut arguments = vec!["explain", "--bundle", bundle.to_str().unwrap()];
    arguments.extend(more);
    let output = cardea(&arguments, input.as_bytes());
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn told(bundle: &Path, more: &[&str], input: &str) -> Value {
    let mut arguments = vec!["-", "--json"];
    arguments.extend(more);
    let (code, out, err) = explain(bundle, &arguments, input);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    serde_json::from_str(&out).unwrap()
}

/// A viewer whose token lacks the scope.
fn without_scope() -> Value {
    json!({
        "caller": {
            "issuer": "https://login.example.com", "subject": "alice", "roles": ["order-viewer"],
            "scopes": "orders:write", "audience": "https://api.example.com", "tenant": "acme",
        },
        "request": { "host": "api.example.com", "path": "/v1/orders/1001?fields=s3cret" },
        "at": "2026-01-05T12:00:00Z",
    })
}

#[test]
fn a_default_deny_shows_the_nearest_permit_what_it_lacked_and_every_clause() {
    let (code, out, err) = explain(&shipped(), &["-"], &without_scope().to_string());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let file = shipped().join("examples/orders.cedar");
    let policies = fs::read_to_string(&file).unwrap();
    let line = policies
        .lines()
        .position(|line| line == "@id(\"orders-read-by-role\")");
    let bundle = told(&shipped(), &[], &without_scope().to_string())["decided"]["snapshot"].clone();
    let expected = format!(
        "DENY  403 not_permitted
no policy permits this

request    GET https://api.example.com/v1/orders/1001
           query parameters fields (values are not kept)
operation  orders.getOrder  GET /v1/orders/{{orderId}}
caller     user https://login.example.com|alice  (supposed, bearer_jwt)
           roles order-viewer
           scopes orders:write
           audience https://api.example.com
           tenant acme
time       2026-01-05T12:00:00Z
bundle     {}

No permit applied; the nearest, and what each lacked
  permit orders-read-by-role  {}:{}
    needs scope `orders:read`
    \u{2713} principal in Cardea::Role::\"order-viewer\"
        principal = Cardea::User::\"https://login.example.com|alice\"  from the caller's credential and the bundle's entities
    \u{2713} action in [Cardea::Action::\"read\"]
        action = Cardea::Action::\"orders.getOrder\"  from the API document
    \u{2713} resource in Cardea::Api::\"orders\"
        resource = Cardea::Object::\"orders/orders/1001\"  from the API document, the path and the bundle's entities
    \u{2717} context.token.scopes.contains(\"orders:read\")
        context.token.scopes = [\"orders:write\"]  from the caller's credential
    \u{2713} context.token.audience.contains(\"https://api.example.com\")
        context.token.audience = [\"https://api.example.com\"]  from the caller's credential
",
        bundle.as_str().unwrap(),
        file.display(),
        line.unwrap() + 1,
    );
    assert_eq!(out, expected);
}

#[test]
fn a_role_that_is_missing_is_named() {
    let mut case = without_scope();
    case["caller"]["roles"] = json!([]);
    case["caller"]["scopes"] = json!("orders:read");
    let told = told(&shipped(), &[], &case.to_string());
    assert_eq!(
        told["why"]["nearest"][0]["changes"],
        json!(["the role `order-viewer`"])
    );
}

#[test]
fn a_forbid_shows_its_text_with_its_lines_and_what_a_login_would_do() {
    let case = json!({
        "caller": { "roles": "order-editor", "scopes": "orders:write" }, "risk": { "score": 80 },
        "request": { "method": "POST", "path": "/v1/orders" }, "at": "2026-01-05T12:00:00Z",
    });
    let (_, out, _) = explain(&shipped(), &["-"], &case.to_string());
    for part in [
        "DENY  401 step_up_required\n",
        "Decided by\n  forbid step-up-on-risk  ",
        "    12 | @id(\"step-up-on-risk\")\n    13 | @on_deny(\"step_up\")\n",
        "    \u{2713} context.risk.score >= 60\n        context.risk.score = 80  from the request as it is written\n",
        "    \u{2713} unless all of\n        \u{2717} context.token.assurance >= 3\n            context.token.assurance = 0  ",
        "        - context.time.now.durationSince(context.token.authTime) <= duration(\"5m\")\n            context.time.now       = datetime(\"2026-01-05T12:00:00Z\")",
        "A better login is offered\n",
        "  it would have to be: of the class urn:cardea:strong, at most 300 seconds old\n",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let mut unpermitted = case.clone();
    unpermitted["caller"]["roles"] = json!([]);
    let (_, out, _) = explain(&shipped(), &["-"], &unpermitted.to_string());
    assert!(out.starts_with("DENY  403 forbidden\n"), "{out}");
    assert!(
        out.contains("A better login is not offered\n  no permit would apply after it either\n"),
        "{out}"
    );
    assert!(out.contains("    needs the role `order-editor`\n"), "{out}");
}

#[test]
fn the_control_that_a_policy_carries_out_is_named() {
    let case = json!({ "caller": "anonymous", "request": { "path": "/nowhere" } }).to_string();
    let (code, out, err) = explain(&shipped(), &["-"], &case);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let noted = "\nNoted\n  severity high\n  control NIST SP 800-228 REC-API-1\n";
    assert!(out.contains(noted), "{out}");
    let controls = json!(["NIST SP 800-228 REC-API-1"]);
    let told = told(&shipped(), &[], &case);
    assert_eq!(
        (&told["controls"], &told["decided"]["controls"]),
        (&controls, &controls)
    );
}

#[test]
fn a_policy_in_error_shows_its_message_and_one_in_shadow_mode_what_it_would_change() {
    let bundle = copy();
    fs::write(
        bundle.path().join("more.cedar"),
        "@id(\"overflows\")\nforbid (principal, action, resource)\n\
         when { context.risk.score * 9223372036854775807 > 0 };\n\
         @id(\"soon\") @mode(\"shadow\")\nforbid (principal, action, resource);\n",
    )
    .unwrap();
    let mut case = json!({ "caller": "anonymous", "request": { "path": "/v1/status" } });
    let (_, out, _) = explain(bundle.path(), &["-"], &case.to_string());
    assert!(out.starts_with("ALLOW  200 permitted\n"), "{out}");
    assert!(
        out.ends_with(
            "With the policies in shadow mode it would be otherwise\n  deny forbidden, by [soon]\n"
        ),
        "{out}"
    );
    case["risk"] = json!({ "score": 2 });
    let (_, out, _) = explain(bundle.path(), &["-"], &case.to_string());
    assert!(
        out.starts_with("DENY  503 policy_error\n") || out.starts_with("DENY  403 policy_error\n"),
        "{out}"
    );
    for part in [
        "Could not be evaluated\n  forbid overflows  ",
        "    error: integer overflow",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    assert!(!out.contains("nearest"), "no permit would help: {out}");
}

#[test]
fn whom_a_caller_acts_for_is_explained_apart() {
    let bundle = copy();
    fs::write(
        bundle.path().join("agents.cedar"),
        "@id(\"agents-read\")\npermit (principal is Cardea::Agent, action in Cardea::Action::\"read\", resource);\n",
    )
    .unwrap();
    let case = json!({
        "token": { "sub": "alice", "scope": "orders:read", "aud": "https://api.example.com", "act": { "sub": "bot" } },
        "request": { "path": "/v1/orders", "host": "api.example.com" },
    });
    let (code, out, err) = explain(bundle.path(), &["-"], &case.to_string());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("DENY  403 not_permitted\n"), "{out}");
    let (actor, subject) = out
        .split_once(
            "\nThe caller acts for Cardea::User::\"https://issuer.test|alice\": not_permitted\n",
        )
        .unwrap();
    assert!(
        actor.contains("Of the caller alone: decided by\n  permit agents-read  "),
        "{out}"
    );
    assert!(subject.contains("needs the role `order-viewer`\n"), "{out}");
}

#[test]
fn a_case_of_a_policy_test_is_named_by_its_name() {
    let file = shipped().join("tests/orders.yaml");
    let file = file.to_str().unwrap();
    let case = ["--case", "the owner without the scope does not"];
    let (code, out, err) = explain(&shipped(), &[&[file], &case[..]].concat(), "");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("permit owner-cancels-order"), "{out}");
    assert!(out.contains("needs scope `orders:write`"), "{out}");
    for (more, expected) in [
        (&[][..], "the file holds 21 cases"),
        (&["--case", "none"][..], "no case has the name `none`"),
    ] {
        let (code, out, err) = explain(&shipped(), &[&[file], more].concat(), "");
        assert_eq!((code, out.as_str()), (Some(2), ""));
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn a_live_request_is_proven_and_nothing_secret_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let file = folder.path().join("cardea.yaml");
    fs::write(&file, settings(folder.path(), &issuer)).unwrap();
    let token = issuer.token(&json!({ "roles": [] }));
    let authorization = format!("Bearer {token}");
    let mut request = check("/v1/orders/1001?access=s3cret", Some(&authorization));
    let http = &mut request["attributes"]["request"]["http"];
    http["headers"]["cookie"] = json!("session=s3cret");
    let arguments = ["-", "--config", file.to_str().unwrap()];
    let (code, out, err) = explain(&shipped(), &arguments, &request.to_string());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("alice  (verified, bearer_jwt)"), "{out}");
    assert!(out.contains("needs the role `order-viewer`"), "{out}");
    let json = [&arguments[..], &["--json"]].concat();
    let (_, more, _) = explain(&shipped(), &json, &request.to_string());
    for out in [&out, &more] {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!out.contains("s3cret") && !out.contains(signature), "{out}");
    }
    // A token that nobody believes: policies were never asked, and it says so.
    let (code, out, _) = explain(&shipped(), &["-"], &request.to_string());
    assert_eq!(code, Some(0));
    assert!(out.starts_with("DENY  401 credential_invalid\n"), "{out}");
    assert!(
        out.contains("It was refused before policies were asked"),
        "{out}"
    );
}

#[test]
fn a_credential_in_the_path_is_masked_in_what_is_told() {
    let bundle = copy();
    fs::write(
        bundle.path().join("apis/reset.yaml"),
        "openapi: 3.1.0\ninfo: { title: Reset, version: 1.0.0 }\nservers: [{ url: https://api.example.com/v1 }]\n\
         x-cardea: { api: reset }\npaths:\n  /reset/{resetToken}:\n    post:\n      operationId: reset\n      \
         parameters: [{ name: resetToken, in: path, required: true, schema: { type: string } }]\n      \
         responses: { \"200\": { description: Done } }\n",
    )
    .unwrap();
    fs::write(
        bundle.path().join("reset.cedar"),
        "@id(\"reset\")\npermit (principal, action == Cardea::Action::\"reset.reset\", resource)\n\
         when { context.request.path like \"/v1/reset/*\" && context.request.params.hasTag(\"resetToken\") && context.request.params.getTag(\"resetToken\") != \"\" };\n",
    )
    .unwrap();
    let case = json!({ "caller": { "roles": "a" }, "request": { "method": "POST", "host": "api.example.com", "path": "/v1/reset/s3cret-1" } });
    for more in [&["-"][..], &["-", "--json"][..]] {
        let (code, out, err) = explain(bundle.path(), more, &case.to_string());
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert!(out.contains("/v1/reset/masked"), "{out}");
        assert!(out.contains("reset.reset"), "{out}");
        assert!(!out.contains("s3cret"), "{out}");
    }
}

/// Decides requests, and gives the file of their records.
pub(crate) fn recorded(folder: &Path, cases: &[Value]) -> String {
    let file = folder.join("decisions.jsonl");
    let path = file.to_str().unwrap().to_owned();
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let bundle = shipped();
    let arguments = [
        "decide",
        "--bundle",
        bundle.to_str().unwrap(),
        "--record",
        &path,
    ];
    let output = cardea(&arguments, lines.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    path
}

fn ids(file: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .map(|record| record["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_recorded_decision_is_explained_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let refused = json!({ "caller": "anonymous", "request": { "path": "/v1/../status" } });
    let file = recorded(folder.path(), &[without_scope(), refused]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "records say who did what");
    let ids = ids(&file);
    let (code, out, err) = explain(&shipped(), &[&ids[0], "--decisions", &file], "");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for part in [
        "alice  (recorded, bearer_jwt)",
        "time       2026-01-05T12:00:00Z\n",
        &format!("decision   {}\n", ids[0]),
        "needs scope `orders:read`",
        "It was decided so then, too\n  403 not_permitted, by []\n",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    // Another bundle answers otherwise, and it says so.
    let bundle = copy();
    fs::write(
        bundle.path().join("more.cedar"),
        "@id(\"all\")\npermit (principal, action, resource);\n",
    )
    .unwrap();
    let (_, out, _) = explain(bundle.path(), &[&ids[0], "--decisions", &file], "");
    assert!(out.starts_with("ALLOW  200 permitted\n"), "{out}");
    assert!(
        out.contains(
            "It was decided otherwise then\n  403 not_permitted, by []\n  under another bundle: "
        ),
        "{out}"
    );
    // One that policies were never asked about shows what was recorded.
    let (code, out, _) = explain(&shipped(), &[&ids[1], "--decisions", &file], "");
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with("DENY  400 ambiguous_path\nthe path holds a dot segment\n"),
        "{out}"
    );
    assert!(
        out.ends_with("It cannot be judged again\n  the record does not say what was asked\n"),
        "{out}"
    );
    // A record is a document, too.
    let line = fs::read_to_string(&file).unwrap();
    let told = told(&shipped(), &[], line.lines().next().unwrap());
    assert_eq!(
        (&told["recorded"]["same"], &told["caller_is"]),
        (&json!(true), &json!("recorded"))
    );
}

#[test]
fn what_cannot_be_explained_is_said_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = recorded(folder.path(), &[without_scope()]);
    let broken = folder.path().join("broken.jsonl");
    fs::write(&broken, "{\"version\":2,\"id\":\"a\"}\nnot json\n").unwrap();
    let broken = broken.to_str().unwrap();
    let id = "0190b7c3-1f6e-7c4e-9d3a-3f0c2a6b1d55";
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(8 * 1024 * 1024));
    let many = folder.path().join("not-utf8.yaml");
    fs::write(&many, b"\xff\xfe").unwrap();
    for (arguments, input, expected) in [
        (vec![id], "", "name their file with `--decisions`"),
        (vec![id, "--decisions", &file], "", "no decision has the id"),
        (
            vec![id, "--decisions", broken],
            "",
            "broken.jsonl:1:1: the record is of another version than 1",
        ),
        (
            vec![id, "--decisions", broken],
            "",
            "broken.jsonl:2:2: not JSON",
        ),
        (
            vec![id, "--decisions", "no/such/file"],
            "",
            "no/such/file: cannot read the decisions",
        ),
        (
            vec!["no/such/file"],
            "",
            "`no/such/file` is neither a file nor the id of a decision",
        ),
        (vec!["-"], "{}", "the document is no request"),
        (vec!["-"], "", "the file holds 0 cases"),
        (vec!["-"], &large, "the request is longer than 8 MiB"),
        (
            vec![many.to_str().unwrap()],
            "",
            "neither a JSON object nor a file of cases",
        ),
        (
            vec!["-"],
            "{\"version\":1,\"verdict\":\"allow\"}",
            "missing field",
        ),
        (
            vec!["-", "--input", "authzen"],
            "{\"request\":{\"path\":\"/\"}}",
            "unknown field `request`",
        ),
    ] {
        let (code, out, err) = explain(&shipped(), &arguments, input);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err.contains(expected), "{expected}: {err}");
    }
    let (code, _, _) = explain(Path::new("no/such/bundle"), &["-"], "{}");
    assert_eq!(code, Some(2));
}

#[test]
fn the_example_in_the_documentation_is_what_is_printed() {
    let page = include_str!("../../docs/explaining.md");
    let (_, rest) = page.split_once("```json\n").unwrap();
    let (request, rest) = rest.split_once("```").unwrap();
    let (_, rest) = rest.split_once("--bundle policies\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let (code, out, _) = explain(&shipped(), &["-"], request);
    let root = format!("{}/", env!("CARGO_MANIFEST_DIR"));
    let bundle = out.lines().find(|line| line.starts_with("bundle  "));
    let out = out
        .replace(&root, "")
        .replace(bundle.unwrap(), "bundle     ...");
    assert_eq!((code, out.as_str()), (Some(0), shown));
}

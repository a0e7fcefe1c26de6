//! `cardea replay`: what a candidate bundle would have decided.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::explain::recorded;
use crate::judge::copy;
use crate::{cardea, shipped, text};

fn replay(bundle: &Path, more: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut arguments = vec!["replay", "--bundle", bundle.to_str().unwrap()];
    arguments.extend(more);
    let output = cardea(&arguments, input.as_bytes());
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Alice, who may see orders and not write them.
fn viewer(path: &str, method: &str) -> Value {
    json!({
        "caller": {
            "issuer": "https://login.example.com", "subject": "alice", "roles": ["order-viewer"],
            "scopes": "orders:read", "audience": "https://api.example.com", "tenant": "acme",
        },
        "request": { "host": "api.example.com", "method": method, "path": path },
        "at": "2026-01-05T12:00:00Z",
    })
}

fn day() -> Vec<Value> {
    vec![
        viewer("/v1/orders/1001", "GET"),
        viewer("/v1/orders/1002", "GET"),
        viewer("/v1/orders", "POST"),
        viewer("/v1/orders/2001", "GET"),
        viewer("/v1/orders/1001/../1002", "GET"),
        viewer("/v1/orders?limit=1&limit=2", "GET"),
        json!({ "caller": "anonymous", "request": { "path": "/v1/status" } }),
    ]
}

/// A bundle where viewers write, nobody reads single orders, and another tenant's orders ask for approval.
fn candidate() -> tempfile::TempDir {
    let bundle = copy();
    fs::write(
        bundle.path().join("more.cedar"),
        "@id(\"viewers-write\")\n\
         permit (principal in Cardea::Role::\"order-viewer\", action == Cardea::Action::\"orders.createOrder\", resource);\n\
         @id(\"nobody-reads-one\")\n\
         forbid (principal, action == Cardea::Action::\"orders.getOrder\", resource) unless { resource has tenant && \
         resource.tenant == Cardea::Tenant::\"globex\" };\n",
    )
    .unwrap();
    let file = bundle.path().join("guardrails/callers.cedar");
    let callers = fs::read_to_string(&file).unwrap();
    let hidden = callers.replace(
        "@id(\"tenant-isolation\")\n",
        "@id(\"tenant-isolation\")\n@on_deny(\"not_found\")\n",
    );
    assert_ne!(callers, hidden);
    fs::write(&file, hidden).unwrap();
    bundle
}

#[test]
fn the_difference_is_grouped_counted_and_has_examples() {
    let folder = tempfile::tempdir().unwrap();
    let file = recorded(folder.path(), &day());
    let bundle = candidate();
    let (code, out, err) = replay(bundle.path(), &[&file, "--format", "json"], "");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&out).unwrap();
    let recorded = fs::read_to_string(&file).unwrap();
    let ids: Vec<Value> = recorded
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect();
    let alice = json!({ "type": "user", "id": "https://login.example.com|alice" });
    assert_eq!(
        report["changes"]["newly_allowed"],
        json!({ "count": 1, "rows": [{
            "count": 1, "example": ids[2], "action": "orders.createOrder", "principal": alice,
            "before": { "verdict": "deny", "status": 403, "reason": "not_permitted", "policies": [] },
            "after": { "verdict": "allow", "status": 200, "reason": "permitted", "policies": ["viewers-write"] },
        }] })
    );
    assert_eq!(
        report["changes"]["newly_denied"],
        json!({ "count": 2, "rows": [{
            "count": 2, "example": ids[0], "action": "orders.getOrder", "principal": alice,
            "before": { "verdict": "allow", "status": 200, "reason": "permitted", "policies": ["orders-read-by-role"] },
            "after": { "verdict": "deny", "status": 403, "reason": "forbidden", "policies": ["nobody-reads-one"] },
        }] })
    );
    assert_eq!(
        report["changes"]["other_answer"]["rows"][0]["after"],
        json!({ "verdict": "deny", "status": 404, "reason": "not_found", "policies": ["tenant-isolation"] })
    );
    let unjudged = &report["changes"]["not_judged"]["rows"][0];
    assert_eq!(
        (&unjudged["example"], &unjudged["because"]),
        (
            &ids[5],
            &json!("the record does not say in which circumstances")
        )
    );
    assert_eq!(
        (
            &report["decisions"],
            &report["unchanged"],
            &report["without_policies"]
        ),
        (&json!(7), &json!(1), &json!(1))
    );
}

#[test]
fn text_is_aligned_and_markdown_is_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = recorded(folder.path(), &day());
    let bundle = candidate();
    let (_, out, _) = replay(bundle.path(), &[&file], "");
    for part in [
        "7 decisions, judged again by the bundle ",
        " and compared with the answers that were recorded.\n\n  newly allowed                               1\n",
        "\nNewly allowed\n  COUNT  ACTION              PRINCIPAL                             BEFORE                          AFTER                           EXAMPLE\n      1  orders.createOrder  user https://login.example.com|alice  403 not_permitted by no policy  200 permitted by viewers-write  ",
        "\nNewly denied\n",
        "\nAnswered otherwise\n",
        "\nCould not be judged\n",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let (_, out, _) = replay(bundle.path(), &[&file, "--format", "markdown"], "");
    for part in [
        "### Replay of recorded decisions\n\n7 decisions, judged again by the bundle `",
        "| | decisions |\n|---|---:|\n| newly allowed | 1 |\n| newly denied | 2 |\n",
        "#### Newly denied\n\n| count | action | principal | before | after | example |\n|---:|---|---|---|---|---|\n\
         | 2 | `orders.getOrder` | `user https://login.example.com\\|alice` | `200 permitted by orders-read-by-role` | \
         `403 forbidden by nobody-reads-one` | `",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let (_, out, _) = replay(bundle.path(), &[&file, "--rows", "0"], "");
    assert!(
        out.contains("  and 2 decisions more (`--rows` shows more"),
        "{out}"
    );
}

#[test]
fn fail_on_names_what_must_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    let all = recorded(folder.path(), &day());
    let other = tempfile::tempdir().unwrap();
    let sound = recorded(other.path(), &day()[..4]);
    let bundle = candidate();
    let code = |bundle: &Path, file: &str, fail_on: &[&str]| {
        let mut arguments = vec![file];
        for what in fail_on {
            arguments.extend(["--fail-on", what]);
        }
        replay(bundle, &arguments, "").0
    };
    for what in ["newly-allowed", "newly-denied", "any-change", "not-judged"] {
        assert_eq!(code(bundle.path(), &all, &[what]), Some(1), "{what}");
        assert_eq!(code(&shipped(), &sound, &[what]), Some(0), "{what}");
    }
    assert_eq!(code(bundle.path(), &all, &[]), Some(0));
    assert_eq!(code(bundle.path(), &sound, &["not-judged"]), Some(0));
    assert_eq!(
        code(bundle.path(), &sound, &["not-judged", "newly-denied"]),
        Some(1)
    );
    // What cannot be judged again cannot be called unchanged.
    assert_eq!(code(&shipped(), &all, &["newly-allowed"]), Some(0));
    assert_eq!(code(&shipped(), &all, &["any-change"]), Some(1));
}

#[test]
fn two_bundles_are_compared_whatever_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = recorded(folder.path(), &day()[..4]);
    // The record tells of another answer than either bundle gives.
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("\"permitted\"", "\"forbidden\"");
    let (bundle, live) = (candidate(), shipped());
    let live = live.to_str().unwrap();
    let count = |arguments: &[&str], change: &str| {
        let mut all = vec!["-", "--format", "json"];
        all.extend(arguments);
        let (code, out, err) = replay(bundle.path(), &all, &text);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let report: Value = serde_json::from_str(&out).unwrap();
        (
            report["changes"][change]["rows"][0]["before"]["reason"].clone(),
            report["against"].is_string(),
        )
    };
    assert_eq!(count(&[], "newly_denied"), (json!("forbidden"), false));
    assert_eq!(
        count(&["--against", live], "newly_denied"),
        (json!("permitted"), true)
    );
}

#[test]
fn a_recorded_time_is_the_time_it_is_judged_at() {
    let folder = tempfile::tempdir().unwrap();
    let mut case = viewer("/v1/orders/1001", "GET");
    case["at"] = json!("2001-01-01T03:00:00Z");
    let file = recorded(folder.path(), &[case]);
    let bundle = copy();
    fs::write(
        bundle.path().join("more.cedar"),
        "@id(\"by-night\")\nforbid (principal, action, resource)\n\
         when { context.time.localTime < duration(\"4h\") && context.time.weekday == 1 && context.time.now < datetime(\"2002-01-01\") };\n",
    )
    .unwrap();
    let (_, out, _) = replay(bundle.path(), &[&file], "");
    assert!(out.contains("403 forbidden by by-night"), "{out}");
}

#[test]
fn what_passes_only_because_it_is_observed_is_newly_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = recorded(folder.path(), &day()[2..3]);
    let bundle = copy();
    let document = bundle.path().join("apis/orders.yaml");
    let text = fs::read_to_string(&document).unwrap();
    let observed = text.replace("  api: orders\n", "  api: orders\n  observe: true\n");
    fs::write(&document, observed).unwrap();
    let (code, out, err) = replay(bundle.path(), &[&file, "--fail-on", "newly-allowed"], "");
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert!(
        out.contains("200 observed (else not_permitted) by no policy"),
        "{out}"
    );
    let record = fs::read_to_string(&file).unwrap();
    let arguments = ["explain", "-", "--bundle", bundle.path().to_str().unwrap()];
    let output = cardea(&arguments, record.as_bytes());
    let out = crate::text(&output.stdout);
    assert!(
        out.starts_with("ALLOW  200 observed\nit passes only because its operation is observed; else: not_permitted\n"),
        "{out}"
    );
    assert!(out.contains("needs the role `order-editor`"), "{out}");
}

#[test]
fn a_file_with_mistakes_is_not_replayed_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read_to_string(recorded(folder.path(), &day()[..1])).unwrap();
    let file = folder.path().join("bad.jsonl");
    let path = file.to_str().unwrap();
    let long = "x".repeat(1024 * 1024 + 1);
    for (text, expected) in [
        (format!("{good}{{\n"), "bad.jsonl:2:"),
        (
            format!("{good}\n{{\"version\":1}}\n"),
            "bad.jsonl:3:13: missing field `id`",
        ),
        (
            good.replace("\"version\":1", "\"version\":9"),
            "another version than 1",
        ),
        (
            good.replace("\"status\":200", "\"status\":200,\"colour\":1"),
            "unknown field `colour`",
        ),
        (
            format!("{good}{long}\n"),
            "bad.jsonl:2:1: the line is longer than 1 MiB",
        ),
        (String::new(), "the file holds no decision"),
        ("x\n".repeat(100), "bad.jsonl:20:1: not JSON"),
    ] {
        fs::write(&file, &text).unwrap();
        let (code, out, err) = replay(&shipped(), &[path], "");
        assert_eq!((code, out.as_str()), (Some(2), ""), "{expected}");
        assert!(err.contains(expected), "{expected}: {err}");
        assert!(!err.contains("bad.jsonl:21"), "{err}");
    }
    let (code, _, err) = replay(&shipped(), &["no/such/file"], "");
    assert_eq!(code, Some(2));
    assert!(
        err.contains("no/such/file: cannot read the decisions"),
        "{err}"
    );
    fs::write(&file, &good).unwrap();
    assert_eq!(replay(Path::new("no/such/bundle"), &[path], "").0, Some(2));
    assert_eq!(
        replay(&shipped(), &[path, "--against", "no/such"], "").0,
        Some(2)
    );
    assert_eq!(
        replay(&shipped(), &[path, "--fail-on", "nothing"], "").0,
        Some(2)
    );
}

#[test]
fn permits_that_no_recorded_decision_names_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let file = recorded(folder.path(), &day());
    let bundle = shipped();
    let arguments = [
        "access",
        "--bundle",
        bundle.to_str().unwrap(),
        "--decisions",
        &file,
        "--json",
    ];
    let output = cardea(&arguments, b"");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report["unused"],
        json!([
            "orders-create",
            "owner-cancels-order",
            "profile-of-ones-own"
        ])
    );
}

#[test]
fn a_file_of_decisions_that_cannot_be_written_ends_the_run() {
    let bundle = shipped();
    let arguments = [
        "decide",
        "--bundle",
        bundle.to_str().unwrap(),
        "--record",
        "no/such/folder/d.jsonl",
    ];
    let output = cardea(&arguments, b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("no/such/folder/d.jsonl: cannot open the file of decisions")
    );
}

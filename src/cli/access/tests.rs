use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    access: AccessCommand,
}

/// What the command answers to these arguments, over the shipped bundle.
fn answer(arguments: &[&str]) -> Result<String, Vec<Problem>> {
    report(arguments).map(|report| report.text())
}

fn report(arguments: &[&str]) -> Result<Report, Vec<Problem>> {
    let line = Line::try_parse_from([&["access"], arguments].concat()).unwrap();
    let used = line.access.used.as_deref().map(used_policies).transpose()?;
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies"));
    let snapshot = Snapshot::load(folder, &SystemClock).unwrap();
    line.access.report(&snapshot, used.as_ref())
}

fn row(text: &str, operation: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.starts_with(operation))
        .unwrap();
    line.split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_role_shows_what_it_can_reach_and_what_that_depends_on() {
    let text = answer(&["--role", "order-viewer"]).unwrap();
    assert!(text.starts_with("a user, role `order-viewer`:\n\nOPERATION"));
    for (operation, expected) in [
        ("orders.getStatus", "allowed status-is-public"),
        (
            "orders.getOrder",
            "depends orders-read-by-role: scope `orders:read`; a token for the audience `https://api.example.com`",
        ),
        ("orders.createOrder", "denied no permit can apply"),
        ("legacy.getOrder", "denied forbid retired-api"),
    ] {
        assert_eq!(row(&text, operation), expected, "{operation}");
    }
    assert!(text.contains("other circumstances could bring these forbids to bear: "));
    assert!(text.contains("quarantined-caller"));
}

#[test]
fn what_is_given_settles_what_depended_on_it() {
    let given = [
        "--role",
        "order-viewer",
        "--scope",
        "orders:read",
        "--audience",
        "https://api.example.com",
    ];
    let text = answer(&given).unwrap();
    assert_eq!(row(&text, "orders.getOrder"), "allowed orders-read-by-role");
    let text = answer(&["--role", "order-viewer", "--scope", "other"]).unwrap();
    assert_eq!(row(&text, "orders.getOrder"), "denied no permit can apply");
    let editor = answer(&["--role", "order-editor", "--scope", "orders:write"]).unwrap();
    assert_eq!(row(&editor, "orders.createOrder"), "allowed orders-create");
    let agent = [
        "--principal",
        "agent",
        "--role",
        "order-editor",
        "--scope",
        "orders:write",
    ];
    assert_eq!(
        row(&answer(&agent).unwrap(), "orders.createOrder"),
        "depends forbid agent-write-needs-human: unless { context has delegation && context.delegation.humanApproved }"
    );
}

#[test]
fn nobody_in_particular_reaches_what_is_public() {
    let text = answer(&["--principal", "anonymous"]).unwrap();
    let allowed: Vec<&str> = text.lines().filter(|l| l.contains(" allowed ")).collect();
    assert_eq!(allowed.len(), 1, "{text}");
    assert_eq!(
        row(&text, "orders.createOrder"),
        "denied forbid anonymous-never-writes"
    );
}

#[test]
fn an_operation_shows_who_can_call_it_and_what_they_need() {
    let text = answer(&["--operation", "orders.getOrder"]).unwrap();
    assert!(text.starts_with("orders.getOrder (GET /v1/orders/{orderId}):\n\nPERMIT"));
    assert_eq!(
        row(&text, "orders-read-by-role"),
        "the role `order-viewer` [order-viewer, order-editor] scope `orders:read`; a token for the audience `https://api.example.com`"
    );
    assert_eq!(
        row(&text, "quarantined-caller"),
        "everybody context.signals.quarantined"
    );
    let closed = answer(&["--operation", "http:GET"]).unwrap();
    assert!(closed.contains("nobody: no permit can apply"), "{closed}");
    let wrong = answer(&["--operation", "orders.nope"]).unwrap_err();
    assert_eq!(
        wrong[0].to_string(),
        "no document describes an operation `orders.nope`\n  hint: `cardea access` without arguments lists them all"
    );
}

#[test]
fn an_allowed_verdict_is_what_the_judge_says_of_default_circumstances() {
    let report = report(&[
        "--role",
        "order-editor",
        "--scope",
        "orders:write",
        "--scope",
        "orders:read",
        "--audience",
        "https://api.example.com",
    ])
    .unwrap();
    let value = serde_json::to_value(&report).unwrap();
    let operations = value["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 9);
    let verdict = |id: &str| {
        let own = operations
            .iter()
            .find(|one| one["operation"] == id)
            .unwrap();
        own["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict("orders.listOrders"), "allowed");
    assert_eq!(verdict("orders.cancelOrder"), "depends");
    assert_eq!(verdict("legacy.listOrders"), "denied");
    assert_eq!(
        operations[0]["because"],
        serde_json::json!([{ "policy": "retired-api", "effect": "forbid", "conditions": [] }])
    );
}

#[test]
fn the_verdict_on_an_observed_operation_is_the_policies_own_and_marked() {
    let report = Report {
        caller: Some("somebody".to_owned()),
        operations: vec![report::Access {
            operation: "old.list".into(),
            route: "GET /old".into(),
            verdict: report::Verdict::Denied,
            because: Vec::new(),
            unless: Vec::new(),
            observed: true,
        }],
        ..Report::default()
    };
    let denied = "denied (observed) no permit can apply";
    assert_eq!(row(&report.text(), "old.list"), denied);
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(value["operations"][0]["observed"], true);
}

#[test]
fn permits_that_no_decision_names_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("decisions.jsonl");
    let lines = "{\"policies\":[\"status-is-public\"],\"verdict\":\"allow\"}\n\n{\"policies\":[\"orders-create\",\"orders-read-by-role\"]}\n";
    std::fs::write(&file, lines).unwrap();
    let text = answer(&["--used", file.to_str().unwrap()]).unwrap();
    assert_eq!(
        text,
        "permits that no recorded decision names:\n  owner-cancels-order\n  profile-of-ones-own\n"
    );
    let all = format!("{lines}{{\"policies\":[\"owner-cancels-order\",\"profile-of-ones-own\"]}}");
    std::fs::write(&file, all).unwrap();
    let text = answer(&["--used", file.to_str().unwrap()]).unwrap();
    assert_eq!(text, "every permit is named by a recorded decision\n");
}

#[test]
fn recorded_decisions_that_are_none_are_told_with_their_line_and_without_their_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("d");
    std::fs::write(
        &file,
        "{\"policies\":[]}\nBearer s3cret\n{\"policies\":7}\n",
    )
    .unwrap();
    let problems = used_policies(&file).unwrap_err();
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].ends_with(
        "/d:2:1: the line is no recorded decision\n  hint: each line is a JSON object with a list `policies`"
    ));
    assert!(!texts.concat().contains("s3cret"));

    std::fs::write(&file, "x".repeat(usize::try_from(MAX_LINE).unwrap() + 1)).unwrap();
    let problems = used_policies(&file).unwrap_err();
    assert_eq!(problems[0].message, "the line is longer than 1048576 bytes");
    let problems = used_policies(&folder.path().join("none")).unwrap_err();
    assert!(
        problems[0]
            .message
            .starts_with("cannot read the decisions: ")
    );
}

//! Starts that fail well, and what the command line says.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::child::{Child, run, settings_file, shown, told};
use crate::world::{Setup, eventually, shipped_bundle, start, write};

#[test]
fn r2_a_bad_bundle_at_start_is_refused_with_every_mistake() {
    let setup = Setup::new();
    setup.write("x.cedar", "// fine so far\n\n  permit (principal, action");
    setup.write(
        "y.cedar",
        "@nonsense(\"1\") permit (principal, action, resource);",
    );
    let problems = start(&setup.settings).expect_err("refused");
    let text = format!("{problems:?}");
    assert!(
        problems
            .iter()
            .any(|problem| problem.at.is_some_and(|at| at.0 == 3)),
        "{text}"
    );
    assert!(
        text.contains("x.cedar") && text.contains("y.cedar"),
        "{text}"
    );
}

#[test]
fn r2_a_bad_bundle_ends_the_program_with_code_2_and_its_place() {
    let bundle = shipped_bundle();
    let bad = "\n\npermit (principal, action, resource) when { context.nonsense };";
    write(bundle.path(), "x.cedar", bad);
    for command in ["serve", "check"] {
        let (code, text) = told(&run(&[command, "--bundle", shown(bundle.path())]));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("x.cedar:3:45"), "{text}");
        assert!(text.contains("nonsense"), "{text}");
        assert_eq!(
            text.matches("error: ").count(),
            1,
            "one mistake, told once: {text}"
        );
    }
}

#[test]
fn r2_an_empty_or_absent_bundle_ends_the_program_with_code_2() {
    let empty = tempfile::tempdir().unwrap();
    let absent = empty.path().join("absent");
    for (folder, expected) in [
        (empty.path(), "holds no policy"),
        (absent.as_path(), "absent"),
    ] {
        for command in ["serve", "check"] {
            let (code, text) = told(&run(&[command, "--bundle", shown(folder)]));
            assert_eq!(code, Some(2), "{text}");
            assert!(text.contains(expected), "{text}");
        }
    }
}

#[test]
fn an_unknown_setting_is_told_with_line_and_column() {
    for (text, place) in [
        ("listen:\n  adress: 127.0.0.1:0\n", ":2:3: "),
        ("lisen: {}\n", ":1:1: "),
        (
            "identity:\n  issuers:\n    - issuer: https://a\n      audience: x\n",
            ":4:7: ",
        ),
        ("listen:\n  workers: many\n", ":2:12: "),
        ("listen:\n  address: nowhere\n", ":2:12: "),
        ("admin: {}\nadmin: {}\n", ":2:1: "),
        ("bundle: [\n", "cardea.yaml:"),
        ("bundle:\n  poll: 5\n", ":2:9: "),
    ] {
        let (_folder, file) = settings_file(text);
        for command in ["serve", "check"] {
            let (code, told) = told(&run(&[command, "--config", shown(&file)]));
            assert_eq!(code, Some(2), "{text} {told}");
            assert!(
                told.contains("cardea.yaml") && told.contains(place.trim_end_matches(": ")),
                "{text:?} gives {told}"
            );
        }
    }
}

#[test]
fn settings_that_cannot_be_read_are_told_with_their_name() {
    let (code, text) = told(&run(&["serve", "--config", "/nowhere/cardea.yaml"]));
    assert_eq!(code, Some(2));
    assert!(
        text.contains("/nowhere/cardea.yaml: cannot read the settings"),
        "{text}"
    );
}

#[test]
fn check_tells_every_mistake_at_once() {
    let bundle = shipped_bundle();
    write(bundle.path(), "x.cedar", "permit (");
    write(bundle.path(), "y.cedar", "forbid (");
    write(
        bundle.path(),
        "apis/z.yaml",
        "openapi: 3.1.0\ninfo: { title: Z, version: \"1\" }\npaths:\n  nonsense: {}\n",
    );
    let settings = json!({
        "bundle": { "path": bundle.path(), "poll": "1ms" },
        "listen": { "workers": 0 },
        "admin": { "connections": 0 },
        "request": { "max_headers": 1 },
        "identity": { "key_wait": "1h", "issuers": [
            { "issuer": "http://far.example", "audiences": [], "clock_skew": "5m" },
            { "issuer": "https://a.example", "audiences": ["x"], "algorithms": [] },
        ] },
        "context": { "trusted_networks": ["10.0.0.1/8", "nonsense"], "time_zone": "Mars/Olympus" },
        "answer": { "realm": "\"", "headers": { "subject": "host" } },
        "telemetry": { "service_name": "", "otlp": { "endpoint": "nonsense" } },
    });
    let (_folder, file) = settings_file(&settings.to_string());
    let (code, text) = told(&run(&["check", "--config", shown(&file)]));
    assert_eq!(code, Some(2));
    for expected in [
        "bundle.poll",
        "listen.workers",
        "admin.connections",
        "request.max_headers",
        "key_wait",
        "issuers[0]",
        "audiences",
        "clock_skew",
        "issuers[1]",
        "10.0.0.1/8",
        "nonsense",
        "Mars/Olympus",
        "answer.realm",
        "answer.headers.subject",
        "telemetry.service_name",
        "telemetry.otlp.endpoint",
        "x.cedar:1:",
        "y.cedar:1:",
        "apis/z.yaml:",
    ] {
        assert!(text.contains(expected), "`{expected}` is not told:\n{text}");
    }
}

#[test]
fn check_says_what_is_well() {
    let (code, text) = told(&run(&["check", "--bundle", "policies"]));
    assert_eq!(code, Some(0), "{text}");
    let output = run(&["check", "--bundle", "policies"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("policies") && text.contains("operations"),
        "{text}"
    );
}

#[test]
fn the_example_settings_pass_the_check() {
    let example = run(&["config", "example"]);
    assert!(example.status.success());
    let text = String::from_utf8(example.stdout).unwrap();
    let (_folder, file) = settings_file(&text);
    let (code, told) = told(&run(&["check", "--config", shown(&file)]));
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn the_schema_of_the_settings_is_a_json_schema_with_a_word_on_every_field() {
    let output = run(&["config", "schema"]);
    assert!(output.status.success());
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let mut faults = Vec::new();
    check_schema(&schema, &schema, "settings", &mut faults);
    assert!(faults.is_empty(), "{faults:#?}");
    for section in [
        "listen",
        "admin",
        "bundle",
        "request",
        "identity",
        "context",
        "answer",
        "telemetry",
    ] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

/// What a validator would stumble over, and what a reader would miss.
fn check_schema(root: &Value, part: &Value, place: &str, faults: &mut Vec<String>) {
    const TYPES: [&str; 7] = [
        "object", "array", "string", "integer", "number", "boolean", "null",
    ];
    let Some(members) = part.as_object() else {
        if !part.is_boolean() {
            faults.push(format!("{place} is no schema"));
        }
        return;
    };
    let there = |target: &str| {
        target
            .strip_prefix('#')
            .and_then(|path| root.pointer(path))
            .is_some()
    };
    let target = members.get("$ref").and_then(Value::as_str);
    if let Some(target) = target.filter(|target| !there(target)) {
        faults.push(format!("{place} refers to {target}, which is not there"));
    }
    let named: Vec<&Value> = match members.get("type") {
        None => Vec::new(),
        Some(Value::Array(list)) => list.iter().collect(),
        Some(one) => vec![one],
    };
    if !named
        .iter()
        .all(|name| name.as_str().is_some_and(|name| TYPES.contains(&name)))
    {
        faults.push(format!("{place} is of the type {named:?}"));
    }
    for (name, property) in members
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let place = format!("{place}.{name}");
        // One way of several may be described as a whole.
        let described = [property, part].map(|described| described["description"].as_str());
        if described.into_iter().flatten().all(str::is_empty) {
            faults.push(format!("{place} is not described"));
        }
        check_schema(root, property, &place, faults);
    }
    for required in members
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = required.as_str().unwrap_or_default();
        if members["properties"].get(name).is_none() {
            faults.push(format!("{place} requires {name}, which is not there"));
        }
    }
    for list in ["anyOf", "oneOf", "allOf"] {
        for (number, inner) in members
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            check_schema(root, inner, &format!("{place}/{list}/{number}"), faults);
        }
    }
    for single in ["items", "additionalProperties", "not"] {
        if let Some(inner) = members.get(single) {
            check_schema(root, inner, &format!("{place}/{single}"), faults);
        }
    }
    for (name, inner) in members
        .get("$defs")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        check_schema(root, inner, name, faults);
    }
}

#[test]
fn a_port_that_is_taken_ends_the_program_with_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for section in ["listen", "admin"] {
        let setup = Setup::new();
        let mut settings = setup.settings.clone();
        settings[section]["address"] = address.as_str().into();
        let (_folder, file) = settings_file(&settings.to_string());
        let (code, text) = told(&run(&["serve", "--config", shown(&file)]));
        assert_eq!(code, Some(2), "{text}");
        assert!(
            text.contains(&address) && text.contains(&format!("{section}.address")),
            "{text}"
        );
    }
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let output = run(&["--help"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success());
    for expected in ["serve", "check", "config", "Exit codes", "--config"] {
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(run(&["nonsense"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    assert!(run(&["--version"]).status.success());
}

#[test]
fn r2_a_broken_change_is_logged_with_file_and_line_while_the_old_bundle_stays() {
    let setup = Setup::new();
    let child = Child::serve(&setup.settings, &[]);
    setup.write("x.cedar", "\n\npermit (principal");
    let refused = |line: &Value| {
        let problem = line["problem"].as_str().unwrap_or_default();
        line["level"] == "ERROR" && problem.contains("x.cedar:3:")
    };
    eventually("the refusal is logged", || child.log().iter().any(refused));
    eventually("it is ready", || {
        crate::world::http_get(child.admin, "/ready").0 == 200
    });
    child.terminate();
    let (status, output) = child.end();
    assert_eq!(status.code(), Some(0), "{output}");
    let times = output
        .lines()
        .filter(|line| line.contains("x.cedar:3:"))
        .count();
    assert_eq!(times, 1, "the same refusal is told once: {output}");
}

#[test]
fn g1_only_this_machine_is_listened_to_by_default() {
    let config = cardea::config::Config::default();
    assert!(config.admin.address.ip().is_loopback());
    assert!(config.listen.address.to_string().starts_with("127.0.0.1:"));
}

use super::*;

#[test]
fn nothing_written_is_every_default() {
    for text in ["", "# only a comment\n\n", "{}"] {
        let config = Config::parse(text).unwrap();
        assert_eq!(config.problems(), [], "{text:?}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    let problem = Config::parse("bundle:\n  path: policies\n  pol: 1s\n").unwrap_err();
    assert_eq!(problem.at, Some((3, 3)), "{problem}");
    assert!(problem.message.contains("pol"), "{problem}");
    let problem = Config::parse("bundel: {}\n").unwrap_err();
    assert_eq!(problem.at, Some((1, 1)), "{problem}");
}

#[test]
fn a_value_of_the_wrong_form_is_refused_with_its_place() {
    for (text, line) in [
        ("bundle:\n  poll: soon\n", 2),
        ("listen:\n  workers: many\n", 2),
        ("bundle:\n  path: a\n  path: b\n", 3),
        ("bundle: [", 1),
    ] {
        let problem = Config::parse(text).unwrap_err();
        assert_eq!(
            problem.at.map(|(line, _)| line),
            Some(line),
            "{text}: {problem}"
        );
    }
}

#[test]
fn every_mistake_of_meaning_is_told_at_once() {
    let config = Config::parse(
        "bundle: { poll: 1ms }\ncontext: { time_zone: Nowhere/Land }\nlisten: { workers: 0 }\n",
    )
    .unwrap();
    let problems = config.problems();
    for part in ["bundle.poll", "time zone", "workers"] {
        assert!(
            problems.iter().any(|p| p.message.contains(part)),
            "{part}: {problems:?}"
        );
    }
}

#[test]
fn the_schema_describes_every_field() {
    fn described(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
        let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) else {
            return;
        };
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            if property.get("description").is_none() {
                missing.push(path.clone());
            }
            described(&path, property, missing);
        }
    }
    let schema = serde_json::to_value(Config::schema()).unwrap();
    let mut missing = Vec::new();
    described("", &schema, &mut missing);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        described(name, definition, &mut missing);
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_schema_shows_defaults_as_they_are_written() {
    let schema = serde_json::to_value(Config::schema()).unwrap();
    let definitions = &schema["$defs"];
    for (definition, field, default) in [
        ("ListenSettings", "address", "127.0.0.1:9191"),
        ("ListenSettings", "unix_mode", "600"),
        ("ListenSettings", "drain", "10s"),
        ("BundleSettings", "poll", "300ms"),
        ("RequestSettings", "client_address", "peer"),
        ("PathRules", "escaped_slashes", "reject"),
        ("AnswerSettings", "own_trouble", "deny"),
        ("IssuerSettings", "keys", "discovery"),
        ("IssuerSettings", "max_token_lifetime", "24h"),
    ] {
        let shown = &definitions[definition]["properties"][field]["default"];
        assert_eq!(shown, default, "{definition}.{field}");
    }
}

#[test]
fn the_reference_is_what_the_schema_says() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut script = Command::new("python3")
        .arg("scripts/settings-reference.py")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let schema = serde_json::to_vec(&Config::schema()).unwrap();
    script.stdin.take().unwrap().write_all(&schema).unwrap();
    let written = script.wait_with_output().unwrap();
    assert!(written.status.success());
    assert!(
        written.stdout == include_bytes!("../../docs/settings.md"),
        "docs/settings.md is not what scripts/settings-reference.py writes: run `make docs`"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let problems = Config::read(Path::new("no/such/cardea.yaml")).unwrap_err();
    assert!(
        problems[0]
            .to_string()
            .starts_with("no/such/cardea.yaml: cannot read")
    );
}

#[test]
fn minting_needs_a_name_of_its_own_and_a_way_to_its_keys() {
    let text = |mint: &str, more: &str| {
        format!(
            "identity: {{ issuers: [{{ issuer: 'https://idp.example', audiences: [x] }}] }}\nmint: {mint}\n{more}"
        )
    };
    let problems = |mint: &str, more: &str| -> Vec<String> {
        let config = Config::parse(&text(mint, more)).unwrap();
        config
            .problems()
            .into_iter()
            .map(|problem| problem.message)
            .collect()
    };
    let public = "public: { address: '127.0.0.1:9193' }";
    let none = Vec::<String>::new();
    assert_eq!(
        problems("{ issuer: 'https://cardea.example' }", public),
        none
    );
    let folder = "{ issuer: 'https://cardea.example', keys: { directory: keys } }";
    assert_eq!(problems(folder, ""), none);
    for (mint, more, part) in [
        ("{}", public, "`mint.issuer` must be set"),
        (
            "{ issuer: 'https://idp.example' }",
            public,
            "`identity` believes",
        ),
        (
            "{ issuer: 'https://cardea.example' }",
            "",
            "`public.address` is not set",
        ),
        (
            "{ issuer: a, header: host }",
            public,
            "already means something else",
        ),
        (
            "{ issuer: a, header: x-cardea-roles }",
            public,
            "is one of `answer.headers`",
        ),
    ] {
        let told = problems(mint, more);
        assert!(
            told.len() == 1 && told[0].contains(part),
            "{mint}: {told:?}"
        );
    }
}

#[test]
fn cardea_has_the_name_of_nobody_whose_word_it_takes() {
    for believed in [
        "issuers: [{ issuer: me }]",
        "introspection: [{ issuer: me }]",
        "kubernetes: [{ issuer: me }]",
        "api_keys: { issuer: me }",
        "basic: { issuer: me }",
    ] {
        let text = format!("identity: {{ {believed} }}\nmint: {{ issuer: me }}\n");
        let problems = Config::parse(&text).unwrap().problems();
        let told = |problem: &Problem| problem.message.contains("`identity` believes");
        assert!(problems.iter().any(told), "{believed}: {problems:?}");
    }
}

/// A transmitter that speaks of an issuer that is believed.
fn heard(identity: &str, signals: &str) -> Vec<Problem> {
    let text = format!(
        "public: {{ address: '127.0.0.1:0' }}
identity:
  issuers: [{{ issuer: 'https://idp.example', audiences: [a] }}]
  {identity}
signals:
  transmitters:
    - {{ name: idp, issuer: 'https://idp.example', audiences: [a], poll: {{ url: 'https://idp.example/poll' }} }}
  {signals}
"
    );
    Config::parse(&text).unwrap().problems()
}

#[test]
fn events_that_a_restart_would_forget_are_not_taken_unless_the_settings_say_so() {
    let problems = heard("", "");
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    let told = problem.to_string();
    assert!(
        told.contains("`identity.revocation.file` is not set"),
        "{told}"
    );
    assert!(told.contains("`signals.memory_only: true`"), "{told}");
    assert_eq!(heard("", "memory_only: true"), []);
    assert_eq!(heard("revocation: { file: revoked.jsonl }", ""), []);
    let nobody = Config::parse("signals: { transmitters: [] }").unwrap();
    assert_eq!(nobody.problems(), []);
}

#[test]
fn a_transmitter_speaks_of_nobody_whose_credentials_are_not_accepted() {
    let told = |identity: &str, transmitter: &str| {
        let text = format!(
            "identity: {{ revocation: {{ file: revoked.jsonl }}, {identity} }}
signals:
  transmitters:
    - {{ name: idp, issuer: 'https://idp.example', audiences: [a], poll: {{ url: 'https://idp.example/poll' }}, {transmitter} }}
"
        );
        let problems = Config::parse(&text).unwrap().problems();
        let problems = problems.iter().map(ToString::to_string);
        problems.collect::<Vec<_>>()
    };
    let idp = "issuers: [{ issuer: 'https://idp.example', audiences: [a] }]";
    assert_eq!(told(idp, ""), Vec::<String>::new());
    for (identity, transmitter, unknown) in [
        ("", "", "https://idp.example"),
        (
            idp,
            "subject_issuers: ['https://idp.example/']",
            "https://idp.example/",
        ),
        (
            idp,
            "subject_issuers: ['https://idp.example', 'https://other.example']",
            "https://other.example",
        ),
    ] {
        let problems = told(identity, transmitter);
        let [problem] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        let expected = format!("`signals.transmitters[0]` speaks of subjects of \"{unknown}\"");
        assert!(problem.contains(&expected), "{problem}");
        assert!(problem.contains("set `subject_issuers`"), "{problem}");
    }
    let certificates = "certificates: { validated_elsewhere: true, trust_domains: [{ name: example.org }], names: [{ issuer: devices }] }";
    let both = "subject_issuers: ['spiffe://example.org', devices]";
    assert_eq!(told(certificates, both), Vec::<String>::new());
}

use super::*;

fn issuer() -> IssuerSettings {
    IssuerSettings {
        issuer: "https://idp.example".into(),
        audiences: vec!["orders".into()],
        ..IssuerSettings::default()
    }
}

fn problems(issuers: Vec<IssuerSettings>) -> String {
    let settings = Settings {
        issuers,
        ..Settings::default()
    };
    let lines: Vec<String> = settings
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    lines.join("\n")
}

#[test]
fn the_smallest_settings_have_secure_defaults_and_no_problem() {
    let text = "issuers: [{issuer: 'https://idp.example', audiences: [orders]}]";
    let settings: Settings = serde_saphyr::from_str(text).unwrap();
    assert_eq!(settings.issuers, [issuer()]);
    assert_eq!(settings.problems(), []);
    assert_eq!(settings.key_wait, Period::seconds(2));
    assert_eq!(settings.cache.ttl, Period::seconds(60));
}

#[test]
fn each_place_of_keys_can_be_written() {
    for (text, place) in [
        ("discovery", KeyPlace::Discovery),
        (
            "{jwks_url: 'https://idp.example/keys'}",
            KeyPlace::JwksUrl("https://idp.example/keys".into()),
        ),
        (
            "{jwks_file: keys.json}",
            KeyPlace::JwksFile("keys.json".into()),
        ),
    ] {
        let read: KeyPlace = serde_saphyr::from_str(text).unwrap();
        assert_eq!(read, place);
    }
}

#[test]
fn j2_j3_symmetric_algorithms_and_none_cannot_be_written() {
    for name in ["HS256", "none", "None", "rs256", "ES512", ""] {
        let text = format!("{{issuer: i, algorithms: ['{name}']}}");
        assert!(serde_saphyr::from_str::<IssuerSettings>(&text).is_err());
    }
}

#[test]
fn unknown_keys_are_refused() {
    assert!(serde_saphyr::from_str::<Settings>("isuers: []").is_err());
    assert!(serde_saphyr::from_str::<IssuerSettings>("audience: x").is_err());
}

#[test]
fn all_mistakes_are_found_at_once() {
    let bad = IssuerSettings {
        issuer: "http://idp.example".into(),
        audiences: Vec::new(),
        algorithms: Vec::new(),
        clock_skew: Period::seconds(61),
        max_stale: Period::seconds(1),
        acr_levels: [("gold".into(), 10)].into(),
        ..IssuerSettings::default()
    };
    let found = problems(vec![bad.clone(), bad]);
    for part in [
        "`identity.issuers[0].audiences` must name at least one",
        "`identity.issuers[0].algorithms` must name",
        "`identity.issuers[0].issuer` must be https",
        "`identity.issuers[0].clock_skew` is 1m 1s, but must be from 0s to 1m",
        "`identity.issuers[0].max_stale` is 1s",
        "`identity.issuers[0].acr_levels` must map",
        "`identity.issuers[1].issuer` is the same as that of issuers[0]",
    ] {
        assert!(found.contains(part), "{part} is missing in:\n{found}");
    }
}

#[test]
fn j16_no_two_issuers_can_name_the_same_principal() {
    // `https://a` with the subject `b|c`, and `https://a|b` with the subject `c`, would both be `https://a|b|c`.
    let mut other = issuer();
    other.issuer = "https://idp.example|b".into();
    other.keys = KeyPlace::JwksFile("keys.json".into());
    let found = problems(vec![issuer(), other]);
    assert!(
        found.contains("issuers[1].issuer` must not hold `|`"),
        "{found}"
    );
}

#[test]
fn j16_no_actor_is_named_like_one_of_another_issuer() {
    let mut settings = issuer();
    settings.actor_issuers = vec!["https://agents.example".into()];
    assert_eq!(problems(vec![settings.clone()]), "");
    settings
        .actor_issuers
        .push("https://agents.example|b".into());
    let found = problems(vec![settings]);
    assert!(
        found.contains("issuers[0].actor_issuers` must not hold `|`"),
        "{found}"
    );
}

#[test]
fn j16_issuers_that_can_name_one_anothers_roles_are_told() {
    let mut settings = Settings::default();
    let issuer = |name: &str, prefix: &str| IssuerSettings {
        issuer: name.into(),
        claims: ClaimSettings {
            roles: vec!["roles".into()],
            role_prefix: prefix.into(),
            ..ClaimSettings::default()
        },
        ..issuer()
    };
    settings.issuers = vec![issuer("a", "a:"), issuer("b", "b:")];
    assert_eq!(settings.shared_names(), []);
    settings.issuers.push(issuer("c", "b:c:"));
    assert_eq!(settings.shared_names(), [("roles", vec!["b", "c"])]);
    settings.issuers = vec![issuer("a", ""), issuer("b", "b:")];
    assert_eq!(settings.shared_names(), [("roles", vec!["a", "b"])]);
    for one in &mut settings.issuers {
        one.claims.roles.clear();
        one.claims.tenant = Some("tenant".into());
    }
    assert_eq!(settings.shared_names(), [("tenants", vec!["a", "b"])]);
}

#[test]
fn limits_of_the_cache_are_checked() {
    let mut settings = Settings::default();
    settings.cache.capacity = 0;
    settings.cache.ttl = Period::seconds(3601);
    settings.key_wait = Period::seconds(11);
    assert_eq!(settings.problems().len(), 3);
}

#[test]
fn plain_http_is_for_loopback_only() {
    for (url, good) in [
        ("https://idp.example/keys", true),
        ("http://127.0.0.1:8080/keys", true),
        ("http://[::1]/keys", true),
        ("http://localhost/keys", true),
        ("http://localhost.evil.example/keys", false),
        ("http://10.0.0.1/keys", false),
        ("file:///etc/passwd", false),
        ("https://user:secret@idp.example/keys", false),
        ("not a url", false),
    ] {
        let mut settings = issuer();
        settings.keys = KeyPlace::JwksUrl(url.into());
        assert_eq!(problems(vec![settings]).is_empty(), good, "{url}");
    }
}

#[test]
fn keys_and_passwords_are_off_by_default_and_their_sections_are_secure_when_empty() {
    let settings: Settings = serde_saphyr::from_str("{}").unwrap();
    assert_eq!((&settings.api_keys, &settings.basic), (&None, &None));
    assert_eq!(settings.schemes(), [SchemeName::Jwt]);
    let settings: Settings = serde_saphyr::from_str("{api_keys: {}, basic: {}}").unwrap();
    assert_eq!(settings.problems(), []);
    let basic = settings.basic.as_ref().unwrap();
    assert!(!basic.allow_http);
    assert_eq!(
        settings.schemes(),
        [SchemeName::Jwt, SchemeName::ApiKey, SchemeName::Basic]
    );
}

#[test]
fn all_mistakes_in_the_sections_of_keys_and_passwords_are_told_at_once() {
    let settings: Settings = serde_saphyr::from_str(
        "{api_keys: {header: Authorization, prefix: 'a-b', issuer: 'a|b', poll: 1ms, query_parameters: ['']},
          basic: {issuer: '', max_attempts: 0, max_attempts_total: 0, window: 0s, concurrency: 0, queue: 9999, wait: 1h, poll: 0s}}",
    )
    .unwrap();
    let problems = settings.problems();
    for field in [
        "api_keys.header",
        "api_keys.prefix",
        "api_keys.issuer",
        "api_keys.poll",
        "api_keys.query_parameters",
        "basic.issuer",
        "basic.max_attempts",
        "basic.max_attempts_total",
        "basic.window",
        "basic.concurrency",
        "basic.queue",
        "basic.wait",
        "basic.poll",
    ] {
        let named = format!("`identity.{field}`");
        assert!(
            problems
                .iter()
                .any(|problem| problem.message.contains(&named)),
            "{field}"
        );
    }
    for header in ["", "x api key", "x-cardea-key", "cookie"] {
        let text = format!("{{api_keys: {{header: '{header}'}}}}");
        let settings: Settings = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(settings.problems().len(), 1, "{header}");
    }
}

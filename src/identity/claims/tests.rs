use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::settings::KeyPlace;
use crate::identity::testing::{AUDIENCE, NOW, TestKey, b64, claims, issuer_settings};
use crate::model::Period;

fn settings() -> IssuerSettings {
    issuer_settings(KeyPlace::Discovery)
}

fn at_second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn check(settings: &IssuerSettings, text: &str) -> Option<Fault> {
    let token = Token::read(text).ok().unwrap();
    let judged = Rules::new(settings.clone()).check(&token, at_second(NOW));
    judged.err().map(|wrong| wrong.0)
}

/// The fault of a token that is good but for these claims, by the default rules.
fn fault(changes: Value) -> Option<Fault> {
    check(&settings(), &TestKey::ed25519("k").token_with(changes))
}

/// What a token with these further claims says.
fn attributes(
    change: impl FnOnce(&mut IssuerSettings),
    more: Value,
) -> Result<IdentityAttributes, Wrong> {
    let mut settings = settings();
    change(&mut settings);
    let text = TestKey::ed25519("k").token_with(more);
    let token = Token::read(&text)?;
    let rules = Rules::new(settings);
    let times = rules.check(&token, at_second(NOW))?;
    rules.attributes(&token.claims, times)
}

#[test]
fn j10_a_time_of_the_wrong_type_is_refused() {
    for name in ["exp", "nbf", "iat", "auth_time"] {
        for value in ["\"9999999999\"", "null", "true", "[1]", "{}", "\"\""] {
            let claims = claims("alice").to_string();
            let claims = claims
                .replace("\"exp\":", "\"was_exp\":")
                .replace("\"iat\":", "\"was_iat\":");
            let rest = claims.strip_prefix('{').unwrap();
            let exp = if name == "exp" {
                String::new()
            } else {
                format!("\"exp\":{},", NOW + 9)
            };
            let payload = format!("{{{exp}\"{name}\":{value},{rest}");
            let text =
                TestKey::ed25519("k").sign_texts(r#"{"alg":"EdDSA","typ":"at+jwt"}"#, &payload);
            assert_eq!(
                check(&settings(), &text),
                Some(Fault::Lifetime),
                "{name} {value}"
            );
        }
    }
}

#[test]
fn j11_a_time_out_of_range_is_refused() {
    for value in [
        "-1",
        "0",
        "1e300",
        "18446744073709551616",
        "18446744073709551615",
        "9223372036854775807",
        "1900000100.5",
        "1.9e9",
        "253402300800",
    ] {
        let payload = format!(r#"{{"iss":"x","aud":"{AUDIENCE}","sub":"a","exp":{value}}}"#);
        let text = TestKey::ed25519("k").sign_texts(r#"{"alg":"EdDSA","typ":"at+jwt"}"#, &payload);
        assert_eq!(check(&settings(), &text), Some(Fault::Lifetime), "{value}");
    }
    assert_eq!(fault(json!({"exp": null})), Some(Fault::Lifetime), "absent");
}

#[test]
fn j11_skew_is_granted_on_both_sides_and_no_more() {
    for (changes, expected) in [
        (
            json!({"exp": NOW - 30, "iat": NOW - 90}),
            Some(Fault::Expired),
        ),
        (json!({"exp": NOW - 29, "iat": NOW - 90}), None),
        (json!({"nbf": NOW + 30}), None),
        (json!({"nbf": NOW + 31}), Some(Fault::NotYetValid)),
        (json!({"nbf": NOW + 3600}), Some(Fault::NotYetValid)),
        (json!({"iat": NOW + 30}), None),
        (json!({"iat": NOW + 31}), Some(Fault::NotYetValid)),
        (json!({"iat": 4_102_444_800_i64}), Some(Fault::NotYetValid)),
        (json!({"auth_time": NOW + 31}), Some(Fault::NotYetValid)),
    ] {
        assert_eq!(fault(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn expired_token_is_denied_as_expired() {
    assert_eq!(
        fault(json!({"exp": NOW - 3600, "iat": NOW - 7200})),
        Some(Fault::Expired)
    );
}

#[test]
fn a_token_that_lives_too_long_is_refused() {
    let day = 24 * 60 * 60;
    for (changes, expected) in [
        (json!({"iat": NOW, "exp": NOW + day}), None),
        (
            json!({"iat": NOW, "exp": NOW + day + 1}),
            Some(Fault::Lifetime),
        ),
        (json!({"iat": null, "exp": NOW + day}), None),
        (
            json!({"iat": null, "exp": NOW + day + 1}),
            Some(Fault::Lifetime),
        ),
        (
            json!({"iat": NOW + 20, "exp": NOW + 20}),
            Some(Fault::Lifetime),
        ),
        (
            json!({"iat": NOW + 20, "exp": NOW + 10}),
            Some(Fault::Lifetime),
        ),
    ] {
        assert_eq!(fault(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn j14_only_the_exact_audience_or_an_array_of_texts_with_it_will_do() {
    for (aud, good) in [
        (json!(AUDIENCE), true),
        (json!(["billing", AUDIENCE]), true),
        (json!([]), false),
        (json!(["billing"]), false),
        (json!(5), false),
        (json!({AUDIENCE: 1}), false),
        (json!("Orders"), false),
        (json!("orders "), false),
        (json!("order"), false),
        (json!("orders2"), false),
        (json!([AUDIENCE, 5]), false),
        (json!([[AUDIENCE]]), false),
        (json!("billing orders"), false),
    ] {
        let expected = (!good).then_some(Fault::Audience);
        assert_eq!(fault(json!({"aud": aud})), expected, "{aud}");
    }
    assert_eq!(fault(json!({"aud": null})), Some(Fault::Audience), "absent");
}

#[test]
fn j17_a_token_of_another_type_is_refused() {
    let key = TestKey::ed25519("k");
    for (kind, good) in [
        (json!("at+jwt"), true),
        (json!("AT+JWT"), true),
        (json!("application/at+jwt"), true),
        (json!("JWT"), false),
        (json!("logout+jwt"), false),
        (json!("dpop+jwt"), false),
        (json!("application/jwt"), false),
        (json!("at+jwt "), false),
        (json!(null), false),
    ] {
        let text = key.token_under(json!({"typ": kind}));
        let expected = (!good).then_some(Fault::Type);
        assert_eq!(check(&settings(), &text), expected, "{kind}");
    }
    let mut lenient = settings();
    lenient.token_types = vec!["JWT".into()];
    assert_eq!(
        check(&lenient, &key.token_under(json!({"typ": "jwt"}))),
        None
    );
    assert_eq!(check(&lenient, &key.token("alice")), Some(Fault::Type));
}

#[test]
fn an_algorithm_that_is_not_configured_is_refused() {
    let mut narrow = settings();
    narrow.algorithms = vec![Algorithm::RS256];
    let text = TestKey::ed25519("k").token("alice");
    assert_eq!(check(&narrow, &text), Some(Fault::Algorithm));
}

#[test]
fn roles_groups_tenant_and_scopes_follow_the_mapping() {
    let who = attributes(
        |settings| {
            settings.claims = ClaimSettings {
                roles: vec![
                    "realm_access.roles".into(),
                    "https://idp.example/role".into(),
                ],
                groups: vec!["groups".into(), "no.such.claim".into()],
                tenant: Some("org.id".into()),
                role_prefix: "idp:".into(),
                ..ClaimSettings::default()
            };
        },
        json!({
            "realm_access": {"roles": ["editor", "admin", "editor"]},
            "https://idp.example/role": "auditor",
            "groups": ["b", "a"],
            "org": {"id": "acme"},
            "scope": "orders:read  orders:write",
        }),
    )
    .unwrap();
    assert_eq!(who.roles, ["idp:admin", "idp:auditor", "idp:editor"]);
    assert_eq!(who.groups, ["a", "b"]);
    assert_eq!(who.tenant.as_deref(), Some("acme"));
    assert_eq!(who.scopes, ["orders:read", "orders:write"]);
    assert!(!who.sender_constrained());
}

#[test]
fn unmapped_claims_say_nothing() {
    let more = json!({"roles": ["admin"], "groups": ["root"], "tenant": "acme", "scp": ["a", "b"]});
    let who = attributes(|_| {}, more).unwrap();
    assert_eq!(
        (who.roles.len(), who.groups.len(), who.claims.len()),
        (0, 0, 0)
    );
    assert_eq!(who.tenant, None);
    assert_eq!(who.scopes, ["a", "b"], "scp stands in for scope");
}

#[test]
fn only_what_is_plainly_text_is_exposed() {
    let who = attributes(
        |settings| {
            settings.claims.expose = ["s", "b", "i", "l", "n", "f", "o", "none"]
                .map(str::to_owned)
                .into();
        },
        json!({
            "s": "x", "b": true, "i": -7, "l": ["y", 1, null, 1.5, {"z": 1}, "y"],
            "f": 1.5, "o": {"__entity": {"type": "Role", "id": "admin"}},
        }),
    )
    .unwrap();
    let expected: BTreeMap<String, Vec<String>> = [
        ("s".into(), vec!["x".into()]),
        ("b".into(), vec!["true".into()]),
        ("i".into(), vec!["-7".into()]),
        ("l".into(), vec!["1".into(), "y".into()]),
    ]
    .into();
    assert_eq!(who.claims, expected);
}

#[test]
fn a_claim_of_the_wrong_type_or_size_is_refused() {
    let map = |settings: &mut IssuerSettings| {
        settings.claims.roles = vec!["roles".into()];
        settings.claims.tenant = Some("tenant".into());
        settings.claims.expose = vec!["list".into()];
    };
    let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
    for more in [
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": "x".repeat(513)}),
        json!({"sub": "a\u{0}b"}),
        json!({"sub": "a\nb"}),
        json!({"roles": [{"__entity": {"type": "Role", "id": "admin"}}]}),
        json!({"roles": {"admin": true}}),
        json!({"roles": ["admin", 1]}),
        json!({"roles": ["a\u{7f}"]}),
        json!({"roles": [""]}),
        json!({"roles": many(257)}),
        json!({"tenant": 5}),
        json!({"tenant": ""}),
        json!({"scope": 5}),
        json!({"scope": many(257).join(" ")}),
        json!({"client_id": 5}),
        json!({"azp": []}),
        json!({"jti": 5}),
        json!({"acr": 1}),
        json!({"amr": [1]}),
        json!({"list": many(65)}),
    ] {
        let judged = attributes(map, more.clone()).err().map(|wrong| wrong.0);
        assert_eq!(judged, Some(Fault::Claims), "{more}");
    }
    assert_eq!(
        attributes(map, json!({"roles": many(256)}))
            .unwrap()
            .roles
            .len(),
        256
    );
}

#[test]
fn j22_subjects_are_compared_to_the_byte() {
    for subject in ["a@evil@good.com", "e\u{301}", "\u{e9}", "Alice", " alice"] {
        let who = attributes(|_| {}, json!({"sub": subject})).unwrap();
        assert_eq!(who.subject, subject);
    }
}

#[test]
fn assurance_is_the_highest_configured_level() {
    let levels = |settings: &mut IssuerSettings| {
        settings.acr_levels = [("silver".into(), 1), ("gold".into(), 2)].into();
        settings.amr_levels = [("otp".into(), 2), ("hwk".into(), 3)].into();
    };
    for (more, expected) in [
        (json!({}), 0),
        (json!({"acr": "platinum", "amr": ["face"]}), 0),
        (json!({"acr": "silver"}), 1),
        (json!({"acr": "gold", "amr": ["pwd", "hwk"]}), 3),
        (json!({"acr": "gold", "amr": ["pwd"]}), 2),
        (json!({"amr": "otp"}), 2),
    ] {
        let who = attributes(levels, more.clone()).unwrap();
        assert_eq!(who.assurance, expected, "{more}");
    }
}

#[test]
fn more_than_one_factor_was_seen_only_where_a_listed_value_says_so() {
    let usual = |_: &mut IssuerSettings| {};
    let own = |settings: &mut IssuerSettings| {
        settings.mfa_methods = vec!["2fa".into()];
        settings.mfa_classes = vec!["gold".into()];
    };
    let none = |settings: &mut IssuerSettings| settings.mfa_methods.clear();
    let seen = |change: fn(&mut IssuerSettings), more: &Value| attributes(change, more.clone());
    for (change, more, expected) in [
        (usual as fn(&mut IssuerSettings), json!({}), false),
        (usual, json!({"amr": ["pwd", "mfa"]}), true),
        (usual, json!({"amr": "mfa"}), true),
        // Two methods may be of one kind, so they are not counted.
        (usual, json!({"amr": ["pwd", "otp"]}), false),
        (usual, json!({"amr": ["MFA", " mfa", "mfa2"]}), false),
        (usual, json!({"amr": [], "acr": "mfa"}), false),
        (usual, json!({"amr": null}), false),
        (usual, json!({"mfa": true}), false),
        (own, json!({"amr": ["2fa"]}), true),
        (own, json!({"amr": ["mfa"]}), false),
        (own, json!({"acr": "gold"}), true),
        (own, json!({"acr": "Gold", "amr": ["gold"]}), false),
        (none, json!({"amr": ["mfa"]}), false),
    ] {
        assert_eq!(seen(change, &more).unwrap().mfa, expected, "{more}");
    }
}

#[test]
fn what_a_login_was_like_is_the_least_where_it_is_unknown_and_garbage_is_refused() {
    let who = attributes(|_| {}, json!({})).unwrap();
    assert_eq!((who.assurance, who.mfa, who.auth_time), (0, false, None));
    let who = attributes(|_| {}, json!({"auth_time": NOW - 7})).unwrap();
    assert_eq!(who.auth_time, Some(at_second(NOW - 7)));
    for (garbage, expected) in [
        (json!({"auth_time": 0}), Fault::Lifetime),
        (json!({"auth_time": -5}), Fault::Lifetime),
        (json!({"auth_time": 1.5}), Fault::Lifetime),
        (json!({"auth_time": "2026-01-05"}), Fault::Lifetime),
        (json!({"auth_time": NOW + 3600}), Fault::NotYetValid),
        (json!({"acr": ["gold"]}), Fault::Claims),
        (json!({"acr": 3}), Fault::Claims),
        (json!({"amr": {"mfa": true}}), Fault::Claims),
        (json!({"amr": ["mfa", 1]}), Fault::Claims),
        (json!({"amr": true}), Fault::Claims),
    ] {
        let wrong = attributes(|_| {}, garbage.clone()).unwrap_err();
        assert_eq!(wrong.0, expected, "{garbage}");
    }
}

#[test]
fn whoever_acts_brings_the_login_of_whom_they_act_for() {
    let more = json!({"amr": ["mfa"], "auth_time": NOW - 60, "act": {"sub": "bot", "amr": ["pwd"], "auth_time": NOW}});
    let agent = attributes(|_| {}, more).unwrap();
    let alice = agent.subject_of_token();
    assert_eq!((&*agent.subject, &*alice.subject), ("bot", "alice"));
    assert_eq!(
        (alice.mfa, alice.auth_time),
        (true, Some(at_second(NOW - 60)))
    );
    let more = json!({"amr": ["pwd"], "act": {"sub": "bot", "amr": ["mfa"]}});
    let agent = attributes(|_| {}, more).unwrap();
    assert!(!agent.subject_of_token().mfa);
}

#[test]
fn the_kind_of_principal_is_told_by_the_client_or_the_settings() {
    for (more, expected) in [
        (json!({}), PrincipalKind::User),
        (json!({"client_id": "web"}), PrincipalKind::User),
        (json!({"client_id": "alice"}), PrincipalKind::Client),
        (json!({"azp": "alice"}), PrincipalKind::Client),
        (
            json!({"azp": "alice", "client_id": "web"}),
            PrincipalKind::Client,
        ),
    ] {
        assert_eq!(
            attributes(|_| {}, more.clone()).unwrap().kind,
            expected,
            "{more}"
        );
    }
    let who = attributes(
        |s| s.principal = PrincipalSetting::Workload,
        json!({"azp": "web"}),
    );
    let who = who.unwrap();
    assert_eq!(who.kind, PrincipalKind::Workload);
    assert_eq!(who.client_id.as_deref(), Some("web"));
}

#[test]
fn without_skew_a_token_ends_on_its_second() {
    let mut strict = settings();
    strict.clock_skew = Period::seconds(0);
    let key = TestKey::ed25519("k");
    let ends = |exp: i64| check(&strict, &key.token_with(json!({"exp": exp})));
    assert_eq!(ends(NOW + 1), None);
    assert_eq!(ends(NOW), Some(Fault::Expired));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map("[a-z.]{1,6}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_claims_panic_the_rules(
        name in "(exp|iat|nbf|auth_time|aud|sub|scope|amr|acr|azp|roles|tenant|list)",
        value in any_json(),
    ) {
        let map = |settings: &mut IssuerSettings| {
            settings.claims.roles = vec!["roles".into(), "roles.a".into()];
            settings.claims.tenant = Some("tenant.a.b".into());
            settings.claims.expose = vec!["list".into(), "roles".into()];
        };
        let _judged = attributes(map, json!({name: value}));
    }
}

#[test]
fn what_a_token_is_bound_to_is_read_and_other_confirmations_refuse_it() {
    let thumbprint = b64([7; 32]);
    for (cnf, expected) in [
        (
            json!({ "jkt": thumbprint }),
            Ok(Some(Binding::Key(thumbprint.clone()))),
        ),
        (
            json!({ "x5t#S256": thumbprint }),
            Ok(Some(Binding::Certificate([7; 32]))),
        ),
        (json!({}), Err(Fault::Claims)),
        (json!("x"), Err(Fault::Claims)),
        (json!({ "jkt": 7 }), Err(Fault::Claims)),
        (json!({ "jkt": b64([7; 31]) }), Err(Fault::Claims)),
        (json!({ "jwk": {} }), Err(Fault::Claims)),
        (
            json!({ "jkt": thumbprint, "x5t#S256": thumbprint }),
            Err(Fault::Claims),
        ),
    ] {
        let claims = json!({ "cnf": cnf });
        let read = binding(claims.as_object().unwrap()).map_err(|wrong| wrong.0);
        assert_eq!(read, expected, "{cnf}");
    }
}

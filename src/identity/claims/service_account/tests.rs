use serde_json::json;

use super::super::super::settings::Settings;
use super::super::super::supposed::ClaimReader;
use super::super::super::testing::{AUDIENCE, ISSUER, NOW, TestKey, changed};
use super::super::super::token::Token;
use super::super::Rules;
use super::*;
use crate::model::PrincipalKind;

fn cluster() -> KubernetesSettings {
    KubernetesSettings {
        issuer: ISSUER.into(),
        audiences: vec![AUDIENCE.into()],
        ..KubernetesSettings::default()
    }
}

/// As the kubelet writes it for a pod.
fn projected() -> Value {
    json!({
        "iss": ISSUER, "aud": [AUDIENCE], "sub": "system:serviceaccount:shop:web",
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 3597, "jti": "7c1f0d5e",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": { "name": "web", "uid": "sa-uid" },
            "pod": { "name": "web-0", "uid": "pod-uid" },
            "node": { "name": "node-1", "uid": "node-uid" },
            "warnafter": NOW + 3000,
        },
    })
}

fn with(members: Value) -> Value {
    let mut claims = projected();
    claims[CLAIM] = changed(claims[CLAIM].take(), members);
    claims
}

fn under(
    settings: &KubernetesSettings,
    header: &str,
    claims: &Value,
) -> Result<IdentityAttributes, Wrong> {
    let text = TestKey::es256("k").sign_texts(header, &claims.to_string());
    let token = Token::read(&text)?;
    let rules = Rules::of_cluster(settings);
    let times = rules.check(&token, jiff::Timestamp::from_second(NOW).unwrap())?;
    rules.attributes(&token.claims, times)
}

fn read(settings: &KubernetesSettings, claims: &Value) -> Result<IdentityAttributes, Wrong> {
    under(settings, r#"{"alg":"ES256","kid":"k"}"#, claims)
}

fn fault(claims: &Value) -> Option<Fault> {
    read(&cluster(), claims).err().map(|wrong| wrong.0)
}

#[test]
fn a_projected_token_names_the_workload_its_pod_and_its_groups() {
    let web = read(&cluster(), &projected()).unwrap();
    assert_eq!(
        (web.kind, web.scheme),
        (PrincipalKind::Workload, "kubernetes")
    );
    assert_eq!(
        web.principal_id(),
        format!("{ISSUER}|system:serviceaccount:shop:web")
    );
    let account = web.service_account.unwrap();
    assert_eq!((account.namespace(), account.name()), ("shop", "web"));
    assert_eq!(
        web.groups,
        ["system:serviceaccounts", "system:serviceaccounts:shop"]
    );
    assert_eq!(web.session_id.as_deref(), Some("pod-uid"));
    assert_eq!(web.token_id.as_deref(), Some("7c1f0d5e"));
    let told: Vec<(&str, &str)> = web
        .claims
        .iter()
        .map(|(name, values)| (name.as_str(), values[0].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("node.name", "node-1"),
            ("node.uid", "node-uid"),
            ("pod.name", "web-0"),
            ("pod.uid", "pod-uid"),
            ("serviceaccount.name", "web"),
            ("serviceaccount.uid", "sa-uid"),
        ]
    );
    assert!(!web.mfa && web.assurance == 0);
}

#[test]
fn j17_a_clusters_token_has_no_type_but_one_that_is_listed() {
    let typed = |kind: &str| format!(r#"{{"alg":"ES256","kid":"k","typ":"{kind}"}}"#);
    for kind in ["JWT", "at+jwt", "application/at+jwt", "dpop+jwt", ""] {
        let wrong = under(&cluster(), &typed(kind), &projected()).unwrap_err();
        assert_eq!(wrong.0, Fault::Type, "{kind}");
    }
    let external = KubernetesSettings {
        token_types: vec!["JWT".into()],
        ..cluster()
    };
    assert!(under(&external, &typed("JWT"), &projected()).is_ok());
    assert!(under(&external, &typed("at+jwt"), &projected()).is_err());
    assert!(read(&external, &projected()).is_ok());
}

#[test]
fn j22_the_subject_and_the_claim_have_to_name_one_account() {
    for sub in [
        "system:serviceaccount:shop:admin",
        "system:serviceaccount:other:web",
        "system:serviceaccount:shop:web ",
        "system:serviceaccount:shop",
        "system:node:node-1",
        "alice",
    ] {
        let claims = changed(projected(), json!({ "sub": sub }));
        assert_eq!(fault(&claims), Some(Fault::Claims), "{sub}");
    }
    // The border between the two names cannot be moved.
    let moved = with(json!({
        "namespace": "shop:web", "serviceaccount": { "name": "x", "uid": "u" },
    }));
    let moved = changed(moved, json!({ "sub": "system:serviceaccount:shop:web:x" }));
    assert_eq!(fault(&moved), Some(Fault::Claims));
}

#[test]
fn a_claim_that_is_not_as_kubernetes_writes_it_is_refused() {
    for members in [
        json!({ "namespace": null }),
        json!({ "namespace": ["shop"] }),
        json!({ "serviceaccount": null }),
        json!({ "serviceaccount": "web" }),
        json!({ "serviceaccount": { "name": "web" } }),
        json!({ "pod": "web-0" }),
        json!({ "pod": { "name": "web-0" } }),
        json!({ "pod": { "name": "web-0", "uid": "" } }),
        json!({ "pod": { "name": "web-0", "uid": 7 } }),
        json!({ "node": [] }),
        json!({ "secret": { "name": "s", "uid": "u" } }),
    ] {
        assert_eq!(
            fault(&with(members.clone())),
            Some(Fault::Claims),
            "{members}"
        );
    }
    for own in [json!(null), json!("shop"), json!([])] {
        let claims = changed(projected(), json!({ CLAIM: own }));
        assert_eq!(fault(&claims), Some(Fault::Claims), "{own}");
    }
    let acting = changed(projected(), json!({ "act": { "sub": "bot" } }));
    assert_eq!(fault(&acting), Some(Fault::Claims));
}

#[test]
fn tokens_that_outlive_what_they_were_made_for_are_refused_unless_allowed() {
    let thing = json!({ "name": "n", "uid": "u" });
    let nothing = with(json!({ "pod": null, "node": null }));
    let secret = with(json!({ "pod": null, "node": null, "secret": thing }));
    let node = with(json!({ "pod": null, "node": thing }));
    for (claims, own, session) in [
        (&nothing, BoundTo::Nothing, None),
        (&secret, BoundTo::Secret, Some("u")),
        (&node, BoundTo::Node, Some("u")),
        (&projected(), BoundTo::Pod, Some("pod-uid")),
    ] {
        let all = [
            BoundTo::Pod,
            BoundTo::Node,
            BoundTo::Secret,
            BoundTo::Nothing,
        ];
        for allowed in all {
            let settings = KubernetesSettings {
                bound_to: vec![allowed],
                ..cluster()
            };
            let read = read(&settings, claims);
            assert_eq!(read.is_ok(), allowed == own, "{own:?} where {allowed:?}");
            if let Ok(holder) = read {
                assert_eq!(holder.session_id.as_deref(), session);
            }
        }
    }
}

#[test]
fn j11_a_legacy_token_without_end_and_audience_is_never_accepted() {
    let legacy = json!({
        "iss": ISSUER, "sub": "system:serviceaccount:shop:web",
        "kubernetes.io/serviceaccount/namespace": "shop",
        "kubernetes.io/serviceaccount/secret.name": "web-token-x1",
        "kubernetes.io/serviceaccount/service-account.name": "web",
        "kubernetes.io/serviceaccount/service-account.uid": "sa-uid",
    });
    let any = KubernetesSettings {
        bound_to: vec![BoundTo::Secret, BoundTo::Nothing],
        ..cluster()
    };
    for (more, expected) in [
        (json!({}), Fault::Audience),
        (json!({ "aud": AUDIENCE }), Fault::Lifetime),
        (
            json!({ "aud": AUDIENCE, "iat": NOW, "exp": NOW + 60 }),
            Fault::Claims,
        ),
    ] {
        let claims = changed(legacy.clone(), more);
        assert_eq!(read(&any, &claims).unwrap_err().0, expected);
    }
    let endless = changed(projected(), json!({ "exp": null }));
    assert_eq!(fault(&endless), Some(Fault::Lifetime));
    // The usual token of a pod, stretched to a year.
    let year = changed(projected(), json!({ "exp": NOW + 365 * 24 * 60 * 60 }));
    assert_eq!(fault(&year), Some(Fault::Lifetime));
}

#[test]
fn only_the_namespaces_that_are_listed_are_accepted_and_groups_have_the_prefix() {
    let settings = KubernetesSettings {
        namespaces: vec!["shop".into()],
        group_prefix: "prod:".into(),
        ..cluster()
    };
    let web = read(&settings, &projected()).unwrap();
    assert_eq!(web.groups[1], "prod:system:serviceaccounts:shop");
    let other = with(json!({ "namespace": "shop-2" }));
    let other = changed(other, json!({ "sub": "system:serviceaccount:shop-2:web" }));
    assert_eq!(read(&settings, &other).unwrap_err().0, Fault::Claims);
    assert!(read(&cluster(), &other).is_ok());
}

#[test]
fn rehearsals_read_a_clusters_claims_as_its_tokens_are_read() {
    let settings = Settings {
        kubernetes: vec![cluster()],
        ..Settings::default()
    };
    let reader = ClaimReader::new(&settings);
    let now = jiff::Timestamp::from_second(NOW).unwrap();
    let read = |claims: Value| reader.read(claims.as_object().unwrap().clone(), now);
    let web = read(projected()).unwrap();
    assert_eq!(web.service_account.unwrap().to_string(), "shop/web");
    assert!(read(with(json!({ "pod": null, "node": null }))).is_err());
}

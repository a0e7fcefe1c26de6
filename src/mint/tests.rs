use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::json;

use super::*;
use crate::model::{
    Api, IdentityAttributes, Lifecycle, ManualClock, OnBehalf, Operation, Period, PrincipalKind,
    ResourceRule, Route, VerifiedIdentity,
};

const ISSUER: &str = "https://cardea.internal";
const IDP: &str = "https://login.example.com";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

struct World {
    mint: Mint,
    clock: Arc<ManualClock>,
    _background: tokio::runtime::Runtime,
}

fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = Settings {
        issuer: ISSUER.to_owned(),
        ..Settings::default()
    };
    change(&mut settings);
    assert_eq!(settings.problems(&[IDP]), []);
    // The runtime is not driven: keys change only where a test looks after them.
    let background = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let clock = Arc::new(ManualClock::at(at(0)));
    let own: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    World {
        mint: Mint::start(&settings, own, background.handle()).unwrap(),
        clock,
        _background: background,
    }
}

/// For the verifier of these tests alone: the mint signs by itself.
fn install_crypto() {
    let _kept = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

fn matched(api: &str, operation: &str) -> Matched {
    let api = Arc::new(Api {
        name: api.into(),
        version: "1".into(),
        lifecycle: Lifecycle::Active,
        sunset: None,
        exposure: "internal".into(),
        owner: None,
        data_classes: Vec::new(),
    });
    let route = Arc::new(Route {
        id: "GET /x".into(),
        api,
        template: "/x".into(),
        sensitivity: 1,
        tags: Vec::new(),
        lifecycle: Lifecycle::Active,
    });
    Matched {
        operation: Arc::new(Operation {
            id: operation.into(),
            documented: true,
            method: Method::Get,
            route,
            resource: ResourceRule::Route,
            observed: false,
            single_query_parameters: Vec::new(),
        }),
        parameters: Vec::new(),
    }
}

fn alice() -> IdentityAttributes {
    IdentityAttributes {
        client_id: Some("shop".to_owned()),
        scopes: vec!["orders:read".to_owned(), "profile".to_owned()],
        roles: vec!["viewer".to_owned()],
        groups: vec!["staff".to_owned()],
        tenant: Some("acme".to_owned()),
        acr: Some("urn:strong".to_owned()),
        amr: vec!["hwk".to_owned()],
        assurance: 3,
        mfa: true,
        auth_time: Some(at(-100)),
        session_id: Some("s-1".to_owned()),
        token_id: Some("canary-jti".to_owned()),
        claims: [("email".to_owned(), vec!["a@example.com".to_owned()])].into(),
        ..IdentityAttributes::of(
            PrincipalKind::User,
            "bearer_jwt",
            (IDP.into(), "alice".to_owned()),
            at(3600),
        )
    }
}

fn verified(attributes: IdentityAttributes) -> Caller {
    Caller::Verified(Arc::new(VerifiedIdentity::assertion(attributes)))
}

impl World {
    fn try_token(
        &self,
        caller: &Caller,
        api: &str,
        second: i64,
    ) -> Result<Option<Minted>, Refusal> {
        let matched = matched(api, "orders.list");
        self.mint.token(caller, (&matched, Method::Get), at(second))
    }

    fn token(&self, caller: &Caller, api: &str, second: i64) -> String {
        let minted = self.try_token(caller, api, second).unwrap().unwrap();
        minted.expose().to_owned()
    }

    /// What a verifier makes of a token that knows nothing but the key set, and reads no clock.
    fn read(&self, token: &str) -> serde_json::Value {
        let header = jsonwebtoken::decode_header(token).unwrap();
        assert_eq!(header.typ.as_deref(), Some(TOKEN_TYPE));
        let keys: JwkSet = serde_json::from_str(&self.mint.key_set()).unwrap();
        let key = keys.find(&header.kid.unwrap()).expect("a published key");
        let mut rules = Validation::new(header.alg);
        rules.validate_exp = false;
        rules.validate_aud = false;
        rules.set_issuer(&[ISSUER]);
        let key = DecodingKey::from_jwk(key).unwrap();
        jsonwebtoken::decode(token, &key, &rules).unwrap().claims
    }
}

#[test]
fn a_token_says_who_calls_in_the_words_that_settings_chose() {
    install_crypto();
    for algorithm in [SigningAlgorithm::ES256, SigningAlgorithm::EdDSA] {
        let world = world(|settings| settings.keys.algorithm = Some(algorithm));
        let mut claims = world.read(&world.token(&verified(alice()), "orders", 0));
        let id = claims["jti"].take();
        assert_eq!(id.as_str().unwrap().len(), 22);
        assert_eq!(
            claims,
            json!({
                "iss": ISSUER, "aud": "orders", "iat": at(0).as_second(), "exp": at(60).as_second(), "jti": null,
                "sub": "https://login.example.com|alice", "kind": "User", "idp": IDP, "idp_sub": "alice",
                "scheme": "bearer_jwt", "client_id": "shop", "scope": "orders:read profile", "roles": ["viewer"],
                "tenant": "acme", "acr": "urn:strong", "assurance": 3, "mfa": true, "auth_time": at(-100).as_second(),
            })
        );
    }
}

#[test]
fn every_other_claim_can_be_had_and_none_has_to() {
    use MintedClaim as C;
    install_crypto();
    let all = world(|settings| settings.claims = vec![C::Groups, C::Amr, C::Sid, C::Exposed]);
    let claims = all.read(&all.token(&verified(alice()), "orders", 0));
    assert_eq!(claims["groups"], json!(["staff"]));
    assert_eq!(claims["amr"], json!(["hwk"]));
    assert_eq!(claims["sid"], "s-1");
    assert_eq!(claims["claims"], json!({ "email": ["a@example.com"] }));
    let least = world(|settings| settings.claims = Vec::new());
    let claims = least.read(&least.token(&verified(alice()), "orders", 0));
    let mut names: Vec<&String> = claims.as_object().unwrap().keys().collect();
    names.sort_unstable();
    let expected = [
        "aud", "exp", "iat", "idp", "idp_sub", "iss", "jti", "kind", "sub",
    ];
    assert_eq!(names, expected);
}

#[test]
fn whoever_acts_for_somebody_stands_in_act_and_the_other_is_the_subject() {
    install_crypto();
    let world = world(|_| {});
    let bot = IdentityAttributes {
        on_behalf: Some(OnBehalf {
            subject: Box::new(alice()),
            earlier: vec!["https://a|planner".to_owned(), "https://a|first".to_owned()],
            purpose: Some("trip".to_owned()),
            human_approved: true,
        }),
        ..IdentityAttributes::of(
            PrincipalKind::Agent,
            "bearer_jwt",
            ("https://agents".into(), "bot".to_owned()),
            at(3600),
        )
    };
    let claims = world.read(&world.token(&verified(bot), "orders", 0));
    assert_eq!(
        (&claims["idp_sub"], &claims["kind"]),
        (&json!("alice"), &json!("User"))
    );
    assert_eq!(
        (&claims["roles"], &claims["tenant"]),
        (&json!(["viewer"]), &json!("acme"))
    );
    assert_eq!(
        (&claims["purpose"], &claims["human_approved"]),
        (&json!("trip"), &json!(true))
    );
    assert_eq!(
        claims["act"],
        json!({
            "sub": "https://agents|bot", "kind": "Agent", "idp": "https://agents", "idp_sub": "bot",
            "act": { "sub": "https://a|planner", "act": { "sub": "https://a|first" } },
        })
    );
}

#[test]
fn a_workload_is_named_by_its_spiffe_id() {
    install_crypto();
    let world = world(|_| {});
    let id = crate::model::SpiffeId::parse("spiffe://example.com/ns/shop/sa/client").unwrap();
    let workload = verified(IdentityAttributes::workload(id, at(3600)));
    let claims = world.read(&world.token(&workload, "orders", 0));
    assert_eq!(
        (&claims["kind"], &claims["scheme"]),
        (&json!("Workload"), &json!("certificate"))
    );
    assert_eq!(claims["idp"], "spiffe://example.com");
    assert_eq!(claims["idp_sub"], "spiffe://example.com/ns/shop/sa/client");
    assert_eq!(claims.get("client_id"), None);
}

#[test]
fn a_token_never_outlives_the_callers_own_credential() {
    install_crypto();
    let world = world(|_| {});
    let ends = |second| {
        verified(IdentityAttributes {
            expires_at: at(second),
            ..alice()
        })
    };
    let exp = |caller: &Caller| world.read(&world.token(caller, "orders", 0))["exp"].clone();
    assert_eq!(exp(&ends(3600)), at(60).as_second());
    assert_eq!(exp(&ends(7)), at(7).as_second());
    // What clocks may differ by is no life of its own.
    for ended in [0, -3] {
        let refusal = world.try_token(&ends(ended), "orders", 0).unwrap_err();
        assert_eq!(
            refusal.reason,
            Reason::CredentialInvalid(CredentialFault::Expired)
        );
    }
    assert_eq!(
        world.mint.figures().failures,
        [("too_long", 0), ("not_signed", 0)]
    );
}

#[test]
fn nobody_in_particular_gets_a_token_only_where_settings_want_it() {
    install_crypto();
    let none = world(|_| {});
    assert_eq!(none.try_token(&Caller::Anonymous, "orders", 0), Ok(None));
    let some = world(|settings| settings.anonymous = true);
    let claims = some.read(&some.token(&Caller::Anonymous, "orders", 0));
    assert_eq!(claims["kind"], "Anonymous");
    assert_eq!(claims.get("sub"), None);
}

#[test]
fn nothing_is_signed_for_a_caller_who_is_only_supposed() {
    let world = world(|settings| settings.anonymous = true);
    let refusal = world.try_token(&Caller::Supposed(Arc::new(alice())), "orders", 0);
    assert_eq!(refusal.unwrap_err().reason, Reason::MintFailed);
    assert_eq!(world.mint.figures().signed, 0);
}

#[test]
fn a_token_that_would_be_too_long_is_not_made_and_its_request_is_refused() {
    let world = world(|_| {});
    let roles = (0..200)
        .map(|number| format!("role-{number:020}"))
        .collect();
    let caller = verified(IdentityAttributes { roles, ..alice() });
    for _ in 0..2 {
        let refusal = world.try_token(&caller, "orders", 0).unwrap_err();
        assert_eq!(refusal.reason, Reason::MintFailed);
        assert!(refusal.detail.contains("4096") && !refusal.detail.contains("role-0"));
    }
    let figures = world.mint.figures();
    assert_eq!((figures.signed, figures.failures[0]), (0, ("too_long", 2)));
}

#[test]
fn the_longest_token_stays_below_6_kib() {
    let world = world(|_| {});
    let role = |length: usize| {
        let roles = vec!["x".repeat(length)];
        world.try_token(
            &verified(IdentityAttributes { roles, ..alice() }),
            "orders",
            0,
        )
    };
    let longest = (3000..4096)
        .rev()
        .find_map(|length| role(length).ok().flatten());
    let length = longest.unwrap().expose().len();
    assert!((5 * 1024..6 * 1024).contains(&length), "{length}");
}

#[test]
fn c4_a_remembered_token_is_only_ever_that_of_the_same_proof_audience_and_operation() {
    install_crypto();
    let world = world(|settings| settings.bind = Binding::Operation);
    let alice_one = verified(alice());
    let others = [
        // The same to the last claim, and another proof.
        verified(alice()),
        verified(IdentityAttributes {
            roles: vec!["viewer,admin".to_owned()],
            ..alice()
        }),
        verified(IdentityAttributes {
            roles: vec!["viewer".to_owned(), "admin".to_owned()],
            ..alice()
        }),
    ];
    let first = world.token(&alice_one, "orders", 0);
    assert_eq!(world.token(&alice_one, "orders", 1), first);
    let mut seen = vec![first.clone()];
    for other in &others {
        seen.push(world.token(other, "orders", 1));
    }
    seen.push(world.token(&alice_one, "order", 1));
    let ask = |operation: &str, method| {
        let matched = matched("orders", operation);
        let minted = world.mint.token(&alice_one, (&matched, method), at(1));
        minted.unwrap().unwrap().expose().to_owned()
    };
    seen.push(ask("orders.read", Method::Get));
    seen.push(ask("orders.list", Method::Head));
    let mut apart = seen.clone();
    apart.sort_unstable();
    apart.dedup();
    assert_eq!(apart.len(), seen.len());
    assert_eq!(ask("orders.list", Method::Get), first);
    let claims = world.read(&first);
    assert_eq!(
        (&claims["op"], &claims["htm"]),
        (&json!("orders.list"), &json!("GET"))
    );
    assert_eq!(world.mint.figures().signed, seen.len() as u64);
}

#[test]
fn a_token_is_used_again_while_half_its_life_is_left_and_no_longer() {
    let world = world(|_| {});
    let caller = verified(alice());
    let first = world.token(&caller, "orders", 10);
    assert_eq!(world.token(&caller, "orders", 39), first);
    let second = world.token(&caller, "orders", 40);
    assert_ne!(second, first);
    // A clock that was set back would make it one from the future.
    assert_ne!(world.token(&caller, "orders", 39), second);
    let forgetful = self::world(|settings| settings.cache_entries = 0);
    let tokens = [0, 0].map(|second| forgetful.token(&caller, "orders", second));
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(forgetful.mint.figures().signed, 2);
}

#[test]
fn many_who_ask_at_once_for_the_same_cost_one_signature() {
    let world = world(|_| {});
    let caller = verified(alice());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..100).for_each(|_| drop(world.token(&caller, "orders", 0))));
        }
    });
    assert_eq!(world.mint.figures().signed, 1);
}

#[test]
fn after_a_rotation_old_tokens_verify_until_they_end() {
    install_crypto();
    let world = world(|_| {});
    let caller = verified(alice());
    let (hour, ahead) = (3600, 600);
    let go = |seconds: u64| {
        world.clock.advance(Duration::from_secs(seconds));
        world.mint.keys.look();
    };
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let ends = verified(IdentityAttributes {
        expires_at: at(10 * 24 * hour),
        ..alice()
    });
    let first = world.token(&caller, "orders", 0);
    go(24 * 3600);
    let now = 24 * hour;
    // The new key is published, and the old one signs.
    let keys: JwkSet = serde_json::from_str(&world.mint.key_set()).unwrap();
    assert_eq!(keys.keys.len(), 2);
    let during = world.token(&ends, "orders", now);
    assert_eq!(kid(&during), kid(&first));
    go(600);
    let after = world.token(&ends, "orders", now + ahead);
    assert_ne!(kid(&after), kid(&first));
    world.read(&during);
    world.read(&after);
    go(60);
    let keys: JwkSet = serde_json::from_str(&world.mint.key_set()).unwrap();
    assert_eq!(
        keys.keys.len(),
        1,
        "the last token by the old key has ended"
    );
    assert!(keys.find(&kid(&after)).is_some());
    let age = world.mint.figures().key_age.unwrap();
    assert_eq!(age, Duration::from_secs(660));
}

#[test]
fn a_preview_names_what_a_token_would_say_and_refuses_as_the_mint_does() {
    let settings = Settings {
        issuer: ISSUER.to_owned(),
        header: "X-Who".to_owned(),
        ..Settings::default()
    };
    let ask = |caller: &Caller| {
        let matched = matched("orders", "orders.list");
        preview(&settings, caller, (&matched, Method::Get), at(0))
    };
    let seen = ask(&Caller::Supposed(Arc::new(alice()))).unwrap().unwrap();
    assert_eq!(
        (seen.header.as_str(), seen.audience.as_str()),
        ("x-who", "orders")
    );
    assert!(seen.claims.contains(&"jti".to_owned()) && seen.claims.contains(&"roles".to_owned()));
    assert!(!format!("{seen:?}").contains("alice"));
    assert_eq!(ask(&Caller::Anonymous), Ok(None));
    let long = IdentityAttributes {
        roles: vec!["x".repeat(4096)],
        ..alice()
    };
    let refusal = ask(&Caller::Supposed(Arc::new(long))).unwrap_err();
    assert_eq!(refusal.reason, Reason::MintFailed);
}

#[test]
fn nothing_of_a_mint_shows_a_key_or_a_token() {
    let world = world(|settings| settings.lifetime = Period::seconds(5));
    let token = world.try_token(&verified(alice()), "orders", 0).unwrap();
    let shown = format!("{:?} {token:?} {:?}", world.mint, world.mint.keys);
    let token = token.unwrap();
    for part in token.expose().split('.') {
        assert!(!shown.contains(part), "{shown}");
    }
}

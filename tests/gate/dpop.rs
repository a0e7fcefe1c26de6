//! Tokens that a real provider binds to a key (RFC 9449), and whoever sends them.

use aws_lc_rs::digest::{SHA256, digest};
use cardea::model::DecisionId;
use serde_json::{Value, json};

use crate::issuer::{Key, b64, changed, now};
use crate::provider::{BOUND_SERVICE, Provider, SERVICE, resource};
use crate::world::{Ask, Heard, Setup, World};

const URL: &str = "https://api.example.com/v1/orders";

/// Only tokens that are bound to a key will do.
const BOUND_ONLY: &str = r#"@id("bound-only")
forbid (principal, action, resource)
unless { context has token && context.token.senderConstrained };"#;

/// A holder of a key, a provider that binds tokens to it, and a world that believes both.
struct Holder {
    provider: Provider,
    world: World,
    key: Key,
}

impl Holder {
    fn new(key: Key, dpop: &Value) -> Self {
        let provider = Provider::start();
        let world = World::with(|setup: &mut Setup| {
            provider.believed_by(setup, &resource("ES256"));
            setup.settings["identity"]["dpop"] = dpop.clone();
            setup.write("bound.cedar", BOUND_ONLY);
        });
        Self {
            provider,
            world,
            key,
        }
    }

    /// A token that the provider bound to the key, for a proof of it.
    fn token(&self) -> String {
        let url = format!("{}/token", self.provider.issuer);
        let proof = self.proof(json!({"htm": "POST", "htu": url, "ath": null}));
        let asked = (BOUND_SERVICE, &*resource("ES256"));
        self.provider.token(&self.world, asked, &[("dpop", &proof)])
    }

    /// A proof with a fresh `jti` and these claims.
    fn proof(&self, changes: Value) -> String {
        let mut jwk = self.key.jwk();
        for name in ["kid", "alg", "use"] {
            jwk.as_object_mut().unwrap().remove(name);
        }
        let header = json!({"typ": "dpop+jwt", "alg": self.key.algorithm, "jwk": jwk});
        let id = DecisionId::fresh().to_string();
        let claims = json!({"jti": id, "htm": "GET", "htu": URL, "iat": now()});
        let claims = changed(claims, changes);
        self.key
            .sign_texts(&header.to_string(), &claims.to_string())
    }

    /// A proof for a `GET` with this token.
    fn proof_for(&self, token: &str) -> String {
        self.proof(json!({ "ath": ath(token) }))
    }

    fn send(&self, authorization: &str, proof: Option<&str>) -> Heard {
        let ask = Ask::get("/v1/orders").header("authorization", authorization);
        self.world.ask(match proof {
            Some(proof) => ask.header("dpop", proof),
            None => ask,
        })
    }
}

/// It is refused as invalid, and the challenge for proofs gives this error.
#[track_caller]
fn assert_refused(heard: &Heard, error: &str) {
    heard.assert_refused(401, "credential_invalid");
    let challenge = heard.header("www-authenticate").unwrap();
    let dpop = format!("DPoP realm=\"cardea\", error=\"{error}\", algs=\"ES256 EdDSA\"");
    assert!(challenge.ends_with(&dpop), "{challenge}");
}

fn ath(token: &str) -> String {
    b64(digest(&SHA256, token.as_bytes()))
}

#[test]
fn a_token_that_a_real_provider_bound_is_good_with_its_proof_only() {
    for key in [Key::es256("holder"), Key::ed25519("holder")] {
        let holder = Holder::new(key, &json!({}));
        let token = holder.token();
        let sent = format!("DPoP {token}");

        let proof = holder.proof_for(&token);
        holder
            .send(&sent, Some(&proof))
            .assert_allowed(&["viewers"]);
        assert_refused(&holder.send(&sent, Some(&proof)), "invalid_dpop_proof");
        assert_refused(&holder.send(&sent, None), "invalid_dpop_proof");
        let again = holder.proof_for(&token);
        holder
            .send(&sent, Some(&again))
            .assert_allowed(&["viewers"]);

        let proof = holder.proof_for(&token);
        let downgraded = holder.send(&format!("Bearer {token}"), Some(&proof));
        assert_refused(&downgraded, "invalid_token");
        let challenge = downgraded.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=\"cardea\", error=\"invalid_token\", DPoP "));

        for changes in [
            json!({"ath": ath("another")}),
            json!({"ath": ath(&token), "htm": "POST"}),
            json!({"ath": ath(&token), "htu": "https://api.example.com/v1/invoices"}),
            json!({"ath": ath(&token), "iat": now() - 120}),
        ] {
            let heard = holder.send(&sent, Some(&holder.proof(changes)));
            assert_refused(&heard, "invalid_dpop_proof");
        }
        let thief = Holder {
            key: Key::es256("thief"),
            ..holder
        };
        let stolen = thief.send(&sent, Some(&thief.proof_for(&token)));
        assert_refused(&stolen, "invalid_dpop_proof");
    }
}

#[test]
fn a_policy_can_ask_for_bound_tokens() {
    let holder = Holder::new(Key::es256("holder"), &json!({}));
    let asked = (SERVICE, &*resource("ES256"));
    let plain = holder.provider.token(&holder.world, asked, &[]);
    let heard = holder.send(&format!("Bearer {plain}"), None);
    heard.assert_refused(403, "forbidden");
}

#[test]
fn a_nonce_is_asked_for_and_told() {
    let holder = Holder::new(Key::es256("holder"), &json!({ "nonce": "required" }));
    let token = holder.token();
    let sent = format!("DPoP {token}");
    let asked = holder.send(&sent, Some(&holder.proof_for(&token)));
    assert_refused(&asked, "use_dpop_nonce");
    let nonce = asked.header("dpop-nonce").unwrap();
    let proof = holder.proof(json!({"ath": ath(&token), "nonce": nonce}));
    holder
        .send(&sent, Some(&proof))
        .assert_allowed(&["viewers"]);
}

#[test]
fn who_has_no_credential_hears_of_both_ways() {
    let holder = Holder::new(Key::es256("holder"), &json!({}));
    let heard = holder.world.ask(Ask::get("/v1/orders"));
    let expected = "Bearer realm=\"cardea\", DPoP realm=\"cardea\", algs=\"ES256 EdDSA\"";
    assert_eq!(heard.http(), 401);
    assert_eq!(heard.header("www-authenticate"), Some(expected));
}

#[test]
fn j17_a_proof_is_no_access_token() {
    let holder = Holder::new(Key::es256("holder"), &json!({}));
    let token = holder.token();
    for scheme in ["Bearer", "DPoP"] {
        let proof = holder.proof_for(&token);
        let heard = holder.send(&format!("{scheme} {proof}"), None);
        assert_refused(&heard, "invalid_token");
    }
}

//! The issuer that the example policies know, with a key made for this run.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardea::model::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub(crate) const ISSUER: &str = "https://login.example.com";
pub(crate) const AUDIENCE: &str = "https://api.example.com";

#[derive(Clone)]
pub(crate) struct Issuer {
    key: Arc<EcdsaKeyPair>,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { key: Arc::new(key) }
    }

    /// A good token of an order editor at acme.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.signed(&claims(subject))
    }

    /// A good token that is bound to a certificate (RFC 8705).
    pub(crate) fn bound_token(&self, subject: &str, thumbprint: &str) -> String {
        let mut claims = claims(subject);
        claims["cnf"] = json!({ "x5t#S256": thumbprint });
        self.signed(&claims)
    }

    pub(crate) fn expired_token(&self, subject: &str) -> String {
        let mut claims = claims(subject);
        claims["iat"] = json!(now() - 900);
        claims["exp"] = json!(now() - 600);
        self.signed(&claims)
    }

    fn signed(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// Serves the key set, and says where.
    pub(crate) async fn serve(&self) -> String {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let jwks = json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]});
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/jwks", get(|| async move { Json(jwks) }));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        format!("http://{address}/jwks")
    }
}

fn now() -> i64 {
    SystemClock.now().as_second()
}

fn claims(subject: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "client_id": "test",
        "iat": now() - 5, "exp": now() + 900,
        "scope": "orders:read orders:write profile", "roles": ["order-editor"], "tenant": "acme",
    })
}

//! A development issuer: three users, keys made at start, and tokens that are good, or bad in exactly one way.
//!
//! It gives a token to whoever asks, so it listens on loopback only, and its keys live as long as the process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::model::{Clock as _, Problem, SystemClock};

/// The issuer's name, as the example policies and entities know it.
pub(super) const ISSUER: &str = "https://login.example.com";
/// The API its tokens are for.
pub(super) const AUDIENCE: &str = "https://api.example.com";

const EC_KEY: &str = "demo-es256";
const ED_KEY: &str = "demo-ed25519";
/// How long a token is good for, in seconds.
const LIFE: i64 = 300;

/// Who can log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// Edits orders.
    Alice,
    /// Edits orders too.
    Bob,
    /// Only sees them.
    Carol,
}

impl User {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alice => "alice",
            Self::Bob => "bob",
            Self::Carol => "carol",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Alice, Self::Bob, Self::Carol]
            .into_iter()
            .find(|user| user.name() == name)
    }

    fn role(self) -> &'static str {
        match self {
            Self::Alice | Self::Bob => "order-editor",
            Self::Carol => "order-viewer",
        }
    }
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    Nothing,
    Expired,
    OtherAudience,
    ForgedSignature,
}

/// The keys.
pub(super) struct Issuer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    /// A key of somebody else, who puts this issuer's key id on it.
    forger: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub(super) fn new() -> Result<Self, Problem> {
        let failed = |_| Problem::new("cannot make the demo's keys");
        let ec = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed);
        Ok(Self {
            ec: ec()?,
            ed: Ed25519KeyPair::generate().map_err(failed)?,
            forger: ec()?,
            random: SystemRandom::new(),
        })
    }

    /// A token for a user. Carol's are signed with Ed25519, the others' with P-256.
    pub(super) fn token(&self, user: User, flaw: Flaw) -> Result<String, Problem> {
        let ed = user == User::Carol;
        let (algorithm, key) = if ed {
            ("EdDSA", ED_KEY)
        } else {
            ("ES256", EC_KEY)
        };
        let header = json!({ "alg": algorithm, "kid": key, "typ": "at+jwt" });
        let signed = format!("{}.{}", part(&header), part(&claims(user, flaw)));
        let failed = |_| Problem::new("cannot sign a token of the demo");
        let signature = match (flaw, ed) {
            (Flaw::ForgedSignature, _) => self.forger.sign(&self.random, signed.as_bytes()),
            (_, false) => self.ec.sign(&self.random, signed.as_bytes()),
            (_, true) => Ok(self.ed.sign(signed.as_bytes())),
        };
        let signature = URL_SAFE_NO_PAD.encode(signature.map_err(failed)?.as_ref());
        Ok(format!("{signed}.{signature}"))
    }

    /// The public halves (RFC 7517).
    fn jwks(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        // An uncompressed point (SEC 1, section 2.3.3): one byte, then x and y of 32 bytes each.
        let half = |from: usize| point.get(from..from + 32).unwrap_or_default();
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "x": b64(half(1)), "y": b64(half(33)),
              "kid": EC_KEY, "alg": "ES256", "use": "sig" },
            { "kty": "OKP", "crv": "Ed25519", "x": b64(self.ed.public_key().as_ref()),
              "kid": ED_KEY, "alg": "EdDSA", "use": "sig" },
        ]})
    }
}

fn claims(user: User, flaw: Flaw) -> Value {
    let now = SystemClock.now().as_second();
    let issued = if flaw == Flaw::Expired {
        now - 2 * LIFE
    } else {
        now
    };
    let audience = if flaw == Flaw::OtherAudience {
        "https://billing.example.com"
    } else {
        AUDIENCE
    };
    json!({
        "iss": ISSUER, "aud": audience, "sub": user.name(), "client_id": "demo-app",
        "iat": issued, "exp": issued + LIFE, "jti": uuid::Uuid::now_v7().to_string(),
        "scope": "orders:read orders:write profile", "roles": [user.role()], "tenant": "acme",
    })
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Serves keys, discovery document and tokens on a free port.
pub(super) async fn serve(issuer: Arc<Issuer>) -> Result<SocketAddr, Problem> {
    let failed = |error| Problem::new(format!("the demo's issuer cannot listen: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let discovery = json!({
        "issuer": ISSUER,
        "jwks_uri": format!("http://{address}/jwks"),
        "token_endpoint": format!("http://{address}/token"),
    });
    let routes = Router::new()
        .route(
            "/jwks",
            get(|State(issuer): State<Arc<Issuer>>| async move { Json(issuer.jwks()) }),
        )
        .route(
            "/.well-known/openid-configuration",
            get(|| async move { Json(discovery) }),
        )
        .route("/token/{user}", get(token))
        .with_state(issuer);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

/// A fresh token as plain text, for `$(curl ..)`.
async fn token(
    State(issuer): State<Arc<Issuer>>,
    Path(name): Path<String>,
) -> Result<String, (StatusCode, &'static str)> {
    let user = User::named(&name).ok_or((StatusCode::NOT_FOUND, "users: alice, bob, carol\n"))?;
    issuer
        .token(user, Flaw::Nothing)
        .map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "cannot sign\n"))
}

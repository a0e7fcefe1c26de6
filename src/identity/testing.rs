//! For tests: keys, tokens that are good or bad in exactly one way, and an issuer on a loopback port.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::settings::{Algorithm, IssuerSettings, KeyPlace};
use crate::model::{
    AccessRequest, Arrival, CanonicalPath, Clock, Headers, Host, ManualClock, PathRules, Query,
    SnapshotId,
};

pub(super) const ISSUER: &str = "https://idp.example";
pub(super) const AUDIENCE: &str = "orders";

/// The second at which tests begin.
pub(super) const NOW: i64 = 1_900_000_000;

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair under a key id.
pub(super) struct TestKey {
    pub(super) kid: &'static str,
    pub(super) algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// Making RSA keys is slow, so all tests share these.
static RSA: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    (0..2)
        .map(|_| {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)
                .unwrap()
                .as_ref()
                .to_vec()
        })
        .collect()
});

impl TestKey {
    /// One of two RSA keys.
    pub(super) fn rsa(kid: &'static str, number: usize, algorithm: Algorithm) -> Self {
        let pair = RsaKeyPair::from_pkcs8(&RSA[number]).unwrap();
        Self {
            kid,
            algorithm,
            pair: Pair::Rsa(Box::new(pair)),
        }
    }

    pub(super) fn es256(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            kid,
            algorithm: Algorithm::ES256,
            pair: Pair::Ec(pair),
        }
    }

    pub(super) fn es384(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self {
            kid,
            algorithm: Algorithm::ES384,
            pair: Pair::Ec(pair),
        }
    }

    pub(super) fn ed25519(kid: &'static str) -> Self {
        Self {
            kid,
            algorithm: Algorithm::EdDSA,
            pair: Pair::Ed(Ed25519KeyPair::generate().unwrap()),
        }
    }

    /// The public half.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let (n, e) = rsa_numbers(pair.public_key().as_ref());
                json!({"kty": "RSA", "n": b64(n), "e": b64(e)})
            }
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let size = (point.len() - 1) / 2;
                let crv = if size == 32 { "P-256" } else { "P-384" };
                let (x, y) = point[1..].split_at(size);
                json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
            }
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key())})
            }
        };
        jwk["kid"] = self.kid.into();
        jwk["alg"] = self.algorithm.as_str().into();
        jwk["use"] = "sig".into();
        jwk
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &'static dyn RsaEncoding = match self.algorithm {
                    Algorithm::RS384 => &RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &RSA_PSS_SHA256,
                    Algorithm::PS384 => &RSA_PSS_SHA384,
                    Algorithm::PS512 => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// Signs any two texts as header and payload.
    pub(super) fn sign_texts(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(payload));
        let signature = b64(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    pub(super) fn sign_parts(&self, header: &Value, claims: &Value) -> String {
        self.sign_texts(&header.to_string(), &claims.to_string())
    }

    pub(super) fn header(&self) -> Value {
        json!({"alg": self.algorithm.as_str(), "kid": self.kid, "typ": "at+jwt"})
    }

    /// A good token for `sub`.
    pub(super) fn token(&self, sub: &str) -> String {
        self.sign_parts(&self.header(), &claims(sub))
    }

    /// A good token but for these claims; `null` removes one.
    pub(super) fn token_with(&self, changes: Value) -> String {
        self.sign_parts(&self.header(), &changed(claims("alice"), changes))
    }

    /// A good token but for these header members; `null` removes one.
    pub(super) fn token_under(&self, changes: Value) -> String {
        self.sign_parts(&changed(self.header(), changes), &claims("alice"))
    }
}

/// Modulus and exponent of a DER `RSAPublicKey` with a 2048-bit modulus: SEQUENCE { INTEGER n, INTEGER e }.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    (&der[9..9 + 256], &der[der.len() - 3..])
}

/// The claims of a good token.
pub(super) fn claims(sub: &str) -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": sub, "iat": NOW - 10, "exp": NOW + 300})
}

pub(super) fn changed(mut object: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else {
        panic!("changes are an object");
    };
    for (name, value) in changes {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(&name);
        } else {
            object[name] = value;
        }
    }
    object
}

pub(super) fn jwks(keys: &[&TestKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

pub(super) fn issuer_settings(keys: KeyPlace) -> IssuerSettings {
    IssuerSettings {
        issuer: ISSUER.into(),
        audiences: vec![AUDIENCE.into()],
        algorithms: Algorithm::ALL.into(),
        keys,
        ..IssuerSettings::default()
    }
}

pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_second(NOW).unwrap()))
}

pub(super) fn arrival(clock: &ManualClock) -> Arrival {
    Arrival {
        at: clock.now(),
        started: clock.monotonic(),
        deadline: None,
        trace_parent: None,
        grpc: false,
    }
}

pub(super) fn snapshot() -> SnapshotId {
    SnapshotId::new("5eed")
}

/// The operation that tests ask for.
pub(super) const OPERATION: &str = "orders.listOrders";

/// A request with these values of `authorization` and this query.
pub(super) fn request(authorization: &[&[u8]], query: &str) -> AccessRequest {
    let fields = authorization
        .iter()
        .map(|value| ("authorization".to_owned(), value.to_vec()));
    AccessRequest {
        query: Query::parse(query).unwrap(),
        headers: Headers::new(fields.collect()),
        ..AccessRequest::bare(
            Host::parse("api.example").unwrap(),
            CanonicalPath::parse("/orders", PathRules::default()).unwrap(),
        )
    }
}

pub(super) fn bearing(token: &str) -> AccessRequest {
    request(&[format!("Bearer {token}").as_bytes()], "")
}

/// How the issuer answers.
#[derive(Clone)]
pub(super) enum Reply {
    /// This status with this body.
    Status(u16, String),
    /// 302 to this place.
    Redirect(String),
    /// A good answer, once the notification comes.
    Held(Arc<Notify>, String),
    /// A head, and then a body that comes to no end.
    Endless,
    /// A connection that is closed without an answer.
    Closed,
}

/// An issuer on a loopback port.
pub(super) struct Idp {
    pub(super) url: String,
    replies: Arc<Mutex<BTreeMap<String, Reply>>>,
    asked: Arc<AtomicUsize>,
}

impl Idp {
    /// An issuer that answers at `/keys` and nowhere else.
    pub(super) async fn start(keys: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idp = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            replies: Arc::default(),
            asked: Arc::default(),
        };
        idp.reply("/keys", keys);
        let (replies, asked) = (Arc::clone(&idp.replies), Arc::clone(&idp.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&replies), Arc::clone(&asked)));
            }
        });
        idp
    }

    pub(super) fn reply(&self, path: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(path.into(), reply);
    }

    pub(super) fn publish(&self, keys: &[&TestKey]) {
        self.reply("/keys", Reply::Status(200, jwks(keys)));
    }

    /// How many requests it has seen.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn settings(&self) -> IssuerSettings {
        issuer_settings(KeyPlace::JwksUrl(format!("{}/keys", self.url)))
    }
}

async fn serve(
    mut stream: TcpStream,
    replies: Arc<Mutex<BTreeMap<String, Reply>>>,
    asked: Arc<AtomicUsize>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let reply = replies.lock().unwrap().get(path).cloned();
    let answer = |status: u16, more: &str, body: &str| {
        format!(
            "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{more}\r\n{body}",
            body.len()
        )
    };
    let text = match reply.unwrap_or(Reply::Status(404, String::new())) {
        Reply::Status(status, body) => answer(status, "", &body),
        Reply::Redirect(place) => answer(302, &format!("location: {place}\r\n"), ""),
        Reply::Held(go, body) => {
            go.notified().await;
            answer(200, "", &body)
        }
        Reply::Endless => {
            let _gone = stream.write_all(b"HTTP/1.1 200 X\r\n\r\n").await;
            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
            return;
        }
        Reply::Closed => return,
    };
    let _gone = stream.write_all(text.as_bytes()).await;
}

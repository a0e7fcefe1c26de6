//! For tests: a key, the events it signs, and values changed a little.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An object with some members changed; `null` removes one.
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

/// A key pair under a key id.
pub(super) struct TestKey {
    pub(super) kid: &'static str,
    pair: Ed25519KeyPair,
}

impl TestKey {
    pub(super) fn new(kid: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        Self { kid, pair }
    }

    /// A key set with it alone.
    pub(super) fn jwks(&self) -> String {
        let x = b64(self.pair.public_key());
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "alg": "EdDSA", "use": "sig",
        });
        json!({ "keys": [key] }).to_string()
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = b64(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    pub(super) fn header(&self) -> Value {
        json!({ "alg": "EdDSA", "kid": self.kid, "typ": "secevent+jwt" })
    }

    pub(super) fn event(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }
}

//! A key that comes with what it signed (RFC 9449, section 4.2). It is believed for nothing but having signed that.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{Candidate, Material, matches};
use crate::identity::settings::Algorithm;

/// The members of private and of shared keys (RFC 7518, sections 6.2.2, 6.3.2 and 6.4; RFC 8037, section 2).
const NOT_PUBLIC: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A public key that comes with what it signed. It is read by the same rules as an issuer's.
#[derive(Debug)]
pub(in crate::identity) struct BroughtKey(Candidate);

impl BroughtKey {
    /// Reads a JWK for these algorithms.
    ///
    /// # Errors
    /// What is wrong with the key.
    pub(in crate::identity) fn read(
        entry: &Value,
        algorithms: &[Algorithm],
    ) -> Result<Self, &'static str> {
        if NOT_PUBLIC.iter().any(|name| entry.get(name).is_some()) {
            return Err("is a private or a shared key");
        }
        Candidate::read(entry, algorithms).map(Self)
    }

    /// Whether `signature` (base64url) is this key's over `signed`. An algorithm the key is not for never matches.
    pub(in crate::identity) fn verifies(
        &self,
        algorithm: Algorithm,
        signed: &str,
        signature: &str,
    ) -> bool {
        self.0.algorithms.contains(&algorithm)
            && matches(&self.0.material.decoding(), algorithm, signed, signature)
    }

    /// SHA-256 over the members that make the key, in the one spelling they have (RFC 7638, section 3).
    pub(in crate::identity) fn thumbprint(&self) -> Option<[u8; 32]> {
        let text = match &self.0.material {
            Material::Rsa { n, e } => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64(e), b64(n))
            }
            Material::P256(point) => curve("P-256", point)?,
            Material::P384(point) => curve("P-384", point)?,
            Material::Ed25519(x) => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(x))
            }
        };
        digest(&SHA256, text.as_bytes()).as_ref().try_into().ok()
    }
}

/// A point is written as 4, x, y.
fn curve(name: &str, point: &[u8]) -> Option<String> {
    let (_, both) = point.split_first()?;
    let (x, y) = both.split_at_checked(both.len() / 2)?;
    let (x, y) = (b64(x), b64(y));
    Some(format!(
        r#"{{"crv":"{name}","kty":"EC","x":"{x}","y":"{y}"}}"#
    ))
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::install_crypto;
    use crate::identity::testing::{TestKey, b64, changed};

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_7638_section_3_1() {
        install_crypto();
        let key = json!({
            "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
            "n": concat!(
                "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWK",
                "RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMic",
                "AtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3",
                "XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"),
        });
        let key = BroughtKey::read(&key, &Algorithm::ALL).unwrap();
        let expected = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(b64(key.thumbprint().unwrap()), expected);
    }

    #[test]
    fn the_thumbprint_of_an_okp_key_is_the_one_of_rfc_8037_appendix_a_3() {
        install_crypto();
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        });
        let key = BroughtKey::read(&key, &Algorithm::ALL).unwrap();
        let expected = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        assert_eq!(b64(key.thumbprint().unwrap()), expected);
    }

    #[test]
    fn a_key_that_is_not_public_is_not_read() {
        install_crypto();
        let public = TestKey::es256("k").jwk();
        assert!(BroughtKey::read(&public, &Algorithm::ALL).is_ok());
        for name in NOT_PUBLIC {
            let key = changed(public.clone(), json!({ name: "AQAB" }));
            assert!(BroughtKey::read(&key, &Algorithm::ALL).is_err(), "{name}");
        }
        let shared = json!({"kty": "oct", "k": "c2VjcmV0"});
        assert!(BroughtKey::read(&shared, &Algorithm::ALL).is_err());
        assert!(BroughtKey::read(&public, &[Algorithm::EdDSA]).is_err());
    }
}

//! Keys that sign: made, read from PEM, and told of to verifiers.
//!
//! Only two kinds exist here, so that nobody can choose a weak one: ECDSA over P-256, and Ed25519. A key is named by its
//! thumbprint (RFC 7638), so two processes that read one file name it alike.

use std::fmt;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::settings::SigningAlgorithm;

/// The type of a minted token, in its header. It is no type of any token that callers present, so that neither can be
/// taken for the other (RFC 8725, section 3.11).
pub const TOKEN_TYPE: &str = "cardea-identity+jwt";

/// Why a key cannot be had. It holds nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The machine gave no randomness, or the library failed.
    #[error("a key cannot be made")]
    NotMade,
    /// The text holds no private key in the form that is read.
    #[error("it holds no private key in PEM (PKCS#8, `BEGIN PRIVATE KEY`), or more than one")]
    NoKey,
    /// It is a key of another kind.
    #[error("its key is neither one of P-256 nor one of Ed25519")]
    OtherKind,
}

/// A private key, and what others have to know of it.
pub(super) struct SigningKey {
    pair: Pair,
    /// `crv` and the coordinates, as they stand in a key set.
    public: Value,
    kid: String,
    /// The token's header, encoded: it is the same for each.
    header: String,
    withdrawn: AtomicBool,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Pair {
    fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::Es256(_) => SigningAlgorithm::ES256,
            Self::EdDsa(_) => SigningAlgorithm::EdDSA,
        }
    }

    fn generate(algorithm: SigningAlgorithm) -> Result<Self, KeyError> {
        let made = match algorithm {
            SigningAlgorithm::ES256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::Es256)
            }
            SigningAlgorithm::EdDSA => Ed25519KeyPair::generate().map(Self::EdDsa),
        };
        made.map_err(|_| KeyError::NotMade)
    }

    /// The public half as members of a JWK: in the order of their names, as the thumbprint asks for.
    fn public(&self) -> Option<Value> {
        match self {
            // SEC 1, section 2.3.3: 4, x, y.
            Self::Es256(pair) => {
                let (_, both) = pair.public_key().as_ref().split_first()?;
                let (x, y) = both.split_at_checked(32)?;
                Some(json!({ "crv": "P-256", "kty": "EC", "x": b64(x), "y": b64(y) }))
            }
            Self::EdDsa(pair) => {
                let x = b64(pair.public_key().as_ref());
                Some(json!({ "crv": "Ed25519", "kty": "OKP", "x": x }))
            }
        }
    }
}

impl SigningKey {
    /// A key that nobody else has.
    pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<Self, KeyError> {
        Self::of(Pair::generate(algorithm)?)
    }

    /// The one key in a PEM file.
    pub(super) fn read(pem: &[u8]) -> Result<Self, KeyError> {
        let mut found = PrivatePkcs8KeyDer::pem_slice_iter(pem);
        let der = found.next().and_then(Result::ok).ok_or(KeyError::NoKey)?;
        if found.next().is_some() {
            return Err(KeyError::NoKey);
        }
        let der = der.secret_pkcs8_der();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Pair::Es256);
        let pair = ec.or_else(|_| Ed25519KeyPair::from_pkcs8(der).map(Pair::EdDsa));
        Self::of(pair.map_err(|_| KeyError::OtherKind)?)
    }

    fn of(pair: Pair) -> Result<Self, KeyError> {
        let public = pair.public().ok_or(KeyError::NotMade)?;
        // RFC 7638, section 3: the required members alone, in the order of their names, without spaces.
        let kid = b64(digest(&SHA256, public.to_string().as_bytes()).as_ref());
        let alg = pair.algorithm().as_str();
        let header = json!({ "alg": alg, "kid": kid, "typ": TOKEN_TYPE });
        Ok(Self {
            header: b64(header.to_string().as_bytes()),
            pair,
            public,
            kid,
            withdrawn: AtomicBool::new(false),
        })
    }

    /// Its thumbprint, by which it is named.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn algorithm(&self) -> SigningAlgorithm {
        self.pair.algorithm()
    }

    /// What verifiers need (RFC 7517, section 4).
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = self.public.clone();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("alg".to_owned(), self.algorithm().as_str().into());
            members.insert("kid".to_owned(), self.kid.as_str().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    }

    /// A compact JWS (RFC 7515, section 3.1) over these claims. `None` where the library fails.
    pub(super) fn sign(&self, claims: &[u8]) -> Option<String> {
        let mut text = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 96);
        text.push_str(&self.header);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        let signature = match &self.pair {
            Pair::Es256(pair) => pair.sign(&SystemRandom::new(), text.as_bytes()).ok()?,
            Pair::EdDsa(pair) => pair.try_sign(text.as_bytes()).ok()?,
        };
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut text);
        Some(text)
    }

    /// No token by it is used any more, remembered or not.
    pub(super) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed)
    }
}

/// Shows which key it is, and nothing of it.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// A key that was just made, to be kept in a file.
pub struct FreshSigningKey {
    /// Its thumbprint.
    pub kid: String,
    /// The key, as PEM.
    pub pem: SecretString,
}

impl FreshSigningKey {
    /// Makes one.
    ///
    /// # Errors
    /// Where the machine gives no randomness.
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Self, KeyError> {
        let pair = Pair::generate(algorithm)?;
        let der = match &pair {
            Pair::Es256(pair) => pair.to_pkcs8v1(),
            Pair::EdDsa(pair) => pair.to_pkcs8v1(),
        };
        let der = der.map_err(|_| KeyError::NotMade)?;
        Ok(Self {
            kid: SigningKey::of(pair)?.kid,
            pem: pem(der.as_ref()),
        })
    }
}

impl fmt::Debug for FreshSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreshSigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// RFC 7468: lines of 64 characters.
fn pem(der: &[u8]) -> SecretString {
    let body: SecretString = STANDARD.encode(der).into();
    let mut text = String::with_capacity(512);
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = body.expose_secret();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
        rest = more;
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text.into()
}

pub(super) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [SigningAlgorithm; 2] = [SigningAlgorithm::ES256, SigningAlgorithm::EdDSA];

    #[test]
    fn a_key_that_was_written_is_read_as_the_same() {
        for algorithm in BOTH {
            let fresh = FreshSigningKey::generate(algorithm).unwrap();
            let text = fresh.pem.expose_secret();
            assert!(text.lines().all(|line| line.len() <= 64), "{algorithm:?}");
            let key = SigningKey::read(text.as_bytes()).unwrap();
            assert_eq!(
                (key.kid(), key.algorithm()),
                (fresh.kid.as_str(), algorithm)
            );
            assert!(!format!("{key:?} {fresh:?}").contains(text.get(40..80).unwrap()));
        }
    }

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_8037_appendix_a_3() {
        // The private key of appendix A.1, in PKCS#8 (RFC 8410, section 7).
        let seed = URL_SAFE_NO_PAD
            .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .unwrap();
        let head = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        let key =
            SigningKey::read(pem(&[&head[..], &seed].concat()).expose_secret().as_bytes()).unwrap();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(
            key.jwk()["x"],
            "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        );
    }

    #[test]
    fn a_public_key_is_told_and_no_private_part_of_it() {
        for algorithm in BOTH {
            let key = SigningKey::generate(algorithm).unwrap();
            let jwk = key.jwk();
            assert_eq!(
                (&jwk["alg"], &jwk["use"]),
                (&algorithm.as_str().into(), &"sig".into())
            );
            assert_eq!(jwk["kid"], key.kid());
            assert_eq!(jwk.get("d"), None);
        }
    }

    #[test]
    fn what_is_no_key_of_ours_is_refused() {
        let other = aws_lc_rs::signature::EcdsaKeyPair::generate(
            &aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        );
        let other = pem(other.unwrap().to_pkcs8v1().unwrap().as_ref());
        let good = FreshSigningKey::generate(SigningAlgorithm::ES256)
            .unwrap()
            .pem;
        let good = good.expose_secret();
        let cases = [
            (other.expose_secret().to_owned(), KeyError::OtherKind),
            (
                pem(b"nonsense").expose_secret().to_owned(),
                KeyError::OtherKind,
            ),
            (good.replace("PRIVATE", "EC PRIVATE"), KeyError::NoKey),
            (
                good.replace("PRIVATE", "ENCRYPTED PRIVATE"),
                KeyError::NoKey,
            ),
            (good.get(..80).unwrap().to_owned(), KeyError::NoKey),
            (format!("{good}{good}"), KeyError::NoKey),
            (String::new(), KeyError::NoKey),
        ];
        for (text, expected) in cases {
            assert_eq!(SigningKey::read(text.as_bytes()).unwrap_err(), expected);
        }
    }
}

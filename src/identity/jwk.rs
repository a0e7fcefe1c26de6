//! Reading a JWK set (RFC 7517, RFC 7518, RFC 8037) into keys that can only be used for what they are for.
//!
//! Our own reading, because the usual ones are lax: a key is kept only where `kty`, `crv`, `alg`, `use`, `key_ops` and
//! its numbers agree; any other key is left out, and the rest of the set stands.

mod brought;

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::fetch::FetchError;
use super::ground::{Ground, Lease};
use super::settings::Algorithm;
use super::token::{MAX_KID, base64url};
use crate::model::json;

pub(super) use brought::BroughtKey;

/// The most keys one set may hold.
const MAX_KEYS: usize = 64;

/// A key that verifies signatures.
#[derive(Debug)]
pub(super) struct PublicKey {
    kid: Option<String>,
    material: Material,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
    ground: Arc<Ground>,
}

impl PublicKey {
    /// Whether the key is for this algorithm: by its type, by its own `alg`, and by the issuer's settings.
    pub(super) fn serves(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether `signature` (base64url) is this key's over `signed`. An algorithm the key is not for never matches.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &str, signature: &str) -> bool {
        self.serves(algorithm) && matches(&self.decoding, algorithm, signed, signature)
    }

    /// What proofs by this key stand on.
    pub(super) fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    fn same(&self, candidate: &Candidate) -> bool {
        self.kid == candidate.kid
            && self.material == candidate.material
            && self.algorithms == candidate.algorithms
    }
}

fn matches(key: &DecodingKey, algorithm: Algorithm, signed: &str, signature: &str) -> bool {
    let verify = jsonwebtoken::crypto::verify;
    verify(signature, signed.as_bytes(), key, by_name(algorithm)).unwrap_or(false)
}

pub(super) fn by_name(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    use jsonwebtoken::Algorithm as Theirs;
    match algorithm {
        Algorithm::RS256 => Theirs::RS256,
        Algorithm::RS384 => Theirs::RS384,
        Algorithm::RS512 => Theirs::RS512,
        Algorithm::PS256 => Theirs::PS256,
        Algorithm::PS384 => Theirs::PS384,
        Algorithm::PS512 => Theirs::PS512,
        Algorithm::ES256 => Theirs::ES256,
        Algorithm::ES384 => Theirs::ES384,
        Algorithm::EdDSA => Theirs::EdDSA,
    }
}

/// One issuer's keys.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    keys: Vec<Arc<PublicKey>>,
    by_kid: HashMap<String, Arc<PublicKey>>,
    /// Why keys were left out, one word of it a key.
    pub(super) left_out: Vec<&'static str>,
}

impl KeyTable {
    /// Reads a key set. A key that `old` holds too is taken over as it is, so that proofs by it go on standing.
    ///
    /// # Errors
    /// [`FetchError::KeySet`] where the text is no key set, or no key in it can be used.
    pub(super) fn read(
        text: &[u8],
        algorithms: &[Algorithm],
        old: Option<&Self>,
        lease: &Arc<Lease>,
    ) -> Result<Self, FetchError> {
        let (candidates, left_out) = candidates(text, algorithms)?;
        let mut table = Self {
            left_out,
            ..Self::default()
        };
        for candidate in candidates {
            let known = old.and_then(|old| old.keys.iter().find(|key| key.same(&candidate)));
            let key = known.map_or_else(|| candidate.accepted(lease), Arc::clone);
            if let Some(kid) = &key.kid {
                table.by_kid.insert(kid.clone(), Arc::clone(&key));
            }
            table.keys.push(key);
        }
        if table.keys.is_empty() {
            return Err(FetchError::KeySet("holds no key that can be used"));
        }
        Ok(table)
    }

    /// The key a token names; without a name, the only key there is.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Arc<PublicKey>> {
        match (kid, self.keys.as_slice()) {
            (Some(kid), _) => self.by_kid.get(kid),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Ends every proof by a key that `new` no longer holds.
    pub(super) fn withdraw_all_but(&self, new: &Self) {
        for key in &self.keys {
            if !new.keys.iter().any(|kept| Arc::ptr_eq(kept, key)) {
                key.ground.withdraw();
            }
        }
    }
}

/// A key as it was read, before it is known whether it is new.
#[derive(Debug, PartialEq)]
struct Candidate {
    kid: Option<String>,
    material: Material,
    algorithms: Vec<Algorithm>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

type Candidates = (Vec<Candidate>, Vec<&'static str>);

fn candidates(text: &[u8], algorithms: &[Algorithm]) -> Result<Candidates, FetchError> {
    let refused = |what| Err(FetchError::KeySet(what));
    let Ok(mut members) = json::parse_object(text) else {
        return refused("is not one JSON object with one reading");
    };
    let Some(Value::Array(entries)) = members.remove("keys") else {
        return refused("has no array `keys`");
    };
    if entries.len() > MAX_KEYS {
        return refused("holds more than 64 keys");
    }
    let mut left_out = Vec::new();
    let mut found = Vec::new();
    for entry in &entries {
        match Candidate::read(entry, algorithms) {
            Ok(candidate) if found.contains(&candidate) => {}
            Ok(candidate) => found.push(candidate),
            Err(why) => left_out.push(why),
        }
    }
    Ok((without_twins(found, &mut left_out), left_out))
}

/// Leaves out keys that share a `kid`: which of them was meant, no one can tell.
fn without_twins(found: Vec<Candidate>, left_out: &mut Vec<&'static str>) -> Vec<Candidate> {
    let mut times: HashMap<String, usize> = HashMap::new();
    for kid in found.iter().filter_map(|candidate| candidate.kid.clone()) {
        *times.entry(kid).or_default() += 1;
    }
    let alone = |candidate: &Candidate| {
        candidate
            .kid
            .as_ref()
            .is_none_or(|kid| times.get(kid) == Some(&1))
    };
    let (kept, twins): (Vec<_>, Vec<_>) = found.into_iter().partition(alone);
    left_out.extend(twins.iter().map(|_| "shares its kid with another"));
    kept
}

impl Candidate {
    fn read(entry: &Value, configured: &[Algorithm]) -> Result<Self, &'static str> {
        let members = entry.as_object().ok_or("is no object")?;
        check_purpose(members)?;
        let material = Material::read(members)?;
        material.check()?;
        let fitting = configured.iter().copied().filter(|a| material.fits(*a));
        let algorithms: Vec<Algorithm> = match text(members, "alg")? {
            None => fitting.collect(),
            Some(name) => fitting.filter(|a| a.as_str() == name).collect(),
        };
        if algorithms.is_empty() {
            return Err("is for no algorithm of this issuer");
        }
        let kid = text(members, "kid")?.map(str::to_owned);
        if kid
            .as_ref()
            .is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID)
        {
            return Err("has a kid that is empty or too long");
        }
        Ok(Self {
            kid,
            material,
            algorithms,
        })
    }

    fn accepted(self, lease: &Arc<Lease>) -> Arc<PublicKey> {
        let decoding = self.material.decoding();
        Arc::new(PublicKey {
            kid: self.kid,
            material: self.material,
            algorithms: self.algorithms,
            decoding,
            ground: Ground::under(lease),
        })
    }
}

/// `use` and `key_ops` must allow verifying, and no private part may have slipped in.
fn check_purpose(members: &Map<String, Value>) -> Result<(), &'static str> {
    if text(members, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err("is not for signatures");
    }
    match members.get("key_ops") {
        None => {}
        Some(Value::Array(ops)) if ops.iter().any(|op| op == "verify") => {}
        Some(_) => return Err("is not for verifying"),
    }
    if members.contains_key("d") {
        return Err("is a private key");
    }
    Ok(())
}

impl Material {
    fn read(members: &Map<String, Value>) -> Result<Self, &'static str> {
        let curve = text(members, "crv")?;
        match (text(members, "kty")?, curve) {
            (Some("RSA"), None) => Ok(Self::Rsa {
                n: number(members, "n")?,
                e: number(members, "e")?,
            }),
            (Some("EC"), Some("P-256")) => Ok(Self::P256(point(members, 32)?)),
            (Some("EC"), Some("P-384")) => Ok(Self::P384(point(members, 48)?)),
            (Some("OKP"), Some("Ed25519")) => {
                let x = bytes(members, "x")?;
                if x.len() == 32 {
                    Ok(Self::Ed25519(x))
                } else {
                    Err("has a coordinate of the wrong length")
                }
            }
            _ => Err("is of a type that is not accepted"),
        }
    }

    /// Refuses weak numbers, and points that are not on their curve.
    fn check(&self) -> Result<(), &'static str> {
        let parsed = match self {
            Self::Rsa { n, e } => {
                check_rsa(n, e)?;
                let (n, e) = (n.as_slice(), e.as_slice());
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            }
            Self::P256(point) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
            Self::P384(point) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point),
            Self::Ed25519(point) => ParsedPublicKey::new(&ED25519, point),
        };
        parsed.map(|_| ()).map_err(|_| "is no valid public key")
    }

    fn decoding(&self) -> DecodingKey {
        match self {
            Self::Rsa { n, e } => DecodingKey::from_rsa_raw_components(n, e),
            Self::P256(point) | Self::P384(point) => DecodingKey::from_ec_der(point),
            Self::Ed25519(point) => DecodingKey::from_ed_der(point),
        }
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        match self {
            Self::Rsa { .. } => matches!(
                algorithm,
                A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512
            ),
            Self::P256(_) => algorithm == A::ES256,
            Self::P384(_) => algorithm == A::ES384,
            Self::Ed25519(_) => algorithm == A::EdDSA,
        }
    }
}

/// Modulus of 2048 to 8192 bits (RFC 7518, section 3.3, asks for the lower bound; the upper bounds our work), odd; the
/// exponent odd, at least 65537 and below 2^32.
fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), &'static str> {
    let zeros = n.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = (n.len() * 8).saturating_sub(zeros);
    if !(2048..=8192).contains(&bits) || n.last().is_none_or(|last| last & 1 == 0) {
        return Err("has a modulus that is too short, too long or even");
    }
    let exponent = e.iter().fold(0_u64, |sum, b| (sum << 8) | u64::from(*b));
    if e.len() > 4 || exponent < 65_537 || exponent & 1 == 0 {
        return Err("has an exponent that is too small, too large or even");
    }
    Ok(())
}

/// A member that is text where it is there at all.
fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, &'static str> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("has a member of the wrong type"),
    }
}

fn bytes(members: &Map<String, Value>, name: &str) -> Result<Vec<u8>, &'static str> {
    text(members, name)?
        .and_then(base64url)
        .ok_or("has a number that is missing or not base64url")
}

/// A number without its leading zeros, which some issuers write although RFC 7518 forbids it.
fn number(members: &Map<String, Value>, name: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = bytes(members, name)?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

/// The uncompressed form of a point (SEC 1, section 2.3.3): 4, x, y.
fn point(members: &Map<String, Value>, size: usize) -> Result<Vec<u8>, &'static str> {
    let (x, y) = (bytes(members, "x")?, bytes(members, "y")?);
    if x.len() != size || y.len() != size {
        return Err("has a coordinate of the wrong length");
    }
    Ok([vec![4], x, y].concat())
}

#[cfg(test)]
mod tests;

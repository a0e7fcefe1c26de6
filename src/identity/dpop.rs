//! Proofs of possession (`DPoP`, RFC 9449): a small JWT beside the token, made for one request with the key that the token is
//! bound to.
//!
//! | file | does |
//! |---|---|
//! | `target` | whether the proof's URL is the request's |
//! | `nonce` | nonces of ours |
//! | `replay` | which proofs were used |
//!
//! A proof is judged anew on every request and never cached. It is noted as used last of all, so one that fails for
//! another reason uses up nothing.

mod nonce;
mod replay;
mod target;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use self::nonce::{Nonces, Worth};
use self::replay::{Noted, Replays};
use self::target::Targets;
use super::carried::invalid;
use super::jwk::BroughtKey;
use super::settings::{Algorithm, DpopSettings, NonceSetting};
use super::token::{Token, Wrong, base64url};
use crate::model::{
    AccessRequest, CredentialFault as Fault, Host, Problem, Reason, Refusal, SecretRef,
};

pub(super) use target::Origin;

/// The header that holds the proof.
const HEADER: &str = "dpop";

/// The only type of a proof (RFC 9449, section 4.2).
const TYPE: &str = "dpop+jwt";

/// The longest `jti`, in bytes.
const MAX_ID: usize = 256;

/// The least a shared secret for nonces has, in bytes.
const MIN_SECRET: usize = 32;

/// What proofs are held against.
pub(super) struct Dpop {
    algorithms: Vec<Algorithm>,
    max_age: i64,
    skew: i64,
    targets: Targets,
    nonces: Option<Nonces>,
    replays: Replays,
}

/// A token that is bound to a key, and the request that it came with.
pub(super) struct Bound<'r> {
    /// The key's thumbprint, as the token has it (`jkt`).
    pub(super) thumbprint: &'r str,
    /// The token.
    pub(super) token: &'r str,
    /// The request.
    pub(super) request: &'r AccessRequest,
    /// When it arrived.
    pub(super) at: Timestamp,
}

impl Dpop {
    /// # Errors
    /// Where the secret for nonces cannot be had or is too short, or the system gives no random bytes.
    pub(super) fn start(settings: &DpopSettings) -> Result<Self, Problem> {
        let whole = |period: crate::model::Period| i64::try_from(period.0.as_secs()).unwrap_or(0);
        let (max_age, skew) = (whole(settings.max_age), whole(settings.clock_skew));
        let capacity = usize::try_from(settings.replay_capacity).unwrap_or(usize::MAX);
        let nonces = match settings.nonce {
            NonceSetting::Off => None,
            NonceSetting::Required => {
                let secret = secret(settings.nonce_secret.as_ref())?;
                Some(Nonces::new(secret, whole(settings.nonce_lifetime)))
            }
        };
        let origins = settings.origins.iter();
        let origins = origins
            .filter_map(|(host, origin)| Some((Host::parse(host).ok()?, Origin::parse(origin)?)));
        Ok(Self {
            algorithms: settings.algorithms.clone(),
            max_age,
            skew,
            targets: Targets {
                tls_before: settings.tls_ends_before_envoy,
                origins: origins.collect(),
            },
            nonces,
            replays: Replays::new(max_age.saturating_add(skew), capacity, random()?),
        })
    }

    /// Whether the request holds a good proof, made for it, that was not used before. If so, a nonce where the sender needs
    /// a new one.
    ///
    /// # Errors
    /// The refusal of a proof that is missing, wrong or used, or that cannot be noted as used.
    pub(super) fn prove(&self, bound: &Bound<'_>) -> Result<Option<String>, Refusal> {
        let text = proof(bound.request)?;
        let (proof, key) = Token::bringing_key(text).map_err(|Wrong(_, detail)| {
            let detail = format!("the proof cannot be read as a token: {detail}");
            Refusal::new(Reason::CredentialInvalid(Fault::Proof), detail)
        })?;
        let thumbprint = self.signed(&proof, &key, bound.thumbprint)?;
        let (id, issued_at) = self.claims(&proof.claims, bound)?;
        let nonce = self.fresh_nonce(&proof.claims, bound.at)?;
        match self.replays.note(issued_at, &thumbprint, id) {
            Noted::Fresh => Ok(nonce),
            Noted::Used => Err(wrong("the proof was used before")),
            Noted::Forgotten => Err(wrong(
                "the proof is older than the proofs that are remembered",
            )),
            Noted::Full => Err(Refusal::new(
                Reason::TooManyRequests,
                "no more proofs can be remembered for now: `identity.dpop.replay_capacity` is used up",
            )),
        }
    }

    /// The nonce that the next proof should hold, where they need one.
    pub(super) fn nonce(&self, now: Timestamp) -> Option<String> {
        self.nonces.as_ref().map(|nonces| nonces.at(now))
    }

    /// Holds the header against the rules: the key is the token's, and signed the proof. Gives the key's thumbprint.
    fn signed(&self, proof: &Token<'_>, key: &Value, expected: &str) -> Result<[u8; 32], Refusal> {
        if proof.media_type.as_deref() != Some(TYPE) {
            return Err(wrong("the proof is of another type than `dpop+jwt`"));
        }
        if !self.algorithms.contains(&proof.algorithm) {
            return Err(wrong(
                "the proof is signed with an algorithm that is not accepted",
            ));
        }
        let key = BroughtKey::read(key, &self.algorithms)
            .map_err(|_| wrong("the proof brings a key that is not accepted"))?;
        let thumbprint = key.thumbprint().ok_or(wrong("the proof brings no key"))?;
        let expected = base64url(expected).unwrap_or_default();
        if verify_slices_are_equal(&thumbprint, &expected).is_err() {
            return Err(wrong(
                "the proof is made with another key than the token is bound to",
            ));
        }
        if key.verifies(proof.algorithm, proof.signed, proof.signature) {
            Ok(thumbprint)
        } else {
            Err(wrong("the proof is not signed by the key that it brings"))
        }
    }

    /// RFC 9449, section 4.3, items 3 and 8 to 12. Gives `jti` and `iat`.
    fn claims<'c>(
        &self,
        claims: &'c Map<String, Value>,
        bound: &Bound<'_>,
    ) -> Result<(&'c str, i64), Refusal> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let id = text("jti").filter(|id| (1..=MAX_ID).contains(&id.len()));
        let id = id.ok_or(wrong("the proof has no jti of 1 to 256 bytes"))?;
        if text("htm") != Some(bound.request.method.as_str()) {
            return Err(wrong("the proof is for another method"));
        }
        if !text("htu").is_some_and(|url| self.targets.fits(url, bound.request)) {
            return Err(wrong("the proof is for another URL"));
        }
        let token = digest(&SHA256, bound.token.as_bytes());
        let named = text("ath").and_then(base64url).unwrap_or_default();
        if verify_slices_are_equal(token.as_ref(), &named).is_err() {
            return Err(wrong("the proof is for another token"));
        }
        self.times(claims, bound.at)
            .map(|issued_at| (id, issued_at))
    }

    /// `iat` within the window. `exp` and `nbf`, which a proof need not have, may only narrow it.
    fn times(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<i64, Refusal> {
        let now = now.as_second();
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(seconds) if seconds > 0 => Ok(Some(seconds)),
                _ => Err(wrong(
                    "the proof has a time that is no whole number of seconds",
                )),
            },
        };
        let issued_at = time("iat")?.ok_or(wrong("the proof has no iat"))?;
        let latest = now.saturating_add(self.skew);
        if issued_at < now.saturating_sub(self.max_age) || issued_at > latest {
            return Err(wrong("the proof is too old, or made in the future"));
        }
        if time("exp")?.is_some_and(|at| at <= now) || time("nbf")?.is_some_and(|at| at > latest) {
            return Err(wrong("the proof is not valid now by its own word"));
        }
        Ok(issued_at)
    }

    /// A new nonce for the sender, where the proof's will not do for much longer.
    fn fresh_nonce(
        &self,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Option<String>, Refusal> {
        let Some(nonces) = &self.nonces else {
            return Ok(None);
        };
        let sent = claims.get("nonce").and_then(Value::as_str);
        match sent.map_or(Worth::Nothing, |nonce| nonces.worth(nonce, now)) {
            Worth::Current => Ok(None),
            Worth::Ageing => Ok(Some(nonces.at(now))),
            Worth::Nothing => Err(invalid(
                Fault::Nonce,
                "the proof of possession holds no nonce that is good now",
            )),
        }
    }
}

/// Shows no secret.
impl fmt::Debug for Dpop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dpop")
            .field("algorithms", &self.algorithms)
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

/// Algorithms as a challenge lists them (RFC 9449, section 7.1).
pub(super) fn listed(algorithms: &[Algorithm]) -> Arc<str> {
    let names: Vec<&str> = algorithms.iter().map(|one| one.as_str()).collect();
    names.join(" ").into()
}

/// The one proof of a request. Envoy joins repeated headers by commas, and no proof holds one.
fn proof(request: &AccessRequest) -> Result<&str, Refusal> {
    let mut fields = request.headers.values(HEADER);
    let field = fields.next().ok_or(wrong("the proof is missing"))?;
    if fields.next().is_some() || field.contains(&b',') {
        return Err(wrong("the proof is there more than once"));
    }
    std::str::from_utf8(field).map_err(|_| wrong("the proof is no text"))
}

fn secret(place: Option<&SecretRef>) -> Result<[u8; 32], Problem> {
    let Some(place) = place else {
        return random();
    };
    let problem = |what: String| Problem::new(format!("`identity.dpop.nonce_secret`: {what}"));
    let secret = place
        .resolve()
        .map_err(|error| problem(error.to_string()))?;
    let bytes = secret.expose_secret().as_bytes();
    if bytes.len() < MIN_SECRET {
        return Err(problem("the secret is shorter than 32 bytes".to_owned()));
    }
    Ok(blake3::derive_key("cardea 2026 dpop nonces", bytes))
}

fn random() -> Result<[u8; 32], Problem> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Problem::new("the system gives no random bytes"))?;
    Ok(bytes)
}

/// The refusal of a proof. `what` is static and quotes nothing.
fn wrong(what: &'static str) -> Refusal {
    invalid(Fault::Proof, what)
}

#[cfg(test)]
mod tests;

//! Bearer tokens that are JWTs (RFC 6750, RFC 9068).

use std::collections::HashMap;
use std::sync::Arc;

use super::claims::{Rules, Times};
use super::denial::Denial;
use super::fetch::{self, Fetcher};
use super::jwk::PublicKey;
use super::keys::{KeySource, Surroundings};
use super::scheme::{Prepared, Preparing, Proof, Proven, Scheme};
use super::settings::IssuerSettings;
use super::token::{MAX_TOKEN, Token, Wrong};
use crate::model::{
    Arrival, ColdStep, CredentialFault as Fault, Problem, VerifiedIdentity, every_byte,
};

/// The scheme, with all its issuers.
#[derive(Debug)]
pub(super) struct BearerJwt {
    issuers: HashMap<String, Issuer>,
}

/// One issuer: what its tokens must meet, and the keys that sign them. Keys are found only through their issuer, so two
/// issuers with the same key id cannot be taken for each other.
#[derive(Debug)]
struct Issuer {
    rules: Rules,
    keys: Arc<KeySource>,
}

impl BearerJwt {
    /// The scheme over these key sources.
    pub(super) fn new(issuers: impl IntoIterator<Item = (IssuerSettings, Arc<KeySource>)>) -> Self {
        let issuers = issuers.into_iter().map(|(settings, keys)| {
            let rules = Rules::new(settings.clone());
            (settings.issuer, Issuer { rules, keys })
        });
        Self {
            issuers: issuers.collect(),
        }
    }

    /// Reads a token and holds it against its issuer's rules: all that needs no key.
    fn read<'t>(&self, token: &'t str, arrival: &Arrival) -> Result<Read<'_, 't>, Denial> {
        let token = Token::read(token)?;
        let issuer = token.claims.get("iss").and_then(|value| value.as_str());
        let issuer = issuer.and_then(|name| self.issuers.get(name)).ok_or(Wrong(
            Fault::Issuer,
            "the issuer is absent, no text, or not configured",
        ))?;
        let times = issuer.rules.check(&token, arrival.at)?;
        Ok(Read {
            issuer,
            token,
            times,
        })
    }

    async fn gather<'a>(&'a self, token: &'a str, arrival: &'a Arrival) -> Prepared<'a> {
        let read = match self.read(token, arrival) {
            Ok(read) => read,
            Err(denial) => {
                return Prepared {
                    waited: None,
                    proof: Err(denial),
                };
            }
        };
        let kid = read.token.kid.as_deref();
        let (waited, key): (Option<ColdStep>, _) = read.issuer.keys.key(kid, arrival).await;
        let proof = key.map(|key| -> Proof<'a> { Box::new(move || read.judge(&key)) });
        Prepared { waited, proof }
    }
}

impl Scheme for BearerJwt {
    fn authorization(&self) -> Option<&'static str> {
        Some("bearer")
    }

    /// `token68` (RFC 9110, section 11.2) of bounded length. It holds no `!`, which stands for any byte that Envoy could
    /// not pass on: two such values may look the same and be different.
    fn accept(&self, credential: &str) -> Result<(), Fault> {
        if credential.len() > MAX_TOKEN {
            return Err(Fault::TooLong);
        }
        let body = credential.trim_end_matches('=');
        // `-`, `.` and `/` stand together, before the digits.
        let sign = |b: u8| (b == b'_') | (b == b'~') | (b == b'+');
        let token68 = |b: u8| b.is_ascii_alphanumeric() | (b'-'..=b'/').contains(&b) | sign(b);
        if !body.is_empty() && every_byte(body.as_bytes(), token68) {
            Ok(())
        } else {
            Err(Fault::Malformed)
        }
    }

    fn prepare<'a>(&'a self, credential: &'a str, arrival: &'a Arrival) -> Preparing<'a> {
        Box::pin(self.gather(credential, arrival))
    }
}

/// A token that meets all rules that can be judged without a key.
struct Read<'i, 't> {
    issuer: &'i Issuer,
    token: Token<'t>,
    times: Times,
}

impl Read<'_, '_> {
    /// The judgement: the key is for that algorithm, the signature is the key's, the claims are in order.
    fn judge(self, key: &PublicKey) -> Result<Proven, Denial> {
        let Token {
            algorithm,
            signed,
            signature,
            ref claims,
            ..
        } = self.token;
        if !key.serves(algorithm) {
            let detail = "the key is not for the algorithm that the header names";
            return Err(Denial::by_key(Fault::Algorithm, detail, key.ground()));
        }
        if !key.verifies(algorithm, signed, signature) {
            let detail = "the signature does not match";
            return Err(Denial::by_key(Fault::Signature, detail, key.ground()));
        }
        let attributes = self.issuer.rules.attributes(claims, self.times)?;
        Ok(Proven {
            identity: VerifiedIdentity::assertion(attributes),
            valid_until: self.times.valid_until,
            ground: Arc::clone(key.ground()),
        })
    }
}

/// The key sources of all issuers, in the order of the settings.
///
/// # Errors
/// All that keeps them from being asked.
pub(super) fn key_sources(
    issuers: &[IssuerSettings],
    surroundings: impl Fn(usize) -> Surroundings,
) -> Result<Vec<Arc<KeySource>>, Vec<Problem>> {
    let client = fetch::client().map_err(|error| {
        vec![
            Problem::new(format!("keys cannot be fetched: {error}"))
                .hint("install the system's trusted root certificates"),
        ]
    })?;
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for (index, issuer) in issuers.iter().enumerate() {
        match Fetcher::new(issuer, client.clone()) {
            Ok(fetcher) => {
                sources.push(KeySource::new(issuer.clone(), fetcher, surroundings(index)));
            }
            Err(error) => problems.push(Problem::new(format!(
                "the keys of `identity.issuers[{index}]` cannot be fetched: the URL {error}"
            ))),
        }
    }
    if problems.is_empty() {
        Ok(sources)
    } else {
        Err(problems)
    }
}

//! Bearer tokens that are JWTs (RFC 6750, RFC 9068).

use std::collections::HashMap;
use std::sync::Arc;

use super::carried::{Carried, Presented, invalid, token68};
use super::claims::{Rules, Times};
use super::denial::Denial;
use super::fetch::{self, Fetcher};
use super::jwk::PublicKey;
use super::keys::{KeySource, Surroundings};
use super::scheme::{Prepared, Preparing, Proof, Proven, Scheme, SchemeName};
use super::settings::IssuerSettings;
use super::status_list::{Named, Standing, Statuses};
use super::token::{MAX_TOKEN, Token, Wrong};
use crate::model::{Arrival, ColdStep, CredentialFault as Fault, Problem, Refusal};

/// The scheme, with all its issuers.
#[derive(Debug)]
pub(super) struct BearerJwt {
    issuers: HashMap<Arc<str>, Issuer>,
    /// Whether somebody else can read tokens that are no JWTs.
    leaves_opaque: bool,
}

/// One issuer: what its tokens must meet, and the keys that sign them. Keys are found only through their issuer, so two
/// issuers with the same key id cannot be taken for each other.
#[derive(Debug)]
struct Issuer {
    rules: Rules,
    keys: Arc<KeySource>,
    statuses: Arc<Statuses>,
}

/// An issuer: its rules, its keys, and what becomes of its tokens' status.
pub(super) type Party = (Rules, (Arc<KeySource>, Arc<Statuses>));

impl BearerJwt {
    /// The scheme with these issuers. `leaves_opaque`: tokens that do not look like a JWT are another scheme's.
    pub(super) fn new(issuers: impl IntoIterator<Item = Party>, leaves_opaque: bool) -> Self {
        let issuers = issuers.into_iter().map(|(rules, (keys, statuses))| {
            let issuer = Issuer {
                rules,
                keys,
                statuses,
            };
            (Arc::clone(issuer.rules.issuer()), issuer)
        });
        Self {
            issuers: issuers.collect(),
            leaves_opaque,
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
            named: issuer.statuses.read(&token.claims),
            issuer,
            token,
            times,
        })
    }

    /// Whether it knows any issuer.
    pub(super) fn idle(&self) -> bool {
        self.issuers.is_empty()
    }

    async fn gather<'a>(&'a self, token: &'a [u8], arrival: &'a Arrival) -> Prepared<'a> {
        let text = std::str::from_utf8(token)
            .map_err(|_| Wrong(Fault::NotAToken, "the token is no text").into());
        let read = match text.and_then(|token| self.read(token, arrival)) {
            Ok(read) => read,
            Err(denial) => return Prepared::refused(denial),
        };
        let kid = read.token.kid.as_deref();
        let (waited, key): (Option<ColdStep>, _) = read.issuer.keys.key(kid, arrival).await;
        let key = match key {
            Ok(key) => key,
            Err(denial) => {
                let proof = Err(denial);
                return Prepared { waited, proof };
            }
        };
        let (listed, standing) = read.standing(&key, arrival).await;
        let proof =
            standing.map(|standing| -> Proof<'a> { Box::new(move || read.judge(&key, standing)) });
        Prepared {
            waited: both(waited, listed),
            proof,
        }
    }
}

impl Scheme for BearerJwt {
    fn name(&self) -> SchemeName {
        SchemeName::Jwt
    }

    fn find<'r>(&self, carried: &Carried<'r>) -> Result<Option<Presented<'r>>, Refusal> {
        let Some(token) = bearer(carried)? else {
            return Ok(None);
        };
        let theirs = self.leaves_opaque && !looks_like_jwt(token);
        Ok((!theirs).then(|| Presented::authorization(token)))
    }

    fn prepare<'a>(&'a self, credential: &'a [u8], arrival: &'a Arrival) -> Preparing<'a> {
        Box::pin(self.gather(credential, arrival))
    }
}

/// The access token of a request: sent as `Bearer` (RFC 6750) or, bound to a key, as `DPoP` (RFC 9449, section 7.1).
///
/// # Errors
/// The refusal of a token that is too long or holds what no token can.
pub(super) fn bearer<'r>(carried: &Carried<'r>) -> Result<Option<&'r str>, Refusal> {
    let sent = carried.authorization("bearer");
    let Some(token) = sent.or_else(|| carried.authorization("dpop")) else {
        return Ok(None);
    };
    let fault = if token.len() > MAX_TOKEN {
        Fault::TooLong
    } else if token68(token) {
        return Ok(Some(token));
    } else {
        Fault::Malformed
    };
    Err(invalid(fault, "the token is too long or malformed"))
}

/// Whether a token has the three parts of a compact JWS.
pub(super) fn looks_like_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// A token that meets all rules that can be judged without a key.
struct Read<'i, 't> {
    issuer: &'i Issuer,
    token: Token<'t>,
    times: Times,
    /// What it says of its status. It counts only once the signature does.
    named: Result<Option<Named<'i>>, Wrong>,
}

impl Read<'_, '_> {
    /// Where the token stands on its status list, if it is on one that is honoured, and what was waited for.
    async fn standing(
        &self,
        key: &PublicKey,
        arrival: &Arrival,
    ) -> (Option<ColdStep>, Result<Option<Standing>, Denial>) {
        let Ok(Some(named)) = &self.named else {
            return (None, Ok(None));
        };
        if let Some(standing) = named.at_hand(arrival) {
            return (None, Ok(Some(standing)));
        }
        // Only the issuer may have anything fetched.
        if let Err(denial) = self.signed(key) {
            return (None, Err(denial));
        }
        let (waited, standing) = named.standing(arrival).await;
        (waited, standing.map(Some))
    }

    /// The judgement: the key is for that algorithm, the signature is the key's, the claims are in order. What the status
    /// list says of the token is asked where the proof is used.
    fn judge(self, key: &PublicKey, standing: Option<Standing>) -> Result<Proven, Denial> {
        self.signed(key)?;
        let claims = &self.token.claims;
        let attributes = self.issuer.rules.attributes(claims, self.times)?;
        if self.named?.is_some() != standing.is_some() {
            return Err(Denial::Internal("a token lost its place on a status list"));
        }
        self.issuer.statuses.mind(claims);
        let valid_until = self.times.valid_until;
        let proven = Proven::new(attributes, valid_until, Arc::clone(key.ground()));
        Ok(proven.standing(standing))
    }

    /// Whether the token is signed with the key, and the key is for that.
    fn signed(&self, key: &PublicKey) -> Result<(), Denial> {
        let Token {
            algorithm,
            signed,
            signature,
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
        Ok(())
    }
}

/// Two waits of one request as one step of its record.
fn both(keys: Option<ColdStep>, list: Option<ColdStep>) -> Option<ColdStep> {
    let (Some(keys), Some(list)) = (&keys, &list) else {
        return keys.or(list);
    };
    Some(ColdStep {
        name: "fetch keys and status list",
        began: keys.began,
        took: keys.took + list.took,
    })
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
                "the keys of the issuer `{}` cannot be fetched: the URL {error}",
                issuer.issuer
            ))),
        }
    }
    if problems.is_empty() {
        Ok(sources)
    } else {
        Err(problems)
    }
}

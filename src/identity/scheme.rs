//! Finding the one credential a request carries, and what a way of proving who one is has to offer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;

use super::denial::Denial;
use super::ground::Ground;
use crate::model::{
    AccessRequest, Arrival, ColdStep, CredentialFault as Fault, Reason, Refusal, VerifiedIdentity,
    every_byte,
};

/// A way of proving who one is. A new one is a file with an implementation, and a line in [`super::schemes`].
pub(super) trait Scheme: fmt::Debug + Send + Sync {
    /// The scheme it answers to in `Authorization`, in lower case.
    fn authorization(&self) -> Option<&'static str>;

    /// Whether this could be a credential of its kind at all. It is asked on every request, so it must be cheap.
    ///
    /// # Errors
    /// The fault of a credential that is not even worth a look into the cache.
    fn accept(&self, credential: &str) -> Result<(), Fault>;

    /// Gathers what judging the credential needs. All waiting happens here.
    fn prepare<'a>(&'a self, credential: &'a str, arrival: &'a Arrival) -> Preparing<'a>;
}

/// A scheme at work.
pub(super) type Preparing<'a> = Pin<Box<dyn Future<Output = Prepared<'a>> + Send + 'a>>;

/// What preparing came to.
pub(super) struct Prepared<'a> {
    /// What was waited for.
    pub(super) waited: Option<ColdStep>,
    /// The judgement that remains to be made, or why it cannot be.
    pub(super) proof: Result<Proof<'a>, Denial>,
}

/// The judgement itself: it only computes, so it can be made once for all who wait for it.
pub(super) type Proof<'a> = Box<dyn FnOnce() -> Result<Proven, Denial> + Send + 'a>;

/// A credential that was judged good.
pub(super) struct Proven {
    /// Who it is.
    pub(super) identity: VerifiedIdentity,
    /// Until when, by the wall clock, skew included.
    pub(super) valid_until: Timestamp,
    /// What the proof stands on.
    pub(super) ground: Arc<Ground>,
}

/// A scheme of the list, with the secret that keys its credentials' digests: one text under two schemes never meets
/// the other's cache entry.
#[derive(Debug)]
pub(super) struct Listed {
    scheme: Box<dyn Scheme>,
    salt: Salt,
}

impl Listed {
    /// # Errors
    /// Where the system gives no random bytes.
    pub(super) fn new(scheme: Box<dyn Scheme>) -> Result<Self, &'static str> {
        let mut salt = [0; 32];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| "the system gives no random bytes")?;
        Ok(Self {
            scheme,
            salt: Salt(salt),
        })
    }

    /// What stands for the credential in the cache. Without the salt, nobody can tell which credential it was.
    pub(super) fn digest(&self, credential: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.salt.0, credential.as_bytes())
    }

    /// See [`Scheme::prepare`].
    pub(super) fn prepare<'a>(
        &'a self,
        credential: &'a str,
        arrival: &'a Arrival,
    ) -> Preparing<'a> {
        self.scheme.prepare(credential, arrival)
    }
}

/// The secret key of a digest.
struct Salt([u8; 32]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt")
    }
}

/// The credential a request carries and the scheme it belongs to; `None` for a request without one.
///
/// # Errors
/// A refusal where there are several, or one in several places, or one that no scheme accepts.
pub(super) fn find<'s, 'r>(
    schemes: &'s [Listed],
    request: &'r AccessRequest,
) -> Result<Option<(&'s Listed, &'r str)>, Refusal> {
    let mut fields = request.headers.values("authorization");
    let Some(field) = fields.next() else {
        // RFC 6750, section 2.3: a token in the query ends up in logs. It is not read as a credential.
        return Ok(None);
    };
    if fields.next().is_some() {
        return Err(ambiguous("there is more than one authorization header"));
    }
    // Envoy joins repeated headers by commas, and no accepted credential holds one.
    if field.contains(&b',') {
        return Err(ambiguous("the authorization header holds a comma"));
    }
    if request.query.contains("access_token") {
        return Err(ambiguous("there is a token in the query beside the header"));
    }
    let (name, credential) = split(field).ok_or_else(|| {
        invalid(
            Fault::Malformed,
            "the authorization header is not a scheme, one space and a credential",
        )
    })?;
    let listed = schemes
        .iter()
        .find(|listed| answers(listed, name))
        .ok_or_else(|| {
            invalid(
                Fault::Scheme,
                "the authorization header uses a scheme that is not accepted",
            )
        })?;
    match listed.scheme.accept(credential) {
        Ok(()) => Ok(Some((listed, credential))),
        Err(fault) => Err(invalid(fault, "the credential is too long or malformed")),
    }
}

fn answers(listed: &Listed, name: &str) -> bool {
    let own = listed.scheme.authorization();
    own.is_some_and(|own| own.eq_ignore_ascii_case(name))
}

/// `scheme SP credential` (RFC 9110, section 11.4), with exactly one space and nothing but visible ASCII.
fn split(field: &[u8]) -> Option<(&str, &str)> {
    let (name, credential) = std::str::from_utf8(field).ok()?.split_once(' ')?;
    let scheme = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let clean = !name.is_empty() && name.bytes().all(scheme);
    let graphic = |b: u8| (b > 0x20) & (b < 0x7f);
    let visible = !credential.is_empty() && every_byte(credential.as_bytes(), graphic);
    (clean && visible).then_some((name, credential))
}

fn ambiguous(detail: &'static str) -> Refusal {
    Refusal::new(Reason::AmbiguousCredential, detail)
}

fn invalid(fault: Fault, detail: &'static str) -> Refusal {
    Refusal::new(Reason::CredentialInvalid(fault), detail)
}

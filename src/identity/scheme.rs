//! What a way of proving who one is has to offer, and which credentials a request presents.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::acceptance::Accepted;
use super::carried::{Carried, Place, Presented, invalid};
use super::denial::Denial;
use super::ground::Ground;
use super::status_list::Standing;
use crate::model::{
    Arrival, ColdStep, CredentialFault as Fault, IdentityAttributes, Refusal, VerifiedIdentity,
};

/// The name of a scheme in the settings.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SchemeName {
    /// Bearer tokens that are JWTs, signed by a configured issuer.
    Jwt,
    /// Bearer tokens that only their issuer can read.
    Introspection,
    /// Transaction tokens: JWTs in `Txn-Token`.
    TransactionToken,
    /// Client certificates.
    Certificate,
    /// API keys.
    ApiKey,
    /// User name and password.
    Basic,
}

impl SchemeName {
    /// All of them, in the order in which they count where nothing else is said.
    pub const ALL: [Self; 6] = [
        Self::Jwt,
        Self::Introspection,
        Self::TransactionToken,
        Self::Certificate,
        Self::ApiKey,
        Self::Basic,
    ];

    /// As the settings write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Introspection => "introspection",
            Self::TransactionToken => "transaction_token",
            Self::Certificate => "certificate",
            Self::ApiKey => "api_key",
            Self::Basic => "basic",
        }
    }
}

/// A way of proving who one is. A new one is a file with an implementation, and a line in [`super::schemes`].
pub(super) trait Scheme: fmt::Debug + Send + Sync {
    /// What the settings call it.
    fn name(&self) -> SchemeName;

    /// The credential of its kind that the request carries. It is asked on every request, so it must be cheap.
    ///
    /// # Errors
    /// The refusal of a credential that is of its kind, and not even worth a look into the cache.
    fn find<'r>(&self, carried: &Carried<'r>) -> Result<Option<Presented<'r>>, Refusal>;

    /// Gathers what judging the credential needs. All waiting happens here.
    fn prepare<'a>(&'a self, credential: &'a [u8], arrival: &'a Arrival) -> Preparing<'a>;
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

impl Prepared<'_> {
    /// A credential that is refused without further ado.
    pub(super) fn refused(denial: Denial) -> Self {
        Self {
            waited: None,
            proof: Err(denial),
        }
    }
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
    /// Where it stands on a status list, which is asked with every use.
    pub(super) standing: Option<Standing>,
}

impl Proven {
    /// The end of every scheme: the credential was checked in full, and this is its holder.
    pub(super) fn new(
        attributes: IdentityAttributes,
        valid_until: Timestamp,
        ground: Arc<Ground>,
    ) -> Self {
        Self {
            identity: VerifiedIdentity::assertion(attributes),
            valid_until,
            ground,
            standing: None,
        }
    }

    /// The same, and it counts only while a status list calls it valid.
    pub(super) fn standing(self, standing: Option<Standing>) -> Self {
        Self { standing, ..self }
    }
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

    /// What the settings call it.
    pub(super) fn name(&self) -> SchemeName {
        self.scheme.name()
    }

    /// What stands for the credential in the cache. Without the salt, nobody can tell which credential it was.
    pub(super) fn digest(&self, credential: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.salt.0, credential)
    }

    /// See [`Scheme::prepare`].
    pub(super) fn prepare<'a>(
        &'a self,
        credential: &'a [u8],
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

/// A credential a request presents, and the scheme that can judge it.
pub(super) struct Held<'s, 'r> {
    pub(super) listed: &'s Listed,
    pub(super) presented: Presented<'r>,
}

/// The credentials a request presents. Nearly every request has one at most, which costs no allocation.
#[derive(Default)]
pub(super) struct Found<'s, 'r> {
    pub(super) first: Option<Held<'s, 'r>>,
    pub(super) more: Vec<Held<'s, 'r>>,
}

/// Everything the request presents that is accepted here.
///
/// # Errors
/// The refusal of a credential that no scheme accepts, or none that counts here.
pub(super) fn find<'s, 'r>(
    schemes: &'s [Listed],
    accepted: &Accepted,
    carried: &Carried<'r>,
) -> Result<Found<'s, 'r>, Refusal> {
    let mut found = Found::default();
    let mut authorized = carried.authorization.is_none();
    for listed in schemes {
        let Some(presented) = listed.scheme.find(carried)? else {
            continue;
        };
        if !accepted.takes(listed.name()) {
            if presented.place == Place::Connection {
                continue;
            }
            return Err(invalid(
                Fault::Scheme,
                "this operation does not accept that kind of credential",
            ));
        }
        if presented.place == Place::Authorization {
            if authorized {
                continue;
            }
            authorized = true;
        }
        found.push(Held { listed, presented });
    }
    if authorized {
        Ok(found)
    } else {
        Err(invalid(
            Fault::Scheme,
            "the authorization header uses a scheme that is not accepted",
        ))
    }
}

impl<'s, 'r> Found<'s, 'r> {
    fn push(&mut self, held: Held<'s, 'r>) {
        if self.first.is_none() {
            self.first = Some(held);
        } else {
            self.more.push(held);
        }
    }
}

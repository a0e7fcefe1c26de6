//! Who asks.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

/// Who asks, as far as it was proven. "Nobody in particular" is an identity too, so that a public operation is a
/// policy's decision and never a bypass.
#[derive(Debug, Clone)]
pub enum Caller {
    /// No credential was presented.
    Anonymous,
    /// A credential was presented and proven.
    Verified(Arc<VerifiedIdentity>),
    /// Nobody was there: a rehearsal supposes this caller. No request that arrives ever has one.
    Supposed(Arc<IdentityAttributes>),
}

impl Caller {
    /// What is known of the caller; `None` for nobody in particular.
    #[must_use]
    pub fn attributes(&self) -> Option<&IdentityAttributes> {
        match self {
            Self::Anonymous => None,
            Self::Verified(identity) => Some(identity),
            Self::Supposed(attributes) => Some(attributes),
        }
    }
}

/// The Cedar entity type a caller becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A program acting for itself (OAuth client credentials, API key).
    Client,
    /// A workload in the mesh.
    Workload,
    /// A program acting for somebody.
    Agent,
}

/// What a proven credential says of its holder. Plain data: it claims nothing until it is inside a
/// [`VerifiedIdentity`].
#[derive(Clone)]
pub struct IdentityAttributes {
    /// What kind of principal this is.
    pub kind: PrincipalKind,
    /// `bearer_jwt` and kin: which scheme proved it.
    pub scheme: &'static str,
    /// Who vouches (`iss`).
    pub issuer: Arc<str>,
    /// The holder (`sub`), unique within the issuer.
    pub subject: String,
    /// The OAuth client (`client_id` or `azp`).
    pub client_id: Option<String>,
    /// Whom the token is for (`aud`).
    pub audience: Vec<String>,
    /// What the token may be used for (`scope` or `scp`).
    pub scopes: Vec<String>,
    /// How the holder logged in (`amr`, RFC 8176).
    pub amr: Vec<String>,
    /// Authentication context class (`acr`).
    pub acr: Option<String>,
    /// Ordered level the issuer's `acr`/`amr` map to; 0 is the lowest and means unknown.
    pub assurance: u8,
    /// When the holder last logged in (`auth_time`).
    pub auth_time: Option<Timestamp>,
    /// When the token was issued (`iat`).
    pub issued_at: Option<Timestamp>,
    /// When it stops being valid (`exp`).
    pub expires_at: Timestamp,
    /// The token's own id (`jti`).
    pub token_id: Option<String>,
    /// Whether the sender proved possession of a key.
    pub sender_constrained: bool,
    /// Roles, by the issuer's mapping.
    pub roles: Vec<String>,
    /// Groups, by the issuer's mapping.
    pub groups: Vec<String>,
    /// Tenant, by the issuer's mapping.
    pub tenant: Option<String>,
    /// Further claims that the settings expose to policies, each as a set of strings.
    pub claims: BTreeMap<String, Vec<String>>,
}

/// Shows who, never what the claims hold.
impl fmt::Debug for IdentityAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityAttributes")
            .field("kind", &self.kind)
            .field("scheme", &self.scheme)
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// The proof that a credential was checked in full. Whoever holds one need not ask again.
#[derive(Debug)]
pub struct VerifiedIdentity {
    attributes: IdentityAttributes,
}

impl VerifiedIdentity {
    /// Claims that a credential with these attributes was verified: signature, issuer, audience, time and all.
    #[must_use]
    pub(crate) fn assertion(attributes: IdentityAttributes) -> Self {
        Self { attributes }
    }
}

impl Deref for VerifiedIdentity {
    type Target = IdentityAttributes;

    fn deref(&self) -> &IdentityAttributes {
        &self.attributes
    }
}

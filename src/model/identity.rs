//! Who asks.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delegation, ServiceAccount, SpiffeId};

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

impl Caller {
    /// On whose behalf the caller acts; `None` for nobody in particular and for who acts for themselves.
    #[must_use]
    pub fn delegation(&self) -> Option<Delegation> {
        self.attributes().and_then(Delegation::of)
    }
}

/// The Cedar entity type a caller becomes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
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

/// The scheme of Kubernetes service accounts.
pub const KUBERNETES: &str = "kubernetes";

/// The scheme of whoever is known by a client certificate.
pub const CERTIFICATE: &str = "certificate";

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
    /// Whether the issuer says that the login took more than one factor; `false` where it does not say.
    pub mfa: bool,
    /// When the holder last logged in (`auth_time`).
    pub auth_time: Option<Timestamp>,
    /// When the token was issued (`iat`).
    pub issued_at: Option<Timestamp>,
    /// When it stops being valid (`exp`).
    pub expires_at: Timestamp,
    /// The token's own id (`jti`).
    pub token_id: Option<String>,
    /// The login session the credential belongs to (`sid`).
    pub session_id: Option<String>,
    /// The workload's SPIFFE ID, where a certificate proved one.
    pub spiffe: Option<SpiffeId>,
    /// The Kubernetes service account, where its token proved one.
    pub service_account: Option<ServiceAccount>,
    /// The credential's own key, where it is one: an API key's id, or the SHA-256 of a certificate's DER in lower-case hex.
    pub key_id: Option<String>,
    /// The key the credential is bound to. Whoever presents a bound one has proven possession of it: see
    /// [`IdentityAttributes::sender_constrained`].
    pub binding: Option<Binding>,
    /// Roles, by the issuer's mapping.
    pub roles: Vec<String>,
    /// Groups, by the issuer's mapping.
    pub groups: Vec<String>,
    /// Tenant, by the issuer's mapping.
    pub tenant: Option<String>,
    /// Further claims that the settings expose to policies, each as a set of strings.
    pub claims: BTreeMap<String, Vec<String>>,
    /// For whom the holder acts, where it does: then it has no roles and groups but those that files give it, and policies
    /// have to allow both.
    pub on_behalf: Option<OnBehalf>,
}

/// For whom somebody acts (RFC 8693, section 4.1).
#[derive(Debug, Clone)]
pub struct OnBehalf {
    /// Whom the token is about, as they would be if they came themselves.
    pub subject: Box<IdentityAttributes>,
    /// Who acted before the current actor, the latest first, as `<issuer>|<subject>`. No right follows from it.
    pub earlier: Vec<String>,
    /// What for.
    pub purpose: Option<String>,
    /// Whether a person approved what is done with this token.
    pub human_approved: bool,
}

impl IdentityAttributes {
    /// The least that is known of anybody: all else is empty, to be filled in.
    #[must_use]
    pub fn of(
        kind: PrincipalKind,
        scheme: &'static str,
        (issuer, subject): (Arc<str>, String),
        expires_at: Timestamp,
    ) -> Self {
        Self {
            kind,
            scheme,
            issuer,
            subject,
            expires_at,
            client_id: None,
            audience: Vec::new(),
            scopes: Vec::new(),
            amr: Vec::new(),
            acr: None,
            assurance: 0,
            mfa: false,
            auth_time: None,
            issued_at: None,
            token_id: None,
            session_id: None,
            spiffe: None,
            service_account: None,
            key_id: None,
            binding: None,
            roles: Vec::new(),
            groups: Vec::new(),
            tenant: None,
            claims: BTreeMap::new(),
            on_behalf: None,
        }
    }

    /// A workload by its SPIFFE ID: its trust domain vouches for it, and the whole ID is its name.
    #[must_use]
    pub fn workload(spiffe: SpiffeId, expires_at: Timestamp) -> Self {
        let issuer = format!("spiffe://{}", spiffe.trust_domain()).into();
        let subject = spiffe.as_str().to_owned();
        Self {
            spiffe: Some(spiffe),
            ..Self::of(
                PrincipalKind::Workload,
                CERTIFICATE,
                (issuer, subject),
                expires_at,
            )
        }
    }

    /// A workload by its service account, for which a cluster vouches.
    #[must_use]
    pub fn account(account: ServiceAccount, issuer: Arc<str>, expires_at: Timestamp) -> Self {
        let who = (issuer, account.subject());
        Self {
            service_account: Some(account),
            ..Self::of(PrincipalKind::Workload, KUBERNETES, who, expires_at)
        }
    }

    /// `<issuer>|<subject>`: two issuers can never vouch for one another's subjects.
    #[must_use]
    pub fn principal_id(&self) -> String {
        format!("{}|{}", self.issuer, self.subject)
    }

    /// Whom the credential is about: the holder, or whoever the holder acts for.
    #[must_use]
    pub fn subject_of_token(&self) -> &Self {
        self.on_behalf
            .as_ref()
            .map_or(self, |on_behalf| &*on_behalf.subject)
    }

    /// Whether the sender proved possession of a key. A bound credential without that proof is refused before anybody
    /// reads this, so to be bound is to be proven.
    #[must_use]
    pub fn sender_constrained(&self) -> bool {
        self.binding.is_some()
    }

    /// Whether both name the same principal, acting for the same one: an agent that acts for itself, or for somebody else,
    /// has other rights.
    #[must_use]
    pub fn same_principal(&self, other: &Self) -> bool {
        let names = (self.kind, &self.issuer, &self.subject);
        let same = names == (other.kind, &other.issuer, &other.subject);
        same && match (&self.on_behalf, &other.on_behalf) {
            (None, None) => true,
            (Some(own), Some(others)) => own.subject.same_principal(&others.subject),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

/// The key a credential is bound to (`cnf`, RFC 7800).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// A public key, by its thumbprint (`jkt`: RFC 9449, section 6.1): base64url of SHA-256 (RFC 7638).
    Key(String),
    /// A client certificate, by the SHA-256 of its DER (`x5t#S256`: RFC 8705, section 3.1).
    Certificate([u8; 32]),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(kind: PrincipalKind, subject: &str) -> IdentityAttributes {
        let who = ("https://idp.example".into(), subject.to_owned());
        IdentityAttributes::of(kind, "bearer_jwt", who, Timestamp::MAX)
    }

    fn bot(user: Option<IdentityAttributes>) -> IdentityAttributes {
        IdentityAttributes {
            on_behalf: user.map(|user| OnBehalf {
                subject: Box::new(user),
                earlier: Vec::new(),
                purpose: None,
                human_approved: false,
            }),
            ..named(PrincipalKind::Agent, "bot")
        }
    }

    #[test]
    fn a_principal_is_the_same_only_where_it_acts_for_the_same_one() {
        let user = |name: &str| Some(named(PrincipalKind::User, name));
        let same = |a: &IdentityAttributes, b: &IdentityAttributes| {
            assert_eq!(a.same_principal(b), b.same_principal(a));
            a.same_principal(b)
        };
        assert!(same(&bot(None), &bot(None)));
        assert!(same(&bot(user("alice")), &bot(user("alice"))));
        assert!(!same(&bot(user("alice")), &bot(user("bob"))));
        assert!(!same(&bot(user("alice")), &bot(None)));
        let workload = Some(named(PrincipalKind::Workload, "alice"));
        assert!(!same(&bot(user("alice")), &bot(workload)));
        let (deep, deeper) = (bot(user("alice")), bot(user("bob")));
        assert!(!same(&bot(Some(deep.clone())), &bot(Some(deeper))));
        assert!(same(&bot(Some(deep.clone())), &bot(Some(deep))));
    }
}

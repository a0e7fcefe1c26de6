//! Who is supposed to ask.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::scalar::{Names, When, Words};
use crate::identity::{SUPPOSED_ISSUER, SUPPOSED_LIFE};
use crate::model::{Binding, IdentityAttributes, PrincipalKind, ServiceAccount, SpiffeId};

/// `anonymous`, or what is known of somebody.
#[derive(Debug, Clone, Default)]
pub enum CallerForm {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// Somebody.
    Known(Box<CallerParts>),
}

/// What is known of a caller. What is left out is as a plain valid credential has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallerParts {
    /// `user` (the default), `client`, `workload` or `agent`.
    pub kind: Option<PrincipalKind>,
    /// The workload's SPIFFE ID, as its certificate has it; in place of `kind`, `issuer` and `subject`.
    #[serde(alias = "spiffeId")]
    pub spiffe_id: Option<SpiffeId>,
    /// The workload's Kubernetes service account, as its token has it (`shop/web`); in place of `kind` and `subject`.
    #[serde(alias = "serviceAccount")]
    pub service_account: Option<ServiceAccount>,
    /// Who vouches. Default: `https://issuer.test`.
    pub issuer: Option<String>,
    /// The holder. Default: `somebody`.
    pub subject: Option<String>,
    /// The OAuth client. Default for a client: its subject.
    #[serde(alias = "clientId")]
    pub client_id: Option<String>,
    /// Roles.
    pub roles: Names,
    /// Groups.
    pub groups: Names,
    /// Tenant.
    pub tenant: Option<String>,
    /// Scopes: a list, or a text with spaces.
    pub scopes: Words,
    /// Audiences.
    pub audience: Names,
    /// Authentication context class.
    pub acr: Option<String>,
    /// How the holder logged in.
    pub amr: Names,
    /// Ordered level; 0 is unknown.
    pub assurance: u8,
    /// Whether the login took more than one factor.
    pub mfa: bool,
    /// When the holder logged in.
    #[serde(alias = "authTime")]
    pub auth_time: Option<When>,
    /// What proved it (`token.kind`): `bearer_jwt` (the default), `api_key` or `basic`.
    pub credential: Credential,
    /// When the credential was issued.
    #[serde(alias = "issuedAt")]
    pub issued_at: Option<When>,
    /// When the credential ends. Default: five minutes later.
    #[serde(alias = "expiresAt")]
    pub expires_at: Option<When>,
    /// Whether the sender proved possession of a key.
    #[serde(alias = "senderConstrained")]
    pub sender_constrained: bool,
    /// Further claims.
    pub claims: BTreeMap<String, Names>,
}

/// What a supposed caller proved itself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// A bearer token.
    #[default]
    BearerJwt,
    /// An API key.
    ApiKey,
    /// User name and password.
    Basic,
}

impl Credential {
    fn scheme(self) -> &'static str {
        match self {
            Self::BearerJwt => "bearer_jwt",
            Self::ApiKey => "api_key",
            Self::Basic => "basic",
        }
    }
}

impl CallerParts {
    /// The caller as the rest of the house knows one.
    #[must_use]
    pub fn attributes(&self, now: Timestamp) -> IdentityAttributes {
        let subject = self.subject.as_deref().unwrap_or("somebody").to_owned();
        let kind = self.kind.unwrap_or(PrincipalKind::User);
        let own_client = (kind == PrincipalKind::Client).then(|| subject.clone());
        let claims = self.claims.iter();
        let issuer = self.issuer.as_deref().unwrap_or(SUPPOSED_ISSUER);
        let expires_at = self.expires_at.map_or_else(
            || now.saturating_add(SUPPOSED_LIFE).unwrap_or(now),
            |at| at.0,
        );
        let known = match (&self.spiffe_id, &self.service_account) {
            (Some(id), _) => IdentityAttributes::workload(id.clone(), expires_at),
            (None, Some(account)) => {
                IdentityAttributes::account(account.clone(), issuer.into(), expires_at)
            }
            (None, None) => IdentityAttributes::of(
                kind,
                self.credential.scheme(),
                (issuer.into(), subject),
                expires_at,
            ),
        };
        IdentityAttributes {
            client_id: self.client_id.clone().or(own_client),
            audience: self.audience.0.clone(),
            scopes: self.scopes.0.clone(),
            amr: self.amr.0.clone(),
            acr: self.acr.clone(),
            assurance: self.assurance,
            mfa: self.mfa,
            auth_time: self.auth_time.map(|at| at.0),
            issued_at: self.issued_at.map(|at| at.0),
            // Which key it is nobody asks: that it was proven is all that policies can read.
            binding: self
                .sender_constrained
                .then(|| Binding::Key("supposed".to_owned())),
            roles: self.roles.0.clone(),
            groups: self.groups.0.clone(),
            tenant: self.tenant.clone(),
            claims: claims
                .map(|(name, values)| (name.clone(), values.0.clone()))
                .collect(),
            ..known
        }
    }
}

impl<'de> Deserialize<'de> for CallerForm {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(CallerVisitor)
    }
}

struct CallerVisitor;

impl<'de> Visitor<'de> for CallerVisitor {
    type Value = CallerForm;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`anonymous`, or a caller with `kind`, `subject`, `roles` and so on")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<CallerForm, E> {
        match text {
            "anonymous" => Ok(CallerForm::Anonymous),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<CallerForm, A::Error> {
        let parts = CallerParts::deserialize(MapAccessDeserializer::new(members))?;
        Ok(CallerForm::Known(Box::new(parts)))
    }
}

//! Who asked, written down: what the credential said, never the credential.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::mask::{MASKED, is_secret_name, is_token};
use crate::model::{
    Binding, Caller, IdentityAttributes, OnBehalf, PrincipalKind, ServiceAccount, SpiffeId,
};

/// The most different schemes of credentials that records of one run may name, and the longest name of one.
const MOST_SCHEMES: usize = 64;
const LONGEST_SCHEME: usize = 64;

/// `anonymous`, or what is known of somebody.
#[derive(Debug, Clone)]
pub enum RecordedCaller {
    /// No credential was presented.
    Anonymous,
    /// Somebody.
    Known(Box<RecordedAttributes>),
}

/// What a credential said of its holder.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of `IdentityAttributes`")]
pub struct RecordedAttributes {
    pub(super) kind: Kind,
    pub scheme: String,
    pub issuer: String,
    pub subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    #[serde(default)]
    pub assurance: u8,
    #[serde(default)]
    pub mfa: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    #[serde(default)]
    pub sender_constrained: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<RecordedBehalf>,
}

/// For whom somebody acted (RFC 8693, section 4.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of `OnBehalf`")]
pub struct RecordedBehalf {
    pub subject: Box<RecordedAttributes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    #[serde(default)]
    pub human_approved: bool,
}

impl RecordedBehalf {
    fn of(on_behalf: OnBehalf) -> Self {
        let OnBehalf {
            subject,
            earlier,
            purpose,
            human_approved,
        } = on_behalf;
        Self {
            subject: Box::new(RecordedAttributes::of(&subject)),
            earlier,
            purpose,
            human_approved,
        }
    }

    fn on_behalf(self) -> Result<OnBehalf, String> {
        Ok(OnBehalf {
            subject: Box::new(self.subject.attributes()?),
            earlier: self.earlier,
            purpose: self.purpose,
            human_approved: self.human_approved,
        })
    }
}

/// What kind of principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    User,
    Client,
    Workload,
    Agent,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Client => "client",
            Self::Workload => "workload",
            Self::Agent => "agent",
        }
    }
}

impl RecordedCaller {
    /// Who asked.
    #[must_use]
    pub(super) fn of(caller: &Caller) -> Self {
        match caller.attributes() {
            None => Self::Anonymous,
            Some(attributes) => Self::Known(Box::new(RecordedAttributes::of(attributes))),
        }
    }

    /// The caller as the rest of the house knows one; `None` for nobody in particular.
    ///
    /// # Errors
    /// A scheme whose name no scheme has.
    pub(super) fn attributes(&self) -> Result<Option<Arc<IdentityAttributes>>, String> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Known(known) => Ok(Some(Arc::new(known.attributes()?))),
        }
    }

    /// What kind of caller: `user`, `anonymous` and so on.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Known(known) => known.kind.as_str(),
        }
    }

    /// The caller's id, `<issuer>|<subject>`; empty for nobody in particular.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Anonymous => String::new(),
            Self::Known(known) => format!("{}|{}", known.issuer, known.subject),
        }
    }
}

impl RecordedAttributes {
    fn of(attributes: &IdentityAttributes) -> Self {
        // Taken apart by name: whoever adds an attribute decides whether it is recorded.
        let IdentityAttributes {
            kind,
            scheme,
            issuer,
            subject,
            client_id,
            audience,
            scopes,
            amr,
            acr,
            assurance,
            mfa,
            auth_time,
            issued_at,
            expires_at,
            token_id,
            // A provider may use it as its cookie, and no policy reads it.
            session_id: _,
            spiffe,
            service_account,
            key_id,
            // Which key it was nobody asks: that it was proven is all that policies can read.
            binding,
            roles,
            groups,
            tenant,
            claims,
            on_behalf,
        } = attributes.clone();
        Self {
            kind: match kind {
                PrincipalKind::User => Kind::User,
                PrincipalKind::Client => Kind::Client,
                PrincipalKind::Workload => Kind::Workload,
                PrincipalKind::Agent => Kind::Agent,
            },
            scheme: scheme.to_owned(),
            issuer: issuer.to_string(),
            subject,
            client_id,
            audience,
            scopes,
            amr,
            acr,
            assurance,
            mfa,
            auth_time,
            issued_at,
            expires_at,
            token_id,
            spiffe: spiffe.map(|id| id.to_string()),
            service_account,
            key_id,
            sender_constrained: binding.is_some(),
            roles,
            groups,
            tenant,
            claims: claims.into_iter().map(masked).collect(),
            on_behalf: on_behalf.map(RecordedBehalf::of),
        }
    }

    fn attributes(&self) -> Result<IdentityAttributes, String> {
        let known = self.clone();
        let spiffe = known
            .spiffe
            .as_deref()
            .map(|text| SpiffeId::parse(text).ok_or("the record's `spiffe` is no SPIFFE ID"));
        Ok(IdentityAttributes {
            kind: match known.kind {
                Kind::User => PrincipalKind::User,
                Kind::Client => PrincipalKind::Client,
                Kind::Workload => PrincipalKind::Workload,
                Kind::Agent => PrincipalKind::Agent,
            },
            scheme: scheme(&known.scheme).ok_or("the record's `scheme` is none")?,
            issuer: known.issuer.into(),
            subject: known.subject,
            client_id: known.client_id,
            audience: known.audience,
            scopes: known.scopes,
            amr: known.amr,
            acr: known.acr,
            assurance: known.assurance,
            mfa: known.mfa,
            auth_time: known.auth_time,
            issued_at: known.issued_at,
            expires_at: known.expires_at,
            token_id: known.token_id,
            session_id: None,
            spiffe: spiffe.transpose()?,
            service_account: known.service_account,
            key_id: known.key_id,
            binding: known
                .sender_constrained
                .then(|| Binding::Key("recorded".to_owned())),
            roles: known.roles,
            groups: known.groups,
            tenant: known.tenant,
            claims: known.claims,
            on_behalf: known.on_behalf.map(RecordedBehalf::on_behalf).transpose()?,
        })
    }
}

fn masked((name, mut values): (String, Vec<String>)) -> (String, Vec<String>) {
    for value in &mut values {
        if is_secret_name(&name) || is_token(value) {
            MASKED.clone_into(value);
        }
    }
    (name, values)
}

/// The name of a scheme, for good: there are few, and a list of them here would go stale. What is kept is bounded.
fn scheme(name: &str) -> Option<&'static str> {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(name) {
        return Some(known);
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let sound = !name.is_empty() && name.len() <= LONGEST_SCHEME && name.bytes().all(plain);
    if !sound || known.len() == MOST_SCHEMES {
        return None;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    known.insert(name);
    Some(name)
}

/// Shows who, never what the claims hold.
impl fmt::Debug for RecordedAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedAttributes")
            .field("kind", &self.kind)
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl Serialize for RecordedCaller {
    fn serialize<S: serde::Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Anonymous => writer.serialize_str("anonymous"),
            Self::Known(known) => known.serialize(writer),
        }
    }
}

impl<'de> Deserialize<'de> for RecordedCaller {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(CallerVisitor)
    }
}

struct CallerVisitor;

impl<'de> Visitor<'de> for CallerVisitor {
    type Value = RecordedCaller;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`anonymous`, or what is known of the caller")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RecordedCaller, E> {
        match text {
            "anonymous" => Ok(RecordedCaller::Anonymous),
            _ => Err(E::invalid_value(de::Unexpected::Other("a text"), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<RecordedCaller, A::Error> {
        let known = RecordedAttributes::deserialize(MapAccessDeserializer::new(members))?;
        Ok(RecordedCaller::Known(Box::new(known)))
    }
}

//! One revocation: what is no longer trusted, and from when on something is trusted again.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::settings::plain;
use crate::model::{Binding, IdentityAttributes, Problem};

/// The longest id of an event, in bytes.
pub(super) const MAX_ID: usize = 128;

/// The longest reason, in bytes.
pub(super) const MAX_REASON: usize = 256;

/// Trust that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Names this event: the same one told twice counts once, and told with later times it covers more. 1 to 128 letters,
    /// digits, `.`, `_`, `:` or `-`.
    pub id: String,
    /// What is no longer trusted.
    pub target: Target,
    /// Everything issued before this instant is refused, and so is what does not say when it was issued. What was issued
    /// later is trusted. [`Event::FOR_GOOD`] refuses whatever is issued.
    #[serde(with = "rfc3339")]
    pub issued_before: Timestamp,
    /// When the event may be forgotten: nothing it refuses could be valid any more. [`Event::FOR_GOOD`] keeps it.
    #[serde(with = "rfc3339")]
    pub expires_at: Timestamp,
    /// Why, in a word for operators: at most 256 bytes on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who said so.
    pub source: Source,
    /// When it was told.
    #[serde(with = "rfc3339")]
    pub at: Timestamp,
}

impl Event {
    /// No end: for `issued_before` and `expires_at`.
    pub const FOR_GOOD: Timestamp = Timestamp::MAX;

    /// How ids begin: see [`Event::is_liftable`].
    pub const LIFTABLE: &'static str = "account:";

    /// Whether it refuses a credential, as long as it is not forgotten.
    #[must_use]
    pub fn covers(&self, holder: &IdentityAttributes) -> bool {
        let early = holder
            .issued_at
            .is_none_or(|issued| issued < self.issued_before);
        early && self.target.names(holder)
    }

    /// Whether another event may lift it by its id, as an account that is enabled again lifts that it was disabled. Nothing
    /// else is merged into such an event, for it would be lifted with it; and told again later, it counts as told later.
    #[must_use]
    pub fn is_liftable(&self) -> bool {
        self.id.starts_with(Self::LIFTABLE)
    }

    /// Everything that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut wrong = Vec::new();
        if !is_id(&self.id) {
            wrong.push(Problem::new(
                "`id` must be 1 to 128 letters, digits, `.`, `_`, `:` or `-`",
            ));
        }
        if self.reason.as_deref().is_some_and(|text| !is_reason(text)) {
            wrong.push(Problem::new(
                "`reason` must be at most 256 bytes without control characters",
            ));
        }
        let Parts { issuer, name, .. } = self.target.parts();
        if ![issuer, name].into_iter().flatten().all(plain) {
            wrong.push(Problem::new(
                "`target` must hold names of 1 to 512 bytes without control characters",
            ));
        }
        wrong
    }
}

/// Whether a text can be the id of an event. It can stand in a path as it is.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(plain)
}

pub(super) fn is_reason(text: &str) -> bool {
    text.len() <= MAX_REASON && !text.chars().any(char::is_control)
}

/// What is no longer trusted. Names are compared to the byte.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// One token, by its `jti`.
    TokenId {
        /// Whose tokens; without it, every issuer's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
        /// `jti`
        token_id: String,
    },
    /// Everything of one holder.
    Subject {
        /// Who vouches for the holder.
        issuer: String,
        /// `sub`
        subject: String,
    },
    /// Everything given to one OAuth client, whoever it acts for.
    Client {
        /// Whose client; without it, every issuer's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
        /// `client_id`
        client_id: String,
    },
    /// Everything of one login session.
    Session {
        /// Where the holder logged in.
        issuer: String,
        /// `sid`
        session_id: String,
    },
    /// Everything one issuer vouches for.
    Issuer {
        /// `iss`
        issuer: String,
    },
    /// What one key proves, or is bound to it: an API key by its id, a certificate by the SHA-256 of its DER in
    /// lower-case hex, a key of proofs of possession by its thumbprint (RFC 7638).
    Key {
        /// Who vouches for its holder; without it, anybody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
        /// The key's id.
        key_id: String,
    },
}

impl Target {
    /// What kind of thing it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.parts().kind
    }

    /// The issuer it is confined to, if it is.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.parts().issuer
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        let (kind, issuer, name) = match self {
            Self::TokenId { issuer, token_id } => (Kind::TokenId, issuer.as_ref(), Some(token_id)),
            Self::Subject { issuer, subject } => (Kind::Subject, Some(issuer), Some(subject)),
            Self::Client { issuer, client_id } => (Kind::Client, issuer.as_ref(), Some(client_id)),
            Self::Session { issuer, session_id } => (Kind::Session, Some(issuer), Some(session_id)),
            Self::Issuer { issuer } => (Kind::Issuer, Some(issuer), None),
            Self::Key { issuer, key_id } => (Kind::Key, issuer.as_ref(), Some(key_id)),
        };
        Parts {
            kind,
            issuer: issuer.map(String::as_str),
            name: name.map(String::as_str),
        }
    }

    fn names(&self, holder: &IdentityAttributes) -> bool {
        let Parts { kind, issuer, name } = self.parts();
        let own = name.unwrap_or_default();
        names(holder).any(|(other, whose, name)| {
            other == kind && name == own && issuer.is_none_or(|issuer| issuer == whose)
        })
    }
}

/// Shows of whom, never which token, session or key.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("kind", &self.kind())
            .field("issuer", &self.issuer())
            .finish_non_exhaustive()
    }
}

/// A target taken apart.
pub(super) struct Parts<'a> {
    pub(super) kind: Kind,
    pub(super) issuer: Option<&'a str>,
    pub(super) name: Option<&'a str>,
}

/// A name by which a credential can be revoked: its kind, whose it is, and the name a target of that kind has.
pub(in crate::identity) type Name<'a> = (Kind, &'a str, Cow<'a, str>);

/// Everything by which a credential can be revoked: names of its holder, of whom the holder acts for, and of all who acted
/// before. Whatever a credential stands on belongs here: what is missing cannot be revoked.
pub(in crate::identity) fn names(holder: &IdentityAttributes) -> impl Iterator<Item = Name<'_>> {
    let behind = holder.on_behalf.as_ref();
    let subject = behind.map(|behind| &*behind.subject);
    let earlier = behind.map(|behind| behind.earlier.as_slice());
    let earlier = earlier.unwrap_or_default().iter().filter_map(|actor| {
        // No issuer's name holds the sign between the two.
        let (issuer, subject) = actor.split_once('|')?;
        Some((Kind::Subject, issuer, Cow::from(subject)))
    });
    own_names(holder)
        .chain(subject.into_iter().flat_map(own_names))
        .chain(earlier)
}

fn own_names(holder: &IdentityAttributes) -> impl Iterator<Item = Name<'_>> {
    let bound = holder.binding.as_ref().map(|binding| match binding {
        Binding::Key(thumbprint) => Cow::from(thumbprint.as_str()),
        Binding::Certificate(digest) => Cow::from(hex(digest)),
    });
    [
        Some((Kind::Issuer, Cow::from(""))),
        Some((Kind::Subject, Cow::from(holder.subject.as_str()))),
        given(Kind::Client, holder.client_id.as_deref()),
        given(Kind::Session, holder.session_id.as_deref()),
        given(Kind::TokenId, holder.token_id.as_deref()),
        given(Kind::Key, holder.key_id.as_deref()),
        bound.map(|name| (Kind::Key, name)),
    ]
    .into_iter()
    .flatten()
    .map(|(kind, name)| (kind, &*holder.issuer, name))
}

fn given(kind: Kind, name: Option<&str>) -> Option<(Kind, Cow<'_, str>)> {
    name.map(|name| (kind, Cow::from(name)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kinds of things that can be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "see `Target`")]
pub enum Kind {
    TokenId,
    Subject,
    Client,
    Session,
    Issuer,
    Key,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::TokenId,
        Self::Subject,
        Self::Client,
        Self::Session,
        Self::Issuer,
        Self::Key,
    ];

    /// As events and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenId => "token_id",
            Self::Subject => "subject",
            Self::Client => "client",
            Self::Session => "session",
            Self::Issuer => "issuer",
            Self::Key => "key",
        }
    }

    /// Whether a name of this kind says who somebody is only together with an issuer.
    pub(super) fn within_issuer(self) -> bool {
        matches!(self, Self::Subject | Self::Session | Self::Issuer)
    }
}

/// Who took trust back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Somebody at a command line.
    Cli,
    /// Somebody who asked the admin endpoint.
    Admin,
    /// A transmitter of security events.
    Ssf,
    /// Another replica.
    Peer,
}

impl Source {
    /// As events and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Admin => "admin",
            Self::Ssf => "ssf",
            Self::Peer => "peer",
        }
    }
}

/// Times as people and other programs write them.
pub(super) mod rfc3339 {
    use std::borrow::Cow;

    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in super::super) fn serialize<S: Serializer>(
        at: &Timestamp,
        writer: S,
    ) -> Result<S::Ok, S::Error> {
        writer.collect_str(at)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        reader: D,
    ) -> Result<Timestamp, D::Error> {
        let text = Cow::<'de, str>::deserialize(reader)?;
        text.parse()
            .map_err(|_| de::Error::custom("not a time as RFC 3339 writes it"))
    }
}

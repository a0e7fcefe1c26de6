//! Types of events, and what each does: a closed list. What is not in it is taken and changes nothing.
//!
//! A member that should say whether things got better or worse, and says neither, counts as worse.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::settings::Action;

/// Continuous Access Evaluation Profile 1.0.
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";

/// Risk Incident Sharing and Coordination 1.0.
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

/// What transmitters say of a stream, under the names the framework had in time.
const STREAM: [&str; 3] = [
    "https://schemas.openid.net/secevent/ssf/event-type/",
    "https://schemas.openid.net/secevent/sse/event-type/",
    RISC,
];

/// An event that can take effect, by the last part of its type's URI.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// A session ended (CAEP).
    SessionRevoked,
    /// What a token says is no longer so (CAEP).
    TokenClaimsChange,
    /// A password, key or certificate was changed, revoked or deleted (CAEP). A new one changes nothing.
    CredentialChange,
    /// Somebody is known less surely than before (CAEP). More surely changes nothing.
    AssuranceLevelChange,
    /// A device no longer complies (CAEP). One that complies again changes nothing.
    DeviceComplianceChange,
    /// The risk is `HIGH` (CAEP). Other levels change nothing.
    RiskLevelChange,
    /// An account was disabled (RISC).
    AccountDisabled,
    /// An account was deleted (RISC).
    AccountPurged,
    /// An account that was disabled is enabled again (RISC).
    AccountEnabled,
    /// An account must change its password or another credential (RISC).
    AccountCredentialChangeRequired,
    /// A credential of an account fell into other hands (RISC).
    CredentialCompromise,
    /// An address or telephone number has changed (RISC). Ignored unless the settings say otherwise.
    IdentifierChanged,
    /// An address or telephone number is somebody else's now (RISC).
    IdentifierRecycled,
    /// An account is being won back (RISC). Ignored unless the settings say otherwise.
    RecoveryActivated,
    /// How an account could be won back has changed (RISC). Ignored unless the settings say otherwise.
    RecoveryInformationChanged,
    /// All sessions of an account ended (RISC, deprecated).
    SessionsRevoked,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::SessionRevoked,
        Self::TokenClaimsChange,
        Self::CredentialChange,
        Self::AssuranceLevelChange,
        Self::DeviceComplianceChange,
        Self::RiskLevelChange,
        Self::AccountDisabled,
        Self::AccountPurged,
        Self::AccountEnabled,
        Self::AccountCredentialChangeRequired,
        Self::CredentialCompromise,
        Self::IdentifierChanged,
        Self::IdentifierRecycled,
        Self::RecoveryActivated,
        Self::RecoveryInformationChanged,
        Self::SessionsRevoked,
    ];

    /// The last part of its type's URI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionRevoked => "session-revoked",
            Self::TokenClaimsChange => "token-claims-change",
            Self::CredentialChange => "credential-change",
            Self::AssuranceLevelChange => "assurance-level-change",
            Self::DeviceComplianceChange => "device-compliance-change",
            Self::RiskLevelChange => "risk-level-change",
            Self::AccountDisabled => "account-disabled",
            Self::AccountPurged => "account-purged",
            Self::AccountEnabled => "account-enabled",
            Self::AccountCredentialChangeRequired => "account-credential-change-required",
            Self::CredentialCompromise => "credential-compromise",
            Self::IdentifierChanged => "identifier-changed",
            Self::IdentifierRecycled => "identifier-recycled",
            Self::RecoveryActivated => "recovery-activated",
            Self::RecoveryInformationChanged => "recovery-information-changed",
            Self::SessionsRevoked => "sessions-revoked",
        }
    }

    fn base(self) -> &'static str {
        match self {
            Self::SessionRevoked
            | Self::TokenClaimsChange
            | Self::CredentialChange
            | Self::AssuranceLevelChange
            | Self::DeviceComplianceChange
            | Self::RiskLevelChange => CAEP,
            _ => RISC,
        }
    }

    /// What becomes of it where the settings do not say. Those that are ignored tell of what need not concern any token: an
    /// address that tokens may not name, or an account that is being won back.
    pub(super) fn usual(self) -> Action {
        match self {
            Self::IdentifierChanged
            | Self::RecoveryActivated
            | Self::RecoveryInformationChanged => Action::Ignore,
            _ => Action::Apply,
        }
    }

    /// What an event of this type asks for.
    pub(super) fn effect(self, event: &Map<String, Value>) -> Effect {
        let says =
            |member: &str, word: &str| event.get(member).and_then(Value::as_str) == Some(word);
        let revoke = |whom, since| Effect::Revoke(whom, since);
        match self {
            Self::CredentialChange if says("change_type", "create") => Effect::Nothing,
            Self::AssuranceLevelChange if says("change_direction", "increase") => Effect::Nothing,
            Self::DeviceComplianceChange if says("current_status", "compliant") => Effect::Nothing,
            Self::RiskLevelChange
                if says("current_level", "LOW") || says("current_level", "MEDIUM") =>
            {
                Effect::Nothing
            }
            Self::RiskLevelChange
                if says("principal", "SESSION") || says("principal", "DEVICE") =>
            {
                revoke(Whom::Session, Since::Told)
            }
            Self::SessionRevoked | Self::TokenClaimsChange | Self::AssuranceLevelChange => {
                revoke(Whom::Session, Since::Happened)
            }
            Self::DeviceComplianceChange => revoke(Whom::Session, Since::Told),
            Self::AccountDisabled | Self::AccountPurged => Effect::Disable,
            Self::AccountEnabled => Effect::Enable,
            Self::RiskLevelChange
            | Self::CredentialCompromise
            | Self::AccountCredentialChangeRequired => revoke(Whom::User, Since::Told),
            Self::CredentialChange
            | Self::SessionsRevoked
            | Self::IdentifierChanged
            | Self::IdentifierRecycled
            | Self::RecoveryActivated
            | Self::RecoveryInformationChanged => revoke(Whom::User, Since::Happened),
        }
    }
}

/// What an event asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: what it tells is good news.
    Nothing,
    /// That what was issued up to then is no longer trusted.
    Revoke(Whom, Since),
    /// That nothing of somebody's is trusted until they are enabled again.
    Disable,
    /// That somebody is trusted again whom this transmitter disabled.
    Enable,
}

/// Whom an event is about first, where its subject names several things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// The session, or else the user.
    Session,
    /// The user, or else the session.
    User,
}

/// Up to when trust is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// When it happened. What was issued after a change of passwords was issued to who knows the new one.
    Happened,
    /// When it was told: what was issued between the two deserves no more trust than what was issued before.
    Told,
}

/// What type an event is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EventType {
    /// One that can take effect.
    Signal(Signal),
    /// That the stream works.
    Verification,
    /// That the transmitter pauses the stream, ends it, or goes on with it.
    StreamUpdated,
    /// All others.
    Other,
}

impl EventType {
    /// The type of exactly this URI.
    pub(super) fn of(uri: &str) -> Self {
        let signal = |signal: &Signal| uri.strip_prefix(signal.base()) == Some(signal.as_str());
        if let Some(signal) = Signal::ALL.into_iter().find(signal) {
            return Self::Signal(signal);
        }
        match STREAM.iter().find_map(|base| uri.strip_prefix(base)) {
            Some("verification") => Self::Verification,
            Some("stream-updated") => Self::StreamUpdated,
            _ => Self::Other,
        }
    }

    /// As metrics write it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Signal(signal) => signal.as_str(),
            Self::Verification => "verification",
            Self::StreamUpdated => "stream-updated",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_exact_uri_is_a_type() {
        let of = |base: &str, name: &str| EventType::of(&format!("{base}{name}"));
        for signal in Signal::ALL {
            let (own, other) = if signal.base() == CAEP {
                (CAEP, RISC)
            } else {
                (RISC, CAEP)
            };
            assert_eq!(of(own, signal.as_str()), EventType::Signal(signal));
            assert_eq!(of(other, signal.as_str()), EventType::Other, "{signal:?}");
            let written = serde_json::to_value(signal).unwrap();
            assert_eq!(written, signal.as_str(), "settings and URIs have one name");
        }
        for base in STREAM {
            assert_eq!(of(base, "verification"), EventType::Verification);
            assert_eq!(of(base, "stream-updated"), EventType::StreamUpdated);
        }
        for (base, name) in [
            (CAEP, "session-revoked/"),
            (CAEP, "Session-Revoked"),
            (CAEP, "session-established"),
            (CAEP, "verification"),
            (RISC, "opt-out-effective"),
            (
                "http://schemas.openid.net/secevent/caep/event-type/",
                "session-revoked",
            ),
            ("", "session-revoked"),
        ] {
            assert_eq!(of(base, name), EventType::Other, "{base}{name}");
        }
    }

    #[test]
    fn what_gets_better_changes_nothing_and_all_else_does() {
        use Signal::{
            AssuranceLevelChange, CredentialChange, DeviceComplianceChange, RiskLevelChange,
        };
        for (signal, member, better, worse) in [
            (
                CredentialChange,
                "change_type",
                &["create"][..],
                &["revoke", "update", "delete"][..],
            ),
            (
                AssuranceLevelChange,
                "change_direction",
                &["increase"],
                &["decrease"],
            ),
            (
                DeviceComplianceChange,
                "current_status",
                &["compliant"],
                &["not-compliant"],
            ),
            (
                RiskLevelChange,
                "current_level",
                &["LOW", "MEDIUM"],
                &["HIGH"],
            ),
        ] {
            let effect = |value: Value| {
                let event = json!({ member: value });
                signal.effect(event.as_object().unwrap())
            };
            for word in better {
                assert_eq!(effect((*word).into()), Effect::Nothing, "{word}");
            }
            for word in worse {
                assert!(
                    matches!(effect((*word).into()), Effect::Revoke(..)),
                    "{word}"
                );
            }
            for strange in [
                json!(null),
                json!("Create"),
                json!(["LOW"]),
                json!(1),
                json!("low"),
            ] {
                assert!(matches!(effect(strange), Effect::Revoke(..)));
            }
            assert!(matches!(signal.effect(&Map::new()), Effect::Revoke(..)));
        }
    }

    #[test]
    fn each_type_says_whom_and_up_to_when() {
        let effect = |signal: Signal, event: Value| signal.effect(event.as_object().unwrap());
        let high = |principal: &str| json!({ "current_level": "HIGH", "principal": principal });
        for (signal, event, expected) in [
            (
                Signal::SessionRevoked,
                json!({}),
                (Whom::Session, Since::Happened),
            ),
            (
                Signal::CredentialChange,
                json!({}),
                (Whom::User, Since::Happened),
            ),
            (
                Signal::DeviceComplianceChange,
                json!({}),
                (Whom::Session, Since::Told),
            ),
            (
                Signal::RiskLevelChange,
                high("USER"),
                (Whom::User, Since::Told),
            ),
            (
                Signal::RiskLevelChange,
                high("SESSION"),
                (Whom::Session, Since::Told),
            ),
            (
                Signal::RiskLevelChange,
                high("TENANT"),
                (Whom::User, Since::Told),
            ),
            (
                Signal::CredentialCompromise,
                json!({}),
                (Whom::User, Since::Told),
            ),
            (
                Signal::SessionsRevoked,
                json!({}),
                (Whom::User, Since::Happened),
            ),
        ] {
            let (whom, since) = expected;
            assert_eq!(
                effect(signal, event),
                Effect::Revoke(whom, since),
                "{signal:?}"
            );
        }
        assert_eq!(effect(Signal::AccountPurged, json!({})), Effect::Disable);
        assert_eq!(effect(Signal::AccountEnabled, json!({})), Effect::Enable);
    }
}

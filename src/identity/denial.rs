//! Why a credential was not believed, and whether that may be remembered.

use std::sync::Arc;

use super::ground::Ground;
use super::revocation::Entry;
use super::status_list::{Standing, Status};
use super::token::Wrong;
use crate::model::{CredentialFault as Fault, Reason, Refusal};

/// Why a credential was not believed.
#[derive(Debug, Clone)]
pub(super) enum Denial {
    /// It is not valid, and this is why. `ground` is the key that judged it, where one did.
    Fault {
        fault: Fault,
        detail: &'static str,
        ground: Option<Arc<Ground>>,
    },
    /// It was good, and trust in it was taken back. Remembered only while that revocation holds.
    Revoked(Arc<Entry>),
    /// It is good, and its issuer's status list does not call it valid. Remembered only while the list says so.
    Status(Standing, Status),
    /// It could not be judged: the keys cannot be had. Never remembered, so the next request tries again.
    KeysUnavailable(&'static str),
    /// Too many like it were judged already. Never remembered.
    TooMany(&'static str),
    /// The time this request had ended first. Never remembered.
    TooLate(&'static str),
    /// It could not be judged: the server that can read it did not say. Never remembered either.
    IntrospectionUnavailable(&'static str),
    /// It could not be judged: its status list cannot be had. Never remembered either.
    StatusUnavailable(&'static str),
    /// Something that cannot happen did.
    Internal(&'static str),
}

impl Denial {
    /// A fault that a key found: it stands while the key does.
    pub(super) fn by_key(fault: Fault, detail: &'static str, ground: &Arc<Ground>) -> Self {
        Self::Fault {
            fault,
            detail,
            ground: Some(Arc::clone(ground)),
        }
    }

    /// A fault that the credential shows of itself.
    pub(super) fn fault(fault: Fault, detail: &'static str) -> Self {
        Self::Fault {
            fault,
            detail,
            ground: None,
        }
    }

    /// Whether the same credential can only fail again: nothing that time or new keys could heal is remembered.
    pub(super) fn lasts(&self) -> bool {
        let fault = match self {
            Self::Fault { fault, .. } => fault,
            Self::Revoked(_) | Self::Status(..) => return true,
            Self::KeysUnavailable(_)
            | Self::IntrospectionUnavailable(_)
            | Self::StatusUnavailable(_)
            | Self::TooMany(_)
            | Self::TooLate(_)
            | Self::Internal(_) => {
                return false;
            }
        };
        match fault {
            Fault::NotAToken
            | Fault::Header
            | Fault::Type
            | Fault::Algorithm
            | Fault::Issuer
            | Fault::Audience
            | Fault::Signature
            | Fault::Claims
            | Fault::Certificate
            | Fault::Unregistered
            | Fault::Revoked
            | Fault::Password => true,
            Fault::Malformed
            | Fault::Scheme
            | Fault::TooLong
            | Fault::UnknownKey
            | Fault::Expired
            | Fault::NotYetValid
            | Fault::Lifetime
            | Fault::Possession
            | Fault::Proof
            | Fault::Nonce
            | Fault::Misplaced

            // Whoever asked the server remembers that, for a time of its own.
            | Fault::Inactive => false,
        }
    }

    /// The refusal callers meet.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Fault { fault, detail, .. } => {
                Refusal::new(Reason::CredentialInvalid(*fault), *detail)
            }
            Self::Revoked(_) => Refusal::new(
                Reason::CredentialInvalid(Fault::Revoked),
                "the credential was revoked",
            ),
            Self::Status(_, status) => {
                Refusal::new(Reason::CredentialInvalid(status.fault()), status.detail())
            }
            Self::TooMany(detail) => Refusal::new(Reason::TooManyRequests, *detail),
            Self::TooLate(detail) => Refusal::new(Reason::DeadlineTooNear, *detail),
            Self::KeysUnavailable(detail) => Refusal::new(Reason::KeysUnavailable, *detail),
            Self::IntrospectionUnavailable(detail) => {
                Refusal::new(Reason::IntrospectionUnavailable, *detail)
            }
            Self::StatusUnavailable(detail) => Refusal::new(Reason::StatusUnavailable, *detail),
            Self::Internal(detail) => Refusal::new(Reason::Internal, *detail),
        }
    }
}

impl From<Wrong> for Denial {
    fn from(Wrong(fault, detail): Wrong) -> Self {
        Self::Fault {
            fault,
            detail,
            ground: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c8_what_time_or_new_keys_could_heal_is_not_remembered() {
        for fault in [
            Fault::UnknownKey,
            Fault::Expired,
            Fault::NotYetValid,
            Fault::Lifetime,
        ] {
            assert!(!Denial::from(Wrong(fault, "")).lasts(), "{fault:?}");
        }
        assert!(!Denial::KeysUnavailable("").lasts());
        assert!(!Denial::IntrospectionUnavailable("").lasts());
        assert!(!Denial::StatusUnavailable("").lasts());
        assert!(!Denial::Internal("").lasts());
        assert!(!Denial::TooMany("").lasts());
        assert!(!Denial::TooLate("").lasts());
        assert!(Denial::from(Wrong(Fault::Signature, "")).lasts());
    }
}

//! The words that spans, metrics and logs share for the same thing.

use crate::model::{Decision, Outcome, PrincipalKind, Reason};

/// The kind of a caller without a credential.
pub(super) const ANONYMOUS: &str = "anonymous";

/// The word for a kind of principal.
pub(super) fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Client => "client",
        PrincipalKind::Workload => "workload",
        PrincipalKind::Agent => "agent",
    }
}

/// The reason's code where Cardea itself could not do its work. A refusal that policies or contracts ask for is no
/// error: a span that calls it one would make every dashboard of errors count doors that held.
pub(super) fn own_trouble(decision: &Decision) -> Option<&'static str> {
    let Outcome::Refused(refusal) = &decision.outcome else {
        return None;
    };
    let trouble = match &refusal.reason {
        Reason::PolicyError
        | Reason::NotReady
        | Reason::DeadlineTooNear
        | Reason::KeysUnavailable
        | Reason::IntrospectionUnavailable
        | Reason::MintFailed
        | Reason::StatusUnavailable
        | Reason::Internal => true,
        Reason::AmbiguousPath(_)
        | Reason::AmbiguousQuery(_)
        | Reason::AmbiguousHost(_)
        | Reason::AmbiguousCredential
        | Reason::RepeatedParameter
        | Reason::UnknownMethod
        | Reason::MalformedRequest
        | Reason::CredentialMissing
        | Reason::CredentialInvalid(_)
        | Reason::StepUpRequired(_)
        | Reason::NotPermitted
        | Reason::Forbidden
        | Reason::NotFound
        | Reason::ContractViolated
        | Reason::Retired
        | Reason::TooManyRequests
        | Reason::Quarantined
        | Reason::ApprovalRequired => false,
    };
    trouble.then(|| refusal.reason.code())
}

//! Why a request was refused: one closed list.

use std::borrow::Cow;

use super::{HostError, PathError, QueryError};

/// Why a request was refused. Closed: whoever adds a reason decides its answer, its code and its label too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The path could be read in two ways.
    AmbiguousPath(PathError),
    /// The query could be read in two ways.
    AmbiguousQuery(QueryError),
    /// The host could be read in two ways.
    AmbiguousHost(HostError),
    /// Several credentials, or one in several places.
    AmbiguousCredential,
    /// A parameter that is expected once was given twice.
    RepeatedParameter,
    /// The method has no standard meaning here.
    UnknownMethod,
    /// Envoy's message is no HTTP request, or breaks a limit.
    MalformedRequest,
    /// No credential, and no policy permits this to everybody.
    CredentialMissing,
    /// A credential was presented and is not valid.
    CredentialInvalid(CredentialFault),
    /// A fresher or stronger login would be enough (RFC 9470).
    StepUpRequired(StepUp),
    /// No policy permits it.
    NotPermitted,
    /// A policy forbids it.
    Forbidden,
    /// A policy that may forbid it could not be evaluated.
    PolicyError,
    /// A policy answers as if it did not exist.
    NotFound,
    /// The request breaks the API's contract.
    ContractViolated,
    /// The API is no longer in service.
    Retired,
    /// Too much, too fast.
    TooManyRequests,
    /// The caller is set apart for a while.
    Quarantined,
    /// A person has to approve it first.
    ApprovalRequired,
    /// No policies, or no keys of a required issuer, are loaded yet.
    NotReady,
    /// There was not enough time left to decide.
    DeadlineTooNear,
    /// The issuer's keys cannot be had right now.
    KeysUnavailable,
    /// The server that can read the token cannot be asked right now.
    IntrospectionUnavailable,
    /// Policies permit it, and the token that its upstream relies on cannot be made.
    MintFailed,
    /// The list that tells the token's status cannot be had right now.
    StatusUnavailable,
    /// Cardea itself is in trouble.
    Internal,
}

impl Reason {
    /// The stable public code: in the problem document, the metadata, metrics, traces and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::AmbiguousPath(_) => "ambiguous_path",
            Self::AmbiguousQuery(_) => "ambiguous_query",
            Self::AmbiguousHost(_) => "ambiguous_host",
            Self::AmbiguousCredential => "ambiguous_credential",
            Self::RepeatedParameter => "repeated_parameter",
            Self::UnknownMethod => "unknown_method",
            Self::MalformedRequest => "malformed_request",
            Self::CredentialMissing => "credential_missing",
            Self::CredentialInvalid(_) => "credential_invalid",
            Self::StepUpRequired(_) => "step_up_required",
            Self::NotPermitted => "not_permitted",
            Self::Forbidden => "forbidden",
            Self::PolicyError => "policy_error",
            Self::NotFound => "not_found",
            Self::ContractViolated => "contract_violated",
            Self::Retired => "retired",
            Self::TooManyRequests => "too_many_requests",
            Self::Quarantined => "quarantined",
            Self::ApprovalRequired => "approval_required",
            Self::NotReady => "not_ready",
            Self::DeadlineTooNear => "deadline_too_near",
            Self::KeysUnavailable => "keys_unavailable",
            Self::IntrospectionUnavailable => "introspection_unavailable",
            Self::MintFailed => "mint_failed",
            Self::StatusUnavailable => "status_unavailable",
            Self::Internal => "internal",
        }
    }
}

/// What was wrong with a credential. For logs, metrics and spans; a caller only hears that it is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialFault {
    /// The `Authorization` value is not `Bearer`, one space, one token.
    Malformed,
    /// An authentication scheme that is not accepted.
    Scheme,
    /// Longer than a token may be.
    TooLong,
    /// Not a compact JWS of three parts with strict base64url, or not one JSON object in each.
    NotAToken,
    /// A header that is not accepted: `crit`, `jku`, `jwk`, `x5u`, `x5c`, `zip`, `b64`.
    Header,
    /// `typ` says it is no access token.
    Type,
    /// `alg` is `none`, symmetric, not configured, or not the key's.
    Algorithm,
    /// `iss` is absent, no string, or not configured.
    Issuer,
    /// `aud` does not name this API.
    Audience,
    /// The issuer has no such key.
    UnknownKey,
    /// The signature does not match.
    Signature,
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` lies ahead.
    NotYetValid,
    /// A time claim is absent or no integer, or the token lives longer than allowed.
    Lifetime,
    /// `sub` or another required claim is absent or of the wrong type.
    Claims,
    /// The token is bound to a key, and the sender did not prove to have it.
    Possession,
    /// The proof of that key (`DPoP`, RFC 9449) is missing, not valid, or was used before.
    Proof,
    /// The proof of that key lacks a nonce of ours that is still good.
    Nonce,
    /// It stands where credentials are not read: in the query, or a password on a connection without TLS.
    Misplaced,
    /// There is no such API key.
    Unregistered,
    /// There is no such user, or it is another password.
    Password,
    /// The client certificate cannot be read, is none of a client, or has no single name.
    Certificate,
    /// The credential was revoked before its time.
    Revoked,
    /// The server that gave the token out says that it is not, or no longer, good.
    Inactive,
}

impl CredentialFault {
    /// The label in logs, metrics and spans.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Scheme => "scheme",
            Self::TooLong => "too_long",
            Self::NotAToken => "not_a_token",
            Self::Header => "header",
            Self::Type => "type",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Lifetime => "lifetime",
            Self::Claims => "claims",
            Self::Possession => "possession",
            Self::Proof => "proof",
            Self::Nonce => "nonce",
            Self::Misplaced => "misplaced",
            Self::Unregistered => "unregistered",
            Self::Password => "password",
            Self::Certificate => "certificate",
            Self::Revoked => "revoked",
            Self::Inactive => "inactive",
        }
    }
}

/// The login that would be enough (RFC 9470, section 3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepUp {
    /// Authentication context classes, any of which serves.
    pub acr_values: Vec<String>,
    /// How old the login may be, in seconds.
    pub max_age: Option<u32>,
}

/// How much a decision matters (`@severity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the words policies use")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// The severity of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str() == name)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A refusal: the reason callers may know, and a sentence for operators only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What callers, metrics and records see.
    pub reason: Reason,
    /// What operators see. It never holds a credential or a caller's data.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a sentence for operators.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        Self::new(Reason::AmbiguousPath(error), error.to_string())
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        Self::new(Reason::AmbiguousQuery(error), error.to_string())
    }
}

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        Self::new(Reason::AmbiguousHost(error), error.to_string())
    }
}

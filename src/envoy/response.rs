//! How Envoy hears a decision: [`Decision`] becomes [`Answer`].
//!
//! This is the only file (with its folder) that knows HTTP status codes. Envoy reads `status.code` and nothing else to
//! tell ALLOW from denial, and takes an absent status for ALLOW. So an [`Answer`] is built by one of two constructors,
//! one of which asks for a [`Permit`] and the other for a code that cannot be zero, and cannot be changed afterwards.

mod denial;
mod grpc;
mod metadata;
mod settings;
mod upstream;

pub use settings::{AnswerSettings, Answers, Credential, IdentityHeaders, OwnTrouble};

use crate::model::{Decision, Outcome, Permit, Reason, every_byte};

use super::proto::auth::check_response::HttpResponse;
use super::proto::auth::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use super::proto::core::HeaderValueOption;
use super::proto::core::header_value_option::HeaderAppendAction;
use super::proto::types::{HttpStatus, StatusCode};
use super::proto::{core, rpc};

/// What Envoy is told. There is no empty one.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    wire: CheckResponse,
}

impl Answer {
    /// Lets the request pass. Needs the proof that policies permit it.
    fn allow(_proof: &Permit, ok: OkHttpResponse, metadata: prost_types::Struct) -> Self {
        let status = rpc::Status {
            code: 0,
            message: String::new(),
            details: Vec::new(),
        };
        Self {
            wire: CheckResponse {
                status: Some(status),
                dynamic_metadata: Some(metadata),
                http_response: Some(HttpResponse::OkResponse(ok)),
            },
        }
    }

    /// Refuses the request. `Grpc` has no zero.
    fn deny(code: Grpc, response: HttpResponse, metadata: prost_types::Struct) -> Self {
        let status = rpc::Status {
            code: code as i32,
            message: String::new(),
            details: Vec::new(),
        };
        Self {
            wire: CheckResponse {
                status: Some(status),
                dynamic_metadata: Some(metadata),
                http_response: Some(response),
            },
        }
    }

    /// The message as it goes over the wire.
    #[must_use]
    pub fn wire(&self) -> &CheckResponse {
        &self.wire
    }
}

/// Puts a decision into Envoy's words.
#[must_use]
pub fn answer(decision: &Decision, answers: &Answers) -> Answer {
    let metadata = metadata::of(decision);
    match &decision.outcome {
        // Whoever asks is told nothing of what would have been: it is for operators.
        Outcome::Allowed(permit) | Outcome::Observed(permit, _) => {
            Answer::allow(permit, upstream::changes(decision, answers), metadata)
        }
        Outcome::Refused(refusal) => {
            let (http, grpc) = status(&refusal.reason);
            let denied = DeniedHttpResponse {
                status: Some(HttpStatus { code: http as i32 }),
                headers: denial::headers(decision, &refusal.reason, answers),
                body: denial::body(decision, &refusal.reason),
            };
            // Without the token that its upstream relies on nothing passes, however Envoy takes other trouble.
            let errs = http == Http::Unavailable
                && answers.own_trouble == OwnTrouble::EnvoyError
                && refusal.reason != Reason::MintFailed;
            let response = if errs {
                HttpResponse::ErrorResponse(denied)
            } else {
                HttpResponse::DeniedResponse(denied)
            };
            Answer::deny(grpc, response, metadata)
        }
    }
}

/// The HTTP status a caller meets: 200 where the request may pass, whatever the upstream then says.
#[must_use]
pub fn http_status(decision: &Decision) -> u16 {
    match &decision.outcome {
        Outcome::Allowed(_) | Outcome::Observed(..) => 200,
        Outcome::Refused(refusal) => status(&refusal.reason).0 as u16,
    }
}

/// The gRPC status a caller that speaks gRPC meets: 0 where the request may pass, whatever the upstream then says.
#[must_use]
pub fn grpc_status(decision: &Decision) -> i32 {
    match &decision.outcome {
        Outcome::Allowed(_) | Outcome::Observed(..) => 0,
        Outcome::Refused(refusal) => status(&refusal.reason).1 as i32,
    }
}

/// The HTTP statuses of refusals: none of them is a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Http {
    BadRequest = StatusCode::BadRequest as isize,
    Unauthorized = StatusCode::Unauthorized as isize,
    Forbidden = StatusCode::Forbidden as isize,
    NotFound = StatusCode::NotFound as isize,
    Gone = StatusCode::Gone as isize,
    TooManyRequests = StatusCode::TooManyRequests as isize,
    Unavailable = StatusCode::ServiceUnavailable as isize,
}

impl Http {
    /// The phrase of RFC 9110, section 15 (RFC 6585 for 429).
    fn phrase(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::Gone => "Gone",
            Self::TooManyRequests => "Too Many Requests",
            Self::Unavailable => "Service Unavailable",
        }
    }
}

/// The gRPC codes of refusals: none of them is OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grpc {
    InvalidArgument = 3,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// The status of one reason, for HTTP and for gRPC: the whole table.
fn status(reason: &Reason) -> (Http, Grpc) {
    match reason {
        Reason::AmbiguousPath(_)
        | Reason::AmbiguousQuery(_)
        | Reason::AmbiguousHost(_)
        | Reason::AmbiguousCredential
        | Reason::RepeatedParameter
        | Reason::UnknownMethod
        | Reason::MalformedRequest
        | Reason::ContractViolated => (Http::BadRequest, Grpc::InvalidArgument),
        Reason::CredentialMissing | Reason::CredentialInvalid(_) | Reason::StepUpRequired(_) => {
            (Http::Unauthorized, Grpc::Unauthenticated)
        }
        Reason::NotPermitted
        | Reason::Forbidden
        | Reason::PolicyError
        | Reason::Quarantined
        | Reason::ApprovalRequired => (Http::Forbidden, Grpc::PermissionDenied),
        Reason::NotFound => (Http::NotFound, Grpc::NotFound),
        Reason::Retired => (Http::Gone, Grpc::NotFound),
        Reason::TooManyRequests => (Http::TooManyRequests, Grpc::ResourceExhausted),
        Reason::NotReady
        | Reason::DeadlineTooNear
        | Reason::KeysUnavailable
        | Reason::IntrospectionUnavailable
        | Reason::MintFailed
        | Reason::StatusUnavailable
        | Reason::Internal => (Http::Unavailable, Grpc::Unavailable),
    }
}

/// A header to set. The one place where a header leaves: `None` for a value that holds anything but visible ASCII and
/// single spaces within, so that CR, LF or NUL can never be emitted (Envoy passes them on to HTTP/1.1 clients).
fn header(name: &str, value: String) -> Option<HeaderValueOption> {
    let visible = |b: u8| (0x20..0x7f).contains(&b);
    if !every_byte(value.as_bytes(), visible) || value.starts_with(' ') || value.ends_with(' ') {
        return None;
    }
    Some(HeaderValueOption {
        header: Some(core::HeaderValue {
            key: name.to_owned(),
            value,
            raw_value: Vec::new(),
        }),
        // Envoy 1.40 ignores this where it matters and overwrites; a version that heeds it must not append.
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
    })
}

#[cfg(test)]
mod tests;

//! What a caller hears with a refusal: never anything it said itself.

use std::fmt::Write as _;

use serde_json::json;

use crate::model::{Challenge, CredentialFault, Decision, Reason, StepUp};

use super::super::proto::core::HeaderValueOption;
use super::settings::{Answers, whole_seconds};
use super::{Http, header, status};

/// Longest list of `acr_values` that is passed on.
const MAX_ACR_VALUES: usize = 512;

/// Headers of a refusal.
pub(super) fn headers(
    decision: &Decision,
    reason: &Reason,
    answers: &Answers,
) -> Vec<HeaderValueOption> {
    let (_, grpc) = status(reason);
    let mut headers = vec![header("cache-control", "no-store".to_owned())];
    if decision.trail.arrival.grpc {
        // Envoy turns a denial of a gRPC call into a gRPC status by its HTTP status, and knows fewer codes than gRPC
        // has. A status that is given stays.
        headers.push(header("grpc-status", (grpc as i32).to_string()));
        headers.push(header(
            "grpc-status-details-bin",
            super::grpc::details(decision, reason),
        ));
    } else {
        headers.push(header(
            "content-type",
            "application/problem+json".to_owned(),
        ));
    }
    if let Some(challenge) = challenge(reason, &decision.trail.challenges, &answers.realm) {
        headers.push(header("www-authenticate", challenge));
    }
    if let Some(nonce) = &decision.trail.proof_nonce {
        headers.push(header("dpop-nonce", nonce.clone()));
    }
    if let Some(seconds) = retry_after(decision, reason, answers) {
        headers.push(header("retry-after", seconds.to_string()));
    }
    headers.into_iter().flatten().collect()
}

/// After how many seconds it is worth asking again, where somebody says so: the settings, or for a caller that is set apart
/// the policy.
fn retry_after(decision: &Decision, reason: &Reason, answers: &Answers) -> Option<u64> {
    match (reason, status(reason).0) {
        (Reason::Quarantined, _) => decision.trail.notes.set_apart.map(whole_seconds),
        (_, Http::TooManyRequests | Http::Unavailable) => Some(answers.retry_after),
        _ => None,
    }
}

/// `WWW-Authenticate`: each way in which callers of this operation may prove who they are (RFC 9110, section 11.6.1), or
/// a bearer token where none is known. `realm` holds no quote and no backslash.
fn challenge(reason: &Reason, known: &[Challenge], realm: &str) -> Option<String> {
    // A fresher login is a matter of tokens, whatever came this time.
    let known = match (known, reason) {
        ([], _) | (_, Reason::StepUpRequired(_)) => &[Challenge::Bearer],
        (known, _) => known,
    };
    let each = known.iter().map(|challenge| match challenge {
        Challenge::Bearer => bearer(reason, realm),
        Challenge::Dpop { algorithms } => dpop(reason, realm, algorithms),
        // No standard names this scheme; its parameters are OpenAPI's words for such a key.
        Challenge::ApiKey { header } => with_realm(reason, "ApiKey", realm)
            .map(|text| format!("{text}, in=\"header\", name=\"{header}\"")),
        // RFC 7617, section 2.1.
        Challenge::Basic => {
            with_realm(reason, "Basic", realm).map(|text| format!("{text}, charset=\"UTF-8\""))
        }
    });
    let each: Option<Vec<String>> = each.collect();
    each.map(|each| each.join(", "))
}

/// A challenge that says where, where one is due.
fn with_realm(reason: &Reason, scheme: &str, realm: &str) -> Option<String> {
    let due = matches!(
        reason,
        Reason::CredentialMissing | Reason::CredentialInvalid(_) | Reason::AmbiguousCredential
    );
    due.then(|| format!("{scheme} realm=\"{realm}\""))
}

/// RFC 6750, section 3; RFC 9470, section 3.
fn bearer(reason: &Reason, realm: &str) -> Option<String> {
    let mut text = format!("Bearer realm=\"{realm}\"");
    match reason {
        // RFC 6750, section 3.1: without a credential, no error code either.
        // Nor where something else than a token was wrong.
        Reason::CredentialMissing
        | Reason::CredentialInvalid(
            CredentialFault::Misplaced
            | CredentialFault::Unregistered
            | CredentialFault::Password
            | CredentialFault::Proof
            | CredentialFault::Nonce,
        ) => {}
        Reason::CredentialInvalid(_) => text.push_str(", error=\"invalid_token\""),
        Reason::AmbiguousCredential => text.push_str(", error=\"invalid_request\""),
        Reason::StepUpRequired(step_up) => add_step_up(&mut text, step_up),
        _ => return None,
    }
    Some(text)
}

/// RFC 9449, section 7.1: what a bearer token's sender hears, and what of the proof is amiss.
fn dpop(reason: &Reason, realm: &str, algorithms: &str) -> Option<String> {
    let mut text = with_realm(reason, "DPoP", realm)?;
    let error = match reason {
        Reason::CredentialInvalid(CredentialFault::Proof) => Some("invalid_dpop_proof"),
        Reason::CredentialInvalid(CredentialFault::Nonce) => Some("use_dpop_nonce"),
        Reason::CredentialInvalid(
            CredentialFault::Misplaced | CredentialFault::Unregistered | CredentialFault::Password,
        ) => None,
        Reason::CredentialInvalid(_) => Some("invalid_token"),
        Reason::AmbiguousCredential => Some("invalid_request"),
        _ => None,
    };
    if let Some(error) = error {
        let _ = write!(text, ", error=\"{error}\"");
    }
    let _ = write!(text, ", algs=\"{algorithms}\"");
    Some(text)
}

fn add_step_up(text: &mut String, step_up: &StepUp) {
    text.push_str(", error=\"insufficient_user_authentication\"");
    if let Some(values) = acr_values(step_up) {
        text.push_str(", acr_values=\"");
        text.push_str(&values);
        text.push('"');
    }
    if let Some(max_age) = step_up.max_age {
        // Writing to a string cannot fail.
        let _ = write!(text, ", max_age=\"{max_age}\"");
    }
}

/// The classes, any of which serves, as RFC 9470 writes them: separated by spaces. `None` where there are none, or more
/// than are passed on.
pub(super) fn acr_values(step_up: &StepUp) -> Option<String> {
    let values: Vec<&str> = step_up
        .acr_values
        .iter()
        .map(String::as_str)
        .filter(|value| is_acr_value(value))
        .collect();
    Some(values.join(" ")).filter(|values| !values.is_empty() && values.len() <= MAX_ACR_VALUES)
}

/// A value that can stand in a quoted, space-separated list.
fn is_acr_value(value: &str) -> bool {
    !value.is_empty()
        && value
            .bytes()
            .all(|b| (0x21..0x7f).contains(&b) && b != b'"' && b != b'\\')
}

/// A problem document (RFC 9457), or for gRPC callers the text that becomes `grpc-message`.
pub(super) fn body(decision: &Decision, reason: &Reason) -> String {
    let (http, _) = status(reason);
    let id = decision.trail.id;
    let code = reason.code();
    // What a policy's author has to say outranks the general sentence.
    let detail = decision
        .trail
        .notes
        .said
        .as_deref()
        .unwrap_or(sentence(reason));
    if decision.trail.arrival.grpc {
        return format!("{detail} ({code}, decision {id})");
    }
    json!({
        "type": "about:blank",
        "title": http.phrase(),
        "status": http as i32,
        "detail": detail,
        "reason": code,
        "decision": id.to_string(),
    })
    .to_string()
}

/// The same sentence for every caller.
fn sentence(reason: &Reason) -> &'static str {
    match reason {
        Reason::AmbiguousPath(_) => "the path can be read in two ways",
        Reason::AmbiguousQuery(_) => "the query can be read in two ways",
        Reason::AmbiguousHost(_) => "the host can be read in two ways",
        Reason::AmbiguousCredential => "more than one credential was presented",
        Reason::RepeatedParameter => "a parameter is given more than once",
        Reason::UnknownMethod => "the method is not known here",
        Reason::MalformedRequest => "the request is malformed or too large",
        Reason::ContractViolated => "the request breaks the API's contract",
        Reason::CredentialMissing => "a credential is needed",
        Reason::CredentialInvalid(CredentialFault::Misplaced) => {
            "credentials are not read from the query, nor passwords from plain http"
        }
        Reason::CredentialInvalid(_) => "the credential is not valid",
        Reason::StepUpRequired(_) => "a fresher or stronger login is needed",
        Reason::NotPermitted => "no policy permits this request",
        Reason::Forbidden => "a policy forbids this request",
        Reason::PolicyError => "a policy could not be evaluated",
        Reason::Quarantined => "the caller is set apart for a while",
        Reason::ApprovalRequired => "a person has to approve this first",
        Reason::NotFound => "there is nothing here",
        Reason::Retired => "this API is no longer in service",
        Reason::TooManyRequests => "too many requests",
        Reason::NotReady
        | Reason::DeadlineTooNear
        | Reason::KeysUnavailable
        | Reason::IntrospectionUnavailable
        | Reason::MintFailed
        | Reason::StatusUnavailable
        | Reason::Internal => "no decision can be made right now",
    }
}

//! What a program that speaks gRPC hears of its denial: `grpc-status-details-bin`, gRPC's own place for it.
//!
//! HTTP callers have a problem document. A gRPC response of a denial has no content, so its details travel as metadata, in
//! the richer error model that gRPC libraries read (a `google.rpc.Status` that holds a `google.rpc.ErrorInfo`). A login
//! that would be enough stands there in the words of RFC 9470, as it does in `www-authenticate` beside it.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost::Message;
use prost_types::Any;

use crate::model::{Decision, Reason};

use super::super::proto::rpc;
use super::denial::{acr_values, body};
use super::status;

/// Who gives such reasons.
const DOMAIN: &str = "cardea";
/// The type of what the details hold.
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// The value of `grpc-status-details-bin`: base64 without padding (gRPC over HTTP/2, "Custom-Metadata").
pub(super) fn details(decision: &Decision, reason: &Reason) -> String {
    let info = rpc::ErrorInfo {
        reason: reason.code().to_ascii_uppercase(),
        domain: DOMAIN.to_owned(),
        metadata: metadata(decision, reason),
    };
    let (_, code) = status(reason);
    let whole = rpc::Status {
        code: code as i32,
        message: body(decision, reason),
        details: vec![Any {
            type_url: ERROR_INFO.to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    STANDARD_NO_PAD.encode(whole.encode_to_vec())
}

fn metadata(decision: &Decision, reason: &Reason) -> HashMap<String, String> {
    let mut members = HashMap::from([("decision".to_owned(), decision.trail.id.to_string())]);
    if let Reason::StepUpRequired(step_up) = reason {
        let classes = acr_values(step_up).map(|classes| ("acr_values", classes));
        let age = step_up.max_age.map(|age| ("max_age", age.to_string()));
        let login = classes.into_iter().chain(age);
        members.extend(login.map(|(name, value)| (name.to_owned(), value)));
    }
    members
}

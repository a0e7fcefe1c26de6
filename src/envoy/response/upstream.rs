//! What changes in a request that passes: who asks is told, and what others claimed about it is removed.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::model::{Caller, Decision, PrincipalKind};

use super::super::proto::auth::OkHttpResponse;
use super::header;
use super::settings::{Answers, Credential, OWN_PREFIX, Tells, folded};

/// Longest value of one identity header. With eight of them an answer stays below 16 KiB, far from Envoy's limits of
/// 60 KiB and 100 headers, beyond which it answers 500 itself. A longer value is left out, never cut: half a name may
/// be somebody else's.
const MAX_VALUE_BYTES: usize = 2000;

/// What is percent-encoded beside every byte that is no visible ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',');

/// Headers to set and to remove on an allowed request.
pub(super) fn changes(decision: &Decision, answers: &Answers) -> OkHttpResponse {
    let mut headers = Vec::with_capacity(answers.set.len());
    let mut set = BTreeSet::new();
    for (tells, name) in &answers.set {
        let value = value(*tells, decision).filter(|value| value.len() <= MAX_VALUE_BYTES);
        if let Some(field) = value.and_then(|value| header(name, value)) {
            headers.push(field);
            set.insert(name.as_str());
        }
    }
    OkHttpResponse {
        headers,
        headers_to_remove: removals(decision, answers, &set),
        response_headers_to_add: Vec::new(),
    }
}

/// Every name of ours that is not set, and every look-alike the client sent. Envoy removes after it sets, so a name
/// that is set must not be here: setting overwrites the client's copy.
fn removals(decision: &Decision, answers: &Answers, set: &BTreeSet<&str>) -> Vec<String> {
    let mut removed: BTreeSet<&str> = answers.owned.iter().map(String::as_str).collect();
    if let Some(request) = &decision.trail.request {
        removed.extend(
            request
                .headers
                .names()
                .filter(|name| is_owned(name, answers)),
        );
    }
    if answers.credential == Credential::Remove {
        removed.insert("authorization");
    }
    removed
        .into_iter()
        .filter(|name| !set.contains(name))
        .map(str::to_owned)
        .collect()
}

/// Whether a name is ours, or one that a careless upstream takes for it (`x_cardea_subject`).
fn is_owned(name: &str, answers: &Answers) -> bool {
    let folded = folded(name);
    folded.starts_with(OWN_PREFIX) || answers.owned.contains(&folded)
}

fn value(tells: Tells, decision: &Decision) -> Option<String> {
    let identity = decision.trail.caller.as_ref().and_then(Caller::attributes);
    match tells {
        Tells::Decision => Some(decision.trail.id.to_string()),
        Tells::Principal => Some(
            identity
                .map_or("Anonymous", |identity| kind(identity.kind))
                .to_owned(),
        ),
        Tells::Subject => Some(encoded(&identity?.subject)),
        Tells::Issuer => Some(encoded(&identity?.issuer)),
        Tells::Client => Some(encoded(identity?.client_id.as_ref()?)),
        Tells::Tenant => Some(encoded(identity?.tenant.as_ref()?)),
        Tells::Roles => joined(&identity?.roles),
        Tells::Scopes => joined(&identity?.scopes),
    }
}

/// The Cedar entity type of a caller.
pub(super) fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "User",
        PrincipalKind::Client => "Client",
        PrincipalKind::Workload => "Workload",
        PrincipalKind::Agent => "Agent",
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

fn joined(items: &[String]) -> Option<String> {
    let items: Vec<String> = items.iter().map(|item| encoded(item)).collect();
    Some(items.join(",")).filter(|list| !list.is_empty())
}

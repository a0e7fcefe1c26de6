//! What changes in a request that passes: who asks is told, and what others claimed about it is removed.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::model::{Caller, Challenge, Decision, PrincipalKind, every_byte};

use super::super::proto::auth::OkHttpResponse;
use super::header;
use super::settings::{Answers, Credential, OWN_PREFIX, Tells};

/// Longest value of one identity header. With eight of them, and a token of 6 KiB, an answer stays below 22 KiB, far from
/// Envoy's limits of 60 KiB and 100 headers, beyond which it answers 500 itself. A longer value is left out, never cut:
/// half a name may be somebody else's.
const MAX_VALUE_BYTES: usize = 2000;

/// What is percent-encoded beside every byte that is no visible ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',');

/// Headers to set and to remove on an allowed request.
pub(super) fn changes(decision: &Decision, answers: &Answers) -> OkHttpResponse {
    let mut headers = Vec::with_capacity(answers.set.len());
    let mut set = Vec::with_capacity(answers.set.len());
    for (tells, name) in &answers.set {
        let value = value(*tells, decision).filter(|value| value.len() <= MAX_VALUE_BYTES);
        if let Some(field) = value.and_then(|value| header(name, value)) {
            headers.push(field);
            set.push(name.as_str());
        }
    }
    if let (Some(name), Some(minted)) = (&answers.minted, &decision.trail.minted) {
        let token = minted.expose();
        let value = match name.as_str() {
            "authorization" => format!("Bearer {token}"),
            _ => token.to_owned(),
        };
        if let Some(field) = header(name, value) {
            headers.push(field);
            set.push(name.as_str());
        }
    }
    // RFC 9449, section 8.2: the sender's nonce will not do for much longer.
    let nonce = decision.trail.proof_nonce.clone();
    let nonce = nonce.and_then(|nonce| header("dpop-nonce", nonce));
    OkHttpResponse {
        headers,
        headers_to_remove: removals(decision, answers, &set),
        response_headers_to_add: nonce.into_iter().collect(),
    }
}

/// Every name of ours that is not set, and every look-alike the client sent. Envoy removes after it sets, so a name
/// that is set must not be here: setting overwrites the client's copy.
fn removals(decision: &Decision, answers: &Answers, set: &[&str]) -> Vec<String> {
    let ours = answers.owned.iter().map(String::as_str);
    let mut removed: Vec<&str> = ours.filter(|name| !set.contains(name)).collect();
    let known = removed.len();
    if let Some(request) = &decision.trail.request {
        let sent = request.headers.names();
        removed.extend(sent.filter(|name| is_owned(name, answers) && !set.contains(name)));
    }
    if answers.credential == Credential::Remove {
        removed.push("authorization");
        removed.extend(
            decision
                .trail
                .challenges
                .iter()
                .filter_map(|way| match way {
                    Challenge::ApiKey { header } => Some(&**header),
                    Challenge::Dpop { .. } => Some("dpop"),
                    Challenge::Bearer | Challenge::Basic => None,
                }),
        );
        // What was minted may stand in the credential's place.
        removed.retain(|name| !set.contains(name));
    }
    if removed.len() > known {
        removed.sort_unstable();
        removed.dedup();
    }
    removed.into_iter().map(str::to_owned).collect()
}

/// Whether a name is ours, or one that a careless upstream takes for it (`x_cardea_subject`).
fn is_owned(name: &str, answers: &Answers) -> bool {
    let is = |own: &String| own.len() == name.len() && starts_folded(name, own);
    starts_folded(name, OWN_PREFIX) || answers.owned.iter().any(is)
}

/// Whether a name begins with this, both as [`super::settings::folded`] compares them.
fn starts_folded(name: &str, beginning: &str) -> bool {
    let fold = |b: u8| {
        if b == b'_' {
            b'-'
        } else {
            b.to_ascii_lowercase()
        }
    };
    name.len() >= beginning.len()
        && name
            .bytes()
            .zip(beginning.bytes())
            .all(|(b, own)| fold(b) == own)
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
        Tells::Subject => Some(encoded(&identity?.subject).into_owned()),
        Tells::Issuer => Some(encoded(&identity?.issuer).into_owned()),
        Tells::Client => Some(encoded(identity?.client_id.as_ref()?).into_owned()),
        Tells::Tenant => Some(encoded(identity?.tenant.as_ref()?).into_owned()),
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

fn encoded(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| (b > 0x20) & (b < 0x7f) & (b != b'%') & (b != b',');
    if every_byte(text.as_bytes(), plain) {
        Cow::Borrowed(text)
    } else {
        utf8_percent_encode(text, ENCODED).into()
    }
}

fn joined(items: &[String]) -> Option<String> {
    let mut list = String::with_capacity(items.iter().map(|item| item.len() + 1).sum());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            list.push(',');
        }
        list.push_str(&encoded(item));
    }
    Some(list).filter(|list| !list.is_empty())
}

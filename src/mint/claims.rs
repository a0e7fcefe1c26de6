//! What a token says.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::settings::{Binding, MintedClaim as Claim, Settings};
use crate::model::{IdentityAttributes, Method, Operation, Period, PrincipalKind};

/// Which request a token is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'a> {
    pub(super) operation: &'a Operation,
    pub(super) method: Method,
}

/// From when to when a token is good, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    from: i64,
    to: i64,
}

impl Life {
    /// From now on for as long as settings say, and never longer than the caller's own credential; `None` where nothing of
    /// that is left.
    pub(super) fn of(
        lifetime: Period,
        caller: Option<&IdentityAttributes>,
        at: Timestamp,
    ) -> Option<Self> {
        let from = at.as_second();
        let whole = i64::try_from(lifetime.0.as_secs()).unwrap_or(i64::MAX);
        let own_end = caller.map_or(i64::MAX, |caller| caller.expires_at.as_second());
        let to = from.saturating_add(whole).min(own_end);
        (from < to).then_some(Self { from, to })
    }

    /// From when until when a remembered token may be used again: while half its life is left.
    pub(super) fn fresh(self) -> (Timestamp, Timestamp) {
        let from = Timestamp::from_second(self.from).unwrap_or(Timestamp::MIN);
        let half =
            SignedDuration::from_millis(self.to.saturating_sub(self.from).saturating_mul(500));
        // What cannot be reckoned is never fresh.
        (from, from.checked_add(half).unwrap_or(Timestamp::MIN))
    }
}

/// Every claim but `jti`.
///
/// `sub` is `<issuer>|<subject>`, as policies name principals: two issuers can both have an `alice`, and here one issuer,
/// Cardea, speaks of both. Whom a token is about stands at the top, and whoever acts for them in `act` (RFC 8693, section
/// 4.1).
pub(super) fn claims(
    settings: &Settings,
    caller: Option<&IdentityAttributes>,
    purpose: Purpose<'_>,
    life: Life,
) -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| _ = all.insert(name.to_owned(), value);
    put("iss", settings.issuer.as_str().into());
    put(
        "aud",
        settings
            .audience_of(&purpose.operation.route.api.name)
            .into(),
    );
    put("iat", life.from.into());
    put("exp", life.to.into());
    if settings.bind == Binding::Operation {
        put("op", (*purpose.operation.id).into());
        put("htm", purpose.method.as_str().into());
    }
    let Some(caller) = caller else {
        put("kind", "Anonymous".into());
        return all;
    };
    let subject = caller.subject_of_token();
    named(subject, &mut put);
    chosen(settings, subject, &mut put);
    if let Some(on_behalf) = &caller.on_behalf {
        put("act", actors(caller, &on_behalf.earlier));
        if settings.tells(Claim::Purpose) {
            put("human_approved", on_behalf.human_approved.into());
            if let Some(purpose) = &on_behalf.purpose {
                put("purpose", purpose.as_str().into());
            }
        }
    }
    all
}

/// Who somebody is.
fn named(who: &IdentityAttributes, put: &mut impl FnMut(&str, Value)) {
    put("sub", who.principal_id().into());
    put("kind", kind(who.kind).into());
    put("idp", (*who.issuer).into());
    put("idp_sub", who.subject.as_str().into());
}

/// Whoever acts now, and within whoever acted before, of whom only names are known.
fn actors(caller: &IdentityAttributes, earlier: &[String]) -> Value {
    let before = earlier.iter().rev().fold(None, |within, name| {
        let mut actor = json!({ "sub": name });
        nest(&mut actor, within);
        Some(actor)
    });
    let mut now = Map::new();
    named(caller, &mut |name, value| {
        now.insert(name.to_owned(), value);
    });
    let mut now = Value::Object(now);
    nest(&mut now, before);
    now
}

fn nest(actor: &mut Value, within: Option<Value>) {
    if let (Some(members), Some(within)) = (actor.as_object_mut(), within) {
        members.insert("act".to_owned(), within);
    }
}

/// What settings let a token tell. What is not known is left out.
fn chosen(settings: &Settings, who: &IdentityAttributes, put: &mut impl FnMut(&str, Value)) {
    for claim in &settings.claims {
        let (name, value) = match claim {
            Claim::Scheme => ("scheme", Some(who.scheme.into())),
            Claim::ClientId => ("client_id", text(who.client_id.as_ref())),
            Claim::Scope => (
                "scope",
                (!who.scopes.is_empty()).then(|| who.scopes.join(" ").into()),
            ),
            Claim::Roles => ("roles", list(&who.roles)),
            Claim::Groups => ("groups", list(&who.groups)),
            Claim::Tenant => ("tenant", text(who.tenant.as_ref())),
            Claim::Acr => ("acr", text(who.acr.as_ref())),
            Claim::Amr => ("amr", list(&who.amr)),
            Claim::Assurance => ("assurance", Some(who.assurance.into())),
            Claim::Mfa => ("mfa", Some(who.mfa.into())),
            Claim::AuthTime => ("auth_time", who.auth_time.map(|at| at.as_second().into())),
            Claim::Sid => ("sid", text(who.session_id.as_ref())),
            Claim::Exposed => (
                "claims",
                (!who.claims.is_empty()).then(|| json!(who.claims)),
            ),
            // Of whoever acts for somebody: told beside `act`.
            Claim::Purpose => continue,
        };
        if let Some(value) = value {
            put(name, value);
        }
    }
}

fn text(text: Option<&String>) -> Option<Value> {
    text.map(|text| text.as_str().into())
}

fn list(items: &[String]) -> Option<Value> {
    (!items.is_empty()).then(|| json!(items))
}

/// The Cedar entity type of a principal.
fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "User",
        PrincipalKind::Client => "Client",
        PrincipalKind::Workload => "Workload",
        PrincipalKind::Agent => "Agent",
    }
}

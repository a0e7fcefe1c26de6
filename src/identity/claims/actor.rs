//! Whoever acts for the token's subject (`act`, RFC 8693, section 4.1).
//!
//! The outermost actor is who acts now, and becomes the principal. Those within acted before; they are information only,
//! as the RFC says. What the token grants stays the subject's: the actor has the rights that both have. So does the tenant:
//! an actor with it would be let in by what is meant for those who belong there, and policies see the subject's anyway.

use serde_json::Value;

use super::super::settings::IssuerSettings;
use super::super::token::Wrong;
use super::{Claims, at, text};
use crate::model::{CredentialFault as Fault, IdentityAttributes, OnBehalf, PrincipalKind};

const NO_CHAIN: Wrong = Wrong(
    Fault::Claims,
    "act is not a chain of objects with a sub each, or is longer than max_actors allows",
);

/// What a token of `subject` that `actor` uses says of that actor.
///
/// # Errors
/// [`Fault::Claims`] where the chain is malformed, too long, names an actor of an issuer that may not be named, or where
/// the subject is nobody one can act for.
pub(super) fn acting(
    actor: &Value,
    subject: IdentityAttributes,
    claims: &Claims,
    settings: &IssuerSettings,
) -> Result<IdentityAttributes, Wrong> {
    if subject.kind != PrincipalKind::User {
        return Err(Wrong(
            Fault::Claims,
            "the token names an actor, and its subject is no user",
        ));
    }
    let chain = chain(actor, settings)?;
    let mut chain = chain.into_iter();
    let (issuer, name) = chain.next().ok_or(NO_CHAIN)?;
    let mapping = &settings.claims;
    let purpose = match mapping.purpose.as_ref().and_then(|path| at(claims, path)) {
        Some(Value::String(purpose)) => Some(super::named(purpose)?.to_owned()),
        Some(Value::Null) | None => None,
        Some(_) => return Err(super::WRONG_TYPE),
    };
    let approved = mapping.human_approved.as_ref();
    let human_approved = approved.and_then(|path| at(claims, path)) == Some(&Value::Bool(true));
    Ok(IdentityAttributes {
        kind: PrincipalKind::Agent,
        issuer: issuer.into(),
        subject: name.to_owned(),
        // What was given to the subject is not the actor's.
        roles: Vec::new(),
        groups: Vec::new(),
        tenant: None,
        on_behalf: Some(OnBehalf {
            earlier: chain
                .map(|(issuer, name)| format!("{issuer}|{name}"))
                .collect(),
            subject: Box::new(subject.clone()),
            purpose,
            human_approved,
        }),
        ..subject
    })
}

/// All actors, the current one first, each with its issuer.
fn chain<'c>(
    outermost: &'c Value,
    settings: &'c IssuerSettings,
) -> Result<Vec<(&'c str, &'c str)>, Wrong> {
    let mut actors = Vec::new();
    let mut next = Some(outermost);
    while let Some(actor) = next {
        if actors.len() >= usize::from(settings.max_actors) {
            return Err(NO_CHAIN);
        }
        let members = actor.as_object().ok_or(NO_CHAIN)?;
        let name = text(members, "sub")?.ok_or(NO_CHAIN)?;
        let issuer = text(members, "iss")?.unwrap_or(&settings.issuer);
        if issuer != settings.issuer && !settings.actor_issuers.iter().any(|own| own == issuer) {
            return Err(Wrong(
                Fault::Claims,
                "act names an actor of an issuer that is not among actor_issuers",
            ));
        }
        actors.push((issuer, name));
        next = members.get("act");
    }
    Ok(actors)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::settings::KeyPlace;
    use crate::identity::testing::{ISSUER, issuer_settings};

    fn alice() -> IdentityAttributes {
        IdentityAttributes {
            roles: vec!["viewer".to_owned()],
            scopes: vec!["orders:read".to_owned()],
            tenant: Some("acme".to_owned()),
            ..IdentityAttributes::of(
                PrincipalKind::User,
                "bearer_jwt",
                (ISSUER.into(), "alice".to_owned()),
                jiff::Timestamp::MAX,
            )
        }
    }

    fn read(claims: &Value) -> Result<IdentityAttributes, Fault> {
        let mut settings = issuer_settings(KeyPlace::Discovery);
        settings.max_actors = 3;
        settings.actor_issuers = vec!["https://agents.example".to_owned()];
        settings.claims.purpose = Some("purp".to_owned());
        settings.claims.human_approved = Some("ctx.approved".to_owned());
        let claims = claims.as_object().unwrap();
        acting(&claims["act"], alice(), claims, &settings).map_err(|wrong| wrong.0)
    }

    #[test]
    fn the_current_actor_is_the_principal_and_what_was_granted_stays_the_subjects() {
        let agent = read(&json!({
            "purp": "trip", "ctx": { "approved": true },
            "act": { "sub": "bot", "iss": "https://agents.example", "act": { "sub": "planner" } },
        }))
        .unwrap();
        assert_eq!(
            (agent.kind, agent.principal_id().as_str()),
            (PrincipalKind::Agent, "https://agents.example|bot")
        );
        assert_eq!((agent.roles.len(), agent.scopes.len()), (0, 1));
        assert_eq!(agent.tenant, None);
        let on_behalf = agent.on_behalf.unwrap();
        assert_eq!(on_behalf.subject.subject, "alice");
        assert_eq!(on_behalf.subject.roles, ["viewer"]);
        assert_eq!(on_behalf.subject.tenant.as_deref(), Some("acme"));
        assert_eq!(on_behalf.earlier, [format!("{ISSUER}|planner")]);
        assert_eq!(
            (on_behalf.purpose.as_deref(), on_behalf.human_approved),
            (Some("trip"), true)
        );
    }

    #[test]
    fn nothing_but_true_is_an_approval() {
        for approved in [json!(false), json!("true"), json!(1), json!(null)] {
            let claims = json!({ "ctx": { "approved": approved }, "act": { "sub": "bot" } });
            assert!(!read(&claims).unwrap().on_behalf.unwrap().human_approved);
        }
    }

    #[test]
    fn chains_that_are_malformed_too_long_or_borrow_a_name_are_refused() {
        for act in [
            json!("bot"),
            json!([]),
            json!({}),
            json!({ "sub": "" }),
            json!({ "sub": 7 }),
            json!({ "sub": "bot", "iss": ["x"] }),
            json!({ "sub": "bot", "iss": "https://stranger.example" }),
            json!({ "sub": "a", "act": { "sub": "b", "iss": "https://stranger.example" } }),
            json!({ "sub": "a", "act": null }),
            json!({ "sub": "a", "act": { "sub": "b", "act": { "sub": "c", "act": { "sub": "d" } } } }),
        ] {
            let claims = json!({ "act": act });
            assert_eq!(read(&claims).unwrap_err(), Fault::Claims, "{act}");
        }
        let mut client = alice();
        client.kind = PrincipalKind::Client;
        let (act, settings) = (json!({ "sub": "a" }), issuer_settings(KeyPlace::Discovery));
        assert!(acting(&act, client, &Claims::new(), &settings).is_err());
    }
}

//! What an answer says of the token's holder: the rules and the mapping of JWTs, for members instead of claims.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::super::claims::Rules;
use super::super::denial::Denial;
use super::super::scheme::Proven;
use super::super::settings::{IntrospectionSettings, PrincipalSetting};
use super::super::token::Wrong;
use super::answer::{Holder, Told};
use crate::model::{CredentialFault as Fault, IdentityAttributes};

/// What the principal's scheme is called.
const SCHEME: &str = "introspection";

/// Judges one server's answers.
#[derive(Debug)]
pub(super) struct Judge {
    issuer: String,
    rules: Rules,
    /// For tokens without `sub`: whatever the settings make of holders, a client is no user.
    clients: Rules,
    any_audience: bool,
    any_token_type: bool,
    cap: Duration,
}

impl Judge {
    pub(super) fn new(settings: &IntrospectionSettings) -> Self {
        let issuer = settings.as_issuer();
        let mut clients = issuer.clone();
        clients.principal = PrincipalSetting::Client;
        Self {
            issuer: issuer.issuer.clone(),
            rules: Rules::new(issuer).under(SCHEME),
            clients: Rules::new(clients).under(SCHEME),
            any_audience: settings.any_audience,
            any_token_type: settings.any_token_type,
            cap: settings.cap.0,
        }
    }

    /// The judgement on a token that the server calls active, for a request that arrived at `now`.
    pub(super) fn judge(
        &self,
        (told, holder): (&Told, &Holder),
        now: Timestamp,
    ) -> Result<Proven, Denial> {
        // A request may have arrived before the question was asked that answers it.
        let now = now.max(told.asked_at);
        let cap = SignedDuration::try_from(self.cap).unwrap_or_default();
        let capped = told.asked_at.saturating_add(cap).unwrap_or(told.asked_at);
        if capped <= now {
            let detail = "the answer about the token was too old by the time it could be used";
            return Err(Denial::IntrospectionUnavailable(detail));
        }
        let (attributes, expires_at) = self.read(&holder.claims, now, capped)?;
        // The server knows its own clock, and says no once `exp` is there: no skew is added here.
        if expires_at <= now {
            return Err(Wrong(Fault::Expired, "the token has expired").into());
        }
        let ground = std::sync::Arc::clone(&holder.ground);
        Ok(Proven::new(attributes, expires_at.min(capped), ground))
    }

    /// What the members say, and when the token ends. Without `exp`, all that is known is for how long the answer is
    /// believed.
    fn read(
        &self,
        members: &Map<String, Value>,
        now: Timestamp,
        capped: Timestamp,
    ) -> Result<(IdentityAttributes, Timestamp), Wrong> {
        if members.get("iss").is_some_and(|iss| *iss != *self.issuer) {
            return Err(Wrong(
                Fault::Issuer,
                "the answer names another issuer than the settings",
            ));
        }
        self.check_type(members)?;
        let mut claims = members.clone();
        if !claims.contains_key("exp") {
            claims.insert(
                "exp".to_owned(),
                capped.as_second().saturating_add(1).into(),
            );
        }
        let rules = match (claims.contains_key("sub"), claims.get("client_id")) {
            (false, Some(client)) => {
                let client = client.clone();
                claims.insert("sub".to_owned(), client);
                &self.clients
            }
            _ => &self.rules,
        };
        let times = rules.vouched(&claims, now, !self.any_audience)?;
        Ok((rules.attributes(&claims, times)?, times.expires_at))
    }

    /// `token_type` (RFC 6749, section 5.1) tells access tokens from refresh tokens, which servers answer for too; and a
    /// token of type `DPoP` is bound to a key.
    fn check_type(&self, members: &Map<String, Value>) -> Result<(), Wrong> {
        let bound = members.get("cnf").and_then(|cnf| cnf.get("jkt")).is_some();
        match members.get("token_type") {
            None if self.any_token_type => Ok(()),
            None => Err(Wrong(
                Fault::Type,
                "the answer has no `token_type`, and `any_token_type` is not set",
            )),
            Some(Value::String(name)) if name.eq_ignore_ascii_case("bearer") => Ok(()),
            Some(Value::String(name)) if name.eq_ignore_ascii_case("dpop") && bound => Ok(()),
            Some(_) => Err(Wrong(
                Fault::Type,
                "the token is neither a bearer token nor a DPoP token with its key",
            )),
        }
    }
}

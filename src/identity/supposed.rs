//! What claims would say of their holder, were they signed: for rehearsals, never for a request that arrived.
//!
//! The same rules and the same mapping as for a real token, but for the signature. What a rehearsal leaves out is filled
//! in the way a valid token has it: `exp` (five minutes from now), `aud` (the issuer's first audience), `iss`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::claims::Rules;
use super::settings::{ClaimSettings, IntrospectionSettings, IssuerSettings, Settings};
use super::token::Wrong;
use crate::model::{IdentityAttributes, Reason, Refusal};

/// Who vouches for a supposed caller of whom nothing else is said. The name is reserved (RFC 2606), so nobody has it.
pub const SUPPOSED_ISSUER: &str = "https://issuer.test";

/// How long a supposed credential lives from now on.
pub const SUPPOSED_LIFE: SignedDuration = SignedDuration::from_mins(5);

/// Reads claims as the configured issuers' tokens are read. An issuer that the settings do not name has a plain mapping
/// (`roles`, `groups`, `tenant`, and `scope` or `scp`), so that a bundle's tests do not depend on whose tokens a
/// deployment believes.
#[derive(Debug, Default)]
pub struct ClaimReader {
    known: Vec<(IssuerSettings, Rules)>,
}

impl ClaimReader {
    /// A reader with the mappings of the settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let opaque = settings.introspection.iter();
        let known = settings.issuers.iter().cloned();
        let clusters = settings.kubernetes.iter();
        let clusters = clusters.map(|own| (own.as_issuer(), Rules::of_cluster(own)));
        Self {
            // The same issuer may give out both kinds of tokens: its JWTs count then.
            known: known
                .chain(opaque.map(IntrospectionSettings::as_issuer))
                .map(|issuer| (issuer.clone(), Rules::new(issuer)))
                .chain(clusters)
                .collect(),
        }
    }

    /// What a token with these claims would say of its holder.
    ///
    /// # Errors
    /// The refusal that a token with these claims would meet.
    pub fn read(
        &self,
        mut claims: Map<String, Value>,
        now: Timestamp,
    ) -> Result<IdentityAttributes, Refusal> {
        let expires_at = now.saturating_add(SUPPOSED_LIFE).unwrap_or(now).as_second();
        claims.entry("exp").or_insert(expires_at.into());
        let issuer = claims.entry("iss").or_insert(SUPPOSED_ISSUER.into());
        let Some(issuer) = issuer.as_str().map(str::to_owned) else {
            let fault = crate::model::CredentialFault::Issuer;
            return Err(refusal(Wrong(fault, "the issuer is no text")));
        };
        match self.known.iter().find(|(known, _)| known.issuer == issuer) {
            Some((known, rules)) => {
                if let Some(audience) = known.audiences.first() {
                    claims.entry("aud").or_insert(audience.as_str().into());
                }
                // Only a server that is asked about tokens may be believed for any audience.
                rules.suppose(&claims, now, !known.audiences.is_empty())
            }
            None => Rules::new(plain_issuer(issuer)).suppose(&claims, now, false),
        }
        .map_err(refusal)
    }
}

/// The plain mapping: `roles`, `groups` and `tenant` are what they are called; scopes are in `scope`, else `scp`. `acr`,
/// `amr` and `auth_time` are always read. Nothing maps to an assurance level, and no further claim is exposed.
fn plain_issuer(issuer: String) -> IssuerSettings {
    IssuerSettings {
        issuer,
        claims: ClaimSettings {
            roles: vec!["roles".to_owned()],
            groups: vec!["groups".to_owned()],
            tenant: Some("tenant".to_owned()),
            ..ClaimSettings::default()
        },
        ..IssuerSettings::default()
    }
}

fn refusal(Wrong(fault, detail): Wrong) -> Refusal {
    Refusal::new(Reason::CredentialInvalid(fault), detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{CredentialFault, PrincipalKind};

    fn now() -> Timestamp {
        "2026-01-05T12:00:00Z".parse().unwrap()
    }

    fn read(reader: &ClaimReader, claims: &Value) -> Result<IdentityAttributes, Refusal> {
        reader.read(claims.as_object().unwrap().clone(), now())
    }

    fn fault(refusal: &Refusal) -> CredentialFault {
        match refusal.reason {
            Reason::CredentialInvalid(fault) => fault,
            _ => panic!("{refusal:?}"),
        }
    }

    fn configured() -> ClaimReader {
        let issuer = IssuerSettings {
            issuer: "https://login.example.com".to_owned(),
            audiences: vec!["api".to_owned()],
            claims: ClaimSettings {
                roles: vec!["realm_access.roles".to_owned()],
                role_prefix: "login:".to_owned(),
                ..ClaimSettings::default()
            },
            acr_levels: [("gold".to_owned(), 3)].into(),
            ..IssuerSettings::default()
        };
        ClaimReader::new(&Settings {
            issuers: vec![issuer],
            ..Settings::default()
        })
    }

    #[test]
    fn claims_of_an_unknown_issuer_are_read_by_the_plain_mapping() {
        let claims = json!({
            "sub": "alice", "roles": ["viewer"], "groups": "staff", "tenant": "acme", "scp": ["a", "b"],
            "acr": "gold", "amr": ["pwd"], "auth_time": now().as_second() - 60,
        });
        let read = read(&ClaimReader::default(), &claims).unwrap();
        assert_eq!(
            (&*read.issuer, read.kind),
            (SUPPOSED_ISSUER, PrincipalKind::User)
        );
        assert_eq!(
            (read.roles, read.groups),
            (vec!["viewer".to_owned()], vec!["staff".to_owned()])
        );
        assert_eq!(
            (read.tenant.as_deref(), read.scopes.len()),
            (Some("acme"), 2)
        );
        assert_eq!((read.acr.as_deref(), read.assurance), (Some("gold"), 0));
        assert_eq!(now().duration_since(read.auth_time.unwrap()).as_secs(), 60);
        assert_eq!(read.expires_at.duration_since(now()), SUPPOSED_LIFE);
    }

    #[test]
    fn claims_of_a_configured_issuer_are_read_by_its_mapping() {
        let claims = json!({
            "iss": "https://login.example.com", "sub": "svc", "azp": "svc", "acr": "gold",
            "realm_access": { "roles": ["viewer"] }, "roles": ["ignored"],
        });
        let read = read(&configured(), &claims).unwrap();
        assert_eq!((read.kind, read.assurance), (PrincipalKind::Client, 3));
        assert_eq!(read.roles, ["login:viewer"]);
        assert_eq!(read.audience, ["api"]);
    }

    #[test]
    fn claims_that_no_valid_token_has_are_refused_as_the_token_would_be() {
        let iss = "https://login.example.com";
        for (claims, expected) in [
            (json!({ "roles": ["a"] }), CredentialFault::Claims),
            (json!({ "sub": "a", "roles": 7 }), CredentialFault::Claims),
            (
                json!({ "sub": "a", "exp": now().as_second() - 60 }),
                CredentialFault::Expired,
            ),
            (
                json!({ "sub": "a", "iat": now().as_second() + 120 }),
                CredentialFault::NotYetValid,
            ),
            (
                json!({ "sub": "a", "exp": "soon" }),
                CredentialFault::Lifetime,
            ),
            (json!({ "sub": "a", "iss": 7 }), CredentialFault::Issuer),
            (
                json!({ "sub": "a", "iss": iss, "aud": "other" }),
                CredentialFault::Audience,
            ),
        ] {
            let refusal = read(&configured(), &claims).unwrap_err();
            assert_eq!(fault(&refusal), expected, "{claims}");
        }
    }
}

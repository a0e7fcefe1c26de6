//! Judging a token's claims (RFC 7519, section 4; RFC 9068, section 4), and what they say of the holder.
//!
//! The rule for types: a registered claim of the wrong type refuses the token; so does a mapped one. What is merely
//! exposed to policies is taken where it can be told as text, and left out where it cannot.

mod actor;
mod service_account;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use self::service_account::Accounts;
use super::settings::{
    Algorithm, Carrier, ClaimSettings, IssuerSettings, KubernetesSettings, PrincipalSetting,
};
use super::token::{Token, Wrong, base64url};
use crate::model::{
    Binding, CredentialFault as Fault, IdentityAttributes, KUBERNETES, PrincipalKind,
};

/// The most roles, groups, scopes, audiences or login methods one token may name.
const MAX_NAMES: usize = 256;

/// The most values one exposed claim may have.
const MAX_VALUES: usize = 64;

/// The longest subject, role, group or tenant, in bytes.
const MAX_NAME: usize = 512;

type Claims = Map<String, Value>;

/// What one issuer's tokens have to meet.
#[derive(Debug)]
pub(super) struct Rules {
    issuer: Arc<str>,
    media_types: Vec<String>,
    skew: SignedDuration,
    max_lifetime: SignedDuration,
    scheme: &'static str,
    settings: IssuerSettings,
    /// For a cluster: which of its service accounts are accepted. Their tokens have no `typ`.
    accounts: Option<Accounts>,
}

/// The times of a token, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) expires_at: Timestamp,
    issued_at: Option<Timestamp>,
    auth_time: Option<Timestamp>,
    /// `exp` and the skew: the first moment at which the token is expired.
    pub(super) valid_until: Timestamp,
}

impl Rules {
    pub(super) fn new(settings: IssuerSettings) -> Self {
        let signed = |period: crate::model::Period| {
            SignedDuration::try_from(period.0).unwrap_or(SignedDuration::ZERO)
        };
        Self {
            issuer: settings.issuer.as_str().into(),
            media_types: settings
                .token_types
                .iter()
                .map(|kind| kind.to_ascii_lowercase())
                .collect(),
            skew: signed(settings.clock_skew),
            max_lifetime: signed(settings.max_token_lifetime),
            scheme: match settings.carrier {
                Carrier::Authorization => "bearer_jwt",
                Carrier::TransactionToken => "transaction_token",
            },
            settings,
            accounts: None,
        }
    }

    /// The rules for the tokens of a cluster's service accounts.
    pub(super) fn of_cluster(settings: &KubernetesSettings) -> Self {
        Self {
            accounts: Some(Accounts::new(settings)),
            ..Self::new(settings.as_issuer()).under(KUBERNETES)
        }
    }

    /// Whose tokens they are for.
    pub(super) fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// Where those are carried.
    pub(super) fn carrier(&self) -> Carrier {
        self.settings.carrier
    }

    /// The same rules for claims that come another way than in a JWT.
    pub(super) fn under(mut self, scheme: &'static str) -> Self {
        self.scheme = scheme;
        self
    }

    /// Everything that can be said against a token before its signature is looked at.
    ///
    /// # Errors
    /// The fault, and a sentence for operators.
    pub(super) fn check(&self, token: &Token<'_>, now: Timestamp) -> Result<Times, Wrong> {
        let fits = match &token.media_type {
            Some(name) => self.media_types.contains(name),
            None => self.accounts.is_some(),
        };
        if !fits {
            return Err(Wrong(
                Fault::Type,
                "the type is absent or none of the issuer's token types",
            ));
        }
        self.check_algorithm(token.algorithm)?;
        self.check_audience(&token.claims)?;
        self.check_times(&token.claims, now)
    }

    /// What a token with these claims would say of its holder, were it signed. `audience` says whether `aud` is judged.
    ///
    /// # Errors
    /// As [`Rules::check`] and [`Rules::attributes`].
    pub(super) fn suppose(
        &self,
        claims: &Claims,
        now: Timestamp,
        audience: bool,
    ) -> Result<IdentityAttributes, Wrong> {
        let times = self.vouched(claims, now, audience)?;
        self.attributes(claims, times)
    }

    /// Everything that can be said against claims that somebody vouches for in another way than by signing a token.
    /// `audience` says whether `aud` is judged.
    ///
    /// # Errors
    /// The fault, and a sentence for operators.
    pub(super) fn vouched(
        &self,
        claims: &Claims,
        now: Timestamp,
        audience: bool,
    ) -> Result<Times, Wrong> {
        if audience {
            self.check_audience(claims)?;
        }
        self.check_times(claims, now)
    }

    fn check_algorithm(&self, algorithm: Algorithm) -> Result<(), Wrong> {
        if self.settings.algorithms.contains(&algorithm) {
            return Ok(());
        }
        Err(Wrong(
            Fault::Algorithm,
            "the algorithm is not configured for the issuer",
        ))
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Wrong> {
        let wrong = Wrong(Fault::Audience, "the audience does not name this API");
        let named = claims.get("aud").and_then(strings).ok_or(wrong)?;
        let ours = |name: &&str| self.settings.audiences.iter().any(|own| own == name);
        if named.iter().any(ours) {
            Ok(())
        } else {
            Err(wrong)
        }
    }

    fn check_times(&self, claims: &Claims, now: Timestamp) -> Result<Times, Wrong> {
        let expires_at = time(claims, "exp")?.ok_or(Wrong(Fault::Lifetime, "there is no exp"))?;
        let issued_at = time(claims, "iat")?;
        let not_before = time(claims, "nbf")?;
        let auth_time = time(claims, "auth_time")?;
        let valid_until = expires_at.saturating_add(self.skew).unwrap_or(expires_at);
        if now >= valid_until {
            return Err(Wrong(Fault::Expired, "the token has expired"));
        }
        let horizon = now.saturating_add(self.skew).unwrap_or(now);
        if [issued_at, not_before, auth_time]
            .iter()
            .flatten()
            .any(|at| *at > horizon)
        {
            return Err(Wrong(
                Fault::NotYetValid,
                "nbf, iat or auth_time lies in the future",
            ));
        }
        let life = expires_at.duration_since(issued_at.unwrap_or(now));
        if life > self.max_lifetime || issued_at.is_some_and(|at| at >= expires_at) {
            return Err(Wrong(
                Fault::Lifetime,
                "the token lives longer than allowed, or ends before it begins",
            ));
        }
        Ok(Times {
            expires_at,
            issued_at,
            auth_time,
            valid_until,
        })
    }

    /// What a token whose signature matches says of its holder.
    ///
    /// # Errors
    /// [`Fault::Claims`] where a claim is missing, of the wrong type or out of bounds.
    pub(super) fn attributes(
        &self,
        claims: &Claims,
        times: Times,
    ) -> Result<IdentityAttributes, Wrong> {
        let mapping = &self.settings.claims;
        let subject = text(claims, "sub")?.ok_or(Wrong(Fault::Claims, "there is no sub"))?;
        let azp = text(claims, "azp")?;
        let client_id = text(claims, "client_id")?.or(azp);
        let amr = names(claims.get("amr"))?;
        let acr = text(claims, "acr")?;
        let client = client_id == Some(subject) || azp == Some(subject);
        let holder = IdentityAttributes {
            client_id: client_id.map(str::to_owned),
            audience: names(claims.get("aud"))?,
            scopes: scopes(claims, mapping)?,
            assurance: self.assurance(acr, &amr),
            mfa: self.multi_factor(acr, &amr),
            amr,
            acr: acr.map(str::to_owned),
            auth_time: times.auth_time,
            issued_at: times.issued_at,
            token_id: text(claims, "jti")?.map(str::to_owned),
            session_id: text(claims, "sid")?.map(str::to_owned),
            binding: binding(claims)?,
            roles: gathered(claims, &mapping.roles, &mapping.role_prefix)?,
            groups: gathered(claims, &mapping.groups, &mapping.group_prefix)?,
            tenant: tenant(claims, mapping)?,
            claims: exposed(claims, &mapping.expose)?,
            ..IdentityAttributes::of(
                self.kind(client),
                self.scheme,
                (Arc::clone(&self.issuer), subject.to_owned()),
                times.expires_at,
            )
        };
        let holder = match &self.accounts {
            Some(accounts) => accounts.holder(claims, holder)?,
            None => holder,
        };
        match claims.get("act") {
            None => Ok(holder),
            Some(actor) => actor::acting(actor, holder, claims, &self.settings),
        }
    }

    fn kind(&self, client: bool) -> PrincipalKind {
        match self.settings.principal {
            PrincipalSetting::Auto if client => PrincipalKind::Client,
            PrincipalSetting::Auto | PrincipalSetting::User => PrincipalKind::User,
            PrincipalSetting::Client => PrincipalKind::Client,
            PrincipalSetting::Workload => PrincipalKind::Workload,
            PrincipalSetting::Agent => PrincipalKind::Agent,
        }
    }

    /// The highest level that `acr` and `amr` reach by the settings.
    fn assurance(&self, acr: Option<&str>, amr: &[String]) -> u8 {
        let context = acr.and_then(|acr| self.settings.acr_levels.get(acr));
        let methods = amr
            .iter()
            .filter_map(|amr| self.settings.amr_levels.get(amr));
        context
            .into_iter()
            .chain(methods)
            .copied()
            .max()
            .unwrap_or(0)
    }

    /// Whether `acr` or `amr` says, by a value of the settings, that the login took more than one factor.
    fn multi_factor(&self, acr: Option<&str>, amr: &[String]) -> bool {
        let settings = &self.settings;
        let class = acr.is_some_and(|acr| settings.mfa_classes.iter().any(|own| own == acr));
        class || amr.iter().any(|amr| settings.mfa_methods.contains(amr))
    }
}

/// What the token is bound to (`cnf`, RFC 7800): a key by its thumbprint (RFC 9449, section 6.1) or a certificate (RFC 8705,
/// section 3.1). A confirmation of another kind is one nobody here can hold anybody to, so it refuses the token.
fn binding(claims: &Claims) -> Result<Option<Binding>, Wrong> {
    let Some(confirmation) = claims.get("cnf") else {
        return Ok(None);
    };
    let unknown = Wrong(
        Fault::Claims,
        "cnf is not exactly one of jkt and x5t#S256, each the base64url of a SHA-256",
    );
    let members = confirmation.as_object().filter(|cnf| cnf.len() == 1);
    let (name, value) = members.and_then(|cnf| cnf.iter().next()).ok_or(unknown)?;
    let text = value.as_str().ok_or(unknown)?;
    let digest: [u8; 32] = base64url(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(unknown)?;
    match name.as_str() {
        "jkt" => Ok(Some(Binding::Key(text.to_owned()))),
        "x5t#S256" => Ok(Some(Binding::Certificate(digest))),
        _ => Err(unknown),
    }
}

/// A time: whole seconds from 1970 to 9999, without fraction or exponent.
fn time(claims: &Claims, name: &str) -> Result<Option<Timestamp>, Wrong> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_i64().filter(|seconds| *seconds > 0);
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(Some).ok_or(Wrong(
        Fault::Lifetime,
        "a time claim is no whole number of seconds in range",
    ))
}

/// A claim that is a name where it is there at all.
fn text<'c>(claims: &'c Claims, name: &str) -> Result<Option<&'c str>, Wrong> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => named(text).map(Some),
        Some(_) => Err(WRONG_TYPE),
    }
}

const WRONG_TYPE: Wrong = Wrong(
    Fault::Claims,
    "a registered or mapped claim has the wrong type",
);
const OUT_OF_BOUNDS: Wrong = Wrong(
    Fault::Claims,
    "a claim is empty, too long, holds control characters or too many values",
);

/// A text that can name somebody or something: compared to the byte, so nothing is folded or normalised.
fn named(text: &str) -> Result<&str, Wrong> {
    if (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text)
    } else {
        Err(OUT_OF_BOUNDS)
    }
}

/// One string, or an array of nothing but strings.
fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Names in a claim; none where it is absent or null.
fn names(value: Option<&Value>) -> Result<Vec<String>, Wrong> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(Vec::new());
    };
    let found = strings(value).ok_or(WRONG_TYPE)?;
    bounded(found)
}

fn bounded(found: Vec<&str>) -> Result<Vec<String>, Wrong> {
    if found.len() > MAX_NAMES {
        return Err(OUT_OF_BOUNDS);
    }
    found
        .into_iter()
        .map(|name| named(name).map(str::to_owned))
        .collect()
}

/// The claim a path leads to: the claim of that whole name, else down through objects by dots.
fn at<'c>(claims: &'c Claims, path: &str) -> Option<&'c Value> {
    claims.get(path).or_else(|| {
        let (first, rest) = path.split_once('.')?;
        claims
            .get(first)
            .and_then(Value::as_object)
            .and_then(|inner| at(inner, rest))
    })
}

/// All names that several paths lead to, each once, with the prefix before them.
fn gathered(claims: &Claims, paths: &[String], prefix: &str) -> Result<Vec<String>, Wrong> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(names(at(claims, path))?);
    }
    all.sort_unstable();
    all.dedup();
    if all.len() > MAX_NAMES {
        return Err(OUT_OF_BOUNDS);
    }
    if !prefix.is_empty() {
        for name in &mut all {
            name.insert_str(0, prefix);
        }
    }
    Ok(all)
}

fn scopes(claims: &Claims, mapping: &ClaimSettings) -> Result<Vec<String>, Wrong> {
    let value = match &mapping.scopes {
        Some(path) => at(claims, path),
        None => claims.get("scope").or_else(|| claims.get("scp")),
    };
    match value {
        Some(Value::String(text)) => bounded(text.split(' ').filter(|s| !s.is_empty()).collect()),
        other => names(other),
    }
}

fn tenant(claims: &Claims, mapping: &ClaimSettings) -> Result<Option<String>, Wrong> {
    let path = mapping.tenant.as_ref();
    match path.and_then(|path| at(claims, path)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => named(text).map(|text| Some(text.to_owned())),
        Some(_) => Err(WRONG_TYPE),
    }
}

fn exposed(claims: &Claims, paths: &[String]) -> Result<BTreeMap<String, Vec<String>>, Wrong> {
    let mut all = BTreeMap::new();
    for path in paths {
        let mut values: Vec<String> = match at(claims, path) {
            Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
            Some(value) => scalar(value).into_iter().collect(),
            None => continue,
        };
        values.sort_unstable();
        values.dedup();
        if values.len() > MAX_VALUES {
            return Err(OUT_OF_BOUNDS);
        }
        if !values.is_empty() {
            all.insert(path.clone(), values);
        }
    }
    Ok(all)
}

/// A value as text, where there is one obvious way to write it.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

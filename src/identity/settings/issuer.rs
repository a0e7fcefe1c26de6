//! Issuers of bearer tokens: how their tokens are judged, and what becomes of their claims.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::fetch::key_url;
use super::{Found, StatusListSettings, ZERO, plain, seconds};
use crate::model::{Period, SecretRef, without_query};

/// One issuer of bearer tokens (JWT, RFC 7519; access tokens by RFC 9068).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerSettings {
    /// The exact text of the claim `iss`. Must be set.
    pub issuer: String,
    /// The audiences this API answers to: a token must name one of them in `aud`, to the letter. Must be set.
    pub audiences: Vec<String>,
    /// Where the issuer's tokens are carried.
    pub carrier: Carrier,
    /// The signature algorithms accepted. Only asymmetric ones exist here.
    pub algorithms: Vec<Algorithm>,
    /// Where the issuer's public keys come from: `discovery`, `{jwks_url: ..}` or `{jwks_file: ..}`.
    pub keys: KeyPlace,
    /// The certificates (PEM) of the authorities that may vouch for the server of the keys, in place of the system's. The
    /// file is read for each fetch.
    pub ca_file: Option<PathBuf>,
    /// The bearer token that is shown to the server of the keys, where it wants one. It is read for each fetch, and with
    /// `discovery` shown to the issuer only, and not to another server that its document names.
    pub key_token: Option<SecretRef>,
    /// Whether Cardea is ready only once this issuer's keys are loaded.
    pub required: bool,
    /// The values accepted in the header `typ`, in any case. Add `JWT` only for an issuer that cannot mark its access
    /// tokens: its ID tokens then pass this check too (RFC 9068, section 4).
    pub token_types: Vec<String>,
    /// The longest life a token may have, from `iat` (or from now, without `iat`) to `exp`.
    pub max_token_lifetime: Period,
    /// How far the issuer's clock and ours may differ. At most `60s`.
    pub clock_skew: Period,
    /// How often keys are fetched again. A file is looked at every two seconds at least.
    pub refresh_interval: Period,
    /// How long keys serve while they cannot be fetched again. Afterwards this issuer's tokens are answered with 503.
    pub max_stale: Period,
    /// A token that names an unknown key has the keys fetched at most once in this time.
    pub unknown_kid_interval: Period,
    /// What becomes of the token's claims.
    pub claims: ClaimSettings,
    /// What kind of principal a token's holder is.
    pub principal: PrincipalSetting,
    /// How many actors a token may name (`act`, RFC 8693, section 4.1), one within the other. At most 16; with `0`, tokens
    /// that name one are refused. The latest actor is the principal, an agent; policies have to allow it and the token's
    /// subject.
    pub max_actors: u8,
    /// Other issuers whose subjects this one's tokens may name as actors. An actor without `iss` is one of the issuer's own.
    pub actor_issuers: Vec<String>,
    /// The assurance level (0 to 9) of each `acr` value. A value that is not listed is level 0.
    pub acr_levels: BTreeMap<String, u8>,
    /// The assurance level (0 to 9) of each `amr` value. The highest of all `acr` and `amr` levels counts.
    pub amr_levels: BTreeMap<String, u8>,
    /// The `amr` values that say by themselves that the login took more than one factor (`context.token.mfa`). RFC 8176
    /// calls that `mfa`; single methods, however many, are not counted together.
    pub mfa_methods: Vec<String>,
    /// The `acr` values that say the same.
    pub mfa_classes: Vec<String>,
    /// Whether the issuer's status lists are honoured. Without this section the status of its tokens is not looked at.
    pub status_lists: Option<StatusListSettings>,
}

impl Default for IssuerSettings {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            carrier: Carrier::Authorization,
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            keys: KeyPlace::Discovery,
            ca_file: None,
            key_token: None,
            required: true,
            token_types: vec!["at+jwt".into(), "application/at+jwt".into()],
            max_token_lifetime: Period::seconds(24 * 60 * 60),
            clock_skew: Period::seconds(30),
            refresh_interval: Period::seconds(5 * 60),
            max_stale: Period::seconds(60 * 60),
            unknown_kid_interval: Period::seconds(30),
            claims: ClaimSettings::default(),
            principal: PrincipalSetting::Auto,
            max_actors: 4,
            actor_issuers: Vec::new(),
            acr_levels: BTreeMap::new(),
            amr_levels: BTreeMap::new(),
            mfa_methods: vec!["mfa".into()],
            mfa_classes: Vec::new(),
            status_lists: None,
        }
    }
}

/// A signature algorithm (RFC 7518, section 3.1; RFC 8037). `none` and the symmetric ones cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The exact, case-sensitive name in headers and keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of that exact name: nothing for `none` and the symmetric ones.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// Where a token is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// In `Authorization`, as `Bearer` (RFC 6750) or `DPoP` (RFC 9449).
    Authorization,
    /// In `Txn-Token`, beside whatever else is there: transaction tokens (draft-ietf-oauth-transaction-tokens), which tell
    /// within a trust domain on whose behalf a call is made. Their `typ` is `txntoken+jwt`; set `token_types` to it.
    TransactionToken,
}

/// Where an issuer's public keys come from.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyPlace {
    /// The issuer's discovery document says (OIDC Discovery 1.0, section 4): `issuer` followed by
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// A JWK set behind this URL: `https`, or `http` on a loopback address.
    JwksUrl(String),
    /// A JWK set in this file. It is read again when it changes.
    JwksFile(PathBuf),
}

/// Shows no query.
impl fmt::Debug for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery => f.write_str("Discovery"),
            Self::JwksUrl(url) => f.debug_tuple("JwksUrl").field(&without_query(url)).finish(),
            Self::JwksFile(path) => f.debug_tuple("JwksFile").field(path).finish(),
        }
    }
}

/// What becomes of a token's claims. A path names a claim, or walks down objects by dots (`realm_access.roles`); a claim
/// whose own name holds dots is found first by its whole name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimSettings {
    /// Where roles are found. A string is one role, an array of strings several.
    pub roles: Vec<String>,
    /// Where groups are found, in the same way.
    pub groups: Vec<String>,
    /// Where the tenant is found: a string.
    pub tenant: Option<String>,
    /// Where scopes are found: a string with spaces between them, or an array of strings. Without it: `scope`, else `scp`.
    pub scopes: Option<String>,
    /// Where the purpose of a delegation is found: a string (`context.delegation.purpose`).
    pub purpose: Option<String>,
    /// Where it is found whether a person approved what is done with the token: a boolean
    /// (`context.delegation.humanApproved`). Anything but `true` is no.
    pub human_approved: Option<String>,
    /// Further claims for policies, each as a set of strings. Strings, booleans and integers (alone or in an array)
    /// become text; anything else (null, fractions, objects) is left out.
    pub expose: Vec<String>,
    /// Put before each role, so that two issuers' roles cannot be mistaken for each other. Every issuer needs one then,
    /// and none may begin with another's.
    pub role_prefix: String,
    /// Put before each group, for the same purpose.
    pub group_prefix: String,
}

/// What kind of principal a token's holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalSetting {
    /// A client where `sub` equals `client_id` or `azp`, else a user.
    Auto,
    /// A person.
    User,
    /// A program acting for itself.
    Client,
    /// A workload in the mesh.
    Workload,
    /// A program acting for somebody.
    Agent,
}

/// The most claims that can be exposed to policies.
const MAX_EXPOSED: usize = 64;

impl IssuerSettings {
    pub(super) fn check(&self, found: &mut Found) {
        self.check_holders(found);
        found.texts("audiences", &self.audiences);
        found.texts("token_types", &self.token_types);
        self.check_keys(found);
        self.check_times(found);
        if let Some(lists) = &self.status_lists {
            let place = format!("{}.status_lists", found.place);
            let outer = std::mem::replace(&mut found.place, place);
            lists.check(found, self);
            found.place = outer;
        }
    }

    /// What concerns those who hold its tokens, however these are proven.
    pub(super) fn check_holders(&self, found: &mut Found) {
        found.text("issuer", &self.issuer);
        if self.issuer.contains('|') {
            let why = "must not hold `|`: principals are named `<issuer>|<subject>`, and `a|b` could vouch for subjects of `a`";
            found.say("issuer", why);
        }
        if self.max_actors > 16 {
            found.say("max_actors", "must be at most 16");
        }
        for issuer in &self.actor_issuers {
            found.text("actor_issuers", issuer);
        }
        if self.actor_issuers.iter().any(|name| name.contains('|')) {
            let why = "must not hold `|`: actors are named `<issuer>|<subject>`";
            found.say("actor_issuers", why);
        }
        self.claims.check(found);
        for (field, values) in [
            ("mfa_methods", &self.mfa_methods),
            ("mfa_classes", &self.mfa_classes),
        ] {
            for value in values {
                found.text(field, value);
            }
        }
        for (field, levels) in [
            ("acr_levels", &self.acr_levels),
            ("amr_levels", &self.amr_levels),
        ] {
            if levels.values().any(|level| *level > 9) {
                found.say(field, "must map to levels from 0 to 9");
            }
        }
    }

    pub(super) fn check_keys(&self, found: &mut Found) {
        if self.algorithms.is_empty() {
            found.say("algorithms", "must name at least one algorithm");
        }
        let (field, url) = match &self.keys {
            KeyPlace::Discovery => ("issuer", &self.issuer),
            KeyPlace::JwksUrl(url) => ("keys.jwks_url", url),
            KeyPlace::JwksFile(path) if path.as_os_str().is_empty() => {
                return found.say("keys.jwks_file", "must name a file");
            }
            KeyPlace::JwksFile(_) => {
                if self.ca_file.is_some() || self.key_token.is_some() {
                    let why =
                        "is read from a file, for which `ca_file` and `key_token` have no use";
                    found.say("keys", why);
                }
                return;
            }
        };
        let unnamed = |path: &PathBuf| path.as_os_str().is_empty();
        if self.ca_file.as_ref().is_some_and(unnamed) {
            found.say("ca_file", "must name a file");
        }
        if let Err(error) = key_url(url) {
            found.say(field, error.to_string());
        }
    }

    pub(super) fn check_times(&self, found: &mut Found) {
        let day = 24 * 60 * 60;
        found.between(
            "max_token_lifetime",
            self.max_token_lifetime,
            seconds(1),
            seconds(400 * day),
        );
        found.between("clock_skew", self.clock_skew, ZERO, seconds(60));
        found.between(
            "refresh_interval",
            self.refresh_interval,
            seconds(1),
            seconds(day),
        );
        found.between(
            "max_stale",
            self.max_stale,
            self.refresh_interval.0,
            seconds(7 * day),
        );
        found.between(
            "unknown_kid_interval",
            self.unknown_kid_interval,
            seconds(1),
            seconds(day),
        );
    }
}

impl ClaimSettings {
    fn check(&self, found: &mut Found) {
        for (field, paths) in [
            ("claims.roles", &self.roles),
            ("claims.groups", &self.groups),
            ("claims.expose", &self.expose),
        ] {
            if paths.iter().any(|path| !plain(path)) {
                found.say(field, "must not hold an empty name or control characters");
            }
        }
        for (field, path) in [
            ("claims.tenant", &self.tenant),
            ("claims.purpose", &self.purpose),
            ("claims.human_approved", &self.human_approved),
            ("claims.scopes", &self.scopes),
        ] {
            if path.as_ref().is_some_and(|path| !plain(path)) {
                found.say(field, "must not be empty or hold control characters");
            }
        }
        for (field, prefix) in [
            ("claims.role_prefix", &self.role_prefix),
            ("claims.group_prefix", &self.group_prefix),
        ] {
            if !prefix.is_empty() && !plain(prefix) {
                found.say(
                    field,
                    "must not hold control characters or exceed 512 bytes",
                );
            }
        }
        if self.expose.len() > MAX_EXPOSED {
            found.say("claims.expose", format!("must not exceed {MAX_EXPOSED}"));
        }
    }
}

//! Servers that are asked about opaque tokens: which tokens, how they know us, and how their answers are judged.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::super::fetch::key_url;
use super::issuer::{Algorithm, ClaimSettings, IssuerSettings, KeyPlace, PrincipalSetting};
use super::{Found, plain, seconds};
use crate::model::{Period, SecretRef, without_query};

/// One server that is asked about bearer tokens which are no JWTs (RFC 7662).
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IntrospectionSettings {
    /// The exact text of `iss` in the server's answers, and the issuer of its tokens' subjects. Must be set.
    pub issuer: String,
    /// How the tokens begin that this server is asked about. A token does not say whose it is, so with several servers each
    /// needs a beginning of its own; the longest that fits counts.
    pub token_prefix: String,
    /// Where to ask: `https`, or `http` on a loopback address. Without it, the issuer's discovery document says
    /// (`introspection_endpoint`).
    pub endpoint: Option<String>,
    /// Who Cardea is towards the server. Must be set.
    pub client: ClientSettings,
    /// The certificates (PEM) of the authorities that may vouch for the server, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The audiences this API answers to: the answer must name one of them in `aud`, to the letter. Must be set, unless
    /// `any_audience` is.
    pub audiences: Vec<String>,
    /// Whether tokens for any audience are accepted. Then any service to which a caller gives its token can use it here.
    pub any_audience: bool,
    /// Whether an answer may do without `token_type`. Some servers leave it out for refresh tokens alone, which are then
    /// taken for access tokens.
    pub any_token_type: bool,
    /// Whether answers are signed (RFC 9701).
    pub signed_answers: SignedAnswers,
    /// Where the keys of signed answers come from: `discovery`, `{jwks_url: ..}` or `{jwks_file: ..}`.
    pub keys: KeyPlace,
    /// The algorithms accepted for signed answers.
    pub algorithms: Vec<Algorithm>,
    /// How long an answer that the token is good is believed, from when it was asked for. Never beyond the token's `exp`
    /// and `identity.cache.ttl`. A token that is taken back works here until then. `1s` to `1h`.
    pub cap: Period,
    /// How long an answer that the token is not good is believed. At most `1m`.
    pub negative_ttl: Period,
    /// How long one question may take, waiting for its turn included. At most `10s`.
    pub timeout: Period,
    /// How many questions are asked at a time. Sixteen times as many may wait for their turn; further ones are answered with
    /// 503.
    pub max_concurrent: u16,
    /// How far the server's clock and ours may differ where `nbf`, `iat` or `auth_time` lie ahead. At most `60s`.
    pub clock_skew: Period,
    /// What becomes of the members of an answer.
    pub claims: ClaimSettings,
    /// What kind of principal a token's holder is. A token without `sub` is its client's own: a client, whatever is said here.
    pub principal: PrincipalSetting,
    /// How many actors an answer may name (`act`, RFC 8693, section 4.1), one within the other. At most 16.
    pub max_actors: u8,
    /// Other issuers whose subjects may be named as actors.
    pub actor_issuers: Vec<String>,
    /// The assurance level (0 to 9) of each `acr` value. A value that is not listed is level 0.
    pub acr_levels: BTreeMap<String, u8>,
    /// The assurance level (0 to 9) of each `amr` value. The highest of all `acr` and `amr` levels counts.
    pub amr_levels: BTreeMap<String, u8>,
    /// The `amr` values that say by themselves that the login took more than one factor (`context.token.mfa`).
    pub mfa_methods: Vec<String>,
    /// The `acr` values that say the same.
    pub mfa_classes: Vec<String>,
}

impl Default for IntrospectionSettings {
    fn default() -> Self {
        let issuer = IssuerSettings::default();
        Self {
            issuer: String::new(),
            token_prefix: String::new(),
            endpoint: None,
            client: ClientSettings::default(),
            ca_file: None,
            audiences: Vec::new(),
            any_audience: false,
            any_token_type: false,
            signed_answers: SignedAnswers::Off,
            keys: KeyPlace::Discovery,
            algorithms: issuer.algorithms,
            cap: Period::seconds(60),
            negative_ttl: Period::seconds(5),
            timeout: Period::seconds(2),
            max_concurrent: 64,
            clock_skew: issuer.clock_skew,
            claims: ClaimSettings::default(),
            principal: PrincipalSetting::Auto,
            max_actors: issuer.max_actors,
            actor_issuers: Vec::new(),
            acr_levels: BTreeMap::new(),
            amr_levels: BTreeMap::new(),
            mfa_methods: issuer.mfa_methods,
            mfa_classes: Vec::new(),
        }
    }
}

/// Shows which server it is, and no query.
impl fmt::Debug for IntrospectionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionSettings")
            .field("issuer", &self.issuer)
            .field("endpoint", &self.endpoint.as_deref().map(without_query))
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// Whether answers are signed (RFC 9701).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignedAnswers {
    /// They have to be.
    Required,
    /// They are asked for; plain ones are accepted too.
    Accepted,
    /// They are not asked for.
    Off,
}

/// Who Cardea is towards a server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// The client id. Must be set.
    pub id: String,
    /// How Cardea proves to be that client. Must be set.
    pub auth: Option<ClientAuth>,
}

/// How a client proves who it is, by the names that OAuth gives to the methods. Files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientAuth {
    /// A secret, in `Authorization` (RFC 6749, section 2.3.1).
    ClientSecretBasic(SecretRef),
    /// A secret, in the form that is posted. Prefer `client_secret_basic` where the server takes it.
    ClientSecretPost(SecretRef),
    /// An assertion that a private key signs for each question (RFC 7523, section 2.2).
    PrivateKeyJwt {
        /// The private key: PEM, PKCS#8.
        private_key_file: PathBuf,
        /// The algorithm it signs with.
        algorithm: Algorithm,
        /// The key's id, where the server needs it.
        #[serde(default)]
        key_id: Option<String>,
        /// Whom the assertion is for. Without it: the issuer.
        #[serde(default)]
        audience: Option<String>,
    },
    /// A client certificate (RFC 8705, section 2).
    TlsClientAuth {
        /// The certificate and those above it: PEM.
        certificate_file: PathBuf,
        /// Its private key: PEM.
        key_file: PathBuf,
    },
}

impl IntrospectionSettings {
    /// The same as an issuer, whose tokens' claims are the members of an answer: so both are mapped by the same rules.
    pub(in crate::identity) fn as_issuer(&self) -> IssuerSettings {
        IssuerSettings {
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            algorithms: self.algorithms.clone(),
            keys: self.keys.clone(),
            required: self.signed_answers == SignedAnswers::Required,
            // Opaque tokens may live long; what counts here is how long an answer is believed.
            max_token_lifetime: Period(MAX_LIFETIME),
            clock_skew: self.clock_skew,
            claims: self.claims.clone(),
            principal: self.principal,
            max_actors: self.max_actors,
            actor_issuers: self.actor_issuers.clone(),
            acr_levels: self.acr_levels.clone(),
            amr_levels: self.amr_levels.clone(),
            mfa_methods: self.mfa_methods.clone(),
            mfa_classes: self.mfa_classes.clone(),
            ..IssuerSettings::default()
        }
    }

    pub(super) fn check(&self, found: &mut Found) {
        let issuer = self.as_issuer();
        issuer.check_holders(found);
        self.check_audience(found);
        self.check_place(found);
        self.check_client(found);
        self.check_limits(found);
        if self.signed_answers != SignedAnswers::Off {
            issuer.check_keys(found);
        }
        if !self.token_prefix.is_empty() && !plain(&self.token_prefix) {
            found.say("token_prefix", "must not hold control characters");
        }
        let unnamed = |path: &PathBuf| path.as_os_str().is_empty();
        if self.ca_file.as_ref().is_some_and(unnamed) {
            found.say("ca_file", "must name a file");
        }
    }

    fn check_audience(&self, found: &mut Found) {
        if !self.any_audience {
            found.texts("audiences", &self.audiences);
        } else if !self.audiences.is_empty() {
            found.say("any_audience", "contradicts `audiences`");
        }
    }

    /// Where the endpoint is, or may be found.
    fn check_place(&self, found: &mut Found) {
        let (field, url) = match &self.endpoint {
            Some(endpoint) => ("endpoint", endpoint),
            None => ("issuer", &self.issuer),
        };
        match key_url(url) {
            Err(error) => found.say(field, error.to_string()),
            Ok(url) if !self.fits_certificate(&url) => {
                found.say(field, "must be https for `tls_client_auth`");
            }
            Ok(_) => {}
        }
    }

    /// Whether a client certificate, where there is one, can be shown there.
    fn fits_certificate(&self, url: &Url) -> bool {
        url.scheme() == "https"
            || !matches!(self.client.auth, Some(ClientAuth::TlsClientAuth { .. }))
    }

    fn check_client(&self, found: &mut Found) {
        found.text("client.id", &self.client.id);
        let files: Vec<(&str, &PathBuf)> = match &self.client.auth {
            None => return found.say("client.auth", "must be set"),
            Some(ClientAuth::ClientSecretBasic(_) | ClientAuth::ClientSecretPost(_)) => Vec::new(),
            Some(ClientAuth::PrivateKeyJwt {
                private_key_file, ..
            }) => vec![("client.auth.private_key_file", private_key_file)],
            Some(ClientAuth::TlsClientAuth {
                certificate_file,
                key_file,
            }) => vec![
                ("client.auth.certificate_file", certificate_file),
                ("client.auth.key_file", key_file),
            ],
        };
        for (field, path) in files {
            if path.as_os_str().is_empty() {
                found.say(field, "must name a file");
            }
        }
    }

    fn check_limits(&self, found: &mut Found) {
        found.between("cap", self.cap, seconds(1), seconds(60 * 60));
        found.between(
            "negative_ttl",
            self.negative_ttl,
            Duration::ZERO,
            seconds(60),
        );
        let least = Duration::from_millis(10);
        found.between("timeout", self.timeout, least, seconds(10));
        found.between("clock_skew", self.clock_skew, Duration::ZERO, seconds(60));
        if !(1..=1024).contains(&self.max_concurrent) {
            found.say("max_concurrent", "must be from 1 to 1024");
        }
    }
}

/// What no token lives longer than: 10,000 years, since the last time that can be written is in the year 9999.
const MAX_LIFETIME: Duration = Duration::from_secs(10_000 * 366 * 24 * 60 * 60);

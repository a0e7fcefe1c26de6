//! The section `identity` of the settings: whom to believe, and for how long.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fetch::key_url;
use crate::model::{Period, Problem};

/// Whom to believe, and how long a proof is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The issuers whose bearer tokens are accepted. With none, every bearer token is refused.
    pub issuers: Vec<IssuerSettings>,
    /// How long and how many proofs are remembered.
    pub cache: CacheSettings,
    /// How long one request may wait for a key that is being fetched. It never waits beyond its own deadline.
    /// At most `10s`.
    pub key_wait: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            cache: CacheSettings::default(),
            key_wait: Period::seconds(2),
        }
    }
}

/// How long and how many proofs are remembered. Only a keyed hash of a token is kept, never the token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// How long a verified token is believed before it is verified again, and never beyond its `exp`. At most `1h`.
    pub ttl: Period,
    /// How many verified tokens are remembered.
    pub capacity: u64,
    /// How long a refused token is remembered, so that repeating it is cheap. At most `5m`.
    pub refused_ttl: Period,
    /// How many refused tokens are remembered, apart from the verified ones: a flood of them cannot push those out.
    pub refused_capacity: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            ttl: Period::seconds(60),
            capacity: 100_000,
            refused_ttl: Period::seconds(10),
            refused_capacity: 10_000,
        }
    }
}

/// One issuer of bearer tokens (JWT, RFC 7519; access tokens by RFC 9068).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerSettings {
    /// The exact text of the claim `iss`. Must be set.
    pub issuer: String,
    /// The audiences this API answers to: a token must name one of them in `aud`, to the letter. Must be set.
    pub audiences: Vec<String>,
    /// The signature algorithms accepted. Only asymmetric ones exist here.
    pub algorithms: Vec<Algorithm>,
    /// Where the issuer's public keys come from: `discovery`, `{jwks_url: ..}` or `{jwks_file: ..}`.
    pub keys: KeyPlace,
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
    /// The assurance level (0 to 9) of each `acr` value. A value that is not listed is level 0.
    pub acr_levels: BTreeMap<String, u8>,
    /// The assurance level (0 to 9) of each `amr` value. The highest of all `acr` and `amr` levels counts.
    pub amr_levels: BTreeMap<String, u8>,
}

impl Default for IssuerSettings {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            keys: KeyPlace::Discovery,
            required: true,
            token_types: vec!["at+jwt".into(), "application/at+jwt".into()],
            max_token_lifetime: Period::seconds(24 * 60 * 60),
            clock_skew: Period::seconds(30),
            refresh_interval: Period::seconds(5 * 60),
            max_stale: Period::seconds(60 * 60),
            unknown_kid_interval: Period::seconds(30),
            claims: ClaimSettings::default(),
            principal: PrincipalSetting::Auto,
            acr_levels: BTreeMap::new(),
            amr_levels: BTreeMap::new(),
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

/// Where an issuer's public keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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

impl Settings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Found::default();
        let mut seen = BTreeMap::new();
        for (index, issuer) in self.issuers.iter().enumerate() {
            found.place = format!("identity.issuers[{index}]");
            issuer.check(&mut found);
            match seen.entry(&issuer.issuer) {
                Entry::Vacant(place) => _ = place.insert(index),
                Entry::Occupied(first) => found.say(
                    "issuer",
                    format!("is the same as that of issuers[{}]", first.get()),
                ),
            }
        }
        found.place = "identity".into();
        found.between("key_wait", self.key_wait, ZERO, seconds(10));
        found.place = "identity.cache".into();
        let cache = &self.cache;
        found.between("ttl", cache.ttl, ZERO, seconds(60 * 60));
        found.between("refused_ttl", cache.refused_ttl, ZERO, seconds(5 * 60));
        found.count("capacity", cache.capacity);
        found.count("refused_capacity", cache.refused_capacity);
        found.problems
    }
}

impl Settings {
    /// What several issuers can name alike: whoever may sign for one can then give out another's roles, groups or tenants.
    /// Often it is meant so (one house, two login servers), hence it is told and not refused.
    pub(super) fn shared_names(&self) -> Vec<(&'static str, Vec<&str>)> {
        type Space<'a> = fn(&'a ClaimSettings) -> Option<&'a str>;
        let spaces: [(&'static str, Space<'_>); 3] = [
            ("roles", |claims| {
                (!claims.roles.is_empty()).then_some(claims.role_prefix.as_str())
            }),
            ("groups", |claims| {
                (!claims.groups.is_empty()).then_some(claims.group_prefix.as_str())
            }),
            ("tenants", |claims| claims.tenant.as_ref().map(|_| "")),
        ];
        let mut shared = Vec::new();
        for (what, space) in spaces {
            let named: Vec<(&str, &str)> = self
                .issuers
                .iter()
                .filter_map(|issuer| Some((issuer.issuer.as_str(), space(&issuer.claims)?)))
                .collect();
            let meets = |(own, prefix): &(&str, &str)| {
                named.iter().any(|(other, others)| {
                    own != other && (prefix.starts_with(others) || others.starts_with(prefix))
                })
            };
            let issuers: Vec<&str> = named
                .iter()
                .filter(|one| meets(one))
                .map(|one| one.0)
                .collect();
            if !issuers.is_empty() {
                shared.push((what, issuers));
            }
        }
        shared
    }
}

impl IssuerSettings {
    fn check(&self, found: &mut Found) {
        found.text("issuer", &self.issuer);
        if self.issuer.contains('|') {
            let why = "must not hold `|`: principals are named `<issuer>|<subject>`, and `a|b` could vouch for subjects of `a`";
            found.say("issuer", why);
        }
        found.texts("audiences", &self.audiences);
        found.texts("token_types", &self.token_types);
        if self.algorithms.is_empty() {
            found.say("algorithms", "must name at least one algorithm");
        }
        self.check_keys(found);
        self.check_times(found);
        self.claims.check(found);
        for (field, levels) in [
            ("acr_levels", &self.acr_levels),
            ("amr_levels", &self.amr_levels),
        ] {
            if levels.values().any(|level| *level > 9) {
                found.say(field, "must map to levels from 0 to 9");
            }
        }
    }

    fn check_keys(&self, found: &mut Found) {
        let (field, url) = match &self.keys {
            KeyPlace::Discovery => ("issuer", &self.issuer),
            KeyPlace::JwksUrl(url) => ("keys.jwks_url", url),
            KeyPlace::JwksFile(path) if path.as_os_str().is_empty() => {
                return found.say("keys.jwks_file", "must name a file");
            }
            KeyPlace::JwksFile(_) => return,
        };
        if let Err(error) = key_url(url) {
            found.say(field, error.to_string());
        }
    }

    fn check_times(&self, found: &mut Found) {
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

const ZERO: Duration = Duration::ZERO;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn plain(text: &str) -> bool {
    (1..=512).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// What was found wrong so far, and where the check stands.
#[derive(Default)]
struct Found {
    place: String,
    problems: Vec<Problem>,
}

impl Found {
    fn say(&mut self, field: &str, what: impl AsRef<str>) {
        let message = format!("`{}.{field}` {}", self.place, what.as_ref());
        self.problems.push(Problem::new(message));
    }

    fn text(&mut self, field: &str, text: &str) {
        if !plain(text) {
            self.say(field, "must be 1 to 512 bytes without control characters");
        }
    }

    fn texts(&mut self, field: &str, texts: &[String]) {
        if texts.is_empty() {
            self.say(field, "must name at least one");
        }
        for text in texts {
            self.text(field, text);
        }
    }

    fn between(&mut self, field: &str, value: Period, low: Duration, high: Duration) {
        let setting = format!("{}.{field}", self.place);
        let bounds = Period(low)..=Period(high);
        self.problems
            .extend(Problem::out_of_bounds(&setting, value, bounds));
    }

    fn count(&mut self, field: &str, value: u64) {
        let setting = format!("{}.{field}", self.place);
        self.problems
            .extend(Problem::out_of_bounds(&setting, value, 1..=10_000_000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer() -> IssuerSettings {
        IssuerSettings {
            issuer: "https://idp.example".into(),
            audiences: vec!["orders".into()],
            ..IssuerSettings::default()
        }
    }

    fn problems(issuers: Vec<IssuerSettings>) -> String {
        let settings = Settings {
            issuers,
            ..Settings::default()
        };
        let lines: Vec<String> = settings
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.join("\n")
    }

    #[test]
    fn the_smallest_settings_have_secure_defaults_and_no_problem() {
        let text = "issuers: [{issuer: 'https://idp.example', audiences: [orders]}]";
        let settings: Settings = serde_saphyr::from_str(text).unwrap();
        assert_eq!(settings.issuers, [issuer()]);
        assert_eq!(settings.problems(), []);
        assert_eq!(settings.key_wait, Period::seconds(2));
        assert_eq!(settings.cache.ttl, Period::seconds(60));
    }

    #[test]
    fn each_place_of_keys_can_be_written() {
        for (text, place) in [
            ("discovery", KeyPlace::Discovery),
            (
                "{jwks_url: 'https://idp.example/keys'}",
                KeyPlace::JwksUrl("https://idp.example/keys".into()),
            ),
            (
                "{jwks_file: keys.json}",
                KeyPlace::JwksFile("keys.json".into()),
            ),
        ] {
            let read: KeyPlace = serde_saphyr::from_str(text).unwrap();
            assert_eq!(read, place);
        }
    }

    #[test]
    fn j2_j3_symmetric_algorithms_and_none_cannot_be_written() {
        for name in ["HS256", "none", "None", "rs256", "ES512", ""] {
            let text = format!("{{issuer: i, algorithms: ['{name}']}}");
            assert!(serde_saphyr::from_str::<IssuerSettings>(&text).is_err());
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_saphyr::from_str::<Settings>("isuers: []").is_err());
        assert!(serde_saphyr::from_str::<IssuerSettings>("audience: x").is_err());
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let bad = IssuerSettings {
            issuer: "http://idp.example".into(),
            audiences: Vec::new(),
            algorithms: Vec::new(),
            clock_skew: Period::seconds(61),
            max_stale: Period::seconds(1),
            acr_levels: [("gold".into(), 10)].into(),
            ..IssuerSettings::default()
        };
        let found = problems(vec![bad.clone(), bad]);
        for part in [
            "`identity.issuers[0].audiences` must name at least one",
            "`identity.issuers[0].algorithms` must name",
            "`identity.issuers[0].issuer` must be https",
            "`identity.issuers[0].clock_skew` is 1m 1s, but must be from 0s to 1m",
            "`identity.issuers[0].max_stale` is 1s",
            "`identity.issuers[0].acr_levels` must map",
            "`identity.issuers[1].issuer` is the same as that of issuers[0]",
        ] {
            assert!(found.contains(part), "{part} is missing in:\n{found}");
        }
    }

    #[test]
    fn j4_no_two_issuers_can_name_the_same_principal() {
        // `https://a` with the subject `b|c`, and `https://a|b` with the subject `c`, would both be `https://a|b|c`.
        let mut other = issuer();
        other.issuer = "https://idp.example|b".into();
        other.keys = KeyPlace::JwksFile("keys.json".into());
        let found = problems(vec![issuer(), other]);
        assert!(
            found.contains("issuers[1].issuer` must not hold `|`"),
            "{found}"
        );
    }

    #[test]
    fn j4_issuers_that_can_name_one_anothers_roles_are_told() {
        let mut settings = Settings::default();
        let issuer = |name: &str, prefix: &str| IssuerSettings {
            issuer: name.into(),
            claims: ClaimSettings {
                roles: vec!["roles".into()],
                role_prefix: prefix.into(),
                ..ClaimSettings::default()
            },
            ..issuer()
        };
        settings.issuers = vec![issuer("a", "a:"), issuer("b", "b:")];
        assert_eq!(settings.shared_names(), []);
        settings.issuers.push(issuer("c", "b:c:"));
        assert_eq!(settings.shared_names(), [("roles", vec!["b", "c"])]);
        settings.issuers = vec![issuer("a", ""), issuer("b", "b:")];
        assert_eq!(settings.shared_names(), [("roles", vec!["a", "b"])]);
        for one in &mut settings.issuers {
            one.claims.roles.clear();
            one.claims.tenant = Some("tenant".into());
        }
        assert_eq!(settings.shared_names(), [("tenants", vec!["a", "b"])]);
    }

    #[test]
    fn limits_of_the_cache_are_checked() {
        let mut settings = Settings::default();
        settings.cache.capacity = 0;
        settings.cache.ttl = Period::seconds(3601);
        settings.key_wait = Period::seconds(11);
        assert_eq!(settings.problems().len(), 3);
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (url, good) in [
            ("https://idp.example/keys", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://[::1]/keys", true),
            ("http://localhost/keys", true),
            ("http://localhost.evil.example/keys", false),
            ("http://10.0.0.1/keys", false),
            ("file:///etc/passwd", false),
            ("https://user:secret@idp.example/keys", false),
            ("not a url", false),
        ] {
            let mut settings = issuer();
            settings.keys = KeyPlace::JwksUrl(url.into());
            assert_eq!(problems(vec![settings]).is_empty(), good, "{url}");
        }
    }
}

//! The section `identity` of the settings: whom to believe, and for how long.

mod api_key;
mod basic;
mod certificate;
mod dpop;
mod introspection;
mod issuer;
mod kubernetes;
mod revocation;
mod status_list;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

pub use super::acceptance::RouteSettings;
use super::dpop::listed;
use super::scheme::SchemeName;
use crate::model::{Challenge, Period, Problem};

pub use api_key::ApiKeySettings;
pub use basic::BasicSettings;
pub use certificate::{
    CertificateSettings, ForwardedHeader, ForwardedSettings, NameFrom, NameSettings,
    TrustDomainSettings, WithoutCrl,
};
pub use dpop::{DpopSettings, NonceSetting};
pub use introspection::{ClientAuth, ClientSettings, IntrospectionSettings, SignedAnswers};
pub use issuer::{Algorithm, Carrier, ClaimSettings, IssuerSettings, KeyPlace, PrincipalSetting};
pub use kubernetes::{BoundTo, KubernetesSettings};
pub use revocation::RevocationSettings;
pub(super) use revocation::life;
pub use status_list::{StatusListSettings, StatusMode};

/// Whom to believe, and how long a proof is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The issuers whose bearer tokens are accepted. With none, every bearer token is refused.
    pub issuers: Vec<IssuerSettings>,
    /// The Kubernetes clusters whose service accounts are accepted, by their tokens.
    pub kubernetes: Vec<KubernetesSettings>,
    /// Whose client certificates are accepted. Without it, a certificate names nobody.
    pub certificates: Option<CertificateSettings>,
    /// API keys. Without this section there are none.
    pub api_keys: Option<ApiKeySettings>,
    /// User names and passwords, for legacy clients. Without this section they are refused.
    pub basic: Option<BasicSettings>,
    /// The servers that are asked about bearer tokens which are no JWTs. With none, these are refused.
    pub introspection: Vec<IntrospectionSettings>,
    /// Proofs of possession (`DPoP`). Without this section, every token that is bound to a key is refused.
    pub dpop: Option<DpopSettings>,
    /// How long and how many proofs are remembered.
    pub cache: CacheSettings,
    /// Which schemes some operations accept, and which may come together. The first rule that fits counts; without one,
    /// every configured scheme is accepted.
    pub routes: Vec<RouteSettings>,
    /// How trust that was taken back is remembered.
    pub revocation: RevocationSettings,
    /// How long one request may wait for a key that is being fetched. It never waits beyond its own deadline.
    /// At most `10s`.
    pub key_wait: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            kubernetes: Vec::new(),
            certificates: None,
            api_keys: None,
            basic: None,
            introspection: Vec::new(),
            dpop: None,
            cache: CacheSettings::default(),
            routes: Vec::new(),
            revocation: RevocationSettings::default(),
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

impl Settings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Found::default();
        self.check_issuers(&mut found);
        if let Some(certificates) = &self.certificates {
            found.place = "identity.certificates".into();
            certificates.check(&mut found);
        }
        if let Some(settings) = &self.api_keys {
            settings.check(&mut found);
        }
        if let Some(settings) = &self.basic {
            settings.check(&mut found);
        }
        if let Some(settings) = &self.dpop {
            settings.check(&mut found);
        }
        self.check_introspection(&mut found);
        found.place = "identity".into();
        found.between("key_wait", self.key_wait, ZERO, seconds(10));
        found.place = "identity.cache".into();
        let cache = &self.cache;
        found.between("ttl", cache.ttl, ZERO, seconds(60 * 60));
        found.between("refused_ttl", cache.refused_ttl, ZERO, seconds(5 * 60));
        found.count("capacity", cache.capacity);
        found.count("refused_capacity", cache.refused_capacity);
        self.revocation.check(&mut found, &self.token_issuers());
        let configured = self.schemes();
        for (index, route) in self.routes.iter().enumerate() {
            let place = format!("identity.routes[{index}]");
            found.problems.extend(route.problems(&place, &configured));
        }
        found.problems
    }

    fn check_issuers(&self, found: &mut Found) {
        let mut seen = BTreeMap::new();
        let mut once = |issuer, place: String, found: &mut Found| match seen.entry(issuer) {
            Entry::Vacant(vacant) => _ = vacant.insert(place),
            Entry::Occupied(first) => {
                found.say("issuer", format!("is the same as that of {}", first.get()));
            }
        };
        for (index, issuer) in self.issuers.iter().enumerate() {
            let place = format!("issuers[{index}]");
            found.place = format!("identity.{place}");
            issuer.check(found);
            once(&issuer.issuer, place, found);
        }
        for (index, cluster) in self.kubernetes.iter().enumerate() {
            let place = format!("kubernetes[{index}]");
            found.place = format!("identity.{place}");
            cluster.check(found);
            once(&cluster.issuer, place, found);
        }
    }

    /// Everybody whose tokens are verified by keys: the issuers, and then the clusters.
    pub(super) fn token_issuers(&self) -> Vec<IssuerSettings> {
        let clusters = self.kubernetes.iter().map(KubernetesSettings::as_issuer);
        self.issuers.iter().cloned().chain(clusters).collect()
    }

    fn check_introspection(&self, found: &mut Found) {
        let mut seen = BTreeMap::new();
        for (index, server) in self.introspection.iter().enumerate() {
            found.place = format!("identity.introspection[{index}]");
            server.check(found);
            if let Some(first) = seen.insert(&server.token_prefix, index) {
                let what = format!("is the same as that of introspection[{first}]");
                found.say("token_prefix", what);
            }
        }
    }

    /// Everybody whose word about a caller counts.
    #[must_use]
    pub fn believed(&self) -> Vec<&str> {
        let issuers = self.issuers.iter().map(|issuer| &issuer.issuer);
        let servers = self.introspection.iter().map(|server| &server.issuer);
        let clusters = self.kubernetes.iter().map(|cluster| &cluster.issuer);
        let keys = self.api_keys.iter().map(|keys| &keys.issuer);
        let users = self.basic.iter().map(|users| &users.issuer);
        let all = issuers.chain(servers).chain(clusters);
        let all = all.chain(keys).chain(users);
        all.map(String::as_str).collect()
    }

    /// The issuer of every credential that may be accepted, as revocations name it: everybody who is believed, and those by
    /// whose certificates callers are known.
    #[must_use]
    pub fn vouching(&self) -> Vec<String> {
        let certificates = self.certificates.iter();
        let certificates = certificates.flat_map(CertificateSettings::vouching);
        let believed = self.believed().into_iter().map(str::to_owned);
        believed.chain(certificates).collect()
    }

    /// The schemes that are configured, in the order in which they count.
    pub(super) fn schemes(&self) -> Vec<SchemeName> {
        let configured = |scheme: &SchemeName| match scheme {
            SchemeName::Jwt => true,
            SchemeName::Certificate => self.certificates.is_some(),
            SchemeName::TransactionToken => {
                let carrier = Carrier::TransactionToken;
                self.issuers.iter().any(|issuer| issuer.carrier == carrier)
            }
            SchemeName::ApiKey => self.api_keys.is_some(),
            SchemeName::Basic => self.basic.is_some(),
            SchemeName::Introspection => !self.introspection.is_empty(),
        };
        SchemeName::ALL.into_iter().filter(configured).collect()
    }

    /// What a caller who lacks a credential of this scheme is told, one beside the other.
    pub(super) fn challenges(&self, scheme: SchemeName) -> Vec<Challenge> {
        let own = self.challenge(scheme);
        let proof = self
            .dpop
            .as_ref()
            .filter(|_| own == Some(Challenge::Bearer));
        let proof = proof.map(|dpop| Challenge::Dpop {
            algorithms: listed(&dpop.algorithms),
        });
        own.into_iter().chain(proof).collect()
    }

    /// What a caller who lacks a credential of this scheme is told. Nothing for one that no header can carry, and nothing
    /// for bearer tokens where no issuer is configured and something else is.
    fn challenge(&self, scheme: SchemeName) -> Option<Challenge> {
        match scheme {
            SchemeName::Jwt => {
                let other = self.api_keys.is_some() || self.basic.is_some();
                let bearer = |issuer: &IssuerSettings| issuer.carrier != Carrier::TransactionToken;
                let any = self.issuers.iter().any(bearer) || !self.kubernetes.is_empty();
                (!other || any).then_some(Challenge::Bearer)
            }
            SchemeName::Introspection => Some(Challenge::Bearer),
            SchemeName::Certificate | SchemeName::TransactionToken => None,
            SchemeName::ApiKey => self.api_keys.as_ref().map(|keys| Challenge::ApiKey {
                header: keys.header.to_ascii_lowercase().into(),
            }),
            SchemeName::Basic => Some(Challenge::Basic),
        }
    }
}

impl Settings {
    /// What each issuer's tokens say, however they are read.
    fn mappings(&self) -> impl Iterator<Item = (&str, &ClaimSettings)> {
        let signed = self.issuers.iter();
        let opaque = self.introspection.iter();
        signed
            .map(|issuer| (issuer.issuer.as_str(), &issuer.claims))
            .chain(opaque.map(|server| (server.issuer.as_str(), &server.claims)))
    }

    /// What several issuers can name alike: whoever may sign for one can then give out another's roles, groups or tenants.
    /// Often it is meant so (one house, two login servers), hence it is told and not refused.
    pub(super) fn shared_names(&self) -> Vec<(&'static str, Vec<&str>)> {
        type Space<'a> = fn(&'a ClaimSettings) -> Option<&'a str>;
        let clusters: Vec<(&str, String)> = self
            .kubernetes
            .iter()
            .map(|cluster| (cluster.issuer.as_str(), cluster.groups()))
            .collect();
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
            let more = clusters.iter().filter(|_| what == "groups");
            let more = more.map(|(issuer, prefix)| (*issuer, prefix.as_str()));
            let named: Vec<(&str, &str)> = self
                .mappings()
                .filter_map(|(issuer, claims)| Some((issuer, space(claims)?)))
                .chain(more)
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

pub(super) const ZERO: Duration = Duration::ZERO;

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn plain(text: &str) -> bool {
    (1..=512).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// What was found wrong so far, and where the check stands.
#[derive(Default)]
pub(super) struct Found {
    pub(super) place: String,
    pub(super) problems: Vec<Problem>,
}

impl Found {
    pub(super) fn say(&mut self, field: &str, what: impl AsRef<str>) {
        let message = format!("`{}.{field}` {}", self.place, what.as_ref());
        self.problems.push(Problem::new(message));
    }

    pub(super) fn text(&mut self, field: &str, text: &str) {
        if !plain(text) {
            self.say(field, "must be 1 to 512 bytes without control characters");
        }
    }

    pub(super) fn texts(&mut self, field: &str, texts: &[String]) {
        if texts.is_empty() {
            self.say(field, "must name at least one");
        }
        for text in texts {
            self.text(field, text);
        }
    }

    pub(super) fn between(&mut self, field: &str, value: Period, low: Duration, high: Duration) {
        let setting = format!("{}.{field}", self.place);
        let bounds = Period(low)..=Period(high);
        self.problems
            .extend(Problem::out_of_bounds(&setting, value, bounds));
    }

    pub(super) fn count(&mut self, field: &str, value: u64) {
        self.within(field, value, 1..=10_000_000);
    }

    pub(super) fn within(&mut self, field: &str, value: u64, bounds: RangeInclusive<u64>) {
        let setting = format!("{}.{field}", self.place);
        self.problems
            .extend(Problem::out_of_bounds(&setting, value, bounds));
    }
}

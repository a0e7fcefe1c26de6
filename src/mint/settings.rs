//! The section `mint`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Period, Problem};

/// How long verifiers may keep the key set that the public endpoint serves. A key is published for longer than that before
/// it signs, so that no verifier meets a token whose key it cannot know.
pub const KEY_SET_CACHED: Duration = Duration::from_secs(300);

/// The most names of one kind that settings may hold.
const MOST_AUDIENCES: usize = 1000;

/// A signed token about the caller for the services behind Envoy, with each request that passes. Without this section
/// there is none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Who Cardea says it is (`iss`). Services compare it to the byte, so it must be set, and must be none of the issuers
    /// that Cardea itself believes.
    pub issuer: String,
    /// The header that carries the token. A client's copy never passes. `authorization` puts it in place of the caller's own
    /// credential, behind `Bearer`.
    pub header: String,
    /// For whom the tokens of an API are (`aud`), by the API's name. An API that is not named here has its own name, and
    /// what no document describes has `undocumented`: a token for one service is of no use at another.
    pub audiences: BTreeMap<String, String>,
    /// One audience for all APIs that `audiences` does not name. Every service that expects it takes a token that was
    /// made for any other of them.
    pub audience: Option<String>,
    /// How long a token is good: from `5s` to `10m`, and never longer than the caller's own credential.
    pub lifetime: Period,
    /// What a token tells of the caller beyond its name (`sub`, `kind`, `idp`, `idp_sub`) and whoever acts for it (`act`).
    pub claims: Vec<MintedClaim>,
    /// What a token is good for beyond its audience.
    pub bind: Binding,
    /// Whether a request without any credential, where policies permit it, gets a token that names nobody.
    pub anonymous: bool,
    /// What signs.
    pub keys: KeySettings,
    /// How many tokens are remembered, so that the next request of the same caller need not wait for a signature. None is
    /// used for longer than half its life. `0`: every request is signed for.
    pub cache_entries: u64,
}

impl Default for Settings {
    fn default() -> Self {
        use MintedClaim as C;
        Self {
            issuer: String::new(),
            header: "x-cardea-identity".to_owned(),
            audiences: BTreeMap::new(),
            audience: None,
            lifetime: Period::seconds(60),
            claims: vec![
                C::Scheme,
                C::ClientId,
                C::Scope,
                C::Roles,
                C::Tenant,
                C::Acr,
                C::Assurance,
                C::Mfa,
                C::AuthTime,
                C::Purpose,
            ],
            bind: Binding::Audience,
            anonymous: false,
            keys: KeySettings::default(),
            cache_entries: 10_000,
        }
    }
}

/// What a token may tell of the caller. Whoever acts for a user gets what the user's token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MintedClaim {
    /// `scheme`: how the caller proved who it is.
    Scheme,
    /// `client_id`: the OAuth client.
    ClientId,
    /// `scope`: what the caller's credential may be used for, with spaces between.
    Scope,
    /// `roles`.
    Roles,
    /// `groups`.
    Groups,
    /// `tenant`.
    Tenant,
    /// `acr`: the class of the login.
    Acr,
    /// `amr`: how the caller logged in.
    Amr,
    /// `assurance`: the level that `acr` and `amr` reach by the settings.
    Assurance,
    /// `mfa`: whether the login took more than one factor, as far as its issuer says.
    Mfa,
    /// `auth_time`: when the caller logged in.
    AuthTime,
    /// `sid`: the login session.
    Sid,
    /// `purpose` and `human_approved`, of whoever acts for somebody.
    Purpose,
    /// `claims`: those that the issuer's `claims.expose` names, each a list of texts.
    Exposed,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Every request to its audience. The default.
    #[default]
    Audience,
    /// One operation: `op` and `htm` name it and its method, and the service has to compare them.
    Operation,
}

/// What signs tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// A folder with a private key in each file that ends in `.pem` (PKCS#8; P-256 or Ed25519); `cardea mint create-key`
    /// makes one. The last by name signs once it was published for `publish_ahead`. It is looked at each second. Without
    /// it, keys are made in memory: good for one process only, since no other one publishes them.
    pub directory: Option<PathBuf>,
    /// What keys made in memory are for; `ES256` where it is not set. Not beside `directory`: a key in a file says so itself.
    pub algorithm: Option<SigningAlgorithm>,
    /// How long a key made in memory signs: from `1h` to `90d`; `1d` where it is not set. Not beside `directory`: what is in
    /// the folder says which key signs.
    pub rotate_every: Option<Period>,
    /// How long a key is published before it signs: from `5m`, which is how long verifiers keep the key set, to `24h`.
    pub publish_ahead: Period,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            directory: None,
            algorithm: None,
            rotate_every: None,
            publish_ahead: Period::seconds(10 * 60),
        }
    }
}

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SigningAlgorithm {
    /// ECDSA over P-256 (RFC 7518, section 3.4). The default.
    ES256,
    /// Ed25519 (RFC 8037).
    EdDSA,
}

impl SigningAlgorithm {
    /// Its name in `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl Settings {
    /// Everything that is wrong with these settings. `believed` are the issuers whose credentials Cardea takes: a token of
    /// its own must never be one.
    #[must_use]
    pub fn problems(&self, believed: &[&str]) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !plain(&self.issuer) {
            problems.push(Problem::new(
                "`mint.issuer` must be set: 1 to 512 bytes without spaces and control characters",
            ));
        } else if believed.contains(&self.issuer.as_str()) {
            let message = format!(
                "`mint.issuer` is `{}`, whose credentials `identity` believes",
                self.issuer
            );
            problems.push(Problem::new(message).hint(
                "give it a name of its own: what Cardea says of a caller must not come back as a caller's own word",
            ));
        }
        let named = self.audiences.iter().flat_map(|(api, name)| [api, name]);
        if !self.audience.iter().chain(named).all(|name| plain(name)) {
            problems.push(Problem::new(
                "`mint.audience` and `mint.audiences`: names are 1 to 512 bytes without spaces and control characters",
            ));
        }
        problems.extend(Problem::out_of_bounds(
            "mint.audiences",
            self.audiences.len(),
            0..=MOST_AUDIENCES,
        ));
        problems.extend(within("lifetime", self.lifetime, (5, 10 * 60)));
        problems.extend(Problem::out_of_bounds(
            "mint.cache_entries",
            self.cache_entries,
            0..=10_000_000,
        ));
        self.keys.check(&mut problems);
        problems
    }

    /// For whom the tokens of an API are.
    pub(super) fn audience_of<'a>(&'a self, api: &'a str) -> &'a str {
        let named = self.audiences.get(api).or(self.audience.as_ref());
        named.map_or(api, String::as_str)
    }

    /// Whether a token tells this.
    pub(super) fn tells(&self, claim: MintedClaim) -> bool {
        self.claims.contains(&claim)
    }
}

const DAY: u64 = 24 * 60 * 60;

impl KeySettings {
    /// What keys made in memory are for, and how long each signs.
    pub(super) fn in_memory(&self) -> (SigningAlgorithm, Period) {
        (
            self.algorithm.unwrap_or(SigningAlgorithm::ES256),
            self.rotate_every.unwrap_or(Period::seconds(DAY)),
        )
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        let least = KEY_SET_CACHED.as_secs();
        problems.extend(within(
            "keys.publish_ahead",
            self.publish_ahead,
            (least, DAY),
        ));
        if self.directory.is_some() {
            self.check_beside_directory(problems);
        } else {
            self.check_in_memory(problems);
        }
    }

    fn check_beside_directory(&self, problems: &mut Vec<Problem>) {
        let set = [
            ("algorithm", self.algorithm.is_some()),
            ("rotate_every", self.rotate_every.is_some()),
        ];
        for (field, _) in set.into_iter().filter(|(_, set)| *set) {
            let message = format!(
                "`mint.keys.{field}` is set beside `mint.keys.directory`, where it has no effect"
            );
            problems.push(
                Problem::new(message)
                    .hint("it is for keys made in memory: take it out, or `directory`"),
            );
        }
    }

    fn check_in_memory(&self, problems: &mut Vec<Problem>) {
        let (_, rotate_every) = self.in_memory();
        problems.extend(within(
            "keys.rotate_every",
            rotate_every,
            (60 * 60, 90 * DAY),
        ));
        if self.publish_ahead >= rotate_every {
            problems.push(Problem::new(
                "`mint.keys.publish_ahead` must be shorter than `mint.keys.rotate_every`",
            ));
        }
    }
}

fn within(field: &str, value: Period, (least, most): (u64, u64)) -> Option<Problem> {
    let bounds = Period::seconds(least)..=Period::seconds(most);
    Problem::out_of_bounds(&format!("mint.{field}"), value, bounds)
}

fn plain(text: &str) -> bool {
    let unfit = |c: char| c.is_whitespace() || c.is_control();
    (1..=512).contains(&text.len()) && !text.contains(unfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Settings {
        Settings {
            issuer: "https://cardea.internal".to_owned(),
            ..Settings::default()
        }
    }

    #[test]
    fn the_defaults_are_good_once_there_is_an_issuer() {
        assert_eq!(good().problems(&["https://login.example.com"]), []);
        assert_eq!(Settings::default().problems(&[]).len(), 1);
    }

    #[test]
    fn an_issuer_that_callers_are_believed_by_is_refused() {
        let problems = good().problems(&["https://a", "https://cardea.internal"]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].message.contains("`identity` believes"),
            "{problems:?}"
        );
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let settings = Settings {
            issuer: "two words".to_owned(),
            audience: Some(String::new()),
            lifetime: Period::seconds(3600),
            cache_entries: 1 << 40,
            keys: KeySettings {
                rotate_every: Some(Period::seconds(60)),
                publish_ahead: Period::seconds(60),
                ..KeySettings::default()
            },
            ..Settings::default()
        };
        let problems = settings.problems(&[]);
        let told: Vec<&str> = problems.iter().map(|one| one.message.as_str()).collect();
        for part in [
            "mint.issuer",
            "mint.audience",
            "`mint.lifetime` is 1h, but must be from 5s to 10m",
            "mint.cache_entries",
            "mint.keys.rotate_every",
            "`mint.keys.publish_ahead` is 1m, but must be from 5m",
            "must be shorter",
        ] {
            assert!(
                told.iter().any(|one| one.contains(part)),
                "{part}: {told:?}"
            );
        }
        assert_eq!(told.len(), 7);
    }

    #[test]
    fn what_is_for_keys_in_memory_has_no_place_beside_a_folder() {
        let with = |directory: Option<&str>, rotate_every, algorithm| {
            let settings = Settings {
                keys: KeySettings {
                    directory: directory.map(PathBuf::from),
                    algorithm,
                    rotate_every,
                    publish_ahead: Period::seconds(DAY),
                },
                ..good()
            };
            let message = |problem: Problem| problem.message;
            let problems = settings.problems(&[]).into_iter().map(message);
            problems.collect::<Vec<_>>()
        };
        // Without a folder, a day ahead is as long as a key signs; in one, nobody rotates.
        let told = with(None, None, None);
        assert!(
            told.len() == 1 && told[0].contains("must be shorter"),
            "{told:?}"
        );
        assert_eq!(with(Some("keys"), None, None), Vec::<String>::new());
        let two_days = Some(Period::seconds(2 * DAY));
        let es256 = Some(SigningAlgorithm::ES256);
        assert_eq!(with(None, two_days, es256), Vec::<String>::new());
        let told = with(Some("keys"), two_days, es256);
        assert_eq!(told.len(), 2, "{told:?}");
        for (told, field) in told.iter().zip(["algorithm", "rotate_every"]) {
            let start = format!("`mint.keys.{field}` is set beside `mint.keys.directory`");
            assert!(told.starts_with(&start), "{told}");
        }
    }

    #[test]
    fn an_api_has_the_audience_that_is_named_for_it_or_its_own_name() {
        let mut settings = good();
        settings.audiences = BTreeMap::from([("orders".to_owned(), "https://orders".to_owned())]);
        assert_eq!(settings.audience_of("orders"), "https://orders");
        assert_eq!(settings.audience_of("payments"), "payments");
        settings.audience = Some("mesh".to_owned());
        assert_eq!(settings.audience_of("orders"), "https://orders");
        assert_eq!(settings.audience_of("payments"), "mesh");
    }
}

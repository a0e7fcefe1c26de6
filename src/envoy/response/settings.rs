//! The section `answer`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Period, Problem};

/// How Envoy, the upstream and the caller hear a decision.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerSettings {
    /// Names of the identity headers that an upstream gets with an allowed request. Copies that a client sent are
    /// always removed or overwritten.
    pub headers: IdentityHeaders,
    /// What becomes of the caller's `authorization` header, of its proof and of its API key, when a request passes.
    pub credential: Credential,
    /// What Envoy hears when Cardea itself cannot decide.
    pub own_trouble: OwnTrouble,
    /// `Retry-After` of answers with 429 and 503; whole seconds, at least one.
    pub retry_after: Period,
    /// The realm named in `WWW-Authenticate`.
    pub realm: String,
}

impl Default for AnswerSettings {
    fn default() -> Self {
        Self {
            headers: IdentityHeaders::default(),
            credential: Credential::Keep,
            own_trouble: OwnTrouble::Deny,
            retry_after: Period::seconds(1),
            realm: "cardea".to_owned(),
        }
    }
}

/// Names of the identity headers. `null` leaves one out (a client's copy of the default name is removed all the same).
/// Values are percent-encoded: every byte that is not visible ASCII, and `%` and `,`; lists are joined with commas.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityHeaders {
    /// The caller's subject (`sub`), unique within its issuer.
    pub subject: Option<String>,
    /// Who vouches for the caller (`iss`).
    pub issuer: Option<String>,
    /// What kind of principal it is: `User`, `Client`, `Workload`, `Agent` or `Anonymous`.
    pub principal: Option<String>,
    /// The OAuth client.
    pub client: Option<String>,
    /// The caller's roles.
    pub roles: Option<String>,
    /// What the credential may be used for.
    pub scopes: Option<String>,
    /// The caller's tenant.
    pub tenant: Option<String>,
    /// The decision's id.
    pub decision: Option<String>,
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        let name = |of: &str| Some(format!("{OWN_PREFIX}{of}"));
        Self {
            subject: name("subject"),
            issuer: name("issuer"),
            principal: name("principal"),
            client: name("client"),
            roles: name("roles"),
            scopes: name("scopes"),
            tenant: name("tenant"),
            decision: name("decision"),
        }
    }
}

/// What becomes of the caller's credential in the headers when a request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The upstream gets it. The default.
    #[default]
    Keep,
    /// It is removed.
    Remove,
}

/// What Envoy hears when Cardea itself cannot decide (not ready, out of time, no keys, a fault).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnTrouble {
    /// A denial with 503: closed, whatever `failure_mode_allow` says. The default.
    #[default]
    Deny,
    /// An error: Envoy counts it as one, and lets the request pass where `failure_mode_allow` is set.
    EnvoyError,
}

/// Every header whose name begins so is Cardea's, whoever sent it.
pub(super) const OWN_PREFIX: &str = "x-cardea-";

/// Names that a request cannot do without, or that mean something to every proxy on the way.
const TAKEN: [&str; 16] = [
    "accept",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What an identity header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    Subject,
    Issuer,
    Principal,
    Client,
    Roles,
    Scopes,
    Tenant,
    Decision,
}

/// The same as meant: checked, and ready for use.
#[derive(Debug, Clone)]
pub struct Answers {
    /// What is set, under which name.
    pub(super) set: Vec<(Tells, String)>,
    /// Names that are Cardea's, with `-` for `_`, in order; every default name is among them.
    pub(super) owned: Vec<String>,
    /// The header for what was minted, where something is.
    pub(super) minted: Option<String>,
    pub(super) credential: Credential,
    pub(super) own_trouble: OwnTrouble,
    /// Whole seconds.
    pub(super) retry_after: u64,
    pub(super) realm: String,
}

impl AnswerSettings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.resolve().err().unwrap_or_default()
    }

    /// Checks the settings and makes them ready for use.
    ///
    /// # Errors
    /// Everything that is wrong with these settings.
    pub fn resolve(&self) -> Result<Answers, Vec<Problem>> {
        let set = self.headers.named();
        let mut problems = check_names(&set);
        let plain = |b: u8| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\';
        if self.realm.is_empty() || self.realm.len() > 128 || !self.realm.bytes().all(plain) {
            problems.push(Problem::new(
                "`answer.realm` must be 1 to 128 visible ASCII characters without `\"` and `\\`",
            ));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let defaults = IdentityHeaders::default().named();
        let owned: BTreeSet<String> = set
            .iter()
            .chain(&defaults)
            .map(|(_, name)| folded(name))
            .collect();
        Ok(Answers {
            owned: owned.into_iter().collect(),
            set,
            minted: None,
            credential: self.credential,
            own_trouble: self.own_trouble,
            retry_after: whole_seconds(self.retry_after),
            realm: self.realm.clone(),
        })
    }
}

impl AnswerSettings {
    /// What keeps a minted token from being carried in this header; `None` where nothing does. It may take the place of
    /// the caller's own credential.
    #[must_use]
    pub fn problem_of_minted(&self, header: &str) -> Option<Problem> {
        let name = header.to_ascii_lowercase();
        let used = self.headers.named().into_iter().any(|(_, own)| own == name);
        let what = if used {
            "is one of `answer.headers`"
        } else if name == "authorization" {
            return None;
        } else {
            unfit(&name)?
        };
        Some(Problem::new(format!(
            "`mint.header`: the name `{name}` {what}"
        )))
    }
}

impl Answers {
    /// The same, with a header for what is minted. A client's copy never passes, whether a token takes its place or not.
    #[must_use]
    pub fn with_minted(mut self, header: &str) -> Self {
        let own = folded(header);
        if let Err(place) = self.owned.binary_search(&own) {
            self.owned.insert(place, own);
        }
        self.minted = Some(header.to_ascii_lowercase());
        self
    }
}

impl IdentityHeaders {
    fn named(&self) -> Vec<(Tells, String)> {
        [
            (Tells::Subject, &self.subject),
            (Tells::Issuer, &self.issuer),
            (Tells::Principal, &self.principal),
            (Tells::Client, &self.client),
            (Tells::Roles, &self.roles),
            (Tells::Scopes, &self.scopes),
            (Tells::Tenant, &self.tenant),
            (Tells::Decision, &self.decision),
        ]
        .into_iter()
        .filter_map(|(tells, name)| Some((tells, name.as_ref()?.to_ascii_lowercase())))
        .collect()
    }
}

/// A header's name as careless upstreams compare it: CGI and its heirs turn `-` into `_`, and some turn it back.
pub(super) fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn check_names(set: &[(Tells, String)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (tells, name) in set {
        let what = if let Some(what) = unfit(name) {
            what
        } else if !seen.insert(name) {
            "is used twice"
        } else {
            continue;
        };
        let field = format!("{tells:?}").to_ascii_lowercase();
        problems.push(Problem::new(format!(
            "`answer.headers.{field}`: the name `{name}` {what}"
        )));
    }
    problems
}

/// Why no header of ours can have this name.
fn unfit(name: &str) -> Option<&'static str> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(token) {
        Some("is no header name of letters, digits and `-`")
    } else if TAKEN.contains(&name) || name.starts_with("x-envoy-") {
        Some("already means something else")
    } else {
        None
    }
}

/// Rounded up, and never zero: `Retry-After: 0` would ask for a storm.
pub(super) fn whole_seconds(period: Period) -> u64 {
    let seconds = period.0.as_secs();
    let rest = u64::from(period.0.subsec_nanos() > 0);
    seconds.saturating_add(rest).max(1)
}

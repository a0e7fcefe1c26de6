//! Settings of where bundles come from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::remote::check_url;
use crate::model::{Period, Problem, SecretRef, remote_url, without_query};

/// Where policies come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BundleSettings {
    /// The folder that holds the bundle: schema, policies, entities and API documents. Or a signed archive (`.tar.gz` or
    /// `.tgz`) with its signature beside it (`.tar.gz.sig`). Not used where `bundle.remote` is set.
    pub path: PathBuf,
    /// How often the folder or archive is looked at. A change takes effect within three looks and the time to compile it.
    pub poll: Period,
    /// How often every file is read again even if nothing seems to have changed, for file systems whose times lie.
    pub reread: Period,
    /// Whether a bundle's own tests are run before it comes into force; one whose tests fail is refused, and the one in
    /// force stays. They may take 30 seconds and hold 10,000 cases.
    pub run_tests: bool,
    /// A folder, or a signed archive, with a candidate bundle. It decides nothing: every decision is made again from it
    /// after the answer, and what it would have decided otherwise is counted and listed (`/shadow` on the admin endpoint).
    pub candidate: Option<PathBuf>,
    /// Files with the public keys (PEM, Ed25519) that may sign an archive; any one of them is enough. To change keys,
    /// name the new one beside the old one first.
    pub public_keys: Vec<PathBuf>,
    /// The folder in which the last good archive is kept, so that a restart without the network serves it, and an older
    /// one is told from it. It must outlive the process and belong to one Cardea alone. Needed with `bundle.remote`.
    pub cache_dir: Option<PathBuf>,
    /// Whether an archive with a lower serial number than the last good one is taken. For the time of going back only:
    /// while it is true, whoever can serve an old archive can bring its policies back.
    pub allow_rollback: bool,
    /// A signed archive that is fetched, in place of `bundle.path`.
    pub remote: Option<RemoteSettings>,
}

impl Default for BundleSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("policies"),
            poll: Period::millis(300),
            reread: Period::seconds(60),
            run_tests: true,
            candidate: None,
            public_keys: Vec::new(),
            cache_dir: None,
            allow_rollback: false,
            remote: None,
        }
    }
}

/// A signed archive that is fetched over the network.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteSettings {
    /// Where the archive is: `https://..` (`http` on a loopback address only), or `s3://..`, `gs://..`, `az://..` where
    /// Cardea was built with the feature `object-store`. Redirects are not followed.
    pub url: String,
    /// Where its signature is. Without it, `url` with `.sig` at the end of its path.
    #[serde(default)]
    pub signature_url: Option<String>,
    /// How often the signature is asked for, give or take a tenth; the archive is fetched when the signature changed.
    #[serde(default = "poll")]
    pub poll: Period,
    /// The longest one fetch may take, from the connection to the last byte.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// A token that is sent as `Authorization: Bearer` with both fetches (https only). Read anew for each fetch.
    #[serde(default)]
    pub credential: Option<SecretRef>,
    /// A file with the certificates in PEM that the server's certificate must come from, in place of the system's (https
    /// only).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Options of the object store by their names in the crate `object_store`, such as `aws_region`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Options of the object store that are secret, such as `aws_secret_access_key`. Read at start.
    #[serde(default)]
    pub secret_options: BTreeMap<String, SecretRef>,
}

/// Shows no query.
impl fmt::Debug for RemoteSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = self.signature_url.as_deref().map(without_query);
        f.debug_struct("RemoteSettings")
            .field("url", &without_query(&self.url))
            .field("signature_url", &signature)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

fn poll() -> Period {
    Period::seconds(30)
}

fn timeout() -> Period {
    Period::seconds(30)
}

impl BundleSettings {
    /// The same settings for the candidate, if there is one. It is neither kept nor measured by serials: it decides
    /// nothing.
    #[must_use]
    pub fn candidate(&self) -> Option<Self> {
        let path = self.candidate.clone()?;
        Some(Self {
            path,
            candidate: None,
            cache_dir: None,
            allow_rollback: true,
            remote: None,
            ..self.clone()
        })
    }

    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.path.as_os_str().is_empty() {
            problems.push(Problem::new(
                "`bundle.path` is empty: name the folder that holds the policies",
            ));
        }
        if !between(self.poll, Period::millis(50)) {
            problems.push(Problem::new("`bundle.poll` must lie between 50ms and 1h"));
        }
        if self.reread < self.poll {
            problems.push(Problem::new(
                "`bundle.reread` must not be shorter than `bundle.poll`",
            ));
        }
        let candidate = self.candidate();
        if self.is_signed() || candidate.is_some_and(|candidate| candidate.is_signed()) {
            problems.extend(self.missing_keys());
        }
        if let Some(remote) = &self.remote {
            if self.cache_dir.is_none() {
                problems.push(
                    Problem::new("`bundle.remote` is set without `bundle.cache_dir`")
                        .hint("name a folder that outlives the process: a restart without the network serves what is kept there"),
                );
            }
            problems.extend(remote.problems());
        }
        problems
    }

    /// Whether the bundle comes as a signed archive.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.remote.is_some() || name.ends_with(".tar.gz") || name.ends_with(".tgz")
    }

    pub(super) fn missing_keys(&self) -> Option<Problem> {
        self.public_keys.is_empty().then(|| {
            Problem::new("`bundle.public_keys` is empty, so no archive can be believed")
                .hint("name the public keys that may sign; `cardea bundle keygen` makes a pair")
        })
    }
}

impl RemoteSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let signature = self
            .signature_url
            .as_deref()
            .map(|url| ("signature_url", url));
        for (name, url) in std::iter::once(("url", self.url.as_str())).chain(signature) {
            if let Err(wrong) = check_url(url) {
                problems.push(Problem::new(format!("`bundle.remote.{name}` {wrong}")));
            }
        }
        if !between(self.poll, Period::millis(100)) {
            problems.push(Problem::new(
                "`bundle.remote.poll` must lie between 100ms and 1h",
            ));
        }
        if !between(self.timeout, Period::millis(100)) {
            problems.push(Problem::new(
                "`bundle.remote.timeout` must lie between 100ms and 1h",
            ));
        }
        let web = remote_url(&self.url).is_some();
        if web && !(self.options.is_empty() && self.secret_options.is_empty()) {
            problems.push(Problem::new(
                "`bundle.remote.options` and `secret_options` are for object stores, not for https",
            ));
        }
        if !web && (self.credential.is_some() || self.ca_file.is_some()) {
            problems.push(
                Problem::new("`bundle.remote.credential` and `ca_file` are for https")
                    .hint("object stores take `options` and `secret_options`"),
            );
        }
        problems
    }
}

/// Whether a period is at least `low`, and an hour at most.
fn between(period: Period, low: Period) -> bool {
    (low..=Period::seconds(3600)).contains(&period)
}

//! Kubernetes clusters whose service accounts are believed.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::issuer::{Algorithm, IssuerSettings, KeyPlace, PrincipalSetting};
use super::{Found, plain};
use crate::model::{Period, SERVICE_ACCOUNTS, SecretRef, is_namespace};

/// Where a pod finds the keys of its cluster's tokens.
const JWKS: &str = "https://kubernetes.default.svc/openid/v1/jwks";

/// The certificate of the cluster's authority, in every pod.
const CA_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// The pod's own token for the API server, which the kubelet writes anew before it ends.
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How audiences begin that mean the API server, whatever the cluster's domain is.
const API_SERVER: &str = "https://kubernetes.default.svc";

/// One Kubernetes cluster whose service accounts are believed: their tokens are verified with the cluster's public keys, and
/// nobody is asked about a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesSettings {
    /// The exact text of `iss` in the cluster's tokens: what its API server has for `--service-account-issuer`, such as
    /// `https://kubernetes.default.svc.cluster.local`, or a URL of the cloud. Must be set.
    pub issuer: String,
    /// The audiences this API answers to: a token must name one of them in `aud`, to the letter. Must be set, and not to the
    /// API server's own, which the usual token of every pod has.
    pub audiences: Vec<String>,
    /// Where the cluster's public keys come from: `discovery`, `{jwks_url: ..}` or `{jwks_file: ..}`. Without it, from the
    /// API server of the cluster that Cardea runs in (`https://kubernetes.default.svc/openid/v1/jwks`), with the authority and
    /// the token that its pod has in `/var/run/secrets/kubernetes.io/serviceaccount`.
    pub keys: Option<KeyPlace>,
    /// The certificates (PEM) of the authorities that may vouch for the server of the keys, in place of the system's. The
    /// file is read for each fetch.
    pub ca_file: Option<PathBuf>,
    /// The bearer token that is shown to the server of the keys. It is read for each fetch, since the kubelet renews it.
    pub key_token: Option<SecretRef>,
    /// The signature algorithms accepted.
    pub algorithms: Vec<Algorithm>,
    /// Whether Cardea is ready only once this cluster's keys are loaded.
    pub required: bool,
    /// The values accepted in the header `typ`, beside none at all: clusters write none, but those with an external signer,
    /// which write `JWT`.
    pub token_types: Vec<String>,
    /// The namespaces whose service accounts are accepted. With none, those of all.
    pub namespaces: Vec<String>,
    /// What a token may be bound to, so that it ends with that. Tokens without an end are never accepted.
    pub bound_to: Vec<BoundTo>,
    /// The longest life a token may have, from `iat` to `exp`.
    pub max_token_lifetime: Period,
    /// How far the cluster's clock and ours may differ. At most `60s`.
    pub clock_skew: Period,
    /// How often keys are fetched again. A file is looked at every two seconds at least.
    pub refresh_interval: Period,
    /// How long keys serve while they cannot be fetched again. Afterwards this cluster's tokens are answered with 503.
    pub max_stale: Period,
    /// A token that names an unknown key has the keys fetched at most once in this time.
    pub unknown_kid_interval: Period,
    /// Put before the groups `system:serviceaccounts` and `system:serviceaccounts:<namespace>`, so that two clusters'
    /// namespaces of one name cannot be mistaken for each other.
    pub group_prefix: String,
}

/// What a service account's token is bound to: Kubernetes itself no longer takes it once that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoundTo {
    /// The pod that it was written into.
    Pod,
    /// A node.
    Node,
    /// A Secret.
    Secret,
    /// Nothing: whoever has it can use it until it expires (`kubectl create token`).
    Nothing,
}

impl Default for KubernetesSettings {
    fn default() -> Self {
        let issuer = IssuerSettings::default();
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            keys: None,
            ca_file: None,
            key_token: None,
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::ES384],
            required: true,
            token_types: Vec::new(),
            namespaces: Vec::new(),
            bound_to: vec![BoundTo::Pod],
            max_token_lifetime: issuer.max_token_lifetime,
            clock_skew: issuer.clock_skew,
            refresh_interval: issuer.refresh_interval,
            max_stale: issuer.max_stale,
            unknown_kid_interval: issuer.unknown_kid_interval,
            group_prefix: String::new(),
        }
    }
}

impl KubernetesSettings {
    /// The same as an issuer of tokens, which is what a cluster is but for what its tokens say.
    pub(in crate::identity) fn as_issuer(&self) -> IssuerSettings {
        // The cluster's own authority and token are for its own API server, and for nobody else.
        let (keys, ca_file, key_token) = match &self.keys {
            Some(keys) => (keys.clone(), None, None),
            None => (
                KeyPlace::JwksUrl(JWKS.to_owned()),
                Some(PathBuf::from(CA_FILE)),
                Some(SecretRef::File(TOKEN_FILE.into())),
            ),
        };
        IssuerSettings {
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            algorithms: self.algorithms.clone(),
            keys,
            ca_file: self.ca_file.clone().or(ca_file),
            key_token: self.key_token.clone().or(key_token),
            required: self.required,
            token_types: self.token_types.clone(),
            max_token_lifetime: self.max_token_lifetime,
            clock_skew: self.clock_skew,
            refresh_interval: self.refresh_interval,
            max_stale: self.max_stale,
            unknown_kid_interval: self.unknown_kid_interval,
            principal: PrincipalSetting::Workload,
            max_actors: 0,
            // Nobody logged in.
            mfa_methods: Vec::new(),
            ..IssuerSettings::default()
        }
    }

    /// How its groups begin.
    #[must_use]
    pub fn groups(&self) -> String {
        format!("{}{SERVICE_ACCOUNTS}", self.group_prefix)
    }

    pub(super) fn check(&self, found: &mut Found) {
        let issuer = self.as_issuer();
        issuer.check_holders(found);
        found.texts("audiences", &self.audiences);
        issuer.check_keys(found);
        issuer.check_times(found);
        let api = |name: &String| *name == self.issuer || name.starts_with(API_SERVER);
        if self.audiences.iter().any(api) {
            let why = "must not name the API server: every pod has a token for it, and a token that is shown here could then be used there";
            found.say("audiences", why);
        }
        for kind in &self.token_types {
            found.text("token_types", kind);
        }
        if !self.namespaces.iter().all(|name| is_namespace(name)) {
            found.say("namespaces", "must hold names of namespaces");
        }
        if self.bound_to.is_empty() {
            found.say("bound_to", "must name at least one");
        }
        if !self.group_prefix.is_empty() && !plain(&self.group_prefix) {
            let what = "must not hold control characters or exceed 512 bytes";
            found.say("group_prefix", what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn cluster() -> KubernetesSettings {
        KubernetesSettings {
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            audiences: vec!["https://api.example.com".into()],
            ..KubernetesSettings::default()
        }
    }

    fn problems(kubernetes: Vec<KubernetesSettings>) -> Vec<String> {
        let settings = Settings {
            kubernetes,
            ..Settings::default()
        };
        let problems = settings.problems();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_cluster_needs_no_more_than_its_issuer_and_an_audience() {
        assert_eq!(problems(vec![cluster()]), [""; 0]);
        let issuer = cluster().as_issuer();
        assert_eq!(issuer.keys, KeyPlace::JwksUrl(JWKS.into()));
        assert_eq!(issuer.ca_file, Some(CA_FILE.into()));
        assert_eq!(issuer.key_token, Some(SecretRef::File(TOKEN_FILE.into())));
    }

    #[test]
    fn the_pods_own_token_is_shown_to_nobody_but_its_own_api_server() {
        let keys = [
            KeyPlace::Discovery,
            KeyPlace::JwksUrl("https://other.example/jwks".into()),
            KeyPlace::JwksFile("keys.json".into()),
        ];
        for keys in keys {
            let elsewhere = KubernetesSettings {
                keys: Some(keys),
                ..cluster()
            };
            let issuer = elsewhere.as_issuer();
            assert_eq!((issuer.key_token, issuer.ca_file), (None, None));
        }
    }

    #[test]
    fn every_mistake_about_a_cluster_is_told() {
        let bad = KubernetesSettings {
            audiences: Vec::new(),
            namespaces: vec!["shop".into(), "Shop/x".into()],
            bound_to: Vec::new(),
            token_types: vec![String::new()],
            clock_skew: Period::seconds(61),
            group_prefix: "a\n".into(),
            ..cluster()
        };
        let found = problems(vec![cluster(), bad]).join("\n");
        for part in [
            "`identity.kubernetes[1].audiences` must name at least one",
            "`identity.kubernetes[1].namespaces` must hold",
            "`identity.kubernetes[1].bound_to` must name",
            "`identity.kubernetes[1].token_types` must be",
            "`identity.kubernetes[1].clock_skew` is 1m 1s",
            "`identity.kubernetes[1].group_prefix` must not",
            "`identity.kubernetes[1].issuer` is the same as that of kubernetes[0]",
        ] {
            assert!(found.contains(part), "{part} is missing in:\n{found}");
        }
    }

    #[test]
    fn j14_the_audience_of_the_api_server_is_none_of_ours() {
        for audience in [
            "https://kubernetes.default.svc.cluster.local",
            "https://kubernetes.default.svc",
            "https://kubernetes.default.svc.other.domain",
            "https://oidc.cloud.example/id/1",
        ] {
            let cluster = KubernetesSettings {
                issuer: "https://oidc.cloud.example/id/1".into(),
                audiences: vec!["https://api.example.com".into(), audience.into()],
                ..cluster()
            };
            let found = problems(vec![cluster]);
            assert!(
                found[0].contains("must not name the API server"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn j4_clusters_and_issuers_that_can_name_one_anothers_groups_are_told() {
        let named = |name: &str, group_prefix: &str| KubernetesSettings {
            issuer: name.into(),
            group_prefix: group_prefix.into(),
            ..cluster()
        };
        let mut settings = Settings {
            kubernetes: vec![named("a", ""), named("b", "b:")],
            ..Settings::default()
        };
        assert_eq!(settings.shared_names(), []);
        settings.kubernetes.push(named("c", ""));
        assert_eq!(settings.shared_names(), [("groups", vec!["a", "c"])]);
        settings.kubernetes.truncate(1);
        settings.issuers = vec![IssuerSettings {
            issuer: "i".into(),
            ..IssuerSettings::default()
        }];
        settings.issuers[0].claims.groups = vec!["groups".into()];
        assert_eq!(settings.shared_names(), [("groups", vec!["i", "a"])]);
    }
}

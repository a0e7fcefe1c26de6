//! Service accounts: names of workloads in a Kubernetes cluster.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the user names of service accounts begin, which are the subjects of their tokens.
const USER: &str = "system:serviceaccount";

/// How the groups of service accounts begin.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// The longest namespace (a DNS label, RFC 1123).
const MAX_NAMESPACE: usize = 63;

/// The longest name of an account (a DNS subdomain, RFC 1123).
const MAX_NAME: usize = 253;

/// A Kubernetes service account, written `<namespace>/<name>`. Neither part can hold what stands between them anywhere, so
/// two accounts never have one spelling.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceAccount {
    namespace: String,
    name: String,
}

impl ServiceAccount {
    /// The account of that name in that namespace, where both can be such names.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Option<Self> {
        let good =
            is_namespace(namespace) && name.len() <= MAX_NAME && name.split('.').all(is_label);
        good.then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user name that Kubernetes gives it: `sub` of its tokens.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{USER}:{}:{}", self.namespace, self.name)
    }

    /// The groups that Kubernetes puts it into: all service accounts, and those of its namespace.
    #[must_use]
    pub fn groups(&self) -> [String; 2] {
        let own = format!("{SERVICE_ACCOUNTS}:{}", self.namespace);
        [SERVICE_ACCOUNTS.to_owned(), own]
    }
}

/// Whether this can be the name of a namespace.
#[must_use]
pub fn is_namespace(name: &str) -> bool {
    name.len() <= MAX_NAMESPACE && is_label(name)
}

fn is_label(label: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = !label.starts_with('-') && !label.ends_with('-');
    !label.is_empty() && edges && label.bytes().all(plain)
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl From<ServiceAccount> for String {
    fn from(account: ServiceAccount) -> Self {
        account.to_string()
    }
}

impl TryFrom<String> for ServiceAccount {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts = text.split_once('/');
        parts
            .and_then(|(namespace, name)| Self::new(namespace, name))
            .ok_or("is no service account like `shop/web`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<ServiceAccount> {
        ServiceAccount::try_from(text.to_owned()).ok()
    }

    #[test]
    fn an_account_has_one_spelling() {
        let account = read("shop/web.v2").unwrap();
        assert_eq!((account.namespace(), account.name()), ("shop", "web.v2"));
        assert_eq!(account.subject(), "system:serviceaccount:shop:web.v2");
        assert_eq!(
            account.groups(),
            ["system:serviceaccounts", "system:serviceaccounts:shop"]
        );
        assert_eq!(account.to_string(), "shop/web.v2");
    }

    #[test]
    fn j22_names_that_no_cluster_has_are_no_accounts() {
        let (long, longer) = ("a".repeat(63), "a".repeat(64));
        assert!(read(&format!("{long}/web")).is_some());
        for text in [
            "shop",
            "shop/",
            "/web",
            "shop/web/x",
            "Shop/web",
            "shop/Web",
            "shop.eu/web",
            "shop:eu/web",
            "shop/web:x",
            "shop/web..x",
            "-shop/web",
            "shop/web-",
            "shop/w\u{e9}b",
            "shop/web\n",
            &format!("{longer}/web"),
            &format!("shop/{}", "a".repeat(254)),
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

//! Which places of the network are asked for what decisions depend on.

use std::net::IpAddr;

use url::{Host, Url};

/// Reads a URL that may be asked: `https`, or `http` where the host is loopback; no user name, password or fragment.
#[must_use]
pub fn remote_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let allowed = match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(&url),
        _ => false,
    };
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (allowed && bare).then_some(url)
}

/// Whether the host is this machine, by its name alone (no look-up, so no resolver can change it).
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// A URL as it may be shown: without its query, which can hold a credential.
#[must_use]
pub fn without_query(url: &str) -> &str {
    url.split_once(['?', '#']).map_or(url, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_ends_before_its_query() {
        for url in [
            "https://a/b?key=s3cret",
            "https://a/b#s3cret",
            "https://a/b?#?",
            "https://a/b",
        ] {
            assert_eq!(without_query(url), "https://a/b");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in [
            "https://bundles.example/a",
            "http://127.0.0.1:1/a",
            "http://[::1]:1/a",
            "http://[::ffff:127.0.0.1]:1/a",
            "http://localhost/a",
        ] {
            assert!(remote_url(good).is_some(), "{good}");
        }
        for bad in [
            "http://bundles.example/a",
            "http://localhost.example/a",
            "https://user@bundles.example/a",
            "https://bundles.example/a#b",
            "file:///etc/passwd",
            "s3://bucket/a",
            "bundles.example/a",
            "",
        ] {
            assert!(remote_url(bad).is_none(), "{bad}");
        }
    }
}

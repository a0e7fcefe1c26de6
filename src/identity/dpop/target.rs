//! The URL a proof is for (`htu`), held against the request's (RFC 9449, section 4.3, items 8 and 9).

use std::collections::BTreeMap;

use crate::model::{AccessRequest, CanonicalPath, Host, PathRules, Scheme, TwoReadings};

/// Every spelling that the rules for requests may accept. What they refuse never gets here, so this only decides which
/// spellings of a good request's path a proof may use.
const LENIENT: PathRules = PathRules {
    escaped_slashes: TwoReadings::Keep,
    path_parameters: TwoReadings::Keep,
    double_encoding: TwoReadings::Keep,
    merge_slashes: true,
};

/// Scheme, host and port (RFC 6454, section 4), each in one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::identity) struct Origin {
    scheme: Scheme,
    host: Host,
    port: u16,
}

impl Origin {
    /// Reads `https://host` or `https://host:port`.
    pub(in crate::identity) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        Self::of(scheme, authority)
    }

    fn of(scheme: &str, authority: &str) -> Option<Self> {
        let scheme = [Scheme::Http, Scheme::Https]
            .into_iter()
            .find(|one| one.as_str().eq_ignore_ascii_case(scheme))?;
        Some(Self {
            scheme,
            host: Host::parse(authority).ok()?,
            port: Host::port(authority).unwrap_or(usual(scheme)),
        })
    }
}

fn usual(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// What the API's URLs look like to its clients.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Clients speak https to whoever stands before Envoy.
    pub(super) tls_before: bool,
    /// Hosts that clients know under another origin.
    pub(super) origins: BTreeMap<Host, Origin>,
}

impl Targets {
    /// Whether a proof for this URL is one for this request. Query and fragment play no part.
    pub(super) fn fits(&self, htu: &str, request: &AccessRequest) -> bool {
        let Some((origin, path)) = read(htu) else {
            return false;
        };
        let same_origin = match self.origins.get(&request.host) {
            Some(known) => origin == *known,
            None => origin == self.seen(request),
        };
        same_origin && path == request.path
    }

    /// The request's own origin, as Envoy saw it.
    fn seen(&self, request: &AccessRequest) -> Origin {
        let scheme = if self.tls_before {
            Scheme::Https
        } else {
            request.scheme
        };
        Origin {
            scheme,
            host: request.host.clone(),
            port: request.port.unwrap_or(usual(scheme)),
        }
    }
}

fn read(htu: &str) -> Option<(Origin, CanonicalPath)> {
    let (scheme, rest) = htu.split_once("://")?;
    let rest = rest.split(['?', '#']).next()?;
    let start = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(start)?;
    // RFC 3986, section 6.2.3: an empty path is `/`.
    let path = if path.is_empty() { "/" } else { path };
    let path = CanonicalPath::parse(path, LENIENT).ok()?;
    Some((Origin::of(scheme, authority)?, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, path: &str) -> AccessRequest {
        AccessRequest {
            port: Host::port(host),
            ..AccessRequest::bare(
                Host::parse(host).unwrap(),
                CanonicalPath::parse(path, PathRules::default()).unwrap(),
            )
        }
    }

    #[test]
    fn spellings_of_one_url_are_one_url() {
        let request = request("api.example", "/orders/a%20b/~7");
        for htu in [
            "https://api.example/orders/a%20b/~7",
            "HTTPS://API.Example:443/orders/a%20b/%7E7",
            "https://api.example./%6Frders/a%20b/~7",
            "https://api.example/orders/a%20b/~7?x=/y",
            "https://api.example/orders/a%20b/~7#top",
        ] {
            assert!(Targets::default().fits(htu, &request), "{htu}");
        }
    }

    #[test]
    fn another_url_does_not_fit() {
        let request = request("api.example", "/orders");
        for htu in [
            "",
            "/orders",
            "api.example/orders",
            "https:/api.example/orders",
            "https://api.example",
            "https://api.example/",
            "https://api.example/orders/",
            "https://api.example/Orders",
            "https://api.example/orders/1",
            "https://api.example/x/../orders",
            "https://api.example?/orders",
            "https://api.example:8443/orders",
            "https://api.example:80/orders",
            "https://api.example:/orders",
            "https://other.example/orders",
            "https://api.example@other.example/orders",
            "https://u@api.example/orders",
            "http://api.example/orders",
            "ftp://api.example/orders",
            " https://api.example/orders",
            "https://api.example\\/orders",
        ] {
            assert!(!Targets::default().fits(htu, &request), "{htu}");
        }
        let root = self::request("api.example", "/");
        assert!(Targets::default().fits("https://api.example", &root));
    }

    #[test]
    fn the_port_is_the_one_the_request_names() {
        let request = request("api.example:8443", "/orders");
        let fits = |htu| Targets::default().fits(htu, &request);
        assert!(fits("https://api.example:8443/orders"));
        assert!(!fits("https://api.example/orders"));
    }

    #[test]
    fn what_clients_see_can_be_told() {
        let mut plain = request("api.example", "/orders");
        plain.scheme = Scheme::Http;
        let url = "https://api.example/orders";
        assert!(!Targets::default().fits(url, &plain));
        let before = Targets {
            tls_before: true,
            ..Targets::default()
        };
        assert!(before.fits(url, &plain));

        let public = "https://public.example:8443";
        let named = Targets {
            origins: [(plain.host.clone(), Origin::parse(public).unwrap())].into(),
            ..Targets::default()
        };
        assert!(named.fits(&format!("{public}/orders"), &plain));
        for other in [
            url,
            "http://api.example/orders",
            "https://public.example/orders",
        ] {
            assert!(!named.fits(other, &plain), "{other}");
        }
    }
}

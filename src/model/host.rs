//! The host a request names, in one spelling.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// A host name or address: lower case, without port, without a trailing dot (RFC 3986, section 3.2.2; RFC 9110,
/// section 4.2.3). Non-ASCII names are refused, so that Unicode and punycode spellings cannot differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

/// Why a text is no [`Host`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No host at all.
    #[error("the host is empty")]
    Empty,
    /// More than 255 bytes.
    #[error("the host is longer than 255 bytes")]
    TooLong,
    /// A user name before the host (`user@host`).
    #[error("the host holds user information")]
    UserInfo,
    /// What follows the colon is no port.
    #[error("the port is not a number from 0 to 65535")]
    Port,
    /// A byte that no host name holds.
    #[error("the host holds a character that no host name may hold")]
    Character,
}

impl Host {
    /// Reads an authority: `Name`, `name.`, `name:port`, `[v6]:port`.
    ///
    /// # Errors
    /// [`HostError`] where the text is not exactly one host with at most one port.
    pub fn parse(authority: &str) -> Result<Self, HostError> {
        match authority {
            "" => return Err(HostError::Empty),
            text if text.len() > 255 => return Err(HostError::TooLong),
            text if text.contains('@') => return Err(HostError::UserInfo),
            _ => {}
        }
        if let Some(rest) = authority.strip_prefix('[') {
            return Self::parse_v6(rest);
        }
        let name = match authority.split_once(':') {
            Some((name, port)) => {
                check_port(port)?;
                name
            }
            None => authority,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() || name.ends_with('.') {
            return Err(HostError::Empty);
        }
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if !name.bytes().all(valid) || name.contains("..") || name.starts_with('.') {
            return Err(HostError::Character);
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }

    fn parse_v6(rest: &str) -> Result<Self, HostError> {
        let (address, port) = rest.split_once(']').ok_or(HostError::Character)?;
        let address: Ipv6Addr = address.parse().map_err(|_| HostError::Character)?;
        if !port.is_empty() {
            check_port(port.strip_prefix(':').ok_or(HostError::Port)?)?;
        }
        Ok(Self(format!("[{address}]").into()))
    }

    /// The port of an authority that [`Host::parse`] accepts, where it names one.
    #[must_use]
    pub fn port(authority: &str) -> Option<u16> {
        let (_, port) = authority.rsplit_once(':')?;
        port.parse().ok()
    }

    /// The host's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_port(port: &str) -> Result<(), HostError> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if digits && port.parse::<u16>().is_ok() {
        Ok(())
    } else {
        Err(HostError::Port)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_host_are_one_host() {
        for text in [
            "api.example.com",
            "API.Example.com",
            "api.example.com.",
            "Api.example.com:8080",
            "api.example.com.:443",
        ] {
            assert_eq!(
                Host::parse(text).unwrap().as_str(),
                "api.example.com",
                "{text}"
            );
        }
        for text in ["[::1]", "[::1]:80", "[0:0:0:0:0:0:0:1]:443"] {
            assert_eq!(Host::parse(text).unwrap().as_str(), "[::1]", "{text}");
        }
    }

    #[test]
    fn the_port_is_told_where_the_authority_names_one() {
        for (authority, port) in [
            ("api.example.com", None),
            ("api.example.com:8443", Some(8443)),
            ("[::1]", None),
            ("[::1]:443", Some(443)),
        ] {
            assert!(Host::parse(authority).is_ok());
            assert_eq!(Host::port(authority), port, "{authority}");
        }
    }

    #[test]
    fn what_is_no_single_host_is_refused() {
        for (text, error) in [
            ("", HostError::Empty),
            (".", HostError::Empty),
            ("a..", HostError::Empty),
            ("user@host", HostError::UserInfo),
            ("host:", HostError::Port),
            ("host:http", HostError::Port),
            ("host:65536", HostError::Port),
            ("[::1]80", HostError::Port),
            ("[::1", HostError::Character),
            ("[fe80::1%25eth0]", HostError::Character),
            ("a b", HostError::Character),
            ("a/b", HostError::Character),
            ("a..b", HostError::Character),
            ("b\u{fc}cher.example", HostError::Character),
            ("a\0b", HostError::Character),
            ("a,b", HostError::Character),
        ] {
            assert_eq!(Host::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Host::parse(&"a".repeat(256)), Err(HostError::TooLong));
    }
}

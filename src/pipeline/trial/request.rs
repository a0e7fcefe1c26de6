//! What is supposed to be asked.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::Value;

use super::scalar::Names;
use crate::model::{
    AccessRequest, Body, CanonicalPath, Headers, Host, Method, PathRules, Peer, Query, Reason,
    Refusal, Scheme,
};

/// The host of a request that names none. No other machine has it (RFC 6761).
const USUAL_HOST: &str = "localhost";

/// A request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestForm {
    /// Default: `GET`.
    pub method: Option<String>,
    /// Scheme, host, path and query in one.
    pub url: Option<String>,
    /// Path, and query behind a `?`; in place of `url`.
    pub path: Option<String>,
    /// Host, beside `path`. Default: `localhost`.
    pub host: Option<String>,
    /// Header fields: one value, or a list for one that is sent several times.
    pub headers: BTreeMap<String, Names>,
    /// The body: a text as it is, anything else as JSON.
    pub body: Option<Value>,
    /// The client's address.
    #[serde(alias = "clientAddress")]
    pub client_address: Option<IpAddr>,
    /// The server name the client asked for.
    pub sni: Option<String>,
    /// Whether the client showed a certificate; or the name in it, which says that it did.
    #[serde(alias = "mutualTls")]
    pub mutual_tls: MutualTls,
}

/// Whether the client showed a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MutualTls {
    /// None.
    #[default]
    No,
    /// One.
    Yes,
    /// One with this name, such as `spiffe://prod.example/ns/shop/sa/web`.
    Named(String),
}

/// The parts of a URL, spelled as they were.
struct Target<'a> {
    scheme: Scheme,
    host: &'a str,
    path: &'a str,
}

impl RequestForm {
    /// The request, or its refusal where it has no single reading. It is spelled as it was written: nothing is
    /// normalised on the way, so that hostile spellings can be tried.
    ///
    /// # Errors
    /// What is wrong with the form itself, and not with the request it tells of.
    pub(super) fn read(&self, rules: PathRules) -> Result<Result<AccessRequest, Refusal>, String> {
        let target = self.target()?;
        let headers = self.fields()?;
        let body = self.bytes();
        Ok(self.request(&target, rules).map(|request| AccessRequest {
            headers,
            body,
            ..request
        }))
    }

    fn request(&self, target: &Target<'_>, rules: PathRules) -> Result<AccessRequest, Refusal> {
        let method = self.method.as_deref().unwrap_or("GET");
        let method = Method::parse(method).ok_or_else(|| {
            Refusal::new(
                Reason::UnknownMethod,
                "the method is none of GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE",
            )
        })?;
        let (path, query) = target.path.split_once('?').unwrap_or((target.path, ""));
        let principal = match &self.mutual_tls {
            MutualTls::Named(name) => Some(name.clone()),
            MutualTls::No | MutualTls::Yes => None,
        };
        let sni = self.sni.as_deref().map(Host::parse).transpose()?;
        Ok(AccessRequest {
            id: String::new(),
            method,
            scheme: target.scheme,
            path: CanonicalPath::parse(path, rules)?,
            query: Query::parse(query)?,
            host: Host::parse(target.host)?,
            port: Host::port(target.host),
            headers: Headers::default(),
            body: Body::default(),
            client_address: self.client_address.map(|address| address.to_canonical()),
            peer: Peer {
                address: self.client_address.map(|ip| SocketAddr::new(ip, 0)),
                principal,
                certificate: None,
            },
            sni: sni.map(|name| name.as_str().to_owned()),
            context_extensions: BTreeMap::new(),
            metadata: BTreeMap::new(),
            route_metadata: BTreeMap::new(),
        })
    }

    /// Host, and path with its query.
    ///
    /// # Errors
    /// Where the form names no place, or two.
    pub fn place(&self) -> Result<(&str, &str), String> {
        self.target().map(|target| (target.host, target.path))
    }

    fn target(&self) -> Result<Target<'_>, String> {
        match (&self.url, &self.path, &self.host) {
            (Some(url), None, None) => split(url),
            (Some(_), _, _) => Err("`url` stands in place of `path` and `host`".to_owned()),
            (None, None, _) => Err("the request has neither `url` nor `path`".to_owned()),
            (None, Some(path), host) => Ok(Target {
                scheme: Scheme::Https,
                host: host.as_deref().unwrap_or(USUAL_HOST),
                path,
            }),
        }
    }

    fn fields(&self) -> Result<Headers, String> {
        let mut fields = Vec::new();
        for (name, values) in &self.headers {
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err("a header's name is no token (RFC 9110, section 5.1)".to_owned());
            }
            for value in &values.0 {
                if value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
                    return Err("a header's value holds CR, LF or NUL".to_owned());
                }
                fields.push((name.to_ascii_lowercase(), value.clone().into_bytes()));
            }
        }
        Ok(Headers::new(fields))
    }

    fn bytes(&self) -> Body {
        let bytes = match &self.body {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => text.clone().into_bytes(),
            Some(value) => value.to_string().into_bytes(),
        };
        Body {
            length: bytes.len() as u64,
            bytes,
            truncated: false,
        }
    }
}

/// Takes a URL apart without changing a byte of it.
fn split(url: &str) -> Result<Target<'_>, String> {
    let wrong = || "`url` is not like `https://api.example.com/v1/orders`".to_owned();
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return Err(wrong()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).ok_or_else(wrong)?;
    match path {
        "" => Ok(Target {
            scheme,
            host,
            path: "/",
        }),
        _ if path.starts_with('/') => Ok(Target { scheme, host, path }),
        _ => Err("`url` has a query or a fragment, and no path before it".to_owned()),
    }
}

/// A byte of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl<'de> Deserialize<'de> for MutualTls {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(MutualTlsVisitor)
    }
}

struct MutualTlsVisitor;

impl Visitor<'_> for MutualTlsVisitor {
    type Value = MutualTls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or the name in the client's certificate")
    }

    fn visit_bool<E>(self, shown: bool) -> Result<MutualTls, E> {
        Ok(if shown { MutualTls::Yes } else { MutualTls::No })
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<MutualTls, E> {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(E::invalid_value(de::Unexpected::Str(name), &self));
        }
        Ok(MutualTls::Named(name.to_owned()))
    }
}

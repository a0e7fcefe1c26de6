//! What was asked, written down.

use std::collections::BTreeMap;
use std::net::IpAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::Mask;
use super::mask::{MASKED, is_token};
use crate::model::{
    AccessRequest, Body, CanonicalPath, Headers, Host, Method, PathRules, Peer, Query, Scheme,
    TwoReadings,
};

/// A recorded path is canonical: what its spelling could be taken for was settled when it arrived.
const SETTLED: PathRules = PathRules {
    escaped_slashes: TwoReadings::Keep,
    path_parameters: TwoReadings::Keep,
    double_encoding: TwoReadings::Keep,
    merge_slashes: false,
};

/// What was asked, as far as policies can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedRequest {
    /// `x-request-id`, else Envoy's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The host, in its one spelling.
    pub host: String,
    /// The path, in its one spelling, without its query.
    pub path: String,
    /// The names of the query's parameters, as often as each was given; one that is a credential is masked. Their values
    /// are not kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<String>,
    /// How long the body was, in bytes.
    #[serde(default)]
    pub body_bytes: u64,
    /// The client's address by the configured rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<IpAddr>,
    /// The name in the client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The server name the client asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Whether the caller spoke gRPC.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grpc: bool,
}

impl RecordedRequest {
    /// What a request asked.
    #[must_use]
    pub(super) fn of(request: &AccessRequest, grpc: bool, mask: &Mask) -> Self {
        let names = request.query.pairs().iter();
        // A credential where a name belongs: `?<token>`, without `=`.
        let masked = |name: &str| {
            let kept = if is_token(name) { MASKED } else { name };
            kept.to_owned()
        };
        Self {
            id: request.id.clone(),
            method: request.method.as_str().to_owned(),
            scheme: request.scheme.as_str().to_owned(),
            host: request.host.as_str().to_owned(),
            path: mask.path(&request.path),
            query: names.map(|(name, _)| masked(name)).collect(),
            body_bytes: request.body.length,
            client_address: request.client_address,
            peer: request.peer.principal.clone(),
            sni: request.sni.clone(),
            grpc,
        }
    }

    /// The request again, without what was not kept: headers, the values of its query, and its body but for its length.
    ///
    /// # Errors
    /// Which part is spelled as none can be.
    pub(super) fn request(&self) -> Result<AccessRequest, String> {
        let wrong = |what: &str| format!("the record's {what} is none");
        let query: Vec<String> = self
            .query
            .iter()
            .map(|name| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string())
            .collect();
        Ok(AccessRequest {
            id: self.id.clone(),
            method: Method::parse(&self.method).ok_or_else(|| wrong("method"))?,
            scheme: match self.scheme.as_str() {
                "https" => Scheme::Https,
                "http" => Scheme::Http,
                _ => return Err(wrong("scheme")),
            },
            host: Host::parse(&self.host).map_err(|_| wrong("host"))?,
            port: None,
            path: CanonicalPath::parse(&self.path, SETTLED).map_err(|_| wrong("path"))?,
            query: Query::parse(&query.join("&")).map_err(|_| wrong("query"))?,
            headers: Headers::default(),
            body: Body {
                bytes: Vec::new(),
                truncated: self.body_bytes > 0,
                length: self.body_bytes,
            },
            client_address: self.client_address,
            peer: Peer {
                address: None,
                principal: self.peer.clone(),
                certificate: None,
            },
            sni: self.sni.clone(),
            context_extensions: BTreeMap::new(),
            metadata: BTreeMap::new(),
            route_metadata: BTreeMap::new(),
        })
    }
}

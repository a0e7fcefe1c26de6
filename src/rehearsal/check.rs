//! Envoy's `CheckRequest` in protobuf JSON.
//!
//! Names are lowerCamelCase or the proto's own; null is absence; an unknown member is an error. Members that Envoy knows
//! and Cardea does not read are named here and passed over, as they are on the wire.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::typed;
use super::wire::{Bytes, Instant, Integer, structure};
use crate::envoy::proto::auth::{AttributeContext, CheckRequest, attribute_context};
use crate::envoy::proto::core;
use crate::model::Problem;

/// Reads a `CheckRequest`.
///
/// # Errors
/// Where the text is not one, with line and column.
pub(super) fn read(text: &[u8]) -> Result<CheckRequest, Problem> {
    typed::<Check>(text)?.into_wire().map_err(Problem::new)
}

type Texts = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    attributes: Option<Attributes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Attributes {
    source: Option<Peer>,
    destination: Option<Peer>,
    request: Option<Request>,
    #[serde(alias = "context_extensions")]
    context_extensions: Option<Texts>,
    #[serde(alias = "metadata_context")]
    metadata_context: Option<Metadata>,
    #[serde(alias = "route_metadata_context")]
    route_metadata_context: Option<Metadata>,
    #[serde(alias = "tls_session")]
    tls_session: Option<Tls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    address: Option<Address>,
    service: Option<String>,
    labels: Option<Texts>,
    principal: Option<String>,
    certificate: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    #[serde(alias = "socket_address", rename = "socketAddress")]
    socket: Option<Socket>,
    pipe: Option<Pipe>,
    #[serde(alias = "envoy_internal_address", rename = "envoyInternalAddress")]
    _internal: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Socket {
    address: Option<String>,
    #[serde(alias = "port_value")]
    port_value: Option<Integer>,
    #[serde(alias = "named_port")]
    named_port: Option<String>,
    #[serde(rename = "protocol")]
    _protocol: Option<IgnoredAny>,
    #[serde(alias = "resolver_name", rename = "resolverName")]
    _resolver_name: Option<IgnoredAny>,
    #[serde(alias = "ipv4_compat", rename = "ipv4Compat")]
    _ipv4_compat: Option<IgnoredAny>,
    #[serde(
        alias = "network_namespace_filepath",
        rename = "networkNamespaceFilepath"
    )]
    _network_namespace: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pipe {
    path: Option<String>,
    #[serde(rename = "mode")]
    _mode: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    time: Option<Instant>,
    http: Option<Http>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Http {
    id: Option<String>,
    method: Option<String>,
    headers: Option<Texts>,
    #[serde(alias = "header_map")]
    header_map: Option<HeaderMap>,
    path: Option<String>,
    host: Option<String>,
    scheme: Option<String>,
    query: Option<String>,
    fragment: Option<String>,
    size: Option<Integer>,
    protocol: Option<String>,
    body: Option<String>,
    #[serde(alias = "raw_body")]
    raw_body: Option<Bytes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderMap {
    headers: Option<Vec<HeaderValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HeaderValue {
    key: Option<String>,
    value: Option<String>,
    #[serde(alias = "raw_value")]
    raw_value: Option<Bytes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Metadata {
    #[serde(alias = "filter_metadata")]
    filter_metadata: Option<BTreeMap<String, Map<String, Value>>>,
    #[serde(alias = "typed_filter_metadata", rename = "typedFilterMetadata")]
    _typed: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    sni: Option<String>,
}

impl Check {
    fn into_wire(self) -> Result<CheckRequest, &'static str> {
        let attributes = self.attributes.map(Attributes::into_wire).transpose()?;
        Ok(CheckRequest { attributes })
    }
}

impl Attributes {
    fn into_wire(self) -> Result<AttributeContext, &'static str> {
        Ok(AttributeContext {
            source: self.source.map(Peer::into_wire).transpose()?,
            destination: self.destination.map(Peer::into_wire).transpose()?,
            request: self.request.map(Request::into_wire),
            context_extensions: texts(self.context_extensions),
            metadata_context: self.metadata_context.map(Metadata::into_wire),
            route_metadata_context: self.route_metadata_context.map(Metadata::into_wire),
            tls_session: self.tls_session.map(|tls| attribute_context::TlsSession {
                sni: tls.sni.unwrap_or_default(),
            }),
        })
    }
}

impl Peer {
    fn into_wire(self) -> Result<attribute_context::Peer, &'static str> {
        Ok(attribute_context::Peer {
            address: self.address.map(Address::into_wire).transpose()?,
            service: self.service.unwrap_or_default(),
            labels: texts(self.labels),
            principal: self.principal.unwrap_or_default(),
            certificate: self.certificate.unwrap_or_default(),
        })
    }
}

impl Address {
    fn into_wire(self) -> Result<core::Address, &'static str> {
        use core::address::Address as One;
        let address = match (self.socket, self.pipe) {
            (Some(_), Some(_)) => return Err("an address holds both `socketAddress` and `pipe`"),
            (Some(socket), None) => Some(One::SocketAddress(socket.into_wire()?)),
            (None, Some(pipe)) => Some(One::Pipe(core::Pipe {
                path: pipe.path.unwrap_or_default(),
            })),
            (None, None) => None,
        };
        Ok(core::Address { address })
    }
}

impl Socket {
    fn into_wire(self) -> Result<core::SocketAddress, &'static str> {
        use core::socket_address::PortSpecifier as Port;
        let port_specifier = match (self.port_value, self.named_port) {
            (Some(_), Some(_)) => return Err("an address holds both `portValue` and `namedPort`"),
            (Some(Integer(port)), None) => {
                let port = u32::try_from(port).map_err(|_| "`portValue` is out of range")?;
                Some(Port::PortValue(port))
            }
            (None, Some(name)) => Some(Port::NamedPort(name)),
            (None, None) => None,
        };
        Ok(core::SocketAddress {
            address: self.address.unwrap_or_default(),
            port_specifier,
        })
    }
}

impl Request {
    fn into_wire(self) -> attribute_context::Request {
        attribute_context::Request {
            time: self.time.map(|at| at.0),
            http: self.http.map(Http::into_wire),
        }
    }
}

impl Http {
    fn into_wire(self) -> attribute_context::HttpRequest {
        attribute_context::HttpRequest {
            id: self.id.unwrap_or_default(),
            method: self.method.unwrap_or_default(),
            headers: texts(self.headers),
            header_map: self.header_map.map(HeaderMap::into_wire),
            path: self.path.unwrap_or_default(),
            host: self.host.unwrap_or_default(),
            scheme: self.scheme.unwrap_or_default(),
            query: self.query.unwrap_or_default(),
            fragment: self.fragment.unwrap_or_default(),
            size: self.size.unwrap_or_default().0,
            protocol: self.protocol.unwrap_or_default(),
            body: self.body.unwrap_or_default(),
            raw_body: self.raw_body.unwrap_or_default().0,
        }
    }
}

impl HeaderMap {
    fn into_wire(self) -> core::HeaderMap {
        let fields = self.headers.unwrap_or_default().into_iter();
        core::HeaderMap {
            headers: fields
                .map(|field| core::HeaderValue {
                    key: field.key.unwrap_or_default(),
                    value: field.value.unwrap_or_default(),
                    raw_value: field.raw_value.unwrap_or_default().0,
                })
                .collect(),
        }
    }
}

impl Metadata {
    fn into_wire(self) -> core::Metadata {
        let filters = self.filter_metadata.unwrap_or_default().into_iter();
        core::Metadata {
            filter_metadata: filters
                .map(|(name, members)| (name, structure(members)))
                .collect(),
        }
    }
}

fn texts<C: FromIterator<(String, String)>>(texts: Option<Texts>) -> C {
    texts.unwrap_or_default().into_iter().collect()
}

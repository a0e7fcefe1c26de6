//! What all benchmarks measure with: a bundle of any size, an issuer with its keys in a file, and the check Envoy would
//! send for one request.

// Paths are written out because several crates take this file in, from different folders.
#[path = "fixture/bundle.rs"]
mod bundle;
#[path = "fixture/issuer.rs"]
pub(crate) mod issuer;

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use cardea::envoy::proto::auth::attribute_context::{HttpRequest, Peer, Request};
use cardea::envoy::proto::auth::{AttributeContext, CheckRequest};
use cardea::envoy::proto::core::{Address, SocketAddress, address, socket_address};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use issuer::{AUDIENCE, ISSUER, Issuer, Key, now};

/// What goes wrong in a measurement ends it.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The path of the measured request: an object that one role may read, in the middle of the bundle.
pub(crate) const ITEM: &str = "1001";

/// The secret of calls that take trust back.
pub(crate) const ADMIN_TOKEN: &str = "a-secret-of-these-measurements";

/// A folder with a bundle and keys, and the issuer that signs with them.
#[derive(Debug)]
pub(crate) struct World {
    folder: TempDir,
    services: usize,
    pub(crate) issuer: Issuer,
}

impl World {
    /// A bundle of exactly `policies` policies: the shipped guardrails, and rules for as many services as that takes.
    pub(crate) fn new(policies: usize) -> Result<Self> {
        Self::of(|folder| bundle::write(folder, policies))
    }

    /// A bundle that somebody else writes into a folder, and says of how many services it is.
    pub(crate) fn of(write: impl FnOnce(&Path) -> Result<usize>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let services = write(&folder.path().join("bundle"))?;
        let issuer = Issuer::new()?;
        fs::write(folder.path().join("jwks.json"), issuer.jwks(&Key::USUAL))?;
        fs::write(folder.path().join("admin-token"), ADMIN_TOKEN)?;
        Ok(Self {
            folder,
            services,
            issuer,
        })
    }

    /// Where further files may be put.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Settings as in production, but for addresses, this bundle and this issuer. JSON is YAML too.
    pub(crate) fn settings(&self, listen: &str, admin: &str) -> Value {
        let file = |name: &str| self.folder().join(name);
        json!({
            "listen": { "address": listen },
            "admin": { "address": admin, "token": { "file": file("admin-token") } },
            "bundle": { "path": file("bundle") },
            "identity": { "issuers": [{
                "issuer": ISSUER,
                "audiences": [AUDIENCE],
                "keys": { "jwks_file": file("jwks.json") },
                "claims": { "roles": ["roles"], "groups": ["groups"], "tenant": "tenant" },
            }] },
        })
    }

    /// The service whose item is asked for.
    fn service(&self) -> String {
        bundle::service(self.services / 2)
    }

    /// The path and query of the measured request.
    pub(crate) fn target(&self) -> String {
        format!("/v1/{}/items/{ITEM}?expand=lines", self.service())
    }

    /// A token of a user who may read the item.
    pub(crate) fn token(&self, key: Key, subject: &str) -> Result<String> {
        self.issuer.signed(key, "at+jwt", &self.claims(subject)?)
    }

    /// What that token says, for an hour: a viewer of the service, with other roles and groups besides.
    pub(crate) fn claims(&self, subject: &str) -> Result<Value> {
        let now = now()?;
        let service = self.service();
        let viewer = format!("{service}-viewer");
        Ok(json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "client_id": "web-shop", "jti": format!("{subject}-{now}"),
            "iat": now - 5, "exp": now + 3600, "auth_time": now - 60, "acr": "urn:cardea:strong", "amr": ["pwd", "otp"],
            "scope": format!("openid profile {service}:read"),
            "roles": [viewer, "employee", "newsletter-editor", "on-call"],
            "groups": ["staff", "team-web", "project-x"], "tenant": "acme",
        }))
    }

    /// What Envoy asks for the measured request, field by field as version 1.40 fills it.
    pub(crate) fn check(&self, token: Option<&str>) -> CheckRequest {
        let target = self.target();
        let mut headers: HashMap<String, String> = [
            (":authority", "api.example.com"),
            (":method", "GET"),
            (":path", target.as_str()),
            (":scheme", "https"),
            ("accept", "application/json, text/plain, */*"),
            ("accept-encoding", "gzip, deflate, br"),
            ("accept-language", "en-GB,en;q=0.9"),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            ),
            ("x-forwarded-for", "203.0.113.77"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "5c1f3a52-8a0e-4c53-9d0b-2c1a7e0f6b11"),
            (
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        if let Some(token) = token {
            headers.insert("authorization".to_owned(), format!("Bearer {token}"));
        }
        let http = HttpRequest {
            id: "15317642894217905421".to_owned(),
            method: "GET".to_owned(),
            headers,
            path: target,
            host: "api.example.com".to_owned(),
            scheme: "https".to_owned(),
            protocol: "HTTP/2".to_owned(),
            ..HttpRequest::default()
        };
        let request = Request {
            time: Some(prost_types::Timestamp {
                seconds: 1_795_000_000,
                nanos: 250_000_000,
            }),
            http: Some(http),
        };
        let attributes = AttributeContext {
            source: Some(peer([203, 0, 113, 77], 51_324)),
            destination: Some(peer([10, 1, 2, 3], 8443)),
            request: Some(request),
            ..AttributeContext::default()
        };
        CheckRequest {
            attributes: Some(attributes),
        }
    }
}

fn peer(ip: [u8; 4], port: u32) -> Peer {
    let [a, b, c, d] = ip;
    let mut address = String::new();
    // Writing to a string cannot fail.
    let _ = write!(address, "{a}.{b}.{c}.{d}");
    let socket = SocketAddress {
        address,
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port)),
    };
    Peer {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        ..Peer::default()
    }
}

//! What was asked: one request, in its one reading.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use jiff::Timestamp;

use super::{CanonicalPath, Host, Query, Refusal, every_byte};

/// One check as it arrived: what is known of it whatever it asks, and what it asks or why that cannot be told.
#[derive(Debug)]
pub struct Asked {
    /// Known even of a request that has no single reading.
    pub arrival: Arrival,
    /// The request, or its refusal.
    pub request: Result<AccessRequest, Refusal>,
}

/// The circumstances of a check.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Wall-clock time of arrival: the only "now" this decision knows.
    pub at: Timestamp,
    /// Monotonic time of arrival.
    pub started: Instant,
    /// When the caller stops waiting (`grpc-timeout`), if it said so.
    pub deadline: Option<Instant>,
    /// The span this check belongs to.
    pub trace_parent: Option<TraceParent>,
    /// Whether the caller speaks gRPC and wants its denial in gRPC's words.
    pub grpc: bool,
}

/// A request in its one reading.
#[derive(Debug)]
pub struct AccessRequest {
    /// `x-request-id` where it has one, else Envoy's stream id: for correlation only.
    pub id: String,
    /// The method.
    pub method: Method,
    /// `http` or `https`, as Envoy saw it.
    pub scheme: Scheme,
    /// The host, in one spelling.
    pub host: Host,
    /// The port beside the host, where the client's request names one and Envoy leaves it there.
    pub port: Option<u16>,
    /// The path, in one spelling.
    pub path: CanonicalPath,
    /// The query, parsed once.
    pub query: Query,
    /// The headers, without pseudo headers.
    pub headers: Headers,
    /// The body, as far as Envoy sent it.
    pub body: Body,
    /// The client's address by the configured rule, if one can be told.
    pub client_address: Option<IpAddr>,
    /// The other end of the connection to Envoy.
    pub peer: Peer,
    /// Server name of the TLS handshake between client and Envoy.
    pub sni: Option<String>,
    /// What Envoy's operator set on the route. A client cannot influence it.
    pub context_extensions: BTreeMap<String, String>,
    /// What other Envoy filters left about the request (`metadata_context`): one object a filter.
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// The same of the route's own settings (`route_metadata_context`).
    pub route_metadata: BTreeMap<String, serde_json::Value>,
}

impl AccessRequest {
    /// The least a request can be: a `GET` over https with nothing beside host and path, to be filled in by whoever makes
    /// one up (a probe, a rehearsal, a test).
    #[must_use]
    pub fn bare(host: Host, path: CanonicalPath) -> Self {
        Self {
            id: String::new(),
            method: Method::Get,
            scheme: Scheme::Https,
            host,
            port: None,
            path,
            query: Query::default(),
            headers: Headers::default(),
            body: Body::default(),
            client_address: None,
            peer: Peer::default(),
            sni: None,
            context_extensions: BTreeMap::new(),
            metadata: BTreeMap::new(),
            route_metadata: BTreeMap::new(),
        }
    }
}

/// A method with standard meaning (RFC 9110, section 9; RFC 5789). Every other method is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the methods")]
pub enum Method {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 7] = [
        Self::Get,
        Self::Head,
        Self::Options,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
    ];

    /// The exact, case-sensitive name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// The method of that exact name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

/// The scheme of the request's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the schemes")]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// The scheme's name in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Header fields. A name may occur several times, its values in wire order; values are bytes.
#[derive(Clone, Default)]
pub struct Headers {
    fields: Vec<(String, Vec<u8>)>,
}

impl Headers {
    /// Header fields with lower-case names.
    #[must_use]
    pub fn new(fields: Vec<(String, Vec<u8>)>) -> Self {
        Self { fields }
    }

    /// Every value of `name` (lower case), in wire order.
    pub fn values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_slice())
    }

    /// The value of a header that occurs exactly once and is text.
    #[must_use]
    pub fn single(&self, name: &str) -> Option<&str> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (Some(value), None) => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }

    /// Every name that occurs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }
}

/// Shows names only: values hold credentials.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// The body, as far as Envoy sent it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// The bytes that arrived.
    pub bytes: Vec<u8>,
    /// Whether more went upstream than arrived here: such a body may not be judged as a whole.
    pub truncated: bool,
    /// How long the body is that goes upstream, in bytes, as far as anybody says: what arrived or what was announced,
    /// whichever is more; `u64::MAX` where it was cut and nobody says how long it is.
    pub length: u64,
}

/// Shows the length only: a body is the caller's data.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.truncated { " and more" } else { "" };
        write!(f, "Body({} bytes{more})", self.bytes.len())
    }
}

/// The other end of the connection to Envoy.
#[derive(Clone, Default)]
pub struct Peer {
    /// Its socket address; `None` on a Unix socket.
    pub address: Option<SocketAddr>,
    /// The identity Envoy took from its certificate; `None` without a client certificate.
    pub principal: Option<String>,
    /// Its certificate in DER, where Envoy sends it (`include_peer_certificate`).
    pub certificate: Option<Vec<u8>>,
}

/// Shows how long the certificate is.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.address)
            .field("principal", &self.principal)
            .field(
                "certificate_bytes",
                &self.certificate.as_ref().map(Vec::len),
            )
            .finish()
    }
}

/// W3C Trace Context: the parent span (`traceparent`, level 1) and the vendors' state (`tracestate`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent {
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, not all zero.
    pub span_id: [u8; 8],
    /// Bit 0: sampled.
    pub flags: u8,
    /// `tracestate`, possibly empty.
    pub state: String,
}

impl TraceParent {
    /// Reads a `traceparent` value, and keeps `tracestate` beside it.
    #[must_use]
    pub fn parse(value: &str, state: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let version = parts.next().filter(|v| v.len() == 2 && *v != "ff")?;
        let trace_id: [u8; 16] = hex(parts.next()?)?;
        let span_id: [u8; 8] = hex(parts.next()?)?;
        let [flags] = hex(parts.next()?)?;
        let known = hex::<1>(version).is_some() && (version != "00" || parts.next().is_none());
        (known && trace_id != [0; 16] && span_id != [0; 8]).then(|| Self {
            trace_id,
            span_id,
            flags,
            state: state.to_owned(),
        })
    }

    /// Whether the parent is sampled.
    #[must_use]
    pub fn sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The trace id in lower-case hex.
    #[must_use]
    pub fn trace_id_hex(&self) -> String {
        self.trace_id.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Lower-case hex of exactly `N` bytes.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != N * 2 || !text.bytes().all(lower) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Text made safe to show: control characters and bidirectional overrides escaped, length capped.
#[must_use]
pub fn shown(text: &str, max: usize) -> Cow<'_, str> {
    let plain = |c: char| {
        !c.is_control()
            && !('\u{202a}'..='\u{202e}').contains(&c)
            && !('\u{2066}'..='\u{2069}').contains(&c)
    };
    let short = text.len() <= max;
    let ascii = |b: u8| (0x20..0x7f).contains(&b);
    if short && (every_byte(text.as_bytes(), ascii) || text.chars().all(plain)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() >= max {
            shown.push('\u{2026}');
            break;
        }
        if plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_parent_is_read_as_the_standard_says() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = TraceParent::parse(&format!("00-{id}-00f067aa0ba902b7-01"), "").unwrap();
        assert!(parent.sampled());
        assert_eq!(parent.trace_id_hex(), id);
        for bad in [
            String::new(),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{id}-00f067aa0ba902b7-01-extra"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            format!("00-{id}-00f067aa0ba902b7"),
            format!("00-{id}-00f067aa0ba902b7-1"),
        ] {
            assert_eq!(TraceParent::parse(&bad, ""), None, "{bad}");
        }
        assert!(TraceParent::parse(&format!("01-{id}-00f067aa0ba902b7-00-more"), "").is_some());
    }

    #[test]
    fn methods_are_exact() {
        assert_eq!(Method::parse("GET"), Some(Method::Get));
        for name in ["get", "CARDEA", "TRACE", "CONNECT", "", "GET "] {
            assert_eq!(Method::parse(name), None, "{name}");
        }
    }

    #[test]
    fn shown_text_holds_no_control_character() {
        assert_eq!(shown("/v1/orders", 64), "/v1/orders");
        assert_eq!(
            shown("a\nb\u{1b}[2J\u{202e}", 64),
            "a\\u{a}b\\u{1b}[2J\\u{202e}"
        );
        assert_eq!(shown(&"x".repeat(99), 4), "xxxx\u{2026}");
    }

    #[test]
    fn debug_shows_no_header_value_and_no_body() {
        let headers = Headers::new(vec![("authorization".into(), b"Bearer s3cret".to_vec())]);
        let body = Body {
            bytes: b"s3cret".to_vec(),
            truncated: true,
            length: u64::MAX,
        };
        let text = format!("{headers:?} {body:?}");
        assert_eq!(text, r#"{"authorization"} Body(6 bytes and more)"#);
    }
}

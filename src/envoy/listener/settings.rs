//! The section `listen`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::{Period, Problem};

use super::super::tls::TlsSettings;
use super::address::{ListenAddress, SocketMode};

/// Where Envoy connects, and how much one connection may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenSettings {
    /// An IP address and a port, or `unix:` and the absolute path of a Unix socket.
    pub address: ListenAddress,
    /// Permissions of the Unix socket, in octal as text. Use `"660"` where Envoy runs as another user of the same
    /// group.
    pub unix_mode: SocketMode,
    /// TLS; plain where it is absent.
    pub tls: Option<TlsSettings>,
    /// How many threads decide. Each has its own socket; the kernel spreads connections, not requests, over them.
    pub workers: usize,
    /// Most connections a worker serves at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// Most calls in flight on one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub max_concurrent_streams: u32,
    /// Most bytes of gRPC metadata of one call (`SETTINGS_MAX_HEADER_LIST_SIZE`). Keep it above the request headers
    /// that Envoy accepts (`max_request_headers_kb`, 60 KiB by default): Envoy's tracers copy `tracestate` and `baggage`
    /// from the request to the call, and a call that is too large is refused without an answer.
    pub max_header_list_bytes: u32,
    /// How many streams that were reset are kept in mind; a connection that resets more at once is closed.
    pub max_reset_streams: usize,
    /// Longest check in bytes. Keep it well above `request.max_body_bytes`; longer ones are denied with 400.
    pub max_message_bytes: usize,
    /// How long a new connection may take for its TLS handshake, and again for its first bytes of HTTP/2.
    pub handshake_timeout: Period,
    /// How often a silent connection is asked whether it is still there.
    pub keepalive_interval: Period,
    /// How long it has to say so.
    pub keepalive_timeout: Period,
    /// How long calls in flight may take to finish when the program ends.
    pub drain: Period,
}

impl Default for ListenSettings {
    fn default() -> Self {
        Self {
            address: ListenAddress::Tcp(([127, 0, 0, 1], 9191).into()),
            unix_mode: SocketMode::OWN_USER,
            tls: None,
            workers: 1,
            max_connections: 1024,
            max_concurrent_streams: 256,
            max_header_list_bytes: 128 * 1024,
            max_reset_streams: 64,
            max_message_bytes: 4 * 1024 * 1024,
            handshake_timeout: Period::seconds(5),
            keepalive_interval: Period::seconds(30),
            keepalive_timeout: Period::seconds(20),
            drain: Period::seconds(10),
        }
    }
}

impl ListenSettings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, text: &str| {
            if !holds {
                problems.push(Problem::new(text));
            }
        };
        must(
            self.max_concurrent_streams > 0,
            "`listen.max_concurrent_streams` is 0: no call could ever be made",
        );
        must(
            self.max_header_list_bytes >= 4096,
            "`listen.max_header_list_bytes` must be at least 4096: Envoy adds tracing headers to each call",
        );
        must(
            self.max_message_bytes <= 64 * 1024 * 1024,
            "`listen.max_message_bytes` must be at most 67108864",
        );
        for (name, period) in [
            ("handshake_timeout", self.handshake_timeout),
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_timeout", self.keepalive_timeout),
        ] {
            must(!period.0.is_zero(), &format!("`listen.{name}` is zero"));
        }
        let connections = self.max_connections;
        problems.extend(Problem::out_of_bounds(
            "listen.workers",
            self.workers,
            1..=256,
        ));
        problems.extend(Problem::out_of_bounds(
            "listen.max_connections",
            connections,
            1..=1_000_000,
        ));
        problems.extend(self.tls.iter().flat_map(TlsSettings::problems));
        problems
    }
}

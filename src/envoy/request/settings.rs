//! The section `request`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{PathRules, Period, Problem};

/// How requests are read, and how large they may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestSettings {
    /// Spellings of a path that are accepted beyond the strict ones.
    pub path: PathRules,
    /// Where the client's address is taken from.
    pub client_address: ClientAddress,
    /// Longest request target (path and query) in bytes. Longer ones are refused with 400.
    pub max_target_bytes: usize,
    /// Most header fields a request may have. More are refused with 400.
    pub max_headers: usize,
    /// Most bytes of header names and values together. More are refused with 400.
    pub max_header_bytes: usize,
    /// Longest body in bytes. Keep it at or above Envoy's `with_request_body.max_request_bytes`: longer ones are
    /// refused with 400.
    pub max_body_bytes: usize,
    /// How long before Envoy stops waiting (its `grpc-timeout`) the answer is given, ready or not. What is not decided
    /// by then is denied with 503, so that it is closed even where Envoy is set to fail open.
    pub deadline_margin: Period,
    /// The longest a decision may take where Envoy names no earlier deadline.
    pub max_duration: Period,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            path: PathRules::default(),
            client_address: ClientAddress::Peer,
            max_target_bytes: 8 * 1024,
            max_headers: 128,
            max_header_bytes: 64 * 1024,
            max_body_bytes: 1024 * 1024,
            deadline_margin: Period::millis(5),
            max_duration: Period::seconds(10),
        }
    }
}

impl RequestSettings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, value, least) in [
            ("max_target_bytes", self.max_target_bytes, 64),
            ("max_headers", self.max_headers, 8),
            ("max_header_bytes", self.max_header_bytes, 1024),
        ] {
            if value < least {
                problems.push(Problem::new(format!(
                    "`request.{name}` is {value}: at least {least} is needed for ordinary requests"
                )));
            }
        }
        if let ClientAddress::ForwardedFor { trusted_hops: 0 } = self.client_address {
            problems.push(
                Problem::new("`request.client_address.forwarded_for.trusted_hops` is 0").hint(
                    "count the trusted proxies that append to `x-forwarded-for`, Envoy included where it does; \
                     or use `peer`",
                ),
            );
        }
        if self.max_duration.0.is_zero() {
            problems.push(Problem::new(
                "`request.max_duration` is zero: every request would be denied",
            ));
        }
        if self.deadline_margin.0 < Duration::from_millis(1) {
            problems.push(
                Problem::new("`request.deadline_margin` is below 1ms").hint(
                    "without a margin a late decision ends in a gRPC error, which an Envoy that fails open lets pass",
                ),
            );
        }
        problems
    }
}

/// Where the client's address is taken from. Never from a header unless this says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientAddress {
    /// The other end of the connection to Envoy. The default.
    #[default]
    Peer,
    /// `x-envoy-external-address`. Only behind an Envoy with `use_remote_address: true`: any other passes on what the
    /// client sent.
    EnvoyExternalAddress,
    /// `x-forwarded-for`, counted from the right.
    ForwardedFor {
        /// How many trusted proxies append to the header, Envoy included where it does (`use_remote_address`). The
        /// client's address is the one that the outermost of them wrote: the `trusted_hops`-th from the right.
        trusted_hops: usize,
    },
}

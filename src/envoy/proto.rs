//! The generated wire contract, see `proto/README.md`.
//!
//! Wire types stop at this folder. Only `request.rs` reads them, only `response.rs` writes them.

use std::fmt;

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated from proto/, where the comments are"
)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/wire.rs"));
}

/// `envoy.config.core.v3`.
pub use wire::envoy::config::core::v3 as core;
/// `envoy.service.auth.v3`.
pub use wire::envoy::service::auth::v3 as auth;
/// `envoy.type.v3`.
pub use wire::envoy::r#type::v3 as types;
/// `google.rpc`.
pub use wire::google::rpc;

/// Shows sizes only: the request is the caller's.
impl fmt::Debug for auth::attribute_context::HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw_headers = self.header_map.as_ref().map_or(0, |map| map.headers.len());
        f.debug_struct("HttpRequest")
            .field("path_bytes", &self.path.len())
            .field("headers", &(self.headers.len() + raw_headers))
            .field("body_bytes", &(self.body.len() + self.raw_body.len()))
            .finish_non_exhaustive()
    }
}

/// Shows the name only: values hold credentials.
impl fmt::Debug for core::HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderValue")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Shows which filters left something, never what.
impl fmt::Debug for core::Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.filter_metadata.keys()).finish()
    }
}

#[cfg(test)]
mod tests;

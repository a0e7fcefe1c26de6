//! The gate from outside: Cardea asked over gRPC as Envoy asks, by friends and by attackers. Names carry the row of the
//! catalogue of attacks that a test meets.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::string_slice,
    reason = "tests read files when they like, and cut texts they wrote themselves"
)]

mod answers;
mod api_keys;
mod assurance;
mod basic;
mod caching;
mod canaries;
mod child;
#[path = "../envoy/collector.rs"]
mod collector;
mod credentials;
mod delegation;
mod dpop;
mod health;
mod introspection;
mod issuer;
mod keys;
mod kubernetes;
mod observed;
mod policies;
mod provider;
mod reload;
mod requests;
mod revocation;
mod rows;
mod start;
mod status_list;
mod world;

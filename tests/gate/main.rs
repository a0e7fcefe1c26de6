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
mod downstream;
mod dpop;
mod first_use;
mod health;
mod introspection;
mod issuer;
mod keys;
mod kubernetes;
mod observed;
mod papers;
mod policies;
mod provider;
mod redis;
mod reload;
mod requests;
mod revocation;
mod rows;
mod shared;
mod signals;
mod start;
mod status_list;
mod transmitter;
mod world;

//! The gate from outside: Cardea asked over gRPC as Envoy asks, by friends and by attackers. Names carry the row of the
//! catalogue of attacks that a test meets.
#![cfg(test)]

mod answers;
mod caching;
mod child;
mod credentials;
mod health;
mod issuer;
mod keys;
mod policies;
mod reload;
mod requests;
mod secrets;
mod start;
mod world;

//! What only a real Envoy shows: clients on one side, an upstream on the other, Envoy 1.40 and Cardea between them.
//!
//! | file | holds |
//! |---|---|
//! | `house` | everything that runs, started once for all tests |
//! | `gate` | Envoy: its configurations, all made from the one that users copy, and its process |
//! | `client` | requests to the byte, and what came of them |
//! | `recorder` | what Envoy hands over, as Cardea reads it |
//! | the others | tests, by theme |
#![cfg(test)]

mod client;
mod collector;
mod gate;
mod house;
mod issuer;
mod papers;
mod recorder;

mod ambiguity;
mod answers;
mod certificates;
mod demo;
mod forwarded;
mod handover;
mod identity;
mod observed;
mod shipped;
mod signals;
mod transport;
mod trouble;

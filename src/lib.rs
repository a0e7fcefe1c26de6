//! Cardea decides, for every API request that Envoy holds at the door, whether the door opens.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod context;
pub mod envoy;
pub mod identity;
pub mod inventory;
pub mod model;
pub mod pipeline;
pub mod policy;
pub mod rehearsal;
pub mod telemetry;

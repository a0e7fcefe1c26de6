//! Cardea decides, for every API request that Envoy holds at the door, whether the door opens.
#![forbid(unsafe_code)]

pub mod context;
pub mod inventory;
pub mod model;
pub mod pipeline;

//! Cardea decides, for every API request that Envoy holds at the door, whether the door opens.
//!
//! Start in [`pipeline`]: it is the road of a request, top to bottom, on one page. Modules below stand in layers, and each
//! imports only from layers below its own.
//!
//! | layer | module | asks, or holds |
//! |---|---|---|
//! | 7 | [`cli`] | the commands, one file each |
//! | 6 | [`app`] | the composition root: every part built from its own settings, threads, drain |
//! | 5 | [`config`] | the settings file: a list of sections, each owned by its part |
//! | 4 | [`rehearsal`] | requests from files, their answers, and decisions written down |
//! | 3 | [`envoy`] | what does Envoy ask, and how does it hear the answer? |
//! | 3 | [`admin`] | what do operators read? |
//! | 3 | [`public`] | what do other services fetch and send? |
//! | 2 | [`pipeline`] | the road, the snapshot it is walked with, and how a changed one takes its place |
//! | 2 | [`signals`] | what do others say of those who ask? |
//! | 1 | [`inventory`] | which documented operation is it? |
//! | 1 | [`identity`] | who asks? |
//! | 1 | [`context`] | in which circumstances? |
//! | 1 | [`policy`] | may they? |
//! | 1 | [`state`] | what do other replicas know? |
//! | 1 | [`mint`] | what may the upstream believe of the caller? |
//! | 1 | [`telemetry`] | what was decided: traces, metrics, logs |
//! | 1 | [`web`] | serving HTTP within bounds |
//! | 0 | [`model`] | the vocabulary all of them share |
//!
//! The crate is a library for the sake of its tests and benchmarks; it promises no stable API.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod context;
pub mod envoy;
pub mod identity;
pub mod inventory;
pub mod mint;
pub mod model;
pub mod pipeline;
pub mod policy;
pub mod public;
pub mod rehearsal;
pub mod signals;
pub mod state;
pub mod telemetry;
pub mod web;

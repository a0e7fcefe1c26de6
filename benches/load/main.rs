//! Over the wire: the release binary under load, beside a server that allows everything. See `benches/README.md`.
//!
//! `cargo bench --bench load` runs everything and prints one line a figure; name runs to make only those:
//! `cargo bench --bench load -- ratio latency`. Every run stops by itself and asserts that what it measured were real answers.
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark may wait, and reads the real clock"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "settings are JSON, whose members come into being when they are named"
)]
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

mod allow_all;
#[path = "../fixture/asked.rs"]
mod asked;
mod client;
mod envoy;
mod first_use;
#[expect(
    dead_code,
    reason = "not every credential of the fixture is sent over the wire"
)]
#[path = "../fixture.rs"]
mod fixture;
mod forged;
mod process;
mod ratio;
mod redis;
mod revocation;
mod saturate;
mod server;
mod steady;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use fixture::Result;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the release binary under load.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which runs to make; all of them where none is named
    runs: Vec<Run>,
    /// The Envoy to measure through
    #[arg(long, env = "CARDEA_ENVOY")]
    envoy: Option<PathBuf>,
    /// The Redis or Valkey server that two processes share
    #[arg(long, env = "CARDEA_REDIS")]
    redis: Option<PathBuf>,
    /// Serve as the server that allows everything, on this port of the loopback address, until killed
    #[arg(long, hide = true)]
    allow_all: Option<u16>,
    /// Start Cardea warm, print how to load it, and wait: for a profiler
    #[arg(long)]
    hold: bool,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Run {
    /// Memory of an idle server with the default bundle
    Idle,
    /// Throughput against allow-all, both saturated
    Ratio,
    /// CPU over a Unix socket against TCP
    Uds,
    /// Latency at a fixed rate
    Latency,
    /// Throughput through Envoy: without the filter, with Cardea, with allow-all
    Envoy,
    /// Memory, and what good callers notice, under a million distinct forged tokens
    Forged,
    /// What a thousand first uses of one token at once cost
    FirstUse,
    /// From an event that takes trust back to the last allow
    Revocation,
    /// The same from one process to another
    RevocationTwo,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(port) = arguments.allow_all {
        return allow_all::serve(port);
    }
    if arguments.hold {
        return server::hold();
    }
    let runs = if arguments.runs.is_empty() {
        Run::value_variants()
    } else {
        arguments.runs.as_slice()
    };
    for run in runs {
        match run {
            Run::Idle => server::idle()?,
            Run::Ratio => ratio::against_allow_all()?,
            Run::Uds => ratio::unix_against_tcp()?,
            Run::Latency => steady::latency()?,
            Run::Envoy => envoy::throughput(arguments.envoy.as_deref())?,
            Run::Forged => forged::flood()?,
            Run::FirstUse => first_use::thousand()?,
            Run::Revocation => revocation::local()?,
            Run::RevocationTwo => revocation::two_processes(arguments.redis.as_deref())?,
        }
    }
    Ok(())
}

/// One line a figure.
fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// A line for people.
fn note(text: &str) {
    println!("# {text}");
}

/// The middle of an odd number of values, the lower middle of an even one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

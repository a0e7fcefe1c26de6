//! Over the wire: the release binary under load, beside a server that allows everything. See `benches/README.md`.
//!
//! `cargo bench --bench load` runs everything and prints one line a figure; name runs to make only those:
//! `cargo bench --bench load -- ratio latency`. Every run stops by itself and asserts that what it measured were real answers.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

mod allow_all;
mod client;
mod envoy;
#[path = "../fixture.rs"]
mod fixture;
mod forged;
mod process;
mod ratio;
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
    /// Memory under a million distinct forged tokens
    Forged,
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
            Run::Forged => forged::memory()?,
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

//! Closed-loop load from `h2load`, which costs less a request than the servers it drives.

use std::path::PathBuf;
use std::process::Command;

use crate::fixture::Result;

/// Connections, and calls in flight on each.
const CONNECTIONS: u32 = 4;
const STREAMS: u32 = 16;

/// Where a server listens.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Tcp(u16),
    Unix(PathBuf),
}

/// How long a run goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Seconds(u32),
    Requests(u32),
}

/// What one run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) per_second: f64,
    pub(crate) succeeded: u64,
}

/// One `h2load`, ready to run.
#[derive(Debug)]
pub(crate) struct H2Load {
    command: Command,
}

impl H2Load {
    fn new(target: &Target, path: &str) -> Self {
        let mut command = Command::new("h2load");
        command
            .args(["--threads", "1", "--clients", &CONNECTIONS.to_string()])
            .args(["--max-concurrent-streams", &STREAMS.to_string()]);
        match target {
            Target::Tcp(port) => command.arg(format!("http://127.0.0.1:{port}{path}")),
            Target::Unix(socket) => command
                .arg(format!("--base-uri=unix:{}", socket.display()))
                .arg(format!("http://localhost{path}")),
        };
        Self { command }
    }

    /// Checks over gRPC, each with the message in `file`.
    pub(crate) fn checks(target: &Target, file: &std::path::Path) -> Self {
        let mut load = Self::new(target, "/envoy.service.auth.v3.Authorization/Check");
        load.command
            .arg("--data")
            .arg(file)
            .args(["-H", "content-type: application/grpc"])
            .args(["-H", "te: trailers"]);
        load
    }

    /// Requests through Envoy, by a caller with this token.
    pub(crate) fn requests(port: u16, path: &str, token: &str) -> Self {
        let mut load = Self::new(&Target::Tcp(port), path);
        load.command
            .args(["-H", ":authority: api.example.com"])
            .args(["-H", "accept: application/json"])
            .arg("-H")
            .arg(format!("authorization: Bearer {token}"));
        load
    }

    /// Runs it. Anything but success for every request is an error.
    pub(crate) fn run(mut self, until: Until) -> Result<Load> {
        match until {
            Until::Seconds(seconds) => {
                self.command
                    .args(["--duration", &seconds.to_string(), "--warm-up-time", "1"])
            }
            Until::Requests(requests) => self.command.args(["--requests", &requests.to_string()]),
        };
        let output = self.command.output().map_err(|error| {
            format!("cannot run h2load: {error}; on Debian: apt-get install nghttp2-client")
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        read(&text).ok_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("h2load did not succeed:\n{text}{errors}").into()
        })
    }
}

/// Reads h2load's report; `None` where any request failed.
fn read(report: &str) -> Option<Load> {
    let line = |start: &str| report.lines().find_map(|line| line.strip_prefix(start));
    let per_second = line("finished in ")?
        .split(", ")
        .nth(1)?
        .strip_suffix(" req/s")?;
    let number = |text: &str, word: &str| -> Option<u64> {
        let count = text.split(", ").find_map(|part| part.strip_suffix(word))?;
        count.trim().parse().ok()
    };
    let requests = line("requests: ")?;
    let succeeded = number(requests, " succeeded")?;
    let statuses = line("status codes: ")?;
    let bad = [" failed", " errored", " timeout"].map(|word| number(requests, word));
    let other = [" 3xx", " 4xx", " 5xx"].map(|word| number(statuses, word));
    let all_good = bad.iter().chain(&other).all(|count| *count == Some(0));
    (all_good && succeeded > 0).then_some(Load {
        per_second: per_second.parse().ok()?,
        succeeded,
    })
}

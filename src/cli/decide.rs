//! `cardea decide`: requests in, decisions out, one JSON object a line each.

use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};

use super::ConfigArgument;
use crate::app;
use crate::config::Config;
use crate::envoy::request::{self, Call};
use crate::identity::Identity;
use crate::model::{Clock, Decision, ManualClock, Problem, SystemClock};
use crate::pipeline::trial::Staging;
use crate::pipeline::{Road, Snapshot};
use crate::policy::{Memory, Principal};
use crate::rehearsal::{Answer, Asking, Form, Line, Lines, MAX_LINE, NoRequest, Reader};

/// How long the first of Envoy's checks waits for the issuers' keys. Without them it is answered as the server answers.
const KEYS: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct DecideCommand {
    #[command(flatten)]
    config: ConfigArgument,
    /// How requests are written; by default each line's members tell
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// Judge as of this time (RFC 3339) where a request names none; by default, now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Exit with 1 if a line was no request
    #[arg(long)]
    strict: bool,
}

/// How requests are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Each line's members tell
    Auto,
    /// As cases of policy tests
    Case,
    /// AuthZEN evaluation requests
    Authzen,
    /// Envoy's `CheckRequest` in protobuf JSON
    Envoy,
}

/// Decides line by line until there are no more. Returns whether each was a request, or it does not matter.
pub(super) fn run(command: &DecideCommand) -> Result<bool, Vec<Problem>> {
    let mut desk = Desk::open(command)?;
    let mut lines = Lines::new(BufReader::new(std::io::stdin().lock()));
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut well = true;
    for number in 1.. {
        let line = match lines.read() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => return Err(broken("read standard input", &error)),
        };
        let answer = desk
            .line(&line)
            .map_err(|problem| NoRequest::of(number, problem));
        well &= answer.is_ok();
        // Whoever waits for an answer before it asks again must not wait for ever.
        let waiting = lines.source().buffer().is_empty();
        match write(&mut out, &answer, waiting) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => return Err(broken("write to standard output", &error)),
            Ok(()) => {}
        }
    }
    Ok(well || !command.strict)
}

fn broken(what: &str, error: &std::io::Error) -> Vec<Problem> {
    vec![Problem::new(format!("cannot {what}: {error}"))]
}

fn write(
    out: &mut impl Write,
    answer: &Result<Answer, NoRequest>,
    flush: bool,
) -> std::io::Result<()> {
    match answer {
        Ok(answer) => serde_json::to_writer(&mut *out, answer)?,
        Err(error) => serde_json::to_writer(&mut *out, error)?,
    }
    out.write_all(b"\n")?;
    if flush { out.flush() } else { Ok(()) }
}

/// Everything decisions are made with.
struct Desk {
    config: Config,
    snapshot: Snapshot,
    staging: Staging,
    clock: Arc<dyn Clock>,
    form: Option<Form>,
    proof: Option<Proof>,
}

/// What proves callers: only where a line needs it, since it fetches keys.
struct Proof {
    runtime: Runtime,
    identity: Arc<Identity<Principal>>,
}

impl Desk {
    fn open(command: &DecideCommand) -> Result<Self, Vec<Problem>> {
        let config = command.config.load()?;
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let clock: Arc<dyn Clock> = match command.at {
            Some(at) => Arc::new(ManualClock::at(at)),
            None => Arc::new(SystemClock),
        };
        Ok(Self {
            snapshot: Snapshot::load(&config.bundle.path, &*clock)?,
            staging: app::staging(&config, Arc::clone(&clock))?,
            form: match command.format {
                Format::Auto => None,
                Format::Case => Some(Form::Case),
                Format::Authzen => Some(Form::Authzen),
                Format::Envoy => Some(Form::Envoy),
            },
            config,
            clock,
            proof: None,
        })
    }

    fn line(&mut self, line: &Line<'_>) -> Result<Answer, Problem> {
        let Line::Text(text) = line else {
            let limit = MAX_LINE / 1024 / 1024;
            return Err(Problem::new(format!("the line is longer than {limit} MiB")));
        };
        let reader = Reader {
            snapshot: &self.snapshot,
            staging: &self.staging,
            now: self.clock.now(),
        };
        let decision = match reader.read(text, self.form)? {
            Asking::Supposed(supposed) => self.snapshot.rehearse(*supposed),
            Asking::Check(check) => {
                let call = Call::read(&http::HeaderMap::new(), &*self.clock);
                let asked = request::read(*check, call, &self.config.request);
                self.prove(asked)?
            }
        };
        Ok(Answer::of(&decision))
    }

    fn prove(&mut self, asked: crate::model::Asked) -> Result<Decision, Problem> {
        let proof = match self.proof.take() {
            Some(proof) => proof,
            None => Proof::start(&self.config, &self.clock)?,
        };
        let road = Road {
            snapshot: &self.snapshot,
            identity: &proof.identity,
            context: &self.staging.context,
            memory: &Memory::none(),
        };
        let decision = proof.runtime.block_on(road.decide(asked));
        self.proof = Some(proof);
        Ok(decision)
    }
}

impl Proof {
    fn start(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Problem> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Problem::new(format!("cannot start a runtime: {error}")))?;
        let started = Identity::start(&config.identity, Arc::clone(clock), runtime.handle());
        let identity = started.map_err(|problems| {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Problem::new(all.join("; "))
        })?;
        let mut ready = identity.readiness();
        // Late keys are no mistake here: the check is then answered as the server would answer it.
        let _ = runtime.block_on(async {
            tokio::time::timeout(KEYS, ready.wait_for(|ready| *ready))
                .await
                .is_ok()
        });
        Ok(Self { runtime, identity })
    }
}

//! Where requests from documents are decided: what `decide`, `explain` and `replay` share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};

use super::ConfigArgument;
use crate::app;
use crate::config::Config;
use crate::envoy::request::{self, Call};
use crate::identity::Identity;
use crate::mint::{self, Preview};
use crate::model::{Asked, Clock, Decision, ManualClock, Outcome, Problem, Refusal, SystemClock};
use crate::pipeline::trial::{Given, Staging};
use crate::pipeline::{BundleSettings, Road, Snapshot};
use crate::policy::{BundleFiles, Memory, Principal};
use crate::rehearsal::record::Record;
use crate::rehearsal::{Asking, Form, Reader};

/// How long the first of Envoy's checks waits for the issuers' keys. Without them it is answered as the server answers.
const KEYS: Duration = Duration::from_secs(10);

/// Everything decisions are made with.
pub(super) struct Desk {
    pub(super) config: Config,
    pub(super) snapshot: Snapshot,
    staging: Staging,
    pub(super) clock: Arc<dyn Clock>,
    proof: Option<Proof>,
}

/// What proves callers: only where a request needs it, since it fetches keys.
struct Proof {
    runtime: Runtime,
    identity: Arc<Identity<Principal>>,
}

/// How requests are written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    /// Each one's members tell
    Auto,
    /// As cases of policy tests
    Case,
    /// AuthZEN evaluation requests
    Authzen,
    /// Envoy's `CheckRequest` in protobuf JSON
    Envoy,
}

impl Format {
    pub(super) fn form(self) -> Option<Form> {
        match self {
            Self::Auto => None,
            Self::Case => Some(Form::Case),
            Self::Authzen => Some(Form::Authzen),
            Self::Envoy => Some(Form::Envoy),
        }
    }
}

impl Desk {
    /// Settings and bundle; requests that name no time take place `at` that time, else now.
    pub(super) fn open(
        argument: &ConfigArgument,
        at: Option<Timestamp>,
    ) -> Result<Self, Vec<Problem>> {
        let config = argument.load_sound()?;
        let clock: Arc<dyn Clock> = match at {
            Some(at) => Arc::new(ManualClock::at(at)),
            None => Arc::new(SystemClock),
        };
        Ok(Self {
            snapshot: snapshot(&config.bundle)?,
            staging: app::staging(&config, Arc::clone(&clock))?,
            config,
            clock,
            proof: None,
        })
    }

    /// Decides the request in one JSON document.
    pub(super) fn decide(&mut self, text: &[u8], form: Option<Form>) -> Result<Decision, Problem> {
        let reader = Reader {
            snapshot: &self.snapshot,
            staging: &self.staging,
            now: self.clock.now(),
        };
        let decision = match reader.read(text, form)? {
            Asking::Supposed(supposed) => self.snapshot.rehearse(*supposed),
            Asking::Check(check) => {
                let call = Call::read(&http::HeaderMap::new(), &*self.clock);
                let asked = request::read(*check, call, &self.config.request);
                self.prove(asked)?
            }
        };
        Ok(match self.minted(&decision) {
            Ok(_) => decision,
            Err(refusal) => Decision {
                outcome: Outcome::Refused(refusal),
                ..decision
            },
        })
    }

    /// What token the upstream would get with a request that passes. Nothing is signed.
    pub(super) fn preview(&self, decision: &Decision) -> Option<Preview> {
        self.minted(decision).ok().flatten()
    }

    /// # Errors
    /// Where the server would refuse the request because no token can be made for it.
    fn minted(&self, decision: &Decision) -> Result<Option<Preview>, Refusal> {
        let trail = &decision.trail;
        let (Some(settings), Some(caller)) = (&self.config.mint, &trail.caller) else {
            return Ok(None);
        };
        match (&trail.matched, &trail.request) {
            (Some(matched), Some(request)) if decision.allowed() => mint::preview(
                settings,
                caller,
                (matched, request.method),
                trail.arrival.at,
            ),
            _ => Ok(None),
        }
    }

    /// Decides what a case supposes; `usual` is when it takes place unless it says otherwise.
    pub(super) fn suppose(&self, given: Given, usual: Timestamp) -> Result<Decision, Problem> {
        let supposed = given.suppose(&self.staging, usual);
        Ok(self.snapshot.rehearse(supposed.map_err(Problem::new)?))
    }

    /// Decides a recorded request again, at the time it came.
    pub(super) fn again(&self, record: &Record) -> Result<Decision, String> {
        Ok(self.snapshot.rehearse(record.supposed(&*self.clock)?))
    }

    fn prove(&mut self, asked: Asked) -> Result<Decision, Problem> {
        let proof = match self.proof.take() {
            Some(proof) => proof,
            None => Proof::start(&self.config, &self.clock)?,
        };
        let road = Road {
            snapshot: &self.snapshot,
            identity: &proof.identity,
            context: &self.staging.context,
            memory: &Memory::none(),
            // Nothing is signed here: see `Desk::preview`.
            mint: None,
        };
        let decision = proof.runtime.block_on(road.decide(asked));
        self.proof = Some(proof);
        Ok(decision)
    }
}

/// The bundle that settings name; of a remote one what is kept on disk.
pub(super) fn snapshot(settings: &BundleSettings) -> Result<Snapshot, Vec<Problem>> {
    Snapshot::of(settings, &SystemClock, None)?.ok_or_else(none_kept)
}

/// What its files say, and what their paths begin with.
pub(super) fn files_of(settings: &BundleSettings) -> Result<(BundleFiles, PathBuf), Vec<Problem>> {
    Snapshot::files_of(settings)?.ok_or_else(none_kept)
}

fn none_kept() -> Vec<Problem> {
    let message = "the bundle is remote and none is kept on disk yet";
    vec![Problem::new(message).hint("name a folder with `--bundle`")]
}

/// A problem with a file or a stream.
pub(super) fn broken(what: &str, error: &std::io::Error, file: &Path) -> Vec<Problem> {
    let problem = Problem::new(format!("cannot {what}: {error}"));
    vec![if file == Path::new("-") {
        problem
    } else {
        problem.in_file(file)
    }]
}

impl Proof {
    fn start(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Problem> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Problem::new(format!("cannot start a runtime: {error}")))?;
        let started = Identity::start_beside(&config.identity, Arc::clone(clock), runtime.handle());
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

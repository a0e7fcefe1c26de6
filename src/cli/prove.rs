//! `cardea prove`: what holds of every request, shown by a solver.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::{ConfigArgument, DONE, FAILED, print, tell};
use crate::model::{Operation, Period, Problem, SystemClock};
use crate::pipeline::Snapshot;
use crate::policy::proof::{Bundle, Failure, Limits, Report, Solver, Task, Verdict, prove};
use crate::policy::{BundleFiles, Document, Invariants};

/// Nobody could say: no solver, or it gave up. This is not a pass.
const UNSETTLED: u8 = 3;

const AFTER_HELP: &str = "\
Asks, of every request that fits the schema:
  - can a policy error?
  - can a request that matches an invariant (invariants/*.cedar in the bundle) be allowed?
  - with --old: is something allowed that the old bundle denies?

It needs the solver cvc5, which is no part of Cardea: `scripts/install-cvc5.sh` installs it.

Exit codes: 0 all proven; 1 a claim is refuted, with a counterexample; 2 a mistake in arguments, settings or
bundle; 3 nothing refuted and something not proven, because there is no solver or it gave up.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ProveCommand {
    #[command(flatten)]
    config: ConfigArgument,
    /// The folder of an older bundle, which this one must not go beyond
    #[arg(long, value_name = "FOLDER")]
    old: Option<PathBuf>,
    /// More invariants, beside the bundle's own
    #[arg(long, value_name = "FILE", num_args = 1..)]
    invariants: Vec<PathBuf>,
    /// The solver's program
    #[arg(long, value_name = "PATH", env = "CARDEA_CVC5", default_value = "cvc5")]
    solver: PathBuf,
    /// How long the solver may take over one question
    #[arg(long, value_name = "TIME", default_value = "30s")]
    question_timeout: Period,
    /// How long the whole run may take
    #[arg(long, value_name = "TIME", default_value = "5m")]
    timeout: Period,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// How long a run may go on after its time is up, before it is ended from outside.
const GRACE: Duration = Duration::from_secs(5);

/// Proves what it can and prints the report. Returns the exit code.
pub(super) fn run(command: &ProveCommand) -> Result<u8, Vec<Problem>> {
    match command.report() {
        Ok(report) => {
            let text = if command.json {
                serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
            } else {
                report.to_string()
            };
            print(&text);
            Ok(match report.verdict {
                Verdict::Proven => DONE,
                Verdict::Refuted => FAILED,
                Verdict::Unsettled => UNSETTLED,
            })
        }
        Err(Failure::Problems(problems)) => Err(problems),
        Err(Failure::NoSolver(error)) => {
            tell(&[Problem::new(error.to_string())]);
            Ok(UNSETTLED)
        }
    }
}

/// A bundle that was read and understood.
struct Loaded {
    files: BundleFiles,
    snapshot: Snapshot,
    operations: Vec<Arc<Operation>>,
}

impl Loaded {
    fn read(folder: &Path) -> Result<Self, Vec<Problem>> {
        let files = BundleFiles::read(folder)?;
        let snapshot = Snapshot::compile(&files, folder, &SystemClock)?;
        let inventory = &snapshot.inventory;
        let operations = inventory.operations().chain(inventory.generic_operations());
        Ok(Self {
            operations: operations.cloned().collect(),
            files,
            snapshot,
        })
    }

    fn bundle(&self) -> Bundle<'_> {
        Bundle {
            files: &self.files,
            policies: &self.snapshot.policies,
            operations: &self.operations,
        }
    }
}

impl ProveCommand {
    fn report(&self) -> Result<Report, Failure> {
        let (new, old, invariants) = self.load().map_err(Failure::Problems)?;
        let task = Task {
            bundle: new.bundle(),
            invariants: &invariants,
            old: old.as_ref().map(Loaded::bundle),
        };
        let solver = Solver {
            program: self.solver.clone(),
            patience: self.question_timeout.0,
        };
        let limits = Limits {
            time: self.timeout.0,
            solvers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let (done, ended) = channel::<()>();
        let patience = self.timeout.0 + self.question_timeout.0 + GRACE;
        std::thread::spawn(move || watch(&ended, patience));
        let report = prove(&task, &solver, limits, &SystemClock);
        drop(done);
        report
    }

    fn load(&self) -> Result<(Loaded, Option<Loaded>, Invariants), Vec<Problem>> {
        let config = self.config.load()?;
        let new = Loaded::read(&config.bundle.path)?;
        let old = self.old.as_deref().map(Loaded::read).transpose()?;
        let documents: Vec<Document> = self
            .invariants
            .iter()
            .map(|path| read(path))
            .collect::<Result<_, _>>()?;
        let invariants = Invariants::parse(&documents, new.snapshot.policies.schema())?;
        Ok((new, old, invariants))
    }
}

/// Ends the process, as not proven, where the run does not end by itself: a solver can be told to stop, but the making of
/// the logic before it cannot, and there are policies whose logic is too large to be made.
fn watch(ended: &Receiver<()>, patience: Duration) {
    if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        let message = format!("nothing is proven: the run did not end within {patience:?}");
        let hint =
            "a policy's conditions may nest too deeply; write them as several `when` clauses";
        tell(&[Problem::new(message).hint(hint)]);
        std::process::exit(UNSETTLED.into());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command reads its files before it does anything else"
)]
fn read(path: &Path) -> Result<Document, Vec<Problem>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        vec![Problem::new(format!("cannot read the file: {error}")).in_file(path)]
    })?;
    Ok(Document {
        path: path.to_path_buf(),
        text,
    })
}

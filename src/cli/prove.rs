//! `cardea prove`: what holds of every request, shown by a solver.

mod retold;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::desk::files_of;
use super::{ConfigArgument, DONE, FAILED, print, tell};
use crate::app;
use crate::config::Config;
use crate::model::{Operation, Period, Problem, SystemClock};
use crate::pipeline::{BundleSettings, Snapshot};
use crate::policy::proof::{Bundle, Failure, Limits, Report, Solver, Task, Verdict, prove};
use crate::policy::{BundleFiles, Document, Invariants};

/// Nobody could say: no solver, or it gave up. This is not a pass.
const UNSETTLED: u8 = 3;

const AFTER_HELP: &str = "\
Asks, of every request that fits the schema:
  - can a policy error?
  - can a request that matches an invariant (invariants/*.cedar in the bundle) be allowed?
  - with --old: is something allowed that the old bundle denies?

It needs the solver cvc5, which is no part of Cardea: Debian has it (`apt-get install cvc5`), and \
`scripts/install-cvc5.sh` installs it from its Python package. A counterexample is printed as a request, and where it \
can be, as a line for `cardea decide`.

Exit codes: 0 all proven; 1 a claim is refuted, with a counterexample; 2 a mistake in arguments, settings or
bundle; 3 nothing refuted and something not proven, because there is no solver, it gave up, or the time was up.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ProveCommand {
    #[command(flatten)]
    config: ConfigArgument,
    /// An older bundle (folder or signed archive), which this one must not go beyond
    #[arg(long, value_name = "BUNDLE")]
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
                super::json(&report)?
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
            unsettled(Problem::new(error.to_string()), command.json);
            Ok(UNSETTLED)
        }
    }
}

/// Says why there is no report.
fn unsettled(problem: Problem, json: bool) {
    if json {
        let said = json!({ "verdict": Verdict::Unsettled, "error": problem.to_string() });
        print(&format!("{said}\n"));
    }
    tell(&[problem]);
}

/// A bundle that was read and understood.
struct Loaded {
    files: BundleFiles,
    root: PathBuf,
    snapshot: Snapshot,
    operations: Vec<Arc<Operation>>,
}

/// Everything to prove, and to prove it with.
struct Brief {
    config: Config,
    new: Loaded,
    old: Option<Loaded>,
    documents: Vec<Document>,
    invariants: Invariants,
}

impl Loaded {
    fn read(settings: &BundleSettings) -> Result<Self, Vec<Problem>> {
        let (files, root) = files_of(settings)?;
        let snapshot = Snapshot::compile(&files, &root, &SystemClock)?;
        let inventory = &snapshot.inventory;
        let operations = inventory.operations().chain(inventory.generic_operations());
        Ok(Self {
            operations: operations.cloned().collect(),
            files,
            root,
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
        let brief = self.brief().map_err(Failure::Problems)?;
        let task = Task {
            bundle: brief.new.bundle(),
            invariants: &brief.invariants,
            old: brief.old.as_ref().map(Loaded::bundle),
        };
        let solver = Solver::new(self.solver.clone(), self.question_timeout.0);
        let limits = Limits {
            time: self.timeout.0,
            solvers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let watch = self.watch(&solver).map_err(Failure::Problems)?;
        let report = prove(&task, &solver, limits, &SystemClock);
        drop(watch);
        let mut report = report?;
        let staging = app::staging(&brief.config, Arc::new(SystemClock));
        let staging = staging.map_err(Failure::Problems)?;
        retold::retell(&mut report, &brief, &staging);
        Ok(report)
    }

    fn brief(&self) -> Result<Brief, Vec<Problem>> {
        let config = self.config.load_sound()?;
        let new = Loaded::read(&config.bundle)?;
        let old = self.old.clone().map(|path| {
            Loaded::read(&BundleSettings {
                path,
                remote: None,
                ..config.bundle.clone()
            })
        });
        let documents = self.invariants.iter().map(|path| read(path));
        let documents: Vec<Document> = documents.collect::<Result<_, _>>()?;
        let invariants = new.snapshot.policies.understand(&documents)?;
        Ok(Brief {
            old: old.transpose()?,
            config,
            new,
            documents,
            invariants,
        })
    }

    /// Ends the process, as not proven, where the run does not end by itself, or somebody asks for it; and its solvers
    /// before. A solver can be told to stop, but the making of the logic before it cannot, and there are policies whose
    /// logic is too large to be made. Watches until what is returned is dropped.
    fn watch(&self, solver: &Solver) -> Result<oneshot::Sender<()>, Vec<Problem>> {
        let patience = self
            .timeout
            .0
            .saturating_add(self.question_timeout.0)
            .saturating_add(GRACE);
        let (done, ended) = oneshot::channel::<()>();
        let broken = |error: std::io::Error| {
            vec![Problem::new(format!("cannot watch over the run: {error}"))]
        };
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().map_err(broken)?;
        // Before a solver is started, so that a signal finds somebody at home.
        let (mut terminate, mut interrupt) = runtime
            .block_on(async {
                let terminate = signal(SignalKind::terminate())?;
                Ok((terminate, signal(SignalKind::interrupt())?))
            })
            .map_err(broken)?;
        let (solver, json) = (solver.clone(), self.json);
        std::thread::spawn(move || {
            let problem = runtime.block_on(async {
                tokio::select! {
                    _ = ended => None,
                    _ = terminate.recv() => Some(Problem::new("nothing is proven: the run was ended by a signal")),
                    _ = interrupt.recv() => Some(Problem::new("nothing is proven: the run was ended by a signal")),
                    () = tokio::time::sleep(patience) => Some(overdue(patience)),
                }
            });
            if let Some(problem) = problem {
                solver.end();
                unsettled(problem, json);
                std::process::exit(UNSETTLED.into());
            }
        });
        Ok(done)
    }
}

fn overdue(patience: Duration) -> Problem {
    Problem::new(format!(
        "nothing is proven: the run did not end within {patience:?}"
    ))
    .hint("a policy's conditions may nest too deeply; write them as several `when` clauses")
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

//! Proofs: what holds of every request, shown by a solver and not by examples.
//!
//! [`prove`] asks, for each operation and each type of caller, whether a policy can error, whether a request that matches
//! an invariant can be allowed, and whether the bundle allows something that an older one denies. The policies become
//! logic (`cedar-policy-symcc`, whose translation is itself proven in Lean), and the solver cvc5 looks for a request that
//! speaks against the claim. It finds one, which is then replayed by Cedar's own authorizer and shown; or proves that
//! there is none; or gives up, which proves nothing.
//!
//! The requests are those that fit the schema and keep the promises of `promise`: what Cardea says of every request.
//! The hierarchies of roles and objects are any, not only those that the bundle's entity files name today.
//!
//! - `promise`: what every request keeps to.
//! - `stage`: what is asked about, prepared once: policies, invariants, the old bundle, the sorts of request.
//! - `shape`: policies in a shape that keeps the logic small.
//! - `inquiry`, `comparison`, `counter`: the questions about one sort of request. `ledger`: the answers so far.
//! - `solver`: the program that answers. `unloaded`: the one thing it cannot know.
//! - `witness`, `report`: what came of it.

mod comparison;
mod counter;
mod inquiry;
mod ledger;
pub(super) mod promise;
mod report;
mod shape;
mod solver;
mod stage;
mod unloaded;
mod witness;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

pub use report::{Claim, Refuted, Report, Sort, Topic, Unsettled, Verdict, Witness};
pub use solver::{NoSolver, Solver};

use super::{BundleFiles, Invariants, Policies};
use crate::model::{Clock, Operation, Problem};
use inquiry::Inquiry;
use ledger::Ledger;
use solver::Asker;
use stage::Stage;

/// A bundle to prove something about.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    /// What its files say.
    pub files: &'a BundleFiles,
    /// Its policies.
    pub policies: &'a Policies,
    /// Its operations, the generic ones too.
    pub operations: &'a [Arc<Operation>],
}

/// What to prove.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The bundle.
    pub bundle: Bundle<'a>,
    /// Invariants beside the bundle's own.
    pub invariants: &'a Invariants,
    /// The bundle that this one must not go beyond.
    pub old: Option<Bundle<'a>>,
}

/// How much a run may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long it may run. What is open then stays unsettled.
    pub time: Duration,
    /// How many solvers run at the same time.
    pub solvers: NonZeroUsize,
}

/// Why nothing could be asked.
#[derive(Debug)]
pub enum Failure {
    /// What is to be proven makes no sense.
    Problems(Vec<Problem>),
    /// Nobody is there to ask.
    NoSolver(NoSolver),
}

/// The stack of a thread that turns policies into logic, which recurses as deep as they nest. It takes memory only as it is
/// used.
const STACK: usize = 256 * 1024 * 1024;

/// Proves what it can. Blocks for as long as `limits` allow, and starts solvers as processes of its own.
///
/// # Errors
/// Where the task makes no sense, or there is no solver to ask. Claims that do not hold or stay open are in the report.
pub fn prove(
    task: &Task<'_>,
    solver: &Solver,
    limits: Limits,
    clock: &dyn Clock,
) -> Result<Report, Failure> {
    std::thread::scope(|scope| {
        let run = || run(task, solver, limits, clock);
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, run);
        joined(thread).unwrap_or_else(|message| Err(broken(message)))
    })
}

fn run(
    task: &Task<'_>,
    solver: &Solver,
    limits: Limits,
    clock: &dyn Clock,
) -> Result<Report, Failure> {
    let stage = Stage::prepare(task).map_err(Failure::Problems)?;
    let runtime = runtime().map_err(broken)?;
    runtime
        .block_on(solver.try_out())
        .map_err(Failure::NoSolver)?;
    drop(runtime);
    let ledger = Ledger::new(&stage);
    let next = AtomicUsize::new(0);
    let deadline = clock.monotonic().checked_add(limits.time);
    let time_is_up = || deadline.is_some_and(|deadline| clock.monotonic() >= deadline);
    let work = || work(&stage, solver, &ledger, &next, &time_is_up);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..limits.solvers.get().min(stage.sorts.len()))
            .map(|_| {
                std::thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, work)
            })
            .collect();
        threads.into_iter().try_for_each(joined)
    })
    .map_err(broken)?;
    Ok(ledger.report(&stage))
}

/// What a thread gave, or why there is none.
fn joined<T>(thread: std::io::Result<ScopedJoinHandle<'_, T>>) -> Result<T, String> {
    let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    thread
        .join()
        .map_err(|_| "a thread of the proof panicked".to_owned())
}

fn broken(message: String) -> Failure {
    Failure::Problems(vec![Problem::new(message)])
}

/// Takes one sort of request after the other until none is left.
fn work(
    stage: &Stage<'_>,
    solver: &Solver,
    ledger: &Ledger,
    next: &AtomicUsize,
    time_is_up: &dyn Fn() -> bool,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(message) => return ledger.broken(message),
    };
    let mut asker = Asker::new(solver);
    while let Some(sort) = stage.sorts.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut inquiry = Inquiry {
            stage,
            sort,
            ledger,
            asker: &mut asker,
            time_is_up,
        };
        runtime.block_on(inquiry.run());
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))
}

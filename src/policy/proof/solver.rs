//! The solver cvc5: found at run time, asked one question at a time, each bounded in time.
//!
//! It is a program of its own and no part of Cardea: whoever wants proofs installs it. A solver that is absent, hangs,
//! dies or does not know proves nothing. `process` talks to it, and ends it.

mod process;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cedar_policy_symcc::CedarSymCompiler;
use cedar_policy_symcc::err::{Error, SolverError};
use cedar_policy_symcc::solver::Solver as _;

use crate::policy::source::Chain;
use process::{Process, Running};

/// Where the solver is, and how long it may take over one question. Clones speak of the same processes.
#[derive(Debug, Clone)]
pub struct Solver {
    program: PathBuf,
    patience: Duration,
    running: Running,
}

/// Why no solver can be asked.
#[derive(Debug, thiserror::Error)]
#[error("the solver `{}` {why}; install cvc5 (`scripts/install-cvc5.sh`, or a package of your system) and name it with `--solver` or CARDEA_CVC5", program.display())]
pub struct NoSolver {
    program: PathBuf,
    why: String,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The solver took too long, or said that it does not know.
    #[error("{0}")]
    Undecided(String),
    /// The solver cannot be started any more.
    #[error("the solver is gone: {0}")]
    Gone(String),
}

pub(super) type Compiler = CedarSymCompiler<Process>;

/// One running solver.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    solver: &'a Solver,
    /// `None` between the death of one process and the start of the next.
    running: Option<Compiler>,
}

impl Solver {
    /// A solver, which nobody has looked for yet: a path, or a name that is looked up in `PATH`; and how long one question
    /// may take.
    #[must_use]
    pub fn new(program: PathBuf, patience: Duration) -> Self {
        Self {
            program,
            patience,
            running: Running::default(),
        }
    }

    /// Ends all its processes, and lets none start after. For whoever is about to end this process: what runs then is
    /// not dropped.
    pub fn end(&self) {
        self.running.end();
    }

    fn start(&self) -> Result<Compiler, NoSolver> {
        let limit = self.patience.as_millis();
        let arguments = ["--lang=smt2".to_owned(), format!("--tlimit-per={limit}")];
        let process = self.running.start(&self.program, &arguments);
        let process = process.map_err(|error| self.absent(&error))?;
        CedarSymCompiler::new(process).map_err(|error| self.unusable(Chain(&error).to_string()))
    }

    fn absent(&self, error: &io::Error) -> NoSolver {
        self.unusable(match error.kind() {
            io::ErrorKind::NotFound => "is not there".to_owned(),
            _ => format!("does not start: {error}"),
        })
    }

    fn unusable(&self, why: String) -> NoSolver {
        NoSolver {
            program: self.program.clone(),
            why,
        }
    }

    /// Starts a solver and asks it what everybody knows, so that a program that is no solver is found out at once.
    pub(super) async fn try_out(&self) -> Result<(), NoSolver> {
        let mut compiler = self.start()?;
        let solver = compiler.solver_mut();
        let answer = tokio::time::timeout(self.patience, async {
            use cedar_policy_symcc::SmtLibScript as _;
            use cedar_policy_symcc::solver::Decision;
            let script = solver.smtlib_input();
            script.set_logic("ALL").await?;
            script.assert("false").await?;
            Ok::<bool, SolverError>(solver.check_sat().await? == Decision::Unsat)
        });
        match answer.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(self.unusable("does not know that false is false".to_owned())),
            Ok(Err(error)) => {
                let error = Chain(&error);
                Err(self.unusable(format!("does not answer as a solver does: {error}")))
            }
            Err(_) => {
                let patience = self.patience;
                Err(self.unusable(format!("did not answer within {patience:?}")))
            }
        }
    }
}

impl<'a> Asker<'a> {
    pub(super) fn new(solver: &'a Solver) -> Self {
        Self {
            solver,
            running: None,
        }
    }

    /// Asks one question. A solver that took too long or failed is ended, and the next question gets a new one.
    pub(super) async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Compiler) -> Result<T, Error>,
    ) -> Result<T, NoAnswer> {
        let mut compiler = match self.running.take() {
            Some(compiler) => compiler,
            None => self
                .solver
                .start()
                .map_err(|error| NoAnswer::Gone(error.to_string()))?,
        };
        // The solver's own limit comes first and is the gentle one. This one also ends a solver that ignores it.
        let patience = self.solver.patience + Duration::from_secs(2);
        match tokio::time::timeout(patience, question(&mut compiler)).await {
            Ok(Ok(answer)) => {
                self.running = Some(compiler);
                Ok(answer)
            }
            Ok(Err(Error::SolverUnknown)) => {
                let patience = self.solver.patience;
                let why = format!("the solver did not find an answer within {patience:?}");
                Err(NoAnswer::Undecided(why))
            }
            Ok(Err(error)) => Err(NoAnswer::Undecided(Chain(&error).to_string())),
            Err(_) => {
                let why = format!("the solver did not stop after {patience:?} and was ended");
                Err(NoAnswer::Undecided(why))
            }
        }
    }
}

//! The solver cvc5: found at run time, asked one question at a time, each bounded in time.
//!
//! It is a program of its own and no part of Cardea: whoever wants proofs installs it. A solver that is absent, hangs,
//! dies or does not know proves nothing.

use std::path::PathBuf;
use std::time::Duration;

use cedar_policy_symcc::CedarSymCompiler;
use cedar_policy_symcc::err::{Error, SolverError};
use cedar_policy_symcc::solver::{LocalSolver, Solver as _};
use tokio::process::Command;

use crate::policy::source::Chain;

/// Where the solver is, and how long it may take over one question.
#[derive(Debug, Clone)]
pub struct Solver {
    /// A path, or a name that is looked up in `PATH`.
    pub program: PathBuf,
    /// How long one question may take.
    pub patience: Duration,
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

pub(super) type Compiler = CedarSymCompiler<LocalSolver>;

/// One running solver.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    solver: &'a Solver,
    /// `None` between the death of one process and the start of the next.
    running: Option<Compiler>,
}

impl Solver {
    fn start(&self) -> Result<Compiler, NoSolver> {
        let mut command = Command::new(&self.program);
        let limit = self.patience.as_millis();
        command
            .args(["--lang=smt2", &format!("--tlimit-per={limit}")])
            .kill_on_drop(true);
        LocalSolver::from_command(&mut command)
            .map_err(|error| self.absent(&error))
            .and_then(|solver| {
                CedarSymCompiler::new(solver)
                    .map_err(|error| self.unusable(Chain(&error).to_string()))
            })
    }

    fn absent(&self, error: &SolverError) -> NoSolver {
        match error {
            SolverError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.unusable("is not there".to_owned())
            }
            _ => self.unusable(format!("does not start: {}", Chain(error))),
        }
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

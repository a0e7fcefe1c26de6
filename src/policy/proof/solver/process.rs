//! The solver's process: what it says is bounded, and it does not outlive whoever asks.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cedar_policy_symcc::SmtLibScript as _;
use cedar_policy_symcc::solver::{Decision, DecisionWithModel, Solver, SolverError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::io::{BufReader, BufWriter};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::model::shown;

/// The longest answer that is read, in bytes. A counterexample has some kilobytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// The most that is told of an answer that makes no sense.
const MAX_SHOWN: usize = 200;

/// A solver that reads SMT-LIB from its standard input.
#[derive(Debug)]
pub(in crate::policy::proof) struct Process {
    /// Killed when it is dropped; shared with [`Running`], which may end it before.
    _child: Arc<Mutex<Child>>,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// All processes of one solver, so that they can be ended at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<Children>>);

#[derive(Debug, Default)]
struct Children {
    /// Whether no more may be started.
    closed: bool,
    started: Vec<Weak<Mutex<Child>>>,
}

impl Running {
    /// Starts a process.
    ///
    /// # Errors
    /// Where there is no such program, it cannot be run, or [`Running::end`] was called.
    pub(super) fn start(&self, program: &Path, arguments: &[String]) -> io::Result<Process> {
        let mut children = self.children();
        if children.closed {
            return Err(io::Error::other("the run is being ended"));
        }
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| io::Error::other("it has no pipes"))?;
        let child = Arc::new(Mutex::new(child));
        children.started.retain(|one| one.strong_count() > 0);
        children.started.push(Arc::downgrade(&child));
        Ok(Process {
            _child: child,
            input: BufWriter::new(input),
            output: BufReader::new(output),
        })
    }

    /// Ends every process, and starts no more.
    pub(super) fn end(&self) {
        let mut children = self.children();
        children.closed = true;
        for child in children.started.drain(..).filter_map(|one| one.upgrade()) {
            // One that has ended already is as it should be.
            let _ = child
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .start_kill();
        }
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Reads one line, of at most `left` bytes, which become fewer by it.
    async fn line(&mut self, left: &mut u64) -> Result<String, SolverError> {
        let mut line = Vec::new();
        let mut output = (&mut self.output).take(*left);
        let read = output.read_until(b'\n', &mut line).await?;
        *left = left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        if !line.ends_with(b"\n") {
            return Err(SolverError::Solver(if *left == 0 {
                format!("its answer is longer than {MAX_ANSWER} bytes")
            } else {
                "it ended before it answered".to_owned()
            }));
        }
        String::from_utf8(line).map_err(|_| nonsense("bytes that are no text"))
    }
}

/// An error that tells of an answer which is none.
fn nonsense(answer: &str) -> SolverError {
    let answer = answer.trim();
    let complaint = answer.strip_prefix("(error \"");
    match complaint.and_then(|rest| rest.strip_suffix("\")")) {
        Some(complaint) => SolverError::Solver(shown(complaint, MAX_SHOWN).into_owned()),
        None => SolverError::UnrecognizedSolverOutput(shown(answer, MAX_SHOWN).into_owned()),
    }
}

impl Solver for Process {
    fn smtlib_input(&mut self) -> &mut (dyn AsyncWrite + Unpin + Send) {
        &mut self.input
    }

    async fn enable_models(&mut self) -> Result<(), SolverError> {
        let input = self.smtlib_input();
        Ok(input.set_option("produce-models", "true").await?)
    }

    async fn check_sat(&mut self) -> Result<Decision, SolverError> {
        self.smtlib_input().check_sat().await?;
        self.input.flush().await?;
        let mut left = MAX_ANSWER;
        let answer = self.line(&mut left).await?;
        match answer.trim() {
            "sat" => Ok(Decision::Sat),
            "unsat" => Ok(Decision::Unsat),
            "unknown" => Ok(Decision::Unknown),
            other => Err(nonsense(other)),
        }
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, SolverError> {
        match self.check_sat().await? {
            Decision::Unsat => return Ok(DecisionWithModel::Unsat),
            Decision::Unknown => return Ok(DecisionWithModel::Unknown),
            Decision::Sat => {}
        }
        self.smtlib_input().get_model().await?;
        self.input.flush().await?;
        let mut left = MAX_ANSWER;
        // A model stands between a line with `(` and a line with `)`.
        let mut model = self.line(&mut left).await?;
        if model.trim() != "(" {
            return Err(nonsense(&model));
        }
        loop {
            let line = self.line(&mut left).await?;
            model.push_str(&line);
            if line.trim() == ")" {
                return Ok(DecisionWithModel::Sat { model });
            }
        }
    }
}

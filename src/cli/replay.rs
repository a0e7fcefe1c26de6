//! `cardea replay`: recorded decisions, judged again under a candidate bundle.
//!
//! Each request is judged with the caller, the circumstances and the time that were recorded, so that only the bundle
//! differs. What is compared is the answer: verdict, status, reason, and the login that is asked for.

mod compare;
mod render;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::desk::{Desk, broken, snapshot};
use super::{ConfigArgument, print};
use crate::model::Problem;
use crate::rehearsal::record::Records;
use compare::{Change, Comparison};

/// How many bad lines are told at once.
const MOST_BAD_LINES: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cardea replay decisions.jsonl --bundle policies-next
  cardea replay decisions.jsonl --bundle policies-next --against policies --format markdown
  cardea replay decisions.jsonl --bundle policies-next --fail-on newly-allowed

Exit codes: 0 done; 1 something happened that `--fail-on` names; 2 a mistake in arguments, settings, bundle or decisions.")]
pub(super) struct ReplayCommand {
    #[command(flatten)]
    config: ConfigArgument,
    /// Recorded decisions, one JSON object a line (`-`: standard input)
    #[arg(value_name = "DECISIONS")]
    decisions: PathBuf,
    /// Compare with what this bundle decides, in place of what was recorded
    #[arg(long, value_name = "FOLDER")]
    against: Option<PathBuf>,
    /// How the difference is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Exit with 1 if this happened; may be repeated
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Vec<FailOn>,
    /// The most rows of each group that are shown in text and Markdown
    #[arg(long, value_name = "N", default_value_t = 50)]
    rows: usize,
}

/// How the difference is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For a pull request
    Markdown,
    /// For programs: one JSON object
    Json,
}

/// What makes a replay fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A request that was denied would be allowed
    NewlyAllowed,
    /// A request that was allowed would be denied
    NewlyDenied,
    /// Any of these, another answer, or a decision that could not be judged
    AnyChange,
    /// A decision could not be judged
    NotJudged,
}

impl FailOn {
    fn happened(self, found: &Comparison) -> bool {
        let some = |change: Change| found.count(change) > 0;
        match self {
            Self::NewlyAllowed => some(Change::NewlyAllowed),
            Self::NewlyDenied => some(Change::NewlyDenied),
            Self::AnyChange => Change::ALL.into_iter().any(some),
            Self::NotJudged => some(Change::NotJudged),
        }
    }
}

/// Judges every decision again and prints the difference. Returns whether nothing happened that was not to.
pub(super) fn run(command: &ReplayCommand) -> Result<bool, Vec<Problem>> {
    let candidate = Desk::open(&command.config, None)?;
    let against = command.against.as_ref().map(|folder| {
        let mut settings = candidate.config.bundle.clone();
        settings.path.clone_from(folder);
        settings.remote = None;
        snapshot(&settings)
    });
    let mut found = Comparison::new(candidate, against.transpose()?);
    let file = command.decisions.as_path();
    if file == Path::new("-") {
        replay(&mut found, std::io::stdin().lock(), file)?;
    } else {
        let source = File::open(file);
        let source = source.map_err(|error| broken("read the decisions", &error, file))?;
        replay(&mut found, BufReader::new(source), file)?;
    }
    print(&match command.format {
        Format::Text => render::text(&found, command.rows),
        Format::Markdown => render::markdown(&found, command.rows),
        Format::Json => super::json(&found.report())?,
    });
    Ok(!command.fail_on.iter().any(|what| what.happened(&found)))
}

/// A line that is no decision ends the replay: what it would have shown is not known, and nothing is not "no change".
fn replay(found: &mut Comparison, source: impl BufRead, file: &Path) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    for read in Records::new(source) {
        match read {
            Ok(record) if problems.is_empty() => found.take(&record),
            Ok(_) => {}
            Err(problem) => problems.push(problem.in_file(file)),
        }
        if problems.len() == MOST_BAD_LINES {
            break;
        }
    }
    if problems.is_empty() && found.decisions == 0 {
        problems.push(Problem::new("the file holds no decision").in_file(file));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

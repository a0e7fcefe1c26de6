//! `cardea test`: run a bundle's tests.

mod json;
mod junit;
mod text;

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;

use super::desk::files_of;
use super::{ConfigArgument, print};
use crate::app;
use crate::model::{Problem, SystemClock};
use crate::pipeline::Snapshot;
use crate::pipeline::trial::{Report, Suites};
use crate::policy::Document;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every case passed; 1 a case failed, or fewer policies were reached than `--fail-under` asks \
for; 2 a mistake in arguments, settings, bundle or cases."
)]
pub(super) struct TestCommand {
    #[command(flatten)]
    config: ConfigArgument,
    /// Files of cases, in place of the bundle's own
    #[arg(value_name = "FILES")]
    files: Vec<PathBuf>,
    /// How the outcome is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Show which policies no case made determining
    #[arg(long)]
    coverage: bool,
    /// Fail if fewer policies than this were made determining
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    fail_under: Option<u8>,
}

/// How the outcome is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs: one JSON object
    Json,
    /// For build servers: `JUnit` XML
    Junit,
}

/// Runs the tests and prints the outcome. Returns whether everything passed.
pub(super) fn run(command: &TestCommand) -> Result<bool, Vec<Problem>> {
    let config = command.config.load_sound()?;
    let (files, root) = files_of(&config.bundle)?;
    let snapshot = Snapshot::compile(&files, &root, &SystemClock)?;
    let staging = app::staging(&config, Arc::new(SystemClock))?;
    let suites = match command.files.as_slice() {
        [] => Suites::read(&files.tests)?,
        named => Suites::read(&read(named)?)?,
    };
    if suites.cases.is_empty() {
        return Err(vec![Problem::new("there is no test").in_file(root).hint(
            "write cases into `tests/*.yaml` of the bundle, or name files of cases",
        )]);
    }
    let report = suites.run(&snapshot, &staging);
    let short = command.fail_under.filter(|least| is_below(&report, *least));
    print(&match command.format {
        Format::Text => text::render(&report, command.coverage || command.fail_under.is_some()),
        Format::Json => json::render(&report, &snapshot),
        Format::Junit => junit::render(&report),
    });
    if let Some(least) = short {
        let percent = report.coverage.percent();
        super::tell(&[Problem::new(format!(
            "the tests reach {percent}% of the policies, and {least}% are asked for"
        ))]);
    }
    Ok(report.failed() == 0 && short.is_none())
}

/// Without rounding: 99.9 percent are not 100.
fn is_below(report: &Report, least: u8) -> bool {
    report.coverage.reached * 100 < usize::from(least) * report.coverage.policies()
}

#[expect(clippy::disallowed_methods, reason = "read once, by a command")]
fn read(files: &[PathBuf]) -> Result<Vec<Document>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut documents = Vec::new();
    for path in files {
        match std::fs::read_to_string(path) {
            Ok(text) => documents.push(Document {
                path: path.clone(),
                text,
            }),
            Err(error) => {
                let message = format!("cannot read the file: {error}");
                problems.push(Problem::new(message).in_file(path));
            }
        }
    }
    if problems.is_empty() {
        Ok(documents)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests;

//! `cardea decide`: requests in, decisions out, one JSON object a line each.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::ConfigArgument;
use super::desk::{Desk, Format, broken};
use crate::model::{Decision, Problem};
use crate::rehearsal::record::{self, Record};
use crate::rehearsal::{Answer, Line, Lines, MAX_LINE, NoRequest};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done, whatever was decided; 1 a line was no request, and `--strict`; 2 a mistake in arguments, \
settings or bundle."
)]
pub(super) struct DecideCommand {
    #[command(flatten)]
    config: ConfigArgument,
    /// How requests are written; by default each line's members tell
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// Judge as of this time (RFC 3339) where a request names none; by default, now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Append each decision to this file, as `explain` and `replay` read them
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Exit with 1 if a line was no request
    #[arg(long)]
    strict: bool,
}

/// Decides line by line until there are no more. Returns whether each was a request, or it does not matter.
pub(super) fn run(command: &DecideCommand) -> Result<bool, Vec<Problem>> {
    let mut desk = Desk::open(&command.config, command.at)?;
    let mut keeper = command.record.as_deref().map(Keeper::open).transpose()?;
    let mut lines = Lines::new(BufReader::new(std::io::stdin().lock()));
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut well = true;
    for number in 1.. {
        let line = match lines.read() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => return Err(broken("read standard input", &error, Path::new("-"))),
        };
        let decided = decide(&mut desk, &line, command.format);
        well &= decided.is_ok();
        if let (Some(keeper), Ok(decision)) = (&mut keeper, &decided) {
            keeper.keep(decision)?;
        }
        let answer = decided.as_ref();
        let answer = answer.map(|made| Answer::of(made).with_token(desk.preview(made)));
        let answer = answer.map_err(|problem| NoRequest::of(number, problem.clone()));
        // Whoever waits for an answer before it asks again must not wait for ever.
        let waiting = lines.source().buffer().is_empty();
        match write(&mut out, &answer, waiting) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => return Err(broken("write to standard output", &error, Path::new("-"))),
            Ok(()) => {}
        }
    }
    Ok(well || !command.strict)
}

fn decide(desk: &mut Desk, line: &Line<'_>, format: Format) -> Result<Decision, Problem> {
    match line {
        Line::Text(text) => desk.decide(text, format.form()),
        Line::TooLong => {
            let limit = MAX_LINE / 1024 / 1024;
            Err(Problem::new(format!("the line is longer than {limit} MiB")))
        }
    }
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

/// Appends decisions to a file.
struct Keeper<'c> {
    path: &'c Path,
    file: File,
}

impl<'c> Keeper<'c> {
    fn open(path: &'c Path) -> Result<Self, Vec<Problem>> {
        let file = record::append(path);
        let file = file.map_err(|error| broken("open the file of decisions", &error, path))?;
        Ok(Self { path, file })
    }

    /// Each record is written in one piece, before its answer: whoever has the answer finds the record.
    fn keep(&mut self, decision: &Decision) -> Result<(), Vec<Problem>> {
        let line = Record::of(decision).line().map_err(std::io::Error::from);
        let written = line.and_then(|line| self.file.write_all(&line));
        written.map_err(|error| broken("write to the file of decisions", &error, self.path))
    }
}

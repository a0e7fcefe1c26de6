//! `cardea explain`: why a request is decided as it is.
//!
//! The request comes from a document, or from a recorded decision; it is judged by the bundle at hand, and everything the
//! judgement stood on is shown.

mod text;
mod told;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::desk::{Desk, Format, broken};
use super::paint::Paint;
use super::{ConfigArgument, print};
use crate::model::{Decision, Problem, json, shown};
use crate::pipeline::trial::{Case, Suites, USUAL_TIME};
use crate::policy::Document;
use crate::rehearsal::record::{Record, Records};
use told::{Told, Unjudged};

/// The longest document that is read, in bytes.
const MAX_DOCUMENT: usize = 8 * 1024 * 1024;
/// How many bad lines are told at once.
const MOST_BAD_LINES: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cardea explain request.json --bundle policies
  cardea explain policies/tests/orders.yaml --case \"a viewer places none\" --bundle policies
  cardea explain 0190b7c3-1f6e-7c4e-9d3a-3f0c2a6b1d55 --decisions decisions.jsonl --json

Exit codes: 0 done, whatever was decided; 2 a mistake in arguments, settings or bundle, or nothing to explain.")]
pub(super) struct ExplainCommand {
    #[command(flatten)]
    config: ConfigArgument,
    /// A file that holds a request (`-`: standard input), or the id of a recorded decision
    #[arg(value_name = "REQUEST|ID")]
    what: String,
    /// Recorded decisions: where the id is looked up
    #[arg(long, value_name = "FILE")]
    decisions: Option<PathBuf>,
    /// The case to explain, by its name, where the file holds policy tests
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// How the request is written; by default its members tell
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    input: Format,
    /// Judge as of this time (RFC 3339) where the request names none; by default, now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &ExplainCommand) -> Result<(), Vec<Problem>> {
    // What is asked for is looked up first: it is the likelier mistake, and the cheaper one.
    let subject = Subject::find(command)?;
    let mut desk = Desk::open(&command.config, command.at)?;
    let paint = Paint::for_stdout();
    let page = match subject.decide(&mut desk, command)? {
        Judged::Yes(decision, record) => {
            let token = desk.preview(&decision);
            let told = Told::of(*decision, record.as_deref(), &desk.snapshot);
            let told = told.with_token(token);
            if command.json {
                super::json(&told)?
            } else {
                text::render(&told, paint)
            }
        }
        Judged::No(record, because) => {
            let told = Unjudged {
                recorded: &record,
                why: None,
                because,
            };
            if command.json {
                super::json(&told)?
            } else {
                text::unjudged(&told, paint)
            }
        }
    };
    print(&page);
    Ok(())
}

/// What became of it.
enum Judged {
    /// It was decided, for the first time or again.
    Yes(Box<Decision>, Option<Box<Record>>),
    /// It was recorded, and holds too little to be judged: why.
    No(Box<Record>, String),
}

/// What is to be explained.
enum Subject {
    /// A request in one JSON document.
    Document(Vec<u8>),
    /// A case of a policy test.
    Case(Box<Case>),
    /// A recorded decision.
    Record(Box<Record>),
}

impl Subject {
    fn find(command: &ExplainCommand) -> Result<Self, Vec<Problem>> {
        let what = command.what.as_str();
        let path = Path::new(what);
        if what == "-" || path.is_file() {
            return Self::read(command, path);
        }
        if Uuid::try_parse(what).is_err() {
            let message = format!(
                "`{}` is neither a file nor the id of a decision",
                shown(what, 256)
            );
            return Err(vec![Problem::new(message)]);
        }
        let file = command.decisions.as_deref().ok_or_else(|| {
            let message = "an id needs recorded decisions to look it up in";
            vec![Problem::new(message).hint("name their file with `--decisions`")]
        })?;
        look_up(what, file).map(|record| Self::Record(Box::new(record)))
    }

    fn read(command: &ExplainCommand, path: &Path) -> Result<Self, Vec<Problem>> {
        let text = read(path)?;
        let end = path.extension().and_then(|end| end.to_str());
        let yaml = matches!(end, Some("yaml" | "yml"));
        let object = text.trim_ascii_start().first() == Some(&b'{');
        if object && !yaml && command.case.is_none() {
            return match record(&text) {
                Some(record) => {
                    let record = record.map_err(|problem| vec![placed(problem, path)])?;
                    Ok(Self::Record(Box::new(record)))
                }
                None => Ok(Self::Document(text)),
            };
        }
        let text = String::from_utf8(text).map_err(|_| {
            let problem = Problem::new("the file is neither a JSON object nor a file of cases");
            vec![placed(problem, path)]
        })?;
        let document = Document {
            path: path.to_owned(),
            text,
        };
        let suites = Suites::read(&[document])?;
        let case = choose(suites.cases, command.case.as_deref());
        case.map(|case| Self::Case(Box::new(case)))
            .map_err(|problem| vec![placed(problem, path)])
    }

    fn decide(self, desk: &mut Desk, command: &ExplainCommand) -> Result<Judged, Vec<Problem>> {
        let path = Path::new(&command.what);
        match self {
            Self::Document(text) => {
                let decided = desk.decide(&text, command.input.form());
                let decision = decided.map_err(|problem| vec![placed(problem, path)])?;
                Ok(Judged::Yes(Box::new(decision), None))
            }
            Self::Case(case) => {
                let usual = command.at.unwrap_or(USUAL_TIME);
                let decided = desk.suppose(case.given, usual);
                let decision = decided
                    .map_err(|problem| vec![problem.in_file(&case.file).at(case.line, 1)])?;
                Ok(Judged::Yes(Box::new(decision), None))
            }
            Self::Record(record) => Ok(match desk.again(&record) {
                Ok(decision) => Judged::Yes(Box::new(decision), Some(record)),
                Err(because) => Judged::No(record, because),
            }),
        }
    }
}

/// Reads a document, however it came, up to [`MAX_DOCUMENT`].
fn read(path: &Path) -> Result<Vec<u8>, Vec<Problem>> {
    let cannot = |error: std::io::Error| broken("read the request", &error, path);
    let mut text = Vec::new();
    let limit = MAX_DOCUMENT as u64 + 1;
    if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        stdin.take(limit).read_to_end(&mut text).map_err(cannot)?;
    } else {
        let file = File::open(path).map_err(cannot)?;
        file.take(limit).read_to_end(&mut text).map_err(cannot)?;
    }
    if text.len() > MAX_DOCUMENT {
        let message = format!("the request is longer than {} MiB", MAX_DOCUMENT >> 20);
        return Err(vec![placed(Problem::new(message), path)]);
    }
    Ok(text)
}

fn placed(problem: Problem, path: &Path) -> Problem {
    if path == Path::new("-") {
        problem
    } else {
        problem.in_file(path)
    }
}

/// The document as a recorded decision, where its members say that it is one.
fn record(text: &[u8]) -> Option<Result<Record, Problem>> {
    let members = json::parse_object(text).ok()?;
    let is_one = members.contains_key("version") && members.contains_key("verdict");
    is_one.then(|| Record::read(text))
}

/// The case of that name, or the only one.
fn choose(mut cases: Vec<Case>, name: Option<&str>) -> Result<Case, Problem> {
    let found = match name {
        Some(name) => cases.iter().position(|case| case.name == name),
        None => (cases.len() == 1).then_some(0),
    };
    match (found, name) {
        (Some(index), _) => Ok(cases.swap_remove(index)),
        (None, Some(name)) => {
            let message = format!("no case has the name `{}`", shown(name, 200));
            Err(Problem::new(message))
        }
        (None, None) => Err(
            Problem::new(format!("the file holds {} cases", cases.len()))
                .hint("say which of them with `--case NAME`"),
        ),
    }
}

/// The recorded decision of that id. Lines that are none are no obstacle, unless it is not found.
fn look_up(id: &str, file: &Path) -> Result<Record, Vec<Problem>> {
    let source = File::open(file).map_err(|error| broken("read the decisions", &error, file))?;
    let mut bad = Vec::new();
    for read in Records::new(BufReader::new(source)) {
        match read {
            Ok(record) if record.id.eq_ignore_ascii_case(id) => return Ok(record),
            Err(problem) if bad.len() < MOST_BAD_LINES => bad.push(problem.in_file(file)),
            Ok(_) | Err(_) => {}
        }
    }
    let absent = Problem::new(format!("no decision has the id `{id}`")).in_file(file);
    bad.insert(0, absent);
    Err(bad)
}

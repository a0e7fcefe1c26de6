//! Requests from documents: what somebody wrote down becomes what is decided.
//!
//! | form | told by | read in | caller |
//! |---|---|---|---|
//! | a case | `request`, `caller`, `token` .. (or `given` around them) | `pipeline::trial` | supposed |
//! | AuthZEN | `subject`, `action`, `resource` | `authzen` | supposed |
//! | Envoy's `CheckRequest`, protobuf JSON | `attributes` | `check` | proven by its credential, or refused |
//!
//! One document, one request, one reading: a member twice, an unknown member, or members of two forms are errors. `lines`
//! reads documents from a stream, `answer` writes what was decided, `record` keeps a decision so that it can be explained,
//! and its request judged again.

mod answer;
mod authzen;
mod check;
mod lines;
pub mod record;
mod wire;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::envoy::proto::auth::CheckRequest;
use crate::envoy::request::is_grpc;
use crate::model::{Problem, json, shown};
use crate::pipeline::trial::{Given, Staging};
use crate::pipeline::{Snapshot, Supposed};

pub use answer::{Answer, NoRequest};
pub use lines::{Line, Lines, MAX_LINE};

/// The longest message about a mistake.
const MAX_MESSAGE: usize = 400;

/// How a request is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As cases of policy tests are.
    Case,
    /// As an AuthZEN evaluation request (Authorization API 1.0).
    Authzen,
    /// As Envoy's `CheckRequest` in protobuf JSON.
    Envoy,
}

/// A request that was read.
#[derive(Debug)]
pub enum Asking {
    /// Its caller is supposed: [`Snapshot::rehearse`] decides it.
    Supposed(Box<Supposed>),
    /// Its caller has to prove who it is: [`crate::pipeline::Road::decide`] decides it, once [`crate::envoy::request`]
    /// has read it.
    Check(Box<CheckRequest>),
}

/// What requests are read with.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// Which operations there are.
    pub snapshot: &'a Snapshot,
    /// How requests and claims are read.
    pub staging: &'a Staging,
    /// When a request takes place that does not say.
    pub now: Timestamp,
}

impl Reader<'_> {
    /// Reads one JSON document. Without a `form` its members tell which it is.
    ///
    /// # Errors
    /// What is wrong with the document, with line and column where they are known. What is wrong with the request it
    /// tells of is no error: it is decided, and refused.
    pub fn read(&self, text: &[u8], form: Option<Form>) -> Result<Asking, Problem> {
        let members = json::parse_object(text).map_err(|error| {
            let (line, column) = error.place();
            Problem::new(error.what()).at(line, column)
        })?;
        let form = match form {
            Some(form) => form,
            None => form_of(&members)?,
        };
        match form {
            Form::Envoy => check::read(text).map(|check| Asking::Check(Box::new(check))),
            Form::Authzen => {
                let given = typed::<authzen::Evaluation>(text)?.given(self);
                self.suppose(given.map_err(Problem::new)?)
            }
            Form::Case if members.contains_key("given") => {
                self.suppose(typed::<Wrapped>(text)?.given)
            }
            Form::Case => self.suppose(typed(text)?),
        }
    }

    fn suppose(&self, given: Given) -> Result<Asking, Problem> {
        let mut supposed = given
            .suppose(self.staging, self.now)
            .map_err(Problem::new)?;
        // How the answer is worded follows from the request, as it does for one that arrives.
        if let Ok(request) = &supposed.request {
            let mut types = request.headers.values("content-type");
            let first = types
                .next()
                .and_then(|value| std::str::from_utf8(value).ok());
            supposed.arrival.grpc = first.is_some_and(is_grpc);
        }
        Ok(Asking::Supposed(Box::new(supposed)))
    }
}

/// A case as it stands in a file of tests. What it expects is not judged here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    given: Given,
    #[serde(default, rename = "name")]
    _name: Option<String>,
    #[serde(default, rename = "expect")]
    _expect: crate::pipeline::trial::Expect,
}

/// Members that tell one form from the others.
const MARKS: [(Form, &[&str]); 3] = [
    (Form::Envoy, &["attributes"]),
    (
        Form::Authzen,
        &["subject", "action", "resource", "context", "evaluations"],
    ),
    (
        Form::Case,
        &[
            "given", "request", "caller", "token", "at", "device", "risk", "signals",
        ],
    ),
];

fn form_of(members: &Map<String, Value>) -> Result<Form, Problem> {
    let has = |marks: &[&str]| marks.iter().any(|mark| members.contains_key(*mark));
    let mut forms = MARKS.iter().filter(|(_, marks)| has(marks));
    match (forms.next(), forms.next()) {
        (Some((form, _)), None) => Ok(*form),
        (Some(_), Some(_)) => Err(Problem::new("the members belong to two forms of a request")
            .hint("say which it is with `--format`, or mend the document")),
        (None, _) => Err(Problem::new("the document is no request").hint(
            "write a case (`request`, `caller`), an AuthZEN evaluation (`subject`, `action`, `resource`) or Envoy's \
             `CheckRequest` (`attributes`)",
        )),
    }
}

/// Reads a document with its types. That no member occurs twice was checked before.
fn typed<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|error| {
        let message = error.to_string();
        // The place is told apart from the message.
        let what = message
            .rsplit_once(" at line ")
            .map_or(&*message, |(what, _)| what);
        let problem = Problem::new(shown(what, MAX_MESSAGE));
        match error.line() {
            0 => problem,
            line => problem.at(line, error.column()),
        }
    })
}

#[cfg(test)]
mod tests;

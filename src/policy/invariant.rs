//! Invariants: what no policy may ever allow, written as Cedar and proven before a bundle ships.
//!
//! An invariant is a `forbid` that is never judged by. It says that no request which matches it is allowed, whatever the
//! policies are. A guardrail says the same at run time; an invariant tells when somebody has taken the guardrail away, or
//! thought that one was not needed because no permit reaches so far.

use cedar_policy::Effect;

use super::bundle::Document;
use super::source::Sources;
use super::validate::Grounds;
use crate::model::Problem;

/// A bundle's invariants, parsed and validated.
#[derive(Debug, Default)]
pub struct Invariants {
    pub(super) sources: Sources,
}

/// Annotations that describe and do not act.
const DESCRIPTIVE: [&str; 5] = ["id", "severity", "control", "reason", "title"];

impl Invariants {
    /// Understands files of invariants.
    ///
    /// # Errors
    /// Everything that is wrong, with file and line: what does not parse or does not fit the schema, a permit, an
    /// invariant without a name, an annotation that acts.
    pub(super) fn parse(documents: &[Document], grounds: &Grounds) -> Result<Self, Vec<Problem>> {
        let sources = Sources::read(documents, &[])?;
        let mut problems = sources.validate(grounds);
        for policy in sources.set.policies() {
            let id: &str = policy.id().as_ref();
            let place = |message: &str, hint: &str| {
                let problem = Problem::new(message).hint(hint);
                match sources.places.get(id) {
                    Some((file, line, column)) => problem.in_file(file).at(*line, *column),
                    None => problem,
                }
            };
            if policy.effect() == Effect::Permit {
                problems.push(place(
                    "an invariant is a `permit`",
                    "write a `forbid`: what matches it must never be allowed",
                ));
            }
            if policy.annotation("id").is_none() {
                problems.push(place(
                    "an invariant has no name",
                    "put `@id(\"...\")` before it, so that a report can name it",
                ));
            }
            let acting = policy.annotations().map(|(name, _)| name);
            for name in acting.filter(|name| !DESCRIPTIVE.contains(name)) {
                problems.push(place(
                    &format!("`@{name}` means nothing on an invariant, which never answers"),
                    "remove it; a guardrail is the place for it",
                ));
            }
        }
        problems.sort();
        if problems.is_empty() {
            Ok(Self { sources })
        } else {
            Err(problems)
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.compiled.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

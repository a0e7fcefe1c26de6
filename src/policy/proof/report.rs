//! What came of the questions, for people and for programs.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

/// What was asked of the policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// The policy (or invariant) never errors.
    NeverErrors,
    /// No request that matches the invariant is allowed.
    Invariant,
    /// The bundle allows nothing that the old one denies.
    NoMoreThanOld,
}

/// What the whole run says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every claim holds for every request.
    Proven,
    /// A request speaks against a claim.
    Refuted,
    /// Nothing speaks against a claim, but not every question was answered. This is not a pass.
    Unsettled,
}

/// A claim about one policy or invariant, or about the bundle as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Topic {
    /// What was asked.
    pub claim: Claim,
    /// The id of the policy or invariant; `None` for the bundle.
    pub id: Option<String>,
    /// Where that stands: file, line and column.
    pub place: Option<(PathBuf, usize, usize)>,
}

/// A sort of request: an operation, and the type of its caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Sort {
    /// The operation's id.
    pub operation: String,
    /// The caller's entity type, without its namespace.
    pub principal: String,
}

/// A claim that does not hold.
#[derive(Debug, Clone, Serialize)]
pub struct Refuted {
    /// Which claim.
    #[serde(flatten)]
    pub topic: Topic,
    /// For which sorts of request.
    pub sorts: BTreeSet<Sort>,
    /// A request that shows it, of the first of these sorts. Cedar's own authorizer has confirmed it.
    pub counterexample: Option<Witness>,
    /// What else there is to say.
    pub remark: Option<String>,
}

/// A claim that was neither proven nor refuted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unsettled {
    /// Which claim.
    #[serde(flatten)]
    pub topic: Topic,
    /// Why not.
    pub reason: String,
}

/// A request that speaks against a claim.
#[derive(Debug, Clone, Serialize)]
pub struct Witness {
    /// The operation's method and route.
    pub route: String,
    /// Who asks.
    pub principal: String,
    /// For what.
    pub action: String,
    /// On what.
    pub resource: String,
    /// The permits that allow it.
    pub allowed_by: Vec<String>,
    /// The policies that error, with Cedar's words.
    pub errors: Vec<String>,
    /// The facts that the policies at hand can read, as `path = value`.
    pub facts: Vec<String>,
    /// The request in full, in Cedar's JSON form.
    pub request: Value,
    /// The entities in full, in Cedar's JSON form.
    pub entities: Value,
    /// The same as an AuthZEN evaluation request with as few facts as will do, which is decided as was said. Whoever can
    /// decide requests puts it here; it stays `None` where no such request can say what it takes.
    pub evaluation: Option<Value>,
}

/// Everything a run found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What the whole run says.
    pub verdict: Verdict,
    /// How many policies were looked at.
    pub policies: usize,
    /// How many invariants were looked at.
    pub invariants: usize,
    /// How many sorts of request there are.
    pub sorts: usize,
    /// How many questions were answered.
    pub answered: usize,
    /// The claims that do not hold.
    pub refuted: Vec<Refuted>,
    /// The claims that nobody could settle.
    pub unsettled: Vec<Unsettled>,
    /// What is worth a look and breaks no claim.
    pub notes: Vec<String>,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line, column)) = &self.place {
            write!(f, "{}:{line}:{column}: ", file.display())?;
        }
        let id = self.id.as_deref().unwrap_or("the bundle");
        match self.claim {
            Claim::NeverErrors => write!(f, "`{id}` never errors"),
            Claim::Invariant => write!(f, "no request that matches `{id}` is allowed"),
            Claim::NoMoreThanOld => f.write_str("the bundle allows no more than the old one"),
        }
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.operation, self.principal)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for refuted in &self.refuted {
            writeln!(f, "refuted: {refuted}")?;
        }
        for Unsettled { topic, reason } in &self.unsettled {
            writeln!(f, "unsettled: {topic}\n  {reason}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let verdict = match self.verdict {
            Verdict::Proven => "proven",
            Verdict::Refuted => "refuted",
            Verdict::Unsettled => "not settled",
        };
        writeln!(
            f,
            "{verdict}: {} policies and {} invariants over {} sorts of request; {} questions answered, {} claims refuted, \
             {} unsettled",
            self.policies,
            self.invariants,
            self.sorts,
            self.answered,
            self.refuted.len(),
            self.unsettled.len()
        )
    }
}

impl fmt::Display for Refuted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        writeln!(f, "{}", self.topic)?;
        let mut sorts: Vec<String> = self.sorts.iter().take(SHOWN).map(Sort::to_string).collect();
        if self.sorts.len() > SHOWN {
            sorts.push(format!("and {} more", self.sorts.len() - SHOWN));
        }
        if !sorts.is_empty() {
            writeln!(f, "  not for     {}", sorts.join(", "))?;
        }
        if let Some(remark) = &self.remark {
            writeln!(f, "  because     {remark}")?;
        }
        match &self.counterexample {
            Some(witness) => write!(f, "{witness}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  for example {}", self.route)?;
        writeln!(f, "    principal = {}", self.principal)?;
        writeln!(f, "    action = {}", self.action)?;
        writeln!(f, "    resource = {}", self.resource)?;
        for fact in &self.facts {
            writeln!(f, "    {fact}")?;
        }
        if !self.allowed_by.is_empty() {
            writeln!(f, "  allowed by  {}", self.allowed_by.join(", "))?;
        }
        for error in &self.errors {
            writeln!(f, "  error       {error}")?;
        }
        let whole = serde_json::json!({ "request": self.request, "entities": self.entities });
        writeln!(f, "  in full     {whole}")?;
        match &self.evaluation {
            Some(evaluation) => writeln!(f, "  to decide   {evaluation}"),
            None => f.write_str("  to decide   no line for `cardea decide` can say all of this\n"),
        }
    }
}

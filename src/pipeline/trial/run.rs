//! Judging cases, and counting which policies they reached.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::expect::Difference;
use super::suite::{Case, Suites};
use super::{Snapshot, Staging, USUAL_TIME, at};
use crate::model::{Decision, PolicyFault, Problem, Reason, StepUp};

/// The longest that a bundle's tests may take before it comes into force.
pub(super) const MAX_TIME: Duration = Duration::from_secs(30);

/// The most failures that are told at once.
const MAX_PROBLEMS: usize = 100;

/// What became of all cases.
#[derive(Debug)]
pub struct Report {
    /// Each case, in order.
    pub cases: Vec<CaseReport>,
    /// What they reached.
    pub coverage: Coverage,
    /// How many cases were left out, because time ran out.
    pub left_out: usize,
}

/// What became of one case.
#[derive(Debug)]
pub struct CaseReport {
    /// The file it stands in.
    pub file: PathBuf,
    /// The line it begins at.
    pub line: usize,
    /// What it is called.
    pub name: String,
    /// What was decided, or why the case supposes nothing that could be.
    pub found: Result<Found, String>,
    /// How that differs from what was expected.
    pub differences: Vec<Difference>,
    /// How long it took.
    pub took: Duration,
}

/// What was decided of a supposed request.
#[derive(Debug, Clone)]
pub struct Found {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// The reason's code.
    pub reason: &'static str,
    /// The reason of the refusal that would have been, where the operation is observed.
    pub would_be: Option<&'static str>,
    /// A sentence for operators, where it was refused or would have been.
    pub detail: String,
    /// The HTTP status.
    pub status: u16,
    /// The operation's id.
    pub operation: String,
    /// The determining policies.
    pub policies: Vec<String>,
    /// Policies that could not be evaluated.
    pub errors: Vec<PolicyFault>,
    /// The login that is asked for, or would have been.
    pub step_up: Option<StepUp>,
}

/// Which policies some case made determining.
#[derive(Debug, Default)]
pub struct Coverage {
    /// How many some case made determining.
    pub reached: usize,
    /// Those that none did: id, file and line, sorted by place.
    pub missed: Vec<(PathBuf, usize, String)>,
}

impl Suites {
    /// Judges every case.
    #[must_use]
    pub fn run(&self, snapshot: &Snapshot, staging: &Staging) -> Report {
        self.run_within(snapshot, staging, None)
    }

    /// Judges every case, as long as time allows.
    pub(super) fn run_within(
        &self,
        snapshot: &Snapshot,
        staging: &Staging,
        limit: Option<Duration>,
    ) -> Report {
        let began = staging.clock.monotonic();
        let mut cases = Vec::with_capacity(self.cases.len());
        for case in &self.cases {
            let now = staging.clock.monotonic();
            if limit.is_some_and(|limit| now.saturating_duration_since(began) > limit) {
                break;
            }
            let (found, differences) = judge(case, snapshot, staging);
            cases.push(CaseReport {
                file: case.file.clone(),
                line: case.line,
                name: case.name.clone(),
                found,
                differences,
                took: staging.clock.monotonic().saturating_duration_since(now),
            });
        }
        Report {
            coverage: Coverage::of(&cases, snapshot),
            left_out: self.cases.len() - cases.len(),
            cases,
        }
    }
}

fn judge(
    case: &Case,
    snapshot: &Snapshot,
    staging: &Staging,
) -> (Result<Found, String>, Vec<Difference>) {
    let supposed = match case.given.clone().suppose(staging, USUAL_TIME) {
        Ok(supposed) => supposed,
        Err(message) => return (Err(message), Vec::new()),
    };
    let found = Found::of(&snapshot.rehearse(supposed), staging.status);
    let differences = case.expect.compare(&found);
    (Ok(found), differences)
}

impl Found {
    /// What was decided.
    #[must_use]
    pub fn of(decision: &Decision, status: fn(&Decision) -> u16) -> Self {
        let trail = &decision.trail;
        let refusal = decision.outcome.refusal();
        let step_up = refusal.and_then(|refusal| match &refusal.reason {
            Reason::StepUpRequired(step_up) => Some(step_up.clone()),
            _ => None,
        });
        let policies = trail.determining.iter();
        Self {
            verdict: decision.verdict(),
            reason: decision.reason_code(),
            would_be: decision.would_be().map(|refusal| refusal.reason.code()),
            detail: refusal.map_or_else(String::new, |refusal| refusal.detail.to_string()),
            status: status(decision),
            operation: decision.operation().to_owned(),
            policies: policies.map(ToString::to_string).collect(),
            errors: trail.faults.clone(),
            step_up,
        }
    }

    /// The ids of the policies that could not be evaluated.
    pub(super) fn failed(&self) -> Vec<String> {
        let errors = self.errors.iter();
        errors.map(|fault| fault.policy.to_string()).collect()
    }
}

impl CaseReport {
    /// Whether everything was as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.found.is_ok() && self.differences.is_empty()
    }

    /// What went wrong, in one line each; nothing where it passed.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        match &self.found {
            Err(message) => vec![message.clone()],
            Ok(_) => self.differences.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Coverage {
    fn of(cases: &[CaseReport], snapshot: &Snapshot) -> Self {
        let reached: BTreeSet<&str> = cases
            .iter()
            .filter_map(|case| case.found.as_ref().ok())
            .flat_map(|found| found.policies.iter().map(String::as_str))
            .collect();
        let mut missed: Vec<_> = snapshot
            .policies
            .places()
            .filter(|(id, _, _)| !reached.contains(id))
            .map(|(id, file, line)| (file.to_owned(), line, id.to_owned()))
            .collect();
        missed.sort();
        Self {
            reached: reached.len(),
            missed,
        }
    }

    /// How many policies there are.
    #[must_use]
    pub fn policies(&self) -> usize {
        self.reached + self.missed.len()
    }

    /// The share that was reached, in percent, rounded down; 100 where there is no policy.
    #[must_use]
    pub fn percent(&self) -> usize {
        (self.reached * 100)
            .checked_div(self.policies())
            .unwrap_or(100)
    }
}

impl Report {
    /// How many cases did not pass.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|case| !case.passed()).count()
    }

    /// Each failing case as a problem with file and line, and whether time ran out.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let failed = self.cases.iter().filter(|case| !case.passed());
        let mut problems: Vec<Problem> = failed
            .take(MAX_PROBLEMS)
            .map(|case| {
                let why = case.complaints().join("; ");
                let message = format!("the test `{}` fails: {why}", case.name);
                at(&case.file, case.line, message)
            })
            .collect();
        if self.failed() > MAX_PROBLEMS {
            let more = self.failed() - MAX_PROBLEMS;
            problems.push(Problem::new(format!("and {more} more tests fail")));
        }
        if self.left_out > 0 {
            let (left, limit) = (self.left_out, MAX_TIME.as_secs());
            problems.push(
                Problem::new(format!(
                    "the tests took longer than {limit}s: {left} cases were not run"
                ))
                .hint("run large suites with `cardea test` before the bundle is shipped, and keep a part of them in it"),
            );
        }
        problems
    }
}

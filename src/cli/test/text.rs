//! The outcome for people: what failed, how, and a summary.

use std::fmt::Write as _;

use crate::model::shown;
use crate::pipeline::trial::{CaseReport, Report};

/// Longest message of a policy that is shown.
const MAX_MESSAGE: usize = 300;

pub(super) fn render(report: &Report, coverage: bool) -> String {
    let mut out = String::new();
    for case in report.cases.iter().filter(|case| !case.passed()) {
        failure(&mut out, case);
    }
    if coverage {
        reached(&mut out, report);
    }
    let (all, failed) = (report.cases.len(), report.failed());
    // Writing to a string cannot fail.
    let _ = match failed {
        0 => writeln!(out, "{all} passed"),
        _ => writeln!(out, "{failed} of {all} failed"),
    };
    out
}

fn failure(out: &mut String, case: &CaseReport) {
    let place = format!("{}:{}", case.file.display(), case.line);
    let _ = writeln!(out, "FAIL {place}: {}", case.name);
    match &case.found {
        Err(message) => {
            let _ = writeln!(out, "  the case is no request: {message}");
        }
        Ok(found) => {
            for difference in &case.differences {
                let field = difference.field;
                let _ = writeln!(out, "  {field}");
                let _ = writeln!(out, "    - expected {}", difference.expected);
                let _ = writeln!(out, "    + found    {}", difference.found);
            }
            let _ = writeln!(
                out,
                "  decided: {} {} ({}) on {} by [{}]",
                found.verdict,
                found.reason,
                found.status,
                found.operation,
                found.policies.join(", ")
            );
            if !found.detail.is_empty() {
                let _ = writeln!(out, "  because: {}", found.detail);
            }
            for fault in &found.errors {
                let message = shown(&fault.message, MAX_MESSAGE);
                let _ = writeln!(out, "  error in {}: {message}", fault.policy);
            }
        }
    }
    out.push('\n');
}

fn reached(out: &mut String, report: &Report) {
    let coverage = &report.coverage;
    let _ = writeln!(
        out,
        "coverage: {} of {} policies were determining in some case ({}%)",
        coverage.reached,
        coverage.policies(),
        coverage.percent()
    );
    for (file, line, policy) in &coverage.missed {
        let _ = writeln!(out, "  {}:{line}: {policy} never was", file.display());
    }
}

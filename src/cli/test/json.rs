//! The outcome for programs.

use serde_json::{Value, json};

use crate::pipeline::Snapshot;
use crate::pipeline::trial::{CaseReport, Found, Report};

pub(super) fn render(report: &Report, snapshot: &Snapshot) -> String {
    let coverage = &report.coverage;
    let missed: Vec<Value> = coverage
        .missed
        .iter()
        .map(|(file, line, policy)| json!({ "policy": policy, "file": file, "line": line }))
        .collect();
    let failed = report.failed();
    let text = json!({
        "snapshot": snapshot.id.as_str(),
        "passed": report.cases.len() - failed,
        "failed": failed,
        "cases": report.cases.iter().map(case).collect::<Vec<_>>(),
        "coverage": {
            "policies": coverage.policies(),
            "reached": coverage.reached,
            "percent": coverage.percent(),
            "missed": missed,
        },
    });
    format!("{text:#}\n")
}

fn case(case: &CaseReport) -> Value {
    let differences = case.differences.iter();
    let differences: Vec<Value> = differences
        .map(|one| json!({ "field": one.field, "expected": one.expected, "found": one.found }))
        .collect();
    json!({
        "file": case.file,
        "line": case.line,
        "name": case.name,
        "passed": case.passed(),
        "seconds": case.took.as_secs_f64(),
        "differences": differences,
        "error": case.found.as_ref().err(),
        "found": case.found.as_ref().ok().map(found),
    })
}

fn found(found: &Found) -> Value {
    let errors = found.errors.iter();
    json!({
        "verdict": found.verdict,
        "reason": found.reason,
        "would_be": found.would_be,
        "status": found.status,
        "operation": found.operation,
        "policies": found.policies,
        "errors": errors.map(|fault| fault.policy.to_string()).collect::<Vec<_>>(),
    })
}

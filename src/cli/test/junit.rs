//! The outcome for build servers: `JUnit` XML, one suite a file.

use std::fmt::Write as _;
use std::path::Path;

use crate::pipeline::trial::{CaseReport, Report};

pub(super) fn render(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<testsuites name=\"cardea\" tests=\"{}\" failures=\"{}\">",
        report.cases.len(),
        report.failed()
    );
    // The cases of a file stand together.
    for cases in report.cases.chunk_by(|one, other| one.file == other.file) {
        suite(&mut out, cases);
    }
    out.push_str("</testsuites>\n");
    out
}

fn suite(out: &mut String, cases: &[CaseReport]) {
    let file = cases.first().map_or(Path::new(""), |case| &case.file);
    let file = escaped(&file.to_string_lossy());
    let failed = cases.iter().filter(|case| !case.passed()).count();
    let seconds: f64 = cases.iter().map(|case| case.took.as_secs_f64()).sum();
    let _ = writeln!(
        out,
        "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" time=\"{seconds:.6}\">",
        cases.len()
    );
    for case in cases {
        let _ = write!(
            out,
            "    <testcase name=\"{}\" classname=\"{file}\" file=\"{file}\" line=\"{}\" time=\"{:.6}\"",
            escaped(&case.name),
            case.line,
            case.took.as_secs_f64()
        );
        let complaints = case.complaints();
        match complaints.first() {
            None => out.push_str("/>\n"),
            Some(first) => {
                let _ = writeln!(
                    out,
                    ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                    escaped(first),
                    escaped(&complaints.join("\n"))
                );
            }
        }
    }
    out.push_str("  </testsuite>\n");
}

/// Text for an attribute or an element. What XML 1.0 cannot hold at all (section 2.2) becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => _ = write!(out, "&#{};", u32::from(c)),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

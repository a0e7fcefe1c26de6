//! How the tour looks: a hundred columns, colours only on a terminal.

use std::fmt::Write as _;

use super::client::Seen;
pub(super) use crate::cli::paint::Paint;

/// One step as it is told.
pub(super) struct Told<'a> {
    pub(super) number: usize,
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) caller: &'a str,
    pub(super) shows: &'a str,
    pub(super) seen: &'a Seen,
    /// What was expected instead; `None` where all is as it should be.
    pub(super) wrong: Option<String>,
}

/// The line above a group of steps.
pub(super) fn heading(text: &str, paint: Paint) -> String {
    format!("\n{}\n", paint.bold(text))
}

/// A step in three lines: what was asked and answered, why and under which id, and what that shows.
pub(super) fn step(told: &Told<'_>, paint: Paint) -> String {
    let seen = told.seen;
    let (reason, decision) = match &seen.authz {
        Some(authz) if authz.policies.is_empty() => (authz.reason.clone(), authz.decision.as_str()),
        Some(authz) => (
            format!("{} by {}", authz.reason, authz.policies.join(", ")),
            authz.decision.as_str(),
        ),
        None => (
            format!("envoy: {}", seen.details),
            "none, Cardea was not asked",
        ),
    };
    let mut text = format!(
        "{:>3}  {:<7}{:<38}{:<30}{:>5}{:>10.1} ms\n",
        told.number,
        told.method,
        told.target,
        told.caller,
        // Padding counts the bytes of a colour, so the number stands in its own field.
        Padded(paint.status(seen.status), 5 - 3),
        seen.took.as_secs_f64() * 1000.0,
    );
    let gap = " ".repeat(49_usize.saturating_sub(reason.chars().count()));
    let _ = writeln!(
        text,
        "     {reason}{gap} {}",
        paint.dim(&format!("decision {decision}"))
    );
    let _ = writeln!(text, "     {}", paint.dim(told.shows));
    if let Some(wrong) = &told.wrong {
        let _ = writeln!(
            text,
            "     {}",
            paint.bad(&format!("NOT AS EXPECTED: {wrong}"))
        );
    }
    text
}

/// Text with a number of blanks before it, whatever width is asked for.
struct Padded(String, usize);

impl std::fmt::Display for Padded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:1$}{2}", "", self.1, self.0)
    }
}

/// The last line.
pub(super) fn summary(wrong: usize, paint: Paint) -> String {
    match wrong {
        0 => format!("\n{}\n", paint.bold("Every verdict was the expected one.")),
        1 => format!("\n{}\n", paint.bad("One verdict was not the expected one.")),
        n => format!(
            "\n{}\n",
            paint.bad(&format!("{n} verdicts were not the expected ones."))
        ),
    }
}

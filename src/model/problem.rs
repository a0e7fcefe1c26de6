//! What is wrong with settings or a bundle, in words for the person who has to mend it.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// One mistake in a file somebody wrote. Checks collect all of them before they fail, so that one run shows everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as its reader named it.
    pub file: Option<PathBuf>,
    /// Line and column, both from 1.
    pub at: Option<(usize, usize)>,
    /// What is wrong: lower case, no full stop, names in backticks.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem that is not tied to a file, such as one between two settings.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            file: None,
            at: None,
            message: message.into(),
            hint: None,
        }
    }

    /// A setting that lies outside its bounds; `None` where it lies within them. One place, so that every section says it
    /// in the same words: what it is, and what it may be.
    #[must_use]
    pub fn out_of_bounds<T: Copy + PartialOrd + fmt::Display>(
        setting: &str,
        value: T,
        bounds: RangeInclusive<T>,
    ) -> Option<Self> {
        let (least, most) = (bounds.start(), bounds.end());
        let message = format!("`{setting}` is {value}, but must be from {least} to {most}");
        (!bounds.contains(&value)).then(|| Self::new(message))
    }

    /// The same, in a file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// The same, at a line and column (both from 1).
    #[must_use]
    pub fn at(mut self, line: usize, column: usize) -> Self {
        self.at = Some((line, column));
        self
    }

    /// The same, with a word on what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some((line, column)) = self.at {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Line and column (both from 1) of a byte offset.
#[must_use]
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(start..).map_or(0, |tail| tail.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_place_message_and_hint() {
        let problem = Problem::new("no such issuer `x`")
            .in_file("cardea.yaml")
            .at(3, 7)
            .hint("name one of the configured issuers");
        assert_eq!(
            problem.to_string(),
            "cardea.yaml:3:7: no such issuer `x`\n  hint: name one of the configured issuers"
        );
    }

    #[test]
    fn a_setting_out_of_its_bounds_says_what_it_is_and_may_be() {
        for within in [1, 5, 10] {
            assert_eq!(
                Problem::out_of_bounds("listen.workers", within, 1..=10),
                None
            );
        }
        for outside in [0, 11] {
            let problem = Problem::out_of_bounds("listen.workers", outside, 1..=10).unwrap();
            let expected = format!("`listen.workers` is {outside}, but must be from 1 to 10");
            assert_eq!(problem.message, expected);
        }
        assert!(
            Problem::out_of_bounds("telemetry.traces.sample_ratio", f64::NAN, 0.0..=1.0).is_some()
        );
    }

    #[test]
    fn offsets_become_lines_and_columns() {
        let text = "ab\ncd\u{e9}f";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 4), (2, 2));
        assert_eq!(line_and_column(text, 7), (2, 4));
        assert_eq!(line_and_column(text, 99), (2, 5));
    }
}

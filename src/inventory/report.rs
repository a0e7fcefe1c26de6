//! The mistakes of one document.

use std::path::Path;

use super::document::Place;
use crate::model::{Problem, shown};

/// The most bytes of a document's own words in one message.
pub(super) const MAX_SHOWN: usize = 128;

/// Collects the mistakes of one document.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) file: &'a Path,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Path, problems: &'a mut Vec<Problem>) -> Self {
        Self { file, problems }
    }

    /// Something is wrong.
    pub(super) fn problem(&mut self, at: Place, message: impl Into<String>) {
        self.add(at, Problem::new(message));
    }

    /// Something is wrong, and this is what to do.
    pub(super) fn hinted(
        &mut self,
        at: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(at, Problem::new(message).hint(hint));
    }

    /// A reference leads nowhere that this room looks.
    pub(super) fn dangling(&mut self, at: Place, reference: &str, expected: &str) {
        let reference = shown(reference, MAX_SHOWN);
        self.hinted(
            at,
            format!("the reference `{reference}` leads to nothing in this document"),
            format!("only references that begin with `{expected}` are followed: bundle the document into one file"),
        );
    }

    fn add(&mut self, at: Place, mut problem: Problem) {
        problem.at = at;
        self.problems.push(problem.in_file(self.file));
    }
}

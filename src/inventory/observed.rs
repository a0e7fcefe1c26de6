//! Which operations are observed, and where that is written: for whoever looks over a bundle.

use std::path::PathBuf;

use super::reader;
use crate::model::Problem;

/// Every observed operation of documents (file and text) that compile, as something to be looked at: it holds a door open.
#[must_use]
pub fn observed(documents: &[(PathBuf, String)]) -> Vec<Problem> {
    let mut ignored = Vec::new();
    let mut found = Vec::new();
    for (file, text) in documents {
        let compiled = reader::read(file, text, &mut ignored);
        for entry in compiled.into_iter().flat_map(|compiled| compiled.entries) {
            if entry.operation.observed {
                let message = format!(
                    "`{}` is observed: what policies do not permit passes there",
                    entry.operation.id
                );
                let mut one = Problem::new(message).in_file(file).hint(
                    "take `observe` away once `cardea_observed_total` shows nobody who would be refused wrongly",
                );
                one.at = entry.place;
                found.push(one);
            }
        }
    }
    found
}

//! Policy tests: requests that are supposed, what is expected of them, and what became of it.
//!
//! | file | holds |
//! |---|---|
//! | `given` | what a case supposes: caller, request, circumstances; with `caller`, `request`, `facts` and `scalar` |
//! | `expect` | what it expects, and how far the decision is from it |
//! | `suite` | a file of cases: one base, and what each case changes |
//! | `run` | judging the cases, and which policies they reached |
//!
//! Cases are judged by [`Snapshot::rehearse`]: the same judge as a request that arrives.

mod caller;
mod expect;
mod facts;
mod given;
mod request;
mod run;
mod scalar;
mod suite;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Snapshot, Supposed};
use crate::context::Context;
use crate::identity::ClaimReader;
use crate::model::{Clock, Decision, PathRules, Problem};
use crate::policy::Document;

pub use caller::{CallerForm, CallerParts};
pub use expect::{Difference, Expect};
pub use facts::{
    DelegationForm, DeviceForm, EmergencyForm, GeoForm, NetworkForm, RiskForm, SignalsForm,
};
pub use given::Given;
pub use request::{MutualTls, RequestForm};
pub use run::{CaseReport, Coverage, Found, Report};
pub use scalar::{Names, When, Words};
pub use suite::{Case, MAX_CASES, Suites};

/// When a case takes place that does not say: Monday, 5 January 2026, noon (UTC). Never "now", so that a bundle which
/// passes its tests today passes them tomorrow.
pub const USUAL_TIME: Timestamp = Timestamp::constant(1_767_614_400, 0);

/// What supposed requests are read and judged with, beside the bundle.
#[derive(Debug)]
pub struct Staging {
    /// Which spellings of a path are accepted.
    pub paths: PathRules,
    /// Whose clock on the wall counts, and which networks are trusted.
    pub context: Context,
    /// How raw claims are read.
    pub claims: ClaimReader,
    /// The HTTP status that a decision is answered with. Only Envoy's side knows it.
    pub status: fn(&Decision) -> u16,
    /// Measures how long cases take.
    pub clock: Arc<dyn Clock>,
}

/// Runs a bundle's own tests, as it is done before the bundle comes into force.
///
/// # Errors
/// Every file that cannot be read, every case that fails, and every limit that is passed, with file and line.
pub fn examine(
    snapshot: &Snapshot,
    tests: &[Document],
    staging: &Staging,
) -> Result<(), Vec<Problem>> {
    let suites = Suites::read(tests)?;
    let report = suites.run_within(snapshot, staging, Some(run::MAX_TIME));
    let problems = report.problems();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

/// A file's place, as problems name it.
fn at(file: &Path, line: usize, message: String) -> Problem {
    Problem::new(message).in_file(file).at(line, 1)
}

#[cfg(test)]
pub(super) use tests::staging;

#[cfg(test)]
mod tests;

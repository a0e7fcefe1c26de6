//! YAML as people write it: typed, bounded, every mistake with its line and column.

use serde::de::DeserializeOwned;
use serde_saphyr::{Location, Options, UserMessageFormatter};

use super::{Problem, shown};

/// The most bytes one document may hold.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The longest message about a mistake.
const MAX_MESSAGE: usize = 400;

/// Reads one document. JSON is YAML too.
///
/// # Errors
/// One problem, with line and column where the reader knows them: a typed reader stops at the first mistake.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    if text.len() > MAX_BYTES {
        let size = text.len();
        return Err(
            Problem::new(format!("the document is too large ({size} bytes)"))
                .hint(format!("split it: one document may hold {MAX_BYTES} bytes")),
        );
    }
    serde_saphyr::from_str_with_options(text, limits()).map_err(|error| {
        let text = error.render_with_formatter(&UserMessageFormatter);
        // The place is told apart from the message.
        let message = text
            .split_once(" at line ")
            .map_or(&*text, |(what, _)| what);
        let mut problem = Problem::new(shown(message, MAX_MESSAGE));
        problem.at = error.location().and_then(place);
        problem
    })
}

/// Line and column of a location, where it has one.
#[must_use]
pub fn place(at: Location) -> Option<(usize, usize)> {
    let line = usize::try_from(at.line()).ok()?;
    let column = usize::try_from(at.column()).ok()?;
    (line > 0).then_some((line, column))
}

/// A document is the work of whoever may write it, who need not be trusted with the process: depth, nodes and what
/// aliases may multiply are all bounded. Duplicate keys are refused.
fn limits() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            flow_nesting_limit: 64,
            max_documents: 2,
            max_nodes: 1_000_000,
            max_events: 2_500_000,
            max_total_scalar_bytes: 2 * MAX_BYTES,
            max_recorded_anchor_events: 200_000,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_anchors: 5_000,
            max_aliases: 5_000,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 200_000,
            max_replay_stack_depth: 16,
        },
        emit_comments: false,
        strict_booleans: true,
        with_snippet: false,
    }
}

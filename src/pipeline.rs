//! The road of a request, top to bottom.

use crate::model::{Asked, Decision, Outcome, Reason, Refusal, Trail};

/// Everything a decision needs.
#[derive(Debug)]
pub struct Pipeline {}

impl Pipeline {
    /// Decides one request.
    pub async fn decide(&self, asked: Asked) -> Decision {
        let trail = Trail::begin(asked.arrival);
        Decision {
            outcome: Outcome::Refused(Refusal::new(Reason::NotReady, "no policies are loaded yet")),
            took: trail.arrival.started.elapsed(),
            trail,
        }
    }
}

//! Why there is no answer, and who is told of it.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::super::denial::Denial;

/// How often one server's failures are told in the log, at most: callers can make it fail, by sending what it chokes on.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// Why there is no answer: a sentence for operators, which quotes nothing that was sent or answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Too many questions are under way or wait for their turn.
    #[error("too many questions are under way")]
    Saturated,
    /// No answer within `timeout`.
    #[error("there is no answer within `timeout`")]
    TimedOut,
    /// The server, or the document that says where it is, cannot be had.
    #[error("{0}")]
    Unreachable(String),
    /// It answers something else than 200: 401 where it does not take our credentials.
    #[error("it answers with status {0}")]
    Status(u16),
    /// The answer is no answer.
    #[error("the answer {0}")]
    Unreadable(&'static str),
    /// The answer's signature proves nothing.
    #[error("the signed answer {0}")]
    Untrusted(&'static str),
    /// The question itself could not be put together.
    #[error("the question cannot be signed")]
    Unsigned,
    /// Whoever asked is gone: a fault of ours, or the end of the program.
    #[error("the question was given up")]
    Broken,
}

impl Failure {
    /// The word for it in metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Saturated => "saturated",
            Self::TimedOut => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "status",
            Self::Unreadable(_) => "unreadable",
            Self::Untrusted(_) => "untrusted",
            Self::Unsigned | Self::Broken => "internal",
        }
    }

    /// The refusal it comes to.
    pub(super) fn denial(&self) -> Denial {
        Denial::IntrospectionUnavailable(match self {
            Self::Saturated => "too many questions about tokens are under way",
            Self::TimedOut => "the server did not say in time whether the token is good",
            Self::Unreachable(_) => "the server that can read the token cannot be reached",
            Self::Status(_) => "the server that can read the token answers with an error",
            Self::Unreadable(_) => "the answer about the token cannot be read",
            Self::Untrusted(_) => "the signed answer about the token proves nothing",
            Self::Unsigned | Self::Broken => "the question about the token could not be asked",
        })
    }
}

/// Whoever wants to know how questions end: by which outcome, and after which time where one was asked.
#[derive(Default)]
pub(in crate::identity) struct Watch {
    tell: OnceLock<Tell>,
}

type Tell = Box<dyn Fn(&'static str, Option<Duration>) + Send + Sync>;

impl Watch {
    /// Sets who is told, once.
    pub(in crate::identity) fn set(&self, tell: Tell) {
        // Whoever came first stays.
        let _kept = self.tell.set(tell);
    }

    pub(super) fn note(&self, outcome: &'static str, took: Option<Duration>) {
        if let Some(tell) = self.tell.get() {
            tell(outcome, took);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Tells the log of one server's failures, now and then.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Mutex<Option<Instant>>,
}

impl Complaints {
    /// Whether this one is to be told.
    fn due(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|at| now.saturating_duration_since(at) >= TOLD_EVERY);
        if due {
            *last = Some(now);
        }
        due
    }

    pub(super) fn tell(&self, issuer: &str, failure: &Failure, now: Instant) {
        if self.due(now) {
            tracing::warn!(issuer, error = %failure, "tokens cannot be introspected; failures of the next 30 seconds are not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, SystemClock};

    #[test]
    fn failures_are_told_once_in_a_while() {
        let complaints = Complaints::default();
        let start = SystemClock.monotonic();
        assert!(complaints.due(start));
        assert!(!complaints.due(start + Duration::from_secs(29)));
        assert!(complaints.due(start + Duration::from_secs(30)));
    }
}

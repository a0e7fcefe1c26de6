//! What is counted of one transmitter's events, and how often the log hears of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the log hears of events that end in one way.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How one transmitter's stream stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// The transmitter's name in the settings.
    pub transmitter: String,
    /// How many events came since the start, by type and by what became of them.
    pub events: Vec<(&'static str, &'static str, u64)>,
    /// How long ago it was last seen that events arrive; `None` where it never was.
    pub verified: Option<Duration>,
    /// Whether the last question whether events arrive was answered in time; `None` where it is not asked.
    pub alive: Option<bool>,
    /// Whether the transmitter sends at all, by its own last word.
    pub enabled: bool,
    /// How long ago it was last asked for events with success, and how often it failed; `None` where it is not asked.
    pub polls: Option<(Option<Duration>, u64)>,
    /// How long ago its keys were fetched; `None` where they never were.
    pub keys_age: Option<Duration>,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It is in force.
    Applied,
    /// It changes nothing: by the settings, by its type, or because it is good news.
    Ignored,
    /// It came before.
    Replayed,
    /// It is about a time when nothing was issued that could still be valid.
    Past,
    /// It was undone by a later event that came earlier.
    Superseded,
    /// It names somebody whom no credential here could name.
    Unmapped,
    /// It cannot be judged, applied or saved now.
    Later,
    /// Refused: it cannot be read as an event.
    RefusedRequest,
    /// Refused: signed with a key that its issuer does not have.
    RefusedKey,
    /// Refused: the signature does not match.
    RefusedSignature,
    /// Refused: another issuer's.
    RefusedIssuer,
    /// Refused: for somebody else.
    RefusedAudience,
    /// Refused: about a subject that this transmitter may not speak of.
    RefusedSubject,
    /// Refused: the answer to a question that was not asked.
    RefusedState,
    /// Refused: whoever sent it did not show what the transmitter was told to show.
    RefusedAuthorization,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Replayed => "replayed",
            Self::Past => "past",
            Self::Superseded => "superseded",
            Self::Unmapped => "unmapped",
            Self::Later => "later",
            Self::RefusedRequest => "refused_request",
            Self::RefusedKey => "refused_key",
            Self::RefusedSignature => "refused_signature",
            Self::RefusedIssuer => "refused_issuer",
            Self::RefusedAudience => "refused_audience",
            Self::RefusedSubject => "refused_subject",
            Self::RefusedState => "refused_state",
            Self::RefusedAuthorization => "refused_authorization",
        }
    }

    /// The setting of the transmitter that decided, where one did: operators look there first.
    pub(super) fn setting(self) -> Option<&'static str> {
        match self {
            Self::RefusedIssuer => Some("issuer"),
            Self::RefusedAudience => Some("audiences"),
            Self::RefusedSubject => Some("subject_issuers"),
            Self::RefusedAuthorization => Some("push.authorization"),
            _ => None,
        }
    }

    /// Whether operators want to hear of it.
    fn matters(self) -> bool {
        !matches!(
            self,
            Self::Applied | Self::Ignored | Self::Replayed | Self::Past | Self::Superseded
        )
    }
}

/// Counts one transmitter's events.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    events: BTreeMap<(&'static str, Outcome), u64>,
    told: BTreeMap<Outcome, Instant>,
}

impl Counts {
    /// Counts an event. Whether the log should hear of it: now and then, so that nobody can fill it.
    pub(super) fn note(&self, kind: &'static str, outcome: Outcome, now: Instant) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.events.entry((kind, outcome)).or_default() += 1;
        let last = counted.told.get(&outcome);
        let due = last.is_none_or(|at| now.saturating_duration_since(*at) >= TOLD_EVERY);
        let told = outcome.matters() && due;
        if told {
            counted.told.insert(outcome, now);
        }
        told
    }

    pub(super) fn events(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let events = counted.events.iter();
        events
            .map(|((kind, outcome), count)| (*kind, outcome.as_str(), *count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, SystemClock};

    #[test]
    fn every_event_is_counted_and_the_log_hears_of_some() {
        let counts = Counts::default();
        let start = SystemClock.monotonic();
        assert!(!counts.note("session-revoked", Outcome::Applied, start));
        assert!(counts.note("session-revoked", Outcome::Unmapped, start));
        assert!(!counts.note("session-revoked", Outcome::Unmapped, start));
        assert!(
            counts.note("other", Outcome::RefusedKey, start),
            "another outcome"
        );
        assert!(counts.note("session-revoked", Outcome::Unmapped, start + TOLD_EVERY));
        let events = counts.events();
        assert!(
            events.contains(&("session-revoked", "unmapped", 3)),
            "{events:?}"
        );
    }
}

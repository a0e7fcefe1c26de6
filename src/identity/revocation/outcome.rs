//! What is told of revocations.

use super::event::{Kind, Source};
use crate::model::Problem;

/// What became of an event: it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The event's id.
    pub id: String,
    /// How many cached proofs it took away.
    pub evicted: u64,
    /// Whether it was in force before, to the same extent at least.
    pub known_already: bool,
    /// Whether it would survive a restart.
    pub saved: Saved,
}

/// Whether a change survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It is on the disk.
    Yes,
    /// There is no file, by the settings.
    MemoryOnly,
    /// It should be on the disk and could not be written. It is tried again until it is.
    No,
}

/// Why an event is not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotApplied {
    /// The event itself is wrong.
    #[error("the event is not valid")]
    Invalid(Vec<Problem>),
    /// The table is full. Nothing is forgotten to make room, for that would trust again what was revoked.
    #[error(
        "there are {0} revocations already: raise `identity.revocation.entries`, or revoke more at once"
    )]
    Full(usize),
    /// Another event has the same id.
    #[error("another revocation has the same id")]
    Conflict,
}

/// The figures of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationFigures {
    /// Events in the table.
    pub entries: u64,
    /// Events applied since start, by what they revoke and who said so.
    pub applied: Vec<(Kind, Source, u64)>,
    /// Cached proofs taken away since start.
    pub evicted: u64,
    /// Events not taken since start, because the table was full.
    pub refused: u64,
    /// Whether something in force is not on the disk, and should be.
    pub unsaved: bool,
}

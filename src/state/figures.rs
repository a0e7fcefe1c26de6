//! What is told of a topic.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::Clock;

/// The figures of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Whether others are heard.
    pub connected: bool,
    /// How long ago everything was known that others had told: how stale this replica is.
    pub age: Duration,
    /// Own records that are not told yet.
    pub waiting: u64,
    /// Records told since the start.
    pub sent: u64,
    /// Records heard from others since the start.
    pub received: u64,
    /// Records that did not count since the start, by why.
    pub dropped: Vec<(&'static str, u64)>,
}

/// Why a record does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// It is longer than any record.
    TooLong,
    /// It is no record.
    Unreadable,
    /// It is of another version.
    Version,
    /// It is not signed, or not by one of us.
    Signature,
    /// It could not be taken by whoever it is for.
    Refused,
    /// It could not wait any longer to be told.
    Overflow,
}

impl Dropped {
    const ALL: [Self; 6] = [
        Self::TooLong,
        Self::Unreadable,
        Self::Version,
        Self::Signature,
        Self::Refused,
        Self::Overflow,
    ];

    /// As metrics write it.
    fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Unreadable => "unreadable",
            Self::Version => "version",
            Self::Signature => "signature",
            Self::Refused => "refused",
            Self::Overflow => "overflow",
        }
    }
}

/// What is counted.
#[derive(Debug)]
pub(super) struct Counts {
    clock: Arc<dyn Clock>,
    connected: AtomicBool,
    heard: Mutex<Instant>,
    sent: AtomicU64,
    received: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl Counts {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            connected: AtomicBool::new(false),
            heard: Mutex::new(clock.monotonic()),
            clock,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            dropped: Default::default(),
        }
    }

    /// Everything that others told is known.
    pub(super) fn heard_all(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.monotonic();
    }

    /// Returns whether it was otherwise before.
    pub(super) fn set_connected(&self, connected: bool) -> bool {
        self.connected.swap(connected, Ordering::Relaxed) != connected
    }

    pub(super) fn sent(&self, records: usize) {
        add(&self.sent, records);
    }

    pub(super) fn received(&self, records: usize) {
        add(&self.received, records);
    }

    pub(super) fn dropped(&self, why: Dropped) {
        let mut places = Dropped::ALL.iter().zip(&self.dropped);
        if let Some((_, count)) = places.find(|(reason, _)| **reason == why) {
            add(count, 1);
        }
    }

    /// How long ago everything was known.
    pub(super) fn age(&self) -> Duration {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        self.clock.monotonic().saturating_duration_since(heard)
    }

    pub(super) fn figures(&self, waiting: u64) -> Figures {
        let counts = self.dropped.iter();
        Figures {
            connected: self.connected.load(Ordering::Relaxed),
            age: self.age(),
            waiting,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            dropped: Dropped::ALL
                .iter()
                .map(|why| why.as_str())
                .zip(counts.map(|count| count.load(Ordering::Relaxed)))
                .collect(),
        }
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

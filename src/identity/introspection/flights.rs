//! One question at a time about a token, for all who wait for it, and what was answered a moment ago.
//!
//! An answer is kept for a second after it landed. So whoever looked into the cache of proofs just before the first of
//! those who waited filled it finds the answer here, and asks nobody. Answers that a token is not good are kept apart and
//! for a time of their own: a flood of invented tokens cannot push out a good one's.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache as Moka;
use tokio::sync::watch;

use super::super::digest::{Digest, Ready};
use super::answer::Told;
use super::failure::Failure;

/// How long a good answer is handed on after it landed.
const LINGER: Duration = Duration::from_secs(1);

/// How many good answers are handed on.
const MOST_GOOD: u64 = 10_000;

/// How a question ended.
pub(super) type Landed = Result<Arc<Told>, Failure>;

/// All questions to one server.
pub(super) struct Flights {
    salt: [u8; 32],
    most: usize,
    under_way: Mutex<HashMap<Digest, Waiting, Ready>>,
    good: Moka<Digest, Arc<Told>, Ready>,
    bad: Moka<Digest, Arc<Told>, Ready>,
    cap: Duration,
    negative_ttl: Duration,
}

/// Where one waits for the end of a question.
pub(super) type Waiting = watch::Receiver<Option<Landed>>;

/// What whoever has a token finds.
pub(super) enum Boarding {
    /// It was answered a moment ago.
    Landed(Arc<Told>),
    /// Somebody asks already.
    Joined(Waiting),
    /// Nobody asks: it is on the caller to do so.
    First(Waiting, Landing),
    /// Too many questions are under way.
    Full,
}

impl Flights {
    /// # Errors
    /// Where the system gives no random bytes.
    pub(super) fn new(
        most: usize,
        (cap, negative_ttl): (Duration, Duration),
        refused_capacity: u64,
    ) -> Result<Arc<Self>, &'static str> {
        let mut salt = [0; 32];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| "the system gives no random bytes")?;
        let memory = |capacity, ttl| {
            Moka::builder()
                .max_capacity(capacity)
                .time_to_live(ttl)
                .build_with_hasher(Ready)
        };
        Ok(Arc::new(Self {
            salt,
            most,
            under_way: Mutex::default(),
            good: memory(MOST_GOOD, LINGER),
            bad: memory(refused_capacity, negative_ttl),
            cap,
            negative_ttl,
        }))
    }

    /// What stands for a token here. Without the salt, nobody can tell which token it was.
    pub(super) fn digest(&self, token: &str) -> Digest {
        Digest(blake3::keyed_hash(&self.salt, token.as_bytes()))
    }

    /// Finds an answer or the question under way, or begins one.
    pub(super) fn board(self: &Arc<Self>, digest: Digest, now: Instant) -> Boarding {
        if let Some(told) = self.remembered(&digest, now) {
            return Boarding::Landed(told);
        }
        let mut under_way = self.lock();
        if let Some(waiting) = under_way.get(&digest) {
            return Boarding::Joined(waiting.clone());
        }
        // INVARIANT: an answer is remembered before its question leaves the table, so whoever finds neither, under the
        // lock, comes first.
        if let Some(told) = self.remembered(&digest, now) {
            return Boarding::Landed(told);
        }
        if under_way.len() >= self.most {
            return Boarding::Full;
        }
        let (end, waiting) = watch::channel(None);
        under_way.insert(digest, waiting.clone());
        drop(under_way);
        let flights = Arc::clone(self);
        let landing = Landing {
            flights,
            digest,
            end,
            in_table: true,
        };
        Boarding::First(waiting, landing)
    }

    fn remembered(&self, digest: &Digest, now: Instant) -> Option<Arc<Told>> {
        let kept = |told: &Arc<Told>| now < self.kept_until(told);
        let good = self.good.get(digest).filter(kept);
        good.or_else(|| self.bad.get(digest).filter(kept))
    }

    fn remember(&self, digest: Digest, told: &Arc<Told>) {
        let memory = if told.holder.is_some() {
            &self.good
        } else {
            &self.bad
        };
        memory.insert(digest, Arc::clone(told));
    }

    /// Until when an answer is handed on. A good one never longer than it may be believed.
    fn kept_until(&self, told: &Told) -> Instant {
        if told.holder.is_some() {
            (told.landed + LINGER).min(told.asked + self.cap)
        } else {
            told.asked + self.negative_ttl
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Waiting, Ready>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// A question under way. However it ends (well, badly, by a panic, or with its runtime), whoever waits for it is told.
pub(super) struct Landing {
    flights: Arc<Flights>,
    digest: Digest,
    end: watch::Sender<Option<Landed>>,
    in_table: bool,
}

impl Landing {
    /// Ends the question. Only an answer is remembered, never a failure: nobody who comes later meets one.
    pub(super) fn land(mut self, landed: Landed) {
        if let Ok(told) = &landed {
            self.flights.remember(self.digest, told);
        }
        self.leave();
        self.end.send_replace(Some(landed));
    }

    /// Once only: the next question about the same token may be in the table by then.
    fn leave(&mut self) {
        if std::mem::take(&mut self.in_table) {
            self.flights.lock().remove(&self.digest);
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Waits until a question ends.
pub(super) async fn landed(mut waiting: Waiting) -> Landed {
    match waiting.wait_for(Option::is_some).await {
        Ok(end) => end.clone().unwrap_or(Err(Failure::Broken)),
        Err(_) => Err(Failure::Broken),
    }
}

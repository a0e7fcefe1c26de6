//! Taking trust back: what was good and is no longer, from the next check on.
//!
//! ```text
//! event ▶ table, and the generation moves ▶ cached proofs evicted ▶ subscribers told ▶ file synced ▶ answered
//!                     └─▶ every check compares one number, and asks the table where it moved
//! ```
//!
//! | file | does |
//! |---|---|
//! | `event` | what can be revoked, and which credentials an event covers |
//! | `request` | an event as an operator asks for it, with what is left out filled in |
//! | `table`, `marks` | the events in force, bounded, and how they are found |
//! | `journal`, `keeper` | the file that survives a restart, and who writes it |
//! | `start`, `outcome` | how it all begins, and what is told of it |
//!
//! The guard is the generation: a cached proof remembers at which generation it was last found good, and where that is not
//! the present one the table is asked before the proof counts. Evicting proofs frees memory and is counted; nothing depends
//! on it. A credential that nobody remembers is held against the table once it is proven.
//!
//! Whoever carries events to other replicas needs three things: [`Revocations::subscribe`] hears what was changed here,
//! [`Revocations::apply_remote`] makes a change that was made elsewhere, and [`Revocations::snapshot`] gives all that is in
//! force to whoever missed something.

mod event;
mod journal;
mod keeper;
mod marks;
mod outcome;
mod request;
mod start;
mod table;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;

use self::keeper::Order;
use self::table::{Inserted, NotInserted, Table};
use crate::model::{Clock, IdentityAttributes, Problem};

pub use event::{Event, Kind, Source, Target};
pub use journal::Change;
pub(super) use marks::Marks;
pub use outcome::{Applied, NotApplied, RevocationFigures, Saved};
pub use request::Lives;
pub(super) use start::Access;
pub(super) use table::Entry;

/// How many changes a subscriber may be behind before it is told that it missed some.
const BEHIND: usize = 1024;

/// Everything that is no longer trusted.
pub struct Revocations {
    /// Moves with each event. It begins at 1: what was never found good is at 0.
    generation: AtomicU64,
    table: RwLock<Table>,
    evict: OnceLock<Box<dyn Evict>>,
    changes: broadcast::Sender<Change>,
    orders: Option<mpsc::Sender<Order>>,
    lives: Lives,
    clock: Arc<dyn Clock>,
    counts: Counts,
    task: OnceLock<AbortHandle>,
}

/// Where proofs are cached.
pub(super) trait Evict: Send + Sync {
    /// Forgets every proof that the event covers. Returns how many.
    fn evict(&self, event: &Event) -> u64;
}

#[derive(Debug, Default)]
struct Counts {
    applied: Mutex<BTreeMap<(Kind, Source), u64>>,
    evicted: AtomicU64,
    refused: AtomicU64,
    /// Whether it was told that transmitters have all the places that they may.
    flooded: AtomicBool,
    /// How often something in force came to be missing in the file, and up to which time that was made good.
    missing: AtomicU64,
    mended: AtomicU64,
}

impl Revocations {
    /// Puts an event in force, and tells subscribers. It bites before this is first awaited: whatever is checked after that
    /// is refused. Awaiting it waits until the event would survive a restart.
    ///
    /// # Errors
    /// [`NotApplied`] where it is not in force.
    pub async fn apply(&self, event: Event) -> Result<Applied, NotApplied> {
        let (applied, event) = self.put(event)?;
        let change = Change::Revoke(event);
        if !applied.known_already {
            // Nobody may be listening.
            let _ = self.changes.send(change.clone());
        }
        Ok(self.settle(applied, change).await)
    }

    /// Makes a change that was made elsewhere. Subscribers do not hear of it, so that it does not travel in circles.
    ///
    /// # Errors
    /// [`NotApplied`] where it is an event that is not in force.
    pub async fn apply_remote(&self, change: Change) -> Result<Applied, NotApplied> {
        match change {
            Change::Revoke(mut event) => {
                event.source = Source::Peer;
                let (applied, event) = self.put(event)?;
                Ok(self.settle(applied, Change::Revoke(event)).await)
            }
            Change::Lift { id, told_before } => {
                let lifted = self.take(&id, Some(told_before), Source::Peer).is_some();
                let applied = Applied {
                    id: id.clone(),
                    evicted: 0,
                    known_already: !lifted,
                    saved: Saved::MemoryOnly,
                };
                let change = Change::Lift { id, told_before };
                Ok(self.settle(applied, change).await)
            }
        }
    }

    /// Takes an event out of force, and tells subscribers; `None` where there is no such event. It is lifted as it stands now:
    /// told again later, by whomever, it is in force again.
    pub async fn lift(&self, id: &str, source: Source) -> Option<Saved> {
        self.lifted(id, None, source).await
    }

    /// The same for an event that was told before `later`: one told since then stays in force.
    pub async fn lift_told_before(
        &self,
        id: &str,
        later: Timestamp,
        source: Source,
    ) -> Option<Saved> {
        self.lifted(id, Some(later), source).await
    }

    /// Hears of every change made here from now on. Who falls more than 1024 changes behind is told, and reads
    /// [`Revocations::snapshot`].
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Every event in force, in the order in which they were told.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Event> {
        let now = self.clock.now();
        let entries = self.entries();
        let live = entries.iter().filter(|entry| entry.holds(now));
        let mut events: Vec<Event> = live.map(|entry| entry.event.clone()).collect();
        events.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        events
    }

    /// Whether another event could be put in force.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let table = self.read_table();
        table.len() < table.most()
    }

    /// The event of this id, as it is in force.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Event> {
        let now = self.clock.now();
        let table = self.read_table();
        let entry = table.find(id).filter(|entry| entry.holds(now))?;
        Some(entry.event.clone())
    }

    /// An event about `target`, told now, with the usual times: see [`Lives`].
    #[must_use]
    pub fn event(&self, target: Target, source: Source) -> Event {
        self.lives.event(target, source, self.clock.now())
    }

    /// The same, told at another time: by a party whose clock says so, for instance.
    #[must_use]
    pub fn event_told_at(&self, target: Target, source: Source, at: Timestamp) -> Event {
        self.lives.event(target, source, at)
    }

    /// Reads an event as an operator asks for it: a JSON object with `target`, and `id`, `issued_before`, `expires_at`,
    /// `reason` and `source` where they are not the usual ones.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn read(&self, body: &[u8]) -> Result<Event, Vec<Problem>> {
        request::read(body, &self.lives, self.clock.now())
    }

    /// The figures so far.
    #[must_use]
    pub fn figures(&self) -> RevocationFigures {
        let applied = self.applied_counts();
        RevocationFigures {
            entries: u64::try_from(self.len()).unwrap_or(u64::MAX),
            applied: applied
                .iter()
                .map(|((kind, source), count)| (*kind, *source, *count))
                .collect(),
            evicted: self.counts.evicted.load(Ordering::Relaxed),
            refused: self.counts.refused.load(Ordering::Relaxed),
            unsaved: self.unsaved(),
        }
    }
}

impl Revocations {
    /// Whether a holder is still trusted. `seen` is the generation at which that was last found to be so: where it is the
    /// present one, this costs two atomic reads.
    ///
    /// # Errors
    /// The event that refuses it.
    pub(super) fn check(
        &self,
        holder: &IdentityAttributes,
        seen: &AtomicU64,
        now: Timestamp,
    ) -> Result<(), Arc<Entry>> {
        // Read before the table is: an event that comes between the two is met again at the next check.
        let generation = self.generation.load(Ordering::Acquire);
        if seen.load(Ordering::Relaxed) == generation {
            return Ok(());
        }
        if let Some(entry) = self.read_table().refuses(holder, now) {
            return Err(Arc::clone(entry));
        }
        seen.store(generation, Ordering::Relaxed);
        Ok(())
    }

    /// Names the place where proofs are cached, once.
    pub(super) fn evict_from(&self, cache: Box<dyn Evict>) {
        let _ = self.evict.set(cache);
    }

    /// The event in the table, the generation moved, proofs evicted. It is returned as it is in force.
    fn put(&self, event: Event) -> Result<(Applied, Event), NotApplied> {
        let problems = event.problems();
        if !problems.is_empty() {
            return Err(NotApplied::Invalid(problems));
        }
        let now = self.clock.now();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let inserted = table.insert(event.clone(), now);
        let flooded = table.is_flooded();
        // Under the lock: who sees the new generation waits for the table and finds the event.
        self.generation.fetch_add(1, Ordering::Release);
        drop(table);
        self.warn_of_flood(flooded);
        let (event, known_already) = match inserted {
            Ok(Inserted::New(entry)) => (entry.event.clone(), false),
            Ok(Inserted::Known) => (event, true),
            Err(NotInserted::Conflict) => return Err(NotApplied::Conflict),
            Err(NotInserted::Full(most)) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    kind = event.target.kind().as_str(),
                    source = event.source.as_str(),
                    most,
                    "a revocation is not in force: the table is full, or its source's share of it"
                );
                return Err(NotApplied::Full(most));
            }
        };
        let evicted = self.evict.get().map_or(0, |cache| cache.evict(&event));
        self.counts.evicted.fetch_add(evicted, Ordering::Relaxed);
        if !known_already {
            let key = (event.target.kind(), event.source);
            *self.applied_counts().entry(key).or_default() += 1;
            tell(&event, evicted);
        }
        let applied = Applied {
            id: event.id.clone(),
            evicted,
            known_already,
            saved: Saved::MemoryOnly,
        };
        Ok((applied, event))
    }

    fn warn_of_flood(&self, flooded: bool) {
        if flooded && !self.counts.flooded.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "transmitters of security events have filled their 80 % of `identity.revocation.entries`: what more they say is not in force; what operators and other replicas say is"
            );
        }
    }

    async fn lifted(&self, id: &str, later: Option<Timestamp>, source: Source) -> Option<Saved> {
        let told_before = self.take(id, later, source)?;
        let id = id.to_owned();
        let change = Change::Lift { id, told_before };
        let _ = self.changes.send(change.clone());
        Some(self.save(Some(change)).await)
    }

    /// Removes an event that was told before `later`; without it, whenever it was told: now is later than that, also where
    /// the clock of whoever told it is ahead. Returns before when it was told, for others.
    fn take(&self, id: &str, later: Option<Timestamp>, source: Source) -> Option<Timestamp> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let told = table.find(id)?.event.at;
        let told_before = later.unwrap_or_else(|| {
            let after = told.saturating_add(SignedDuration::from_nanos(1));
            self.clock.now().max(after.unwrap_or(Timestamp::MAX))
        });
        let taken = table.remove_told_before(id, told_before);
        drop(table);
        let target = &taken?.event.target;
        tracing::info!(
            id,
            kind = target.kind().as_str(),
            issuer = target.issuer(),
            source = source.as_str(),
            "a revocation was taken back"
        );
        Some(told_before)
    }

    async fn settle(&self, applied: Applied, change: Change) -> Applied {
        // What is known already is on the disk already, or will be with whatever is waiting.
        let change = (!applied.known_already).then_some(change);
        Applied {
            saved: self.save(change).await,
            ..applied
        }
    }

    async fn save(&self, change: Option<Change>) -> Saved {
        let Some(orders) = &self.orders else {
            return Saved::MemoryOnly;
        };
        let (done, saved) = oneshot::channel();
        match orders.try_send(Order { change, done }) {
            Ok(()) => {}
            Err(TrySendError::Full(order)) => {
                // Whoever asked may go away while this waits: then the file is written anew, from the table.
                self.note_unsaved();
                if orders.send(order).await.is_err() {
                    return Saved::No;
                }
            }
            Err(TrySendError::Closed(_)) => return Saved::No,
        }
        match saved.await {
            Ok(true) => Saved::Yes,
            Ok(false) | Err(_) => Saved::No,
        }
    }

    fn sweep(&self) {
        let now = self.clock.now();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.sweep(now);
    }

    fn len(&self) -> usize {
        self.read_table().len()
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.read_table().entries()
    }

    fn unsaved(&self) -> bool {
        self.missing() > self.counts.mended.load(Ordering::Acquire)
    }

    /// Something in force is not on the disk, and nobody waits to write it there: the file has to be written anew.
    fn note_unsaved(&self) {
        self.counts.missing.fetch_add(1, Ordering::AcqRel);
    }

    /// How often that was so, for [`Revocations::note_mended`]: to be asked before the table is.
    fn missing(&self) -> u64 {
        self.counts.missing.load(Ordering::Acquire)
    }

    /// The file was written anew with all that was missing up to then. What came to be missing since then still is.
    fn note_mended(&self, missing: u64) {
        self.counts.mended.store(missing, Ordering::Release);
    }

    /// A panic under the lock leaves the table as it was up to there: better than none.
    fn read_table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn applied_counts(&self) -> MutexGuard<'_, BTreeMap<(Kind, Source), u64>> {
        self.counts
            .applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Revocations {
    fn drop(&mut self) {
        // With a file, the task ends by itself once it has written what it was given.
        if self.orders.is_none()
            && let Some(task) = self.task.get()
        {
            task.abort();
        }
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("figures", &self.figures())
            .finish_non_exhaustive()
    }
}

/// The record of an event. Which token, session or key it is stays out of the log; the id leads to it.
fn tell(event: &Event, evicted: u64) {
    let subject = match &event.target {
        Target::Subject { subject, .. } => Some(subject.as_str()),
        _ => None,
    };
    tracing::info!(
        id = event.id,
        kind = event.target.kind().as_str(),
        issuer = event.target.issuer(),
        subject,
        issued_before = %event.issued_before,
        expires_at = %event.expires_at,
        reason = event.reason,
        source = event.source.as_str(),
        evicted,
        "trust was taken back"
    );
}

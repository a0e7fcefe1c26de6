//! The bundle in force, and how a changed one takes its place.
//!
//! A folder, or an archive on this machine, is looked at every `poll`: names, sizes, inodes and change times, without reading a file. Polling is on
//! purpose: it sees what file notification misses (network volumes, ConfigMap link swaps, exhausted watches), and costs
//! some microseconds a file. A change is read once it has held still for one more look, compiled beside the live
//! snapshot, and swapped in whole, or refused with every reason while the live one stays. A remote bundle is asked for
//! instead (`follow`).

mod follow;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Snapshot;
use super::source::{BundleSettings, Found, LastGood, Offer, Source, open};
use super::trial::{self, Staging};
use crate::model::{Clock, Problem, SnapshotId};
use crate::policy::Fingerprint;

/// The snapshot in force, and what became of attempts to replace it.
#[derive(Debug)]
pub struct Snapshots {
    settings: BundleSettings,
    source: Source,
    last_good: LastGood,
    clock: Arc<dyn Clock>,
    staging: Arc<Staging>,
    live: ArcSwapOption<Snapshot>,
    loaded: watch::Sender<bool>,
    stale: AtomicBool,
    failures: AtomicU64,
    refused: Mutex<Vec<Problem>>,
}

impl Snapshots {
    /// None in force yet. Reads the public keys, where the bundle needs a signature. A bundle's tests are judged with
    /// `staging`.
    ///
    /// # Errors
    /// Keys that cannot be read, or a remote place that cannot be asked.
    pub fn new(
        settings: BundleSettings,
        clock: Arc<dyn Clock>,
        staging: Arc<Staging>,
    ) -> Result<Self, Vec<Problem>> {
        let (source, last_good) = Source::of(&settings)?;
        Ok(Self {
            settings,
            source,
            last_good,
            clock,
            staging,
            live: ArcSwapOption::empty(),
            loaded: watch::Sender::new(false),
            stale: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            refused: Mutex::new(Vec::new()),
        })
    }

    /// Puts in force what can be had at once: the folder; the archive, or the last good one where the archive is refused;
    /// the last good one of a remote bundle, or nothing until it is fetched. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with the bundle, where it is not remote and none is in force.
    pub fn begin(&self) -> Result<(), Vec<Problem>> {
        if let Some(keys) = self.source.keys() {
            let kept = self.last_good.revive(keys).and_then(|kept| match kept {
                Some(found) => self.load_found(&found).map(|_| ()),
                None => Ok(()),
            });
            for problem in kept.err().unwrap_or_default() {
                tracing::error!(%problem, "the last good bundle cannot be used");
            }
        }
        if matches!(self.source, Source::Remote { .. }) {
            return Ok(());
        }
        match self.load() {
            Err(problems) if self.current().is_none() => Err(problems),
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(%problem, "the bundle is refused; the last good one is in force");
                }
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Whether a bundle is in force, now and whenever that changes.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<bool> {
        self.loaded.subscribe()
    }

    /// The snapshot in force.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Snapshot>> {
        self.live.load_full()
    }

    /// Whether a newer bundle was found and refused, so that an older one stays in force.
    #[must_use]
    pub fn stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// How many times since start a bundle was refused, or could not be fetched.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Why the newest bundle was refused; empty where it is in force.
    #[must_use]
    pub fn refused(&self) -> Vec<Problem> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the bundle and puts it in force. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with the bundle, or that it is elsewhere and has to be fetched. The one in force stays.
    pub fn load(&self) -> Result<Arc<Snapshot>, Vec<Problem>> {
        self.noted(self.source.read().and_then(|found| match found {
            Some(found) => self.load_found(&found),
            None => Err(vec![Problem::new("the remote bundle is not fetched yet")]),
        }))
    }

    /// Verifies a fetched bundle and puts it in force. Blocks.
    fn load_offer(&self, offer: Offer) -> Result<Arc<Snapshot>, Vec<Problem>> {
        let Source::Remote { remote, keys } = &self.source else {
            return Err(vec![Problem::new("the bundle is not remote")]);
        };
        let found = open(keys, offer.archive, offer.signature, &remote.root);
        self.noted(found.and_then(|found| self.load_found(&found)))
    }

    /// Keeps what became of an attempt, for whoever asks.
    fn noted(
        &self,
        loaded: Result<Arc<Snapshot>, Vec<Problem>>,
    ) -> Result<Arc<Snapshot>, Vec<Problem>> {
        let refused = match &loaded {
            Ok(_) => Vec::new(),
            Err(problems) => problems.clone(),
        };
        self.stale.store(!refused.is_empty(), Ordering::Relaxed);
        if !refused.is_empty() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        loaded
    }

    /// Reads the bundle and puts it in force, or logs why not. Blocks.
    pub fn load_or_tell(&self, message: &'static str) {
        for problem in self.load().err().unwrap_or_default() {
            tracing::error!(%problem, "{message}");
        }
    }

    fn load_found(&self, found: &Found) -> Result<Arc<Snapshot>, Vec<Problem>> {
        let id = found.files.id(&found.root);
        let Some(seal) = &found.seal else {
            return self.put_in_force(found, &id);
        };
        self.last_good
            .admit(seal, &id)
            .map_err(|problem| vec![problem.in_file(&found.root)])?;
        let snapshot = self.put_in_force(found, &id)?;
        self.last_good.keep(seal, id);
        Ok(snapshot)
    }

    fn put_in_force(&self, found: &Found, id: &SnapshotId) -> Result<Arc<Snapshot>, Vec<Problem>> {
        if let Some(live) = self.current()
            && live.id == *id
        {
            return Ok(live);
        }
        let snapshot = Snapshot::compile(&found.files, &found.root, &*self.clock)?;
        if self.settings.run_tests {
            trial::examine(&snapshot, &found.files.tests, &self.staging)?;
        }
        let snapshot = Arc::new(snapshot);
        self.live.store(Some(Arc::clone(&snapshot)));
        self.loaded.send_replace(true);
        tracing::info!(
            bundle = id.as_str(),
            policies = snapshot.policies.len(),
            entities = snapshot.policies.entities(),
            operations = snapshot.inventory.operations().count(),
            "a bundle is in force"
        );
        tell_observed(&snapshot);
        Ok(snapshot)
    }

    /// Keeps the bundle fresh until `closing`. Runs on the background runtime.
    pub async fn keep_fresh(self: Arc<Self>, closing: CancellationToken) {
        if matches!(self.source, Source::Remote { .. }) {
            return self.follow(closing).await;
        }
        // As if nothing had been read yet: what changed between the first reading and the first look would be missed
        // otherwise. Reading the same files again changes nothing.
        let mut watch = Watch {
            tried: Fingerprint::default(),
            seen: None,
            read: self.clock.monotonic(),
        };
        let mut ticks = interval(self.settings.poll.0);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                _ = ticks.tick() => self.tick(&mut watch).await,
            }
        }
    }

    async fn tick(self: &Arc<Self>, watch: &mut Watch) {
        let now = self.look().await;
        let due =
            self.clock.monotonic().saturating_duration_since(watch.read) >= self.settings.reread.0;
        let changed = now != watch.tried;
        // A change must hold still for one more look, so that a half-written file is not taken for a finished one. One
        // that never does is read all the same when the time has come, else an old bundle would stay without a word.
        let settled = watch.seen.as_ref() == Some(&now);
        if (changed && settled) || due {
            self.attempt(Self::load).await;
            self.try_keep().await;
            watch.read = self.clock.monotonic();
            watch.tried.clone_from(&now);
        }
        watch.seen = Some(now);
    }

    async fn look(&self) -> Fingerprint {
        let places = self.source.places();
        tokio::task::spawn_blocking(move || Fingerprint::of(&places))
            .await
            .unwrap_or_default()
    }

    /// Makes an attempt where it may block, and says what is news about it. Whether the bundle is in force.
    async fn attempt(
        self: &Arc<Self>,
        load: impl FnOnce(&Self) -> Result<Arc<Snapshot>, Vec<Problem>> + Send + 'static,
    ) -> bool {
        let snapshots = Arc::clone(self);
        let before = self.refused();
        let loaded = tokio::task::spawn_blocking(move || load(&snapshots)).await;
        match &loaded {
            Ok(Ok(_)) => {}
            // The same refusal again is not news.
            Ok(Err(problems)) if *problems == before => {}
            Ok(Err(problems)) => {
                for problem in problems {
                    tracing::error!(%problem, "the changed bundle is refused; the one in force stays");
                }
            }
            Err(_) => {
                self.stale.store(true, Ordering::Relaxed);
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!("compiling the changed bundle failed; the one in force stays");
            }
        }
        matches!(loaded, Ok(Ok(_)))
    }

    /// Writes the last good bundle where that failed before.
    async fn try_keep(self: &Arc<Self>) {
        if self.last_good.unwritten() {
            let snapshots = Arc::clone(self);
            // It logs by itself, and is tried again.
            let _ = tokio::task::spawn_blocking(move || snapshots.last_good.write()).await;
        }
    }
}

/// Says which operations are observed, whenever a bundle comes into force: a door that is held open is named at each start.
fn tell_observed(snapshot: &Snapshot) {
    const MOST_NAMED: usize = 50;
    let count = snapshot.inventory.observed().count();
    if count > 0 {
        let ids: Vec<&str> = snapshot
            .inventory
            .observed()
            .take(MOST_NAMED)
            .map(|operation| &*operation.id)
            .collect();
        let operations = ids.join(" ");
        tracing::warn!(
            bundle = snapshot.id.as_str(),
            count,
            operations,
            "observed operations: what policies do not permit passes there"
        );
    }
}

/// What the watcher remembers between looks.
struct Watch {
    /// What the folder looked like when it was last read.
    tried: Fingerprint,
    /// What it looked like at the last look.
    seen: Option<Fingerprint>,
    /// When it was last read.
    read: std::time::Instant,
}

#[cfg(test)]
mod tests;

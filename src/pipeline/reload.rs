//! The bundle in force, and how a changed one takes its place.
//!
//! The folder is looked at every `poll`: names, sizes, inodes and change times, without reading a file. Polling is on
//! purpose: it sees what file notification misses (network volumes, ConfigMap link swaps, exhausted watches), and costs
//! some microseconds a file. A change is read once it has held still for one more look, compiled beside the live
//! snapshot, and swapped in whole, or refused with every reason while the live one stays.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Snapshot;
use crate::model::{Clock, Period, Problem};
use crate::policy::{BundleFiles, Fingerprint};

/// Where policies come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BundleSettings {
    /// The folder that holds the bundle: schema, policies, entities and API documents.
    pub path: PathBuf,
    /// How often the folder is looked at. A change takes effect within three looks and the time to compile it.
    pub poll: Period,
    /// How often every file is read again even if nothing seems to have changed, for file systems whose times lie.
    pub reread: Period,
    /// A folder with a candidate bundle. It decides nothing: every decision is made again from it after the answer, and
    /// what it would have decided otherwise is counted and listed (`/shadow` on the admin endpoint).
    pub candidate: Option<PathBuf>,
}

impl Default for BundleSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("policies"),
            poll: Period::millis(300),
            reread: Period::seconds(60),
            candidate: None,
        }
    }
}

impl BundleSettings {
    /// The same settings for the candidate's folder, if there is one.
    #[must_use]
    pub fn candidate(&self) -> Option<Self> {
        let path = self.candidate.clone()?;
        Some(Self {
            path,
            candidate: None,
            ..self.clone()
        })
    }

    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.path.as_os_str().is_empty() {
            problems.push(Problem::new(
                "`bundle.path` is empty: name the folder that holds the policies",
            ));
        }
        if self.poll < Period::millis(50) || self.poll > Period::seconds(3600) {
            problems.push(Problem::new("`bundle.poll` must lie between 50ms and 1h"));
        }
        if self.reread < self.poll {
            problems.push(Problem::new(
                "`bundle.reread` must not be shorter than `bundle.poll`",
            ));
        }
        problems
    }
}

/// The snapshot in force, and what became of attempts to replace it.
#[derive(Debug)]
pub struct Snapshots {
    settings: BundleSettings,
    clock: Arc<dyn Clock>,
    live: ArcSwapOption<Snapshot>,
    stale: AtomicBool,
    failures: AtomicU64,
    refused: Mutex<Vec<Problem>>,
}

impl Snapshots {
    /// None in force yet.
    #[must_use]
    pub fn new(settings: BundleSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            live: ArcSwapOption::empty(),
            stale: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            refused: Mutex::new(Vec::new()),
        }
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

    /// How many bundles were refused since start.
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
    /// Everything that is wrong with the bundle. The one in force stays.
    pub fn load(&self) -> Result<Arc<Snapshot>, Vec<Problem>> {
        let loaded =
            BundleFiles::read(&self.settings.path).and_then(|files| self.load_files(&files));
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

    fn load_files(&self, files: &BundleFiles) -> Result<Arc<Snapshot>, Vec<Problem>> {
        let id = files.id(&self.settings.path);
        if let Some(live) = self.current()
            && live.id == id
        {
            return Ok(live);
        }
        let snapshot = Snapshot::compile(files, &self.settings.path, &*self.clock)?;
        let snapshot = Arc::new(snapshot);
        self.live.store(Some(Arc::clone(&snapshot)));
        tracing::info!(
            bundle = id.as_str(),
            policies = snapshot.policies.len(),
            entities = snapshot.policies.entities(),
            operations = snapshot.inventory.operations().count(),
            "a bundle is in force"
        );
        Ok(snapshot)
    }

    /// Keeps the bundle fresh until `closing`. Runs on the background runtime.
    pub async fn keep_fresh(self: Arc<Self>, closing: CancellationToken) {
        let mut watch = Watch {
            // Nothing: what changed between the first load and now would else wait for the next full reading.
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
            self.try_load().await;
            watch.read = self.clock.monotonic();
            watch.tried.clone_from(&now);
        }
        watch.seen = Some(now);
    }

    async fn look(&self) -> Fingerprint {
        let path = self.settings.path.clone();
        tokio::task::spawn_blocking(move || Fingerprint::of(&path))
            .await
            .unwrap_or_default()
    }

    async fn try_load(self: &Arc<Self>) {
        let snapshots = Arc::clone(self);
        let before = self.refused();
        let loaded = tokio::task::spawn_blocking(move || snapshots.load()).await;
        match loaded {
            Ok(Ok(_)) => {}
            // The same refusal again is not news.
            Ok(Err(problems)) if problems == before => {}
            Ok(Err(problems)) => {
                for problem in &problems {
                    tracing::error!(%problem, "the changed bundle is refused; the one in force stays");
                }
            }
            Err(_) => {
                self.stale.store(true, Ordering::Relaxed);
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!("compiling the changed bundle failed; the one in force stays");
            }
        }
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

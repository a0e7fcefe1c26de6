//! Where keys come from: a folder of files that is followed, or this process itself, which makes a new one in time.
//!
//! What cannot be read at start is no start. Later it changes nothing: the keys that are known go on signing, the log says
//! why, and a metric too.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::directory::{self, Found, Stamp};
use super::key::{KeyError, SigningKey};
use super::ring::{Held, Ring};
use super::settings::{Settings, SigningAlgorithm};
use crate::model::{Clock, Problem};

/// How often keys are looked after. A look at a folder costs some microseconds a file.
const LOOK: Duration = Duration::from_secs(1);

/// The keys, looked after.
#[derive(Debug)]
pub(super) struct Keys {
    ring: ArcSwap<Ring>,
    source: Source,
    /// How long a key is published before it signs.
    ahead: Duration,
    /// How long the last token by a key may live.
    life: Duration,
    /// Whether the folder cannot be used as it is now.
    stale: AtomicBool,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
enum Source {
    Memory {
        algorithm: SigningAlgorithm,
        rotate_every: Duration,
    },
    Folder {
        path: PathBuf,
        looked: Mutex<Looked>,
    },
}

/// What was last seen of a folder.
#[derive(Debug, Default)]
struct Looked {
    seen: Vec<Stamp>,
    /// What it was like when its keys were last read, and what was wrong with them.
    read: Vec<Stamp>,
    wrong: Vec<Problem>,
    told: Vec<Problem>,
}

impl Keys {
    /// Reads or makes the first keys. It blocks.
    ///
    /// # Errors
    /// Everything that is wrong with the folder.
    pub(super) fn start(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, Vec<Problem>> {
        let now = clock.monotonic();
        let ahead = settings.keys.publish_ahead.0;
        let (source, held) = match &settings.keys.directory {
            None => {
                let (algorithm, rotate_every) = settings.keys.in_memory();
                let source = Source::Memory {
                    algorithm,
                    rotate_every: rotate_every.0,
                };
                let key = SigningKey::generate(algorithm).map_err(|error| vec![not_made(error)])?;
                // Nothing could publish it before: it signs at once.
                (source, vec![held(String::new(), key, (now, now))])
            }
            Some(path) => {
                let stamps = directory::list(path).map_err(|problem| vec![problem])?;
                let found = directory::read(path, &stamps)?;
                let wall = clock.now();
                let held = found
                    .into_iter()
                    .map(|found| since_changed(found, (now, wall), ahead));
                let held = held.collect();
                let looked = Looked {
                    seen: stamps.clone(),
                    read: stamps,
                    ..Looked::default()
                };
                let (path, looked) = (path.clone(), Mutex::new(looked));
                (Source::Folder { path, looked }, held)
            }
        };
        let ring = Ring {
            held,
            gone: Vec::new(),
        };
        Ok(Self {
            ring: ArcSwap::from_pointee(ring),
            source,
            ahead,
            life: settings.lifetime.0,
            stale: AtomicBool::new(false),
            clock,
        })
    }

    /// Looks after the keys for as long as it is polled.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let keys = Arc::clone(&self);
            // Off the runtime: a disk may be slow.
            if let Err(error) = tokio::task::spawn_blocking(move || keys.look()).await {
                tracing::error!(%error, "looking after the keys that sign failed; it goes on");
            }
        }
    }

    /// Looks once. It blocks.
    pub(super) fn look(&self) {
        match &self.source {
            Source::Memory {
                algorithm,
                rotate_every,
            } => self.rotate(*algorithm, *rotate_every),
            Source::Folder { path, looked } => {
                let mut looked = looked.lock().unwrap_or_else(PoisonError::into_inner);
                self.follow(path, &mut looked);
            }
        }
    }

    /// The key that signs now.
    pub(super) fn signing(&self) -> Option<Arc<SigningKey>> {
        let now = self.clock.monotonic();
        let ring = self.ring.load();
        ring.signing(now).map(|held| Arc::clone(&held.key))
    }

    /// What verifiers need, as a JWK set.
    pub(super) fn key_set(&self) -> String {
        self.ring.load().key_set(self.clock.monotonic())
    }

    /// How long the key that signs has been there.
    pub(super) fn age(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        let ring = self.ring.load();
        ring.signing(now)
            .map(|held| now.saturating_duration_since(held.since))
    }

    /// Whether the folder cannot be used as it is now, so that keys known before go on signing.
    pub(super) fn stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Makes the next key when it is time, and lets go of those that are outlived.
    fn rotate(&self, algorithm: SigningAlgorithm, rotate_every: Duration) {
        let now = self.clock.monotonic();
        let mut ring = Ring::clone(&self.ring.load()).without_outlived(now, self.life);
        let newest = ring.held.last().map(|held| held.since);
        let due = newest.is_none_or(|since| now.saturating_duration_since(since) >= rotate_every);
        if due {
            match SigningKey::generate(algorithm) {
                Ok(key) => {
                    tracing::info!(
                        kid = key.kid(),
                        "a new key is published, and signs in a while"
                    );
                    ring.held
                        .push(held(String::new(), key, (now, now + self.ahead)));
                }
                Err(error) => tracing::error!(%error, "the next key that signs cannot be made"),
            }
        }
        self.ring.store(Arc::new(ring));
    }

    /// Takes in what a folder holds, once it has held still from one look to the next.
    fn follow(&self, path: &Path, looked: &mut Looked) {
        let stamps = match directory::list(path) {
            Ok(stamps) => stamps,
            Err(problem) => return self.tell(looked, vec![problem]),
        };
        if stamps != looked.seen {
            looked.seen = stamps;
            return;
        }
        if stamps != looked.read {
            looked.wrong = match directory::read(path, &stamps) {
                Ok(found) => {
                    self.take_in(found);
                    Vec::new()
                }
                Err(problems) => problems,
            };
            looked.read = stamps;
        }
        let wrong = looked.wrong.clone();
        self.tell(looked, wrong);
    }

    fn take_in(&self, found: Vec<Found>) {
        let now = self.clock.monotonic();
        let ring = self.ring.load();
        let known = found.into_iter().map(|found| {
            if let Some(old) = ring.find(found.key.kid()) {
                return Held {
                    name: found.name,
                    ..old.clone()
                };
            }
            let (kid, file) = (found.key.kid(), &found.name);
            tracing::info!(kid, file, "a new key is published, and signs in a while");
            held(found.name, found.key, (now, now + self.ahead))
        });
        let next = ring.replaced(known.collect(), now, self.life);
        for gone in ring.held.iter().filter(|held| held.key.is_withdrawn()) {
            let (kid, file) = (gone.key.kid(), &gone.name);
            tracing::info!(kid, file, "a key was taken away, and signs no more");
        }
        self.ring.store(Arc::new(next));
    }

    /// Says what is wrong, once.
    fn tell(&self, looked: &mut Looked, wrong: Vec<Problem>) {
        self.stale.store(!wrong.is_empty(), Ordering::Relaxed);
        if wrong != looked.told {
            for problem in &wrong {
                tracing::error!(%problem, "the keys that sign cannot be read anew; those known before go on signing");
            }
            looked.told = wrong;
        }
    }
}

fn held(name: String, key: SigningKey, (since, signs_from): (Instant, Instant)) -> Held {
    Held {
        name,
        key: Arc::new(key),
        since,
        signs_from,
    }
}

/// A key that was there at start. Nobody saw it come, so its file's change time has to say: that one is set by the machine
/// itself, and cannot be copied along from elsewhere.
fn since_changed(found: Found, (now, wall): (Instant, Timestamp), ahead: Duration) -> Held {
    let age = Duration::try_from(wall.duration_since(found.changed)).unwrap_or_default();
    let since = now.checked_sub(age).unwrap_or(now);
    let signs_from = now + ahead.saturating_sub(age);
    held(found.name, found.key, (since, signs_from))
}

fn not_made(error: KeyError) -> Problem {
    Problem::new(format!("`mint`: {error}"))
}

#[cfg(test)]
mod tests;

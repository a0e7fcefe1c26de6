//! Whether every issuer that must have keys has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Readiness of all issuers together.
#[derive(Debug, Clone)]
pub(super) struct Readiness(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    loaded: Vec<AtomicBool>,
    all: watch::Sender<bool>,
}

/// The place of one issuer in it.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    readiness: Readiness,
    index: usize,
}

impl Readiness {
    /// One place for each issuer; the value says whether it is ready without keys.
    pub(super) fn new(issuers: impl IntoIterator<Item = bool>) -> Self {
        let loaded: Vec<AtomicBool> = issuers.into_iter().map(AtomicBool::new).collect();
        let all = loaded.iter().all(|one| one.load(Ordering::SeqCst));
        Self(Arc::new(Shared {
            loaded,
            all: watch::Sender::new(all),
        }))
    }

    /// The place of the issuer with that number.
    pub(super) fn slot(&self, index: usize) -> Slot {
        Slot {
            readiness: self.clone(),
            index,
        }
    }

    /// The current value and every change of it.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.all.subscribe()
    }
}

impl Slot {
    /// Says whether this issuer's keys can be used.
    pub(super) fn set(&self, usable: bool) {
        let shared = &self.readiness.0;
        if let Some(own) = shared.loaded.get(self.index) {
            own.store(usable, Ordering::SeqCst);
        }
        // Read inside, so that of two that change at once the later one sees both.
        shared.all.send_if_modified(|all| {
            let now = shared.loaded.iter().all(|one| one.load(Ordering::SeqCst));
            std::mem::replace(all, now) != now
        });
    }
}

//! Which cached proofs an event is about, so that it evicts those and no others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::digest::Digest;
use super::super::revocation::{Event, Evict, Marks, Target};
use super::Good;
use crate::model::IdentityAttributes;

/// Cached proofs by whatever they can be revoked by: issuer, subject, client, session, token, key. It costs at most seven
/// entries of some fifty bytes a proof, and more only where its holder acts for somebody.
///
/// Each proof has a serial number of its own, so that taking one out never takes out its successor under the same digest.
#[derive(Debug, Default)]
pub(super) struct Index {
    marks: Marks,
    serials: AtomicU64,
    proofs: Mutex<BTreeMap<(u64, u64), Digest>>,
}

impl Index {
    /// A number no other proof has.
    pub(super) fn serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes a proof that is about to be cached.
    pub(super) fn add(&self, holder: &IdentityAttributes, (serial, digest): (u64, Digest)) {
        let mut proofs = self.lock();
        for mark in self.marks.of(holder) {
            proofs.insert((mark, serial), digest);
        }
    }

    /// Forgets a proof that is cached no longer.
    pub(super) fn remove(&self, holder: &IdentityAttributes, serial: u64) {
        let mut proofs = self.lock();
        for mark in self.marks.of(holder) {
            proofs.remove(&(mark, serial));
        }
    }

    /// The proofs that may be about this target: a few more than are, at worst.
    pub(super) fn candidates(&self, target: &Target) -> Vec<(u64, Digest)> {
        let mark = self.marks.of_target(target);
        self.lock()
            .range((mark, 0)..=(mark, u64::MAX))
            .map(|((_, serial), digest)| (*serial, *digest))
            .collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Digest>> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proofs, as far as revocations need them.
pub(super) struct Evictable<P> {
    pub(super) good: Good<P>,
    pub(super) index: Arc<Index>,
}

impl<P: Send + Sync + 'static> Evict for Evictable<P> {
    fn evict(&self, event: &Event) -> u64 {
        let mut evicted = 0;
        for (serial, digest) in self.index.candidates(&event.target) {
            let covered = self
                .good
                .get(&digest)
                .is_some_and(|known| known.serial == serial && event.covers(&known.identity));
            if covered {
                self.good.invalidate(&digest);
                evicted += 1;
            }
        }
        evicted
    }
}

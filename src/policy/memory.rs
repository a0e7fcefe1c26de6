//! What was judged before, by everything it was judged from.
//!
//! A judgement depends on the snapshot, the principal, the action, the resource, and on the facts that some policy of the
//! slice can read; so that is its name. Two requests of the same name are judged alike because the judge is given nothing
//! else, not because anybody thinks they will be. So nothing has to be forgotten when something changes: a reload, a new
//! role, a caller set apart or a revoked grant gives another name. What is left is to bound what is kept.
//!
//! The snapshot, the action and the route are one [`SliceId`], which no two compilations share. The principal is the very
//! one that was proven: a second token of the same caller is another principal. The facts come from the table that makes
//! Cedar's context, see `evidence`. Whether a slice's policies read the clock is known at load, for each caller apart;
//! where they do, nothing is remembered: a name with the time in it would rarely be met again.

mod settings;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

use super::entities::Principal;
use super::judge::{Finding, Question};
use super::reading::{Name, Reading};
use super::slice::Slice;

pub use settings::{CacheSettings, DecisionSettings};

/// The most bytes of facts that one entry is found by. A caller chooses some of them: what is longer is judged anew.
const LONGEST: usize = 1024;

/// One compiled slice: no other has this number, in this snapshot or any other of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SliceId(u64);

impl SliceId {
    pub(super) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The judgements that are remembered, at most so many, and for so long. All snapshots share it.
pub struct Memory {
    known: Option<Cache<Key, Arc<Finding>>>,
}

impl Memory {
    /// An empty memory.
    #[must_use]
    pub fn new(settings: &CacheSettings) -> Self {
        let build = || {
            Cache::builder()
                .max_capacity(settings.entries)
                .time_to_live(settings.time_to_live.0)
                .build()
        };
        Self {
            known: (settings.entries > 0).then(build),
        }
    }

    /// A memory that remembers nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { known: None }
    }

    /// How many judgements are remembered. It lags behind by a moment.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.known.as_ref().map_or(0, Cache::entry_count)
    }

    /// The name of a judgement; `None` where it is not to be remembered.
    pub(super) fn key(&self, slice: &Slice, question: Question<'_>) -> Option<Key> {
        self.known.as_ref()?;
        slice.key(question)
    }

    /// Lets the memory finish what it put off, so that its size is exact.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        if let Some(known) = &self.known {
            known.run_pending_tasks();
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Finding>> {
        self.known.as_ref()?.get(key)
    }

    /// Remembers a finding, unless it is of an error.
    pub(super) fn keep(&self, key: Key, finding: Arc<Finding>) {
        if let Some(known) = &self.known
            && finding.lasts()
        {
            known.insert(key, finding);
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("entries", &self.entries())
            .finish()
    }
}

/// The name of a judgement: whatever it depends on.
#[derive(Debug)]
pub(super) struct Key {
    slice: SliceId,
    /// Kept alive by the key, so that its address cannot become somebody else's.
    principal: Principal,
    facts: Box<[u8]>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.slice == other.slice
            && Arc::ptr_eq(&self.principal.0, &other.principal.0)
            && self.facts == other.facts
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.slice.hash(state);
        Arc::as_ptr(&self.principal.0).hash(state);
        self.facts.hash(state);
    }
}

impl Slice {
    /// The name of this slice's judgement of a question: everything [`Slice::find`] makes it from. `None` where the clock
    /// has a part in it, or where it is too long.
    pub(super) fn key(&self, question: Question<'_>) -> Option<Key> {
        let principal = &question.principal.0;
        let plan = self.plan(principal.kind);
        // What policies can follow on the connection is more than its name says.
        let follows_peer = plan.peer && question.facts.tls.peer.is_some();
        if follows_peer || self.reads_clock(principal.kind, &principal.entity) {
            return None;
        }
        let mut name = Name::new();
        // Which object it is, with all that files say of it; a route is the slice's own.
        let object = question.matched.object_id();
        name.reading(object.as_deref().map(Reading::from).as_ref());
        plan.name(&question.evidence(), &mut name);
        (name.len() <= LONGEST).then(|| Key {
            slice: self.id,
            principal: question.principal.clone(),
            facts: name.into_bytes(),
        })
    }
}

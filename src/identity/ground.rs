//! What a proof stands on. Whoever remembers a proof remembers its ground too, and believes it only while that holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a proof stands on: for a bearer token the issuer's key that signed it. Asking costs two atomic reads.
#[derive(Debug)]
pub(super) struct Ground {
    withdrawn: AtomicBool,
    lease: Arc<Lease>,
}

impl Ground {
    /// Ground that holds while the lease runs and nobody withdraws it.
    pub(super) fn under(lease: &Arc<Lease>) -> Arc<Self> {
        Arc::new(Self {
            withdrawn: AtomicBool::new(false),
            lease: Arc::clone(lease),
        })
    }

    /// Whether proofs may still stand on it.
    pub(super) fn holds(&self, now: Instant) -> bool {
        !self.withdrawn.load(Ordering::Acquire) && self.lease.runs(now)
    }

    /// Ends every proof that stands on it, at once and for good.
    pub(super) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Release);
    }
}

/// For how long what an issuer last told us may be used.
#[derive(Debug)]
pub(super) struct Lease {
    epoch: Instant,
    /// Milliseconds since the epoch; 0 until it was renewed once.
    until: AtomicU64,
}

impl Lease {
    /// A lease that does not run yet.
    pub(super) fn new(epoch: Instant) -> Arc<Self> {
        Arc::new(Self {
            epoch,
            until: AtomicU64::new(0),
        })
    }

    /// A lease without end: what stands on it ends by being withdrawn.
    pub(super) fn endless(epoch: Instant) -> Arc<Self> {
        Arc::new(Self {
            epoch,
            until: AtomicU64::new(u64::MAX),
        })
    }

    /// Lets it run until `until`.
    pub(super) fn renew(&self, until: Instant) {
        self.until.store(self.millis(until), Ordering::Release);
    }

    /// Whether it runs.
    pub(super) fn runs(&self, now: Instant) -> bool {
        self.millis(now) < self.until.load(Ordering::Acquire)
    }

    fn millis(&self, at: Instant) -> u64 {
        let since: Duration = at.saturating_duration_since(self.epoch);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, SystemClock};

    #[test]
    fn ground_holds_while_the_lease_runs_and_nobody_withdraws_it() {
        let start = SystemClock.monotonic();
        let lease = Lease::new(start);
        let ground = Ground::under(&lease);
        assert!(!ground.holds(start), "no lease yet");
        lease.renew(start + Duration::from_secs(10));
        assert!(ground.holds(start + Duration::from_secs(9)));
        assert!(!ground.holds(start + Duration::from_secs(10)));
        ground.withdraw();
        assert!(!ground.holds(start));
    }
}

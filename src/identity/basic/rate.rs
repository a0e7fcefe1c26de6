//! How many passwords are checked in a time: GCRA, the leaky bucket as a meter, with one number a bucket.
//!
//! Buckets are chosen by a keyed hash of the user name and there are always equally many: whatever names are sent, memory
//! does not grow, and two names that share a bucket wait for one another, which nobody without the hash's key can aim at.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many buckets there are for user names: 128 KiB of them.
const BUCKETS: usize = 16 * 1024;

/// So many in a time. As many may come at once, and then one each time a part of the time is over.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// The time that one takes, in nanoseconds.
    step: u64,
    /// How far ahead of now a bucket may be filled, in nanoseconds.
    depth: u64,
}

impl Rate {
    fn new(count: u64, window: Duration) -> Self {
        let depth = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX / 4);
        Self {
            step: (depth / count.max(1)).max(1),
            depth,
        }
    }

    /// Takes one, if there is room. `bucket` is the time at which it would be empty.
    fn admits(self, bucket: &AtomicU64, now: u64) -> bool {
        let taken = bucket.fetch_update(Ordering::AcqRel, Ordering::Acquire, |empty| {
            let next = empty.max(now).saturating_add(self.step);
            (next.saturating_sub(now) <= self.depth).then_some(next)
        });
        taken.is_ok()
    }
}

/// Both meters: for each user name, and for all of them.
pub(super) struct Meter {
    epoch: Instant,
    salt: [u8; 32],
    each: Rate,
    all: Rate,
    buckets: Box<[AtomicU64]>,
    total: AtomicU64,
}

impl Meter {
    /// A meter that admits `each` for one name and `all` in total in the window.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub(super) fn new(
        (each, all): (u64, u64),
        window: Duration,
        epoch: Instant,
    ) -> Result<Self, &'static str> {
        let mut salt = [0; 32];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| "the system gives no random bytes")?;
        Ok(Self {
            epoch,
            salt,
            each: Rate::new(each, window),
            all: Rate::new(all, window),
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            total: AtomicU64::new(0),
        })
    }

    /// Counts one check for that name.
    ///
    /// # Errors
    /// Which of the two counts is used up.
    pub(super) fn admit(&self, name: &[u8], now: Instant) -> Result<(), &'static str> {
        let since = now.saturating_duration_since(self.epoch);
        let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2);
        let hash = blake3::keyed_hash(&self.salt, name);
        let number = hash.as_bytes().first_chunk().copied();
        let number = usize::from_le_bytes(number.unwrap_or_default());
        let own = self.buckets.get(number % BUCKETS);
        if !own.is_some_and(|bucket| self.each.admits(bucket, now)) {
            return Err("too many passwords were tried for this user name");
        }
        if !self.all.admits(&self.total, now) {
            return Err("too many passwords were tried");
        }
        Ok(())
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("each", &self.each)
            .field("all", &self.all)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, SystemClock};

    #[test]
    fn as_many_as_allowed_pass_at_once_and_one_more_for_each_part_of_the_window() {
        let start = SystemClock.monotonic();
        let meter = Meter::new((3, 100), Duration::from_secs(30), start).unwrap();
        let passes = |after: u64| {
            meter
                .admit(b"erp", start + Duration::from_secs(after))
                .is_ok()
        };
        assert_eq!(
            [passes(0), passes(0), passes(0), passes(0)],
            [true, true, true, false]
        );
        assert_eq!([passes(9), passes(10), passes(10)], [false, true, false]);
        assert_eq!(
            [passes(60), passes(60), passes(60), passes(60)],
            [true, true, true, false]
        );
    }

    #[test]
    fn one_name_does_not_use_up_anothers_but_all_share_the_total() {
        let start = SystemClock.monotonic();
        let meter = Meter::new((2, 20), Duration::from_secs(60), start).unwrap();
        let tried = |name: String| meter.admit(name.as_bytes(), start);
        for _ in 0..50 {
            let _ = tried("mallory".to_owned());
        }
        assert!(tried("erp".to_owned()).is_ok());
        // Random names find the total used up, and memory stays what it was.
        let passed = (0..1000)
            .filter(|n| tried(format!("user{n}")).is_ok())
            .count();
        assert!(passed <= 20, "{passed}");
        assert!(tried("late".to_owned()).unwrap_err().contains("too many"));
        assert_eq!(meter.buckets.len(), BUCKETS);
    }
}

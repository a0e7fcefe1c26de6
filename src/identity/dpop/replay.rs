//! Which proofs were used: remembered for as long as they could be used again, in memory that is bounded.

use std::collections::HashSet;
use std::mem;
use std::sync::{Mutex, PoisonError};

/// What became of a proof's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It was not known, and is now.
    Fresh,
    /// It was used before.
    Used,
    /// There is no room to remember it, so nobody could tell a second use.
    Full,
    /// It is so old that what was used in its time is no longer known: the clock was set back.
    Forgotten,
}

/// The proofs that were used, by their own time (`iat`): a period as long as the whole time in which a proof is accepted,
/// and the one before it. Whatever is older can be accepted no longer, so it may be forgotten; and because a proof's own
/// time decides and not ours, a clock that is set back opens nothing.
pub(super) struct Replays {
    /// Seconds a period has.
    period: i64,
    /// How many proofs one period may hold.
    capacity: usize,
    /// The hashes are keyed, so that nobody can make two proofs meet.
    key: [u8; 32],
    table: Mutex<Table>,
}

struct Table {
    /// Which period `latest` is.
    number: i64,
    latest: HashSet<u128>,
    before: HashSet<u128>,
}

impl Replays {
    /// `period`: from the earliest to the latest `iat` that is accepted at one time, in seconds.
    pub(super) fn new(period: i64, capacity: usize, key: [u8; 32]) -> Self {
        let table = Table {
            number: i64::MIN,
            latest: HashSet::with_capacity(capacity),
            before: HashSet::with_capacity(capacity),
        };
        Self {
            period: period.max(1),
            capacity,
            key,
            table: Mutex::new(table),
        }
    }

    /// Notes that a proof was used. Of any number of callers with the same proof, one is told that it is fresh.
    pub(super) fn note(&self, issued_at: i64, thumbprint: &[u8; 32], id: &str) -> Noted {
        let name = self.name(thumbprint, id);
        let number = issued_at.div_euclid(self.period);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.advance(number);
        let place = match table.number.checked_sub(number) {
            Some(0) => &mut table.latest,
            Some(1) => &mut table.before,
            _ => return Noted::Forgotten,
        };
        if place.contains(&name) {
            return Noted::Used;
        }
        if place.len() >= self.capacity {
            return Noted::Full;
        }
        place.insert(name);
        Noted::Fresh
    }

    fn name(&self, thumbprint: &[u8; 32], id: &str) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(thumbprint);
        hasher.update(id.as_bytes());
        let mut name = [0; 16];
        hasher.finalize_xof().fill(&mut name);
        u128::from_le_bytes(name)
    }
}

impl Table {
    /// Goes on to a later period. The memory of the one that is forgotten serves again.
    fn advance(&mut self, number: i64) {
        if number <= self.number {
            return;
        }
        mem::swap(&mut self.latest, &mut self.before);
        self.latest.clear();
        if self.number.checked_add(1) != Some(number) {
            self.before.clear();
        }
        self.number = number;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn replays(capacity: usize) -> Replays {
        Replays::new(65, capacity, [1; 32])
    }

    #[test]
    fn a_proof_is_fresh_once() {
        let replays = replays(10);
        assert_eq!(replays.note(1000, &KEY, "a"), Noted::Fresh);
        assert_eq!(replays.note(1000, &KEY, "a"), Noted::Used);
        assert_eq!(replays.note(1000, &KEY, "b"), Noted::Fresh);
        assert_eq!(
            replays.note(1000, &[8; 32], "a"),
            Noted::Fresh,
            "another key"
        );
    }

    #[test]
    fn of_many_at_once_exactly_one_is_fresh() {
        let replays = replays(1000);
        let barrier = Barrier::new(8);
        for round in 0..50 {
            let id = round.to_string();
            let fresh = thread::scope(|scope| {
                let ask = || {
                    barrier.wait();
                    replays.note(1000, &KEY, &id) == Noted::Fresh
                };
                let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
                asked
                    .into_iter()
                    .filter_map(|one| one.join().ok())
                    .filter(|fresh| *fresh)
                    .count()
            });
            assert_eq!(fresh, 1);
        }
    }

    #[test]
    fn where_there_is_no_room_nothing_is_pushed_out() {
        let replays = replays(2);
        assert_eq!(replays.note(1000, &KEY, "a"), Noted::Fresh);
        assert_eq!(replays.note(1000, &KEY, "b"), Noted::Fresh);
        assert_eq!(replays.note(1000, &KEY, "c"), Noted::Full);
        assert_eq!(replays.note(1000, &KEY, "a"), Noted::Used);
        assert_eq!(
            replays.note(1065, &KEY, "c"),
            Noted::Fresh,
            "the next period"
        );
        assert_eq!(replays.note(1000, &KEY, "a"), Noted::Used);
    }

    #[test]
    fn a_clock_that_is_set_back_opens_nothing() {
        let replays = replays(10);
        assert_eq!(replays.note(1000, &KEY, "a"), Noted::Fresh);
        assert_eq!(replays.note(9000, &KEY, "b"), Noted::Fresh);
        assert_eq!(replays.note(1000, &KEY, "a"), Noted::Forgotten);
        assert_eq!(replays.note(9000, &KEY, "b"), Noted::Used);
    }

    proptest! {
        /// Whatever the order of times, a proof that would be accepted a second time is known from the first.
        #[test]
        fn no_proof_is_fresh_twice(asked in prop::collection::vec((0_i64..400, 0_u8..4), 1..200)) {
            let replays = replays(1000);
            let mut fresh = HashSet::new();
            for (at, id) in asked {
                let noted = replays.note(at, &KEY, &id.to_string());
                if noted == Noted::Fresh {
                    prop_assert!(fresh.insert((at.div_euclid(65), id)));
                }
            }
        }

        /// While time goes on, nothing within the window is refused as forgotten.
        #[test]
        fn within_the_window_nothing_is_forgotten(steps in prop::collection::vec((0_i64..90, 0_i64..=65), 1..100)) {
            let replays = replays(1000);
            let mut now = 0;
            for (number, (step, behind)) in steps.into_iter().enumerate() {
                now += step;
                // From `now + 5` back to `now - 60`.
                let noted = replays.note(now + 5 - behind, &KEY, &number.to_string());
                prop_assert_eq!(noted, Noted::Fresh);
            }
        }
    }
}

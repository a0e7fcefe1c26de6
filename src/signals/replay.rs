//! What was received already: bounded in number and time.
//!
//! Forgetting is harmless: an event that is applied twice counts once (its revocation has the same id), so this memory
//! saves work and lets repetitions be counted as such.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The name of something remembered.
pub(super) type Name = [u8; 16];

/// Two generations of notes: what is noted goes into the later one; once that is full or old, it becomes the earlier one,
/// and what was the earlier one is forgotten.
#[derive(Debug)]
pub(super) struct Memory<V> {
    most: usize,
    life: Duration,
    table: Mutex<Table<V>>,
}

#[derive(Debug)]
struct Table<V> {
    latest: HashMap<Name, V>,
    before: HashMap<Name, V>,
    since: Option<Instant>,
}

impl<V: Copy> Memory<V> {
    /// A memory of at most `most` notes, each kept for up to twice `life` and, while there is room, for `life` at least.
    pub(super) fn new(most: usize, life: Duration) -> Self {
        Self {
            most: most.div_ceil(2),
            life,
            table: Mutex::new(Table {
                latest: HashMap::new(),
                before: HashMap::new(),
                since: None,
            }),
        }
    }

    /// Notes something.
    pub(super) fn note(&self, name: Name, value: V, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *table.since.get_or_insert(now);
        if table.latest.len() >= self.most || now.saturating_duration_since(since) >= self.life {
            table.before = mem::take(&mut table.latest);
            table.since = Some(now);
        }
        table.latest.insert(name, value);
    }

    /// What was noted.
    pub(super) fn noted(&self, name: &Name) -> Option<V> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table
            .latest
            .get(name)
            .or_else(|| table.before.get(name))
            .copied()
    }
}

/// The name of something told by these texts, in this order.
pub(super) fn name(texts: &[&str]) -> Name {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&text.len().to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let mut name = [0; 16];
    hasher.finalize_xof().fill(&mut name);
    name
}

/// The same as it is written.
pub(super) fn written(name: Name) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, SystemClock};

    const HOUR: Duration = Duration::from_secs(3600);

    fn number(n: u32) -> Name {
        name(&[&n.to_string()])
    }

    #[test]
    fn names_depend_on_where_each_text_ends() {
        assert_ne!(name(&["ab", "c"]), name(&["a", "bc"]));
        assert_ne!(name(&["a"]), name(&["a", ""]));
        assert_eq!(written(name(&["a"])).len(), 32);
    }

    #[test]
    fn what_was_noted_is_known_until_there_are_too_many() {
        let now = SystemClock.monotonic();
        let memory = Memory::new(10, HOUR);
        memory.note(number(0), 7, now);
        assert_eq!(
            (memory.noted(&number(0)), memory.noted(&number(1))),
            (Some(7), None)
        );
        for n in 1..1000 {
            memory.note(number(n), 7, now);
            assert!(memory.noted(&number(n)).is_some());
        }
        assert_eq!(memory.noted(&number(0)), None);
        let table = memory.table.lock().unwrap();
        assert!(table.latest.len() + table.before.len() <= 10);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let now = SystemClock.monotonic();
        let memory = Memory::new(10, HOUR);
        memory.note(number(0), (), now);
        memory.note(number(1), (), now + HOUR);
        assert!(memory.noted(&number(0)).is_some());
        memory.note(number(2), (), now + 2 * HOUR);
        assert_eq!(memory.noted(&number(0)), None);
        assert!(memory.noted(&number(1)).is_some());
    }
}

//! This replica's own records, from when they are told until they were read back from the log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::figures::{Counts, Dropped};
use super::record::Record;

/// Own records on their way, in the order in which they were told.
#[derive(Debug)]
pub(super) struct Outbox {
    most: usize,
    queue: Mutex<Queue>,
    bell: Notify,
    compare: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Own>,
    /// How many of the first are in the log, and not read back yet.
    sent: usize,
    numbers: u64,
}

impl Queue {
    fn unsent(&self) -> usize {
        self.records.len().saturating_sub(self.sent)
    }
}

/// An own record.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// Its number, from 1.
    pub(super) n: u64,
    pub(super) record: Record,
}

impl Outbox {
    /// An outbox in which `most` records may wait.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            queue: Mutex::default(),
            bell: Notify::new(),
            compare: AtomicBool::new(false),
        }
    }

    /// Takes a record. Where too many wait, one that says that something is there makes room: it is told by comparing all
    /// that is there. A withdrawal leaves nothing behind to compare, so these are the last to go.
    pub(super) fn put(&self, record: Record, counts: &Counts) {
        let mut queue = self.queue();
        if queue.unsent() >= self.most {
            self.make_room(&mut queue, &record, counts);
        }
        if queue.unsent() < self.most {
            queue.numbers += 1;
            let n = queue.numbers;
            queue.records.push_back(Own { n, record });
        }
        drop(queue);
        self.ring();
    }

    fn make_room(&self, queue: &mut Queue, record: &Record, counts: &Counts) {
        let sent = queue.sent;
        if record.body.is_some() {
            // It is not told by itself, so nothing that was told of its key before may stand as the last word.
            let key = record.key.as_str();
            let mut at = 0;
            queue.records.retain(|own| {
                at += 1;
                at <= sent || own.record.key != key
            });
            self.compare.store(true, Ordering::Relaxed);
            return;
        }
        let unsent = queue.records.iter().enumerate().skip(sent);
        let there = unsent.filter(|(_, own)| own.record.body.is_some());
        if let Some(at) = there.map(|(at, _)| at).next() {
            queue.records.remove(at);
        } else {
            counts.dropped(Dropped::Overflow);
            // What others go on saying is heard here again then, so that all are of one mind.
            tracing::warn!(
                key = record.key,
                "a withdrawal is not told to other replicas, and ends here too: too many wait already"
            );
        }
        self.compare.store(true, Ordering::Relaxed);
    }

    /// Has everything that is there compared with what others know.
    pub(super) fn compare_all(&self) {
        self.compare.store(true, Ordering::Relaxed);
        self.ring();
    }

    /// Whether that was asked for since the last time.
    pub(super) fn take_compare(&self) -> bool {
        self.compare.swap(false, Ordering::Relaxed)
    }

    /// There is something to do.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits until there is something to do.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// The first records that are not in the log.
    pub(super) fn unsent(&self, most: usize) -> Vec<Own> {
        let queue = self.queue();
        let unsent = queue.records.iter().skip(queue.sent);
        unsent.take(most).cloned().collect()
    }

    /// Everything up to that number is in the log.
    pub(super) fn sent(&self, n: u64) {
        let mut queue = self.queue();
        queue.sent = queue.records.iter().take_while(|own| own.n <= n).count();
    }

    /// Everything up to that number was read back.
    pub(super) fn read_back(&self, n: u64) {
        let mut queue = self.queue();
        while queue.records.front().is_some_and(|own| own.n <= n) {
            queue.records.pop_front();
            queue.sent = queue.sent.saturating_sub(1);
        }
    }

    /// All that is in the log counts as read back: what is read next includes it.
    pub(super) fn settle(&self) {
        let mut queue = self.queue();
        let sent = std::mem::take(&mut queue.sent);
        queue.records.drain(..sent);
    }

    /// Whether a record is passed over, for this replica's own word about its key comes after it, and undoes it. Where both
    /// say that something is there, the two add up. A withdrawal undoes nothing that was told after it.
    pub(super) fn overrules(&self, record: &Record) -> bool {
        let queue = self.queue();
        let mut own = queue.records.iter().rev();
        let Some(Own { record: own, .. }) = own.find(|own| own.record.key == record.key) else {
            return false;
        };
        if own.body.is_none() {
            record.told < own.told
        } else {
            record.body.is_none()
        }
    }

    /// How many records are not in the log.
    pub(super) fn waiting(&self) -> u64 {
        let queue = self.queue();
        u64::try_from(queue.unsent()).unwrap_or(u64::MAX)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::model::SystemClock;

    struct Desk {
        outbox: Outbox,
        counts: Counts,
    }

    impl Desk {
        fn new(most: usize) -> Self {
            Self {
                outbox: Outbox::new(most),
                counts: Counts::new(Arc::new(SystemClock)),
            }
        }

        fn put(&self, keys: &[&str]) {
            for key in keys {
                self.outbox.put(there(key), &self.counts);
            }
        }

        fn withdraw(&self, keys: &[&str]) {
            for key in keys {
                self.outbox.put(gone(key), &self.counts);
            }
        }

        /// `+` before what is there, `-` before what was withdrawn.
        fn unsent(&self) -> Vec<String> {
            let sign = |record: &Record| if record.body.is_some() { '+' } else { '-' };
            let unsent = self.outbox.unsent(100).into_iter();
            unsent
                .map(|own| format!("{}{}", sign(&own.record), own.record.key))
                .collect()
        }

        fn overflowed(&self) -> u64 {
            self.counts.figures(0).dropped.last().unwrap().1
        }
    }

    fn there(key: &str) -> Record {
        Record {
            body: Some(json!(1)),
            ..gone(key)
        }
    }

    fn gone(key: &str) -> Record {
        Record {
            key: key.to_owned(),
            ends: Timestamp::MAX,
            told: Timestamp::UNIX_EPOCH,
            body: None,
        }
    }

    fn told(record: Record, told: Timestamp) -> Record {
        Record { told, ..record }
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn records_are_told_in_order_and_kept_until_they_are_read_back() {
        let desk = Desk::new(10);
        desk.put(&["a", "b"]);
        desk.withdraw(&["a"]);
        assert_eq!(desk.unsent(), ["+a", "+b", "-a"]);
        desk.outbox.sent(2);
        assert_eq!(desk.unsent(), ["-a"]);
        assert_eq!(desk.outbox.waiting(), 1);
        desk.outbox.read_back(1);
        desk.outbox.sent(3);
        desk.outbox.read_back(3);
        assert!(desk.outbox.queue().records.is_empty());
        desk.put(&["c"]);
        assert_eq!(desk.outbox.unsent(1)[0].n, 4);
    }

    #[test]
    fn others_words_are_passed_over_while_a_later_one_is_on_its_way() {
        let desk = Desk::new(10);
        assert!(!desk.outbox.overrules(&gone("a")));
        desk.put(&["a"]);
        assert!(desk.outbox.overrules(&gone("a")));
        assert!(!desk.outbox.overrules(&there("a")), "two of them add up");
        assert!(!desk.outbox.overrules(&gone("b")));
        desk.outbox.sent(1);
        assert!(desk.outbox.overrules(&gone("a")), "it is not read back yet");
        let (before, at, after) = (second(9), second(10), second(11));
        desk.outbox.put(told(gone("a"), at), &desk.counts);
        assert!(desk.outbox.overrules(&told(there("a"), before)));
        assert!(!desk.outbox.overrules(&told(there("a"), at)));
        assert!(!desk.outbox.overrules(&told(gone("a"), after)));
        desk.outbox.sent(2);
        desk.outbox.settle();
        assert!(!desk.outbox.overrules(&there("a")));
    }

    #[test]
    fn where_too_many_wait_what_can_be_told_otherwise_makes_room() {
        let desk = Desk::new(3);
        desk.put(&["a"]);
        desk.withdraw(&["x"]);
        desk.put(&["b"]);
        assert!(!desk.outbox.take_compare());
        desk.withdraw(&["y", "z"]);
        assert_eq!(desk.unsent(), ["-x", "-y", "-z"]);
        assert!(desk.outbox.take_compare());
        assert!(!desk.outbox.take_compare());
        desk.put(&["c"]);
        assert_eq!(desk.unsent(), ["-x", "-y", "-z"]);
        assert!(desk.outbox.take_compare());
        assert_eq!(desk.overflowed(), 0);
        desk.withdraw(&["w"]);
        assert_eq!(desk.unsent(), ["-x", "-y", "-z"]);
        assert_eq!(desk.overflowed(), 1);
    }

    #[test]
    fn a_withdrawal_does_not_outlive_what_was_told_after_it() {
        let desk = Desk::new(2);
        desk.withdraw(&["a", "b"]);
        desk.put(&["a"]);
        assert_eq!(desk.unsent(), ["-b", "+a"]);
    }

    #[test]
    fn what_is_in_the_log_already_makes_no_room() {
        let desk = Desk::new(2);
        desk.put(&["a", "b"]);
        desk.outbox.sent(1);
        desk.withdraw(&["c", "d"]);
        assert_eq!(desk.unsent(), ["-c", "-d"]);
        assert!(desk.outbox.overrules(&gone("a")));
    }
}

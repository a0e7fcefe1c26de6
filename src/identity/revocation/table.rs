//! All revocations in force, bounded.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::event::{Event, Source};
use super::marks::Marks;
use crate::model::IdentityAttributes;

/// How many events about one thing are kept apart. Beyond it, a new one takes the place of those it says everything of, so
/// that a thing revoked a thousand times does not make every look at it slow.
const MOST_OF_ONE: usize = 32;

/// An event in the table. Whoever refused somebody for it can tell whether it still holds.
#[derive(Debug)]
pub(in crate::identity) struct Entry {
    pub(super) event: Event,
    ended: AtomicBool,
}

impl Entry {
    /// Whether it is in force.
    pub(in crate::identity) fn holds(&self, now: Timestamp) -> bool {
        now < self.event.expires_at && !self.ended.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// The table. `by_mark` and `by_end` hold the same entries as `by_id`.
#[derive(Debug)]
pub(super) struct Table {
    most: usize,
    /// How many of the events came from transmitters.
    signalled: usize,
    marks: Marks,
    by_id: HashMap<String, Arc<Entry>>,
    by_mark: HashMap<u64, Vec<Arc<Entry>>>,
    by_end: BTreeSet<(Timestamp, String)>,
}

/// What became of an event.
#[derive(Debug)]
pub(super) enum Inserted {
    /// It is in force now: as it was told, and as far as one with its id covered more before.
    New(Arc<Entry>),
    /// It was in force already, and covers nothing more.
    Known,
}

/// Why an event was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotInserted {
    /// There is no place left for events of its source: there are as many as there may be.
    Full(usize),
    /// Another event has the same id.
    Conflict,
}

impl Table {
    /// An empty table for `most` events.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            signalled: 0,
            marks: Marks::default(),
            by_id: HashMap::new(),
            by_mark: HashMap::new(),
            by_end: BTreeSet::new(),
        }
    }

    /// Puts an event in force. What has expired makes room first. One told again may only come to cover more: nobody trusts
    /// anything again by telling less.
    pub(super) fn insert(&mut self, event: Event, now: Timestamp) -> Result<Inserted, NotInserted> {
        let most = self.most_from(event.source);
        self.put(event, now, most)
    }

    /// The same for an event that was in force before: the share of its source does not count.
    pub(super) fn restore(
        &mut self,
        event: Event,
        now: Timestamp,
    ) -> Result<Inserted, NotInserted> {
        self.put(event, now, None)
    }

    /// `most_from_source`: how many there may be of its source.
    fn put(
        &mut self,
        mut event: Event,
        now: Timestamp,
        mut most_from_source: Option<usize>,
    ) -> Result<Inserted, NotInserted> {
        if let Some(known) = self.by_id.get(&event.id)
            && known.holds(now)
        {
            let known = &known.event;
            if known.target != event.target {
                return Err(NotInserted::Conflict);
            }
            let told_later = event.is_liftable() && event.at > known.at;
            if says_all_of(known, &event) && !told_later {
                return Ok(Inserted::Known);
            }
            event.at = event.at.max(known.at);
            event.issued_before = event.issued_before.max(known.issued_before);
            event.expires_at = event.expires_at.max(known.expires_at);
            self.remove(&event.id);
            // It has its place already.
            most_from_source = None;
        }
        self.sweep(now);
        let mark = self.marks.of_target(&event.target);
        self.thin_out(mark, &event);
        if self.by_id.len() >= self.most {
            return Err(NotInserted::Full(self.most));
        }
        if let Some(most) = most_from_source
            && self.signalled >= most
        {
            return Err(NotInserted::Full(most));
        }
        self.signalled += usize::from(event.source == Source::Ssf);
        self.by_end.insert((event.expires_at, event.id.clone()));
        let entry = Arc::new(Entry {
            event,
            ended: AtomicBool::new(false),
        });
        self.by_mark
            .entry(mark)
            .or_default()
            .push(Arc::clone(&entry));
        self.by_id
            .insert(entry.event.id.clone(), Arc::clone(&entry));
        Ok(Inserted::New(entry))
    }

    /// Takes an event out of force.
    pub(super) fn remove(&mut self, id: &str) -> Option<Arc<Entry>> {
        let entry = self.by_id.remove(id)?;
        entry.end();
        let signalled = usize::from(entry.event.source == Source::Ssf);
        self.signalled = self.signalled.saturating_sub(signalled);
        self.by_end
            .remove(&(entry.event.expires_at, entry.event.id.clone()));
        let mark = self.marks.of_target(&entry.event.target);
        if let Some(same) = self.by_mark.get_mut(&mark) {
            same.retain(|other| !Arc::ptr_eq(other, &entry));
            if same.is_empty() {
                self.by_mark.remove(&mark);
            }
        }
        Some(entry)
    }

    /// The same where the event was told before `later`.
    pub(super) fn remove_told_before(&mut self, id: &str, later: Timestamp) -> Option<Arc<Entry>> {
        let told = self.by_id.get(id)?.event.at;
        (told < later).then(|| self.remove(id)).flatten()
    }

    /// Forgets what has expired.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        while let Some((end, id)) = self.by_end.first() {
            if *end > now {
                break;
            }
            let id = id.clone();
            self.remove(&id);
        }
    }

    /// The event that refuses a credential, if one does.
    pub(super) fn refuses(
        &self,
        holder: &IdentityAttributes,
        now: Timestamp,
    ) -> Option<&Arc<Entry>> {
        if self.by_id.is_empty() {
            return None;
        }
        self.marks
            .of(holder)
            .filter_map(|mark| self.by_mark.get(&mark))
            .flatten()
            .find(|entry| entry.holds(now) && entry.event.covers(holder))
    }

    /// The event of this id.
    pub(super) fn find(&self, id: &str) -> Option<&Arc<Entry>> {
        self.by_id.get(id)
    }

    /// How many events there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// How many there may be from a source, where there may not be as many as from all: a transmitter that floods the table
    /// leaves a fifth of it to operators and to other replicas.
    fn most_from(&self, source: Source) -> Option<usize> {
        (source == Source::Ssf).then(|| self.most - self.most / 5)
    }

    /// Whether transmitters have all the places that they may.
    pub(super) fn is_flooded(&self) -> bool {
        self.most_from(Source::Ssf)
            .is_some_and(|most| self.signalled >= most)
    }

    /// All events, in no order.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        self.by_id.values().cloned().collect()
    }

    /// Removes events about the same thing that the new one says everything of, where there are many. One that may be
    /// lifted takes nobody's place.
    fn thin_out(&mut self, mark: u64, new: &Event) {
        if new.is_liftable() {
            return;
        }
        let Some(same) = self.by_mark.get(&mark) else {
            return;
        };
        if same.len() < MOST_OF_ONE {
            return;
        }
        let said: Vec<String> = same
            .iter()
            .filter(|entry| says_all_of(new, &entry.event) && !entry.event.is_liftable())
            .map(|entry| entry.event.id.clone())
            .collect();
        for id in said {
            self.remove(&id);
        }
    }
}

/// Whether one event covers all that another does, for as long.
fn says_all_of(event: &Event, other: &Event) -> bool {
    event.target == other.target
        && other.issued_before <= event.issued_before
        && other.expires_at <= event.expires_at
}

//! All lists of one issuer: which are held, and what a token comes to that is on one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::list::{List, Why};
use super::reference::Reference;
use super::source::Source;
use super::{Standing, StatusListFigures};
use crate::identity::denial::Denial;
use crate::model::{Arrival, ColdStep};

/// A list that a token was held against in this time is not let go for another.
const IN_USE: Duration = Duration::from_secs(60);

/// Of how many lists that were let go it is known how new they were.
const MOST_LEFT: usize = 4096;

/// How long to sleep where nothing is due. Every fetch that ends wakes whoever sleeps.
const NOTHING_DUE: Duration = Duration::from_secs(60 * 60);

/// All lists of one issuer.
#[derive(Debug)]
pub(in crate::identity) struct StatusLists {
    pub(super) source: Arc<Source>,
    /// How long one request may wait for a list.
    wait: Duration,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    lists: HashMap<String, Arc<List>>,
    /// The newest `iat` of lists that were let go: an older one is not taken when they are fetched anew.
    left: HashMap<String, Timestamp>,
    /// When it was last said that there is no place.
    told_full: Option<Instant>,
}

/// The lists alone: what they are found by are whole URLs, whose queries are not shown.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lists.values()).finish()
    }
}

impl StatusLists {
    pub(super) fn new(source: Arc<Source>, wait: Duration) -> Arc<Self> {
        Arc::new(Self {
            source,
            wait,
            table: Mutex::default(),
        })
    }

    /// Where a token stands, if that list is at hand.
    pub(super) fn at_hand(&self, reference: &Reference, arrival: &Arrival) -> Option<Standing> {
        let list = self.lock().lists.get(&reference.uri).cloned()?;
        let standing = self.place(list, reference);
        standing.tells(arrival).then_some(standing)
    }

    /// Where a token stands, and what was waited for. Its list is fetched where it is not at hand: whoever asks has made
    /// sure that the issuer signed the token.
    ///
    /// # Errors
    /// [`Denial::StatusUnavailable`] where the list cannot be had.
    pub(super) async fn standing(
        &self,
        reference: &Reference,
        arrival: &Arrival,
    ) -> (Option<ColdStep>, Result<Standing, Denial>) {
        let unavailable = |detail| Err(Denial::StatusUnavailable(detail));
        let Some(list) = self.list(reference) else {
            let detail = "all the status lists that `max_lists` allows are in use, and the token is on another";
            return (None, unavailable(detail));
        };
        let standing = self.place(list, reference);
        if standing.tells(arrival) {
            return (None, Ok(standing));
        }
        let clock = &self.source.clock;
        let began = clock.monotonic();
        let Some(mut round) = standing.list.begin(&self.source, Why::Token) else {
            return (
                None,
                unavailable("the token's status list could not be had a moment ago"),
            );
        };
        let own = began + self.wait;
        let end = arrival.deadline.map_or(own, |deadline| own.min(deadline));
        let limit = end.saturating_duration_since(began);
        let ended = tokio::time::timeout(limit, round.changed()).await.is_ok();
        let waited = Some(ColdStep {
            name: "fetch status list",
            began,
            took: clock.monotonic().saturating_duration_since(began),
        });
        if !ended {
            let detail = "the token's status list did not arrive in the time this request had";
            (waited, unavailable(detail))
        } else if standing.tells(arrival) {
            (waited, Ok(standing))
        } else {
            (waited, unavailable("the token's status list cannot be had"))
        }
    }

    /// Keeps the lists fresh until it is aborted. Runs on the background runtime.
    pub(in crate::identity) async fn keep_fresh(self: Arc<Self>) {
        loop {
            let pause = self.turn();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.source.landed.notified() => {}
            }
        }
    }

    /// Fetches all lists now, and waits for them.
    pub(in crate::identity) async fn refresh(&self) {
        let rounds: Vec<_> = self
            .all()
            .iter()
            .filter_map(|list| list.begin(&self.source, Why::Timer))
            .collect();
        for mut round in rounds {
            // An error means that the list is gone, and then there is nothing to wait for.
            let _ended = round.changed().await;
        }
    }

    /// How the lists stand.
    pub(in crate::identity) fn figures(&self) -> StatusListFigures {
        let now = self.source.clock.monotonic();
        let lists = self.all();
        let ages = lists.iter().filter_map(|list| list.fetched());
        let ages: Vec<Duration> = ages
            .map(|fetched| now.saturating_duration_since(fetched))
            .collect();
        StatusListFigures {
            issuer: self.source.issuer.clone(),
            held: ages.len(),
            oldest: ages.into_iter().max(),
            fetch_errors: self.source.failures(),
        }
    }

    /// Forgets lists that nobody uses, begins to fetch those that are due, and says when the next one is.
    pub(super) fn turn(&self) -> Duration {
        let now = self.source.clock.monotonic();
        let idle = self.source.settings.max_stale.0.as_secs();
        let second = self.source.seconds(now);
        let unused = |list: &List| second.saturating_sub(list.used()) > idle;
        let mut table = self.lock();
        let Table { lists, left, .. } = &mut *table;
        lists.retain(|uri, list| match unused(list).then(|| list.let_go()) {
            Some(Some(newest)) => {
                left.insert(uri.clone(), newest);
                false
            }
            _ => true,
        });
        self.forget(left);
        drop(table);
        let mut next = now + NOTHING_DUE;
        for list in self.all() {
            match list.due() {
                Some(due) if due <= now => _ = list.begin(&self.source, Why::Timer),
                Some(due) => next = next.min(due),
                None => {}
            }
        }
        next.saturating_duration_since(now)
    }

    /// The list, with a place in the table. `None`: there is none.
    fn list(&self, reference: &Reference) -> Option<Arc<List>> {
        let mut table = self.lock();
        if let Some(list) = table.lists.get(&reference.uri) {
            return Some(Arc::clone(list));
        }
        let most = usize::try_from(self.source.settings.max_lists).unwrap_or(usize::MAX);
        if table.lists.len() >= most && !self.make_room(&mut table) {
            self.tell_full(&mut table);
            return None;
        }
        let newest = table.left.remove(&reference.uri);
        let newest = newest.unwrap_or(Timestamp::MIN);
        let list = List::new(reference.clone(), newest, &self.source);
        table.lists.insert(reference.uri.clone(), Arc::clone(&list));
        Some(list)
    }

    /// Lets go of the list that was not used for the longest time, unless it is in use. Lists that are would otherwise push
    /// one another out, and be fetched again with every token.
    fn make_room(&self, table: &mut Table) -> bool {
        let second = self.source.seconds(self.source.clock.monotonic());
        let oldest = table.lists.iter().min_by_key(|(_, list)| list.used());
        let Some((uri, list)) = oldest else {
            return false;
        };
        if second.saturating_sub(list.used()) <= IN_USE.as_secs() {
            return false;
        }
        let Some(newest) = list.let_go() else {
            return false;
        };
        let uri = uri.clone();
        table.lists.remove(&uri);
        table.left.insert(uri, newest);
        self.forget(&mut table.left);
        true
    }

    /// Forgets what is known of lists that were let go, once anything older would be too old to count, and the oldest of
    /// too many.
    fn forget(&self, left: &mut HashMap<String, Timestamp>) {
        let (now, age) = (self.source.clock.now(), self.source.max_age());
        left.retain(|_, newest| newest.saturating_add(age).is_ok_and(|end| now < end));
        while left.len() > MOST_LEFT {
            let oldest = left.iter().min_by_key(|(_, newest)| **newest);
            let Some(uri) = oldest.map(|(uri, _)| uri.clone()) else {
                break;
            };
            left.remove(&uri);
        }
    }

    fn tell_full(&self, table: &mut Table) {
        let now = self.source.clock.monotonic();
        let lately = |told: Instant| now.saturating_duration_since(told) < IN_USE;
        if !table.told_full.is_some_and(lately) {
            table.told_full = Some(now);
            let (issuer, max_lists) = (&self.source.issuer, self.source.settings.max_lists);
            tracing::error!(
                issuer,
                max_lists,
                "tokens are refused: they are on more status lists than `max_lists` allows"
            );
        }
    }

    fn place(&self, list: Arc<List>, reference: &Reference) -> Standing {
        Standing {
            list,
            source: Arc::clone(&self.source),
            index: reference.index,
        }
    }

    fn all(&self) -> Vec<Arc<List>> {
        self.lock().lists.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

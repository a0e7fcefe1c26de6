//! One list at work: fetched beside the requests, one fetch at a time, kept while it may be.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::sync::watch;

use super::content::Content;
use super::reference::Reference;
use super::source::{NotHad, Source};
use crate::model::Arrival;

/// One list.
#[derive(Debug)]
pub(super) struct List {
    pub(super) reference: Reference,
    content: ArcSwapOption<Content>,
    flight: Mutex<Flight>,
    rounds: watch::Sender<u64>,
    /// When a token was last held against it, in seconds since the source began.
    used: AtomicU64,
}

/// The state of fetching.
#[derive(Debug)]
struct Flight {
    running: bool,
    /// It was let go: nobody fetches it any more.
    gone: bool,
    /// When it is to be fetched next.
    due: Instant,
    /// Failed fetches since the last good one.
    failed_in_a_row: u32,
    /// Why it cannot be had, as it was told last.
    told: Option<NotHad>,
    /// The newest `iat` that was ever taken in, whether or not what it came with still counts.
    newest: Timestamp,
}

/// Who wants a list fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is time, or an operator asks.
    Timer,
    /// A token is on it, and it is not at hand.
    Token,
}

impl List {
    /// A list of which nothing is held. `newest` is the newest `iat` of it that is known.
    pub(super) fn new(reference: Reference, newest: Timestamp, source: &Source) -> Arc<Self> {
        Arc::new(Self {
            reference,
            content: ArcSwapOption::empty(),
            flight: Mutex::new(Flight {
                running: false,
                gone: false,
                due: source.clock.monotonic(),
                failed_in_a_row: 0,
                told: None,
                newest,
            }),
            rounds: watch::Sender::new(0),
            used: AtomicU64::new(source.seconds(source.clock.monotonic())),
        })
    }

    /// What `read` finds in it; `None` where it is not at hand: never fetched, let go, stale, expired, or signed with a key
    /// that was withdrawn. It costs a few atomic reads.
    pub(super) fn look<T>(&self, arrival: &Arrival, read: impl Fn(&Content) -> T) -> Option<T> {
        let content = self.content.load();
        let content = content.as_ref().filter(|content| content.holds(arrival));
        content.map(|content| read(content))
    }

    /// Notes that it was used. It writes once a second at most, so that workers do not take the line from one another.
    pub(super) fn touch(&self, second: u64) {
        if self.used.load(Ordering::Relaxed) < second {
            self.used.store(second, Ordering::Relaxed);
        }
    }

    /// When it was last used, in seconds since the source began.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// When it was fetched, if it was.
    pub(super) fn fetched(&self) -> Option<Instant> {
        self.content.load().as_ref().map(|content| content.fetched)
    }

    /// When it is to be fetched next; `None` while it is.
    pub(super) fn due(&self) -> Option<Instant> {
        let flight = self.lock();
        (!flight.running).then_some(flight.due)
    }

    /// Lets it go, for good, unless it is being fetched. Proofs that stand on it end. What is left of it is its newest
    /// `iat`; `None` where it stays.
    pub(super) fn let_go(&self) -> Option<Timestamp> {
        let mut flight = self.lock();
        if flight.running {
            return None;
        }
        flight.gone = true;
        self.content.store(None);
        Some(flight.newest)
    }

    /// Begins a fetch, or joins the one under way. `None`: it failed a moment ago, or the list was let go.
    pub(super) fn begin(
        self: &Arc<Self>,
        source: &Arc<Source>,
        why: Why,
    ) -> Option<watch::Receiver<u64>> {
        let mut flight = self.lock();
        // INVARIANT: taken under the lock that `Round::drop` takes before it announces, so no end is missed.
        let round = self.rounds.subscribe();
        if flight.running {
            return Some(round);
        }
        let resting = flight.failed_in_a_row > 0 && source.clock.monotonic() < flight.due;
        if flight.gone || (resting && why == Why::Token) {
            return None;
        }
        flight.running = true;
        drop(flight);
        let running = Round {
            list: Arc::clone(self),
            source: Arc::clone(source),
        };
        source.background.spawn(running.run());
        Some(round)
    }

    fn take_in(&self, source: &Source, fetched: Result<Content, NotHad>) {
        let newer = fetched.and_then(|content| {
            // Whoever keeps an old list for us would keep a revoked token alive.
            let older = content.issued_at < self.lock().newest;
            if older {
                Err(NotHad::Older)
            } else {
                Ok(content)
            }
        });
        let now = source.clock.monotonic();
        match newer {
            Ok(content) => {
                let (pause, newest) = (source.pause(content.ttl), content.issued_at);
                self.content.store(Some(Arc::new(content)));
                let mut flight = self.lock();
                flight.newest = newest;
                flight.failed_in_a_row = 0;
                flight.due = now + pause;
                if flight.told.take().is_some() {
                    source.recovered(&self.reference.url);
                }
            }
            Err(error) => {
                let mut flight = self.lock();
                let told = flight.told.as_ref() == Some(&error);
                source.failed(&self.reference.url, &error, told);
                flight.told = Some(error);
                flight.failed_in_a_row = flight.failed_in_a_row.saturating_add(1);
                flight.due = now + source.rest(flight.failed_in_a_row);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch under way. However it ends (well, badly, by a panic, or with its runtime), whoever waits for it is told.
struct Round {
    list: Arc<List>,
    source: Arc<Source>,
}

impl Round {
    async fn run(self) {
        let fetched = self.source.fetch(&self.list.reference).await;
        self.list.take_in(&self.source, fetched);
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        let mut flight = self.list.lock();
        flight.running = false;
        self.list
            .rounds
            .send_modify(|count| *count = count.wrapping_add(1));
        drop(flight);
        self.source.landed.notify_one();
    }
}

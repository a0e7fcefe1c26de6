//! One issuer's keys at work: fetched beside the requests, kept while they may be, asked for when a token names an
//! unknown one.
//!
//! Fetches run on the background runtime; requests only wait for them. There is never more than one at a time for an
//! issuer. A timer starts them; so does a token with an unknown key id, but at most once in an interval, and neither
//! takes from the other: a flood of invented key ids cannot keep a real rotation from being noticed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::denial::Denial;
use super::fetch::{FetchError, Fetcher};
use super::ground::Lease;
use super::jwk::{KeyTable, PublicKey};
use super::ready::Slot;
use super::settings::IssuerSettings;
use super::token::Wrong;
use crate::model::{Arrival, Clock, ColdStep, CredentialFault as Fault};

/// The first pause after a failed fetch; it doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The longest pause after failed fetches.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How often a file is looked at, at least.
const FILE_INTERVAL: Duration = Duration::from_secs(2);

/// One issuer's keys.
#[derive(Debug)]
pub(super) struct KeySource {
    settings: IssuerSettings,
    fetcher: Fetcher,
    surroundings: Surroundings,
    table: ArcSwapOption<KeyTable>,
    lease: Arc<Lease>,
    flight: Mutex<Flight>,
    rounds: watch::Sender<u64>,
    troubled: Notify,
    fetches: AtomicU64,
    failures: AtomicU64,
}

/// What a key source shares with the others.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) background: Handle,
    pub(super) key_wait: Duration,
    pub(super) ready: Slot,
}

/// The state of fetching.
#[derive(Debug, Default)]
struct Flight {
    running: bool,
    /// When a token with an unknown key may have the keys fetched again.
    next_miss: Option<Instant>,
    /// Failed fetches since the last good one.
    failed_in_a_row: u32,
    last_error: Option<String>,
    last_good: Option<Instant>,
}

/// Who wants keys fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Timer,
    UnknownKey,
}

/// What the table knows of a key.
enum Looked {
    Found(Arc<PublicKey>),
    /// There are keys, and this is none of them.
    Unknown,
    /// There are no keys that may be used.
    NoKeys,
}

/// How one issuer's keys stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetStatus {
    /// The issuer.
    pub issuer: String,
    /// Whether readiness needs these keys.
    pub required: bool,
    /// Whether tokens can be verified with them now.
    pub usable: bool,
    /// How many keys there are.
    pub keys: usize,
    /// Why further keys of the set were left out, one reason each.
    pub left_out: Vec<&'static str>,
    /// How long ago they were last fetched.
    pub age: Option<Duration>,
    /// Why the latest fetch failed, if it did.
    pub last_error: Option<String>,
    /// Fetches begun since start.
    pub fetches: u64,
    /// Fetches that failed since start.
    pub fetch_errors: u64,
}

impl KeySource {
    pub(super) fn new(
        settings: IssuerSettings,
        fetcher: Fetcher,
        surroundings: Surroundings,
    ) -> Arc<Self> {
        let lease = Lease::new(surroundings.clock.monotonic());
        Arc::new(Self {
            settings,
            fetcher,
            surroundings,
            table: ArcSwapOption::empty(),
            lease,
            flight: Mutex::default(),
            rounds: watch::Sender::new(0),
            troubled: Notify::new(),
            fetches: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// The key a token names, waited for where it has to be fetched first, and what was waited for.
    ///
    /// # Errors
    /// [`Fault::UnknownKey`] where the issuer was heard and has no such key; [`Denial::KeysUnavailable`] where that
    /// cannot be told.
    pub(super) async fn key(
        self: &Arc<Self>,
        kid: Option<&str>,
        arrival: &Arrival,
    ) -> (Option<ColdStep>, Result<Arc<PublicKey>, Denial>) {
        let began = self.surroundings.clock.monotonic();
        if let Looked::Found(key) = self.look(kid, began) {
            return (None, Ok(key));
        }
        let mut waited = None;
        // Twice: a fetch that was under way already may have begun before the key was published.
        for _ in 0..2 {
            let Some(mut round) = self.begin(Why::UnknownKey) else {
                break;
            };
            let limit = self.patience(began, arrival);
            let ended = tokio::time::timeout(limit, round.changed()).await.is_ok();
            let now = self.surroundings.clock.monotonic();
            waited = Some(ColdStep {
                name: "fetch keys",
                began,
                took: now.saturating_duration_since(began),
            });
            if !ended {
                let detail = "the issuer's keys did not arrive in the time this request had";
                return (waited, Err(Denial::KeysUnavailable(detail)));
            }
            if let Looked::Found(key) = self.look(kid, now) {
                return (waited, Ok(key));
            }
        }
        (waited, Err(self.missing(kid)))
    }

    /// Fetches the keys now, or waits for the fetch that is under way.
    pub(super) async fn refresh(self: &Arc<Self>) {
        if let Some(mut round) = self.begin(Why::Timer) {
            // An error means that the source is gone, and then there is nothing to wait for.
            let _ended = round.changed().await;
        }
    }

    /// Whether tokens of this issuer can be verified now.
    pub(super) fn usable(&self) -> bool {
        self.lease.runs(self.surroundings.clock.monotonic())
    }

    /// Whether readiness needs these keys.
    pub(super) fn required(&self) -> bool {
        self.settings.required
    }

    /// How the keys stand.
    pub(super) fn status(&self) -> KeySetStatus {
        let table = self.table.load();
        let now = self.surroundings.clock.monotonic();
        let flight = self.lock();
        KeySetStatus {
            issuer: self.settings.issuer.clone(),
            required: self.settings.required,
            usable: self.usable(),
            keys: table.as_ref().map_or(0, |table| table.len()),
            left_out: table
                .as_ref()
                .map_or_else(Vec::new, |table| table.left_out.clone()),
            age: flight.last_good.map(|at| now.saturating_duration_since(at)),
            last_error: flight.last_error.clone(),
            fetches: self.fetches.load(Ordering::Relaxed),
            fetch_errors: self.failures.load(Ordering::Relaxed),
        }
    }

    fn look(&self, kid: Option<&str>, now: Instant) -> Looked {
        if !self.lease.runs(now) {
            return Looked::NoKeys;
        }
        match &*self.table.load() {
            None => Looked::NoKeys,
            Some(table) => match table.find(kid) {
                Some(key) => Looked::Found(Arc::clone(key)),
                None => Looked::Unknown,
            },
        }
    }

    /// Why there is no such key.
    fn missing(&self, kid: Option<&str>) -> Denial {
        match self.look(kid, self.surroundings.clock.monotonic()) {
            Looked::NoKeys => Denial::KeysUnavailable(
                "the issuer's keys were never loaded, or are older than max_stale allows",
            ),
            Looked::Found(_) | Looked::Unknown if self.lock().failed_in_a_row > 0 => {
                Denial::KeysUnavailable(
                    "the token names an unknown key, and the issuer cannot be asked for new ones",
                )
            }
            Looked::Found(_) | Looked::Unknown => {
                Wrong(Fault::UnknownKey, "the issuer has no key of that id").into()
            }
        }
    }

    /// How long this request may still wait.
    fn patience(&self, began: Instant, arrival: &Arrival) -> Duration {
        let own = began + self.surroundings.key_wait;
        let end = arrival.deadline.map_or(own, |deadline| own.min(deadline));
        end.saturating_duration_since(self.surroundings.clock.monotonic())
    }

    /// Begins a fetch, or joins the one under way. `None`: it is too early to fetch for an unknown key again.
    fn begin(self: &Arc<Self>, why: Why) -> Option<watch::Receiver<u64>> {
        let now = self.surroundings.clock.monotonic();
        let mut flight = self.lock();
        // INVARIANT: taken under the lock that `Round::drop` takes before it announces, so no end is missed.
        let round = self.rounds.subscribe();
        if flight.running {
            return Some(round);
        }
        if why == Why::UnknownKey {
            if flight.next_miss.is_some_and(|next| now < next) {
                return None;
            }
            flight.next_miss = Some(now + self.settings.unknown_kid_interval.0);
        }
        flight.running = true;
        drop(flight);
        let running = Round(Arc::clone(self));
        self.surroundings.background.spawn(running.run());
        Some(round)
    }

    fn take_in(&self, fetched: Result<Vec<u8>, FetchError>) {
        let old = self.table.load_full();
        let algorithms = &self.settings.algorithms;
        let read =
            fetched.and_then(|text| KeyTable::read(&text, algorithms, old.as_deref(), &self.lease));
        match read {
            Ok(table) => self.accept(old.as_deref(), table),
            Err(error) => self.fail(&error),
        }
    }

    fn accept(&self, old: Option<&KeyTable>, table: KeyTable) {
        let now = self.surroundings.clock.monotonic();
        let table = Arc::new(table);
        self.table.store(Some(Arc::clone(&table)));
        // Before the lease is renewed, which would revive proofs by keys that are gone.
        if let Some(old) = old {
            old.withdraw_all_but(&table);
        }
        self.lease.renew(now + self.settings.max_stale.0);
        if old.is_none_or(|old| old.left_out != table.left_out) && !table.left_out.is_empty() {
            tracing::warn!(issuer = %self.settings.issuer, left_out = ?table.left_out, "keys were left out");
        }
        let mut flight = self.lock();
        flight.failed_in_a_row = 0;
        flight.last_error = None;
        flight.last_good = Some(now);
    }

    fn fail(&self, error: &FetchError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(issuer = %self.settings.issuer, %error, "keys could not be fetched");
        let mut flight = self.lock();
        flight.failed_in_a_row = flight.failed_in_a_row.saturating_add(1);
        flight.last_error = Some(error.to_string());
        drop(flight);
        self.troubled.notify_one();
    }

    /// The pause until the timer's next fetch: short after failures, else the interval, a tenth more or less, so that
    /// many instances do not ask at once.
    fn pause(&self) -> Duration {
        let usual = self.settings.refresh_interval.0;
        let usual = if self.fetcher.local() {
            usual.min(FILE_INTERVAL)
        } else {
            usual
        };
        let mut random = [128];
        // Without random bytes the pause is simply the middle one.
        let _kept = aws_lc_rs::rand::fill(&mut random);
        let [random] = random;
        let pause = match self.lock().failed_in_a_row {
            0 => usual,
            failed => FIRST_RETRY
                .saturating_mul(1 << (failed - 1).min(16))
                .min(LAST_RETRY)
                .min(usual),
        };
        pause.mul_f64(0.9 + 0.2 * f64::from(random) / 255.0)
    }

    fn lock(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one issuer's keys fresh until it is aborted. Runs on the background runtime.
pub(super) async fn keep_fresh(source: Arc<KeySource>) {
    loop {
        source.refresh().await;
        // A fetch for an unknown key that fails in between shortens the pause: its retry must not wait for the timer.
        loop {
            let pause = source.pause();
            tokio::select! {
                () = tokio::time::sleep(pause) => break,
                () = source.troubled.notified() => {}
            }
        }
    }
}

/// A fetch under way. However it ends (well, badly, by a panic, or with its runtime), whoever waits for it is told.
struct Round(Arc<KeySource>);

impl Round {
    async fn run(self) {
        self.0.fetches.fetch_add(1, Ordering::Relaxed);
        let fetched = self.0.fetcher.fetch().await;
        self.0.take_in(fetched);
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        let source = &self.0;
        let mut flight = source.lock();
        flight.running = false;
        source
            .rounds
            .send_modify(|count| *count = count.wrapping_add(1));
        drop(flight);
        let usable = source.usable() || !source.required();
        source.surroundings.ready.set(usable);
    }
}

#[cfg(test)]
mod tests;

//! What all lists of one issuer share: who signs them, how they are fetched, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use url::Url;

use super::super::fetch::{self, Access, FetchError, TIME_LIMIT};
use super::super::jwk::PublicKey;
use super::super::settings::{IssuerSettings, StatusListSettings};
use super::super::statement::{Signer, Unbelieved, Unproved};
use super::content::{Content, Terms, Unusable};
use super::reference::Reference;
use crate::model::Clock;

/// The type of lists, without `application/` (section 5.1).
const MEDIA_TYPE: &str = "statuslist+jwt";

/// What is asked for (section 8.1).
const ACCEPT: &str = "application/statuslist+jwt";

/// How many lists of one issuer are fetched at once: a list on its way needs several times its length. Each issuer has turns
/// of its own, so that a slow server keeps nobody else's lists waiting.
const AT_ONCE: usize = 4;

/// The first pause after a failed fetch; it doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The longest pause after failed fetches.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How many lists are read at once, of all issuers together: each computes for as long as it is, on a thread.
const READ_AT_ONCE: usize = 4;

/// The turns of all issuers' lists to be read.
pub(super) fn reading_turns() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(READ_AT_ONCE))
}

/// What one issuer's lists share.
#[derive(Debug)]
pub(super) struct Source {
    /// Whose tokens they are about.
    pub(super) issuer: String,
    pub(super) settings: StatusListSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) background: Handle,
    /// Somebody may want to know that a fetch ended.
    pub(super) landed: Notify,
    signer: Signer,
    /// What a list that has `iss` says there.
    named: String,
    skew: SignedDuration,
    access: Access,
    turns: Semaphore,
    /// Whose turn it is to be read, among all issuers' lists.
    pub(super) reading: Arc<Semaphore>,
    began: Instant,
    failures: AtomicU64,
}

/// Why a list cannot be had: a sentence for operators, which quotes no more than the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotHad {
    /// It cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is longer than a list of that length can be.
    #[error("the answer is longer than a list of `max_list_bytes` can be")]
    TooLong,
    /// It is not believed.
    #[error("the list {}", .0.as_str())]
    Unbelieved(Unbelieved),
    /// It is believed, and says nothing that can be used.
    #[error("the list {}", .0.0)]
    Unusable(Unusable),
    /// A newer one was had before.
    #[error("the list is older than the one that was fetched before")]
    Older,
    /// There was nobody left to read it.
    #[error("the list was not read: the program is ending")]
    Ending,
}

impl Source {
    pub(super) fn new(
        (tokens, settings): (&IssuerSettings, StatusListSettings),
        signer: Signer,
        (access, reading): (Access, Arc<Semaphore>),
        (clock, background): (Arc<dyn Clock>, Handle),
    ) -> Arc<Self> {
        Arc::new(Self {
            issuer: tokens.issuer.clone(),
            named: settings.name(tokens).to_owned(),
            skew: SignedDuration::try_from(tokens.clock_skew.0).unwrap_or_default(),
            began: clock.monotonic(),
            landed: Notify::new(),
            turns: Semaphore::new(AT_ONCE),
            failures: AtomicU64::new(0),
            reading,
            settings,
            signer,
            access,
            clock,
            background,
        })
    }

    /// Fetches a list and believes it, or not.
    ///
    /// # Errors
    /// What keeps it from being used.
    pub(super) async fn fetch(&self, reference: &Reference) -> Result<Content, NotHad> {
        let _turn = self.turns.acquire().await.map_err(|_| NotHad::Ending)?;
        let most = usize::try_from(self.settings.max_list_bytes).unwrap_or(usize::MAX);
        // In base64 twice (16/9), and where nothing can be packed, a little longer than before.
        let limit = most.saturating_mul(2).saturating_add(64 * 1024);
        let fetched = fetch::document(&self.access, &reference.url, ACCEPT, limit);
        let fetched = tokio::time::timeout(TIME_LIMIT, fetched).await;
        let text = fetched.unwrap_or(Err(FetchError::TooSlow))?;
        let text = text.ok_or(NotHad::TooLong)?;
        // It is as fresh as it came, however long it waits for its turn.
        let fetched = (self.clock.now(), self.clock.monotonic());
        let unproved = self.apart(move || Unproved::read(&text, MEDIA_TYPE));
        let unproved = unproved.await?.map_err(NotHad::Unbelieved)?;
        let ours = self.signer.recognise(&unproved, None);
        ours.map_err(NotHad::Unbelieved)?;
        let now = (self.clock.now(), self.clock.monotonic());
        let key = self.signer.key(&unproved, now.1 + TIME_LIMIT, now).await;
        let key = key.map_err(NotHad::Unbelieved)?;
        self.read((reference, most), (unproved, key), fetched).await
    }

    /// Believes what was read, or not. `most` is how long it may be, unpacked.
    async fn read(
        &self,
        (reference, most): (&Reference, usize),
        (unproved, key): (Unproved, Arc<PublicKey>),
        fetched: (Timestamp, Instant),
    ) -> Result<Content, NotHad> {
        let statement = self.apart(move || unproved.prove(&key)).await?;
        let statement = statement.map_err(NotHad::Unbelieved)?;
        let (uri, named) = (reference.uri.clone(), self.named.clone());
        let (skew, max_stale) = (self.skew, self.settings.max_stale.0);
        let max_age = self.max_age();
        let read = self.apart(move || {
            let terms = Terms {
                uri: &uri,
                issuer: &named,
                skew,
                max_stale,
                max_age,
                most,
            };
            Content::read(&statement, terms, fetched)
        });
        read.await?.map_err(NotHad::Unusable)
    }

    /// Computes beside this runtime, which others wait for, in its turn among all issuers' lists.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotHad> {
        let turn = Arc::clone(&self.reading).acquire_owned().await;
        let turn = turn.map_err(|_| NotHad::Ending)?;
        let working = tokio::task::spawn_blocking(move || {
            // Whoever gives up waiting does not end the work, nor its turn.
            let _turn = turn;
            work()
        });
        working.await.map_err(|_| NotHad::Ending)
    }

    /// How old a list may be by its own `iat`.
    pub(super) fn max_age(&self) -> SignedDuration {
        SignedDuration::try_from(self.settings.max_age.0).unwrap_or_default()
    }

    /// The pause until a list is fetched again: its own time to live within the settings' bounds, a tenth less at most, so
    /// that many instances do not ask at once.
    pub(super) fn pause(&self, ttl: Option<Duration>) -> Duration {
        let (least, most) = (self.settings.min_refresh.0, self.longest_pause());
        let pause = ttl.unwrap_or(most).min(most).max(least);
        sooner(pause, 0.1)
    }

    /// The pause after this many failed fetches in a row: it doubles, up to half less, so that neither the lists of one server
    /// nor many instances come back to it together.
    pub(super) fn rest(&self, failed: u32) -> Duration {
        let doubled = FIRST_RETRY.saturating_mul(1 << failed.saturating_sub(1).min(16));
        sooner(doubled.min(LAST_RETRY).min(self.longest_pause()), 0.5)
    }

    /// The longest pause between two fetches.
    pub(super) fn longest_pause(&self) -> Duration {
        self.settings.max_refresh.0
    }

    /// Notes that a list could not be had, and tells why unless that was `told`.
    pub(super) fn failed(&self, url: &Url, error: &NotHad, told: bool) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if !told {
            let list = fetch::name(url);
            tracing::warn!(
                issuer = %self.issuer, %list, %error,
                "a status list could not be fetched: it is tried again, and this is told once"
            );
        }
    }

    /// Tells that a list can be had again.
    pub(super) fn recovered(&self, url: &Url) {
        let list = fetch::name(url);
        tracing::info!(issuer = %self.issuer, %list, "a status list could be fetched again");
    }

    /// Fetches that failed since the start.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whole seconds since the source began.
    pub(super) fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs()
    }
}

/// A pause, less a random part of it: this share at most. Without random bytes it is simply whole.
fn sooner(pause: Duration, share: f64) -> Duration {
    let mut random = [0];
    let _kept = aws_lc_rs::rand::fill(&mut random);
    let [random] = random;
    pause.mul_f64(1.0 - share * f64::from(random) / 255.0)
}

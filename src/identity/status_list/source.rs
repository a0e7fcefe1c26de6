//! What all lists of one issuer share: who signs them, how they are fetched, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use url::Url;

use super::super::fetch::{self, Access, FetchError, TIME_LIMIT};
use super::super::settings::{IssuerSettings, StatusListSettings};
use super::super::statement::{Expected, Signer, Unbelieved};
use super::content::{Content, Terms, Unusable};
use super::reference::Reference;
use crate::model::Clock;

/// The type of lists, without `application/` (section 5.1).
const MEDIA_TYPE: &str = "statuslist+jwt";

/// What is asked for (section 8.1).
const ACCEPT: &str = "application/statuslist+jwt";

/// How many lists are fetched at once: a list on its way needs several times its length.
const AT_ONCE: usize = 4;

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
        tokens: &IssuerSettings,
        settings: StatusListSettings,
        signer: Signer,
        (access, clock, background): (Access, Arc<dyn Clock>, Handle),
    ) -> Arc<Self> {
        Arc::new(Self {
            issuer: tokens.issuer.clone(),
            named: settings.name(tokens).to_owned(),
            skew: SignedDuration::try_from(tokens.clock_skew.0).unwrap_or_default(),
            began: clock.monotonic(),
            landed: Notify::new(),
            turns: Semaphore::new(AT_ONCE),
            failures: AtomicU64::new(0),
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
        let now = (self.clock.now(), self.clock.monotonic());
        let expected = Expected {
            media_type: MEDIA_TYPE,
            audiences: None,
            until: now.1 + TIME_LIMIT,
        };
        let believed = self.signer.believe(&text, expected, now).await;
        let statement = believed.map_err(NotHad::Unbelieved)?;
        let (uri, named) = (reference.uri.clone(), self.named.clone());
        let (skew, max_stale) = (self.skew, self.settings.max_stale.0);
        let max_age = self.max_age();
        // Unpacking takes a while, and others wait for this runtime.
        let reading = tokio::task::spawn_blocking(move || {
            let terms = Terms {
                uri: &uri,
                issuer: &named,
                skew,
                max_stale,
                max_age,
                most,
            };
            Content::read(&statement, terms, now)
        });
        let read = reading.await.map_err(|_| NotHad::Ending)?;
        read.map_err(NotHad::Unusable)
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
        let mut random = [0];
        // Without random bytes the pause is simply whole.
        let _kept = aws_lc_rs::rand::fill(&mut random);
        let [random] = random;
        pause.mul_f64(1.0 - 0.1 * f64::from(random) / 255.0)
    }

    /// The longest pause between two fetches.
    pub(super) fn longest_pause(&self) -> Duration {
        self.settings.max_refresh.0
    }

    /// Notes that a list could not be had.
    pub(super) fn failed(&self, url: &Url, error: &NotHad) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let list = fetch::name(url);
        tracing::warn!(issuer = %self.issuer, %list, %error, "a status list could not be fetched");
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

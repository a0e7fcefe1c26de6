//! One server: what a token comes to there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::super::keys::{KeySource, Surroundings};
use super::super::scheme::{Prepared, Proof};
use super::super::settings::IntrospectionSettings;
use super::super::token::Wrong;
use super::answer::{Reader, Told};
use super::ask::Asker;
use super::client::Credentials;
use super::failure::{Complaints, Failure, Watch};
use super::flights::{Boarding, Flights, Landed, Landing, landed};
use super::holder::Judge;
use crate::model::{Arrival, ColdStep, CredentialFault as Fault, Problem};

/// How many questions may wait for their turn, for each that is asked.
const WAITING: usize = 16;

/// What a server is put into.
pub(super) struct Setting {
    pub(super) surroundings: Surroundings,
    pub(super) watch: Arc<Watch>,
    /// How many answers that a token is not good are remembered.
    pub(super) refused_capacity: u64,
}

/// A server that is asked about tokens.
#[derive(Debug)]
pub(super) struct Server {
    issuer: String,
    prefix: String,
    asker: Asker,
    reader: Reader,
    judge: Judge,
    flights: Arc<Flights>,
    turns: Semaphore,
    timeout: Duration,
    surroundings: Surroundings,
    watch: Arc<Watch>,
    complaints: Complaints,
}

impl Server {
    pub(super) fn new(
        settings: &IntrospectionSettings,
        setting: Setting,
        (credentials, keys): (Credentials, Option<Arc<KeySource>>),
    ) -> Result<Self, Problem> {
        let Setting {
            surroundings,
            watch,
            refused_capacity,
        } = setting;
        let reader = Reader::new(settings, keys, surroundings.clock.monotonic());
        let at_once = usize::from(settings.max_concurrent);
        let times = (settings.cap.0, settings.negative_ttl.0);
        let flights = Flights::new(at_once.saturating_mul(WAITING + 1), times, refused_capacity);
        let clock = Arc::clone(&surroundings.clock);
        Ok(Self {
            issuer: settings.issuer.clone(),
            prefix: settings.token_prefix.clone(),
            asker: Asker::new(settings, (credentials, reader.accept()), clock)?,
            reader,
            judge: Judge::new(settings),
            flights: flights.map_err(Problem::new)?,
            turns: Semaphore::new(at_once),
            timeout: settings.timeout.0,
            surroundings,
            watch,
            complaints: Complaints::default(),
        })
    }

    /// How the tokens begin that it is asked about.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The keys that sign its answers.
    pub(super) fn keys(&self) -> Option<Arc<KeySource>> {
        self.reader.keys().cloned()
    }

    /// Keeps to the files that the settings name, until the task is aborted.
    pub(super) fn keep_fresh(self: &Arc<Self>) -> AbortHandle {
        let server = Arc::clone(self);
        let background = &self.surroundings.background;
        let task = background.spawn(async move { server.asker.keep_fresh().await });
        task.abort_handle()
    }

    /// Finds out about a token, by asking at most once for all who want to know at the same time.
    pub(super) async fn gather<'a>(
        self: &'a Arc<Self>,
        token: &'a str,
        arrival: &'a Arrival,
    ) -> Prepared<'a> {
        let began = self.now();
        let digest = self.flights.digest(token);
        let waiting = match self.flights.board(digest, began) {
            Boarding::Landed(told) => return self.prepared(told, None, arrival),
            Boarding::Full => return self.saturated(),
            Boarding::Joined(waiting) => waiting,
            Boarding::First(waiting, landing) => {
                let flight = Arc::clone(self).fly(SecretString::from(token), landing);
                self.surroundings.background.spawn(flight);
                waiting
            }
        };
        let patience = self.patience(began, arrival);
        let end = tokio::time::timeout(patience, landed(waiting)).await;
        let waited = ColdStep {
            name: "introspect token",
            began,
            took: self.now().saturating_duration_since(began),
        };
        match end.unwrap_or(Err(Failure::TimedOut)) {
            Ok(told) => self.prepared(told, Some(waited), arrival),
            Err(failure) => Prepared {
                waited: Some(waited),
                proof: Err(failure.denial()),
            },
        }
    }

    fn prepared<'a>(
        self: &'a Arc<Self>,
        told: Arc<Told>,
        waited: Option<ColdStep>,
        arrival: &'a Arrival,
    ) -> Prepared<'a> {
        if told.holder.is_none() {
            let detail = "the server says that the token is not active";
            let proof = Err(Wrong(Fault::Inactive, detail).into());
            return Prepared { waited, proof };
        }
        let proof: Proof<'a> = Box::new(move || match &told.holder {
            Some(holder) => self.judge.judge((&told, holder), arrival.at),
            None => Err(Failure::Broken.denial()),
        });
        Prepared {
            waited,
            proof: Ok(proof),
        }
    }

    fn saturated<'a>(&self) -> Prepared<'a> {
        let failure = Failure::Saturated;
        self.watch.note(failure.outcome(), None);
        self.complaints.tell(&self.issuer, &failure, self.now());
        Prepared::refused(failure.denial())
    }

    /// A question from beginning to end. It runs on its own, so nobody who gives up waiting ends it for others.
    async fn fly(self: Arc<Self>, token: SecretString, landing: Landing) {
        let began = self.now();
        let end = self.ask(&token).await;
        let outcome = match &end {
            Ok(told) if told.holder.is_some() => "active",
            Ok(_) => "inactive",
            Err(failure) => {
                self.complaints.tell(&self.issuer, failure, self.now());
                failure.outcome()
            }
        };
        let took = self.now().saturating_duration_since(began);
        self.watch.note(outcome, Some(took));
        landing.land(end);
    }

    /// Waits for its turn and asks, both within `timeout`.
    async fn ask(&self, token: &SecretString) -> Landed {
        let began = self.now();
        let turn = tokio::time::timeout(self.timeout, self.turns.acquire()).await;
        let _turn = match turn {
            Ok(turn) => turn.map_err(|_| Failure::Broken)?,
            Err(_) => return Err(Failure::Saturated),
        };
        let until = began + self.timeout;
        let left = until.saturating_duration_since(self.now());
        tokio::time::timeout(left, self.exchange(token, until))
            .await
            .unwrap_or(Err(Failure::TimedOut))
    }

    async fn exchange(&self, token: &SecretString, until: Instant) -> Landed {
        let asked = (self.surroundings.clock.now(), self.now());
        let raw = self.asker.ask(token.expose_secret()).await?;
        let holder = self.reader.read(&raw, asked, until).await?;
        Ok(Arc::new(Told {
            asked_at: asked.0,
            asked: asked.1,
            landed: self.now(),
            holder,
        }))
    }

    /// How long this request may wait.
    fn patience(&self, began: Instant, arrival: &Arrival) -> Duration {
        let own = began + self.timeout;
        let end = arrival.deadline.map_or(own, |deadline| own.min(deadline));
        end.saturating_duration_since(self.now())
    }

    fn now(&self) -> Instant {
        self.surroundings.clock.monotonic()
    }
}

//! Passwords are checked here: beside the requests, few at a time, each once for all who ask at the same time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache as Moka;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::super::denial::Denial;
use super::super::digest::{Digest, Ready};
use super::super::ground::Ground;
use super::hash::Hash;

/// How long the outcome of a check is known here: for those who asked while it went on. Afterwards the cache knows it.
const KEPT: Duration = Duration::from_secs(5);

/// How many outcomes are known at once. More of them only means that one is checked twice.
const CAPACITY: u64 = 1024;

/// Whoever checks passwords.
pub(super) struct Verifier {
    background: Handle,
    /// Who is being checked, or waits for it.
    places: Arc<Semaphore>,
    /// Who is being checked.
    running: Arc<Semaphore>,
    flights: Moka<Digest, Arc<Flight>, Ready>,
    salt: [u8; 32],
}

/// One check, under way or done.
struct Flight {
    outcome: watch::Receiver<Option<bool>>,
    /// What the hash stands on.
    ground: Arc<Ground>,
}

impl Flight {
    /// Whether its outcome is the answer to this check: it stands on the same hash, and that is in force.
    fn serves(&self, check: &Check<'_>, now: Instant) -> bool {
        Arc::ptr_eq(&self.ground, check.ground) && self.ground.holds(now)
    }
}

/// One check to be made.
pub(super) struct Check<'a> {
    /// Name and password as they were sent.
    pub(super) credential: &'a [u8],
    /// The password.
    pub(super) password: SecretString,
    /// What it is checked against.
    pub(super) hash: &'a Hash,
    /// What the hash stands on.
    pub(super) ground: &'a Arc<Ground>,
}

impl Verifier {
    /// At most `concurrency` at a time, and `queue` more who wait.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub(super) fn new(
        (concurrency, queue): (u64, u64),
        background: Handle,
    ) -> Result<Self, &'static str> {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut salt = [0; 32];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| "the system gives no random bytes")?;
        Ok(Self {
            background,
            places: Arc::new(Semaphore::new(count(concurrency.saturating_add(queue)))),
            running: Arc::new(Semaphore::new(count(concurrency))),
            flights: Moka::builder()
                .max_capacity(CAPACITY)
                .time_to_live(KEPT)
                .build_with_hasher(Ready),
            salt,
        })
    }

    /// Whether it is the password. `admit` is asked where the check is not under way already.
    ///
    /// # Errors
    /// What `admit` said; where too many wait; where it is not done in `patience`, or the hash is no longer in force then.
    pub(super) async fn verify(
        &self,
        check: Check<'_>,
        (now, patience): (Instant, Duration),
        admit: impl Fn() -> Result<(), Denial>,
    ) -> Result<bool, Denial> {
        let digest = Digest(blake3::keyed_hash(&self.salt, check.credential));
        if let Some(flight) = self.flights.get(&digest)
            && !flight.serves(&check, now)
        {
            self.flights.invalidate(&digest);
        }
        // The closure runs once for all who come at the same time.
        let flight = self
            .flights
            .try_get_with(digest, || admit().and_then(|()| self.begin(&check)))
            .map_err(|denial| Denial::clone(&denial))?;
        let mut outcome = flight.outcome.clone();
        let known = outcome.wait_for(Option::is_some);
        let known = tokio::time::timeout(patience, known).await;
        let known = match known {
            Ok(Ok(known)) => *known == Some(true),
            Ok(Err(_)) => {
                self.flights.invalidate(&digest);
                return Err(Denial::Internal(
                    "a password's check ended without an outcome",
                ));
            }
            Err(_) => return Err(Denial::TooLate("the password was not checked in time")),
        };
        // Whoever came at the same time may have begun it with other users, and these may have changed meanwhile.
        if flight.serves(&check, now) {
            Ok(known)
        } else {
            Err(Denial::TooLate(
                "the users changed while the password was checked",
            ))
        }
    }

    fn begin(&self, check: &Check<'_>) -> Result<Arc<Flight>, Denial> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Denial::TooMany("too many passwords wait to be checked"))?;
        let (tell, outcome) = watch::channel(None);
        let (hash, password) = (check.hash.clone(), check.password.clone());
        let running = Arc::clone(&self.running);
        self.background.spawn(async move {
            // It is never closed; were it, whoever waits hears that there is no outcome.
            let Ok(turn) = running.acquire_owned().await else {
                return;
            };
            let check = move || {
                let known = hash.verify(password.expose_secret());
                // Before the next one begins, however this one ends.
                drop((turn, place));
                known
            };
            if let Ok(known) = tokio::task::spawn_blocking(check).await {
                tell.send_replace(Some(known));
            }
        });
        Ok(Arc::new(Flight {
            outcome,
            ground: Arc::clone(check.ground),
        }))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("free", &self.places.available_permits())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Verifier {
    /// Takes every place, as passwords under check would.
    pub(super) fn fill(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let free = u32::try_from(self.places.available_permits()).unwrap();
        Arc::clone(&self.places).try_acquire_many_owned(free).ok()
    }

    /// Keeps any check from beginning.
    pub(super) fn hold(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let free = u32::try_from(self.running.available_permits()).unwrap();
        Arc::clone(&self.running).try_acquire_many_owned(free).ok()
    }
}

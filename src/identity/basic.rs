//! User name and password (RFC 7617): a bridge for clients that can do nothing better, off unless it is configured.
//!
//! | file | does |
//! |---|---|
//! | `users` | the file: who there is, and what they are to policies |
//! | `hash` | password hashes, and what they must cost |
//! | `verify` | checks passwords beside the requests, few at a time, each once |
//! | `rate` | how many are checked in a time |
//!
//! A password costs tens of milliseconds to check, so it must not be checked where requests are answered, nor as often as
//! anybody likes. Whoever is refused by one of these bounds hears 429 or 503, and it is never remembered. A user that does
//! not exist costs the same as one with another password.

mod hash;
mod rate;
mod users;
mod verify;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;

use self::hash::Hash;
use self::rate::Meter;
use self::users::{MAX_NAME, User, Users};
use self::verify::{Check, Verifier};
use super::carried::{Carried, Presented, invalid, token68};
use super::denial::Denial;
use super::ground::Lease;
use super::scheme::{Prepared, Preparing, Proof, Proven, Scheme, SchemeName};
use super::settings::BasicSettings;
use super::watched::{self, Watched};
use crate::model::{
    Arrival, Clock, ColdStep, CredentialFault as Fault, Problem, Refusal, Scheme as UrlScheme,
};

/// The longest password, in bytes.
const MAX_PASSWORD: usize = 512;

/// The longest encoded credential that is read, in bytes.
const MAX_CREDENTIAL: usize = (MAX_NAME + 1 + MAX_PASSWORD).div_ceil(3) * 4;

/// The scheme.
#[derive(Debug)]
pub(super) struct Basic {
    directory: Arc<Directory>,
    verifier: Verifier,
    meter: Meter,
    allow_http: bool,
    wait: Duration,
    clock: Arc<dyn Clock>,
    _watched: Watched,
}

/// The users in force.
#[derive(Debug)]
struct Directory {
    users: ArcSwap<Users>,
    issuer: Arc<str>,
    lease: Arc<Lease>,
}

impl Basic {
    /// Reads the users, and watches their file on the background runtime.
    ///
    /// # Errors
    /// Everything that keeps the file from being used.
    pub(super) fn start(
        settings: &BasicSettings,
        clock: &Arc<dyn Clock>,
        background: &Handle,
    ) -> Result<Self, Vec<Problem>> {
        let bytes = watched::read(&settings.file).map_err(|problem| {
            vec![problem.hint("`cardea keys hash-password` makes the entry of a user")]
        })?;
        let lease = Lease::endless(clock.monotonic());
        let users = Users::read(&bytes, &settings.file, (&lease, None))?;
        let directory = Arc::new(Directory {
            users: ArcSwap::from_pointee(users),
            issuer: settings.issuer.as_str().into(),
            lease,
        });
        let one = |message: &'static str| vec![Problem::new(message)];
        let counts = (settings.max_attempts, settings.max_attempts_total);
        let (taker, path) = (Arc::clone(&directory), settings.file.clone());
        Ok(Self {
            verifier: Verifier::new((settings.concurrency, settings.queue), background.clone())
                .map_err(one)?,
            meter: Meter::new(counts, settings.window.0, clock.monotonic()).map_err(one)?,
            allow_http: settings.allow_http,
            wait: settings.wait.0,
            clock: Arc::clone(clock),
            _watched: watched::watch(
                (settings.file.clone(), &bytes),
                settings.poll.0,
                background,
                Box::new(move |bytes| taker.renew(bytes, &path)),
            ),
            directory,
        })
    }

    async fn gather<'a>(&'a self, credential: &'a [u8], arrival: &'a Arrival) -> Prepared<'a> {
        let began = self.clock.monotonic();
        let decoded = match decode(credential) {
            Ok(decoded) => decoded,
            Err(denial) => return Prepared::refused(denial),
        };
        let Some((name, password)) = decoded.expose_secret().split_once(':') else {
            let detail = "the credential holds no colon";
            return Prepared::refused(Denial::fault(Fault::Malformed, detail));
        };
        let users = self.directory.users.load_full();
        let (user, hash) = users.find(name);
        let ground = user.map_or(&users.ground, |user| &user.ground);
        let check = Check {
            credential,
            password: password.into(),
            hash,
            ground,
        };
        let admit = || {
            self.meter
                .admit(name.as_bytes(), began)
                .map_err(Denial::TooMany)
        };
        let patience = self.patience(arrival);
        let known = self.verifier.verify(check, (began, patience), admit).await;
        let took = self.clock.monotonic().saturating_duration_since(began);
        let waited = Some(ColdStep {
            name: "verify password",
            began,
            took,
        });
        let user = user.map(Arc::clone);
        let proof = known.map(|known| -> Proof<'a> {
            Box::new(move || self.judge(user.filter(|_| known), &users, arrival))
        });
        Prepared { waited, proof }
    }

    /// What became of it, once the password is known to be right (`user`) or not.
    fn judge(
        &self,
        user: Option<Arc<User>>,
        users: &Users,
        arrival: &Arrival,
    ) -> Result<Proven, Denial> {
        let Some(user) = user else {
            let detail = "there is no such user, or it is another password";
            return Err(Denial::by_key(Fault::Password, detail, &users.ground));
        };
        if user.disabled() {
            let detail = "the user is disabled";
            return Err(Denial::by_key(Fault::Revoked, detail, &user.ground));
        }
        let valid_until = user.expires_at();
        if arrival.at >= valid_until {
            let detail = "the user's time has come to an end";
            return Err(Denial::by_key(Fault::Expired, detail, &user.ground));
        }
        let attributes = user.attributes(&self.directory.issuer);
        Ok(Proven::new(
            attributes,
            valid_until,
            Arc::clone(&user.ground),
        ))
    }

    /// How long this request may still wait.
    fn patience(&self, arrival: &Arrival) -> Duration {
        let now = self.clock.monotonic();
        let own = now + self.wait;
        let end = arrival.deadline.map_or(own, |deadline| own.min(deadline));
        end.saturating_duration_since(now)
    }
}

impl Scheme for Basic {
    fn name(&self) -> SchemeName {
        SchemeName::Basic
    }

    fn find<'r>(&self, carried: &Carried<'r>) -> Result<Option<Presented<'r>>, Refusal> {
        let Some(credential) = carried.authorization("basic") else {
            return Ok(None);
        };
        if carried.request.scheme != UrlScheme::Https && !self.allow_http {
            let detail = "a password came over plain http, where anybody on the way could read it";
            return Err(invalid(Fault::Misplaced, detail));
        }
        if credential.len() > MAX_CREDENTIAL {
            return Err(invalid(Fault::TooLong, "the credential is too long"));
        }
        if !token68(credential) {
            return Err(invalid(Fault::Malformed, "the credential is no base64"));
        }
        Ok(Some(Presented::authorization(credential)))
    }

    fn prepare<'a>(&'a self, credential: &'a [u8], arrival: &'a Arrival) -> Preparing<'a> {
        Box::pin(self.gather(credential, arrival))
    }
}

impl Directory {
    /// Puts what the file holds now in force.
    fn renew(&self, bytes: &[u8], path: &Path) -> Result<(), Vec<Problem>> {
        let old = self.users.load_full();
        let new = Arc::new(Users::read(bytes, path, (&self.lease, Some(&old)))?);
        self.users.store(Arc::clone(&new));
        // Afterwards, so that nobody finds an old entry whose proofs are believed anew.
        old.withdraw_all_but(&new);
        tracing::info!(users = new.len(), "users were read again");
        Ok(())
    }
}

/// Name and password of a credential (RFC 7617, section 2): base64 in its one spelling, UTF-8, no control characters.
fn decode(credential: &[u8]) -> Result<SecretString, Denial> {
    let malformed = |detail| Denial::fault(Fault::Malformed, detail);
    let bytes = STANDARD
        .decode(credential)
        .map_err(|_| malformed("the credential is no base64"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| malformed("name and password are not UTF-8"))
        .map(SecretString::from)?;
    let shown = text.expose_secret();
    if shown.chars().any(char::is_control) {
        return Err(malformed("name or password holds a control character"));
    }
    let (name, password) = shown
        .split_once(':')
        .ok_or_else(|| malformed("the credential holds no colon"))?;
    if name.is_empty() || name.len() > MAX_NAME || password.len() > MAX_PASSWORD {
        return Err(malformed(
            "the name is empty, or name or password is too long",
        ));
    }
    Ok(text)
}

/// The Argon2id hash of a password, as the users' file holds it. It takes tens of milliseconds.
///
/// # Errors
/// Where it can be no password, or the system gives no random bytes.
pub fn hash_password(password: &SecretString) -> Result<String, Problem> {
    let text = password.expose_secret();
    let length = text.chars().count();
    if length < LEAST_PASSWORD || text.len() > MAX_PASSWORD {
        let message = format!(
            "a password must have {LEAST_PASSWORD} characters, and at most {MAX_PASSWORD} bytes"
        );
        return Err(Problem::new(message));
    }
    if text.chars().any(char::is_control) {
        return Err(Problem::new(
            "a password must not hold control characters (RFC 7617, section 2)",
        ));
    }
    Hash::of(text)
        .map(|hash| hash.to_string())
        .map_err(Problem::new)
}

/// The fewest characters of a password that is made here: programs use it, and none has to remember it.
const LEAST_PASSWORD: usize = 12;

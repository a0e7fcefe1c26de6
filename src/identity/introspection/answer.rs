//! Strict reading of answers: plain JSON (RFC 7662, section 2.2), or signed (RFC 9701, section 5).
//!
//! Whatever is not clearly yes or no is a failure of the server. An answer has one reading: no member twice, `active` a
//! boolean, and a media type that says which kind of answer it is.

use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::super::ground::{Ground, Lease};
use super::super::keys::KeySource;
use super::super::settings::{IntrospectionSettings, SignedAnswers};
use super::super::statement::{Expected, Signer, Statement};
use super::failure::Failure;
use crate::model::json;

/// The media type of plain answers.
pub(super) const PLAIN: &str = "application/json";

/// The media type of signed answers, and the end of their `typ`.
pub(super) const SIGNED: &str = "application/token-introspection+jwt";

/// How old a signed answer may be beyond the clock skew, so that no cache on the way can serve yesterday's.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(60);

/// What a server said of a token.
#[derive(Debug)]
pub(super) struct Told {
    /// When it was asked, by the wall clock: what it said holds from then on, at the earliest.
    pub(super) asked_at: Timestamp,
    /// The same by the monotonic clock.
    pub(super) asked: Instant,
    /// When the answer was read.
    pub(super) landed: Instant,
    /// Who holds the token; `None` where it is not good.
    pub(super) holder: Option<Holder>,
}

/// Who holds a token, by an answer that was read and not yet judged.
pub(super) struct Holder {
    /// The members of the answer.
    pub(super) claims: Map<String, Value>,
    /// What the answer stands on.
    pub(super) ground: Arc<Ground>,
}

/// It shows nothing of the answer.
impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holder").finish_non_exhaustive()
    }
}

/// An answer as it came.
pub(super) struct Raw {
    /// The content type, in lower case and without parameters.
    pub(super) media_type: String,
    pub(super) text: Vec<u8>,
}

/// Reads one server's answers.
#[derive(Debug)]
pub(super) struct Reader {
    /// Whom a signed answer may be for: us, as a client or as an audience.
    recipients: Vec<String>,
    signed: SignedAnswers,
    skew: SignedDuration,
    signer: Option<Signer>,
    ground: Arc<Ground>,
}

impl Reader {
    pub(super) fn new(
        settings: &IntrospectionSettings,
        keys: Option<Arc<KeySource>>,
        epoch: Instant,
    ) -> Self {
        let mut recipients = settings.audiences.clone();
        recipients.push(settings.client.id.clone());
        Self {
            recipients,
            signed: settings.signed_answers,
            skew: SignedDuration::try_from(settings.clock_skew.0).unwrap_or_default(),
            signer: keys.map(|keys| Signer {
                issuer: Some(settings.issuer.clone()),
                keys,
            }),
            ground: Ground::under(&Lease::endless(epoch)),
        }
    }

    /// The keys of signed answers.
    pub(super) fn keys(&self) -> Option<&Arc<KeySource>> {
        self.signer.as_ref().map(|signer| &signer.keys)
    }

    /// What the server is asked to answer with.
    pub(super) fn accept(&self) -> &'static str {
        match self.signed {
            SignedAnswers::Off => PLAIN,
            SignedAnswers::Required => SIGNED,
            SignedAnswers::Accepted => {
                "application/token-introspection+jwt, application/json;q=0.5"
            }
        }
    }

    /// Reads an answer to a question of `asked` (wall clock and monotonic); keys are waited for until `until`.
    ///
    /// # Errors
    /// [`Failure`] for everything but a clear yes or no.
    pub(super) async fn read(
        &self,
        raw: &Raw,
        asked: (Timestamp, Instant),
        until: Instant,
    ) -> Result<Option<Holder>, Failure> {
        let (claims, ground) = match (&*raw.media_type, self.signed, &self.signer) {
            (PLAIN, SignedAnswers::Off | SignedAnswers::Accepted, _) => {
                (object(&raw.text)?, Arc::clone(&self.ground))
            }
            (SIGNED, SignedAnswers::Required | SignedAnswers::Accepted, Some(signer)) => {
                self.unwrap(signer, &raw.text, (asked, until)).await?
            }
            (PLAIN, SignedAnswers::Required, _) => {
                return Err(Failure::Untrusted("is not signed, and has to be"));
            }
            _ => {
                return Err(Failure::Unreadable(
                    "is of another media type than asked for",
                ));
            }
        };
        match claims.get("active") {
            Some(Value::Bool(true)) => Ok(Some(Holder { claims, ground })),
            Some(Value::Bool(false)) => Ok(None),
            _ => Err(Failure::Unreadable(
                "does not say by a boolean whether the token is active",
            )),
        }
    }

    /// The answer within a signed one.
    async fn unwrap(
        &self,
        signer: &Signer,
        text: &[u8],
        ((at, started), until): ((Timestamp, Instant), Instant),
    ) -> Result<(Map<String, Value>, Arc<Ground>), Failure> {
        let (_, media_type) = SIGNED.split_once('/').unwrap_or_default();
        let expected = Expected {
            media_type,
            audiences: Some(&self.recipients),
            until,
        };
        let statement = signer.believe(text, expected, (at, started)).await;
        let mut statement = statement.map_err(|why| Failure::Untrusted(why.as_str()))?;
        self.check_age(&statement, at)?;
        match statement.claims.remove("token_introspection") {
            Some(Value::Object(claims)) => Ok((claims, statement.ground)),
            _ => Err(Failure::Untrusted("has no `token_introspection`")),
        }
    }

    fn check_age(&self, statement: &Statement, now: Timestamp) -> Result<(), Failure> {
        let made = statement.claims.get("iat").and_then(Value::as_i64);
        let made = made.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let age = made.map(|made| now.duration_since(made));
        if age.is_none_or(|age| age > MAX_AGE + self.skew || age < -MAX_AGE - self.skew) {
            return Err(Failure::Untrusted("has no `iat`, or one of another time"));
        }
        Ok(())
    }
}

fn object(text: &[u8]) -> Result<Map<String, Value>, Failure> {
    json::parse_object(text)
        .map_err(|_| Failure::Unreadable("is not one JSON object with one reading"))
}

//! The question: where it is asked, how, and with which limits.
//!
//! Whatever answers is taken for hostile: 64 KiB are read at most, only status 200 counts, redirects are not followed, and
//! the time is bounded by whoever asks.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Response};
use tokio::sync::Mutex;
use url::Url;
use url::form_urlencoded::Serializer;

use super::super::fetch::{self, introspection_endpoint, key_url, name, root_cause};
use super::super::settings::{ClientAuth, IntrospectionSettings};
use super::answer::Raw;
use super::client::Credentials;
use super::failure::Failure;
use crate::model::{Clock, Problem};

/// The longest answer that is read.
const SIZE_LIMIT: usize = 64 * 1024;

/// How long an endpoint that discovery named is used before it is looked for again.
const FOUND_FOR: Duration = Duration::from_secs(60 * 60);

/// The pause after the discovery document could not be had, where there is an endpoint from earlier.
const SOUGHT_AGAIN: Duration = Duration::from_secs(60);

/// How often files are looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(10);

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Asks one server.
#[derive(Debug)]
pub(super) struct Asker {
    settings: IntrospectionSettings,
    credentials: ArcSwap<Credentials>,
    place: Place,
    accept: HeaderValue,
    clock: Arc<dyn Clock>,
    told: Told,
}

/// What is wrong with the files, as it was told last: once, and not at each look.
#[derive(Debug, Default)]
struct Told(std::sync::Mutex<Option<String>>);

impl Told {
    /// Takes note of what is wrong now. Whether that is something else than before.
    fn changes(&self, problem: Option<String>) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *last != problem;
        *last = problem;
        changed
    }
}

enum Place {
    Known(Url),
    /// The endpoint that discovery named, and when to look for it again. One looks, the others wait for it.
    Discovered(Mutex<Option<(Url, Instant)>>),
}

/// Shows no query.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(url) => f.debug_tuple("Known").field(&name(url)).finish(),
            Self::Discovered(_) => f.write_str("Discovered"),
        }
    }
}

impl Asker {
    /// # Errors
    /// Where the settings name a URL that may not be asked.
    pub(super) fn new(
        settings: &IntrospectionSettings,
        (credentials, accept): (Credentials, &'static str),
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Problem> {
        let place = match &settings.endpoint {
            None => Place::Discovered(Mutex::default()),
            Some(endpoint) => Place::Known(
                key_url(endpoint)
                    .map_err(|error| Problem::new(format!("the URL `endpoint` {error}")))?,
            ),
        };
        Ok(Self {
            settings: settings.clone(),
            credentials: ArcSwap::from_pointee(credentials),
            place,
            accept: HeaderValue::from_static(accept),
            clock,
            told: Told::default(),
        })
    }

    /// Asks about a token.
    ///
    /// # Errors
    /// [`Failure`] where there is no answer to read.
    pub(super) async fn ask(&self, token: &str) -> Result<Raw, Failure> {
        let credentials = self.credentials.load_full();
        let url = self.endpoint(&credentials).await?;
        let question = self.question(token, &url, &credentials)?;
        let answer = question.send().await;
        let answer = answer.map_err(|error| unreachable(&url, error))?;
        if answer.status().as_u16() != 200 {
            return Err(Failure::Status(answer.status().as_u16()));
        }
        let media_type = media_type(&answer);
        let text = fetch::body(answer, SIZE_LIMIT).await;
        let text = text.map_err(|error| unreachable(&url, error))?;
        let text = text.ok_or(Failure::Unreadable("is longer than 64 KiB"))?;
        Ok(Raw { media_type, text })
    }

    fn question(
        &self,
        token: &str,
        url: &Url,
        credentials: &Credentials,
    ) -> Result<RequestBuilder, Failure> {
        let mut form = Serializer::new(String::new());
        // RFC 7662, section 2.1: the hint is no more than that. What kind of token it is, the answer has to say.
        form.append_pair("token", token);
        form.append_pair("token_type_hint", "access_token");
        let request = credentials
            .http()
            .post(url.clone())
            .header(ACCEPT, &self.accept)
            .header(CONTENT_TYPE, FORM);
        let request = credentials.prove(request, &mut form, self.clock.now())?;
        Ok(request.body(form.finish()))
    }

    async fn endpoint(&self, credentials: &Credentials) -> Result<Url, Failure> {
        let found = match &self.place {
            Place::Known(url) => return Ok(url.clone()),
            Place::Discovered(found) => found,
        };
        let mut found = found.lock().await;
        let now = self.clock.monotonic();
        if let Some((url, until)) = &*found
            && now < *until
        {
            return Ok(url.clone());
        }
        let mutual = self.mutual();
        let sought =
            introspection_endpoint(credentials.plain(), &self.settings.issuer, mutual).await;
        let next = match (sought, found.take()) {
            (Ok(url), _) if mutual && url.scheme() != "https" => {
                let why = "its discovery document names no https endpoint for client certificates";
                return Err(Failure::Unreachable(why.to_owned()));
            }
            (Ok(url), _) => (url, now + FOUND_FOR),
            (Err(_), Some((old, _))) => (old, now + SOUGHT_AGAIN),
            (Err(error), None) => return Err(Failure::Unreachable(error.to_string())),
        };
        let (url, _) = found.insert(next);
        Ok(url.clone())
    }

    fn mutual(&self) -> bool {
        let auth = &self.settings.client.auth;
        matches!(auth, Some(ClientAuth::TlsClientAuth { .. }))
    }

    /// Keeps to the files that the settings name, until it is aborted.
    pub(super) async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(FILE_INTERVAL).await;
            self.look_again().await;
        }
    }

    /// Takes up secrets, keys and certificates that changed. Those that cannot be read leave the old ones in force.
    pub(super) async fn look_again(&self) {
        let settings = self.settings.clone();
        let read = tokio::task::spawn_blocking(move || Credentials::load(&settings)).await;
        let issuer = &self.settings.issuer;
        match read {
            Ok(Ok(fresh)) => {
                self.told.changes(None);
                if fresh.differ(&self.credentials.load()) {
                    self.credentials.store(Arc::new(fresh));
                    tracing::info!(%issuer, "what proves us to the server is new");
                }
            }
            Ok(Err(problem)) => {
                if self.told.changes(Some(problem.to_string())) {
                    tracing::warn!(%issuer, %problem, "what proves us to the server cannot be read again");
                }
            }
            Err(_) => {}
        }
    }
}

fn unreachable(url: &Url, error: reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::TimedOut;
    }
    let cause = root_cause(&error.without_url());
    Failure::Unreachable(format!("`{}` cannot be reached: {cause}", name(url)))
}

/// The content type without its parameters; empty where there is none, or several.
fn media_type(answer: &Response) -> String {
    let mut values = answer.headers().get_all(CONTENT_TYPE).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    let value = value
        .filter(|_| values.next().is_none())
        .unwrap_or_default();
    let (kind, _) = value.split_once(';').unwrap_or((value, ""));
    kind.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_files_is_told_once_until_it_changes() {
        let told = Told::default();
        let wrong = |what: &str| Some(what.to_owned());
        assert!(!told.changes(None));
        assert!(told.changes(wrong("it is gone")));
        assert!(!told.changes(wrong("it is gone")));
        assert!(told.changes(wrong("it is empty")));
        assert!(told.changes(None));
        assert!(told.changes(wrong("it is empty")), "it was well in between");
    }
}

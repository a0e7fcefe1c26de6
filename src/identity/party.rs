//! Parties beside the issuers of credentials whose signed statements are believed, such as transmitters of security events.
//!
//! Other rooms hand in a text and are given what it says, or why it is not believed. Keys are fetched and kept as those of
//! issuers are, and readiness never waits for them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use url::Url;

use super::fetch::{self, Fetcher, name, root_cause, ssf_document};
use super::keys::{KeySetStatus, KeySource, Surroundings, keep_fresh};
use super::ready::Readiness;
use super::settings::{Algorithm, IssuerSettings, KeyPlace};
use super::statement::{Expected, Signer, Unbelieved};
use super::{install_crypto, watched};
use crate::model::{Clock, Problem};

/// How long one statement may wait for a key that is being fetched.
const KEY_WAIT: Duration = Duration::from_secs(5);

/// Who signs, and where its keys are.
#[derive(Debug, Clone)]
pub struct PartySettings {
    /// The exact text of `iss`.
    pub issuer: String,
    /// Where its keys are. By discovery means by its `/.well-known/ssf-configuration`.
    pub keys: KeyPlace,
    /// The algorithms accepted.
    pub algorithms: Vec<Algorithm>,
    /// The certificates (PEM) of the authorities that may vouch for its servers, in place of the system's.
    pub ca_file: Option<PathBuf>,
}

/// What one of a party's servers is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Where: see [`crate::model::remote_url`].
    pub url: &'a Url,
    /// The bearer token to show.
    pub token: Option<&'a SecretString>,
    /// What to say.
    pub body: &'a Value,
    /// How long it may take in all.
    pub timeout: Duration,
    /// How many bytes of an answer are read.
    pub longest: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The server was reached, and said nothing in the time it was given.
    #[error("`{0}` does not answer in time")]
    Silent(String),
    /// A sentence for operators. It holds no secret.
    #[error("{0}")]
    Failed(String),
}

/// What a server says.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// It shows nothing of what was said.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A party whose statements are believed.
pub struct Party {
    signer: Signer,
    issuer: String,
    client: Client,
    clock: Arc<dyn Clock>,
    task: AbortHandle,
}

impl Party {
    /// Starts to keep its keys, on the `background` runtime. It blocks to read the file of authorities, so call it at start.
    ///
    /// # Errors
    /// A URL that may not be asked, authorities that cannot be read, or TLS that cannot be set up.
    pub fn start(
        settings: &PartySettings,
        clock: Arc<dyn Clock>,
        background: &Handle,
    ) -> Result<Self, Problem> {
        install_crypto();
        let client = client(settings)?;
        let keys = IssuerSettings {
            issuer: settings.issuer.clone(),
            keys: settings.keys.clone(),
            algorithms: settings.algorithms.clone(),
            required: false,
            ..IssuerSettings::default()
        };
        let fetcher = match &settings.keys {
            KeyPlace::Discovery => ssf_document(&settings.issuer)
                .map(|document| Fetcher::by_document(&keys, document, client.clone())),
            KeyPlace::JwksUrl(_) | KeyPlace::JwksFile(_) => Fetcher::new(&keys, client.clone()),
        };
        let fetcher = fetcher.map_err(|error| {
            Problem::new(format!(
                "the keys of `{}` cannot be fetched: the URL {error}",
                settings.issuer
            ))
        })?;
        let surroundings = Surroundings {
            clock: Arc::clone(&clock),
            background: background.clone(),
            key_wait: KEY_WAIT,
            ready: Readiness::new([true]).slot(0),
        };
        let keys = KeySource::new(keys, fetcher, surroundings);
        let task = background.spawn(keep_fresh(Arc::clone(&keys)));
        Ok(Self {
            task: task.abort_handle(),
            issuer: settings.issuer.clone(),
            signer: Signer {
                issuer: Some(settings.issuer.clone()),
                keys,
            },
            client,
            clock,
        })
    }

    /// Believes a statement of that type for one of these audiences, or not. Whoever asks has bounded its length.
    ///
    /// # Errors
    /// [`Unbelieved`] for everything that is not certainly this party's statement, for us.
    pub async fn believe(
        &self,
        text: &[u8],
        media_type: &str,
        audiences: &[String],
    ) -> Result<Map<String, Value>, Unbelieved> {
        let now = (self.clock.now(), self.clock.monotonic());
        let expected = Expected {
            media_type,
            audiences: Some(audiences),
            until: now.1 + KEY_WAIT,
        };
        let believed = self.signer.believe(text, expected, now).await;
        believed.map(|statement| statement.claims)
    }

    /// A URL that its `/.well-known/ssf-configuration` names, asked for now.
    ///
    /// # Errors
    /// A sentence for operators, where it cannot be had.
    pub async fn endpoint(&self, member: &'static str) -> Result<Url, String> {
        let document = ssf_document(&self.issuer).map_err(|error| error.to_string())?;
        let place = (self.issuer.as_str(), &document);
        let asked = fetch::endpoint(&self.client, place, member).await;
        asked.map_err(|error| error.to_string())
    }

    /// Asks one of its servers. Whatever answers is taken for hostile: redirects are not followed, and time and size are
    /// bounded.
    ///
    /// # Errors
    /// [`NoAnswer`] where there is no answer to read.
    pub async fn post(&self, question: Question<'_>) -> Result<Answer, NoAnswer> {
        let url = question.url;
        let broken = |error: reqwest::Error| {
            let cause = root_cause(&error.without_url());
            NoAnswer::Failed(format!("`{}` cannot be reached: {cause}", name(url)))
        };
        let mut asked = self
            .client
            .post(url.clone())
            .timeout(question.timeout)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            // RFC 8936, section 2.4: what we say is wrong with an event is in English.
            .header(CONTENT_LANGUAGE, "en")
            .body(question.body.to_string());
        if let Some(token) = question.token {
            let value = format!("Bearer {}", token.expose_secret());
            let value = HeaderValue::try_from(value);
            let unfit = |_| NoAnswer::Failed("the token is no text for a header".to_owned());
            let mut value = value.map_err(unfit)?;
            value.set_sensitive(true);
            asked = asked.header(AUTHORIZATION, value);
        }
        let answer = asked.send().await.map_err(|error| {
            if error.is_timeout() && !error.is_connect() {
                NoAnswer::Silent(name(url))
            } else {
                broken(error)
            }
        })?;
        let status = answer.status().as_u16();
        let body = fetch::body(answer, question.longest)
            .await
            .map_err(broken)?;
        let longer = || {
            let why = format!("`{}` answers with more than is read", name(url));
            NoAnswer::Failed(why)
        };
        Ok(Answer {
            status,
            body: body.ok_or_else(longer)?,
        })
    }

    /// How its keys stand.
    #[must_use]
    pub fn keys(&self) -> KeySetStatus {
        self.signer.keys.status()
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

fn client(settings: &PartySettings) -> Result<Client, Problem> {
    let mut builder = fetch::builder().pool_max_idle_per_host(1);
    if let Some(path) = &settings.ca_file {
        let found = Certificate::from_pem_bundle(&watched::read(path)?);
        let found = found.ok().filter(|found| !found.is_empty());
        let missing = || Problem::new("the file holds no certificate in PEM").in_file(path);
        builder = builder.tls_certs_only(found.ok_or_else(missing)?);
    }
    builder
        .build()
        .map_err(|error| Problem::new(format!("TLS cannot be set up: {error}")))
}

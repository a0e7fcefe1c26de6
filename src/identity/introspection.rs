//! Opaque bearer tokens, which only the server that gave them out can read: it is asked (RFC 7662, RFC 9701).
//!
//! ```text
//! token ▶ which server ▶ told a moment ago? ▶ join the question under way, or ask ▶ read the answer ▶ its claims ▶ Proven
//! ```
//!
//! | file | does |
//! |---|---|
//! | `server` | one server: what a token comes to there |
//! | `flights` | one question at a time about a token, and what was answered a moment ago |
//! | `ask` | the question: where, how, with which limits |
//! | `client` | how we prove to the server who asks |
//! | `answer` | strict reading of answers, plain and signed |
//! | `holder` | what an answer says of the token's holder |
//! | `failure` | why there is no answer, and who is told of it |
//!
//! A server that does not answer, or answers anything else than a clear yes or no, proves nothing: the request is refused
//! with 503, and nothing is remembered. Questions run on the background runtime, so whoever gives up waiting takes the
//! answer from nobody.

mod answer;
mod ask;
mod client;
mod failure;
mod flights;
mod holder;
mod server;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::task::AbortHandle;

use self::client::Credentials;
use self::server::{Server, Setting};
use super::bearer::{bearer, looks_like_jwt};
use super::carried::{Carried, Presented};
use super::fetch::Fetcher;
use super::keys::{KeySource, Surroundings};
use super::scheme::{Prepared, Preparing, Scheme, SchemeName};
use super::settings::{IntrospectionSettings, Settings, SignedAnswers};
use super::token::Wrong;
use crate::model::{Arrival, CredentialFault as Fault, Problem, Refusal};

pub(super) use failure::Watch;

/// The scheme, with all its servers.
#[derive(Debug)]
pub(super) struct Introspection {
    /// The longest beginning first, so that the first that fits counts.
    servers: Vec<Arc<Server>>,
    tasks: Vec<AbortHandle>,
}

impl Introspection {
    /// The scheme with these servers; `watch` is told of every question. Reads the secrets and files that the settings
    /// name. `Surroundings` are those of the keys that sign answers.
    ///
    /// # Errors
    /// Everything that keeps a server from being asked.
    pub(super) fn start(
        settings: &Settings,
        surroundings: impl Fn(usize) -> Surroundings,
        watch: &Arc<Watch>,
    ) -> Result<Self, Vec<Problem>> {
        let mut servers = Vec::new();
        let mut problems = Vec::new();
        for (index, server) in settings.introspection.iter().enumerate() {
            let setting = Setting {
                surroundings: surroundings(index),
                watch: Arc::clone(watch),
                refused_capacity: settings.cache.refused_capacity,
            };
            match open(server, setting) {
                Ok(server) => servers.push(Arc::new(server)),
                Err(problem) => problems.push(Problem::new(format!(
                    "`identity.introspection[{index}]`: {problem}"
                ))),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        servers.sort_by_key(|server| std::cmp::Reverse(server.prefix().len()));
        let tasks = servers.iter().map(Server::keep_fresh).collect();
        Ok(Self { servers, tasks })
    }

    /// The keys that sign the servers' answers, where answers are signed.
    pub(super) fn sources(&self) -> impl Iterator<Item = Arc<KeySource>> {
        self.servers.iter().filter_map(|server| server.keys())
    }

    fn server(&self, token: &str) -> Option<&Arc<Server>> {
        let asked = |server: &&Arc<Server>| token.starts_with(server.prefix());
        self.servers.iter().find(asked)
    }

    async fn gather<'a>(&'a self, token: &'a [u8], arrival: &'a Arrival) -> Prepared<'a> {
        let Ok(token) = std::str::from_utf8(token) else {
            return Prepared::refused(Wrong(Fault::NotAToken, "the token is no text").into());
        };
        match self.server(token) {
            Some(server) => server.gather(token, arrival).await,
            None => Prepared::refused(
                Wrong(
                    Fault::Issuer,
                    "no server is configured for tokens that begin like that",
                )
                .into(),
            ),
        }
    }
}

impl Drop for Introspection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Scheme for Introspection {
    fn name(&self) -> SchemeName {
        SchemeName::Introspection
    }

    fn find<'r>(&self, carried: &Carried<'r>) -> Result<Option<Presented<'r>>, Refusal> {
        let token = bearer(carried)?.filter(|token| !looks_like_jwt(token));
        Ok(token.map(Presented::authorization))
    }

    fn prepare<'a>(&'a self, credential: &'a [u8], arrival: &'a Arrival) -> Preparing<'a> {
        Box::pin(self.gather(credential, arrival))
    }
}

/// Which servers keep keys of signed answers, and whether readiness waits for those.
pub(super) fn key_holders(settings: &Settings) -> impl Iterator<Item = bool> {
    let servers = settings.introspection.iter();
    servers.map(|server| server.signed_answers == SignedAnswers::Required)
}

fn open(settings: &IntrospectionSettings, setting: Setting) -> Result<Server, Problem> {
    let credentials = Credentials::load(settings)?;
    let keys = match settings.signed_answers {
        SignedAnswers::Off => None,
        SignedAnswers::Accepted | SignedAnswers::Required => {
            let issuer = settings.as_issuer();
            let fetcher = Fetcher::new(&issuer, credentials.plain().clone())
                .map_err(|error| Problem::new(format!("the URL of its keys {error}")))?;
            Some(KeySource::new(
                issuer,
                fetcher,
                setting.surroundings.clone(),
            ))
        }
    };
    Server::new(settings, setting, (credentials, keys))
}

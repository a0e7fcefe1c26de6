//! The admin endpoint: what probes, Prometheus and people on the machine read.
//!
//! It listens on loopback by default, and knows no other room: the application hands in a function for each answer
//! ([`Views`]). It changes nothing but revocations, and those only for callers with the secret of `admin.token`; without
//! that setting such calls are off. It runs on the background runtime, so that reading statistics never delays a decision, and
//! each connection is bounded in number, in time and in size.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::model::{Period, Problem, SecretRef};
use crate::web::{self, Bounds};

mod changes;
mod routes;

pub use changes::{Changed, Changing, Outcome, RevocationCalls};

use changes::Secret;

/// Where the admin endpoint listens, and its bounds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The address. Loopback unless something on another machine has to read it: reading needs no authentication, and
    /// metrics tell how an API is used. In a mesh, prefer its own way to expose a port.
    pub address: SocketAddr,
    /// The secret that calls under `/revocations` need, as a bearer token of at least 16 characters. They are off without
    /// it. It is read at start.
    pub token: Option<SecretRef>,
    /// How many connections are served at once. More wait to be accepted.
    pub connections: usize,
    /// How long a client may take to send the head of a request.
    pub header_timeout: Period,
    /// How long one connection may stay open.
    pub connection_lifetime: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9192)),
            token: None,
            connections: 64,
            header_timeout: Period::seconds(5),
            connection_lifetime: Period::seconds(300),
        }
    }
}

impl Settings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let (short, day) = (Period::millis(10), Period::seconds(24 * 60 * 60));
        let (head, life) = (self.header_timeout, self.connection_lifetime);
        [
            Problem::out_of_bounds("admin.connections", self.connections, 1..=10_000),
            Problem::out_of_bounds("admin.header_timeout", head, short..=Period::seconds(60)),
            Problem::out_of_bounds("admin.connection_lifetime", life, short..=day),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            connections: self.connections,
            header_timeout: self.header_timeout.0,
            connection_lifetime: self.connection_lifetime.0,
        }
    }
}

/// Whether checks can be answered by policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// They can.
    Ready,
    /// They cannot, for these reasons, in words for operators. No reason is a reason too.
    NotReady(Vec<String>),
}

/// Where the endpoint's answers come from. Each is called once a request and should take milliseconds at most.
#[derive(Clone)]
pub struct Views {
    /// For `/ready`.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// For `/metrics`: the Prometheus text format, version 0.0.4.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// For `/shadow`: what shadow policies and the candidate bundle would have decided otherwise.
    pub shadow: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// For `/revocations`.
    pub revocations: RevocationCalls,
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").finish_non_exhaustive()
    }
}

/// The endpoint, bound and not yet serving.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    settings: Settings,
    secret: Option<Secret>,
    views: Views,
}

impl Admin {
    /// Binds the address, so that a port that is taken is known before anything is served.
    ///
    /// # Errors
    /// Every mistake in the settings, or an address that cannot be bound.
    pub async fn bind(settings: &Settings, views: Views) -> Result<Self, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let secret = settings.token.as_ref().map(Secret::resolve).transpose();
        let secret = secret.map_err(|problem| vec![problem])?;
        let address = settings.address;
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let message = format!("the admin endpoint cannot listen on `{address}`: {error}");
            vec![Problem::new(message).hint("set `admin.address` to a free address")]
        })?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "the admin endpoint can be reached from other machines, and reading it needs no secret"
            );
        }
        Ok(Self {
            listener,
            settings: settings.clone(),
            secret,
            views,
        })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// Where the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled, then lets requests under way finish, for two seconds at most.
    pub async fn serve(self, stop: CancellationToken) {
        let routes = routes::all(self.views, self.secret);
        web::serve(self.listener, self.settings.bounds(), routes, stop).await;
    }
}

#[cfg(test)]
mod tests;

//! The public endpoint: what other services fetch from Cardea and send to it.
//!
//! It is off unless `public.address` is set, and then offers only what is configured. It knows no other room: the
//! application hands in a function for each answer ([`Services`]). Who may use a service is that service's own check. It
//! speaks plain HTTP/1 and belongs behind Envoy, which adds TLS; it runs on the background runtime and is bounded in
//! connections, time and size.

mod routes;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::model::Problem;
use crate::web::{self, Bounds};

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one connection may stay open.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);

/// Where other services reach Cardea.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The address. Without it there is no such endpoint. It speaks plain HTTP: let Envoy bring TLS to it.
    pub address: Option<SocketAddr>,
    /// How many connections are served at once. More wait to be accepted.
    pub connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: None,
            connections: 64,
        }
    }
}

impl Settings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        Problem::out_of_bounds("public.connections", self.connections, 1..=10_000)
            .into_iter()
            .collect()
    }
}

/// What is offered. A service that is absent is answered with 404.
#[derive(Clone, Default)]
pub struct Services {
    /// For `GET /.well-known/jwks.json`: the keys that sign what upstreams get (RFC 7517, section 5).
    pub key_set: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// For `POST /ssf/{transmitter}`: security events (RFC 8935).
    pub events: Option<Arc<dyn Fn(Delivery) -> Answering + Send + Sync>>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// A security event token as it was delivered. Nothing of it was looked at.
pub struct Delivery {
    /// The last part of the path: which transmitter sends.
    pub transmitter: String,
    /// The one `Authorization`, where there is exactly one.
    pub authorization: Option<Vec<u8>>,
    /// The `Content-Type`.
    pub content_type: Option<Vec<u8>>,
    /// The body, of 64 KiB at most.
    pub body: Vec<u8>,
}

/// It shows nothing of what was sent.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

/// An answer under way.
pub type Answering = Pin<Box<dyn Future<Output = Receipt> + Send>>;

/// What became of a delivery (RFC 8935, sections 2.3 and 2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It is taken: 202.
    Taken,
    /// There is no such transmitter: 404.
    Unknown,
    /// Whoever sends is not the transmitter: 401.
    Unproven,
    /// It is refused for good: 400, with the error's code and a sentence.
    Refused {
        /// One of RFC 8935, section 2.4.
        code: &'static str,
        /// For operators of the transmitter. It quotes nothing.
        description: &'static str,
    },
    /// It cannot be judged or kept now, and should be sent again: 503.
    Later,
}

/// The endpoint, bound and not yet serving.
#[derive(Debug)]
pub struct Public {
    listener: TcpListener,
    bounds: Bounds,
    services: Services,
}

impl Public {
    /// Binds the address, so that a port that is taken is known before anything is served. `None` where there is no such
    /// endpoint by the settings.
    ///
    /// # Errors
    /// Every mistake in the settings, or an address that cannot be bound.
    pub async fn bind(
        settings: &Settings,
        services: Services,
    ) -> Result<Option<Self>, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let Some(address) = settings.address else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let message = format!("the public endpoint cannot listen on `{address}`: {error}");
            vec![Problem::new(message).hint("set `public.address` to a free address")]
        })?;
        let bounds = Bounds {
            connections: settings.connections,
            header_timeout: HEADER_TIMEOUT,
            connection_lifetime: CONNECTION_LIFETIME,
        };
        Ok(Some(Self {
            listener,
            bounds,
            services,
        }))
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
        web::serve(self.listener, self.bounds, routes::all(self.services), stop).await;
    }
}

#[cfg(test)]
mod tests;

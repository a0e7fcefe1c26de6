//! Where Envoy connects: a TCP port or a Unix socket, plain or TLS, one accept loop a worker.
//!
//! Sockets are bound before anything else runs, so that a wrong address is an error at start and the port is known.
//! Every worker is a runtime of its own thread with its own socket (`SO_REUSEPORT`): they share nothing on the way of
//! a request. Whoever reaches the port can ask what is allowed to whom, so it is loopback by default.

mod accept;
mod address;
mod bind;
mod connection;
mod settings;

pub use address::{ListenAddress, SocketMode};
pub use bind::Local;
pub use settings::ListenSettings;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;

use crate::model::Problem;

use self::accept::{Acceptor, Limits};
use self::bind::{Socket, SocketFile};
use super::check::{CheckService, Decide};
use super::health::HealthService;
use super::tls::Tls;

/// Sockets that are bound and listen, one door a worker.
#[derive(Debug)]
pub struct Bound {
    local: Local,
    tls: Option<Arc<Tls>>,
    doors: Vec<Door>,
}

impl Bound {
    /// Binds the address and loads the certificates. Reads files, so call it at start.
    ///
    /// # Errors
    /// All mistakes in the settings, else why a certificate cannot be used or the address cannot be bound.
    pub fn bind(settings: &ListenSettings) -> Result<Self, Vec<Problem>> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let tls = settings
            .tls
            .as_ref()
            .map(Tls::load)
            .transpose()?
            .map(Arc::new);
        let sockets = bind::sockets(settings).map_err(|problem| vec![problem])?;
        if tls.is_none() && sockets.local.is_exposed() {
            tracing::warn!(
                address = %sockets.local,
                "listening on a network address without TLS: whoever reaches it can ask what is allowed to whom"
            );
        }
        let file = sockets.file.map(Arc::new);
        let doors = sockets.listening.into_iter().map(|socket| Door {
            socket,
            tls: tls.clone(),
            settings: settings.clone(),
            file: file.clone(),
        });
        Ok(Self {
            local: sockets.local,
            doors: doors.collect(),
            tls,
        })
    }

    /// The address in use; where port 0 was asked for, the port that was given.
    #[must_use]
    pub fn local_address(&self) -> &Local {
        &self.local
    }

    /// The certificates in use. Run [`Tls::keep_fresh`] on the background runtime.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// One door for each worker.
    #[must_use]
    pub fn into_doors(self) -> Vec<Door> {
        self.doors
    }
}

/// The socket of one worker.
pub struct Door {
    socket: Socket,
    tls: Option<Arc<Tls>>,
    settings: ListenSettings,
    file: Option<Arc<SocketFile>>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Door {
    /// Serves on the current runtime until `closing` is cancelled. Then it accepts nothing more, lets calls in flight
    /// finish, and returns at the latest when `listen.drain` has passed.
    ///
    /// # Errors
    /// Where the socket cannot be watched, or the server fails or ends by itself.
    pub async fn serve<D: Decide>(
        self,
        check: CheckService<D>,
        health: HealthService,
        closing: CancellationToken,
    ) -> Result<(), Problem> {
        let listener = self
            .socket
            .listen()
            .map_err(|error| Problem::new(format!("cannot watch the listening socket: {error}")))?;
        let (ready, connections) = mpsc::channel(16);
        let limits = Limits::new(&self.settings);
        let acceptor = Acceptor::new(listener, self.tls.clone(), limits, ready);
        let accepting = tokio::spawn(acceptor.run(closing.clone()));

        let doorway = Doorway {
            check,
            health: health.server().max_decoding_message_size(4096),
        };
        let incoming = ReceiverStream::new(connections).map(Ok::<_, Infallible>);
        let serving = server(&self.settings).serve_with_incoming_shutdown(
            doorway,
            incoming,
            closing.clone().cancelled_owned(),
        );
        let out_of_patience = async {
            closing.cancelled().await;
            tokio::time::sleep(self.settings.drain.0).await;
        };
        let served = tokio::select! {
            served = serving => served,
            () = out_of_patience => {
                tracing::warn!("connections were still open when `listen.drain` had passed");
                Ok(())
            }
        };
        accepting.abort();
        drop(self.file);
        served.map_err(|error| Problem::new(format!("the gRPC server failed: {error}")))?;
        if closing.is_cancelled() {
            Ok(())
        } else {
            Err(Problem::new(
                "the listener ended although nobody asked it to",
            ))
        }
    }
}

fn server(settings: &ListenSettings) -> Server {
    Server::builder()
        .max_concurrent_streams(settings.max_concurrent_streams)
        .http2_max_header_list_size(settings.max_header_list_bytes)
        .http2_max_pending_accept_reset_streams(Some(settings.max_reset_streams))
        .http2_max_local_error_reset_streams(Some(settings.max_reset_streams))
        .http2_keepalive_interval(Some(settings.keepalive_interval.0))
        .http2_keepalive_timeout(Some(settings.keepalive_timeout.0))
}

/// The two services behind one door, told apart by path.
#[derive(Debug)]
struct Doorway<D> {
    check: CheckService<D>,
    health: HealthServer<HealthService>,
}

impl<D> Clone for Doorway<D> {
    fn clone(&self) -> Self {
        Self {
            check: self.check.clone(),
            health: self.health.clone(),
        }
    }
}

impl<D: Decide> Service<http::Request<Body>> for Doorway<D> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/grpc.health.v1.Health/") {
            self.health.call(request)
        } else {
            self.check.call(request)
        }
    }
}

#[cfg(test)]
mod tests;

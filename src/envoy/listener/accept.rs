//! The accept loop: it survives every error, and no single connection holds it up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::super::tls::Tls;
use super::ListenSettings;
use super::connection::{Connection, Io};

/// How long to wait after an error that will not pass at once, such as too many open files.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Where connections come from.
pub(super) trait Accept: Send + 'static {
    /// The next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Box<dyn Io>>> + Send;
}

impl Accept for Listener {
    async fn accept(&mut self) -> io::Result<Box<dyn Io>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and waited for: they must not sit in a buffer.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// What bounds connections that nobody has proven to be Envoy yet.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    slots: Arc<Semaphore>,
    handshake: Duration,
}

impl Limits {
    pub(super) fn new(settings: &ListenSettings) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(settings.max_connections)),
            handshake: settings.handshake_timeout.0,
        }
    }
}

/// Accepts connections, brings them through their handshake, and hands them to the server.
pub(super) struct Acceptor<A> {
    accept: A,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    ready: mpsc::Sender<Connection>,
}

impl<A: Accept> Acceptor<A> {
    pub(super) fn new(
        accept: A,
        tls: Option<Arc<Tls>>,
        limits: Limits,
        ready: mpsc::Sender<Connection>,
    ) -> Self {
        Self {
            accept,
            tls,
            limits,
            ready,
        }
    }

    /// Runs until `closing` is cancelled. Dropping it closes the socket.
    pub(super) async fn run(mut self, closing: CancellationToken) {
        let stopped = closing.clone();
        let accepting = async {
            // The semaphore is never closed.
            while let Ok(slot) = Arc::clone(&self.limits.slots).acquire_owned().await {
                match self.accept.accept().await {
                    Ok(io) => self.welcome(io, slot, closing.clone()),
                    Err(error) => recover(&error).await,
                }
            }
        };
        tokio::select! {
            () = stopped.cancelled() => {}
            () = accepting => {}
        }
    }

    /// Brings one connection to the server, in a task of its own.
    fn welcome(&self, io: Box<dyn Io>, slot: OwnedSemaphorePermit, closing: CancellationToken) {
        let (tls, ready, handshake) = (self.tls.clone(), self.ready.clone(), self.limits.handshake);
        tokio::spawn(async move {
            let prepared = tokio::select! {
                () = closing.cancelled() => return,
                prepared = prepare(io, tls, handshake) => prepared,
            };
            match prepared {
                // An error means that the server is closing.
                Ok(io) => drop(ready.send(Connection::new(io, slot, handshake)).await),
                Err(error) => {
                    tracing::debug!(%error, "a connection did not get through its TLS handshake");
                }
            }
        });
    }
}

async fn prepare(
    io: Box<dyn Io>,
    tls: Option<Arc<Tls>>,
    limit: Duration,
) -> io::Result<Box<dyn Io>> {
    let Some(tls) = tls else {
        return Ok(io);
    };
    let acceptor = TlsAcceptor::from(tls.current());
    let stream = tokio::time::timeout(limit, acceptor.accept(io)).await??;
    Ok(Box::new(stream))
}

/// Some errors concern one connection that is already gone; the others pass with time, if at all.
async fn recover(error: &io::Error) {
    let passing = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    );
    if !passing {
        tracing::warn!(%error, "cannot accept a connection; trying again");
        tokio::time::sleep(BACK_OFF).await;
    }
}

//! One accepted connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

/// What carries bytes.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Length of the preface that opens an HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// A connection that holds its slot, and must begin to speak in time. Once it does, HTTP/2's own keep-alive watches it.
pub(super) struct Connection {
    io: Box<dyn Io>,
    silence: Option<Silence>,
    _slot: OwnedSemaphorePermit,
}

/// How much longer a connection may go without a full preface.
struct Silence {
    until: Pin<Box<Sleep>>,
    missing: usize,
}

impl Connection {
    pub(super) fn new(io: Box<dyn Io>, slot: OwnedSemaphorePermit, patience: Duration) -> Self {
        Self {
            io,
            silence: Some(Silence {
                until: Box::pin(sleep(patience)),
                missing: PREFACE_BYTES,
            }),
            _slot: slot,
        }
    }

    fn heard(&mut self, bytes: usize) {
        if let Some(silence) = &mut self.silence {
            silence.missing = silence.missing.saturating_sub(bytes);
            if silence.missing == 0 {
                self.silence = None;
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(context, buffer) {
            this.heard(buffer.filled().len() - before);
            return Poll::Ready(read);
        }
        let Some(silence) = &mut this.silence else {
            return Poll::Pending;
        };
        ready!(silence.until.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Nothing about the connection is told to the service: Envoy's attributes say who asks.
impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

//! Serving HTTP/1 within bounds, for the endpoints that are not Envoy's. axum's own `serve` has no limits on time or
//! connections, hence this loop.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests under way may take once the end is called.
const LAST_CALL: Duration = Duration::from_secs(2);
/// How long the head of a request may be, in bytes. The smallest hyper takes is 8 KiB.
const LONGEST_HEAD: usize = 16 << 10;
/// How many header fields a request may have.
const MOST_HEADERS: usize = 64;
/// How long to leave the listener alone when accepting fails, as it does while there are no file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What one endpoint may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many connections are served at once. More wait to be accepted.
    pub connections: usize,
    /// How long a client may take to send the head of a request.
    pub header_timeout: Duration,
    /// How long one connection may stay open.
    pub connection_lifetime: Duration,
}

/// Serves until `stop` is cancelled, then lets requests under way finish, for two seconds at most.
pub async fn serve(listener: TcpListener, bounds: Bounds, routes: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    let http = builder(bounds);
    let lifetime = bounds.connection_lifetime;
    let accept = async {
        // The semaphore is never closed, so this ends with `stop` only.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = next(&listener).await;
            let (http, routes, stop) = (http.clone(), routes.clone(), stop.clone());
            connections.spawn(async move {
                answer(stream, (http, routes), lifetime, stop).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    connections.close();
    // Each connection hears the same last call, so this waits for answers under way and for nobody else.
    let _ = timeout(LAST_CALL, connections.wait()).await;
}

fn builder(bounds: Bounds) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS);
    http
}

async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                let address = listener.local_addr().ok();
                tracing::warn!(%error, ?address, "an endpoint cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends, outlives its time, or everything stops.
async fn answer(
    stream: TcpStream,
    (http, routes): (Builder<TokioExecutor>, Router),
    lifetime: Duration,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(routes);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // What a client does wrong ends its own connection and concerns nobody else.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(lifetime) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_CALL, connection).await;
}

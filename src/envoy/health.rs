//! `grpc.health.v1`: whether this replica can decide. Serving only while the application says it is ready.

use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::check::SERVICE_NAME;

/// Answers for the whole server (the empty name) and for the authorization service by its name; both are the same.
#[derive(Debug, Clone)]
pub struct HealthService {
    ready: watch::Receiver<bool>,
    closing: CancellationToken,
}

impl HealthService {
    /// Health that follows `ready`. When `closing` is cancelled, watchers hear that nothing is served any more and
    /// their streams end, so that they do not hold up the drain.
    #[must_use]
    pub fn new(ready: watch::Receiver<bool>, closing: CancellationToken) -> Self {
        Self { ready, closing }
    }

    /// The service for a server.
    #[must_use]
    pub fn server(self) -> HealthServer<Self> {
        HealthServer::new(self)
    }

    fn status(&self) -> ServingStatus {
        // An error means that whoever could say "not ready" is gone, so its last word counts for nothing.
        let spoken_for = self.ready.has_changed().is_ok();
        if spoken_for && *self.ready.borrow() && !self.closing.is_cancelled() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || service == SERVICE_NAME
}

/// The states that one watcher has yet to hear.
struct Watcher {
    health: HealthService,
    last: Option<ServingStatus>,
    known: bool,
    ended: bool,
}

impl Watcher {
    /// The next state that differs from the last one told.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        while !self.ended {
            // Ended only after this round, so that the last state is told.
            self.ended = self.health.closing.is_cancelled();
            self.health.ready.mark_unchanged();
            let status = if self.known {
                self.health.status()
            } else {
                ServingStatus::ServiceUnknown
            };
            if self.last != Some(status) {
                self.last = Some(status);
                return Some((Ok(response(status)), self));
            }
            self.changed().await;
        }
        None
    }

    async fn changed(&mut self) {
        let closing = self.health.closing.clone();
        let gone = tokio::select! {
            () = closing.cancelled() => false,
            change = self.health.ready.changed() => change.is_err(),
        };
        if gone && self.last != Some(ServingStatus::Serving) {
            closing.cancelled().await;
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("no such service"));
        }
        Ok(Response::new(response(self.status())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watcher = Watcher {
            health: self.clone(),
            last: None,
            known: is_known(&request.get_ref().service),
            ended: false,
        };
        Ok(Response::new(Box::pin(unfold(watcher, Watcher::next))))
    }
}

#[cfg(test)]
mod tests;

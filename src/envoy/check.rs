//! The gRPC service `envoy.service.auth.v3.Authorization`.
//!
//! To Envoy a gRPC error is not a denial: set to fail open, it lets the request pass. So whatever happens to a call
//! (it cannot be decoded, it is too long, time runs out, a part of Cardea panics), it ends in an explicit answer.

mod guard;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use crate::model::{Arrival, Asked, Clock, Decision, Outcome, Reason, Refusal, Trail};

use self::guard::{Panicked, guarded};
use super::codec;
use super::request::{self, Call, RequestSettings};
use super::response::{self, Answer, Answers};

/// The name of the service.
pub const SERVICE_NAME: &str = "envoy.service.auth.v3.Authorization";
/// The path of its one method.
pub const CHECK_PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Who decides.
pub trait Decide: Send + Sync + 'static {
    /// Decides one request. It may be dropped unfinished when Envoy hangs up or time runs out.
    fn decide(&self, asked: Asked) -> impl Future<Output = Decision> + Send;

    /// Told of a decision once its answer is made, for whatever need not delay it.
    fn answered(&self, decision: Decision);

    /// Told of a denial that was given in place of a decision: time ran out, or [`Decide::decide`] panicked.
    fn overruled(&self, denial: &Decision);

    /// Told of a call that is dropped before it is answered: whoever asked has hung up.
    fn abandoned(&self) {}
}

/// The service: reads a check, has it decided, answers.
#[derive(Debug)]
pub struct CheckService<D> {
    shared: Arc<Shared<D>>,
}

#[derive(Debug)]
struct Shared<D> {
    decide: Arc<D>,
    clock: Arc<dyn Clock>,
    request: RequestSettings,
    answers: Answers,
    max_message_bytes: usize,
}

impl<D> Clone for CheckService<D> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<D: Decide> CheckService<D> {
    /// A service that has its checks decided by `decide`. Messages longer than `max_message_bytes` are denied unread.
    #[must_use]
    pub fn new(
        decide: Arc<D>,
        clock: Arc<dyn Clock>,
        (request, answers): (RequestSettings, Answers),
        max_message_bytes: usize,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                decide,
                clock,
                request,
                answers,
                max_message_bytes,
            }),
        }
    }
}

impl<D: Decide> Shared<D> {
    /// Answers one call, in time and whatever happens.
    async fn answer(&self, call: Call, body: Body) -> Answer {
        let mut asking = Asking {
            decide: &*self.decide,
            answered: false,
        };
        let seen = OnceLock::new();
        let limit = self.limit(&call);
        let spare = call.clone();
        let work = guarded(self.work(call, body, &seen));
        let ended = tokio::time::timeout(limit, work).await;
        // Nothing waits from here on.
        asking.answered = true;
        let refusal = match ended {
            Ok(Ok(answer)) => return answer,
            Ok(Err(Panicked)) => {
                tracing::error!("a check panicked and was denied; this is a fault in cardea");
                Refusal::new(Reason::Internal, "a part of cardea panicked")
            }
            Err(_) => Refusal::new(Reason::DeadlineTooNear, "the time to decide ran out"),
        };
        let arrival = seen.into_inner().unwrap_or_else(|| spare.arrival());
        self.overrule(arrival, refusal)
    }

    async fn work(&self, call: Call, body: Body, seen: &OnceLock<Arrival>) -> Answer {
        let asked = match codec::read(body, self.max_message_bytes).await {
            Ok(check) => request::read(check, call, &self.request),
            Err(error) => request::unreadable(call, error.to_string()),
        };
        // Set once a call, so it cannot be set already.
        let _ = seen.set(asked.arrival.clone());
        let decision = self.decide.decide(asked).await;
        let answer = response::answer(&decision, &self.answers);
        self.decide.answered(decision);
        answer
    }

    /// How long this call may take: until shortly before Envoy stops waiting.
    fn limit(&self, call: &Call) -> Duration {
        let margin = self.request.deadline_margin.0;
        let wait = call.timeout().map(|wait| wait.saturating_sub(margin));
        wait.map_or(self.request.max_duration.0, |wait| {
            wait.min(self.request.max_duration.0)
        })
    }

    /// Denies in place of a decision, and tells whoever decides.
    fn overrule(&self, arrival: Arrival, refusal: Refusal) -> Answer {
        let took = self
            .clock
            .monotonic()
            .saturating_duration_since(arrival.started);
        let denial = Decision {
            outcome: Outcome::Refused(refusal),
            trail: Trail::begin(arrival),
            took,
        };
        if guard::sync(|| self.decide.overruled(&denial)).is_err() {
            tracing::error!("recording a denial panicked; this is a fault in cardea");
        }
        response::answer(&denial, &self.answers)
    }
}

/// Notices a call that is dropped while it waits.
struct Asking<'a, D: Decide> {
    decide: &'a D,
    answered: bool,
}

impl<D: Decide> Drop for Asking<'_, D> {
    fn drop(&mut self) {
        if !self.answered {
            self.decide.abandoned();
        }
    }
}

impl<D: Decide> Service<http::Request<Body>> for CheckService<D> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if request.uri().path() != CHECK_PATH {
                return Ok(tonic::Status::unimplemented("no such method").into_http());
            }
            let call = Call::read(request.headers(), &*shared.clock);
            let answer = shared.answer(call, request.into_body()).await;
            Ok(codec::respond(answer))
        })
    }
}

impl<D> NamedService for CheckService<D> {
    const NAME: &'static str = SERVICE_NAME;
}

#[cfg(test)]
pub(super) mod tests;

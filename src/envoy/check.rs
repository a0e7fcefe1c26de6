//! The gRPC service `envoy.service.auth.v3.Authorization`.
//!
//! To Envoy a gRPC error is not a denial: set to fail open, it lets the request pass. So whatever happens to a call
//! (it cannot be decoded, it is too long, time runs out, a part of Cardea panics), it ends in an explicit answer.

mod guard;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use crate::model::{AccessRequest, Clock, Decision, Outcome, Reason, Refusal, Trail};

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
    /// Decides one request, along a trail that has begun. It may be dropped unfinished when Envoy hangs up or time runs
    /// out; the trail then holds what was known by then, and goes into the denial.
    fn decide(
        &self,
        asked: Result<AccessRequest, Refusal>,
        trail: &mut Trail,
    ) -> impl Future<Output = Decision> + Send;

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
        let limit = self.limit(&call);
        let mut trail = Trail::begin(call.clone().arrival());
        let work = guarded(self.work(call, body, &mut trail));
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
        self.overrule(trail, refusal)
    }

    async fn work(&self, call: Call, body: Body, trail: &mut Trail) -> Answer {
        let asked = match codec::read(body, self.max_message_bytes).await {
            Ok(check) => request::read(check, call, &self.request),
            Err(error) => request::unreadable(call, error.to_string()),
        };
        trail.arrival = asked.arrival;
        let decision = self.decide.decide(asked.request, trail).await;
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
    fn overrule(&self, trail: Trail, refusal: Refusal) -> Answer {
        let now = self.clock.monotonic();
        let denial = Decision {
            outcome: Outcome::Refused(refusal),
            took: now.saturating_duration_since(trail.arrival.started),
            trail,
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

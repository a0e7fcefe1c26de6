//! `/revocations`: the only route that changes anything, and the only one that asks who calls.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get};
use serde_json::{Value, json};

use crate::admin::changes::{Changed, Outcome, RevocationCalls, Secret};

/// The longest body, in bytes: several times the largest event.
const LONGEST: usize = 16 * 1024;

/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where revocations are told, and the only place a request may have a body.
pub(super) const PATH: &str = "/revocations";

/// The routes. They name people, so reading them needs the secret too.
pub(super) fn all(calls: RevocationCalls, secret: Option<Secret>) -> Router {
    Router::new()
        .route(PATH, get(list).post(apply))
        .route("/revocations/{id}", delete(lift))
        .with_state(calls)
        .layer(from_fn_with_state(secret, protect))
}

/// Whether a request may bring a body.
pub(super) fn takes_body(request: &Request) -> bool {
    request.method() == Method::POST && request.uri().path() == PATH
}

/// Asks for the secret before anything of the request is read.
async fn protect(State(secret): State<Option<Secret>>, request: Request, next: Next) -> Response {
    let Some(secret) = secret else {
        let body = json!({ "error": "this call is off", "hint": "set `admin.token`" });
        return (StatusCode::FORBIDDEN, Json(body)).into_response();
    };
    let mut shown = request.headers().get_all(AUTHORIZATION).iter();
    let trusted = match (shown.next(), shown.next()) {
        (Some(only), None) => secret.shown_by(only.as_bytes()),
        _ => false,
    };
    if trusted {
        return next.run(request).await;
    }
    tracing::warn!(
        method = %request.method(),
        "a call to the admin endpoint without its secret was refused"
    );
    let body = Json(json!({ "error": "the secret of `admin.token` is needed" }));
    let mut response = (StatusCode::UNAUTHORIZED, body).into_response();
    let challenge = HeaderValue::from_static("Bearer realm=\"cardea-admin\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

async fn list(State(calls): State<RevocationCalls>) -> Json<Value> {
    Json((calls.list)())
}

async fn apply(State(calls): State<RevocationCalls>, body: Body) -> Response {
    match tokio::time::timeout(PATIENCE, to_bytes(body, LONGEST)).await {
        Ok(Ok(body)) => answer((calls.apply)(body.into()).await),
        Ok(Err(_)) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

async fn lift(State(calls): State<RevocationCalls>, Path(id): Path<String>) -> Response {
    answer((calls.lift)(id).await)
}

fn answer((outcome, body): Changed) -> Response {
    let status = match outcome {
        Outcome::Done => StatusCode::OK,
        Outcome::Mistaken => StatusCode::BAD_REQUEST,
        Outcome::Unknown => StatusCode::NOT_FOUND,
        Outcome::Conflict => StatusCode::CONFLICT,
        Outcome::Full => StatusCode::SERVICE_UNAVAILABLE,
        Outcome::Unsaved => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(body)).into_response()
}

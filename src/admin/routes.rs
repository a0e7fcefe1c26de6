//! What can be asked. Reading only, but for revocations, which ask for a secret.

mod revocations;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;

use super::changes::Secret;
use super::{Readiness, Views};

const INDEX: &str = "Cardea\n
/live     200 while the process runs
/ready    200 where policies answer checks, else 503 and why
/metrics  metrics in the Prometheus text format
/shadow   what shadow policies and the candidate bundle would have decided otherwise
/version  which version this is

With the secret of `admin.token`:
GET /revocations          what is no longer trusted
POST /revocations         take trust back
DELETE /revocations/{id}  take that back
";

/// Every route.
pub(super) fn all(views: Views, secret: Option<Secret>) -> Router {
    let revocations = revocations::all(views.revocations.clone(), secret);
    Router::new()
        .route("/", get(async || INDEX))
        .route("/live", get(async || Json(json!({ "live": true }))))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route(
            "/shadow",
            get(async |State(views): State<Views>| Json((views.shadow)())),
        )
        .route("/version", get(version))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(views)
        .merge(revocations)
        .layer(from_fn(guard))
}

async fn ready(State(views): State<Views>) -> Response {
    match (views.readiness)() {
        Readiness::Ready => Json(json!({ "ready": true })).into_response(),
        Readiness::NotReady(reasons) => {
            let body = json!({ "ready": false, "reasons": reasons });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn metrics(State(views): State<Views>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], (views.metrics)())
}

async fn version() -> impl IntoResponse {
    Json(json!({ "name": "cardea", "version": env!("CARGO_PKG_VERSION") }))
}

/// Only what is told has a body; any other request with one is refused unread. No answer is to be kept or guessed at.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = if request.body().is_end_stream() || revocations::takes_body(&request) {
        next.run(request).await
    } else {
        StatusCode::PAYLOAD_TOO_LARGE.into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

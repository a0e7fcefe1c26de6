//! What can be fetched and sent.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::json;

use super::{Delivery, Receipt, Services};

/// The longest event token, in bytes.
const LONGEST: usize = 64 * 1024;

/// How long one may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long verifiers may keep the key set: a new key is in it for longer than that before it signs anything.
const KEY_SET_CACHING: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Every route.
pub(super) fn all(services: Services) -> Router {
    Router::new()
        .route("/.well-known/jwks.json", get(key_set))
        .route("/ssf/{transmitter}", post(events))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(services)
}

async fn key_set(State(services): State<Services>) -> Response {
    let Some(key_set) = services.key_set else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kind = HeaderValue::from_static("application/jwk-set+json");
    let head = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, KEY_SET_CACHING),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (head, key_set()).into_response()
}

async fn events(
    State(services): State<Services>,
    Path(transmitter): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(take) = services.events else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let body = match tokio::time::timeout(PATIENCE, to_bytes(body, LONGEST)).await {
        Ok(Ok(body)) => body.into(),
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        let first: Option<&HeaderValue> = values.next();
        let first = first.filter(|_| values.next().is_none());
        first.map(|value| value.as_bytes().to_vec())
    };
    let delivery = Delivery {
        transmitter,
        authorization: only(AUTHORIZATION),
        content_type: only(CONTENT_TYPE),
        body,
    };
    answer(&take(delivery).await)
}

fn answer(receipt: &Receipt) -> Response {
    match receipt {
        Receipt::Taken => StatusCode::ACCEPTED.into_response(),
        Receipt::Unknown => StatusCode::NOT_FOUND.into_response(),
        Receipt::Unproven => {
            let challenge = [("www-authenticate", "Bearer realm=\"cardea-events\"")];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
        Receipt::Refused { code, description } => {
            let body = json!({ "err": code, "description": description });
            // RFC 8935, section 2.3.
            let language = [("content-language", "en")];
            (StatusCode::BAD_REQUEST, language, Json(body)).into_response()
        }
        Receipt::Later => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")]).into_response(),
    }
}

use axum::body::Body;
use axum::http::{Request, StatusCode};
use tower::ServiceExt;

use super::*;

async fn ask(services: Services, request: Request<Body>) -> (StatusCode, String) {
    let response = routes::all(services).oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    (status, String::from_utf8(body.unwrap().into()).unwrap())
}

fn delivery(length: usize) -> Request<Body> {
    let sent = Request::post("/ssf/okta").header("authorization", "Bearer s");
    let sent = sent.header("content-type", "application/secevent+jwt");
    sent.body(Body::from("x".repeat(length))).unwrap()
}

fn taking(receipt: Receipt) -> Services {
    Services {
        events: Some(Arc::new(move |delivery| {
            assert_eq!(delivery.transmitter, "okta");
            assert_eq!(delivery.authorization.as_deref(), Some(&b"Bearer s"[..]));
            let receipt = receipt.clone();
            Box::pin(async move { receipt })
        })),
        ..Services::default()
    }
}

#[tokio::test]
async fn what_is_not_configured_is_not_there() {
    let keys = Request::get("/.well-known/jwks.json").body(Body::empty());
    for request in [keys.unwrap(), delivery(1)] {
        let (status, body) = ask(Services::default(), request).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, ""));
    }
}

#[tokio::test]
async fn verifiers_may_keep_the_key_set_as_long_as_keys_are_published_before_they_sign() {
    let services = Services {
        key_set: Some(Arc::new(|| "{}".to_owned())),
        ..Services::default()
    };
    let request = Request::get("/.well-known/jwks.json").body(Body::empty());
    let response = routes::all(services).oneshot(request.unwrap()).await;
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let seconds = crate::mint::KEY_SET_CACHED.as_secs();
    let caching = &response.headers()["cache-control"];
    assert_eq!(caching, &format!("public, max-age={seconds}"));
}

#[tokio::test]
async fn every_receipt_has_its_status() {
    let refused = Receipt::Refused {
        code: "invalid_issuer",
        description: "is another issuer's",
    };
    for (receipt, status) in [
        (Receipt::Taken, 202),
        (Receipt::Unknown, 404),
        (Receipt::Unproven, 401),
        (refused, 400),
        (Receipt::Later, 503),
    ] {
        let (told, body) = ask(taking(receipt.clone()), delivery(1)).await;
        assert_eq!(told.as_u16(), status, "{receipt:?}");
        let names_it = body.contains(r#""err":"invalid_issuer""#);
        assert_eq!(names_it, status == 400, "{body}");
    }
}

#[tokio::test]
async fn an_event_of_more_than_64_kib_is_refused_unread() {
    let services = Services {
        events: Some(Arc::new(|_| panic!("it was handed on"))),
        ..Services::default()
    };
    let (status, _) = ask(services, delivery(64 * 1024 + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn two_authorizations_are_none() {
    let services = Services {
        events: Some(Arc::new(|delivery| {
            assert_eq!(delivery.authorization, None);
            Box::pin(async { Receipt::Unproven })
        })),
        ..Services::default()
    };
    let mut request = delivery(1);
    let second = "Bearer t".parse().unwrap();
    request.headers_mut().append("authorization", second);
    let (status, _) = ask(services, request).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_an_address_there_is_no_endpoint() {
    let public = Public::bind(&Settings::default(), Services::default()).await;
    assert!(public.unwrap().is_none());
}

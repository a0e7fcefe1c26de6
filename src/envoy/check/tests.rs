use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3 as full;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use crate::model::{Period, Reason};

use super::super::RequestSettings;
use super::super::testing::{Running, ask, check, code, denial, on_any_port};
use super::CHECK_PATH;

/// Sends bytes as they are: what a generated client would never send.
#[derive(Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = full::CheckResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(buffer, &bytes);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = full::CheckResponse;
    type Error = Status;

    fn decode(
        &mut self,
        buffer: &mut DecodeBuf<'_>,
    ) -> Result<Option<full::CheckResponse>, Status> {
        full::CheckResponse::decode(buffer)
            .map(Some)
            .map_err(|_| Status::internal("not an answer"))
    }
}

async fn send(running: &Running, messages: Vec<Vec<u8>>) -> full::CheckResponse {
    let mut client = Grpc::new(running.channel().await);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(CHECK_PATH);
    let messages = Request::new(tokio_stream::iter(messages));
    client
        .client_streaming(messages, path, RawCodec)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn a_check_is_decided_and_answered() {
    let running = Running::on(&on_any_port());
    let mut client = running.client().await;
    let allowed = ask(&mut client, &[("x-do", "allow")]).await;
    assert_eq!(code(&allowed), 0);
    let refused = ask(&mut client, &[]).await;
    assert_eq!(code(&refused), 7);
    assert_eq!(denial(refused).0, 403);
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn g4_a_panic_is_an_explicit_denial_and_the_next_check_is_answered() {
    let running = Running::on(&on_any_port());
    let mut client = running.client().await;
    let refused = ask(&mut client, &[("x-do", "panic")]).await;
    assert_eq!(code(&refused), 14);
    let (status, body) = denial(refused);
    assert_eq!(status, 503);
    assert!(body.contains(r#""reason":"internal""#), "{body}");
    assert_eq!(
        *running.decider.overruled.lock().unwrap(),
        [Reason::Internal]
    );
    let path = Some("/v1/orders".to_owned());
    assert_eq!(*running.decider.left.lock().unwrap(), [path]);
    let allowed = ask(&mut client, &[("x-do", "allow")]).await;
    assert_eq!(code(&allowed), 0);
}

#[tokio::test]
async fn g4_a_decision_that_hangs_is_denied_before_envoy_stops_waiting() {
    let request = RequestSettings {
        // So large that only the margin can be what ends the wait.
        deadline_margin: Period::seconds(3600),
        ..RequestSettings::default()
    };
    let running = Running::with(&on_any_port(), request);
    let mut hanging = Request::new(check(&[
        ("x-do", "hang"),
        ("content-type", "application/grpc"),
    ]));
    hanging.set_timeout(Duration::from_secs(3600));
    let refused = running
        .client()
        .await
        .check(hanging)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(code(&refused), 14);
    let (status, body) = denial(refused);
    assert_eq!(status, 503);
    assert!(
        body.contains("deadline_too_near") && !body.contains('{'),
        "{body}"
    );
    assert_eq!(
        *running.decider.overruled.lock().unwrap(),
        [Reason::DeadlineTooNear]
    );
    // What was known by then is not lost with the decision.
    let path = Some("/v1/orders".to_owned());
    assert_eq!(*running.decider.left.lock().unwrap(), [path]);
}

#[tokio::test]
async fn a_decision_without_a_deadline_is_bounded_all_the_same() {
    let request = RequestSettings {
        max_duration: Period::millis(20),
        ..RequestSettings::default()
    };
    let running = Running::with(&on_any_port(), request);
    let refused = running
        .client()
        .await
        .check(check(&[("x-do", "hang")]))
        .await
        .unwrap();
    assert_eq!(denial(refused.into_inner()).0, 503);
}

#[tokio::test]
async fn g3_a_message_over_the_limit_is_denied_and_not_an_error() {
    let running = Running::on(&on_any_port());
    let mut large = check(&[("x-do", "allow")]);
    let http = large
        .attributes
        .as_mut()
        .unwrap()
        .request
        .as_mut()
        .unwrap()
        .http
        .as_mut()
        .unwrap();
    http.raw_body = vec![7; 5 * 1024 * 1024];
    let mut client = running.client().await;
    let refused = client.check(large).await.unwrap().into_inner();
    assert_eq!(code(&refused), 3);
    let (status, body) = denial(refused);
    assert_eq!(status, 400);
    assert!(body.contains("malformed_request"), "{body}");
    let allowed = ask(&mut client, &[("x-do", "allow")]).await;
    assert_eq!(code(&allowed), 0);
}

#[tokio::test]
async fn what_is_no_single_check_is_denied_and_not_an_error() {
    let running = Running::on(&on_any_port());
    let good = check(&[("x-do", "allow")]).encode_to_vec();
    let mut not_utf8 = check(&[("x-do", "allow"), ("x-marker", "!!!!")]).encode_to_vec();
    let at = not_utf8
        .windows(4)
        .position(|four| four == b"!!!!")
        .unwrap();
    not_utf8[at..at + 4].copy_from_slice(&[0xff; 4]);
    for (what, messages) in [
        ("no protobuf", vec![vec![0xff; 32]]),
        ("text that is not UTF-8", vec![not_utf8]),
        ("no message", vec![]),
        ("two messages", vec![good.clone(), good.clone()]),
        ("an empty message", vec![vec![]]),
        ("a message cut short", vec![good[..good.len() - 3].to_vec()]),
    ] {
        let refused = send(&running, messages).await;
        assert_eq!(code(&refused), 3, "{what}");
        assert_eq!(denial(refused).0, 400, "{what}");
    }
    assert_eq!(code(&send(&running, vec![good]).await), 0);
    let asked = running.decider.asked.lock().unwrap();
    let refusals = asked.iter().filter_map(|asked| asked.as_ref().err());
    assert!(
        refusals
            .clone()
            .all(|refusal| refusal.reason == Reason::MalformedRequest)
    );
    assert_eq!(refusals.count(), 6);
}

#[tokio::test]
async fn another_method_is_unimplemented() {
    let running = Running::on(&on_any_port());
    let mut client = Grpc::new(running.channel().await);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/envoy.service.auth.v2.Authorization/Check");
    let error = client
        .unary(Request::new(vec![]), path, RawCodec)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

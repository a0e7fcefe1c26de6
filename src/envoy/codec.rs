//! One message in, one message out, in gRPC's framing.

use prost::Message;
use prost::bytes::{Buf, BufMut};
use tokio_stream::once;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{DecodeBuf, Decoder, EncodeBody, EncodeBuf, Encoder, Streaming};

use super::proto::auth::CheckRequest;
use super::response::Answer;

/// Why a call holds no check. Each becomes a denial: a gRPC error would let the request pass where Envoy is set to
/// fail open, and whoever can spoil a message could choose that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// Too long, compressed, cut off, no protobuf, or text that is not UTF-8.
    #[error("the check cannot be decoded, or is longer than `listen.max_message_bytes`")]
    Message,
    /// No message, or more than one.
    #[error("the call does not hold exactly one check")]
    Count,
}

/// Reads the one message of a unary call, to the end of its stream.
pub(super) async fn read(body: Body, max_bytes: usize) -> Result<CheckRequest, Unreadable> {
    let mut messages = Streaming::new_request(CheckDecoder, body, None, Some(max_bytes));
    let check = messages
        .message()
        .await
        .map_err(|_| Unreadable::Message)?
        .ok_or(Unreadable::Count)?;
    match messages.message().await {
        Ok(None) => Ok(check),
        Ok(Some(_)) => Err(Unreadable::Count),
        Err(_) => Err(Unreadable::Message),
    }
}

/// Reads a [`CheckRequest`]. Out of one piece of memory, which costs prost a third less than the buffer it lies in.
#[derive(Debug)]
struct CheckDecoder;

impl Decoder for CheckDecoder {
    type Item = CheckRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<CheckRequest>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        CheckRequest::decode(&*message)
            .map(Some)
            .map_err(|_| Status::internal("the message is no check"))
    }
}

/// The gRPC response that carries an answer. Its gRPC status is always OK: the verdict is inside.
pub(super) fn respond(answer: Answer) -> http::Response<Body> {
    let body = EncodeBody::new_server(
        AnswerEncoder,
        once(Ok(answer)),
        None,
        tonic::codec::SingleMessageCompressionOverride::Disable,
        None,
    );
    let mut response = http::Response::new(Body::new(body));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        tonic::metadata::GRPC_CONTENT_TYPE,
    );
    response
}

/// Writes an [`Answer`]. `Answer` is no protobuf message itself: a message can be emptied, and empty means ALLOW.
#[derive(Debug)]
struct AnswerEncoder;

impl Encoder for AnswerEncoder {
    type Item = Answer;
    type Error = Status;

    fn encode(&mut self, answer: Answer, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // By way of a vector: prost writes byte by byte, which costs three times as much into the buffer itself.
        buffer.put_slice(&answer.wire().encode_to_vec());
        Ok(())
    }
}

//! A gRPC client close to the wire: it must cost less than the server, and must not wait where a real client would not.

use std::future::poll_fn;
use std::io;

use cardea::envoy::proto::auth::check_response::HttpResponse;
use cardea::envoy::proto::auth::{CheckRequest, CheckResponse};
use h2::client::SendRequest;
use http::{Method, Request, Version};
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};

use crate::fixture::Result;
use crate::saturate::Target;

const CHECK: &str = "http://localhost/envoy.service.auth.v3.Authorization/Check";

/// One HTTP/2 connection. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    send: SendRequest<Bytes>,
}

impl Client {
    /// Connects, and drives the connection on the current runtime.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        match target {
            Target::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port)).await?;
                stream.set_nodelay(true)?;
                Self::over(stream).await
            }
            Target::Unix(path) => Self::over(UnixStream::connect(path).await?).await,
        }
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self> {
        let (send, connection) = h2::client::Builder::new()
            // Room for every answer that may come at once: the client must never be what holds an answer up.
            .initial_connection_window_size(16 << 20)
            .data_frame_budget(16 << 20)
            .handshake(stream)
            .await?;
        // Its end shows in every call that is still open.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { send })
    }

    /// One call: a framed message out, the bytes of the answer's message back. The gRPC status must be OK.
    pub(crate) async fn call(&self, message: Bytes) -> Result<Bytes> {
        let mut send = self.send.clone();
        poll_fn(|context| send.poll_ready(context)).await?;
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(CHECK)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, mut stream) = send.send_request(request, false)?;
        stream.send_data(message, true)?;
        let mut body = response.await?.into_body();
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            answer.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?;
        match trailers.as_ref().and_then(|map| map.get("grpc-status")) {
            Some(status) if status == "0" => Ok(answer.freeze()),
            _ => Err("the call did not end with grpc-status 0".into()),
        }
    }
}

/// A message in gRPC's framing: not compressed, its length, itself.
pub(crate) fn framed(check: &CheckRequest) -> Vec<u8> {
    let mut framed = vec![0];
    framed.put_u32(u32::try_from(check.encoded_len()).unwrap_or(u32::MAX));
    // A vector has room for everything.
    let _ = check.encode(&mut framed);
    framed
}

/// What an answer says: `true` for a proper allow, `false` for a proper denial.
pub(crate) fn allows(answer: &[u8]) -> Result<bool> {
    let message = answer.get(5..).ok_or("the answer holds no message")?;
    let answer = CheckResponse::decode(message)?;
    let code = answer.status.map(|status| status.code);
    match (code, answer.http_response) {
        (Some(0), Some(HttpResponse::OkResponse(_))) => Ok(true),
        (Some(1..), Some(HttpResponse::DeniedResponse(_))) => Ok(false),
        other => Err(format!("the answer is neither an allow nor a denial: {other:?}").into()),
    }
}

/// Asks once, and wants an allow.
pub(crate) fn assert_allows(target: &Target, message: &[u8]) -> Result<()> {
    let message = Bytes::copy_from_slice(message);
    let answer =
        runtime()?.block_on(async { Client::connect(target).await?.call(message).await })?;
    if allows(&answer)? {
        Ok(())
    } else {
        Err("a request that should be allowed is denied".into())
    }
}

/// One thread, as a worker has.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

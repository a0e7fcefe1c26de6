//! The yardstick: a server that decodes the same message with the same generated code, looks at nothing, and allows.
//!
//! It is what tonic generates for a unary method, written out because the contract is compiled without services, on the
//! same kind of runtime, with the same allocator.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use cardea::envoy::proto::auth::check_response::HttpResponse;
use cardea::envoy::proto::auth::{CheckRequest, CheckResponse, OkHttpResponse};
use cardea::envoy::proto::rpc;
use tokio::runtime::Builder;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::fixture::Result;

/// Serves until the process is killed.
pub(crate) fn serve(port: u16) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], port).into())?.with_nodelay(Some(true));
        Server::builder()
            .max_concurrent_streams(256)
            .add_service(AllowAll)
            .serve_with_incoming(incoming)
            .await?;
        Ok(())
    })
}

#[derive(Debug, Clone, Copy)]
struct AllowAll;

impl NamedService for AllowAll {
    const NAME: &'static str = "envoy.service.auth.v3.Authorization";
}

impl UnaryService<CheckRequest> for AllowAll {
    type Response = CheckResponse;
    type Future = Ready<std::result::Result<Response<CheckResponse>, Status>>;

    fn call(&mut self, check: Request<CheckRequest>) -> Self::Future {
        let asked = check.into_inner().attributes.is_some();
        ready(if asked {
            Ok(Response::new(allow()))
        } else {
            Err(Status::invalid_argument("the check holds no attributes"))
        })
    }
}

impl Service<http::Request<Body>> for AllowAll {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future =
        Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(grpc.unary(Self, request).await)
        })
    }
}

fn allow() -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status::default()),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse::default())),
        dynamic_metadata: None,
    }
}

//! Compiles the wire contract in `proto/` with protox, so that building needs no `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["envoy/service/auth/v3/external_auth.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .compile_fds(descriptors)?;
    service();
    Ok(())
}

/// The service is described by hand for one reason: it answers with `Answer`, which has no empty state, where the
/// generated trait would answer with `CheckResponse`, whose default means ALLOW to Envoy.
fn service() {
    use tonic_build::manual::{Builder, Method, Service};
    let check = Method::builder()
        .name("check")
        .route_name("Check")
        .input_type("crate::envoy::proto::auth::CheckRequest")
        .output_type("crate::envoy::response::Answer")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let authorization = Service::builder()
        .name("Authorization")
        .package("envoy.service.auth.v3")
        .method(check)
        .build();
    Builder::new()
        .build_client(false)
        .build_transport(false)
        .compile(&[authorization]);
}

//! Compiles the wire contract in `proto/` with protox, so that building needs no `protoc`.

use std::error::Error;

/// Messages whose `Debug` is written by hand: they hold credentials, bodies and what other filters found out.
const SECRETIVE: [&str; 3] = [
    ".envoy.service.auth.v3.AttributeContext.HttpRequest",
    ".envoy.config.core.v3.HeaderValue",
    ".envoy.config.core.v3.Metadata",
];

/// Only messages are generated. The service is written by hand (`src/envoy/check.rs`), because a generated one answers
/// what it cannot read with a gRPC error, which Envoy may take for an ALLOW, and could answer with an empty message,
/// which Envoy always does.
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let roots = [
        "envoy/service/auth/v3/external_auth.proto",
        "google/rpc/error_details.proto",
    ];
    let descriptors = protox::compile(roots, ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .skip_debug(SECRETIVE)
        .include_file("wire.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

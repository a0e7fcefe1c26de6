//! For tests: lists as issuers make them.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};

use crate::identity::testing::b64;

/// Bytes as a zlib stream.
pub(super) fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The claim `status_list` of a list.
pub(super) fn status_list(bits: u64, bytes: &[u8]) -> Value {
    json!({"bits": bits, "lst": b64(packed(bytes))})
}

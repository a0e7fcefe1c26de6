//! The API behind the door: it answers with what reached it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use axum::http::{HeaderMap, Method, Uri};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::model::Problem;

/// Serves on a free port.
pub(super) async fn serve() -> Result<SocketAddr, Problem> {
    let failed = |error| Problem::new(format!("the demo's upstream cannot listen: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(echo)).await });
    Ok(address)
}

/// A credential is named by its length: the answer may end up in a terminal's history.
async fn echo(method: Method, uri: Uri, headers: HeaderMap) -> Json<Value> {
    let shown: BTreeMap<&str, String> = headers
        .iter()
        .map(|(name, value)| {
            let text = if name == "authorization" {
                format!("({} bytes)", value.len())
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str(), text)
        })
        .collect();
    Json(json!({
        "upstream": "this is what reached the API",
        "method": method.as_str(),
        "path": uri.path(),
        "headers": shown,
    }))
}

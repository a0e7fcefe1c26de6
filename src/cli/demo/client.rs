//! One request through Envoy, and what Envoy says about it afterwards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::model::{Clock as _, Problem, SystemClock};

/// How long a request, the way to the upstream, and a line of the access log may take.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// A client of the API.
pub(super) struct Client {
    http: reqwest::Client,
    gate: SocketAddr,
    access_log: PathBuf,
    asked: u32,
}

/// What a request led to, as the client, the upstream and Envoy tell it.
pub(super) struct Seen {
    /// The client: the status.
    pub(super) status: u16,
    /// The client: how long it took there and back.
    pub(super) took: Duration,
    /// The upstream: the headers that reached it; empty where nothing did.
    pub(super) upstream: BTreeMap<String, String>,
    /// Envoy's access log: what Cardea decided; `None` where Envoy refused by itself.
    pub(super) authz: Option<Authz>,
    /// Envoy's access log: how the response came about.
    pub(super) details: String,
    /// The decision's id as the client (in a denial) or the upstream (in a header) was told it.
    pub(super) told: Option<String>,
}

/// The metadata of a decision (`envoy.filters.http.ext_authz`).
pub(super) struct Authz {
    pub(super) reason: String,
    pub(super) policies: Vec<String>,
    pub(super) decision: String,
}

impl Client {
    pub(super) fn new(gate: SocketAddr, access_log: PathBuf) -> Result<Self, Problem> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(|error| Problem::new(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self {
            http,
            gate,
            access_log,
            asked: 0,
        })
    }

    /// Waits until a public route answers: then everything on the way is up.
    pub(super) async fn wait_until_open(&mut self) -> Result<(), Problem> {
        let open = async {
            while self.ask("GET", "/v1/status", &[]).await?.status != 200 {
                sleep(LOOK).await;
            }
            Ok(())
        };
        let closed = Problem::new("no request gets through: `/v1/status` does not answer with 200")
            .hint("the tour needs the example policies; name their folder with `--bundle`");
        timeout(PATIENCE, open).await.unwrap_or(Err(closed))
    }

    /// Asks, and finds Envoy's line about it by a user agent that no other request has.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, String)],
    ) -> Result<Seen, Problem> {
        self.asked += 1;
        let agent = format!("cardea-demo/{}", self.asked);
        let failed = |error| Problem::new(format!("`{method} {target}` got no answer: {error}"));
        let method = reqwest::Method::from_bytes(method.as_bytes())
            .map_err(|_| Problem::new(format!("`{method}` is no method")))?;
        let mut request = self
            .http
            .request(method, format!("http://{}{target}", self.gate))
            .header("host", "api.example.com")
            .header("user-agent", &agent);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let began = SystemClock.monotonic();
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(failed)?;
        let took = SystemClock.monotonic().saturating_duration_since(began);
        let line = self.logged(&agent).await?;
        Ok(seen((status, took), &body, &line))
    }

    async fn logged(&self, agent: &str) -> Result<Value, Problem> {
        let find = async {
            loop {
                let text = tokio::fs::read_to_string(&self.access_log)
                    .await
                    .unwrap_or_default();
                let lines = text
                    .lines()
                    .rev()
                    .filter_map(|line| serde_json::from_str(line).ok());
                let ours = |line: &Value| line.pointer("/user_agent").is_some_and(|is| is == agent);
                match lines.into_iter().find(ours) {
                    Some(line) => return line,
                    None => sleep(LOOK).await,
                }
            }
        };
        timeout(PATIENCE, find).await.map_err(|_| {
            Problem::new("envoy wrote no line about a request").in_file(&self.access_log)
        })
    }
}

fn seen((status, took): (u16, Duration), body: &[u8], line: &Value) -> Seen {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let upstream: BTreeMap<String, String> = body
        .pointer("/headers")
        .and_then(|headers| serde_json::from_value(headers.clone()).ok())
        .unwrap_or_default();
    let told = match upstream.get("x-cardea-decision") {
        Some(decision) => Some(decision.clone()),
        None => text(&body, "/decision"),
    };
    Seen {
        status,
        took,
        upstream,
        authz: text(line, "/authz/decision").map(|decision| Authz {
            decision,
            reason: text(line, "/authz/reason").unwrap_or_default(),
            policies: line
                .pointer("/authz/policies")
                .and_then(|policies| serde_json::from_value(policies.clone()).ok())
                .unwrap_or_default(),
        }),
        details: text(line, "/details").unwrap_or_default(),
        told,
    }
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}

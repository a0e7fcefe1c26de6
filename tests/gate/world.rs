//! One Cardea in this process, asked over gRPC as Envoy asks, with an issuer and a bundle of its own.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea::app::App;
use cardea::config::Config;
use cardea::envoy::listener::Local;
use cardea::identity::Figures;
use cardea::model::{Clock, Problem, SystemClock};
use cardea::pipeline::Pipeline;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, HeaderMap, HeaderValue, HeaderValueOption, SocketAddress,
};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::google::protobuf::value::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;

use crate::issuer::{AUDIENCE, ISSUER, Key, KeyServer};

/// The longest anything here may take. It decides how soon a broken test ends, and nothing else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A Cardea with an issuer whose key is `key`, and a copy of the shipped bundle.
pub(crate) struct World {
    pub(crate) issuer: KeyServer,
    pub(crate) key: Key,
    pub(crate) bundle: TempDir,
    runtime: Runtime,
    app: Option<App>,
    client: AuthorizationClient<Channel>,
}

/// What a test may change before Cardea starts.
pub(crate) struct Setup {
    pub(crate) settings: Value,
    pub(crate) issuer: KeyServer,
    pub(crate) key: Key,
    pub(crate) bundle: TempDir,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let issuer = KeyServer::start();
        let key = Key::es256("k1");
        issuer.publish(&[&key]);
        let bundle = shipped_bundle();
        Self {
            settings: settings(&issuer, bundle.path()),
            issuer,
            key,
            bundle,
        }
    }

    /// The settings of the first issuer.
    pub(crate) fn first_issuer(&mut self) -> &mut Value {
        &mut self.settings["identity"]["issuers"][0]
    }

    /// Adds a file to the bundle.
    pub(crate) fn write(&self, name: &str, text: &str) {
        write(self.bundle.path(), name, text);
    }

    /// Starts Cardea, and does not wait for keys.
    pub(crate) fn start(self) -> World {
        let app = start(&self.settings).unwrap_or_else(|problems| panic!("{problems:?}"));
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(connect(app.check_address()));
        World {
            issuer: self.issuer,
            key: self.key,
            bundle: self.bundle,
            client,
            app: Some(app),
            runtime,
        }
    }
}

/// Settings in which every port is free to choose and one issuer is believed.
pub(crate) fn settings(issuer: &KeyServer, bundle: &Path) -> Value {
    json!({
        "listen": { "address": "127.0.0.1:0" },
        "admin": { "address": "127.0.0.1:0" },
        // Tests change the shipped policies, which the bundle's own tests would rightly refuse.
        "bundle": { "path": bundle, "poll": "50ms", "run_tests": false },
        "identity": { "issuers": [{
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "keys": { "jwks_url": issuer.url("/jwks") },
            "claims": { "roles": ["roles"], "tenant": "tenant", "expose": ["email"] },
        }] },
        "telemetry": { "log": { "level": "error", "decisions": "none" } },
    })
}

/// Starts Cardea with settings as a file would hold them: JSON is YAML too.
pub(crate) fn start(settings: &Value) -> Result<App, Vec<Problem>> {
    let config = Config::parse(&settings.to_string()).map_err(|problem| vec![problem])?;
    App::start(&config)
}

/// A copy of the bundle that is shipped.
pub(crate) fn shipped_bundle() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    copy(&shipped, folder.path());
    folder
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

async fn connect(address: &Local) -> AuthorizationClient<Channel> {
    AuthorizationClient::new(channel(address).await)
        .max_encoding_message_size(usize::MAX)
        .max_decoding_message_size(usize::MAX)
}

async fn channel(address: &Local) -> Channel {
    let url = format!("http://{address}");
    Channel::from_shared(url).unwrap().connect().await.unwrap()
}

impl World {
    /// The usual one, ready.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// One whose setup is changed first, ready.
    pub(crate) fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup::new();
        change(&mut setup);
        let world = setup.start();
        assert!(
            world.app().wait_until_ready(PATIENCE),
            "it does not become ready"
        );
        world
    }

    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    pub(crate) fn pipeline(&self) -> &Arc<Pipeline> {
        self.app().pipeline()
    }

    pub(crate) fn figures(&self) -> Figures {
        self.pipeline().identity.figures()
    }

    /// Stops the application, and waits for something to hear of it.
    pub(crate) fn stop_and<F: Future>(mut self, hears: F) -> F::Output {
        self.app.take().unwrap().stop();
        self.runtime.block_on(hears)
    }

    /// Runs a future beside the application.
    pub(crate) fn wait<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// A connection of its own, from within [`World::wait`].
    pub(crate) async fn channel(&self) -> Channel {
        channel(self.app().check_address()).await
    }

    /// A client with a connection of its own, for [`World::wait`].
    pub(crate) async fn connect(&self) -> AuthorizationClient<Channel> {
        connect(self.app().check_address()).await
    }

    /// A client that many tasks may use at once.
    pub(crate) fn client(&self) -> AuthorizationClient<Channel> {
        self.client.clone()
    }

    pub(crate) fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(work)
    }

    /// Asks. However it is answered, the call itself must succeed: to Envoy a gRPC error is no denial.
    pub(crate) fn ask(&self, ask: Ask) -> Heard {
        self.wait(ask.send(self.client()))
    }

    /// Asks for `path` with the usual good token.
    pub(crate) fn get(&self, path: &str) -> Heard {
        self.ask(Ask::get(path).bearer(&self.key.token()))
    }

    /// Asks for the orders with this token.
    pub(crate) fn present(&self, token: &str) -> Heard {
        self.ask(Ask::get("/v1/orders").bearer(token))
    }

    /// What the admin endpoint says at `path`: status and body.
    pub(crate) fn admin(&self, path: &str) -> (u16, String) {
        http_get(self.app().admin_address().unwrap(), path)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics(self.admin("/metrics").1)
    }

    /// Edits a file of the bundle.
    pub(crate) fn write(&self, name: &str, text: &str) {
        write(self.bundle.path(), name, text);
    }

    /// Fetches the issuers' keys now.
    pub(crate) fn refresh(&self) {
        self.wait(self.pipeline().identity.refresh());
    }

    /// The id of the bundle in force.
    pub(crate) fn snapshot(&self) -> String {
        let snapshot = self.pipeline().snapshots.current().unwrap();
        snapshot.id.as_str().to_owned()
    }
}

/// Looks until it holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = tick() + PATIENCE;
    while !holds() {
        assert!(tick() < until, "it never came about: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Time on the monotonic clock.
pub(crate) fn tick() -> Instant {
    SystemClock.monotonic()
}

pub(crate) fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

/// Metrics as Prometheus reads them.
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The sum of every series of that name that has all these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = |line: &&str| {
            let (own, _) = line.split_once(['{', ' ']).unwrap_or_default();
            own == name && labels.iter().all(|label| line.contains(label))
        };
        let values = self.0.lines().filter(series);
        values
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// A question as Envoy would ask it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) check: CheckRequest,
}

impl Ask {
    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn new(method: &str, path: &str) -> Self {
        let http = HttpRequest {
            id: "7".to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            host: "api.example.com".to_owned(),
            scheme: "https".to_owned(),
            protocol: "HTTP/1.1".to_owned(),
            headers: HashMap::from([("user-agent".to_owned(), "gate".to_owned())]),
            ..HttpRequest::default()
        };
        let attributes = AttributeContext {
            source: Some(peer("203.0.113.9")),
            request: Some(Request {
                http: Some(http),
                ..Request::default()
            }),
            ..AttributeContext::default()
        };
        Self {
            check: CheckRequest {
                attributes: Some(attributes),
            },
        }
    }

    pub(crate) fn attributes(&mut self) -> &mut AttributeContext {
        self.check.attributes.as_mut().unwrap()
    }

    pub(crate) fn http(&mut self) -> &mut HttpRequest {
        let request = self.attributes().request.as_mut().unwrap();
        request.http.as_mut().unwrap()
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let headers = &mut self.http().headers;
        headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Headers as bytes, as `encode_raw_headers` sends them, in place of all others.
    pub(crate) fn raw_headers(mut self, headers: &[(&str, &[u8])]) -> Self {
        let headers = headers.iter().map(|(name, value)| HeaderValue {
            key: (*name).to_owned(),
            raw_value: value.to_vec(),
            ..HeaderValue::default()
        });
        let http = self.http();
        http.headers.clear();
        http.header_map = Some(HeaderMap {
            headers: headers.collect(),
        });
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        self.http().host = host.to_owned();
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.http().body = body.to_owned();
        self
    }

    pub(crate) async fn send(self, mut client: AuthorizationClient<Channel>) -> Heard {
        let answer = client.check(self.check).await;
        Heard {
            response: answer
                .unwrap_or_else(|status| panic!("a gRPC error is no denial: {status:?}"))
                .into_inner(),
        }
    }
}

pub(crate) fn peer(address: &str) -> Peer {
    Peer {
        address: Some(Address {
            address: Some(AddressKind::SocketAddress(SocketAddress {
                address: address.to_owned(),
                port_specifier: Some(PortSpecifier::PortValue(4711)),
                ..SocketAddress::default()
            })),
        }),
        ..Peer::default()
    }
}

/// What Envoy hears.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) response: CheckResponse,
}

impl Heard {
    /// By Envoy's own rule: the status code and nothing else.
    pub(crate) fn allowed(&self) -> bool {
        self.grpc() == 0
    }

    pub(crate) fn grpc(&self) -> i32 {
        self.response
            .status
            .as_ref()
            .map_or(0, |status| status.code)
    }

    /// What an allowed request is changed by.
    #[track_caller]
    pub(crate) fn passed(&self) -> &OkHttpResponse {
        assert!(self.allowed(), "refused: {self:?}");
        match &self.response.http_response {
            Some(HttpResponse::OkResponse(ok)) => ok,
            other => panic!("allowed, and with {other:?}"),
        }
    }

    /// What a refused caller hears.
    #[track_caller]
    pub(crate) fn denied(&self) -> &DeniedHttpResponse {
        assert!(!self.allowed(), "allowed: {self:?}");
        match &self.response.http_response {
            Some(HttpResponse::DeniedResponse(denied)) => denied,
            other => panic!("refused, and with {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn http(&self) -> i32 {
        self.denied().status.as_ref().unwrap().code
    }

    /// A header of the answer: to the client where refused, to the upstream where allowed.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers: &[HeaderValueOption] = if self.allowed() {
            &self.passed().headers
        } else {
            &self.denied().headers
        };
        let mut named = headers
            .iter()
            .filter_map(|option| option.header.as_ref())
            .filter(|header| header.key == name);
        let found = named.next();
        assert!(named.next().is_none(), "{name} is set twice");
        found.map(|header| header.value.as_str())
    }

    /// The problem document.
    #[track_caller]
    pub(crate) fn problem(&self) -> Value {
        serde_json::from_str(&self.denied().body).expect("a body in JSON")
    }

    /// One entry of the dynamic metadata.
    pub(crate) fn metadata(&self, name: &str) -> Value {
        let metadata = self.response.dynamic_metadata.as_ref().unwrap();
        match metadata
            .fields
            .get(name)
            .and_then(|value| value.kind.as_ref())
        {
            Some(Kind::StringValue(text)) => text.as_str().into(),
            Some(Kind::ListValue(list)) => {
                let texts = list.values.iter().map(|value| match &value.kind {
                    Some(Kind::StringValue(text)) => Value::from(text.as_str()),
                    other => panic!("{name} lists {other:?}"),
                });
                texts.collect()
            }
            None => Value::Null,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// The same without the names of removed headers, which repeat what the client sent, to Envoy alone.
    pub(crate) fn without_removed_names(mut self) -> Self {
        if let Some(HttpResponse::OkResponse(ok)) = &mut self.response.http_response {
            ok.headers_to_remove.clear();
        }
        self
    }

    /// Takes a header of an allowing answer out of it.
    pub(crate) fn remove_header(&mut self, name: &str) {
        if let Some(HttpResponse::OkResponse(ok)) = &mut self.response.http_response {
            let named = |option: &HeaderValueOption| {
                option
                    .header
                    .as_ref()
                    .is_some_and(|header| header.key == name)
            };
            ok.headers.retain(|option| !named(option));
        }
    }

    pub(crate) fn reason(&self) -> String {
        self.metadata("reason")
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// It is allowed, by exactly these policies, whatever their order.
    #[track_caller]
    pub(crate) fn assert_allowed(&self, policies: &[&str]) {
        self.passed();
        assert_eq!(self.metadata("verdict"), "allow");
        assert_eq!(self.metadata("reason"), "permitted");
        let Value::Array(mut named) = self.metadata("policies") else {
            panic!("no list of policies: {self:?}");
        };
        named.sort_by_key(ToString::to_string);
        assert_eq!(named, policies);
        assert_eq!(
            self.header("x-cardea-decision"),
            self.metadata("decision").as_str()
        );
    }

    /// It is refused with this HTTP status and this reason, in every respect as callers are promised.
    #[track_caller]
    pub(crate) fn assert_refused(&self, http: i32, reason: &str) {
        assert_eq!((self.http(), &*self.reason()), (http, reason), "{self:?}");
        let (grpc, title) = match (http, reason) {
            (400, _) => (3, "Bad Request"),
            (401, _) => (16, "Unauthorized"),
            (403, _) => (7, "Forbidden"),
            (404, _) => (5, "Not Found"),
            (410, _) => (5, "Gone"),
            (429, _) => (8, "Too Many Requests"),
            (503, _) => (14, "Service Unavailable"),
            _ => panic!("{http} is no status callers are promised"),
        };
        assert_eq!(self.grpc(), grpc);
        assert_eq!(self.metadata("verdict"), "deny");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let challenged = http == 401 || reason == "ambiguous_credential";
        assert_eq!(self.header("www-authenticate").is_some(), challenged);
        // Tests set callers apart for a stated time.
        let told_to_wait = matches!(http, 429 | 503) || reason == "quarantined";
        assert_eq!(self.header("retry-after").is_some(), told_to_wait);
        let problem = self.problem();
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["title"], title);
        assert_eq!(problem["status"], http);
        assert_eq!(problem["reason"], reason);
        assert!(problem["detail"].is_string());
        assert_eq!(problem["decision"], self.metadata("decision"));
        let id = problem["decision"].as_str().unwrap();
        assert_eq!(
            (id.len(), id.as_bytes()[14]),
            (36, b'7'),
            "a UUID, version 7"
        );
    }

    /// It is refused as an invalid credential, without a word on what was wrong with it.
    #[track_caller]
    pub(crate) fn assert_invalid(&self) {
        self.assert_refused(401, "credential_invalid");
        let challenge = "Bearer realm=\"cardea\", error=\"invalid_token\"";
        assert_eq!(self.header("www-authenticate"), Some(challenge));
        assert_eq!(self.problem()["detail"], "the credential is not valid");
        assert_eq!(self.metadata("principal"), Value::Null);
    }
}

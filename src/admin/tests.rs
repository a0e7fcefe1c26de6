use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// An endpoint on a free port.
struct Served {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            address: ([127, 0, 0, 1], 0).into(),
            ..Settings::default()
        };
        change(&mut settings);
        let ready = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&ready);
        let views = Views {
            readiness: Arc::new(move || {
                if seen.load(Ordering::SeqCst) {
                    Readiness::Ready
                } else {
                    Readiness::NotReady(vec!["no policies are loaded yet".to_owned()])
                }
            }),
            metrics: Arc::new(|| "cardea_ready 1\n".to_owned()),
            shadow: Arc::new(|| serde_json::json!({})),
            revocations: calls(),
        };
        let admin = Admin::bind(&settings, views).await.unwrap();
        let address = admin.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(admin.serve(stop.clone()));
        Self {
            address,
            ready,
            stop,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request as it stands and reads until the connection ends.
    async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    async fn ask(&self, method: &str, path: &str) -> String {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        self.raw(&request).await
    }
}

/// Revocations that say what they were asked.
fn calls() -> RevocationCalls {
    RevocationCalls {
        list: Arc::new(|| serde_json::json!({ "total": 0 })),
        apply: Arc::new(|body| {
            let body = String::from_utf8(body).unwrap();
            let outcome = match body.as_str() {
                "wrong" => Outcome::Mistaken,
                "full" => Outcome::Full,
                "conflict" => Outcome::Conflict,
                "unsaved" => Outcome::Unsaved,
                _ => Outcome::Done,
            };
            Box::pin(async move { (outcome, serde_json::json!({ "told": body })) })
        }),
        lift: Arc::new(|id| {
            let known = id == "known";
            let outcome = if known {
                Outcome::Done
            } else {
                Outcome::Unknown
            };
            Box::pin(async move { (outcome, serde_json::json!({ "id": id })) })
        }),
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection may also end in a reset, with the answer before it.
    let _ = timeout(SOON, stream.read_to_end(&mut answer))
        .await
        .expect("the connection ends");
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn every_route_of_the_index_answers() {
    let served = Served::start(|_| {}).await;
    let index = served.ask("GET", "/").await;
    assert_eq!(status(&index), "200");
    let routes = body(&index).lines().filter(|line| line.starts_with('/'));
    let routes: Vec<&str> = routes.map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(
        routes,
        ["/live", "/ready", "/metrics", "/shadow", "/version"]
    );
    for route in routes {
        let answer = served.ask("GET", route).await;
        assert_eq!(status(&answer), "200", "{route}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
    }
}

#[tokio::test]
async fn readiness_is_a_status_and_its_reasons() {
    let served = Served::start(|_| {}).await;
    let answer = served.ask("GET", "/ready").await;
    assert_eq!(
        (status(&answer), body(&answer)),
        ("200", r#"{"ready":true}"#)
    );
    served.ready.store(false, Ordering::SeqCst);
    let answer = served.ask("GET", "/ready").await;
    let reasons = r#"{"ready":false,"reasons":["no policies are loaded yet"]}"#;
    assert_eq!((status(&answer), body(&answer)), ("503", reasons));
    let live = served.ask("GET", "/live").await;
    assert_eq!(status(&live), "200");
}

#[tokio::test]
async fn metrics_have_the_type_prometheus_expects() {
    let served = Served::start(|_| {}).await;
    let answer = served.ask("GET", "/metrics").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_eq!(body(&answer), "cardea_ready 1\n");
}

#[tokio::test]
async fn g1_no_route_changes_anything() {
    let served = Served::start(|_| {}).await;
    for route in ["/", "/live", "/ready", "/metrics", "/shadow", "/version"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let answer = served.ask(method, route).await;
            assert_eq!(status(&answer), "405", "{method} {route}");
        }
        assert_eq!(status(&served.ask("HEAD", route).await), "200");
    }
    for route in [
        "/quitquitquit",
        "/metrics/",
        "/../ready",
        "//ready",
        "/%72eady",
    ] {
        assert_eq!(status(&served.ask("GET", route).await), "404", "{route}");
    }
}

#[tokio::test]
async fn g1_the_default_address_is_loopback() {
    assert!(Settings::default().address.ip().is_loopback());
    assert_eq!(Settings::default().problems(), []);
}

#[tokio::test]
async fn requests_with_a_body_are_refused_unread() {
    let served = Served::start(|_| {}).await;
    for body in [
        "content-length: 9999999999\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nff\r\n",
    ] {
        let answer = served
            .raw(&format!("GET /live HTTP/1.1\r\nhost: x\r\n{body}"))
            .await;
        assert_eq!(status(&answer), "413", "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let served = Served::start(|_| {}).await;
    let long = format!(
        "GET /live HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n",
        "x".repeat(64 << 10)
    );
    let many = format!(
        "GET /live HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(100)
    );
    for request in [long, many] {
        let answer = served.raw(&request).await;
        // The answer can be lost where the client is still sending when the connection is closed.
        assert!(matches!(status(&answer), "431" | ""), "{answer}");
    }
    assert_eq!(status(&served.ask("GET", "/live").await), "200");
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let served = Served::start(|s| s.header_timeout = Period::millis(50)).await;
    let mut slow = served.connect().await;
    slow.write_all(b"GET /live HTTP/1.1\r\nhost:")
        .await
        .unwrap();
    assert_ne!(status(&rest(&mut slow).await), "200");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let served = Served::start(|s| {
        s.connections = 1;
        s.connection_lifetime = Period::seconds(60);
    })
    .await;
    let mut first = served.connect().await;
    first
        .write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut begin = [0; 12];
    first.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let mut second = served.connect().await;
    second
        .write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let early = timeout(Duration::from_millis(100), second.read_u8()).await;
    assert!(
        early.is_err(),
        "the second connection was served beside the first"
    );
    drop(first);
    assert!(rest(&mut second).await.contains("200 OK"));
}

#[tokio::test]
async fn a_connection_ends_when_its_time_is_over() {
    let served = Served::start(|s| s.connection_lifetime = Period::millis(50)).await;
    let mut idle = served.connect().await;
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn it_stops_when_told_and_frees_its_port() {
    let served = Served::start(|_| {}).await;
    let mut idle = served.connect().await;
    served.stop.cancel();
    timeout(SOON, served.task).await.unwrap().unwrap();
    assert_eq!(rest(&mut idle).await, "");
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_taken_port_and_wrong_settings_are_problems() {
    let served = Served::start(|_| {}).await;
    let views = Views {
        readiness: Arc::new(|| Readiness::Ready),
        metrics: Arc::new(String::new),
        shadow: Arc::new(|| serde_json::json!({})),
        revocations: calls(),
    };
    let mut settings = Settings {
        address: served.address,
        ..Settings::default()
    };
    let problems = Admin::bind(&settings, views.clone()).await.unwrap_err();
    assert!(
        problems[0].message.contains("cannot listen"),
        "{problems:?}"
    );
    settings.connections = 0;
    settings.header_timeout = Period::seconds(0);
    settings.connection_lifetime = Period::seconds(0);
    assert_eq!(Admin::bind(&settings, views).await.unwrap_err().len(), 3);
    let unknown = serde_json::from_str::<Settings>(r#"{"adress":"127.0.0.1:1"}"#);
    assert!(unknown.is_err());
}

const SECRET: &str = "0123456789abcdef";

/// An endpoint whose changes need [`SECRET`].
async fn guarded() -> (Served, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let served = Served::start(|settings| settings.token = Some(SecretRef::File(path))).await;
    (served, folder)
}

impl Served {
    async fn call(&self, line: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        self.raw(&format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ))
        .await
    }
}

const CALLS: [&str; 3] = [
    "GET /revocations",
    "POST /revocations",
    "DELETE /revocations/known",
];

#[tokio::test]
async fn g1_changes_are_off_until_there_is_a_secret() {
    let served = Served::start(|_| {}).await;
    for call in CALLS {
        for headers in [
            "",
            "authorization: Bearer \r\n",
            "authorization: Bearer None\r\n",
        ] {
            assert_eq!(
                status(&served.call(call, headers, "").await),
                "403",
                "{call}"
            );
        }
    }
}

#[tokio::test]
async fn g1_changes_need_the_secret_to_the_letter() {
    let (served, _folder) = guarded().await;
    for call in CALLS {
        for headers in [
            String::new(),
            "authorization: Bearer\r\n".to_owned(),
            "authorization: Bearer \r\n".to_owned(),
            format!("authorization: {SECRET}\r\n"),
            format!("authorization: Basic {SECRET}\r\n"),
            format!("authorization: Bearer {SECRET}0\r\n"),
            format!("authorization: Bearer  {SECRET}\r\n"),
            format!("authorization: Bearer {}\r\n", SECRET.trim_end_matches('f')),
            format!("authorization: Bearer {}\r\n", SECRET.to_uppercase()),
            format!("authorization: Bearer x\r\nauthorization: Bearer {SECRET}\r\n"),
            format!("cookie: token={SECRET}\r\n"),
        ] {
            let answer = served.call(call, &headers, "").await;
            assert_eq!(status(&answer), "401", "{call} {headers}");
            assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
            assert!(!answer.contains(SECRET));
        }
        let good = format!("authorization: bearer {SECRET}\r\n");
        assert_eq!(status(&served.call(call, &good, "").await), "200", "{call}");
    }
    // Reading metrics needs none, and gives none away.
    assert_eq!(status(&served.ask("GET", "/metrics").await), "200");
}

#[tokio::test]
async fn what_became_of_a_change_is_its_status() {
    let (served, _folder) = guarded().await;
    let good = format!("authorization: Bearer {SECRET}\r\n");
    for (told, expected) in [
        ("alice", "200"),
        ("wrong", "400"),
        ("full", "503"),
        ("conflict", "409"),
        ("unsaved", "500"),
    ] {
        let answer = served.call("POST /revocations", &good, told).await;
        assert_eq!(status(&answer), expected);
        assert_eq!(body(&answer), format!(r#"{{"told":"{told}"}}"#));
        assert!(answer.contains("cache-control: no-store"));
    }
    let unknown = served.call("DELETE /revocations/other", &good, "").await;
    assert_eq!(status(&unknown), "404");
    for (call, expected) in [
        ("PUT /revocations", "405"),
        ("POST /revocations/known", "405"),
        ("GET /revocations/known", "405"),
    ] {
        assert_eq!(
            status(&served.call(call, &good, "").await),
            expected,
            "{call}"
        );
    }
}

#[tokio::test]
async fn only_what_is_told_may_have_a_body_and_that_is_bounded() {
    let (served, _folder) = guarded().await;
    let good = format!("authorization: Bearer {SECRET}\r\n");
    for call in [
        "GET /revocations",
        "DELETE /revocations/known",
        "POST /metrics",
    ] {
        let answer = served.call(call, &good, "x").await;
        assert_eq!(status(&answer), "413", "{call}");
    }
    let long = "x".repeat(17 << 10);
    let answer = served.call("POST /revocations", &good, &long).await;
    // The answer can be lost where the client is still sending when the connection is closed.
    assert!(matches!(status(&answer), "413" | ""), "{answer}");
    let unasked = served.call("POST /revocations", "", &long).await;
    assert!(matches!(status(&unasked), "401" | ""), "{unasked}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_had_or_is_weak_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    for text in ["", "short", "0123456789 abcdef", "0123456789abcd\u{e9}"] {
        std::fs::write(&path, text).unwrap();
        let problem = Secret::resolve(&SecretRef::File(path.clone())).unwrap_err();
        assert!(problem.message.contains("admin.token"), "{problem}");
        assert!(text.is_empty() || !problem.to_string().contains(text));
    }
    let missing = SecretRef::File(folder.path().join("none"));
    assert!(Secret::resolve(&missing).is_err());
    let secret = Secret::resolve(&SecretRef::File(path.clone()));
    assert!(secret.is_err());
    std::fs::write(&path, SECRET).unwrap();
    let secret = Secret::resolve(&SecretRef::File(path)).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret");
}

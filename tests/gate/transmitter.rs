//! A transmitter of security events (OpenID Shared Signals Framework 1.0): it describes itself, signs events, holds them
//! until they are fetched and acknowledged, sends verification events, and can be made to misbehave.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::issuer::{ISSUER, Key, changed, jwks, now};
use crate::world::{World, eventually};

/// Who Cardea is to every transmitter.
pub(crate) const US: &str = "https://api.example.com/ssf";

/// The stream's id.
pub(crate) const STREAM: &str = "stream-1";

pub(crate) const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
pub(crate) const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
pub(crate) const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// How events are given out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Manner {
    /// As RFC 8936 says.
    #[default]
    Good,
    /// Good, but whatever is acknowledged is given out again.
    Forgetful,
    /// This text, with status 200.
    Text(String),
    /// This status.
    Status(u16),
    /// 302 to this place.
    Redirect(String),
    /// A body that comes to no end, as fast as it can.
    Flood,
    /// A body of which a byte comes each 50 ms.
    Drip,
    /// No answer at all.
    Hang,
}

/// A transmitter on a loopback port.
pub(crate) struct Transmitter {
    address: SocketAddr,
    shared: Arc<Shared>,
    pub(crate) key: Key,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    closing: AtomicBool,
}

#[derive(Default)]
struct Inner {
    issuer: String,
    jwks: String,
    manner: Manner,
    /// Events that were not acknowledged yet.
    waiting: BTreeMap<String, String>,
    acknowledged: Vec<String>,
    errors: BTreeMap<String, Value>,
    polls: Vec<Value>,
    /// `Authorization` of the last question.
    authorization: Option<String>,
    /// The states that were asked for.
    states: Vec<String>,
    most_at_once: usize,
}

impl Transmitter {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let key = Key::es256("t1");
        {
            let mut inner = shared.lock();
            inner.issuer = format!("http://{address}");
            inner.jwks = jwks(&[&key]);
        }
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.closing.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&serving);
                // A client that hangs up is what several tests are about.
                thread::spawn(move || stream.and_then(|stream| shared.serve(stream)));
            }
        });
        Self {
            address,
            shared,
            key,
        }
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Settings of a transmitter that pushes and may speak of the subjects of the tests' issuer.
    pub(crate) fn settings(&self, name: &str) -> Value {
        json!({
            "name": name,
            "issuer": self.issuer(),
            "audiences": [US],
            "subject_issuers": [ISSUER],
            "push": { "unauthenticated": true },
        })
    }

    /// The claims of an event, but for these changes.
    pub(crate) fn claims(&self, uri: &str, event: impl Into<Value>, changes: Value) -> Value {
        let event = event.into();
        let claims = json!({
            "iss": self.issuer(), "aud": [US], "iat": now(), "jti": unique(), "txn": "t",
            "sub_id": { "format": "iss_sub", "iss": ISSUER, "sub": "alice" },
            "events": { uri: event },
        });
        changed(claims, changes)
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": self.key.algorithm, "kid": self.key.kid, "typ": "secevent+jwt" })
    }

    /// Signs an event.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = self.header().to_string();
        self.key.sign_texts(&header, &claims.to_string())
    }

    /// An event about one subject of the tests' issuer.
    pub(crate) fn event(&self, uri: &str, event: Value, subject: &str) -> String {
        let sub_id = json!({ "format": "iss_sub", "iss": ISSUER, "sub": subject });
        self.sign(&self.claims(uri, event, json!({ "sub_id": sub_id })))
    }

    /// That the sessions of one subject were revoked.
    pub(crate) fn revoked(&self, subject: &str) -> String {
        self.event(&format!("{CAEP}session-revoked"), json!({}), subject)
    }

    /// A verification event with this state.
    pub(crate) fn verification(&self, state: &str) -> String {
        let uri = format!("{SSF}verification");
        let sub_id = json!({ "format": "opaque", "id": STREAM });
        self.sign(&self.claims(&uri, json!({ "state": state }), json!({ "sub_id": sub_id })))
    }

    /// Lets an event wait until it is fetched, under its own `jti`. Returns that.
    pub(crate) fn hold(&self, set: &str) -> String {
        let jti = jti(set);
        self.hold_as(&jti, set);
        jti
    }

    pub(crate) fn hold_as(&self, jti: &str, set: &str) {
        self.shared.lock().waiting.insert(jti.into(), set.into());
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.shared.lock().manner = manner;
    }

    /// Signs with another key from now on, and publishes that alone.
    pub(crate) fn rotate(&mut self, kid: &str) {
        self.key = Key::es256(kid);
        self.publish(&jwks(&[&self.key]));
    }

    pub(crate) fn publish(&self, jwks: &str) {
        self.shared.lock().jwks = jwks.to_owned();
    }

    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    pub(crate) fn acknowledged(&self, jti: &str) -> bool {
        self.shared.lock().acknowledged.iter().any(|one| one == jti)
    }

    /// What was said to be wrong with an event.
    pub(crate) fn error(&self, jti: &str) -> Option<Value> {
        self.shared.lock().errors.get(jti).cloned()
    }

    pub(crate) fn polls(&self) -> usize {
        self.shared.lock().polls.len()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.lock().most_at_once
    }

    pub(crate) fn authorization(&self) -> Option<String> {
        self.shared.lock().authorization.clone()
    }

    /// The state that is asked for after `seen` others.
    pub(crate) fn state(&self, seen: usize) -> String {
        eventually("a verification event is asked for", || {
            self.shared.lock().states.len() > seen
        });
        self.shared.lock().states[seen].clone()
    }
}

impl Drop for Transmitter {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let (head, body) = read(&mut stream)?;
        let line = head.lines().next().unwrap_or_default();
        let (method, path) = line.split_once(' ').unwrap_or_default();
        let path = path.split(' ').next().unwrap_or_default();
        let authorization = header(&head, "authorization");
        match (method, path) {
            ("GET", "/.well-known/ssf-configuration") => {
                let issuer = self.lock().issuer.clone();
                let told = json!({
                    "spec_version": "1_0",
                    "issuer": issuer,
                    "jwks_uri": format!("{issuer}/jwks"),
                    "verification_endpoint": format!("{issuer}/verify"),
                });
                answer(&mut stream, 200, "", &told.to_string())
            }
            ("GET", "/jwks") => {
                let jwks = self.lock().jwks.clone();
                answer(&mut stream, 200, "", &jwks)
            }
            ("POST", "/verify") => {
                let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
                assert_eq!(asked["stream_id"], STREAM);
                let mut inner = self.lock();
                inner.authorization = authorization;
                inner
                    .states
                    .push(asked["state"].as_str().unwrap_or_default().to_owned());
                drop(inner);
                answer(&mut stream, 204, "", "")
            }
            ("POST", "/poll") => self.poll(&mut stream, &body, authorization),
            _ => answer(&mut stream, 404, "", ""),
        }
    }

    fn poll(
        &self,
        stream: &mut TcpStream,
        body: &[u8],
        authorization: Option<String>,
    ) -> std::io::Result<()> {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut inner = self.lock();
        inner.authorization = authorization;
        inner.polls.push(asked.clone());
        let manner = inner.manner.clone();
        match manner {
            Manner::Good | Manner::Forgetful => {
                let told = inner.answer(&asked, manner == Manner::Forgetful);
                drop(inner);
                answer(
                    stream,
                    200,
                    "content-type: application/json\r\n",
                    &told.to_string(),
                )
            }
            Manner::Text(text) => answer(stream, 200, "", &text),
            Manner::Status(status) => answer(stream, status, "", ""),
            Manner::Redirect(to) => answer(stream, 302, &format!("location: {to}\r\n"), ""),
            other => {
                drop(inner);
                endless(stream, &other)
            }
        }
    }
}

impl Inner {
    fn answer(&mut self, asked: &Value, forgetful: bool) -> Value {
        for jti in asked["ack"].as_array().into_iter().flatten() {
            let jti = jti.as_str().unwrap();
            self.acknowledged.push(jti.to_owned());
            if !forgetful {
                self.waiting.remove(jti);
            }
        }
        for (jti, error) in asked["setErrs"].as_object().into_iter().flatten() {
            self.errors.insert(jti.clone(), error.clone());
            self.waiting.remove(jti);
        }
        let most = asked["maxEvents"].as_u64().unwrap();
        let most = usize::try_from(most).unwrap();
        let sets = self.waiting.iter().take(most);
        let sets: Map<String, Value> = sets
            .map(|(jti, set)| (jti.clone(), set.as_str().into()))
            .collect();
        self.most_at_once = self.most_at_once.max(sets.len());
        json!({ "sets": sets, "moreAvailable": forgetful || self.waiting.len() > sets.len() })
    }
}

fn endless(stream: &mut TcpStream, manner: &Manner) -> std::io::Result<()> {
    if *manner == Manner::Hang {
        return stream.read(&mut [0]).map(|_| ());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"sets\":{}")?;
    let chunk = if *manner == Manner::Flood { 65_536 } else { 1 };
    let chunk = vec![b' '; chunk];
    loop {
        stream.write_all(&chunk)?;
        if chunk.len() == 1 {
            thread::park_timeout(Duration::from_millis(50));
        }
    }
}

fn read(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = header(&head, "content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(own, _)| own.eq_ignore_ascii_case(name))?;
    Some(value.trim().to_owned())
}

fn answer(stream: &mut TcpStream, status: u16, more: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    );
    stream.write_all(text.as_bytes())
}

/// A text that was not used before.
pub(crate) fn unique() -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    format!("jti-{:06}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn jti(set: &str) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let payload = URL_SAFE_NO_PAD
        .decode(set.split('.').nth(1).unwrap())
        .unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

/// Something that was sent to Cardea's public endpoint.
pub(crate) struct Push<'a> {
    pub(crate) to: SocketAddr,
    pub(crate) name: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) authorization: Option<&'a str>,
}

impl Push<'_> {
    /// Sends a body: the status and the error's code.
    pub(crate) fn send(&self, body: &str) -> (u16, String) {
        let text = self.exchange(body);
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let told: Value = serde_json::from_str(body).unwrap_or_default();
        (status, told["err"].as_str().unwrap_or_default().to_owned())
    }

    /// Sends a body: the whole answer, head and all.
    pub(crate) fn exchange(&self, body: &str) -> String {
        let mut stream = TcpStream::connect(self.to).unwrap();
        let authorization = self
            .authorization
            .map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
        let head = format!(
            "POST /ssf/{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {}\r\ncontent-length: {}\r\n{authorization}",
            self.name,
            self.content_type,
            body.len()
        );
        // One that is too long is answered before it was all sent.
        let _cut = write!(stream, "{head}\r\n{body}");
        let mut text = String::new();
        let _cut = stream.read_to_string(&mut text);
        text
    }
}

impl World {
    /// Pushes an event as this transmitter.
    pub(crate) fn push(&self, name: &str, set: &str) -> (u16, String) {
        self.pushing(name).send(set)
    }

    pub(crate) fn pushing<'a>(&self, name: &'a str) -> Push<'a> {
        Push {
            to: self.app().public_address().unwrap(),
            name,
            content_type: "application/secevent+jwt",
            authorization: None,
        }
    }
}

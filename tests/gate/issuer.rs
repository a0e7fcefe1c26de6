//! An issuer: keys, the tokens they sign, and a key server on loopback that can be made to misbehave.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardea::model::{Clock, SystemClock};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://login.example.com";
pub(crate) const AUDIENCE: &str = "https://api.example.com";

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemClock.now().as_second()
}

/// A key pair under a key id.
pub(crate) struct Key {
    pub(crate) kid: String,
    pub(crate) algorithm: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<(EcdsaKeyPair, EcdsaKeyPair)>),
    Ed(Ed25519KeyPair),
}

/// Making an RSA key is slow, so all tests share one.
static RSA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)
        .unwrap()
        .as_ref()
        .to_vec()
});

impl Key {
    pub(crate) fn rs256(kid: &str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(&RSA).unwrap();
        Self::new(kid, "RS256", Pair::Rsa(Box::new(pair)))
    }

    pub(crate) fn es256(kid: &str) -> Self {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let fixed = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref());
        let asn1 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.as_ref());
        Self::new(
            kid,
            "ES256",
            Pair::Ec(Box::new((fixed.unwrap(), asn1.unwrap()))),
        )
    }

    pub(crate) fn es384(kid: &str) -> Self {
        let pair = || EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self::new(kid, "ES384", Pair::Ec(Box::new((pair(), pair()))))
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        Self::new(kid, "EdDSA", Pair::Ed(Ed25519KeyPair::generate().unwrap()))
    }

    fn new(kid: &str, algorithm: &'static str, pair: Pair) -> Self {
        Self {
            kid: kid.to_owned(),
            algorithm,
            pair,
        }
    }

    /// The public half.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                // SEQUENCE { INTEGER n, INTEGER e } with a modulus of 2048 bits.
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "n": b64(&der[9..9 + 256]), "e": b64(&der[der.len() - 3..])})
            }
            Pair::Ec(pair) => {
                let point = pair.0.public_key().as_ref();
                let (x, y) = point[1..].split_at((point.len() - 1) / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key())}),
        };
        jwk["kid"] = self.kid.as_str().into();
        jwk["alg"] = self.algorithm.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// The public half as its maker writes it in DER (RSA) or as a point (EC, Ed25519).
    pub(crate) fn public(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ec(pair) => pair.0.public_key().as_ref().to_vec(),
            Pair::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Pair::Ec(pair) => pair.0.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The same signature in ASN.1, which JWS does not use.
    pub(crate) fn sign_asn1(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Ec(pair) => pair
                .1
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec(),
            Pair::Rsa(_) | Pair::Ed(_) => panic!("only ECDSA signatures come in ASN.1"),
        }
    }

    /// Signs any two texts as header and payload.
    pub(crate) fn sign_texts(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(payload));
        let signature = b64(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm, "kid": self.kid, "typ": "at+jwt"})
    }

    /// A good token of alice, who may read and write orders.
    pub(crate) fn token(&self) -> String {
        self.token_with(json!({}))
    }

    /// A good token but for these claims; `null` removes one.
    pub(crate) fn token_with(&self, changes: Value) -> String {
        let payload = changed(claims(), changes).to_string();
        self.sign_texts(&self.header().to_string(), &payload)
    }

    /// A good token but for these header members; `null` removes one.
    pub(crate) fn token_under(&self, changes: Value) -> String {
        let header = changed(self.header(), changes).to_string();
        self.sign_texts(&header, &claims().to_string())
    }
}

/// The claims of a good token.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now() - 10, "exp": now() + 300,
        "scope": "orders:read orders:write profile", "roles": ["order-editor"], "tenant": "acme",
    })
}

pub(crate) fn changed(mut object: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else {
        panic!("changes are an object");
    };
    for (name, value) in changes {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(&name);
        } else {
            object[name] = value;
        }
    }
    object
}

pub(crate) fn jwks(keys: &[&Key]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// How the server answers at one path.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// 200 with this text.
    Text(String),
    /// 200 with this JSON.
    Json(Value),
    /// This status, and an HTML page as proxies give it.
    Status(u16),
    /// 302 to this place.
    Redirect(String),
    /// Nothing, until the client hangs up.
    Hang,
    /// Nothing, until there is another reply at this path; then that one.
    Hold,
    /// A body of which a byte comes each 100 ms, without end.
    Drip,
    /// A body of this many bytes.
    Flood(u64),
    /// The end of the connection.
    Close,
}

/// A key server on a loopback port: every connection has its own thread, and serves one request.
pub(crate) struct KeyServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    replies: Mutex<BTreeMap<String, Reply>>,
    asked: Mutex<Vec<String>>,
    heard: Mutex<String>,
    sent: AtomicU64,
    hanging: AtomicU64,
    changed: Condvar,
    closing: AtomicBool,
}

impl KeyServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
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
        Self { address, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn reply(&self, path: &str, reply: Reply) {
        self.shared
            .replies
            .lock()
            .unwrap()
            .insert(path.to_owned(), reply);
        self.shared.changed.notify_all();
    }

    /// Puts these keys at `/jwks`.
    pub(crate) fn publish(&self, keys: &[&Key]) {
        self.reply("/jwks", Reply::Text(jwks(keys)));
    }

    /// How many requests it has seen.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// Everything that was sent to it: heads and bodies.
    pub(crate) fn heard(&self) -> String {
        self.shared.heard.lock().unwrap().clone()
    }

    /// How many body bytes the network took from it.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// How many clients are waiting for an answer that does not come.
    pub(crate) fn hanging(&self) -> u64 {
        self.shared.hanging.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(path.clone());
        // Closing a connection with something unread takes the answer back.
        let body = body(&head, &mut stream)?;
        *self.heard.lock().unwrap() += &(head + &body);
        match self.next_reply(&path).unwrap_or(Reply::Status(404)) {
            Reply::Text(text) => answer(&mut stream, 200, "", &text),
            Reply::Json(value) => {
                let kind = "content-type: application/json\r\n";
                answer(&mut stream, 200, kind, &value.to_string())
            }
            Reply::Status(status) => answer(&mut stream, status, "", "<html>oh no</html>"),
            Reply::Redirect(to) => answer(&mut stream, 302, &format!("location: {to}\r\n"), ""),
            Reply::Close | Reply::Hold => Ok(()),
            Reply::Hang => {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                let ended = stream.read(&mut byte).map(|_| ());
                self.hanging.fetch_sub(1, Ordering::SeqCst);
                ended
            }
            Reply::Drip => drip(&mut stream),
            Reply::Flood(bytes) => self.flood(&mut stream, bytes),
        }
    }

    /// The reply at a path, once it is there.
    fn next_reply(&self, path: &str) -> Option<Reply> {
        let mut replies = self.replies.lock().unwrap();
        self.hanging.fetch_add(1, Ordering::SeqCst);
        while matches!(replies.get(path), Some(Reply::Hold)) && !self.closing.load(Ordering::SeqCst)
        {
            let waited = self
                .changed
                .wait_timeout(replies, Duration::from_millis(100));
            replies = waited.unwrap().0;
        }
        self.hanging.fetch_sub(1, Ordering::SeqCst);
        replies.get(path).cloned()
    }

    fn flood(&self, stream: &mut TcpStream, bytes: u64) -> std::io::Result<()> {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let chunk = vec![b' '; 65_536];
        let mut left = bytes;
        while left > 0 {
            stream.write_all(&chunk)?;
            self.sent.fetch_add(chunk.len() as u64, Ordering::SeqCst);
            left = left.saturating_sub(chunk.len() as u64);
        }
        Ok(())
    }
}

/// The body that a head announces.
fn body(head: &str, stream: &mut TcpStream) -> std::io::Result<String> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut length = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.next().map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn answer(stream: &mut TcpStream, status: u16, more: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    );
    stream.write_all(text.as_bytes())
}

/// Reading with a time limit paces the drops, and notices when the client hangs up.
fn drip(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    loop {
        match stream.read(&mut [0]) {
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        stream.write_all(b" ")?;
    }
}

//! For tests: a server that answers questions about tokens, well or in any bad way, on a loopback port.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::super::settings::{ClientAuth, ClientSettings, IntrospectionSettings};
use super::super::testing::{AUDIENCE, NOW};
use super::answer::PLAIN;
use crate::model::{Period, SecretRef};

/// How a question is answered.
#[derive(Clone)]
pub(super) enum Reply {
    /// By this status, content type and body.
    Answer(u16, &'static str, String),
    /// By a redirect to that place.
    Redirect(String),
    /// Never.
    Hang,
    /// As within, once the notification comes.
    Held(Arc<Notify>, Box<Reply>),
    /// By 100 MB of blanks.
    Huge,
    /// By a connection that ends.
    Closed,
}

impl Reply {
    pub(super) fn json(body: &Value) -> Self {
        Self::Answer(200, PLAIN, body.to_string())
    }

    pub(super) fn text(body: &str) -> Self {
        Self::Answer(200, PLAIN, body.to_owned())
    }

    pub(super) fn held(self) -> (Arc<Notify>, Self) {
        let go = Arc::new(Notify::new());
        (Arc::clone(&go), Self::Held(go, Box::new(self)))
    }
}

/// What a good answer says.
pub(super) fn active() -> Value {
    json!({
        "active": true, "sub": "alice", "client_id": "web", "aud": AUDIENCE, "token_type": "Bearer",
        "scope": "orders:read", "iat": NOW - 10, "exp": NOW + 300, "username": "someone else",
    })
}

/// A question as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Question {
    /// The head, in lower case where it names fields.
    pub(super) head: String,
    pub(super) form: BTreeMap<String, String>,
}

impl Question {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(own, _)| own.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }
}

/// The server.
pub(super) struct Stub {
    pub(super) url: String,
    shared: Arc<Shared>,
    folder: TempDir,
}

#[derive(Default)]
struct Shared {
    reply: Mutex<Option<Reply>>,
    documents: Mutex<BTreeMap<String, String>>,
    questions: AtomicUsize,
    last: Mutex<Question>,
    written: AtomicUsize,
}

impl Stub {
    pub(super) async fn start(reply: Reply) -> Self {
        Self::over(reply, None).await
    }

    /// One that speaks TLS and wants a certificate from whoever asks.
    pub(super) async fn mutual(reply: Reply, papers: &Papers) -> Self {
        Self::over(reply, Some(papers.acceptor())).await
    }

    async fn over(reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = match tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let shared = Arc::new(Shared::default());
        *shared.reply.lock().unwrap() = Some(reply);
        let stub = Self {
            url,
            shared: Arc::clone(&shared),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(stub.folder.path().join("secret"), "s3cr3t: &").unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &shared).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &shared).await,
                            Err(_) => return,
                        },
                    };
                });
            }
        });
        stub
    }

    pub(super) fn reply(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = Some(reply);
    }

    /// Has it serve a document at that path.
    pub(super) fn publish(&self, path: &str, document: String) {
        let mut documents = self.shared.documents.lock().unwrap();
        documents.insert(path.to_owned(), document);
    }

    /// How many questions it was asked.
    pub(super) fn asked(&self) -> usize {
        self.shared.questions.load(Ordering::SeqCst)
    }

    pub(super) fn last(&self) -> Question {
        self.shared.last.lock().unwrap().clone()
    }

    /// How many bytes of huge answers anybody took.
    pub(super) fn written(&self) -> usize {
        self.shared.written.load(Ordering::SeqCst)
    }

    pub(super) fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    pub(super) fn settings(&self) -> IntrospectionSettings {
        IntrospectionSettings {
            issuer: self.url.clone(),
            endpoint: Some(format!("{}/introspect", self.url)),
            client: ClientSettings {
                id: "cardea api".to_owned(),
                auth: Some(ClientAuth::ClientSecretBasic(SecretRef::File(
                    self.secret(),
                ))),
            },
            audiences: vec![AUDIENCE.to_owned()],
            timeout: Period::seconds(10),
            ..IntrospectionSettings::default()
        }
    }
}

/// Answers one connection until it ends.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> Option<()> {
    loop {
        let question = question(&mut stream).await?;
        let path = question.head.split(' ').nth(1)?.to_owned();
        let document = shared.documents.lock().unwrap().get(&path).cloned();
        let reply = if let Some(document) = document {
            Reply::text(&document)
        } else {
            *shared.last.lock().unwrap() = question;
            shared.questions.fetch_add(1, Ordering::SeqCst);
            shared.reply.lock().unwrap().clone()?
        };
        answer(&mut stream, reply, shared).await?;
    }
}

async fn question(stream: &mut (impl AsyncRead + Unpin)) -> Option<Question> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut question = Question {
        head: String::from_utf8(head).ok()?,
        form: BTreeMap::new(),
    };
    let length = question.field("content-length").unwrap_or("0");
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    question.form = url::form_urlencoded::parse(&body).into_owned().collect();
    Some(question)
}

async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    reply: Reply,
    shared: &Shared,
) -> Option<()> {
    let mut reply = reply;
    while let Reply::Held(go, within) = reply {
        go.notified().await;
        reply = *within;
    }
    let text = match reply {
        Reply::Answer(status, media_type, body) => format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
        Reply::Redirect(place) => {
            format!("HTTP/1.1 307 X\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n")
        }
        Reply::Hang => std::future::pending().await,
        Reply::Closed | Reply::Held(..) => return None,
        Reply::Huge => {
            let head = format!("HTTP/1.1 200 X\r\ncontent-type: {PLAIN}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
            let blanks = [b' '; 10_000];
            for _ in 0..10_000 {
                stream.write_all(&blanks).await.ok()?;
                shared.written.fetch_add(blanks.len(), Ordering::SeqCst);
            }
            return None;
        }
    };
    stream.write_all(text.as_bytes()).await.ok()
}

/// An authority, and the certificates it gave to a server and to a client.
pub(super) struct Papers {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    authority: CertificateDer<'static>,
}

impl Papers {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let papers = Self {
            folder,
            authority: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        };
        papers.issue("localhost", "server");
        papers.issue("cardea", "client");
        papers
    }

    /// Writes a certificate and its key under these names.
    pub(super) fn issue(&self, name: &str, file: &str) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn auth(&self) -> ClientAuth {
        ClientAuth::TlsClientAuth {
            certificate_file: self.path("client.pem"),
            key_file: self.path("client.key"),
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        super::super::install_crypto();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots));
        let chain = vec![CertificateDer::from_pem_file(self.path("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Writes a private key in PEM and gives its public half as PEM too.
pub(super) fn private_key(path: &Path) -> Vec<u8> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    std::fs::write(path, key.serialize_pem()).unwrap();
    key.public_key_pem().into_bytes()
}

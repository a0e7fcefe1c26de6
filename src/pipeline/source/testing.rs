//! For tests: a publisher of bundles with keys and serials, and a server that behaves or does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::policy::{Archive, BundleFiles, SigningKey};

const SCHEMA: &str = include_str!("../../../policies/schema/cardea.cedarschema");
pub(crate) const PERMIT: &str = "permit (principal, action, resource);";

/// Somebody who signs bundles.
pub(crate) struct Publisher {
    folder: tempfile::TempDir,
    key: SigningKey,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let new = SigningKey::generate().unwrap();
        let private = folder.path().join("k.key");
        fs::write(&private, new.private.expose_secret()).unwrap();
        fs::write(folder.path().join("k.pub"), new.public).unwrap();
        let key = SigningKey::read(&private).unwrap();
        Self { folder, key }
    }

    pub(crate) fn public_key(&self) -> PathBuf {
        self.folder.path().join("k.pub")
    }

    /// An archive of one policy, and its signature.
    pub(crate) fn publish(&self, serial: u64, policy: &str) -> (Vec<u8>, Vec<u8>) {
        let folder = bundle(policy);
        let files = BundleFiles::read(folder.path()).unwrap();
        let archive = Archive::build(&files, folder.path(), serial, None).unwrap();
        let signature = self.key.sign(&archive).into_bytes();
        (archive, signature)
    }
}

/// A folder with a bundle of one policy.
pub(crate) fn bundle(policy: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.cedarschema"), SCHEMA).unwrap();
    fs::write(folder.path().join("p.cedar"), policy).unwrap();
    folder
}

/// What the server does when it is asked.
#[derive(Clone, Default)]
pub(crate) enum Manner {
    /// As HTTP says, with validators.
    #[default]
    Good,
    /// Good, and without validators.
    Forgetful,
    /// This status.
    Status(u16),
    /// 302 to this place.
    Redirect(String),
    /// A body that comes to no end.
    Endless,
    /// A head, and then nothing more.
    Stalled,
    /// Half of the body, then the end of the connection.
    Half,
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    manner: Manner,
    /// Path and status of every answer, with the credential that came.
    answers: Vec<(String, u16)>,
    credentials: Vec<Option<String>>,
}

/// A server on a loopback port.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) origin: String,
    shared: Arc<Mutex<Shared>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::serve(None, "http://127.0.0.1").await
    }

    /// The same over TLS, and the certificate to trust.
    pub(crate) async fn start_tls(folder: &Path) -> (Self, PathBuf) {
        crate::identity::install_crypto();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = folder.join("ca.pem");
        fs::write(&ca, made.cert.pem()).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        (Self::serve(Some(acceptor), "https://localhost").await, ca)
    }

    async fn serve(tls: Option<TlsAcceptor>, scheme: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self {
            origin: format!("{scheme}:{port}"),
            shared: Arc::default(),
        };
        let shared = Arc::clone(&server.shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/b.tar.gz", self.origin)
    }

    /// Puts archive and signature in place at once.
    pub(crate) fn put(&self, (archive, signature): (Vec<u8>, Vec<u8>)) {
        let mut shared = self.shared.lock().unwrap();
        shared.files.insert("/b.tar.gz".into(), archive);
        shared.files.insert("/b.tar.gz.sig".into(), signature);
    }

    pub(crate) fn manner(&self, manner: Manner) {
        self.shared.lock().unwrap().manner = manner;
    }

    /// How often a file was answered for with a status.
    pub(crate) fn count(&self, path: &str, status: u16) -> usize {
        let shared = self.shared.lock().unwrap();
        let same = |(p, s): &&(String, u16)| p == path && *s == status;
        shared.answers.iter().filter(same).count()
    }

    pub(crate) fn credentials(&self) -> Vec<Option<String>> {
        self.shared.lock().unwrap().credentials.clone()
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let line = head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value)
    });
    line.map(str::trim)
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Mutex<Shared>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let (manner, body) = {
        let shared = shared.lock().unwrap();
        (shared.manner.clone(), shared.files.get(&path).cloned())
    };
    let etag = |body: &[u8]| format!("\"{}\"", blake3::hash(body).to_hex());
    let known = header(&head, "if-none-match");
    let (status, more, body) = match (&manner, body) {
        (Manner::Status(status), _) => (*status, String::new(), Vec::new()),
        (Manner::Redirect(place), _) => (302, format!("location: {place}{path}\r\n"), Vec::new()),
        (_, None) => (404, String::new(), Vec::new()),
        (Manner::Forgetful, Some(body)) => (200, String::new(), body),
        (_, Some(body)) => {
            let etag = etag(&body);
            let line = format!("etag: {etag}\r\n");
            if known == Some(&etag) {
                (304, line, Vec::new())
            } else {
                (200, line, body)
            }
        }
    };
    {
        let mut shared = shared.lock().unwrap();
        shared.answers.push((path, status));
        let credential = header(&head, "authorization").map(str::to_owned);
        shared.credentials.push(credential);
    }
    let length = match manner {
        Manner::Endless => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{length}{more}\r\n");
    let _gone = stream.write_all(head.as_bytes()).await;
    match manner {
        Manner::Endless => while stream.write_all(&[b' '; 4096]).await.is_ok() {},
        Manner::Stalled => std::future::pending().await,
        Manner::Half => {
            let _gone = stream.write_all(&body[..body.len() / 2]).await;
        }
        _ => {
            let _gone = stream.write_all(&body).await;
        }
    }
    let _gone = stream.shutdown().await;
}

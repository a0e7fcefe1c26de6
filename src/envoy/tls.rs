//! TLS towards Envoy: certificates from files, replaced while serving when the files change.

mod clients;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::model::{Period, Problem};

use self::clients::NamedClients;

/// TLS on the listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// File with the server's certificate chain in PEM, its own certificate first.
    pub certificate: PathBuf,
    /// File with the private key of that certificate in PEM.
    pub key: PathBuf,
    /// File with the certificates in PEM that vouch for clients. Without it, clients are not asked for one.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is turned away. Only with `client_ca`.
    #[serde(default = "yes")]
    pub require_client_certificate: bool,
    /// Clients that are let in, by an exact DNS or URI name of their certificate (`spiffe://..`). Every client that
    /// `client_ca` vouches for where this is empty.
    #[serde(default)]
    pub allowed_client_names: Vec<String>,
    /// How often the files are looked at. A change is used for new connections; a broken one is logged, and the old
    /// certificate stays.
    #[serde(default = "reload_interval")]
    pub reload_interval: Period,
}

fn yes() -> bool {
    true
}

fn reload_interval() -> Period {
    Period::seconds(5)
}

impl TlsSettings {
    /// Everything that is wrong with these settings, as far as it shows without reading files.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.client_ca.is_none() && !self.allowed_client_names.is_empty() {
            problems.push(
                Problem::new(
                    "`listen.tls.allowed_client_names` is set without `listen.tls.client_ca`",
                )
                .hint("name the file with the certificates that vouch for clients"),
            );
        }
        if !self.require_client_certificate && !self.allowed_client_names.is_empty() {
            problems.push(
                Problem::new(
                    "`listen.tls.allowed_client_names` lets everybody in where \
                     `listen.tls.require_client_certificate` is false",
                )
                .hint("set it to true, or drop the names"),
            );
        }
        if self.reload_interval.0.is_zero() {
            problems.push(Problem::new("`listen.tls.reload_interval` is zero"));
        }
        problems
    }
}

/// The certificates in use.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    current: ArcSwap<ServerConfig>,
    /// Digest of what was last looked at, good or broken, so that each change is reported once.
    seen: Mutex<blake3::Hash>,
}

/// What a look at the files led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They are as they were.
    Same,
    /// New connections use the new ones.
    Swapped,
    /// They changed and cannot be used; the old ones stay.
    Kept(Problem),
}

/// The files as they were read.
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Loads the certificates. Reads files, so call it at start.
    ///
    /// # Errors
    /// Which file cannot be read or used, and why.
    pub fn load(settings: &TlsSettings) -> Result<Self, Vec<Problem>> {
        let files = Files::read(settings, read_now).map_err(|problem| vec![problem])?;
        let config = files.config(settings).map_err(|problem| vec![problem])?;
        Ok(Self {
            settings: settings.clone(),
            current: ArcSwap::from_pointee(config),
            seen: Mutex::new(files.digest()),
        })
    }

    /// What a handshake that begins now uses.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Looks at the files at the set interval until `closing` is cancelled. For the background runtime.
    pub async fn keep_fresh(&self, closing: CancellationToken) {
        let looking = async {
            loop {
                tokio::time::sleep(self.settings.reload_interval.0).await;
                match self.reload().await {
                    Reloaded::Same => {}
                    Reloaded::Swapped => {
                        tracing::info!("the listener's certificates were replaced");
                    }
                    Reloaded::Kept(problem) => {
                        tracing::error!(%problem, "the listener's changed certificates cannot be used; the old ones stay");
                    }
                }
            }
        };
        tokio::select! {
            () = closing.cancelled() => {}
            () = looking => {}
        }
    }

    /// Looks at the files once.
    pub async fn reload(&self) -> Reloaded {
        let settings = self.settings.clone();
        let read = tokio::task::spawn_blocking(move || {
            let files = Files::read(&settings, read_now)?;
            Ok::<_, Problem>((files.digest(), files.config(&settings)))
        });
        let (digest, config) = match read.await {
            Ok(Ok(read)) => read,
            Ok(Err(problem)) => (blake3::hash(problem.to_string().as_bytes()), Err(problem)),
            Err(_) => return Reloaded::Same,
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == digest {
            return Reloaded::Same;
        }
        *seen = digest;
        match config {
            Ok(config) => {
                self.current.store(Arc::new(config));
                Reloaded::Swapped
            }
            Err(problem) => Reloaded::Kept(problem),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "called at start, and from the background runtime's blocking threads"
)]
fn read_now(path: &Path) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}

impl Files {
    fn read(
        settings: &TlsSettings,
        read: impl Fn(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<Self, Problem> {
        let read = |path: &Path| {
            read(path).map_err(|error| {
                Problem::new(format!("cannot read the TLS file: {error}")).in_file(path)
            })
        };
        Ok(Self {
            certificate: read(&settings.certificate)?,
            key: read(&settings.key)?,
            client_ca: settings.client_ca.as_deref().map(read).transpose()?,
        })
    }

    /// One digest of all, each with its length before it.
    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let ca = self.client_ca.as_deref().unwrap_or_default();
        for part in [&self.certificate, &self.key, ca] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }

    fn config(&self, settings: &TlsSettings) -> Result<ServerConfig, Problem> {
        let unusable = |what: &str, path: &Path| Problem::new(what.to_owned()).in_file(path);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| unusable("the certificate is not PEM", &settings.certificate))?;
        if chain.is_empty() {
            return Err(unusable(
                "the file holds no certificate in PEM",
                &settings.certificate,
            ));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| unusable("the file holds no private key in PEM", &settings.key))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Problem::new(format!("cannot set up TLS: {error}")))?;
        let builder = match &self.client_ca {
            Some(ca) => builder.with_client_cert_verifier(verifier(ca, settings, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            unusable(
                &format!("the certificate and its key cannot be used: {error}"),
                &settings.certificate,
            )
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// Who may connect.
fn verifier(
    ca: &[u8],
    settings: &TlsSettings,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let path = settings
        .client_ca
        .as_deref()
        .unwrap_or(Path::new("client_ca"));
    let unusable = |what: String| Problem::new(what).in_file(path);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|_| unusable("a client CA is not PEM".to_owned()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(format!("a client CA cannot be used: {error}")))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !settings.require_client_certificate {
        builder = builder.allow_unauthenticated();
    }
    let chain = builder
        .build()
        .map_err(|error| unusable(format!("the client CAs cannot be used: {error}")))?;
    if settings.allowed_client_names.is_empty() {
        return Ok(chain);
    }
    Ok(Arc::new(NamedClients::new(
        chain,
        &settings.allowed_client_names,
    )))
}

#[cfg(test)]
pub(super) mod tests;

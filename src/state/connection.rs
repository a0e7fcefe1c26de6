//! The way to the server: TCP or TLS, and how much may come along it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use redis::RedisConnectionInfo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::line::Lost;
use super::record::stretched;
use super::settings::{RedisSettings, Server};
use crate::model::{Period, Problem};

/// How much may be read before more is asked for, in bytes: several times the longest answer.
const ALLOWANCE: usize = 16 * 1024 * 1024;

/// The shortest secret that signs, in bytes.
const LEAST_SECRET: usize = 16;

/// The server, and all that is needed to get there.
pub(super) struct Place {
    server: Server,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Who we are there. Without its password where it is shown.
    pub(super) login: RedisConnectionInfo,
    pub(super) secret: Option<[u8; blake3::KEY_LEN]>,
    pub(super) prefix: String,
    pub(super) connect_timeout: Period,
    pub(super) catch_up_wait: Period,
    pub(super) stream_length: u32,
    pub(super) outbox: usize,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("server", &self.server)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// Reads what the settings name. Blocks, so it belongs to the start.
    ///
    /// # Errors
    /// Every file and secret that cannot be used.
    pub(super) fn resolve(settings: &RedisSettings) -> Result<Self, Vec<Problem>> {
        let server = settings.server().map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let login = login(settings, &mut problems);
        let secret = secret(settings, &mut problems);
        let tls = server.tls.then(|| tls(settings, &server));
        let tls = match tls.transpose() {
            Ok(tls) => tls,
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            server,
            tls,
            login,
            secret,
            prefix: settings.key_prefix.clone(),
            connect_timeout: settings.connect_timeout,
            catch_up_wait: settings.catch_up_wait,
            stream_length: settings.stream_length,
            outbox: usize::try_from(settings.outbox).unwrap_or(usize::MAX),
        })
    }

    /// Where it is, for the log.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.server.host, self.server.port)
    }

    /// Goes there once.
    pub(super) async fn reach(&self) -> Result<Metered, Lost> {
        let failed = |error: io::Error| Lost::new("connect", error.to_string());
        let address = (self.server.host.as_str(), self.server.port);
        let plain = TcpStream::connect(address).await.map_err(failed)?;
        plain.set_nodelay(true).map_err(failed)?;
        let way: Box<dyn Way> = match &self.tls {
            None => Box::new(plain),
            Some((tls, name)) => {
                let secured = tls.connect(name.clone(), plain).await;
                Box::new(secured.map_err(failed)?)
            }
        };
        Ok(Metered {
            way,
            allowance: Allowance::default(),
        })
    }
}

fn login(settings: &RedisSettings, problems: &mut Vec<Problem>) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default()
        .set_db(i64::from(settings.database))
        .set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        login = login.set_username(username);
    }
    match settings
        .password
        .as_ref()
        .map(crate::model::SecretRef::resolve)
    {
        None => {}
        Some(Ok(password)) => login = login.set_password(password.expose_secret()),
        Some(Err(error)) => {
            problems.push(Problem::new(format!("`state.redis.password`: {error}")));
        }
    }
    login
}

fn secret(settings: &RedisSettings, problems: &mut Vec<Problem>) -> Option<[u8; blake3::KEY_LEN]> {
    let what = match settings.secret.as_ref()?.resolve() {
        Ok(secret) if secret.expose_secret().len() >= LEAST_SECRET => {
            return Some(stretched(secret.expose_secret()));
        }
        Ok(_) => format!("must be at least {LEAST_SECRET} bytes"),
        Err(error) => error.to_string(),
    };
    problems.push(Problem::new(format!("`state.redis.secret`: {what}")));
    None
}

fn tls(
    settings: &RedisSettings,
    server: &Server,
) -> Result<(TlsConnector, ServerName<'static>), Problem> {
    let name = ServerName::try_from(server.host.clone())
        .map_err(|_| Problem::new("`state.redis.url` names no host that a certificate can name"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unusable = |error: rustls::Error| {
        Problem::new(format!("TLS cannot be set up for `state.redis`: {error}"))
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(authorities(settings.ca_file.as_deref())?);
    let own = settings
        .certificate_file
        .as_ref()
        .zip(settings.key_file.as_ref());
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(certificates(chain)?, private_key(key)?)
            .map_err(unusable)?,
    };
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| {
                    Problem::new(format!("an authority cannot be used: {error}")).in_file(file)
                })?;
            }
        }
        // Some of the system's may be of a kind that is not understood; the others count.
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    if roots.is_empty() {
        return Err(Problem::new("the system has no authorities to trust")
            .hint("name a file with `state.redis.ca_file`"));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let pem = read(file)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Problem::new("the file holds no certificate in PEM").in_file(file)),
    }
}

fn private_key(file: &PathBuf) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(&read(file)?)
        .map_err(|_| Problem::new("the file holds no private key in PEM").in_file(file))
}

#[expect(clippy::disallowed_methods, reason = "read once at start")]
fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(file)
        .map_err(|error| Problem::new(format!("cannot read the TLS file: {error}")).in_file(file))
}

/// Whatever bytes go along.
trait Way: AsyncRead + AsyncWrite + Send + Unpin {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin> Way for W {}

/// A way along which no more comes than was allowed: a server cannot fill the memory.
pub(super) struct Metered {
    way: Box<dyn Way>,
    allowance: Allowance,
}

/// How much may still be read.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Default for Allowance {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(ALLOWANCE)))
    }
}

impl Allowance {
    /// All of it again: to be said before each question.
    pub(super) fn renew(&self) {
        self.0.store(ALLOWANCE, Ordering::Relaxed);
    }

    /// Whether there was enough left.
    fn take(&self, read: usize) -> bool {
        let less = |left: usize| left.checked_sub(read);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

impl Metered {
    pub(super) fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.way).poll_read(context, buffer);
        let more = buffer.filled().len().saturating_sub(before);
        if self.allowance.take(more) {
            read
        } else {
            Poll::Ready(Err(io::Error::other("more than anybody asked for")))
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.way).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.way).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.way).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::model::SecretRef;

    fn settings(url: &str) -> RedisSettings {
        RedisSettings {
            url: url.to_owned(),
            ..RedisSettings::default()
        }
    }

    #[tokio::test]
    async fn no_more_comes_along_than_was_allowed() {
        let allowance = Allowance::default();
        let mut metered = Metered {
            way: Box::new(tokio::io::join(tokio::io::repeat(7), tokio::io::sink())),
            allowance: allowance.clone(),
        };
        let mut some = vec![0; ALLOWANCE];
        metered.read_exact(&mut some).await.unwrap();
        assert!(metered.read_u8().await.is_err());
        allowance.renew();
        assert_eq!(metered.read_u8().await.unwrap(), 7);
    }

    #[test]
    fn every_secret_and_file_that_cannot_be_used_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let settings = RedisSettings {
            username: Some("me".to_owned()),
            password: Some(SecretRef::File(folder.path().join("none"))),
            secret: Some(SecretRef::File(file("short", "canary"))),
            ca_file: Some(file("ca.pem", "canary")),
            ..settings("rediss://valkey.example")
        };
        let problems = Place::resolve(&settings).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(!format!("{problems:?}").contains("canary"));
    }

    #[test]
    fn debug_texts_show_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "canary-0123456789").unwrap();
        let settings = RedisSettings {
            password: Some(SecretRef::File(path.clone())),
            secret: Some(SecretRef::File(path)),
            ..settings("redis://127.0.0.1")
        };
        let place = Place::resolve(&settings).unwrap();
        assert!(!format!("{place:?}").contains("canary"));
        assert_eq!(place.login.password(), Some("canary-0123456789"));
    }
}

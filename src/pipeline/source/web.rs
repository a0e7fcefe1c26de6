//! Fetching over https. Whatever answers is taken for hostile: bounded in time and size, no redirects, no proxies named in
//! the environment, only status 200 and the 304 that was asked for.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{Certificate, Client, StatusCode, redirect};
use secrecy::ExposeSecret;
use url::Url;

use super::read_file;
use super::remote::{Body, FetchError, Fetched, MAX_ETAG, name};
use crate::model::{Problem, SecretRef, shown};

/// The longest a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest file of certificates.
const MAX_CERTIFICATES: usize = 1024 * 1024;

/// The client for both files.
///
/// # Errors
/// Certificates that cannot be read, or TLS that cannot be set up.
pub(super) fn client(timeout: Duration, ca_file: Option<&Path>) -> Result<Client, Problem> {
    crate::identity::install_crypto();
    let mut builder = Client::builder()
        .user_agent(concat!("cardea/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT.min(timeout))
        .timeout(timeout)
        .pool_max_idle_per_host(1);
    if let Some(path) = ca_file {
        let certificates = Certificate::from_pem_bundle(&read_file(path, MAX_CERTIFICATES)?);
        let certificates = certificates
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| Problem::new("the file holds no certificate in PEM").in_file(path))?;
        builder = builder.tls_certs_only(certificates);
    }
    builder
        .build()
        .map_err(|error| Problem::new(format!("cannot set up TLS for bundles: {error}")))
}

/// One file behind https.
#[derive(Debug)]
pub(super) struct WebPlace {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) credential: Option<SecretRef>,
}

impl WebPlace {
    /// # Errors
    /// [`FetchError`] where it cannot be had in time and in full.
    pub(super) async fn get(
        &self,
        etag: Option<&str>,
        limit: usize,
    ) -> Result<Fetched, FetchError> {
        let place = || name(&self.url);
        let broken = |error: reqwest::Error| {
            FetchError::Unreachable(place(), root_cause(&error.without_url()))
        };
        let mut ask = self.client.get(self.url.clone());
        if let Some(etag) = etag {
            ask = ask.header(IF_NONE_MATCH, etag);
        }
        if let Some(credential) = &self.credential {
            ask = ask.header(AUTHORIZATION, bearer(credential).await?);
        }
        let mut answer = ask.send().await.map_err(broken)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Fetched::Unchanged),
            other => return Err(FetchError::Status(place(), other.as_u16())),
        }
        let etag = answer
            .headers()
            .get(ETAG)
            .and_then(|etag| etag.to_str().ok());
        let etag = etag
            .filter(|etag| etag.len() <= MAX_ETAG)
            .map(str::to_owned);
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if bytes.len().saturating_add(chunk.len()) > limit {
                return Err(FetchError::TooLong(place(), limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched::Body(Body { bytes, etag }))
    }
}

/// The header with the token, which is marked as secret.
async fn bearer(credential: &SecretRef) -> Result<HeaderValue, FetchError> {
    let credential = credential.clone();
    let secret = tokio::task::spawn_blocking(move || credential.resolve())
        .await
        .map_err(|_| FetchError::Credential("reading it failed".to_owned()))?
        .map_err(|error| FetchError::Credential(error.to_string()))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", secret.expose_secret()))
        .map_err(|_| FetchError::Credential("it cannot stand in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The innermost cause: `connection refused` says more than `error sending request`.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    shown(&cause.to_string(), 256).into_owned()
}

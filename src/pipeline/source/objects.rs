//! Fetching from an object store: S3, Google Cloud Storage, Azure Blob Storage and what speaks their protocols.

use std::sync::Arc;

use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetResult, ObjectStore, ObjectStoreScheme};
use object_store::{aws, azure, gcp};
use secrecy::ExposeSecret;
use url::Url;

use super::remote::{Body, FetchError, Fetched, MAX_ETAG, name};
use super::settings::RemoteSettings;
use crate::model::{Problem, remote_url, shown};

/// One object.
#[derive(Debug)]
pub(super) struct ObjectPlace {
    store: Arc<dyn ObjectStore>,
    path: Path,
    pub(super) name: String,
}

impl ObjectPlace {
    /// Makes ready to ask. Reads the secret options.
    ///
    /// # Errors
    /// An option that the store does not know or takes badly, or a secret that cannot be read.
    pub(super) fn new(url: &Url, settings: &RemoteSettings) -> Result<Self, Problem> {
        let options = options(url, settings)?;
        let (store, path) = object_store::parse_url_opts(url, options).map_err(|error| {
            Problem::new(format!(
                "the object store of `bundle.remote` cannot be set up: {}",
                shown(&error.to_string(), 256)
            ))
        })?;
        Ok(Self {
            store: store.into(),
            path,
            name: name(url),
        })
    }

    /// # Errors
    /// [`FetchError`] where it cannot be had in full.
    pub(super) async fn get(
        &self,
        etag: Option<&str>,
        limit: usize,
    ) -> Result<Fetched, FetchError> {
        let options = GetOptions {
            if_none_match: etag.map(str::to_owned),
            ..GetOptions::default()
        };
        match self.store.get_opts(&self.path, options).await {
            Ok(answer) => self.read(answer, limit).await,
            Err(Error::NotModified { .. }) if etag.is_some() => Ok(Fetched::Unchanged),
            Err(error) => Err(self.broken(&error)),
        }
    }

    async fn read(&self, answer: GetResult, limit: usize) -> Result<Fetched, FetchError> {
        let etag = answer.meta.e_tag.clone();
        let etag = etag.filter(|etag| etag.len() <= MAX_ETAG);
        let mut bytes = Vec::new();
        let mut chunks = answer.into_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.broken(&error))?;
            if bytes.len().saturating_add(chunk.len()) > limit {
                return Err(FetchError::TooLong(self.name.clone(), limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched::Body(Body { bytes, etag }))
    }

    fn broken(&self, error: &Error) -> FetchError {
        // The crate's messages hold what the server answered, at length: the kind is enough.
        let kind = match error {
            Error::NotFound { .. } => "there is no such object",
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => "access is denied",
            _ => "the store does not answer as it should",
        };
        FetchError::Unreachable(self.name.clone(), kind.to_owned())
    }
}

/// All options, secrets included. What the store would pass over in silence is refused.
fn options(url: &Url, settings: &RemoteSettings) -> Result<Vec<(String, String)>, Problem> {
    let (scheme, _) = ObjectStoreScheme::parse(url)
        .map_err(|_| Problem::new("`bundle.remote.url` names no object store"))?;
    let mut options = Vec::new();
    for (key, value) in &settings.options {
        if key.ends_with("endpoint") && remote_url(value).is_none() {
            return Err(Problem::new(format!(
                "`bundle.remote.options.{}` must be https, or http on a loopback address",
                shown(key, 64)
            )));
        }
        options.push((key.clone(), value.clone()));
    }
    for (key, secret) in &settings.secret_options {
        let secret = secret.resolve().map_err(|error| {
            Problem::new(format!(
                "`bundle.remote.secret_options.{}`: {error}",
                shown(key, 64)
            ))
        })?;
        options.push((key.clone(), secret.expose_secret().to_owned()));
    }
    for (key, _) in &options {
        let known = match scheme {
            ObjectStoreScheme::AmazonS3 => key.parse::<aws::AmazonS3ConfigKey>().is_ok(),
            ObjectStoreScheme::GoogleCloudStorage => key.parse::<gcp::GoogleConfigKey>().is_ok(),
            ObjectStoreScheme::MicrosoftAzure => key.parse::<azure::AzureConfigKey>().is_ok(),
            _ => false,
        };
        if !known {
            return Err(Problem::new(format!(
                "the object store knows no option `{}`",
                shown(key, 64)
            )));
        }
    }
    Ok(options)
}

//! An archive elsewhere: asked for often, fetched seldom.
//!
//! A round asks for the signature alone, which is some hundred bytes and mostly answered with 304. An archive that may
//! take the place of the one in force bears another signature, so as long as the signature stays nothing else is fetched.
//! Whoever publishes puts the archive in place first and its signature last.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::settings::RemoteSettings;
use super::web::{self, WebPlace};
use crate::model::{Problem, remote_url, shown};
use crate::policy::{MAX_PACKED, MAX_SIGNATURE};

/// The longest validator that is sent back.
pub(super) const MAX_ETAG: usize = 512;

/// Why something could not be fetched: a sentence for operators, without queries and secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::pipeline) enum FetchError {
    /// The server did not answer, or broke off.
    #[error("`{0}` cannot be fetched: {1}")]
    Unreachable(String, String),
    /// The server answered something else than 200.
    #[error("`{0}` answers with status {1}")]
    Status(String, u16),
    /// More than the limit.
    #[error("`{0}` is longer than {1} bytes")]
    TooLong(String, usize),
    /// Longer than the settings allow.
    #[error("`{0}` took longer than `bundle.remote.timeout`")]
    TooSlow(String),
    /// The token is not to be had.
    #[error("`bundle.remote.credential`: {0}")]
    Credential(String),
}

/// What came of one fetch.
#[derive(Debug)]
pub(super) enum Fetched {
    /// What the validator names is still there.
    Unchanged,
    /// All of it.
    Body(Body),
}

/// One file, fetched.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) etag: Option<String>,
}

/// An archive and the signature that lay beside it.
#[derive(Debug)]
pub(in crate::pipeline) struct Offer {
    pub(in crate::pipeline) archive: Vec<u8>,
    pub(in crate::pipeline) signature: Vec<u8>,
}

/// What is remembered from one round to the next.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Seen {
    signature: Option<Vec<u8>>,
    signature_etag: Option<String>,
    archive_etag: Option<String>,
    /// The archive that was refused, so that it is not judged again.
    refused: Option<blake3::Hash>,
    /// Whether the signature seen is the one in force.
    in_force: bool,
}

impl Seen {
    /// At start: the signature of what is in force, if anything is.
    pub(in crate::pipeline) fn new(signature: Option<Vec<u8>>) -> Self {
        Self {
            in_force: signature.is_some(),
            signature,
            ..Self::default()
        }
    }

    /// What became of the last offer.
    pub(in crate::pipeline) fn judged(&mut self, in_force: bool) {
        self.in_force = in_force;
        if in_force {
            self.refused = None;
        }
    }
}

/// Where an archive and its signature are.
#[derive(Debug)]
pub(in crate::pipeline) struct Remote {
    archive: Place,
    signature: Place,
    /// How the archive is named in messages.
    pub(in crate::pipeline) root: PathBuf,
    /// How often it is asked for.
    pub(in crate::pipeline) poll: Duration,
    timeout: Duration,
}

#[derive(Debug)]
enum Place {
    Web(WebPlace),
    #[cfg(feature = "object-store")]
    Object(super::objects::ObjectPlace),
}

impl Remote {
    /// Makes ready to ask. Reads certificates and secrets of object stores, so call it at start.
    ///
    /// # Errors
    /// A URL that may not be asked, or what it needs and cannot be read.
    pub(super) fn new(settings: &RemoteSettings) -> Result<Self, Problem> {
        let wrong = |wrong: String| Problem::new(format!("`bundle.remote.url` {wrong}"));
        let url = check_url(&settings.url).map_err(wrong)?;
        let mut signature = url.clone();
        signature.set_path(&format!("{}.sig", url.path()));
        if let Some(elsewhere) = &settings.signature_url {
            signature = check_url(elsewhere).map_err(wrong)?;
        }
        Ok(Self {
            root: PathBuf::from(name(&url)),
            archive: Place::new(url, settings)?,
            signature: Place::new(signature, settings)?,
            poll: settings.poll.0,
            timeout: settings.timeout.0,
        })
    }

    /// One round: what is on offer, if it may be news.
    ///
    /// # Errors
    /// [`FetchError`] where that cannot be told.
    pub(in crate::pipeline) async fn ask(
        &self,
        seen: &mut Seen,
    ) -> Result<Option<Offer>, FetchError> {
        let etag = seen.signature_etag.clone();
        let mut same_signature = true;
        let fetched = self.get(&self.signature, etag.as_deref(), MAX_SIGNATURE);
        if let Fetched::Body(body) = fetched.await? {
            let signature = body.bytes.trim_ascii_end();
            if seen.signature.as_deref() != Some(signature) {
                same_signature = false;
                // Another signature: whatever was known of the archive is of no use.
                *seen = Seen {
                    signature: Some(signature.to_vec()),
                    ..Seen::default()
                };
            }
            seen.signature_etag = body.etag;
        }
        if seen.in_force && same_signature {
            return Ok(None);
        }
        let etag = seen.archive_etag.clone();
        match self.get(&self.archive, etag.as_deref(), MAX_PACKED).await? {
            Fetched::Unchanged => Ok(None),
            Fetched::Body(body) => Ok(seen.offer(body)),
        }
    }

    async fn get(
        &self,
        place: &Place,
        etag: Option<&str>,
        limit: usize,
    ) -> Result<Fetched, FetchError> {
        tokio::time::timeout(self.timeout, place.get(etag, limit))
            .await
            .unwrap_or_else(|_| Err(FetchError::TooSlow(place.name())))
    }
}

impl Seen {
    /// What was fetched, unless it was refused already under the same signature.
    fn offer(&mut self, body: Body) -> Option<Offer> {
        self.archive_etag = body.etag;
        let digest = blake3::hash(&body.bytes);
        if self.refused.replace(digest) == Some(digest) {
            return None;
        }
        Some(Offer {
            archive: body.bytes,
            signature: self.signature.clone()?,
        })
    }
}

impl Place {
    fn new(url: Url, settings: &RemoteSettings) -> Result<Self, Problem> {
        #[cfg(feature = "object-store")]
        if remote_url(url.as_str()).is_none() {
            return super::objects::ObjectPlace::new(&url, settings).map(Self::Object);
        }
        Ok(Self::Web(WebPlace {
            client: web::client(settings.timeout.0, settings.ca_file.as_deref())?,
            url,
            credential: settings.credential.clone(),
        }))
    }

    async fn get(&self, etag: Option<&str>, limit: usize) -> Result<Fetched, FetchError> {
        match self {
            Self::Web(place) => place.get(etag, limit).await,
            #[cfg(feature = "object-store")]
            Self::Object(place) => place.get(etag, limit).await,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Web(place) => name(&place.url),
            #[cfg(feature = "object-store")]
            Self::Object(place) => place.name.clone(),
        }
    }
}

/// Whether a URL may be asked.
///
/// # Errors
/// Why not, as the end of a sentence that begins with its setting.
pub(super) fn check_url(text: &str) -> Result<Url, String> {
    if let Some(url) = remote_url(text) {
        return Ok(url);
    }
    let object = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "s3" | "gs" | "az")
            && url.has_host()
            && url.path().len() > 1
            && url.username().is_empty()
            && url.password().is_none()
    });
    match object {
        Some(url) if cfg!(feature = "object-store") => Ok(url),
        Some(_) => Err(
            "names an object store, and this build knows none: build with `--features object-store`"
                .to_owned(),
        ),
        None => Err(
            "must be https, or http on a loopback address, or s3, gs or az with bucket and path, without user name and fragment"
                .to_owned(),
        ),
    }
}

/// The URL as operators may see it: without its query, which might hold a secret, and safe to print.
pub(super) fn name(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    shown(url.as_str(), 256).into_owned()
}

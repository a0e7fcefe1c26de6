//! Fetching an issuer's keys: by discovery, from a URL, from a file. What other fetches share is here too.
//!
//! Whatever answers is taken for hostile: one attempt has five seconds in all and reads 256 KiB at most, only status 200
//! counts, redirects are not followed, proxies named in the environment are not used.

mod access;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, redirect};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt;
use url::Url;

use super::settings::{IssuerSettings, KeyPlace};
use crate::model::json::{self, JsonError};
use crate::model::{is_loopback, remote_url, shown};

pub(super) use self::access::Access;

/// The longest one attempt may take, discovery included.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The longest document that is read.
const SIZE_LIMIT: usize = 256 * 1024;

/// Why keys could not be fetched: a sentence for operators, which quotes no more than the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    /// The URL may not be asked.
    #[error("must be https, or http on a loopback address, without user name and fragment")]
    Url,
    /// The server did not answer, or broke off.
    #[error("`{0}` cannot be reached: {1}")]
    Unreachable(String, String),
    /// The server answered something else than 200.
    #[error("`{0}` answers with status {1}")]
    Status(String, u16),
    /// More than [`SIZE_LIMIT`].
    #[error("`{0}` is longer than 256 KiB")]
    TooLong(String),
    /// The file cannot be read.
    #[error("`{0}` cannot be read: {1}")]
    File(String, std::io::ErrorKind),
    /// The file of the server's authority holds none.
    #[error("the authority in `{0}` cannot be used: {1}")]
    Authority(String, String),
    /// There is no bearer token where there should be one. It names the place.
    #[error("{0} holds no token for the server of the keys")]
    Token(String),
    /// The answer is not JSON with one reading.
    #[error("`{0}` is not usable: {1}")]
    Json(String, JsonError),
    /// The discovery document is another issuer's.
    #[error("`{0}` names another issuer than the settings")]
    OtherIssuer(String),
    /// The discovery document names no URL of keys that may be asked.
    #[error("`{0}` names no acceptable `jwks_uri`")]
    NoKeys(String),
    /// The discovery document names no URL of that name that may be asked.
    #[error("`{0}` names no acceptable `{1}`")]
    NoEndpoint(String, &'static str),
    /// Longer than [`TIME_LIMIT`].
    #[error("it took longer than 5 seconds")]
    TooSlow,
    /// The document holds no key that can be used, or too many.
    #[error("the key set {0}")]
    KeySet(&'static str),
}

/// Reads a URL that keys may be fetched from, see [`remote_url`].
///
/// # Errors
/// [`FetchError::Url`] for every other URL.
pub(super) fn key_url(text: &str) -> Result<Url, FetchError> {
    remote_url(text).ok_or(FetchError::Url)
}

/// The client that all issuers share.
///
/// # Errors
/// Where TLS cannot be set up, such as without any trusted root certificates.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    builder().pool_max_idle_per_host(1).build()
}

/// The beginning of every client of this room: redirects are not followed, nothing is taken from the environment.
pub(super) fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("cardea/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(TIME_LIMIT)
        .timeout(TIME_LIMIT)
}

/// Where one issuer's keys are, ready to be asked.
#[derive(Debug)]
pub(super) struct Fetcher {
    access: Access,
    place: Place,
}

enum Place {
    Discovery { issuer: String, document: Url },
    Url(Url),
    File(PathBuf),
}

/// Shows no query.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, shown) = match self {
            Self::Discovery { document, .. } => ("Discovery", name(document)),
            Self::Url(url) => ("Url", name(url)),
            Self::File(path) => ("File", path.display().to_string()),
        };
        f.debug_tuple(kind).field(&shown).finish()
    }
}

impl Fetcher {
    /// # Errors
    /// [`FetchError::Url`] where the settings name a URL that may not be asked.
    pub(super) fn new(settings: &IssuerSettings, client: Client) -> Result<Self, FetchError> {
        let place = match &settings.keys {
            KeyPlace::JwksFile(path) => Place::File(path.clone()),
            KeyPlace::JwksUrl(url) => Place::Url(key_url(url)?),
            KeyPlace::Discovery => {
                let document = discovery_document(&settings.issuer)?;
                let issuer = settings.issuer.clone();
                Place::Discovery { issuer, document }
            }
        };
        let access = Access::new(settings, client);
        Ok(Self { access, place })
    }

    /// The same, by a discovery document of another kind than OpenID providers have.
    pub(super) fn by_document(settings: &IssuerSettings, document: Url, client: Client) -> Self {
        let issuer = settings.issuer.clone();
        Self {
            access: Access::new(settings, client),
            place: Place::Discovery { issuer, document },
        }
    }

    /// Whether a look costs next to nothing, so that changes can be watched for.
    pub(super) fn local(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// Fetches the document that holds the keys.
    ///
    /// # Errors
    /// [`FetchError`] where it cannot be had in time and in full.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        tokio::time::timeout(TIME_LIMIT, self.fetch_in_time())
            .await
            .unwrap_or(Err(FetchError::TooSlow))
    }

    async fn fetch_in_time(&self) -> Result<Vec<u8>, FetchError> {
        let place = match &self.place {
            Place::File(path) => return read_file(path).await,
            Place::Url(url) => url,
            Place::Discovery { document, .. } => document,
        };
        let client = self.access.client().await?;
        let token = self.access.authorization().await?;
        let text = get_as(&client, place, token.clone()).await?;
        let Place::Discovery { issuer, document } = &self.place else {
            return Ok(text);
        };
        let keys = keys_named(&text, issuer, document)?;
        // The token is for the server that the settings name, and not for one that a document names.
        let token = token.filter(|_| keys.origin() == document.origin());
        get_as(&client, &keys, token).await
    }
}

/// Where an issuer's tokens can be asked about, by its discovery document. `mutual`: towards clients that show a
/// certificate, for whom there may be another place (RFC 8705, section 5).
///
/// # Errors
/// [`FetchError`] where the document cannot be had or names no such place.
pub(super) async fn introspection_endpoint(
    client: &Client,
    issuer: &str,
    mutual: bool,
) -> Result<Url, FetchError> {
    let document = discovery_document(issuer)?;
    let text = get(client, &document).await?;
    let members = members(&text, issuer, &document)?;
    let alias = members.get("mtls_endpoint_aliases").filter(|_| mutual);
    let alias = alias.and_then(|places| places.get("introspection_endpoint"));
    acceptable(alias.or(members.get("introspection_endpoint")), &document)
        .ok_or_else(|| FetchError::NoEndpoint(name(&document), "introspection_endpoint"))
}

/// A URL that an issuer's discovery document names, asked for now.
///
/// # Errors
/// [`FetchError`] where the document cannot be had or names no such URL that may be asked.
pub(super) async fn endpoint(
    client: &Client,
    (issuer, document): (&str, &Url),
    member: &'static str,
) -> Result<Url, FetchError> {
    let text = get(client, document).await?;
    let members = members(&text, issuer, document)?;
    acceptable(members.get(member), document)
        .ok_or_else(|| FetchError::NoEndpoint(name(document), member))
}

async fn get(client: &Client, url: &Url) -> Result<Vec<u8>, FetchError> {
    get_as(client, url, None).await
}

async fn get_as(
    client: &Client,
    url: &Url,
    token: Option<HeaderValue>,
) -> Result<Vec<u8>, FetchError> {
    let asked = client.get(url.clone()).header("accept", ACCEPT);
    let asked = match token {
        Some(token) => asked.header(AUTHORIZATION, token),
        None => asked,
    };
    let text = answered(asked, url, SIZE_LIMIT).await?;
    text.ok_or_else(|| FetchError::TooLong(name(url)))
}

/// What is behind a URL; `None` where it is longer than `limit`. Whoever asks bounds the time of all its steps together.
///
/// # Errors
/// [`FetchError`] where it cannot be had in full.
pub(super) async fn document(
    access: &Access,
    url: &Url,
    accept: &'static str,
    limit: usize,
) -> Result<Option<Vec<u8>>, FetchError> {
    let client = access.client().await?;
    let asked = client.get(url.clone()).header("accept", accept);
    answered(asked, url, limit).await
}

async fn answered(
    asked: RequestBuilder,
    url: &Url,
    limit: usize,
) -> Result<Option<Vec<u8>>, FetchError> {
    let broken = |error: reqwest::Error| {
        FetchError::Unreachable(name(url), root_cause(&error.without_url()))
    };
    let answer = asked.send().await.map_err(broken)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(name(url), answer.status().as_u16()));
    }
    body(answer, limit).await.map_err(broken)
}

/// The body of an answer; `None` where it is longer than `limit`.
///
/// # Errors
/// Where the server breaks off.
pub(super) async fn body(
    mut answer: Response,
    limit: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if text.len().saturating_add(chunk.len()) > limit {
            return Ok(None);
        }
        text.extend_from_slice(&chunk);
    }
    Ok(Some(text))
}

fn discovery_document(issuer: &str) -> Result<Url, FetchError> {
    // OIDC Discovery 1.0, section 4.1: a final `/` goes before the path is appended.
    let base = issuer.trim_end_matches('/');
    key_url(&format!("{base}/.well-known/openid-configuration"))
}

/// Where a transmitter of security events describes itself: the name stands before the path of its issuer (OpenID Shared
/// Signals Framework 1.0, section 7.2).
///
/// # Errors
/// [`FetchError::Url`] where the issuer is no URL that may be asked.
pub(super) fn ssf_document(issuer: &str) -> Result<Url, FetchError> {
    let mut document = key_url(issuer)?;
    if document.query().is_some() {
        return Err(FetchError::Url);
    }
    let path = document.path().trim_end_matches('/').to_owned();
    document.set_path(&format!("/.well-known/ssf-configuration{path}"));
    Ok(document)
}

/// Where a discovery document says the keys are.
fn keys_named(text: &[u8], issuer: &str, document: &Url) -> Result<Url, FetchError> {
    let members = members(text, issuer, document)?;
    acceptable(members.get("jwks_uri"), document).ok_or_else(|| FetchError::NoKeys(name(document)))
}

/// The members of a discovery document, which has to be this issuer's.
fn members(text: &[u8], issuer: &str, document: &Url) -> Result<Map<String, Value>, FetchError> {
    let members =
        json::parse_object(text).map_err(|error| FetchError::Json(name(document), error))?;
    if members.get("issuer").and_then(|value| value.as_str()) != Some(issuer) {
        return Err(FetchError::OtherIssuer(name(document)));
    }
    Ok(members)
}

/// A URL that a discovery document may send us to.
fn acceptable(place: Option<&Value>, document: &Url) -> Option<Url> {
    let url = key_url(place?.as_str()?).ok()?;
    // A far issuer must not send us to services on this machine.
    (!is_loopback(&url) || is_loopback(document)).then_some(url)
}

const ACCEPT: &str = "application/jwk-set+json, application/json";

async fn read_file(path: &PathBuf) -> Result<Vec<u8>, FetchError> {
    let name = || path.display().to_string();
    let failed = |error: std::io::Error| FetchError::File(name(), error.kind());
    // To open a pipe waits for its other end, on a thread that nothing ends.
    if !tokio::fs::metadata(path).await.map_err(failed)?.is_file() {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    }
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut text = Vec::new();
    let limit = SIZE_LIMIT as u64 + 1;
    file.take(limit)
        .read_to_end(&mut text)
        .await
        .map_err(failed)?;
    if text.len() > SIZE_LIMIT {
        return Err(FetchError::TooLong(name()));
    }
    Ok(text)
}

/// The URL as operators may see it: without its query, which might hold a secret, and safe to print.
pub(super) fn name(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    shown(url.as_str(), 256).into_owned()
}

/// The innermost cause: `connection refused` says more than `error sending request`.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    shown(&cause.to_string(), 256).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(document: &str, place: &str) -> Result<Url, FetchError> {
        let text = json!({"issuer": "i", "jwks_uri": place}).to_string();
        keys_named(text.as_bytes(), "i", &key_url(document).unwrap())
    }

    #[test]
    fn j5_a_far_issuer_cannot_send_us_to_this_machine() {
        let far = "https://idp.example/.well-known/openid-configuration";
        for place in [
            "http://127.0.0.1:9901/quitquitquit",
            "https://localhost/keys",
            "https://[::1]/keys",
            "https://[::ffff:127.0.0.1]/keys",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "/keys",
        ] {
            assert_eq!(named(far, place), Err(FetchError::NoKeys(far.into())));
        }
        assert!(named(far, "https://keys.example/all").is_ok());
        assert!(named("http://127.0.0.1:1/x", "http://127.0.0.1:2/keys").is_ok());
    }

    #[test]
    fn a_transmitter_describes_itself_before_the_path_of_its_issuer() {
        for (issuer, document) in [
            (
                "https://tr.example",
                "https://tr.example/.well-known/ssf-configuration",
            ),
            (
                "https://tr.example/",
                "https://tr.example/.well-known/ssf-configuration",
            ),
            (
                "https://tr.example/a/b/",
                "https://tr.example/.well-known/ssf-configuration/a/b",
            ),
        ] {
            assert_eq!(ssf_document(issuer).unwrap().as_str(), document);
        }
        for bad in ["tr.example", "http://tr.example", "https://tr.example/?a=b"] {
            assert_eq!(ssf_document(bad), Err(FetchError::Url), "{bad}");
        }
    }

    #[tokio::test]
    async fn k1_keys_in_what_is_no_file_are_refused_and_nothing_waits_for_them() {
        let folder = tempfile::tempdir().unwrap();
        // A socket stands for pipes and devices.
        let path = folder.path().join("keys.json");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = read_file(&path).await.unwrap_err();
        let kind = std::io::ErrorKind::InvalidInput;
        assert_eq!(error, FetchError::File(path.display().to_string(), kind));
    }

    #[test]
    fn errors_show_a_url_without_its_query() {
        let url = key_url("https://idp.example/keys?code=s3cret").unwrap();
        let error = FetchError::Status(name(&url), 500).to_string();
        assert_eq!(error, "`https://idp.example/keys` answers with status 500");
    }
}

//! How we prove to a server who asks: by a secret, by an assertion, or by a certificate.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Client, Identity, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::super::fetch;
use super::super::jwk::by_name;
use super::super::settings::{Algorithm, ClientAuth, IntrospectionSettings};
use super::failure::Failure;
use crate::model::{Problem, SecretRef};

/// How long an assertion is good: long enough for clocks that differ a little.
const ASSERTION_LIFE: i64 = 60;

/// How long an idle connection is kept: shorter than servers do, which close theirs without a word just when a question is
/// under way.
const IDLE: Duration = Duration::from_secs(4);

/// The longest file that is read.
const FILE_LIMIT: u64 = 1024 * 1024;

/// What proves us to a server.
pub(super) struct Credentials {
    client_id: String,
    way: Way,
    http: Client,
    plain: Client,
    /// The hash of everything that was read, to tell whether it changed.
    read: blake3::Hash,
}

enum Way {
    /// The whole value of `Authorization`.
    Basic(HeaderValue),
    Post(SecretString),
    Assertion(Box<Assertion>),
    Certificate,
}

struct Assertion {
    header: Header,
    key: EncodingKey,
    audience: String,
}

impl Credentials {
    /// Reads what the settings name. It blocks, so call it at start or on a thread for that.
    ///
    /// # Errors
    /// What cannot be read, or is not what it should be. No word of what was read.
    pub(super) fn load(settings: &IntrospectionSettings) -> Result<Self, Problem> {
        let mut hasher = blake3::Hasher::new();
        let authorities = match &settings.ca_file {
            Some(path) => Some(authorities(&file("ca_file", path, &mut hasher)?)?),
            None => None,
        };
        let builder = || match &authorities {
            Some(own) => fetch::builder().tls_certs_only(own.iter().cloned()),
            None => fetch::builder(),
        };
        let (way, identity) = way(settings, &mut hasher)?;
        let http = builder()
            .timeout(settings.timeout.0)
            .pool_idle_timeout(IDLE);
        let http = match identity {
            Some(identity) => http.identity(identity),
            None => http,
        };
        let failed = |error: reqwest::Error| {
            let cause = fetch::root_cause(&error);
            Problem::new(format!("TLS cannot be set up: {cause}"))
        };
        Ok(Self {
            client_id: settings.client.id.clone(),
            way,
            http: http.build().map_err(failed)?,
            plain: builder().build().map_err(failed)?,
            read: hasher.finalize(),
        })
    }

    /// The client that questions are asked with.
    pub(super) fn http(&self) -> &Client {
        &self.http
    }

    /// The client for what needs no proof: the discovery document and keys.
    pub(super) fn plain(&self) -> &Client {
        &self.plain
    }

    /// Whether other things were read for these.
    pub(super) fn differ(&self, other: &Self) -> bool {
        self.read != other.read
    }

    /// Adds the proof to a question.
    ///
    /// # Errors
    /// [`Failure::Unsigned`] where an assertion cannot be made.
    pub(super) fn prove(
        &self,
        request: RequestBuilder,
        form: &mut Serializer<'_, String>,
        now: Timestamp,
    ) -> Result<RequestBuilder, Failure> {
        match &self.way {
            Way::Basic(value) => return Ok(request.header(AUTHORIZATION, value)),
            Way::Post(secret) => {
                form.append_pair("client_id", &self.client_id);
                form.append_pair("client_secret", secret.expose_secret());
            }
            Way::Assertion(assertion) => {
                form.append_pair("client_assertion_type", ASSERTION_TYPE);
                form.append_pair("client_assertion", &assertion.sign(&self.client_id, now)?);
            }
            // RFC 8705, section 2: the server finds the certificate it expects by the id.
            Way::Certificate => _ = form.append_pair("client_id", &self.client_id),
        }
        Ok(request)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Assertion {
    /// An assertion for one question (RFC 7523, section 3).
    fn sign(&self, client_id: &str, now: Timestamp) -> Result<String, Failure> {
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(|_| Failure::Unsigned)?;
        let now = now.as_second();
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": self.audience,
            "iat": now,
            "exp": now + ASSERTION_LIFE,
            "jti": URL_SAFE_NO_PAD.encode(id),
        });
        jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(|_| Failure::Unsigned)
    }
}

fn authorities(pem: &[u8]) -> Result<Vec<Certificate>, Problem> {
    let found = Certificate::from_pem_bundle(pem).unwrap_or_default();
    if found.is_empty() {
        return Err(unusable("ca_file", "no certificate in PEM"));
    }
    Ok(found)
}

fn way(
    settings: &IntrospectionSettings,
    hasher: &mut blake3::Hasher,
) -> Result<(Way, Option<Identity>), Problem> {
    let id = &settings.client.id;
    let way = match &settings.client.auth {
        None => return Err(Problem::new("`client.auth` must be set")),
        Some(ClientAuth::ClientSecretBasic(place)) => {
            Way::Basic(basic(id, &secret(place, hasher)?)?)
        }
        Some(ClientAuth::ClientSecretPost(place)) => Way::Post(secret(place, hasher)?),
        Some(ClientAuth::PrivateKeyJwt {
            private_key_file,
            algorithm,
            key_id,
            audience,
        }) => {
            let field = "client.auth.private_key_file";
            let key = signing_key(&file(field, private_key_file, hasher)?, *algorithm)?;
            let mut header = Header::new(by_name(*algorithm));
            header.kid.clone_from(key_id);
            let audience = audience.as_ref().unwrap_or(&settings.issuer).clone();
            Way::Assertion(Box::new(Assertion {
                header,
                key,
                audience,
            }))
        }
        Some(ClientAuth::TlsClientAuth {
            certificate_file,
            key_file,
        }) => {
            let mut pem = file("client.auth.certificate_file", certificate_file, hasher)?;
            pem.push(b'\n');
            pem.extend(file("client.auth.key_file", key_file, hasher)?);
            let identity = Identity::from_pem(&pem).map_err(|_| {
                unusable(
                    "client.auth",
                    "no certificate with its private key, both PEM",
                )
            })?;
            return Ok((Way::Certificate, Some(identity)));
        }
    };
    Ok((way, None))
}

/// RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
fn basic(id: &str, secret: &SecretString) -> Result<HeaderValue, Problem> {
    let encoded = |text: &str| -> String { byte_serialize(text.as_bytes()).collect() };
    let pair = format!("{}:{}", encoded(id), encoded(secret.expose_secret()));
    let value = format!("Basic {}", STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| unusable("client.auth.client_secret_basic", "no secret for a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A private key, tried once, so that one that cannot sign is told at start.
fn signing_key(pem: &[u8], algorithm: Algorithm) -> Result<EncodingKey, Problem> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let key = match algorithm {
        RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => EncodingKey::from_rsa_pem(pem),
        ES256 | ES384 => EncodingKey::from_ec_pem(pem),
        EdDSA => EncodingKey::from_ed_pem(pem),
    };
    let field = "client.auth.private_key_file";
    let what = || unusable(field, &format!("no private key for {}", algorithm.as_str()));
    let key = key.map_err(|_| what())?;
    let header = Header::new(by_name(algorithm));
    jsonwebtoken::encode(&header, &json!({}), &key).map_err(|_| what())?;
    Ok(key)
}

fn secret(place: &SecretRef, hasher: &mut blake3::Hasher) -> Result<SecretString, Problem> {
    let secret = place.resolve();
    let secret = secret.map_err(|error| Problem::new(format!("`client.auth`: {error}")))?;
    hasher.update(secret.expose_secret().as_bytes());
    Ok(secret)
}

fn file(field: &str, path: &Path, hasher: &mut blake3::Hasher) -> Result<Vec<u8>, Problem> {
    let failed = |error: std::io::Error| {
        let place = path.display();
        Problem::new(format!("`{field}`: `{place}` cannot be read: {error}"))
    };
    // To open a pipe waits for its other end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    }
    let mut text = Vec::new();
    let opened = std::fs::File::open(path).map_err(failed)?;
    let read = opened.take(FILE_LIMIT + 1).read_to_end(&mut text);
    if read.map_err(failed)? as u64 > FILE_LIMIT {
        return Err(unusable(field, "longer than 1 MiB"));
    }
    hasher.update(&text);
    Ok(text)
}

fn unusable(field: &str, what: &str) -> Problem {
    Problem::new(format!("`{field}` holds {what}"))
}

//! Whom we believe to be the server of an issuer's keys, and as whom we ask it: an authority of its own, and a bearer token,
//! as the API server of a Kubernetes cluster wants them. Both are read anew for each fetch, since both are renewed.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client};
use secrecy::{ExposeSecret, SecretString};

use super::super::settings::IssuerSettings;
use super::{FetchError, builder, read_file, root_cause};
use crate::model::SecretRef;

/// How one issuer's keys are asked for.
pub(in crate::identity) struct Access {
    shared: Client,
    authority: Option<Authority>,
    token: Option<SecretRef>,
}

/// An authority of the issuer's own.
struct Authority {
    file: PathBuf,
    /// The client that believes what the file held last.
    client: Mutex<Option<(blake3::Hash, Client)>>,
}

impl Access {
    /// `shared` serves where the system's authorities are believed.
    pub(in crate::identity) fn new(settings: &IssuerSettings, shared: Client) -> Self {
        Self {
            shared,
            authority: settings.ca_file.clone().map(|file| Authority {
                file,
                client: Mutex::default(),
            }),
            token: settings.key_token.clone(),
        }
    }

    /// The client to ask with.
    ///
    /// # Errors
    /// [`FetchError`] where the authority's file cannot be read or holds no certificate.
    pub(super) async fn client(&self) -> Result<Client, FetchError> {
        match &self.authority {
            None => Ok(self.shared.clone()),
            Some(authority) => authority.client().await,
        }
    }

    /// The value of `Authorization`, where there is one.
    ///
    /// # Errors
    /// [`FetchError`] where there is no token at its place, or none that a header can carry.
    pub(super) async fn authorization(&self) -> Result<Option<HeaderValue>, FetchError> {
        let Some(place) = &self.token else {
            return Ok(None);
        };
        let name = match place {
            SecretRef::File(path) => format!("the file `{}`", path.display()),
            SecretRef::Env(variable) => format!("the environment variable `{variable}`"),
        };
        let unusable = || FetchError::Token(name.clone());
        let token = match place {
            SecretRef::File(path) => {
                let text = String::from_utf8(read_file(path).await?);
                SecretString::from(text.map_err(|_| unusable())?)
            }
            SecretRef::Env(_) => place.resolve().map_err(|_| unusable())?,
        };
        let token = token.expose_secret().trim_end();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable());
        }
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| unusable())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl Authority {
    async fn client(&self) -> Result<Client, FetchError> {
        let pem = read_file(&self.file).await?;
        let hash = blake3::hash(&pem);
        let known = || self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, client)) = &*known()
            && *read == hash
        {
            return Ok(client.clone());
        }
        let failed = |why: String| FetchError::Authority(self.file.display().to_string(), why);
        let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if found.is_empty() {
            return Err(failed("it holds no certificate in PEM".to_owned()));
        }
        let client = builder().pool_max_idle_per_host(1).tls_certs_only(found);
        let client = client.build();
        let client = client.map_err(|error| failed(root_cause(&error)))?;
        *known() = Some((hash, client.clone()));
        Ok(client)
    }
}

/// Shows places, never what is there.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("authority", &self.authority.as_ref().map(|own| &own.file))
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::install_crypto;
    use super::super::super::settings::KeyPlace;
    use super::super::super::testing::issuer_settings;
    use super::super::client;
    use super::*;

    fn access(change: impl FnOnce(&mut IssuerSettings)) -> Access {
        install_crypto();
        let mut settings = issuer_settings(KeyPlace::Discovery);
        change(&mut settings);
        Access::new(&settings, client().unwrap())
    }

    #[tokio::test]
    async fn a_token_is_read_anew_each_time_and_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let access = access(|settings| settings.key_token = Some(SecretRef::File(path.clone())));
        for token in ["canary-1", "canary-2\n", "canary-3\r\n"] {
            std::fs::write(&path, token).unwrap();
            let value = access.authorization().await.unwrap().unwrap();
            assert_eq!(value.to_str().unwrap(), format!("Bearer {}", token.trim()));
            assert!(!format!("{value:?} {access:?}").contains("canary"));
        }
        let unusable: [&[u8]; 5] = [b"", b"\n", b"canary x", b"canary\n\nx", b"\xffcanary"];
        for bad in unusable {
            std::fs::write(&path, bad).unwrap();
            let error = access.authorization().await.unwrap_err();
            assert!(matches!(error, FetchError::Token(_)), "{error}");
            assert!(!error.to_string().contains("canary"));
        }
        std::fs::remove_file(&path).unwrap();
        let error = access.authorization().await.unwrap_err();
        assert!(matches!(error, FetchError::File(..)), "{error}");
    }

    #[tokio::test]
    async fn an_authority_without_certificate_or_file_believes_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let access = access(|settings| settings.ca_file = Some(path.clone()));
        let error = access.client().await.unwrap_err();
        assert!(matches!(error, FetchError::File(..)), "{error}");
        for bad in [
            "",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = access.client().await.unwrap_err();
            assert!(matches!(error, FetchError::Authority(..)), "{error}");
        }
    }
}

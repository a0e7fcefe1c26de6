//! API keys: long random texts in a header of their own, found by a keyed hash.
//!
//! | file | does |
//! |---|---|
//! | `key` | what a key looks like, and what stands for it in the file |
//! | `file` | the file: read, held against its rules, edited |
//! | `store` | the keys as requests are held against them |
//!
//! The file is watched. A key that is gone, revoked or changed there ends every proof that stands on it, at once; a file
//! that cannot be used changes nothing. In a query a key is refused, whatever else the request carries.

mod file;
mod key;
mod store;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use self::store::Store;
use super::carried::{Carried, Place, Presented, ambiguous, invalid};
use super::denial::Denial;
use super::ground::Lease;
use super::scheme::{Prepared, Preparing, Proof, Proven, Scheme, SchemeName};
use super::settings::ApiKeySettings;
use super::watched::{self, Watched};
use crate::model::{Arrival, Clock, CredentialFault as Fault, Problem, Refusal, every_byte};

pub use file::{KeyEntry, KeyFile, KeyState, Owner, is_yaml};
pub(super) use file::{is_scope, read_time};
pub use key::{FreshKey, HashKey};

/// The longest key that is read, in bytes.
const MAX_KEY: usize = 256;

/// The scheme.
#[derive(Debug)]
pub(super) struct ApiKeys {
    header: String,
    prefix: String,
    query_parameters: Vec<String>,
    keys: Arc<Keys>,
    _watched: Watched,
}

/// The keys in force, and what it takes to replace them.
#[derive(Debug)]
struct Keys {
    store: ArcSwap<Store>,
    hash_key: HashKey,
    issuer: Arc<str>,
    lease: Arc<Lease>,
}

impl ApiKeys {
    /// Reads the keys, and watches their file on the background runtime.
    ///
    /// # Errors
    /// Everything that keeps the file or its hash key from being used.
    pub(super) fn start(
        settings: &ApiKeySettings,
        clock: &Arc<dyn Clock>,
        background: &Handle,
    ) -> Result<Self, Vec<Problem>> {
        let hash_key = settings.hash_key.resolve().map_err(|error| {
            vec![
                Problem::new(format!("`identity.api_keys.hash_key`: {error}"))
                    .hint("`cardea keys init` makes one"),
            ]
        })?;
        let hash_key = HashKey::parse(&hash_key).map_err(|problem| vec![problem])?;
        let bytes = watched::read(&settings.file)
            .map_err(|problem| vec![problem.hint("`cardea keys init` makes an empty one")])?;
        let keys = Keys::read(
            &bytes,
            settings,
            hash_key,
            Lease::endless(clock.monotonic()),
        )?;
        let keys = Arc::new(keys);
        let (taker, path) = (Arc::clone(&keys), settings.file.clone());
        let watched = watched::watch(
            (settings.file.clone(), &bytes),
            settings.poll.0,
            background,
            Box::new(move |bytes| taker.renew(bytes, &path)),
        );
        Ok(Self {
            header: settings.header.to_ascii_lowercase(),
            prefix: settings.prefix.clone(),
            query_parameters: settings.query_parameters.clone(),
            keys,
            _watched: watched,
        })
    }

    /// Whether the query names a parameter that keys are mistaken to belong in.
    fn in_query(&self, carried: &Carried<'_>) -> bool {
        let refused = |name: &str| {
            let mut names = self.query_parameters.iter();
            names.any(|refused| refused.eq_ignore_ascii_case(name))
        };
        let pairs = carried.request.query.pairs();
        pairs.iter().any(|(name, _)| refused(name))
    }
}

impl Scheme for ApiKeys {
    fn name(&self) -> SchemeName {
        SchemeName::ApiKey
    }

    fn find<'r>(&self, carried: &Carried<'r>) -> Result<Option<Presented<'r>>, Refusal> {
        let mut fields = carried.request.headers.values(&self.header);
        let field = fields.next();
        if self.in_query(carried) {
            return Err(if field.is_some() || carried.authorization.is_some() {
                ambiguous("there is an API key in the query beside a credential in a header")
            } else {
                invalid(Fault::Misplaced, "there is an API key in the query")
            });
        }
        let Some(key) = field else {
            return Ok(None);
        };
        // Envoy joins repeated headers by commas, and no key holds one.
        if fields.next().is_some() || key.contains(&b',') {
            return Err(ambiguous("there is more than one API key"));
        }
        if key.len() > MAX_KEY {
            return Err(invalid(Fault::TooLong, "the API key is too long"));
        }
        // Nothing that stands for a byte Envoy could not pass on, see `carried::token68`.
        let plain = |b: u8| b.is_ascii_alphanumeric() | (b == b'_');
        if !every_byte(key, plain) || !key::well_formed(key, &self.prefix) {
            let detail = "the API key has not the form of one, or its check does not fit";
            return Err(invalid(Fault::Malformed, detail));
        }
        Ok(Some(Presented {
            credential: Cow::Borrowed(key),
            place: Place::Header,
        }))
    }

    fn prepare<'a>(&'a self, key: &'a [u8], arrival: &'a Arrival) -> Preparing<'a> {
        let proof: Proof<'a> = Box::new(move || self.keys.judge(key, arrival));
        let prepared = Prepared {
            waited: None,
            proof: Ok(proof),
        };
        Box::pin(std::future::ready(prepared))
    }
}

impl Keys {
    fn read(
        bytes: &[u8],
        settings: &ApiKeySettings,
        hash_key: HashKey,
        lease: Arc<Lease>,
    ) -> Result<Self, Vec<Problem>> {
        let file = KeyFile::parse(bytes, &settings.file, &hash_key)?;
        Ok(Self {
            store: ArcSwap::from_pointee(Store::new(&file, &lease, None)),
            hash_key,
            issuer: settings.issuer.as_str().into(),
            lease,
        })
    }

    /// Puts what the file holds now in force.
    fn renew(&self, bytes: &[u8], path: &Path) -> Result<(), Vec<Problem>> {
        let file = KeyFile::parse(bytes, path, &self.hash_key)?;
        let old = self.store.load_full();
        let new = Arc::new(Store::new(&file, &self.lease, Some(&old)));
        self.store.store(Arc::clone(&new));
        // Afterwards, so that nobody finds an old entry whose proofs are believed anew.
        old.withdraw_all_but(&new);
        tracing::info!(keys = new.len(), "API keys were read again");
        Ok(())
    }

    fn judge(&self, key: &[u8], arrival: &Arrival) -> Result<Proven, Denial> {
        let store = self.store.load();
        let hash = self.hash_key.hash(key);
        let Some(key) = hash.and_then(|hash| store.find(&hash)) else {
            let detail = "there is no such API key";
            return Err(Denial::by_key(Fault::Unregistered, detail, &store.ground));
        };
        if key.revoked() {
            let detail = "the API key was revoked";
            return Err(Denial::by_key(Fault::Revoked, detail, &key.ground));
        }
        if key.expired(arrival.at) {
            let detail = "the API key has expired";
            return Err(Denial::by_key(Fault::Expired, detail, &key.ground));
        }
        let attributes = key.attributes(&self.issuer);
        let valid_until = attributes.expires_at;
        Ok(Proven::new(
            attributes,
            valid_until,
            Arc::clone(&key.ground),
        ))
    }
}

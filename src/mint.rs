//! What the upstream may believe: a short-lived token about the caller, signed with keys of Cardea's own.
//!
//! ```text
//! an allowed request ▶ tokens: signed for this proof already? ▶ claims: what it says ▶ key: signature ▶ Minted
//! ```
//!
//! | file | does |
//! |---|---|
//! | `claims` | what a token says, and for how long |
//! | `tokens` | which were signed already |
//! | `key` | keys that sign, and what verifiers are told of them |
//! | `ring` | which key signs now, and which are published |
//! | `settings` | the section `mint`, and what is wrong with it |
//! | `keeper`, `directory` | where keys come from, and that they change in time |
//!
//! It is asked after the decision, and only of requests that pass: so nobody whose trust was taken back ever gets here. A
//! token is no permission. It says who calls, for one audience, for a minute; and where it cannot be made, the request does
//! not pass, because its upstream relies on it.

mod claims;
mod directory;
mod keeper;
mod key;
mod ring;
mod settings;
mod tokens;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::rand;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use self::claims::{Life, Purpose};
use self::keeper::Keys;
use self::key::b64;
use self::tokens::{Holder, Name, Signed, Tokens};
use crate::model::{
    Caller, Clock, CredentialFault, IdentityAttributes, Matched, Method, Minted, Problem, Reason,
    Refusal,
};

pub use directory::{KEY_FILE_ENDING, ListedKey, listed_keys};
pub use key::{FreshSigningKey, KeyError, TOKEN_TYPE};
pub use settings::{Binding, KEY_SET_CACHED, KeySettings, MintedClaim, Settings, SigningAlgorithm};

/// The most that a token may say, in bytes: it is then below 6 KiB itself. Servers take 8 KiB of headers at least, and this
/// is not the only one.
const LONGEST: usize = 4096;

/// Signs what the upstream is told of callers.
pub struct Mint {
    settings: Settings,
    keys: Arc<Keys>,
    tokens: Tokens,
    signed: AtomicU64,
    too_long: AtomicU64,
    failed: AtomicU64,
    keeper: AbortHandle,
}

/// What was signed since the start, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintFigures {
    /// How many tokens were signed.
    pub signed: u64,
    /// How many were not, by a word for why (a closed list). Each is a request that was denied.
    pub failures: [(&'static str, u64); 2],
    /// How many tokens are remembered.
    pub entries: u64,
    /// How long the key that signs has been there.
    pub key_age: Option<Duration>,
    /// Whether the folder of keys cannot be read as it is now, so that those known before go on signing.
    pub stale: bool,
}

impl Mint {
    /// Reads or makes the keys, and looks after them on the `background` runtime. It blocks: at start only.
    ///
    /// # Errors
    /// Everything that keeps the keys from being read. There is no mint without one.
    pub fn start(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        background: &Handle,
    ) -> Result<Self, Vec<Problem>> {
        let keys = Arc::new(Keys::start(settings, clock)?);
        let keeper = background.spawn(Arc::clone(&keys).keep());
        Ok(Self {
            settings: settings.clone(),
            keys,
            tokens: Tokens::new(settings),
            signed: AtomicU64::new(0),
            too_long: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            keeper: keeper.abort_handle(),
        })
    }

    /// The token for a request that may pass; `None` where nobody in particular asks and settings want none for them.
    ///
    /// # Errors
    /// [`Reason::CredentialInvalid`] where the caller's own credential has ended but for the skew of clocks: a token that
    /// outlives it is not made. [`Reason::MintFailed`] where it would be too long or cannot be signed.
    pub fn token(
        &self,
        caller: &Caller,
        (matched, method): (&Matched, Method),
        at: Timestamp,
    ) -> Result<Option<Minted>, Refusal> {
        let holder: Holder = match caller {
            Caller::Anonymous if !self.settings.anonymous => return Ok(None),
            Caller::Anonymous => None,
            Caller::Verified(identity) => Some(Arc::clone(identity)),
            // Nobody was there: nothing is signed for them.
            Caller::Supposed(_) => return Err(not_signed()),
        };
        let purpose = Purpose {
            operation: &matched.operation,
            method,
        };
        let name = Name::of(&holder, purpose, self.settings.bind);
        let sign = || self.sign(holder.clone(), purpose, at);
        let minted = self.tokens.get((name, &holder), at, sign);
        minted.map(Some).inspect_err(|refusal| {
            if refusal.reason == Reason::MintFailed {
                let too_long = refusal.detail == TOO_LONG;
                let counter = if too_long {
                    &self.too_long
                } else {
                    &self.failed
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn sign(&self, holder: Holder, purpose: Purpose<'_>, at: Timestamp) -> Result<Signed, Refusal> {
        let caller = holder.as_deref().map(|holder| &**holder);
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(|_| not_signed())?;
        let (claims, life) = said(&self.settings, caller, purpose, at)?;
        let text = written(claims, &b64(&id))?.1;
        let key = self.keys.signing().ok_or_else(not_signed)?;
        let token = key.sign(&text).ok_or_else(not_signed)?;
        self.signed.fetch_add(1, Ordering::Relaxed);
        Ok(Signed {
            holder,
            token: Minted::new(&token),
            life,
            key,
        })
    }

    /// The keys that verify what is signed, as a JWK set (RFC 7517, section 5).
    #[must_use]
    pub fn key_set(&self) -> String {
        self.keys.key_set()
    }

    /// What was signed so far.
    #[must_use]
    pub fn figures(&self) -> MintFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MintFigures {
            signed: read(&self.signed),
            failures: [
                ("too_long", read(&self.too_long)),
                ("not_signed", read(&self.failed)),
            ],
            entries: self.tokens.entries(),
            key_age: self.keys.age(),
            stale: self.keys.stale(),
        }
    }
}

impl Drop for Mint {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mint")
            .field("issuer", &self.settings.issuer)
            .finish_non_exhaustive()
    }
}

/// What a token would be, without one: for rehearsals. It names claims, and does not show what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The header that would carry it.
    pub header: String,
    /// For whom it would be.
    pub audience: String,
    /// The names of everything that it would say.
    pub claims: Vec<String>,
}

/// What token a request that may pass would bring to its upstream. Nothing is signed.
///
/// # Errors
/// As [`Mint::token`], but for what only a signature can tell.
pub fn preview(
    settings: &Settings,
    caller: &Caller,
    (matched, method): (&Matched, Method),
    at: Timestamp,
) -> Result<Option<Preview>, Refusal> {
    if matches!(caller, Caller::Anonymous) && !settings.anonymous {
        return Ok(None);
    }
    let purpose = Purpose {
        operation: &matched.operation,
        method,
    };
    let (claims, _) = said(settings, caller.attributes(), purpose, at)?;
    let (claims, _) = written(claims, &b64(&[0; 16]))?;
    let mut names: Vec<String> = claims.keys().cloned().collect();
    names.sort_unstable();
    Ok(Some(Preview {
        header: settings.header.to_ascii_lowercase(),
        audience: settings
            .audience_of(&matched.operation.route.api.name)
            .to_owned(),
        claims: names,
    }))
}

/// What a token says now but for its id, and for how long it is good.
fn said(
    settings: &Settings,
    caller: Option<&IdentityAttributes>,
    purpose: Purpose<'_>,
    at: Timestamp,
) -> Result<(Map<String, Value>, Life), Refusal> {
    let life = Life::of(settings.lifetime, caller, at).ok_or_else(|| {
        Refusal::new(
            Reason::CredentialInvalid(CredentialFault::Expired),
            "the credential has ended but for the skew of clocks, and the upstream's token must not outlive it",
        )
    })?;
    Ok((claims::claims(settings, caller, purpose, life), life))
}

/// The claims with this id, and as they are signed.
fn written(
    mut claims: Map<String, Value>,
    id: &str,
) -> Result<(Map<String, Value>, Vec<u8>), Refusal> {
    claims.insert("jti".to_owned(), id.into());
    let text = serde_json::to_vec(&claims).map_err(|_| not_signed())?;
    if text.len() > LONGEST {
        return Err(Refusal::new(Reason::MintFailed, TOO_LONG));
    }
    Ok((claims, text))
}

const TOO_LONG: &str =
    "the token for the upstream would say more than 4096 bytes: let `mint.claims` name fewer";

fn not_signed() -> Refusal {
    Refusal::new(
        Reason::MintFailed,
        "the token for the upstream cannot be signed",
    )
}

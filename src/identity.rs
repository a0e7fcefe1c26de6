//! Who asks: a credential is found, believed, and remembered.
//!
//! ```text
//! request ▶ scheme: the one credential ▶ cache: seen before? ▶ bearer: read, rules ▶ keys ▶ signature ▶ claims ▶ Known
//! ```
//!
//! | file | does |
//! |---|---|
//! | `carried` | what a request carries that may say who asks |
//! | `scheme` | what a credential scheme has to offer, and which credentials a request presents |
//! | `acceptance` | which schemes an operation accepts |
//! | `together` | what several credentials on one request come to |
//! | `dpop` | proofs of a key, made for one request |
//! | `possession` | whether whoever sends a bound token has its key |
//! | `bearer` | the scheme of bearer JWTs, those of Kubernetes service accounts included |
//! | `certificate` | the scheme of client certificates |
//! | `api_key` | the scheme of API keys, and the file that holds them |
//! | `basic` | the scheme of user names and passwords |
//! | `watched` | files that are read again when they change |
//! | `introspection` | the scheme of opaque bearer tokens, whose server is asked |
//! | `transaction` | the scheme of transaction tokens |
//! | `token` | strict reading of a compact JWS |
//! | `statement`, `party` | what a known party signed that is no credential, and such parties beside the issuers |
//! | `status_list` | what issuers say of their tokens after they gave them out |
//! | `claims` | the rules for claims, and what they say of the holder |
//! | `jwk` | strict reading of key sets |
//! | `keys`, `fetch` | one issuer's keys: when they are fetched, and how |
//! | `supposed` | what claims that nobody signed would say, for rehearsals |
//! | `cache`, `digest` | what is remembered, and under which name |
//! | `ground`, `denial` | what a proof stands on; which refusals may be remembered |
//! | `revocation` | what is no longer trusted, and when that is noticed |
//! | `ready` | whether every issuer that must have keys has them |
//!
//! A warm look-up is one keyed hash, one read of the cache and a few comparisons. Two things are refused here whatever
//! policies say: credentials of several callers that no rule combines, and a credential that is not valid. No credential is no
//! refusal: it is [`Who::Anonymous`], and policies judge it.

mod acceptance;
mod api_key;
mod basic;
mod bearer;
mod cache;
mod carried;
mod certificate;
mod claims;
mod crypto;
mod denial;
mod digest;
mod dpop;
mod fetch;
mod ground;
mod introspection;
mod jwk;
mod keys;
mod party;
mod possession;
mod ready;
mod revocation;
mod scheme;
mod settings;
mod statement;
mod status_list;
mod supposed;
mod together;
mod token;
mod transaction;
mod watched;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::acceptance::{Acceptance, Accepted};
use self::api_key::ApiKeys;
use self::basic::Basic;
use self::bearer::BearerJwt;
use self::cache::{Cache, Memory, Moment};
use self::carried::{Carried, Place};
use self::certificate::{Authorities, Certificate, Clients};
use self::claims::Rules;
use self::digest::Digest;
use self::dpop::Dpop;
use self::introspection::Introspection;
use self::keys::{KeySource, Surroundings};
use self::possession::Possession;
use self::ready::Readiness;
use self::revocation::Access;
use self::scheme::{Held, Listed};
use self::status_list::{StatusLists, Statuses};
use self::transaction::TransactionToken;
use crate::model::{
    AccessRequest, Arrival, CERTIFICATE, Caller, Challenge, Clock, ColdStep, IdentityAttributes,
    Problem, Refusal, SnapshotId, VerifiedIdentity,
};

pub use api_key::{FreshKey, HashKey, KeyEntry, KeyFile, KeyState, Owner, is_yaml};
pub use basic::hash_password;
pub use cache::{Figures, Known};
pub use crypto::install_crypto;
pub use keys::KeySetStatus;
pub use party::{Answer as PartyAnswer, NoAnswer, Party, PartySettings, Question};
pub use revocation::{
    Applied, Change, Event, Kind as RevocationKind, Lives, NotApplied, RevocationFigures,
    Revocations, Saved, Source as RevocationSource, Target,
};
pub use scheme::SchemeName;
pub use settings::{
    Algorithm, ApiKeySettings, BasicSettings, BoundTo, CacheSettings, Carrier, CertificateSettings,
    ClaimSettings, ClientAuth, ClientSettings, DpopSettings, ForwardedHeader, ForwardedSettings,
    IntrospectionSettings, IssuerSettings, KeyPlace, KubernetesSettings, NameFrom, NameSettings,
    NonceSetting, PrincipalSetting, RevocationSettings, RouteSettings, Settings, SignedAnswers,
    StatusListSettings, StatusMode, TrustDomainSettings, WithoutCrl,
};
pub use statement::Unbelieved;
pub use status_list::StatusListFigures;
pub use supposed::{ClaimReader, SUPPOSED_ISSUER, SUPPOSED_LIFE};

/// Every way to prove who one is. A new one is a file and a line here.
fn schemes(
    settings: &Settings,
    (sources, statuses): (&[Arc<KeySource>], &[Arc<Statuses>]),
    (certificates, introspection): (Option<Certificate>, Option<Introspection>),
    (clock, background): (&Arc<dyn Clock>, &Handle),
) -> Result<Vec<Listed>, Vec<Problem>> {
    let clusters = settings.kubernetes.iter().map(Rules::of_cluster);
    let issuers = settings.issuers.iter().cloned().map(Rules::new);
    let parties = sources.iter().cloned().zip(statuses.iter().cloned());
    let issuers = issuers.chain(clusters).zip(parties);
    let leaves_opaque = settings.schemes().contains(&SchemeName::Introspection);
    let (transaction, bearer): (Vec<_>, Vec<_>) =
        issuers.partition(|(rules, _)| rules.carrier() == Carrier::TransactionToken);
    let mut all: Vec<Box<dyn scheme::Scheme>> = vec![
        Box::new(BearerJwt::new(bearer, leaves_opaque)),
        Box::new(TransactionToken::new(transaction)),
    ];
    all.extend(introspection.map(|scheme| Box::new(scheme) as Box<dyn scheme::Scheme>));
    all.extend(certificates.map(|scheme| Box::new(scheme) as Box<dyn scheme::Scheme>));
    if let Some(keys) = &settings.api_keys {
        all.push(Box::new(ApiKeys::start(keys, clock, background)?));
    }
    if let Some(basic) = &settings.basic {
        all.push(Box::new(Basic::start(basic, clock, background)?));
    }
    let listed: Result<_, _> = all.into_iter().map(Listed::new).collect();
    listed.map_err(|message| vec![Problem::new(message)])
}

/// Tells who asks. `P` is what the rest of the house makes of a proven identity, such as a finished Cedar principal; it
/// is kept beside the proof, so that a warm look-up builds nothing.
pub struct Identity<P> {
    schemes: Vec<Listed>,
    acceptance: Acceptance,
    possession: Possession,
    cache: Cache<P>,
    revocations: Arc<Revocations>,
    sources: Vec<Arc<KeySource>>,
    status_lists: Vec<Arc<StatusLists>>,
    authorities: Option<Arc<Authorities>>,
    readiness: Readiness,
    introspections: Arc<introspection::Watch>,
    clock: Arc<dyn Clock>,
    tasks: Vec<AbortHandle>,
}

/// What identifying came to.
#[derive(Debug)]
pub struct Identified<P> {
    /// Who asks, or why the request is refused.
    pub who: Result<Who<P>, Refusal>,
    /// Who else was proven: of a pair that a rule combines, or all of those that no rule combines.
    pub beside: Vec<Arc<Known<P>>>,
    /// Whether a proof was found in the cache; `None` where none was looked for.
    pub cache_hit: Option<bool>,
    /// How callers of this operation may prove who they are.
    pub challenges: Arc<[Challenge]>,
    /// The nonce that the sender's next proof of possession should hold, where it has to be told.
    pub proof_nonce: Option<String>,
    /// Slow work done on the way. Empty, and not allocated, for a warm look-up.
    pub cold: Vec<ColdStep>,
}

/// Who asks.
pub enum Who<P> {
    /// No credential was presented.
    Anonymous,
    /// A credential was presented and proven.
    Verified(Arc<Known<P>>),
}

impl<P> Who<P> {
    /// The same as the rest of the house names it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        match self {
            Self::Anonymous => Caller::Anonymous,
            Self::Verified(known) => known.caller(),
        }
    }
}

impl<P> fmt::Debug for Who<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Verified(known) => known.fmt(f),
        }
    }
}

impl<P: Send + Sync + 'static> Identity<P> {
    /// Starts to keep the issuers' keys, on the `background` runtime. It does not wait for them: see [`Self::ready`].
    ///
    /// # Errors
    /// Everything that is wrong with the settings, or keeps keys from being fetched at all.
    pub fn start(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        background: &Handle,
    ) -> Result<Arc<Self>, Vec<Problem>> {
        Self::open(settings, clock, background, Access::Own)
    }

    /// The same beside a server that may be running: its file of revocations is read and never written.
    ///
    /// # Errors
    /// As [`Identity::start`].
    pub fn start_beside(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        background: &Handle,
    ) -> Result<Arc<Self>, Vec<Problem>> {
        Self::open(settings, clock, background, Access::Read)
    }

    fn open(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        background: &Handle,
        access: Access,
    ) -> Result<Arc<Self>, Vec<Problem>> {
        install_crypto();
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        warn_of_shared_names(settings);
        let issuers = settings.token_issuers();
        let readiness = readiness(settings, &issuers);
        let surroundings = |index| Surroundings {
            clock: Arc::clone(&clock),
            background: background.clone(),
            key_wait: settings.key_wait.0,
            ready: readiness.slot(index),
        };
        let mut sources = bearer::key_sources(&issuers, surroundings)?;
        let others = issuers.len() + introspection::key_holders(settings).count();
        let (wait, after) = (settings.key_wait.0, |index| surroundings(others + index));
        let parties = (issuers.as_slice(), sources.as_slice());
        let status = status_list::start(parties, after, (&clock, background, wait))?;
        let introspections = Arc::default();
        let opaque = (!settings.introspection.is_empty())
            .then(|| {
                let after = |index| surroundings(issuers.len() + index);
                Introspection::start(settings, after, &introspections)
            })
            .transpose()?;
        sources.extend(opaque.iter().flat_map(Introspection::sources));
        sources.extend(status.sources);
        let status_lists = status_list::all(&status.statuses);
        let revocations = Revocations::start(settings, Arc::clone(&clock), background, access)
            .map_err(|problem| vec![problem])?;
        let clients = Arc::new(Clients::new(settings.certificates.as_ref()));
        let certificates = settings
            .certificates
            .as_ref()
            .map(|settings| Certificate::load(settings, Arc::clone(&clients), clock.as_ref()));
        let certificates = certificates.transpose()?;
        let authorities = certificates
            .as_ref()
            .map(|scheme| Arc::clone(scheme.authorities()));
        let papers = authorities
            .iter()
            .map(|files| background.spawn(Arc::clone(files).keep_fresh()));
        let tasks: Vec<_> = sources
            .iter()
            .map(|source| background.spawn(keys::keep_fresh(Arc::clone(source))))
            .chain(papers)
            .chain(
                status_lists
                    .iter()
                    .map(|lists| background.spawn(Arc::clone(lists).keep_fresh())),
            )
            .map(|task| task.abort_handle())
            .collect();
        let dpop = settings.dpop.as_ref().map(Dpop::start).transpose();
        let possession = Possession::new(clients, dpop.map_err(|problem| vec![problem])?);
        let schemes = schemes(
            settings,
            (&sources, &status.statuses),
            (certificates, opaque),
            (&clock, background),
        )?;
        Ok(Arc::new(Self {
            schemes,
            acceptance: Acceptance::new(&settings.routes, settings.schemes(), |scheme| {
                settings.challenges(scheme)
            }),
            possession,
            cache: Cache::new(&settings.cache, Arc::clone(&revocations)),
            authorities,
            revocations,
            readiness,
            introspections,
            clock,
            tasks,
            sources,
            status_lists,
        }))
    }

    /// Tells who asks. `finish` makes the principal for this snapshot; it is called only where none is remembered.
    ///
    /// Run it on any tokio runtime whose timers are on: a token with an unknown key waits for a fetch, bounded by the
    /// request's deadline and `key_wait`. Dropping the future is safe at any point.
    pub async fn identify(
        &self,
        (request, operation): (&AccessRequest, &str),
        arrival: &Arrival,
        snapshot: &SnapshotId,
        finish: impl Fn(&VerifiedIdentity) -> P + Send + Sync,
    ) -> Identified<P> {
        let accepted = self.acceptance.of(request, operation);
        let asked = (request, accepted);
        let mut identified = self.ask(asked, (arrival, snapshot), &finish).await;
        identified.challenges = Arc::clone(&accepted.challenges);
        identified
    }

    async fn ask(
        &self,
        (request, accepted): (&AccessRequest, &Accepted),
        (arrival, snapshot): (&Arrival, &SnapshotId),
        finish: &(impl Fn(&VerifiedIdentity) -> P + Send + Sync),
    ) -> Identified<P> {
        let carried = match Carried::read(request) {
            Ok(carried) => carried,
            Err(refusal) => return Identified::at_once(Err(refusal), None),
        };
        let found = match scheme::find(&self.schemes, accepted, &carried) {
            Ok(found) => found,
            Err(refusal) => return Identified::at_once(Err(refusal), None),
        };
        let Some(first) = found.first else {
            return Identified::at_once(Ok(Who::Anonymous), None);
        };
        let names = first.listed.name();
        let first = self
            .know(&first, &carried, (arrival, snapshot), finish)
            .await;
        if found.more.is_empty() {
            return first;
        }
        let mut all = vec![(names, first)];
        for held in &found.more {
            let one = Box::pin(self.know(held, &carried, (arrival, snapshot), finish)).await;
            all.push((held.listed.name(), one));
        }
        together::settle(all, accepted)
    }

    /// Tells whose one credential is, and whether this sender may use it.
    async fn know(
        &self,
        held: &Held<'_, '_>,
        carried: &Carried<'_>,
        (arrival, snapshot): (&Arrival, &SnapshotId),
        finish: &(impl Fn(&VerifiedIdentity) -> P + Send + Sync),
    ) -> Identified<P> {
        let credential = &*held.presented.credential;
        let moment = Moment {
            digest: Digest(held.listed.digest(credential)),
            arrival,
            snapshot,
        };
        let mut known = match self.cache.look_up(moment) {
            Memory::Known(known) => Identified::at_once(Ok(Who::Verified(known)), Some(true)),
            Memory::Outdated(old) => {
                let known = self.cache.renew(moment, &old, finish(old.identity()));
                Identified::at_once(Ok(Who::Verified(known)), Some(true))
            }
            Memory::Refused(refusal) => Identified::at_once(Err(refusal), Some(false)),
            // Boxed, so that the future of the usual, warm way stays small.
            Memory::Nothing => Box::pin(self.meet(held.listed, credential, moment, finish)).await,
        };
        if let Ok(Who::Verified(holder)) = &known.who
            && to_be_proven(held.presented.place, holder.identity())
        {
            match self.possession.prove(holder.identity(), carried, arrival) {
                Ok(nonce) => known.proof_nonce = nonce,
                Err(refusal) => {
                    known.proof_nonce = self.possession.nonce(&refusal, arrival);
                    known.who = Err(refusal);
                }
            }
        }
        known
    }

    /// Judges a credential nobody remembers.
    async fn meet(
        &self,
        listed: &Listed,
        credential: &[u8],
        moment: Moment<'_>,
        finish: &(impl Fn(&VerifiedIdentity) -> P + Send + Sync),
    ) -> Identified<P> {
        let prepared = listed.prepare(credential, moment.arrival).await;
        let mut cold: Vec<ColdStep> = prepared.waited.into_iter().collect();
        let outcome = match prepared.proof {
            Ok(proof) => {
                let began = self.clock.monotonic();
                let outcome = self.cache.judge(moment, proof, finish);
                cold.push(ColdStep {
                    name: "verify token",
                    began,
                    took: self.clock.monotonic().saturating_duration_since(began),
                });
                outcome
            }
            Err(denial) => {
                self.cache.remember_refused(moment, &denial);
                Err(denial)
            }
        };
        Identified {
            cold,
            ..Identified::at_once(
                outcome
                    .map(Who::Verified)
                    .map_err(|denial| denial.refusal()),
                Some(false),
            )
        }
    }

    /// What the cache has done since start.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.cache.figures()
    }
}

impl<P> Identity<P> {
    /// Whether every required issuer has keys that may be used now.
    #[must_use]
    pub fn ready(&self) -> bool {
        let needed = |source: &&Arc<KeySource>| source.required();
        self.sources
            .iter()
            .filter(needed)
            .all(|source| source.usable())
    }

    /// Readiness and its changes, as fetches end.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.readiness.subscribe()
    }

    /// How each issuer's keys stand, in the order of the settings.
    #[must_use]
    pub fn key_sets(&self) -> Vec<KeySetStatus> {
        self.sources.iter().map(|source| source.status()).collect()
    }

    /// How the status lists of each issuer stand, where they are honoured.
    #[must_use]
    pub fn status_lists(&self) -> Vec<StatusListFigures> {
        let lists = self.status_lists.iter();
        lists.map(|lists| lists.figures()).collect()
    }

    /// What is no longer trusted.
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Has `tell` told how each question about an opaque token ends: by a word for the outcome (a closed list), and after
    /// which time where it was asked at all. Only the first call counts.
    pub fn on_introspection(
        &self,
        tell: impl Fn(&'static str, Option<Duration>) + Send + Sync + 'static,
    ) {
        self.introspections.set(Box::new(tell));
    }

    /// Fetches all issuers' keys and status lists and reads the files of authorities and revocation lists now, and waits for
    /// the outcome, as an operator may ask for after a rotation.
    pub async fn refresh(&self) {
        if let Some(authorities) = &self.authorities {
            authorities.refresh().await;
        }
        for source in &self.sources {
            source.refresh().await;
        }
        for lists in &self.status_lists {
            lists.refresh().await;
        }
    }
}

impl<P> Drop for Identity<P> {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl<P> fmt::Debug for Identity<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("schemes", &self.schemes)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl<P> Identified<P> {
    /// Whose client certificate was proven: the caller's, or that of somebody beside it.
    #[must_use]
    pub fn certified(&self) -> Option<Caller> {
        let caller = match &self.who {
            Ok(Who::Verified(known)) => Some(known),
            Ok(Who::Anonymous) | Err(_) => None,
        };
        let mut all = caller.into_iter().chain(&self.beside);
        let holder = all.find(|known| known.identity().scheme == CERTIFICATE)?;
        Some(holder.caller())
    }

    fn at_once(who: Result<Who<P>, Refusal>, cache_hit: Option<bool>) -> Self {
        Self {
            who,
            beside: Vec::new(),
            cache_hit,
            challenges: Arc::default(),
            proof_nonce: None,
            cold: Vec::new(),
        }
    }
}

/// One place for all who have keys, in the order in which these are kept; ready are those that nobody waits for.
fn readiness(settings: &Settings, issuers: &[IssuerSettings]) -> Readiness {
    let required = issuers.iter().map(|issuer| issuer.required);
    let required = required.chain(introspection::key_holders(settings));
    let required = required.chain(status_list::key_holders(issuers));
    Readiness::new(required.map(|required| !required))
}

fn warn_of_shared_names(settings: &Settings) {
    for (names, issuers) in settings.shared_names() {
        tracing::warn!(
            ?issuers,
            "these issuers can name one another's {names}: where that is not meant, give each a prefix of its own, or map none"
        );
    }
}

/// Whether the sender has to show a key. What is bound to one needs that wherever it was found; in `Authorization` it is
/// also asked of what is not, for the field can say that it is. A certificate of the connection was proven there.
fn to_be_proven(place: Place, holder: &IdentityAttributes) -> bool {
    match place {
        Place::Authorization => true,
        Place::Header => holder.binding.is_some(),
        Place::Connection => false,
    }
}

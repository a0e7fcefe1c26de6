//! What an issuer says of its tokens after it gave them out: lists of statuses (draft-ietf-oauth-status-list).
//!
//! ```text
//! token, signed by its issuer ▶ its list and its place there ▶ list at hand, else fetched ▶ signature, claims ▶ bits
//! cached proof ▶ the same place on the list as it is now
//! ```
//!
//! | file | does |
//! |---|---|
//! | `reference` | what a token says of its status, and whether that may be fetched |
//! | `lists` | all lists of one issuer: which are held, and when they are fetched |
//! | `list` | one list: one fetch at a time, and what is held of it |
//! | `source` | what the lists of an issuer share: signer, client, pauses |
//! | `content` | what a list has to say to be used, and until when |
//! | `bits` | the statuses themselves |
//!
//! A proof keeps its place on the list, and every look into the cache of proofs asks the list for what stands there. So a
//! status that changes bites as soon as the list is fetched again, and nothing is verified anew for that. A list that cannot
//! be had, or has become too old, says nothing: its tokens are refused with 503, and that is not remembered.

mod bits;
mod content;
mod list;
mod lists;
mod reference;
mod source;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::list::List;
use self::reference::{Places, Reference};
use self::source::Source;
use super::denial::Denial;
use super::fetch::{self, Access, Fetcher};
use super::keys::{KeySource, Surroundings};
use super::settings::{IssuerSettings, StatusListSettings, StatusMode};
use super::statement::Signer;
use super::token::Wrong;
use crate::model::{Arrival, Clock, ColdStep, CredentialFault as Fault, Problem};

pub(super) use lists::StatusLists;

/// What becomes of the claim `status` of one issuer's tokens.
#[derive(Debug)]
pub(super) enum Statuses {
    /// The settings say nothing of it. It is not looked at, which is told once.
    Unsaid { issuer: String, told: AtomicBool },
    /// The settings say that it is not looked at.
    Ignored,
    /// It is honoured.
    Honoured(Honoured),
}

/// How it is honoured.
#[derive(Debug)]
pub(super) struct Honoured {
    lists: Arc<StatusLists>,
    places: Places,
    required: bool,
}

/// What a token says of its status, and what may come of that.
#[derive(Debug)]
pub(super) struct Named<'s> {
    lists: &'s Arc<StatusLists>,
    reference: Reference,
}

impl Statuses {
    fn of(settings: &IssuerSettings, honoured: Option<Honoured>) -> Arc<Self> {
        Arc::new(match (honoured, &settings.status_lists) {
            (Some(honoured), _) => Self::Honoured(honoured),
            (None, Some(_)) => Self::Ignored,
            (None, None) => Self::Unsaid {
                issuer: settings.issuer.clone(),
                told: AtomicBool::new(false),
            },
        })
    }

    /// What a token says of its status; `None` where that is nothing, or is not looked at. Nothing is fetched for it.
    ///
    /// # Errors
    /// [`Fault::Claims`] where it says something that cannot be honoured, or nothing and has to.
    pub(super) fn read(&self, claims: &Map<String, Value>) -> Result<Option<Named<'_>>, Wrong> {
        let Self::Honoured(honoured) = self else {
            return Ok(None);
        };
        match honoured.places.read(claims)? {
            None if honoured.required => Err(Wrong(
                Fault::Claims,
                "the token names no status list, and has to",
            )),
            None => Ok(None),
            Some(reference) => Ok(Some(Named {
                lists: &honoured.lists,
                reference,
            })),
        }
    }

    /// Tells, once, that the status of a token is not looked at. Its signature was.
    pub(super) fn mind(&self, claims: &Map<String, Value>) {
        if let Self::Unsaid { issuer, told } = self
            && claims.contains_key("status")
            && !told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %issuer,
                "tokens of this issuer have a status, which is not looked at: set `status_lists` for it, or its mode to `off`"
            );
        }
    }

    /// The lists, where they are honoured.
    fn lists(&self) -> Option<&Arc<StatusLists>> {
        match self {
            Self::Honoured(honoured) => Some(&honoured.lists),
            Self::Unsaid { .. } | Self::Ignored => None,
        }
    }
}

impl Named<'_> {
    /// Where the token stands, if that list is at hand.
    pub(super) fn at_hand(&self, arrival: &Arrival) -> Option<Standing> {
        self.lists.at_hand(&self.reference, arrival)
    }

    /// Where the token stands, and what was waited for. Only for a token that its issuer is known to have signed: nobody
    /// else may have anything fetched.
    ///
    /// # Errors
    /// [`Denial::StatusUnavailable`] where the list cannot be had.
    pub(super) async fn standing(
        &self,
        arrival: &Arrival,
    ) -> (Option<ColdStep>, Result<Standing, Denial>) {
        self.lists.standing(&self.reference, arrival).await
    }
}

/// Where a token stands: a place on a list, and whatever is on the list there at any time.
#[derive(Clone)]
pub(super) struct Standing {
    list: Arc<List>,
    source: Arc<Source>,
    index: u64,
}

/// What the list says of a token that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It was taken back.
    Invalid,
    /// It does not count for now.
    Suspended,
    /// Something else than valid: of the issuer's own, or not known here.
    Other,
    /// The list is shorter than the token says.
    Beyond,
}

impl Status {
    /// What is wrong with a credential of that status.
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Invalid | Self::Suspended | Self::Other => Fault::Revoked,
            Self::Beyond => Fault::Claims,
        }
    }

    /// The same for operators.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Invalid => "the issuer's status list says that the token is invalid",
            Self::Suspended => "the issuer's status list says that the token is suspended",
            Self::Other => "the issuer's status list says something else of the token than valid",
            Self::Beyond => "the token names a place beyond the end of its status list",
        }
    }
}

impl Standing {
    /// Whether the list can say anything now.
    pub(super) fn tells(&self, arrival: &Arrival) -> bool {
        self.list.look(arrival, |_| ()).is_some()
    }

    /// Whether the list calls the token valid now. It costs a few atomic reads and one of the list.
    ///
    /// # Errors
    /// The denial, which counts for as long as the list says so; one that is not remembered where the list says nothing.
    pub(super) fn check(&self, arrival: &Arrival) -> Result<(), Denial> {
        self.list.touch(self.source.seconds(arrival.started));
        match self.status(arrival) {
            Some(Ok(())) => Ok(()),
            Some(Err(status)) => Err(Denial::Status(self.clone(), status)),
            None => Err(Denial::StatusUnavailable(
                "the token's status list became too old",
            )),
        }
    }

    /// Whether the list is at hand and does not call the token valid.
    pub(super) fn refuses(&self, arrival: &Arrival) -> bool {
        matches!(self.status(arrival), Some(Err(_)))
    }

    /// What the list says; `None` where that is nothing.
    fn status(&self, arrival: &Arrival) -> Option<Result<(), Status>> {
        // The types of section 7.1: only 0 is valid.
        self.list
            .look(arrival, |content| match content.bits.at(self.index) {
                Some(0) => Ok(()),
                Some(1) => Err(Status::Invalid),
                Some(2) => Err(Status::Suspended),
                Some(_) => Err(Status::Other),
                None => Err(Status::Beyond),
            })
    }
}

/// Which token it is stays out of logs.
impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").finish_non_exhaustive()
    }
}

/// How one issuer's status lists stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusListFigures {
    /// The issuer whose tokens they are about.
    pub issuer: String,
    /// How many lists are held.
    pub held: usize,
    /// How long ago the oldest of them was fetched.
    pub oldest: Option<Duration>,
    /// Fetches that failed since the start.
    pub fetch_errors: u64,
}

/// What lists live by: the clock, the background runtime, and how long one request may wait for one.
type Around<'a> = (&'a Arc<dyn Clock>, &'a Handle, Duration);

/// The statuses of all issuers' tokens.
#[derive(Debug)]
pub(super) struct Started {
    /// In the order of the settings.
    pub(super) statuses: Vec<Arc<Statuses>>,
    /// The keys of those who sign lists and no tokens.
    pub(super) sources: Vec<Arc<KeySource>>,
}

/// How many keys there are of those who sign lists and no tokens. Readiness waits for none of them.
pub(super) fn key_holders(issuers: &[IssuerSettings]) -> impl Iterator<Item = bool> {
    issuers
        .iter()
        .filter(|issuer| in_use(issuer).is_some_and(|lists| lists.keys.is_some()))
        .map(|_| false)
}

/// The statuses of all these issuers' tokens, which have those keys. `surroundings` are those of further keys; `wait` is
/// how long one request may wait for a list.
///
/// # Errors
/// Everything that keeps lists from being fetched.
pub(super) fn start(
    (issuers, keys): (&[IssuerSettings], &[Arc<KeySource>]),
    surroundings: impl Fn(usize) -> Surroundings,
    around: Around<'_>,
) -> Result<Started, Vec<Problem>> {
    let mut started = Started {
        statuses: Vec::new(),
        sources: Vec::new(),
    };
    let mut problems = Vec::new();
    let reading = source::reading_turns();
    for (index, (issuer, own)) in issuers.iter().zip(keys).enumerate() {
        let Some(lists) = in_use(issuer) else {
            started.statuses.push(Statuses::of(issuer, None));
            continue;
        };
        let further = || surroundings(started.sources.len());
        match honour((issuer, lists), (own, further), (around, &reading)) {
            Ok((honoured, further)) => {
                started.statuses.push(Statuses::of(issuer, Some(honoured)));
                started.sources.extend(further);
            }
            Err(error) => problems.push(Problem::new(format!(
                "`identity.issuers[{index}].status_lists`: {error}"
            ))),
        }
    }
    if problems.is_empty() {
        Ok(started)
    } else {
        Err(problems)
    }
}

/// The lists of all issuers that have any.
pub(super) fn all(statuses: &[Arc<Statuses>]) -> Vec<Arc<StatusLists>> {
    let lists = statuses.iter().filter_map(|one| one.lists());
    lists.cloned().collect()
}

fn in_use(issuer: &IssuerSettings) -> Option<&StatusListSettings> {
    let lists = issuer.status_lists.as_ref();
    lists.filter(|lists| lists.mode != StatusMode::Off)
}

fn honour(
    (issuer, lists): (&IssuerSettings, &StatusListSettings),
    (own, surroundings): (&Arc<KeySource>, impl Fn() -> Surroundings),
    ((clock, background, wait), reading): (Around<'_>, &Arc<Semaphore>),
) -> Result<(Honoured, Option<Arc<KeySource>>), String> {
    let places = Places::new(&lists.url_prefixes);
    let places = places.map_err(|error| format!("a prefix {error}"))?;
    let client = fetch::client().map_err(|error| format!("nothing can be fetched: {error}"))?;
    let further = match lists.signer(issuer) {
        None => None,
        Some(signer) => {
            let fetcher = Fetcher::new(&signer, client.clone());
            let fetcher = fetcher.map_err(|error| format!("the URL of its keys {error}"))?;
            Some(KeySource::new(signer, fetcher, surroundings()))
        }
    };
    let signer = Signer {
        // Lists need no `iss`; where there is one, it is looked at with the rest.
        issuer: None,
        keys: Arc::clone(further.as_ref().unwrap_or(own)),
    };
    let access = Access::new(&lists.server(issuer), client);
    let access = (access, Arc::clone(reading));
    let around = (Arc::clone(clock), background.clone());
    let source = Source::new((issuer, lists.clone()), signer, access, around);
    let honoured = Honoured {
        lists: StatusLists::new(source, wait),
        places,
        required: lists.mode == StatusMode::Required,
    };
    Ok((honoured, further))
}

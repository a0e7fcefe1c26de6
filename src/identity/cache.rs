//! What is remembered of credentials: proofs in one place, refusals in another, both bounded.
//!
//! Entries are found by a keyed hash of the whole credential. A refused credential never enters the place of the good
//! ones, so a flood of forgeries cannot push a good one out. A proof counts only while nothing revoked it: that is asked
//! with every look, and costs two atomic reads where nothing was revoked since. Where it stands on a status list, that is
//! asked too.

mod index;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use moka::Expiry;
use moka::ops::compute::Op;
use moka::sync::Cache as Moka;

use self::index::{Evictable, Index};
use super::denial::Denial;
use super::digest::{Digest, Ready};
use super::ground::Ground;
use super::revocation::Revocations;
use super::scheme::Proven;
use super::settings::CacheSettings;
use super::status_list::Standing;
use crate::model::{Arrival, Caller, Refusal, SnapshotId, VerifiedIdentity};

/// Somebody who proved who they are, with what the rest of the house made of that for one snapshot.
pub struct Known<P> {
    identity: Arc<VerifiedIdentity>,
    principal: P,
    snapshot: SnapshotId,
    ground: Arc<Ground>,
    standing: Option<Standing>,
    valid_until: Timestamp,
    remembered_until: Instant,
    /// What is left until `remembered_until`, counted from when this entry was made.
    life: Duration,
    /// Its number in the index.
    serial: u64,
    /// The generation of revocations at which it was last found good.
    unrevoked: AtomicU64,
}

impl<P> Known<P> {
    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Arc<VerifiedIdentity> {
        &self.identity
    }

    /// The finished principal.
    #[must_use]
    pub fn principal(&self) -> &P {
        &self.principal
    }

    /// The same as the rest of the house names it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller::Verified(Arc::clone(&self.identity))
    }

    /// Whether the proof still stands: by the wall clock, by its time to live, by its ground, and where it is on a status
    /// list, by whether that list can say anything. What the list says is asked apart.
    fn stands(&self, arrival: &Arrival) -> bool {
        arrival.at < self.valid_until
            && arrival.started < self.remembered_until
            && self.ground.holds(arrival.started)
            && self
                .standing
                .as_ref()
                .is_none_or(|list| list.tells(arrival))
    }

    /// The same proof with a principal made for another snapshot. It is remembered no longer than before.
    fn finished_for(&self, moment: Moment<'_>, principal: P, serial: u64) -> Self {
        let (snapshot, now) = (moment.snapshot, moment.arrival.started);
        Self {
            serial,
            unrevoked: AtomicU64::new(self.unrevoked.load(Ordering::Relaxed)),
            identity: Arc::clone(&self.identity),
            principal,
            snapshot: snapshot.clone(),
            ground: Arc::clone(&self.ground),
            standing: self.standing.clone(),
            valid_until: self.valid_until,
            remembered_until: self.remembered_until,
            life: self.remembered_until.saturating_duration_since(now),
        }
    }
}

impl<P> fmt::Debug for Known<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("identity", &self.identity)
            .field("snapshot", &self.snapshot)
            .finish_non_exhaustive()
    }
}

/// What the cache knows of a credential.
pub(super) enum Memory<P> {
    /// A proof that stands, with a principal for this snapshot.
    Known(Arc<Known<P>>),
    /// A proof that stands, with a principal for another snapshot.
    Outdated(Arc<Known<P>>),
    /// It was refused, and would be again.
    Refused(Refusal),
    /// Nothing.
    Nothing,
}

type Good<P> = Moka<Digest, Arc<Known<P>>, Ready>;

/// The two memories.
pub(super) struct Cache<P> {
    good: Good<P>,
    index: Arc<Index>,
    refused: Moka<Digest, Refused, Ready>,
    revocations: Arc<Revocations>,
    ttl: Duration,
    refused_ttl: Duration,
    hits: AtomicU64,
    refused_hits: AtomicU64,
    misses: AtomicU64,
    judged: AtomicU64,
}

/// A refusal that is remembered.
#[derive(Clone)]
struct Refused {
    denial: Denial,
    until: Instant,
}

/// The circumstances for which something is looked up or remembered.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) digest: Digest,
    pub(super) arrival: &'a Arrival,
    pub(super) snapshot: &'a SnapshotId,
}

impl<P: Send + Sync + 'static> Cache<P> {
    pub(super) fn new(settings: &CacheSettings, revocations: Arc<Revocations>) -> Self {
        let index = Arc::new(Index::default());
        let indexed = Arc::clone(&index);
        let good: Good<P> = Moka::builder()
            .max_capacity(settings.capacity)
            .expire_after(Life)
            .eviction_listener(move |_, known: Arc<Known<P>>, _| {
                indexed.remove(&known.identity, known.serial);
            })
            .build_with_hasher(Ready);
        revocations.evict_from(Box::new(Evictable {
            good: good.clone(),
            index: Arc::clone(&index),
        }));
        let refused = Moka::builder()
            .max_capacity(settings.refused_capacity)
            .time_to_live(settings.refused_ttl.0)
            .build_with_hasher(Ready);
        Self {
            good,
            index,
            refused,
            revocations,
            ttl: settings.ttl.0,
            refused_ttl: settings.refused_ttl.0,
            hits: AtomicU64::new(0),
            refused_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            judged: AtomicU64::new(0),
        }
    }

    /// What is known of a credential. A proof costs one look and a few comparisons.
    pub(super) fn look_up(&self, moment: Moment<'_>) -> Memory<P> {
        if let Some(known) = self.good.get(&moment.digest)
            && known.stands(moment.arrival)
        {
            if let Err(denial) = self.unrevoked(&known, moment) {
                count(&self.refused_hits);
                self.good.invalidate(&moment.digest);
                self.remember_refused(moment, &denial);
                return Memory::Refused(denial.refusal());
            }
            count(&self.hits);
            return if known.snapshot == *moment.snapshot {
                Memory::Known(known)
            } else {
                Memory::Outdated(known)
            };
        }
        if let Some(denial) = self.refusal(moment) {
            count(&self.refused_hits);
            Memory::Refused(denial.refusal())
        } else {
            count(&self.misses);
            Memory::Nothing
        }
    }

    /// Remembers a proof under another snapshot, with the principal made for that.
    pub(super) fn renew(&self, moment: Moment<'_>, old: &Known<P>, principal: P) -> Arc<Known<P>> {
        let renewed = self.renewed(old, moment, principal);
        self.good.insert(moment.digest, Arc::clone(&renewed));
        renewed
    }

    /// Judges a credential, once for all who ask at the same time, and remembers how it went.
    ///
    /// # Errors
    /// The denial, of which the ones that last are remembered among the refused.
    pub(super) fn judge(
        &self,
        moment: Moment<'_>,
        proof: impl FnOnce() -> Result<Proven, Denial>,
        finish: impl Fn(&VerifiedIdentity) -> P,
    ) -> Result<Arc<Known<P>>, Denial> {
        // The closure runs under a lock of this one credential: whoever waited finds the outcome here.
        let outcome = self
            .good
            .entry(moment.digest)
            .and_try_compute_with(|entry| {
                let known = entry.map(moka::Entry::into_value);
                let known = known.filter(|known| known.stands(moment.arrival));
                if let Some(known) = &known {
                    self.unrevoked(known, moment)?;
                }
                match known {
                    Some(known) if known.snapshot == *moment.snapshot => return Ok(Op::Nop),
                    Some(known) => {
                        let principal = finish(&known.identity);
                        return Ok(Op::Put(self.renewed(&known, moment, principal)));
                    }
                    None => {}
                }
                if let Some(denial) = self.refusal(moment) {
                    return Err(denial);
                }
                count(&self.judged);
                let known = proof().and_then(|proven| self.known(moment, proven, &finish));
                match known {
                    Ok(known) => Ok(Op::Put(known)),
                    Err(denial) => {
                        self.remember_refused(moment, &denial);
                        Err(denial)
                    }
                }
            })?;
        let entry = outcome.into_entry().map(moka::Entry::into_value);
        entry.ok_or(Denial::Internal("a proof was lost between cache and use"))
    }

    /// Remembers a denial that lasts.
    pub(super) fn remember_refused(&self, moment: Moment<'_>, denial: &Denial) {
        if denial.lasts() {
            let refused = Refused {
                denial: denial.clone(),
                until: moment.arrival.started + self.refused_ttl,
            };
            self.refused.insert(moment.digest, refused);
        }
    }

    fn refusal(&self, moment: Moment<'_>) -> Option<Denial> {
        let refused = self.refused.get(&moment.digest)?;
        let now = moment.arrival.started;
        let stands = match &refused.denial {
            Denial::Fault {
                ground: Some(ground),
                ..
            } => ground.holds(now),
            Denial::Revoked(entry) => entry.holds(moment.arrival.at),
            Denial::Status(standing, _) => standing.refuses(moment.arrival),
            _ => true,
        };
        (stands && now < refused.until).then_some(refused.denial)
    }

    /// Whether nothing revoked what this proof is about, and its issuer still calls it valid.
    fn unrevoked(&self, known: &Known<P>, moment: Moment<'_>) -> Result<(), Denial> {
        self.revocations
            .check(&known.identity, &known.unrevoked, moment.arrival.at)
            .map_err(Denial::Revoked)?;
        match &known.standing {
            Some(standing) => standing.check(moment.arrival),
            None => Ok(()),
        }
    }

    /// The same proof for another snapshot, about to be cached.
    fn renewed(&self, old: &Known<P>, moment: Moment<'_>, principal: P) -> Arc<Known<P>> {
        let renewed = old.finished_for(moment, principal, self.index.serial());
        self.indexed(moment, renewed)
    }

    fn indexed(&self, moment: Moment<'_>, known: Known<P>) -> Arc<Known<P>> {
        let place = (known.serial, moment.digest);
        self.index.add(&known.identity, place);
        Arc::new(known)
    }

    /// A proof about to be cached.
    ///
    /// # Errors
    /// The denial of a credential that is good and was revoked.
    fn known(
        &self,
        moment: Moment<'_>,
        proven: Proven,
        finish: impl Fn(&VerifiedIdentity) -> P,
    ) -> Result<Arc<Known<P>>, Denial> {
        let unrevoked = AtomicU64::new(0);
        self.revocations
            .check(&proven.identity, &unrevoked, moment.arrival.at)
            .map_err(Denial::Revoked)?;
        if let Some(standing) = &proven.standing {
            standing.check(moment.arrival)?;
        }
        let left = proven.valid_until.duration_since(moment.arrival.at);
        let life = self.ttl.min(unsigned(left));
        let known = Known {
            serial: self.index.serial(),
            unrevoked,
            principal: finish(&proven.identity),
            identity: Arc::new(proven.identity),
            snapshot: moment.snapshot.clone(),
            ground: proven.ground,
            standing: proven.standing,
            valid_until: proven.valid_until,
            remembered_until: moment.arrival.started + life,
            life,
        };
        Ok(self.indexed(moment, known))
    }

    /// The figures so far. Sizes lag behind by a moment.
    pub(super) fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            entries: self.good.entry_count(),
            refused_entries: self.refused.entry_count(),
            hits: read(&self.hits),
            refused_hits: read(&self.refused_hits),
            misses: read(&self.misses),
            judged: read(&self.judged),
        }
    }

    /// Lets both memories finish what they put off, so that sizes are exact.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.good.run_pending_tasks();
        self.refused.run_pending_tasks();
    }
}

impl<P> fmt::Debug for Cache<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// What the cache has done since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Verified credentials remembered now.
    pub entries: u64,
    /// Refused credentials remembered now.
    pub refused_entries: u64,
    /// Look-ups that found a proof.
    pub hits: u64,
    /// Look-ups that found a refusal.
    pub refused_hits: u64,
    /// Look-ups that found nothing.
    pub misses: u64,
    /// Credentials judged by their signature.
    pub judged: u64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn unsigned(span: SignedDuration) -> Duration {
    Duration::try_from(span).unwrap_or_default()
}

/// Each proof lives as long as it says of itself.
struct Life;

impl<P> Expiry<Digest, Arc<Known<P>>> for Life {
    fn expire_after_create(
        &self,
        _: &Digest,
        known: &Arc<Known<P>>,
        _: Instant,
    ) -> Option<Duration> {
        Some(known.life)
    }

    fn expire_after_update(
        &self,
        _: &Digest,
        known: &Arc<Known<P>>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(known.life)
    }
}

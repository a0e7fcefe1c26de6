//! Tokens that were signed already.
//!
//! A signature costs tens of microseconds and a token is good for many requests. What a token says follows from the
//! settings, which stay, from the very proof of its caller, from its audience and, where it is bound to one, from the
//! operation. So those are its name. The proof is named by its address: the entry holds it, so no other proof can have that
//! address for as long as the entry is there, and nothing a caller chooses is joined to make a name.

use std::sync::Arc;

use jiff::Timestamp;
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::claims::{Life, Purpose};
use super::key::SigningKey;
use super::settings::{Binding, Settings};
use crate::model::{Method, Minted, Refusal, VerifiedIdentity};

/// Whom a token is about.
pub(super) type Holder = Option<Arc<VerifiedIdentity>>;

/// What a token is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    /// The address of the proof; `None` for nobody in particular.
    holder: Option<usize>,
    api: Arc<str>,
    bound: Option<(Method, Arc<str>)>,
}

impl Name {
    pub(super) fn of(holder: &Holder, purpose: Purpose<'_>, bind: Binding) -> Self {
        let operation = purpose.operation;
        Self {
            holder: holder.as_ref().map(|holder| Arc::as_ptr(holder).addr()),
            // The audience follows from it.
            api: Arc::clone(&operation.route.api.name),
            bound: (bind == Binding::Operation)
                .then(|| (purpose.method, Arc::clone(&operation.id))),
        }
    }
}

/// A token that was signed.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) holder: Holder,
    pub(super) token: Minted,
    pub(super) life: Life,
    pub(super) key: Arc<SigningKey>,
}

impl Signed {
    /// Whether it may be used now for this holder, and no other: while half its life is left by the wall clock, which may have been set back, and while
    /// its key has not been taken away.
    fn serves(&self, holder: &Holder, at: Timestamp) -> bool {
        let (from, until) = self.life.fresh();
        let same = match (&self.holder, holder) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && from <= at && at < until && !self.key.is_withdrawn()
    }
}

/// The tokens that are remembered, at most so many.
#[derive(Debug)]
pub(super) struct Tokens {
    known: Option<Cache<Name, Arc<Signed>>>,
}

impl Tokens {
    pub(super) fn new(settings: &Settings) -> Self {
        let build = || {
            Cache::builder()
                .max_capacity(settings.cache_entries)
                // Only so that nothing lies there for long: whether one serves, it is asked itself.
                .time_to_live(settings.lifetime.0)
                .build()
        };
        Self {
            known: (settings.cache_entries > 0).then(build),
        }
    }

    /// The token of that name; made by `sign` where there is none, once for all who ask at the same time.
    ///
    /// # Errors
    /// What `sign` says. It is not remembered.
    pub(super) fn get(
        &self,
        (name, holder): (Name, &Holder),
        at: Timestamp,
        sign: impl FnOnce() -> Result<Signed, Refusal>,
    ) -> Result<Minted, Refusal> {
        let Some(known) = &self.known else {
            return sign().map(|signed| signed.token);
        };
        if let Some(signed) = known.get(&name)
            && signed.serves(holder, at)
        {
            return Ok(signed.token.clone());
        }
        let made: Result<_, Refusal> = known.entry(name).and_try_compute_with(|entry| {
            let there = entry.map(moka::Entry::into_value);
            if there.is_some_and(|signed| signed.serves(holder, at)) {
                return Ok(Op::Nop);
            }
            sign().map(|signed| Op::Put(Arc::new(signed)))
        });
        let entry = made?.into_entry().ok_or_else(super::not_signed)?;
        Ok(entry.value().token.clone())
    }

    /// How many are remembered, a moment ago.
    pub(super) fn entries(&self) -> u64 {
        self.known.as_ref().map_or(0, Cache::entry_count)
    }
}

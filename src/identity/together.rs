//! What several credentials on one request come to: one caller, a pair that a rule combines, or a refusal.

use std::sync::Arc;

use super::acceptance::Accepted;
use super::cache::Known;
use super::carried::ambiguous;
use super::scheme::SchemeName;
use super::{Identified, Who};

/// Each credential has to be good. The caller is named by the one that all others agree with or that a rule combines them
/// with; of several, by the one whose scheme the operation lists first. Nothing is picked silently.
pub(super) fn settle<P>(
    all: Vec<(SchemeName, Identified<P>)>,
    accepted: &Accepted,
) -> Identified<P> {
    let mut cold = Vec::new();
    let mut known: Vec<(SchemeName, Arc<Known<P>>)> = Vec::new();
    let mut refused = None;
    let mut proof_nonce = None;
    let mut hits = true;
    for (scheme, one) in all {
        cold.extend(one.cold);
        proof_nonce = proof_nonce.or(one.proof_nonce);
        hits &= one.cache_hit == Some(true);
        match one.who {
            Ok(Who::Verified(holder)) => known.push((scheme, holder)),
            Ok(Who::Anonymous) => {}
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    known.sort_by_key(|(scheme, _)| accepted.rank(*scheme));
    let caller = known.iter().position(|(scheme, holder)| {
        known.iter().all(|(other, beside)| {
            holder.identity().same_principal(beside.identity())
                || accepted.combines(*scheme, *other)
        })
    });
    let mut beside: Vec<Arc<Known<P>>> = known.into_iter().map(|(_, holder)| holder).collect();
    let who = match (refused, caller) {
        // Nobody is the caller then, and the record shows all who were proven.
        (Some(refusal), _) => Err(refusal),
        (None, Some(caller)) => Ok(Who::Verified(beside.remove(caller))),
        (None, None) if beside.is_empty() => Ok(Who::Anonymous),
        (None, None) => Err(ambiguous("there are credentials of several callers")),
    };
    Identified {
        who,
        beside,
        cache_hit: Some(hits),
        challenges: Arc::default(),
        proof_nonce,
        cold,
    }
}

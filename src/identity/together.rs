//! What several credentials on one request come to: one caller, a pair that a rule combines, or a refusal.

use std::sync::Arc;

use super::acceptance::Accepted;
use super::cache::Known;
use super::carried::ambiguous;
use super::scheme::SchemeName;
use super::{Identified, Who};

/// Each credential has to be good. The one whose scheme the operation names first names the caller; the others have to
/// name the same one, or be combined with it by a rule. Nothing is picked silently.
pub(super) fn settle<P>(
    all: Vec<(SchemeName, Identified<P>)>,
    accepted: &Accepted,
) -> Identified<P> {
    let mut cold = Vec::new();
    let mut known: Vec<(SchemeName, Arc<Known<P>>)> = Vec::new();
    let mut refused = None;
    let mut hits = true;
    for (scheme, one) in all {
        cold.extend(one.cold);
        hits &= one.cache_hit == Some(true);
        match one.who {
            Ok(Who::Verified(holder)) => known.push((scheme, holder)),
            Ok(Who::Anonymous) => {}
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    known.sort_by_key(|(scheme, _)| accepted.rank(*scheme));
    let mut known = known.into_iter();
    let who = match (refused, known.next()) {
        (Some(refusal), first) => Err((refusal, first)),
        (None, None) => Ok(None),
        (None, Some((scheme, holder))) => {
            let fits = |(other, beside): &(SchemeName, Arc<Known<P>>)| {
                holder.identity().same_principal(beside.identity())
                    || accepted.combines(scheme, *other)
            };
            if known.as_slice().iter().all(fits) {
                Ok(Some(holder))
            } else {
                let refusal = ambiguous("there are credentials of several callers");
                Err((refusal, Some((scheme, holder))))
            }
        }
    };
    let rest = known.map(|(_, holder)| holder);
    let (who, beside) = match who {
        Ok(None) => (Ok(Who::Anonymous), Vec::new()),
        Ok(Some(holder)) => (Ok(Who::Verified(holder)), rest.collect()),
        // Nobody is the caller then, and the record shows all who were proven.
        Err((refusal, first)) => {
            let first = first.map(|(_, holder)| holder);
            (Err(refusal), first.into_iter().chain(rest).collect())
        }
    };
    Identified {
        who,
        beside,
        cache_hit: Some(hits),
        challenges: Arc::default(),
        cold,
    }
}

//! The road of a request, top to bottom. Start reading here.

mod rehearsal;
mod reload;
mod shadow;
mod snapshot;
mod source;

pub mod trial;

use std::sync::Arc;
use std::time::Duration;

use crate::context::Context;
use crate::identity::{Identity, Who};
use crate::mint::Mint;
use crate::model::{
    AccessRequest, Asked, Caller, Clock, Decision, Notes, Outcome, Reason, Refusal, Trail,
};
use crate::policy::{Memory, Principal, Question};
use crate::telemetry::Telemetry;

pub use rehearsal::{Supposed, Why};
pub use reload::Snapshots;
pub use shadow::{Disagreement, Shadow};
pub use snapshot::Snapshot;
#[cfg(test)]
pub(crate) use source::testing;
pub use source::{BundleSettings, RemoteSettings, read_file, signature_path};

/// Everything a decision needs.
#[derive(Debug)]
pub struct Pipeline {
    /// What decisions are made from, swapped whole.
    pub snapshots: Arc<Snapshots>,
    /// Who asks.
    pub identity: Arc<Identity<Principal>>,
    /// In which circumstances.
    pub context: Context,
    /// What was judged before.
    pub memory: Memory,
    /// What would have been decided otherwise.
    pub shadow: Shadow,
    /// What the upstream is told of the caller, signed; `None` where it is told nothing of that kind.
    pub mint: Option<Arc<Mint>>,
    /// Who is told of every decision.
    pub telemetry: Arc<Telemetry>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Pipeline {
    /// Decides one request, and records the decision: here, once, whatever it is.
    pub async fn decide(&self, asked: Asked) -> Decision {
        let mut trail = Trail::begin(asked.arrival);
        self.decide_along(asked.request, &mut trail).await
    }

    /// The same, along a trail that stays with whoever asks: should they stop waiting, or this panic, it holds all that
    /// was known by then.
    pub async fn decide_along(
        &self,
        asked: Result<AccessRequest, Refusal>,
        trail: &mut Trail,
    ) -> Decision {
        let outcome = self.road(asked, trail).await;
        let outcome = outcome.unwrap_or_else(Outcome::Refused);
        let now = self.clock.monotonic();
        let decision = Decision {
            outcome,
            took: now.saturating_duration_since(trail.arrival.started),
            trail: trail.take(),
        };
        self.telemetry.record(&decision);
        decision
    }

    async fn road(
        &self,
        asked: Result<AccessRequest, Refusal>,
        trail: &mut Trail,
    ) -> Result<Outcome, Refusal> {
        // One snapshot for the whole request: a reload meanwhile changes nothing for it.
        let snapshot = self.snapshots.current().ok_or_else(no_policies)?;
        let road = Road {
            snapshot: &snapshot,
            identity: &self.identity,
            context: &self.context,
            memory: &self.memory,
            mint: self.mint.as_deref(),
        };
        road.walk(asked, trail).await
    }

    /// Counts a decision that is dropped before it is made: whoever asked has hung up.
    pub fn abandoned(&self) {
        self.telemetry.cancelled();
    }

    /// Told of a decision once its answer is made: what comes now delays nobody.
    pub fn answered(&self, decision: Decision) {
        self.shadow.consider(decision, self.snapshots.current());
    }

    /// Records a denial that was given in place of a decision: time ran out, or a part of Cardea panicked.
    pub fn overruled(&self, denial: &Decision) {
        if denial.reason_code() == Reason::Internal.code() {
            self.telemetry.panicked();
        }
        self.telemetry.record(denial);
    }
}

/// The road itself, from one snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Road<'a> {
    /// What is decided from.
    pub snapshot: &'a Snapshot,
    /// Who asks.
    pub identity: &'a Identity<Principal>,
    /// In which circumstances.
    pub context: &'a Context,
    /// What was judged before.
    pub memory: &'a Memory,
    /// What the upstream is told of the caller, signed.
    pub mint: Option<&'a Mint>,
}

impl Road<'_> {
    /// Decides one request as [`Pipeline::decide`] does, and records nothing: for the command line.
    pub async fn decide(&self, asked: Asked) -> Decision {
        let mut trail = Trail::begin(asked.arrival);
        let outcome = self.walk(asked.request, &mut trail).await;
        let outcome = outcome.unwrap_or_else(Outcome::Refused);
        Decision {
            outcome,
            took: Duration::ZERO,
            trail,
        }
    }

    /// It ends in the judge's verdict, or at the first step that refuses.
    async fn walk(
        &self,
        asked: Result<AccessRequest, Refusal>,
        trail: &mut Trail,
    ) -> Result<Outcome, Refusal> {
        let snapshot = self.snapshot;
        trail.snapshot = Some(snapshot.id.clone());

        // What is asked, in its one reading, and which operation that is.
        let (request, matched) = snapshot.read(asked, &mut trail.request, &mut trail.matched)?;

        // Who asks? No credential is an answer too; a credential that is not valid is none.
        let finish = |identity: &_| snapshot.policies.principal(identity);
        let identified = self
            .identity
            .identify(
                (request, &matched.operation.id),
                &trail.arrival,
                &snapshot.id,
                finish,
            )
            .await;
        trail.cache_hit = identified.cache_hit;
        trail.beside = identified
            .beside
            .iter()
            .map(|known| known.caller())
            .collect();
        let certified = identified.certified();
        trail.cold = identified.cold;
        trail.challenges = identified.challenges;
        trail.proof_nonce = identified.proof_nonce;
        let who = identified.who?;
        trail.caller = Some(who.caller());

        // In which circumstances?
        let mut facts = self.context.gather(request, &trail.arrival);
        if let Some(holder) = certified {
            facts.tls.prove(holder);
        }
        facts.delegation = trail.caller.as_ref().and_then(Caller::delegation);
        let facts = &*trail.facts.insert(facts);

        // May they?
        let question = Question {
            principal: match &who {
                Who::Anonymous => snapshot.policies.anonymous(),
                Who::Verified(known) => known.principal(),
            },
            request,
            matched,
            facts,
        };
        let (judgement, recalled) = snapshot.policies.recall(question, self.memory);
        trail.decision_cache = Some(recalled);
        trail.determining = judgement.determining;
        trail.faults = judgement.faults;
        trail.notes = judgement.notes;

        // What may the upstream believe of them? Where it is to have that signed, nothing passes without.
        if judgement.verdict.passes()
            && let Some(mint) = self.mint
        {
            let asked = (matched, request.method);
            let minted = mint.token(&who.caller(), asked, trail.arrival.at);
            trail.minted = minted.inspect_err(|_| {
                // No policy wants this refusal.
                trail.determining.clear();
                trail.notes = Notes::default();
            })?;
        }
        Ok(judgement.verdict)
    }
}

fn no_policies() -> Refusal {
    Refusal::new(Reason::NotReady, "no policies are loaded yet")
}

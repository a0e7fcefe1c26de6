//! The judgement: which policies apply, and what follows from them.

use std::sync::Arc;

use cedar_policy_core::ast::{
    Effect as CedarEffect, Entity, EntityUIDEntry, Literal, Request, Value, ValueKind,
};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;

use super::Principal;
use super::entities::{numbers_entity, params_entity, store};
use super::evidence::Evidence;
use super::obligation::OnDeny;
use super::slice::{CompiledPolicy, Slice};
use super::statics::StaticEntities;
use super::value::Kind;
use crate::model::{
    AccessRequest, Effect, Facts, Matched, Notes, Operation, Outcome, Permit, PolicyFault, Reason,
    Refusal, StepUp,
};

/// Everything a judgement is made from.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// What was asked.
    pub request: &'a AccessRequest,
    /// Which operation that is.
    pub matched: &'a Matched,
    /// In which circumstances.
    pub facts: &'a Facts,
}

impl<'a> Question<'a> {
    pub(super) fn evidence(self) -> Evidence<'a> {
        Evidence {
            principal: &self.principal.0,
            request: self.request,
            matched: self.matched,
            facts: self.facts,
        }
    }
}

/// What the policies say of one request.
#[derive(Debug)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Outcome,
    /// The policies that determined it: the forbids that applied, else the permits. Of an observed request the forbids
    /// that would have refused it, none where only a permit was missing.
    pub determining: Vec<Arc<str>>,
    /// Policies that could not be evaluated.
    pub faults: Vec<PolicyFault>,
    /// What the determining policies ask to be noted.
    pub notes: Notes,
}

impl Judgement {
    /// Both have to allow it: whoever acts, and whom they act for. The first refusal stands.
    pub(super) fn and(self, other: Self) -> Self {
        let open = |one: &Self| (one.verdict.passes(), one.verdict.permitted());
        let (mut stands, mut beside) = if open(&other) < open(&self) {
            (other, self)
        } else {
            (self, other)
        };
        for fault in beside.faults.drain(..) {
            if !stands.faults.contains(&fault) {
                stands.faults.push(fault);
            }
        }
        if stands.verdict.permitted() {
            for policy in beside.determining {
                if !stands.determining.contains(&policy) {
                    stands.determining.push(policy);
                }
            }
            stands.notes = stands.notes.and(beside.notes);
        }
        stands
    }
}

/// What evaluating came to: a judgement in waiting. It holds everything a judgement says, so that one can be made of it
/// again; the permit is made with the judgement, and only there.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    verdict: Verdict,
    determining: Vec<Arc<str>>,
    faults: Vec<PolicyFault>,
    notes: Notes,
}

/// An [`Outcome`] without its permit.
#[derive(Debug, Clone)]
enum Verdict {
    Allowed,
    Observed(Refusal),
    Refused(Refusal),
}

impl Verdict {
    fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Allowed => None,
            Self::Observed(refusal) | Self::Refused(refusal) => Some(refusal),
        }
    }

    fn permitted(&self) -> bool {
        matches!(self, Self::Allowed)
    }

    /// The one road to a request that passes.
    fn outcome(self) -> Outcome {
        let would_be = match self {
            Self::Refused(refusal) => return Outcome::Refused(refusal),
            Self::Allowed => None,
            Self::Observed(refusal) => Some(refusal),
        };
        let permit = Permit::assertion();
        match would_be {
            None => Outcome::Allowed(permit),
            Some(refusal) => Outcome::Observed(permit, refusal),
        }
    }
}

impl Finding {
    /// A denial because the question could not even be put.
    pub(super) fn impossible(detail: &'static str) -> Self {
        Self {
            verdict: Verdict::Refused(Refusal::new(Reason::Internal, detail)),
            determining: Vec::new(),
            faults: Vec::new(),
            notes: Notes::default(),
        }
    }

    /// Whether it would be found again. An error need not be: Cedar's evaluator stops short where the stack of a thread
    /// grows scarce, for one.
    pub(super) fn lasts(&self) -> bool {
        let own_fault = |refusal: &Refusal| refusal.reason == Reason::Internal;
        self.faults.is_empty() && !self.verdict.refusal().is_some_and(own_fault)
    }

    /// The judgement, of a finding that is kept.
    pub(super) fn judgement(&self) -> Judgement {
        self.clone().into_judgement()
    }

    /// The judgement.
    pub(super) fn into_judgement(self) -> Judgement {
        Judgement {
            verdict: self.verdict.outcome(),
            determining: self.determining,
            faults: self.faults,
            notes: self.notes,
        }
    }
}

/// The policies that applied, and those that failed to say.
#[derive(Debug, Default)]
struct Tally<'a> {
    permits: Vec<&'a CompiledPolicy>,
    forbids: Vec<&'a CompiledPolicy>,
    faults: Vec<PolicyFault>,
}

impl Slice {
    /// Judges one request of this slice's operation.
    pub(super) fn judge(&self, statics: &StaticEntities, question: Question<'_>) -> Judgement {
        self.find(statics, question).into_judgement()
    }

    /// The same, not yet said. It depends on nothing that [`Slice::key`] does not name.
    pub(super) fn find(&self, statics: &StaticEntities, question: Question<'_>) -> Finding {
        let principal = &question.principal.0;
        let resource = statics.resource(question.matched, &self.target);
        let peer = self.peer(statics, question);
        let Some(tally) = self.tally((&resource, peer), question) else {
            return Finding::impossible("the entities of the request contradict each other");
        };
        let anonymous = principal.kind == Kind::Anonymous;
        let verdict = verdict(&tally, anonymous, &question.matched.operation);
        let determining = if verdict.permitted() {
            &tally.permits
        } else {
            &tally.forbids
        };
        Finding {
            determining: determining
                .iter()
                .map(|policy| Arc::clone(&policy.id))
                .collect(),
            notes: notes(determining),
            verdict,
            faults: tally.faults,
        }
    }

    /// The workload on the connection, where some policy can follow it.
    fn peer(&self, statics: &StaticEntities, question: Question<'_>) -> Option<Arc<Entity>> {
        let principal = &question.principal.0;
        let wanted = self.plan(principal.kind).peer;
        wanted.then(|| statics.peer(question.facts, principal))?
    }

    /// Evaluates every policy that can apply. `None` where the request's entities do not make a store.
    fn tally<'a>(
        &'a self,
        (resource, peer): (&'a Arc<Entity>, Option<Arc<Entity>>),
        question: Question<'a>,
    ) -> Option<Tally<'a>> {
        let principal = &question.principal.0;
        let plan = self.plan(principal.kind);
        let evidence = question.evidence();
        // INVARIANT: principal, action and resource are always here, see `entities`.
        let entities = store(
            [
                Some(Arc::clone(&principal.entity)),
                Some(Arc::clone(&self.target.action)),
                Some(Arc::clone(resource)),
                plan.claims.then(|| Arc::clone(&principal.claims)),
                plan.params
                    .then(|| Arc::new(params_entity(question.matched))),
                plan.numbers.then(|| Arc::new(numbers_entity())),
                peer,
            ]
            .into_iter()
            .flatten(),
        )?;
        let known = |entity: &Entity| EntityUIDEntry::known(entity.uid().clone(), None);
        let request = Request::new_unchecked(
            known(&principal.entity),
            known(&self.target.action),
            known(resource),
            Some(plan.context(&evidence)),
        );
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        let mut tally = Tally::default();
        for policy in self.applicable(&principal.entity, resource) {
            tally.count(policy, &evaluator);
        }
        Some(tally)
    }
}

impl<'a> Tally<'a> {
    fn count(&mut self, policy: &'a CompiledPolicy, evaluator: &Evaluator<'_>) {
        let holds = match &policy.swift {
            None => Ok(true),
            Some(condition) => match evaluator.interpret(condition, &policy.slots) {
                Ok(value) => truth(&value),
                Err(error) => Err(error.to_string()),
            },
        };
        match (holds, policy.effect) {
            (Ok(false), _) => {}
            (Ok(true), CedarEffect::Permit) => self.permits.push(policy),
            (Ok(true), CedarEffect::Forbid) => self.forbids.push(policy),
            (Err(message), effect) => self.faults.push(PolicyFault {
                policy: Arc::clone(&policy.id),
                effect: match effect {
                    CedarEffect::Permit => Effect::Permit,
                    CedarEffect::Forbid => Effect::Forbid,
                },
                message,
            }),
        }
    }

    /// Whether nothing stands against the request that holds on observed operations too: a forbid whose author did not
    /// say otherwise, or one that could not be evaluated, of which nobody knows what it would have said.
    fn only_observable(&self) -> bool {
        let observable = |policy: &&CompiledPolicy| policy.obligation.observable;
        !self.forbid_failed() && self.forbids.iter().all(observable)
    }

    fn forbid_failed(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.effect == Effect::Forbid)
    }
}

/// A condition that is neither true nor false is an error, as it is to Cedar.
fn truth(value: &Value) -> Result<bool, String> {
    match value.value_kind() {
        ValueKind::Lit(Literal::Bool(holds)) => Ok(*holds),
        _ => Err("the condition is not a boolean".to_owned()),
    }
}

/// What policies refuse passes only where a document marks the operation as observed and only observable policies, or none,
/// stand against it; it stays a verdict of its own.
fn verdict(tally: &Tally<'_>, anonymous: bool, operation: &Operation) -> Verdict {
    let observed = operation.observed && operation.documented && tally.only_observable();
    match permitted(tally, anonymous) {
        Ok(()) => Verdict::Allowed,
        Err(refusal) if observed => Verdict::Observed(refusal),
        Err(refusal) => Verdict::Refused(refusal),
    }
}

/// The rule of the house, in order: a forbid that applies denies; a forbid that cannot be evaluated denies; a permit that
/// applies allows; everything else denies.
fn permitted(tally: &Tally<'_>, anonymous: bool) -> Result<(), Refusal> {
    if let Some(refusal) = forbidden(tally, anonymous) {
        return Err(refusal);
    }
    if tally.forbid_failed() {
        let detail = "a policy that may forbid this could not be evaluated";
        return Err(Refusal::new(Reason::PolicyError, detail));
    }
    if !tally.permits.is_empty() {
        return Ok(());
    }
    Err(if anonymous {
        Refusal::new(
            Reason::CredentialMissing,
            "no policy permits this to anonymous callers",
        )
    } else {
        Refusal::new(Reason::NotPermitted, "no policy permits this")
    })
}

/// The answer of the forbids that apply. A better login is offered only where it would be enough: every forbid asks for
/// one, none failed, and a permit applies. Whoever presented no credential is asked for one, unless some forbid would stand
/// whoever asked. Otherwise the strongest of the other answers stands.
fn forbidden(tally: &Tally<'_>, anonymous: bool) -> Option<Refusal> {
    let strongest = tally
        .forbids
        .iter()
        .map(|policy| policy.obligation.on_deny)
        .min()?;
    let reason = match strongest {
        OnDeny::NotFound => Reason::NotFound,
        OnDeny::Quarantine => Reason::Quarantined,
        OnDeny::Gone => Reason::Retired,
        OnDeny::SlowDown => Reason::TooManyRequests,
        OnDeny::Forbid if anonymous && tally.forbids.iter().all(|policy| policy.asks_who()) => {
            Reason::CredentialMissing
        }
        OnDeny::Forbid => Reason::Forbidden,
        OnDeny::HumanApproval => Reason::ApprovalRequired,
        OnDeny::BadRequest => Reason::ContractViolated,
        OnDeny::StepUp if tally.permits.is_empty() || tally.forbid_failed() => Reason::Forbidden,
        OnDeny::StepUp => Reason::StepUpRequired(best_login(&tally.forbids)),
    };
    Some(Refusal::new(reason, "a policy forbids this"))
}

/// What the determining policies ask to be noted. Where several would tell the caller something, the one whose answer
/// outranks the others does.
fn notes(determining: &[&CompiledPolicy]) -> Notes {
    let obligations = || determining.iter().map(|policy| &policy.obligation);
    let speaking = obligations().filter(|obligation| obligation.reason.is_some());
    let mut controls: Vec<Arc<str>> = Vec::new();
    for control in obligations().filter_map(|obligation| obligation.control.as_ref()) {
        // Several policies may carry out the same one.
        if !controls.contains(control) {
            controls.push(Arc::clone(control));
        }
    }
    Notes {
        controls,
        set_apart: obligations()
            .filter_map(|obligation| obligation.set_apart)
            .max(),
        severity: obligations()
            .filter_map(|obligation| obligation.severity)
            .max(),
        obligations: obligations()
            .filter_map(|obligation| obligation.duty.clone())
            .collect(),
        said: speaking
            .min_by_key(|obligation| obligation.on_deny)
            .and_then(|obligation| obligation.reason.clone()),
    }
}

/// One login that satisfies every forbid: the classes all of them accept, and the shortest age.
fn best_login(forbids: &[&CompiledPolicy]) -> StepUp {
    let asked = || forbids.iter().map(|policy| &policy.obligation.step_up);
    let mut lists = asked()
        .map(|step_up| &step_up.acr_values)
        .filter(|list| !list.is_empty());
    let mut acr_values = lists.next().cloned().unwrap_or_default();
    for list in lists {
        acr_values.retain(|class| list.contains(class));
    }
    StepUp {
        acr_values,
        max_age: asked().filter_map(|step_up| step_up.max_age).min(),
    }
}

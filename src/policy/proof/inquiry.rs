//! The questions about one sort of request, and what came of them.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cedar_policy::{Effect, Policy, PolicySet};
use cedar_policy_core::validator::ValidationMode;
use cedar_policy_core::validator::typecheck::Typechecker;
use cedar_policy_core::validator::types::RequestEnv as TypedEnv;
use cedar_policy_symcc::term_factory::not;
use cedar_policy_symcc::{
    CompiledPolicy, CompiledPolicySet, Env, SymEnv, WellFormedAsserts, disjoint_asserts,
    implies_asserts, never_errors_asserts,
};
use serde_json::Value;

use super::report::{Claim, Refuted, Report, Sort, Topic, Unsettled, Verdict, Witness};
use super::solver::{Asker, NoAnswer};
use super::stage::{Old, Prepared, SortOfRequest, Stage};
use super::unloaded;
use super::witness::Replay;
use crate::model::Problem;
use crate::policy::source::Chain;

/// What all inquiries found so far.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Findings>);

#[derive(Debug, Default)]
struct Findings {
    answered: usize,
    refuted: BTreeMap<Topic, Refuted>,
    unsettled: BTreeSet<Unsettled>,
    /// Policies and invariants that some request matches.
    matched: BTreeSet<Topic>,
    /// Forbids that some request meets which a permit allows.
    met: BTreeSet<Topic>,
}

/// The questions about one sort of request.
pub(super) struct Inquiry<'i, 'a> {
    pub(super) stage: &'i Stage<'a>,
    pub(super) sort: &'i SortOfRequest<'a>,
    pub(super) ledger: &'i Ledger,
    pub(super) asker: &'i mut Asker<'a>,
    pub(super) time_is_up: &'i dyn Fn() -> bool,
}

/// What stands for a sort of request while it is asked about.
struct Scene<'i, 'a> {
    symbols: SymEnv,
    /// What its requests keep to. Many questions are settled without it.
    promise: OnceCell<Vec<Value>>,
    /// The policies that can apply.
    here: Vec<&'i Prepared<'a>>,
    /// Those as they are judged.
    set: PolicySet,
    /// Those as logic.
    logic: CompiledPolicySet,
    /// The forbids among them, each alone.
    forbids: Vec<CompiledPolicy>,
}

/// Why a question was not asked or not answered.
type Open = String;

impl<'i, 'a> Inquiry<'i, 'a> {
    pub(super) async fn run(&mut self) {
        if (self.time_is_up)() {
            return self.ledger.open(&bundle_topic(Claim::NeverErrors), self.sort, OUT_OF_TIME);
        }
        let mut scene = match self.scene() {
            Ok(scene) => scene,
            Err(open) => {
                return self.ledger.open(&bundle_topic(Claim::NeverErrors), self.sort, &open);
            }
        };
        for policy in scene.here.clone() {
            self.policy(policy, &mut scene).await;
        }
        let invariants = &self.stage.invariants;
        for invariant in invariants.iter().filter(|one| self.sort.fits(one)) {
            self.invariant(invariant, &scene).await;
        }
        if let Some(old) = &self.stage.old {
            self.old(old, &scene).await;
        }
    }

    fn scene(&self) -> Result<Scene<'i, 'a>, Open> {
        let here: Vec<&Prepared<'a>> = self
            .stage
            .policies
            .iter()
            .filter(|one| self.sort.fits(one))
            .collect();
        let symbols = self.stage.schema.sym_env(&self.sort.env).map_err(told)?;
        let set = set_of(here.iter().map(|one| &one.policy).cloned())?;
        Ok(Scene {
            promise: OnceCell::new(),
            logic: self.all(&plain(&here)?, &symbols)?,
            here,
            symbols,
            set,
            forbids: Vec::new(),
        })
    }

    fn promise<'s>(&self, scene: &'s Scene<'_, '_>) -> Result<&'s [Value], Open> {
        if let Some(promise) = scene.promise.get() {
            return Ok(promise);
        }
        let promise = self.stage.promise(self.sort)?;
        Ok(scene.promise.get_or_init(|| promise))
    }

    /// A policy (or what it would be as a permit) as logic, for requests that keep the promise.
    fn promised(
        &self,
        one: &Prepared<'_>,
        as_permit: bool,
        scene: &Scene<'_, '_>,
    ) -> Result<CompiledPolicy, Open> {
        let promise = self.promise(scene)?;
        let policy = if as_permit {
            one.promised_permit(promise)
        } else {
            one.promised(promise)
        };
        self.one(&policy?, &scene.symbols)
    }

    /// Whether a policy can error, and whether anything matches it.
    async fn policy(&mut self, one: &Prepared<'_>, scene: &mut Scene<'_, '_>) {
        let Some(logic) = self.never_errors(one, scene).await else {
            return;
        };
        self.matches(one, scene).await;
        if one.policy.effect() == Effect::Forbid {
            self.meets(one, scene).await;
            scene.forbids.push(logic);
        }
    }

    /// Asks whether a policy or an invariant can error. Gives its logic, `None` where it has none.
    async fn never_errors(
        &mut self,
        one: &Prepared<'_>,
        scene: &Scene<'_, '_>,
    ) -> Option<CompiledPolicy> {
        let topic = Topic {
            claim: Claim::NeverErrors,
            ..one.topic.clone()
        };
        if let Some(expression) = self.unloaded(&one.policy) {
            let remark = format!("`{expression}` reads an entity that no request carries");
            self.ledger.refute(&topic, self.sort, None, Some(remark));
        }
        let logic = one.plain().and_then(|policy| self.one(&policy, &scene.symbols));
        let logic = match logic {
            Ok(logic) => logic,
            Err(open) => {
                self.ledger.open(&topic, self.sort, &open);
                return None;
            }
        };
        // What holds of all requests holds of those that keep the promise, and costs less to ask.
        let sure = self
            .ask(&topic, async |compiler| compiler.check_never_errors_opt(&logic).await)
            .await;
        if sure == Some(false) {
            self.can_error(&topic, one, scene).await;
        }
        Some(logic)
    }

    /// Looks for a request that keeps the promise and makes a policy err.
    async fn can_error(&mut self, topic: &Topic, one: &Prepared<'_>, scene: &Scene<'_, '_>) {
        let logic = match self.promised(one, false, scene) {
            Ok(logic) => logic,
            Err(open) => return self.ledger.open(topic, self.sort, &open),
        };
        let answer = self
            .ask(topic, async |compiler| {
                compiler.check_never_errors_with_counterexample_opt(&logic).await
            })
            .await;
        let Some(Some(env)) = answer else {
            return;
        };
        let judged = set_of([one.policy.clone()]).unwrap_or_default();
        let replay = Replay::of(&env, &judged);
        if replay.errs(&one.id) {
            let witness = self.tell(&replay, &env, [one]);
            self.ledger.refute(topic, self.sort, Some(witness), None);
        } else {
            self.ledger.open(topic, self.sort, UNCONFIRMED);
        }
    }

    /// Notes whether any request of this sort matches.
    async fn matches(&mut self, one: &Prepared<'_>, scene: &Scene<'_, '_>) {
        if self.ledger.findings().matched.contains(&one.topic) {
            return;
        }
        let logic = match self.promised(one, false, scene) {
            Ok(logic) => logic,
            Err(open) => return self.ledger.open(&one.topic, self.sort, &open),
        };
        let never = self
            .ask(&one.topic, async |compiler| compiler.check_never_matches_opt(&logic).await)
            .await;
        if never == Some(false) {
            self.ledger.findings().matched.insert(one.topic.clone());
        }
    }

    /// Notes whether a forbid takes something away from a permit.
    async fn meets(&mut self, one: &Prepared<'_>, scene: &Scene<'_, '_>) {
        if self.ledger.findings().met.contains(&one.topic) {
            return;
        }
        let permits = scene.here.iter().copied();
        let permits = permits.filter(|one| one.policy.effect() == Effect::Permit);
        let pair = plain(&permits.collect::<Vec<_>>())
            .and_then(|permits| self.all(&permits, &scene.symbols))
            .and_then(|permits| {
                let forbid = self.promised(one, true, scene)?;
                Ok((permits, forbid.into_compiled_policyset()))
            });
        let (permits, forbid) = match pair {
            Ok(pair) => pair,
            Err(open) => return self.ledger.open(&one.topic, self.sort, &open),
        };
        let never = self
            .ask(&one.topic, async |compiler| {
                compiler.check_disjoint_opt(&permits, &forbid).await
            })
            .await;
        if never == Some(false) {
            self.ledger.findings().met.insert(one.topic.clone());
        }
    }

    /// Whether a request that matches an invariant can be allowed.
    async fn invariant(&mut self, one: &Prepared<'_>, scene: &Scene<'_, '_>) {
        if self.never_errors(one, scene).await.is_none() {
            return;
        }
        self.matches(one, scene).await;
        let everybody = one.promised_permit(&[]);
        let everybody = everybody.and_then(|policy| self.one(&policy, &scene.symbols));
        let everybody = match everybody {
            Ok(everybody) => everybody.into_compiled_policyset(),
            Err(open) => return self.ledger.open(&one.topic, self.sort, &open),
        };
        let apart = self
            .ask(&one.topic, async |compiler| {
                compiler.check_disjoint_opt(&scene.logic, &everybody).await
            })
            .await;
        if apart != Some(false) {
            return;
        }
        let against = match self.promised(one, true, scene) {
            Ok(against) => against.into_compiled_policyset(),
            Err(open) => return self.ledger.open(&one.topic, self.sort, &open),
        };
        let asserts = disjoint_asserts(&scene.logic, &against);
        self.counter(&one.topic, &asserts, scene, &|_| true).await;
    }

    /// Whether something is allowed that the old bundle denies.
    async fn old(&mut self, old: &Old<'_>, scene: &Scene<'_, '_>) {
        let topic = bundle_topic(Claim::NoMoreThanOld);
        let (before, judged) = match self.before(old, scene).await {
            Ok(before) => before,
            Err(open) => return self.ledger.open(&topic, self.sort, &open),
        };
        let within = self
            .ask(&topic, async |compiler| {
                compiler.check_implies_opt(&scene.logic, &before).await
            })
            .await;
        if within != Some(false) {
            return;
        }
        let new = match self.promised_permits(scene) {
            Ok(new) => new,
            Err(open) => return self.ledger.open(&topic, self.sort, &open),
        };
        let asserts = implies_asserts(&new, &before);
        let denied_before = |env: &Env| !Replay::of(env, &judged).allowed();
        let found = self.counter(&topic, &asserts, scene, &denied_before).await;
        if let (true, Some(otherwise)) = (found, old.described_otherwise(self.sort.operation)) {
            self.ledger.remark(&topic, otherwise);
        }
    }

    /// The bundle as logic, where only requests that keep the promise are allowed.
    fn promised_permits(&self, scene: &Scene<'_, '_>) -> Result<CompiledPolicySet, Open> {
        let promise = self.promise(scene)?;
        let promised = scene.here.iter().map(|one| match one.policy.effect() {
            Effect::Permit => one.promised(promise),
            Effect::Forbid => one.plain(),
        });
        let set = set_of(promised.collect::<Result<Vec<_>, _>>()?)?;
        self.all(&set, &scene.symbols)
    }

    /// The old bundle as logic, and as it is judged. An operation that it did not know, or knew otherwise, is held against
    /// nothing: whatever is allowed of it is more.
    async fn before(
        &mut self,
        old: &Old<'_>,
        scene: &Scene<'_, '_>,
    ) -> Result<(CompiledPolicySet, PolicySet), Open> {
        if old.described_otherwise(self.sort.operation).is_some() {
            let nothing = PolicySet::new();
            return Ok((self.all(&nothing, &scene.symbols)?, nothing));
        }
        let here = old.policies.iter().filter(|one| self.sort.fits(one));
        let here: Vec<&Prepared<'_>> = here.collect();
        for forbid in here.iter().filter(|one| one.policy.effect() == Effect::Forbid) {
            if self.may_err(forbid, scene).await? {
                let id = &forbid.id;
                return Err(format!(
                    "the old bundle's forbid `{id}` can error, which denies; mend it there before you compare"
                ));
            }
        }
        let judged = set_of(here.iter().map(|one| one.policy.clone()))?;
        Ok((self.all(&plain(&here)?, &scene.symbols)?, judged))
    }

    /// Whether it is not sure that a policy never errs.
    async fn may_err(&mut self, one: &Prepared<'_>, scene: &Scene<'_, '_>) -> Result<bool, Open> {
        if self.unloaded(&one.policy).is_some() {
            return Ok(true);
        }
        let topic = bundle_topic(Claim::NoMoreThanOld);
        let everybody = self.one(&one.plain()?, &scene.symbols)?;
        let sure = self
            .ask(&topic, async |compiler| compiler.check_never_errors_opt(&everybody).await)
            .await;
        if sure == Some(true) {
            return Ok(false);
        }
        let promised = self.promised(one, false, scene)?;
        let sure = self
            .ask(&topic, async |compiler| compiler.check_never_errors_opt(&promised).await)
            .await;
        Ok(sure != Some(true))
    }

    /// Looks for a request that satisfies `asserts`, and records it. Says whether there is one.
    ///
    /// Cedar skips a forbid that errors, and Cardea denies. So where a request gets through only because a forbid errs, the
    /// question is put once more, of the requests for which no forbid does.
    async fn counter(
        &mut self,
        topic: &Topic,
        asserts: &WellFormedAsserts<'_>,
        scene: &Scene<'_, '_>,
        confirms: &dyn Fn(&Env) -> bool,
    ) -> bool {
        let found = self
            .ask(topic, async |compiler| compiler.check_sat(asserts).await)
            .await;
        let Some(Some(env)) = found else {
            return false;
        };
        let replay = Replay::of(&env, &scene.set);
        if !replay.cedar_allows() || !confirms(&env) {
            self.ledger.open(topic, self.sort, UNCONFIRMED);
            return false;
        }
        let remark = if replay.forbid_failed {
            match self.holds_where_no_forbid_errs(topic, asserts, scene).await {
                Some(true) | None => return false,
                Some(false) => Some(ERRING_EXAMPLE.to_owned()),
            }
        } else {
            None
        };
        let readers = scene.here.iter().copied();
        let witness = self.tell(&replay, &env, readers);
        self.ledger.refute(topic, self.sort, Some(witness), remark);
        true
    }

    async fn holds_where_no_forbid_errs(
        &mut self,
        topic: &Topic,
        asserts: &WellFormedAsserts<'_>,
        scene: &Scene<'_, '_>,
    ) -> Option<bool> {
        let mut all = asserts.asserts().to_vec();
        for forbid in &scene.forbids {
            let errors = never_errors_asserts(forbid);
            // INVARIANT: the last of them says that the policy errs, the others what every hierarchy is like.
            if let Some((errs, likewise)) = errors.asserts().split_last() {
                all.extend_from_slice(likewise);
                all.push(not(errs.clone()));
            }
        }
        let all = Arc::new(all);
        self.ask(topic, async |compiler| {
            compiler.check_unsat_raw(Arc::clone(&all), &scene.symbols).await
        })
        .await
    }

    /// Asks the solver. `None` where there is no answer, which is noted.
    async fn ask<T>(
        &mut self,
        topic: &Topic,
        question: impl AsyncFnOnce(
            &mut super::solver::Compiler,
        ) -> Result<T, cedar_policy_symcc::err::Error>,
    ) -> Option<T> {
        if (self.time_is_up)() {
            self.ledger.open(topic, self.sort, OUT_OF_TIME);
            return None;
        }
        match self.asker.ask(question).await {
            Ok(answer) => {
                self.ledger.findings().answered += 1;
                Some(answer)
            }
            Err(NoAnswer::Undecided(why) | NoAnswer::Gone(why)) => {
                self.ledger.open(topic, self.sort, &why);
                None
            }
        }
    }

    fn one(&self, policy: &Policy, symbols: &SymEnv) -> Result<CompiledPolicy, Open> {
        let schema = self.stage.schema.schema();
        CompiledPolicy::compile_with_custom_symenv(policy, &self.sort.env, schema, symbols.clone())
            .map_err(told)
    }

    fn all(&self, set: &PolicySet, symbols: &SymEnv) -> Result<CompiledPolicySet, Open> {
        let schema = self.stage.schema.schema();
        CompiledPolicySet::compile_with_custom_symenv(set, &self.sort.env, schema, symbols.clone())
            .map_err(told)
    }

    /// The expression with which a policy reads an entity that no request carries.
    fn unloaded(&self, policy: &Policy) -> Option<String> {
        let schema = self.stage.schema.schema().as_ref();
        let env = &self.sort.env;
        let action = env.action().as_ref();
        let typed = TypedEnv::DeclaredAction {
            principal: env.principal().as_ref(),
            action,
            resource: env.resource().as_ref(),
            context: schema.context_type(action)?,
            principal_slot: None,
            resource_slot: None,
        };
        let typechecker = Typechecker::new(schema, ValidationMode::Strict);
        unloaded::find(&typechecker, policy.as_ref(), &typed)
    }

    fn tell<'p>(
        &self,
        replay: &Replay,
        env: &Env,
        readers: impl IntoIterator<Item = &'p Prepared<'p>>,
    ) -> Witness {
        let readers = readers.into_iter();
        let reads = readers.flat_map(|one| one.compiled.reads.dotted());
        replay.tell(env, self.sort.operation, &reads.collect())
    }
}

const OUT_OF_TIME: &str = "the time of the run was up (`--timeout`)";
const UNCONFIRMED: &str =
    "the solver found a request that speaks against it, and Cedar's authorizer does not confirm it";
const ERRING_EXAMPLE: &str = "requests get through for which no forbid errs; the one shown also makes a forbid err";

impl Ledger {
    pub(super) fn new(stage: &Stage<'_>) -> Self {
        let ledger = Self::default();
        ledger.findings().unsettled.extend(stage.incomparable.clone());
        ledger
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        // What was found stays true, whoever panicked meanwhile.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that nothing more can be asked.
    pub(super) fn broken(&self, problems: Vec<Problem>) {
        let unsettled = problems.into_iter().map(|problem| Unsettled {
            topic: bundle_topic(Claim::NeverErrors),
            reason: problem.to_string(),
        });
        self.findings().unsettled.extend(unsettled);
    }

    fn open(&self, topic: &Topic, sort: &SortOfRequest<'_>, reason: &str) {
        let sort = name(sort);
        let reason = if reason == OUT_OF_TIME {
            reason.to_owned()
        } else {
            format!("{sort}: {reason}")
        };
        self.findings().unsettled.insert(Unsettled {
            topic: topic.clone(),
            reason,
        });
    }

    fn refute(
        &self,
        topic: &Topic,
        sort: &SortOfRequest<'_>,
        witness: Option<Witness>,
        remark: Option<String>,
    ) {
        let mut findings = self.findings();
        let refuted = findings.refuted.entry(topic.clone());
        let refuted = refuted.or_insert_with(|| Refuted {
            topic: topic.clone(),
            sorts: BTreeSet::new(),
            counterexample: None,
            remark: None,
        });
        refuted.sorts.insert(name(sort));
        if refuted.counterexample.is_none() {
            refuted.counterexample = witness;
        }
        if refuted.remark.is_none() {
            refuted.remark = remark;
        }
    }

    fn remark(&self, topic: &Topic, remark: &str) {
        if let Some(refuted) = self.findings().refuted.get_mut(topic) {
            refuted.remark.get_or_insert_with(|| remark.to_owned());
        }
    }

    pub(super) fn report(self, stage: &Stage<'_>) -> Report {
        let findings = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let verdict = if !findings.refuted.is_empty() {
            Verdict::Refuted
        } else if !findings.unsettled.is_empty() {
            Verdict::Unsettled
        } else {
            Verdict::Proven
        };
        let notes = if findings.unsettled.is_empty() {
            notes(stage, &findings)
        } else {
            Vec::new()
        };
        Report {
            verdict,
            policies: stage.policies.len(),
            invariants: stage.invariants.len(),
            sorts: stage.sorts.len(),
            answered: findings.answered,
            refuted: findings.refuted.into_values().collect(),
            unsettled: findings.unsettled.into_iter().collect(),
            notes,
        }
    }
}

/// What breaks no claim and deserves a look, where every question was answered.
fn notes(stage: &Stage<'_>, findings: &Findings) -> Vec<String> {
    let never = |one: &&Prepared<'_>| !findings.matched.contains(&one.topic);
    let mut notes = Vec::new();
    for one in stage.policies.iter().filter(never) {
        notes.push(format!("the policy `{}` applies to no request", one.id));
    }
    for one in stage.invariants.iter().filter(never) {
        notes.push(format!("the invariant `{}` matches no request, so it holds of nothing", one.id));
    }
    let idle: Vec<&str> = stage
        .policies
        .iter()
        .filter(|one| one.policy.effect() == Effect::Forbid)
        .filter(|one| findings.matched.contains(&one.topic) && !findings.met.contains(&one.topic))
        .map(|one| one.id.as_str())
        .collect();
    if !idle.is_empty() {
        let idle = idle.join("`, `");
        notes.push(format!("no permit reaches what these forbid today: `{idle}`"));
    }
    notes
}

fn name(sort: &SortOfRequest<'_>) -> Sort {
    Sort {
        operation: sort.operation.id.to_string(),
        principal: sort.principal.name().to_owned(),
    }
}

fn bundle_topic(claim: Claim) -> Topic {
    Topic {
        claim,
        id: None,
        place: None,
    }
}

/// Policies in the shape that a solver is given.
fn plain(policies: &[&Prepared<'_>]) -> Result<PolicySet, Open> {
    let policies = policies.iter().map(|one| one.plain());
    set_of(policies.collect::<Result<Vec<_>, _>>()?)
}

fn set_of(policies: impl IntoIterator<Item = Policy>) -> Result<PolicySet, Open> {
    PolicySet::from_policies(policies).map_err(told)
}

fn told(error: impl std::error::Error) -> Open {
    format!("cannot be put to a solver: {}", Chain(&error))
}

//! The questions about one sort of request.

use std::cell::OnceCell;

use cedar_policy::{Effect, Policy, PolicySet};
use cedar_policy_core::validator::ValidationMode;
use cedar_policy_core::validator::typecheck::Typechecker;
use cedar_policy_core::validator::types::RequestEnv as TypedEnv;
use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet, SymEnv, disjoint_asserts};
use serde_json::Value;

use super::counter::Charge;
use super::ledger::{Ledger, OUT_OF_TIME, UNCONFIRMED, about};
use super::report::{Claim, Topic};
use super::solver::{Asker, Compiler, NoAnswer};
use super::stage::{Prepared, SortOfRequest, Stage};
use super::unloaded;
use super::witness::Replay;
use crate::policy::source::Chain;

/// The questions about one sort of request.
pub(super) struct Inquiry<'i, 'a> {
    pub(super) stage: &'i Stage<'a>,
    pub(super) sort: &'i SortOfRequest<'a>,
    pub(super) ledger: &'i Ledger,
    pub(super) asker: &'i mut Asker<'a>,
    pub(super) time_is_up: &'i dyn Fn() -> bool,
}

/// What stands for a sort of request while it is asked about.
pub(super) struct Scene<'i, 'a> {
    pub(super) symbols: SymEnv,
    /// What its requests keep to. Many questions are settled without it.
    promise: OnceCell<Vec<Value>>,
    /// The policies that can apply and decide.
    pub(super) here: Vec<&'i Prepared<'a>>,
    /// Those as they are judged.
    pub(super) set: PolicySet,
    /// Those as logic.
    pub(super) logic: CompiledPolicySet,
    /// The forbids among them, each alone.
    pub(super) forbids: Vec<CompiledPolicy>,
}

/// Why a question was not asked or not answered.
pub(super) type Open = String;

impl<'i, 'a> Inquiry<'i, 'a> {
    pub(super) async fn run(&mut self) {
        if (self.time_is_up)() {
            return self
                .ledger
                .open(&about(Claim::NeverErrors), self.sort, OUT_OF_TIME);
        }
        let mut scene = match self.scene() {
            Ok(scene) => scene,
            Err(open) => {
                return self
                    .ledger
                    .open(&about(Claim::NeverErrors), self.sort, &open);
            }
        };
        for policy in scene.here.clone() {
            self.policy(policy, &mut scene).await;
        }
        let shadow = self.stage.policies.iter().filter(|one| !one.is_live());
        for policy in shadow.filter(|one| self.sort.fits(one)) {
            self.never_errors(policy, &scene).await;
            self.matches(policy, &scene).await;
        }
        let invariants = &self.stage.invariants;
        for invariant in invariants.iter().filter(|one| self.sort.fits(one)) {
            self.invariant(invariant, &scene).await;
        }
        if let Some(old) = &self.stage.old {
            self.compare(old, &scene).await;
        }
    }

    fn scene(&self) -> Result<Scene<'i, 'a>, Open> {
        let here: Vec<&Prepared<'a>> = self
            .stage
            .policies
            .iter()
            .filter(|one| one.is_live() && self.sort.fits(one))
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

    pub(super) fn promise<'s>(&self, scene: &'s Scene<'_, '_>) -> Result<&'s [Value], Open> {
        if let Some(promise) = scene.promise.get() {
            return Ok(promise);
        }
        let promise = self.stage.promise(self.sort)?;
        Ok(scene.promise.get_or_init(|| promise))
    }

    /// A policy (or what it would be as a permit) as logic, for requests that keep the promise.
    pub(super) fn promised(
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
        let logic = one
            .plain()
            .and_then(|policy| self.one(&policy, &scene.symbols));
        let logic = match logic {
            Ok(logic) => logic,
            Err(open) => {
                self.ledger.open(&topic, self.sort, &open);
                return None;
            }
        };
        // What holds of all requests holds of those that keep the promise, and costs less to ask.
        let sure = self
            .ask(&topic, async |compiler| {
                compiler.check_never_errors_opt(&logic).await
            })
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
                compiler
                    .check_never_errors_with_counterexample_opt(&logic)
                    .await
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
        if self.ledger.is_matched(&one.topic) {
            return;
        }
        let logic = match self.promised(one, false, scene) {
            Ok(logic) => logic,
            Err(open) => return self.ledger.open(&one.topic, self.sort, &open),
        };
        let never = self
            .ask(&one.topic, async |compiler| {
                compiler.check_never_matches_opt(&logic).await
            })
            .await;
        if never == Some(false) {
            self.ledger.matched(&one.topic);
        }
    }

    /// Notes whether a forbid takes something away from a permit.
    async fn meets(&mut self, one: &Prepared<'_>, scene: &Scene<'_, '_>) {
        if self.ledger.is_met(&one.topic) {
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
            self.ledger.met(&one.topic);
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
        let charge = Charge {
            topic: &one.topic,
            asserts: disjoint_asserts(&scene.logic, &against),
            readers: vec![one],
            confirms: &|_| true,
        };
        self.counter(&charge, scene).await;
    }

    /// Asks the solver. `None` where there is no answer, which is noted.
    pub(super) async fn ask<T>(
        &mut self,
        topic: &Topic,
        question: impl AsyncFnOnce(&mut Compiler) -> Result<T, Error>,
    ) -> Option<T> {
        if (self.time_is_up)() {
            self.ledger.open(topic, self.sort, OUT_OF_TIME);
            return None;
        }
        match self.asker.ask(question).await {
            Ok(answer) => {
                self.ledger.answered();
                Some(answer)
            }
            Err(NoAnswer::Undecided(why) | NoAnswer::Gone(why)) => {
                self.ledger.open(topic, self.sort, &why);
                None
            }
        }
    }

    pub(super) fn one(&self, policy: &Policy, symbols: &SymEnv) -> Result<CompiledPolicy, Open> {
        let schema = self.stage.schema.schema();
        CompiledPolicy::compile_with_custom_symenv(policy, &self.sort.env, schema, symbols.clone())
            .map_err(told)
    }

    pub(super) fn all(&self, set: &PolicySet, symbols: &SymEnv) -> Result<CompiledPolicySet, Open> {
        let schema = self.stage.schema.schema();
        CompiledPolicySet::compile_with_custom_symenv(set, &self.sort.env, schema, symbols.clone())
            .map_err(told)
    }

    /// The expression with which a policy reads an entity that no request carries.
    pub(super) fn unloaded(&self, policy: &Policy) -> Option<String> {
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
}

/// Policies in the shape that a solver is given.
pub(super) fn plain(policies: &[&Prepared<'_>]) -> Result<PolicySet, Open> {
    let policies = policies.iter().map(|one| one.plain());
    set_of(policies.collect::<Result<Vec<_>, _>>()?)
}

pub(super) fn set_of(policies: impl IntoIterator<Item = Policy>) -> Result<PolicySet, Open> {
    PolicySet::from_policies(policies).map_err(told)
}

fn told(error: impl std::error::Error) -> Open {
    format!("cannot be put to a solver: {}", Chain(&error))
}

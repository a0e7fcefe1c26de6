//! The questions about an old bundle that this one must not go beyond.

use cedar_policy::{Effect, PolicySet};
use cedar_policy_symcc::{CompiledPolicySet, Env, implies_asserts};

use super::counter::Charge;
use super::inquiry::{Inquiry, Open, Scene, plain, set_of};
use super::ledger::about;
use super::report::Claim;
use super::stage::{Old, Prepared};
use super::witness::Replay;

impl Inquiry<'_, '_> {
    /// Whether something is allowed that the old bundle denies.
    pub(super) async fn compare(&mut self, old: &Old<'_>, scene: &Scene<'_, '_>) {
        let topic = about(Claim::NoMoreThanOld);
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
        let charge = Charge {
            topic: &topic,
            asserts: implies_asserts(&new, &before),
            readers: old
                .policies
                .iter()
                .filter(|one| self.sort.fits(one))
                .collect(),
            confirms: &|env: &Env| !Replay::of(env, &judged).allowed(),
        };
        let found = self.counter(&charge, scene).await;
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
        let here = old
            .policies
            .iter()
            .filter(|one| one.is_live() && self.sort.fits(one));
        let here: Vec<&Prepared<'_>> = here.collect();
        for forbid in here
            .iter()
            .filter(|one| one.policy.effect() == Effect::Forbid)
        {
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
        let topic = about(Claim::NoMoreThanOld);
        let everybody = self.one(&one.plain()?, &scene.symbols)?;
        let sure = self
            .ask(&topic, async |compiler| {
                compiler.check_never_errors_opt(&everybody).await
            })
            .await;
        if sure == Some(true) {
            return Ok(false);
        }
        let promised = self.promised(one, false, scene)?;
        let sure = self
            .ask(&topic, async |compiler| {
                compiler.check_never_errors_opt(&promised).await
            })
            .await;
        Ok(sure != Some(true))
    }
}

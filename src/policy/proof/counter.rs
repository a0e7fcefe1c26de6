//! The search for a request that speaks against a claim about the bundle as a whole.

use std::sync::Arc;

use cedar_policy_symcc::term_factory::not;
use cedar_policy_symcc::{Env, WellFormedAsserts, never_errors_asserts};

use super::inquiry::{Inquiry, Scene};
use super::ledger::{ERRING_EXAMPLE, UNCONFIRMED};
use super::report::{Topic, Witness};
use super::stage::Prepared;
use super::witness::Replay;

/// What a request is looked for that shows it.
pub(super) struct Charge<'c> {
    pub(super) topic: &'c Topic,
    /// What such a request satisfies.
    pub(super) asserts: WellFormedAsserts<'c>,
    /// Whose facts are shown, beside those of the policies that decide.
    pub(super) readers: Vec<&'c Prepared<'c>>,
    /// Whether a request that was found shows it indeed, beside being allowed.
    pub(super) confirms: &'c dyn Fn(&Env) -> bool,
}

impl Inquiry<'_, '_> {
    /// Looks for a request that shows it, and records it. Says whether there is one.
    ///
    /// Cedar skips a forbid that errors, and Cardea denies. So where a request gets through only because a forbid errs, the
    /// question is put once more, of the requests for which no forbid does.
    pub(super) async fn counter(&mut self, charge: &Charge<'_>, scene: &Scene<'_, '_>) -> bool {
        let Charge { topic, asserts, .. } = charge;
        let found = self
            .ask(topic, async |compiler| compiler.check_sat(asserts).await)
            .await;
        let Some(Some(env)) = found else {
            return false;
        };
        let replay = Replay::of(&env, &scene.set);
        if !replay.cedar_allows() || !(charge.confirms)(&env) {
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
        let readers = readers.chain(charge.readers.iter().copied());
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
            compiler
                .check_unsat_raw(Arc::clone(&all), &scene.symbols)
                .await
        })
        .await
    }

    /// A counterexample in words, with the facts that these policies can read.
    pub(super) fn tell<'p>(
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

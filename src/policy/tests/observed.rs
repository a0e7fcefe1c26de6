//! Observed operations: what passes there, and what never does.

use std::sync::Arc;

use proptest::prelude::*;

use super::fixture::{World, compile};
use crate::model::{Outcome, Reason};
use crate::policy::Judgement;

const PERMIT: &str = "@id(\"yes\") permit (principal, action, resource);";
const HOLDS: &str = "@id(\"holds\") forbid (principal, action, resource);";
const SAYS: &str = "@id(\"says\") @mode(\"observable\") forbid (principal, action, resource);";
const ERRS: &str = "@id(\"errs\") forbid (principal, action, resource) when { context.signals.rateRatioPct * 2 > 0 };";
const SAYS_AND_ERRS: &str = "@id(\"errs\") @mode(\"observable\") forbid (principal, action, resource) when { context.signals.rateRatioPct * 2 > 0 };";
const NOBODY: &str = "@id(\"nobody\") permit (principal == Cardea::User::\"x\", action, resource);";

fn world(observed: bool) -> World {
    let mut world = World::new("a0.list", "");
    Arc::make_mut(&mut world.matched.operation).observed = observed;
    world.facts.signals.rate_ratio_pct = i64::MAX;
    world
}

fn judge(policies: &[&str], world: &World) -> Judgement {
    let policies = compile(&[("p.cedar", &policies.concat())], &[]).unwrap();
    let principal = world.principal(&policies);
    policies.judge(world.question(&principal))
}

/// The verdict in a word, with its reason.
fn said(policies: &[&str], world: &World) -> (&'static str, &'static str) {
    match judge(policies, world).verdict {
        Outcome::Allowed(_) => ("allowed", "permitted"),
        Outcome::Observed(_, refusal) => ("observed", refusal.reason.code()),
        Outcome::Refused(refusal) => ("refused", refusal.reason.code()),
    }
}

#[test]
fn a_missing_permit_passes_where_the_operation_is_observed_and_nowhere_else() {
    assert_eq!(said(&[NOBODY], &world(true)), ("observed", "not_permitted"));
    assert_eq!(said(&[NOBODY], &world(false)), ("refused", "not_permitted"));
    let anonymous = world(true).anonymous();
    assert_eq!(
        said(&[NOBODY], &anonymous),
        ("observed", "credential_missing")
    );
}

#[test]
fn what_is_permitted_is_no_observation() {
    let judgement = judge(&[PERMIT], &world(true));
    assert!(judgement.verdict.permitted());
    assert_eq!(judgement.determining, [Arc::<str>::from("yes")]);
    assert!(judgement.verdict.would_be().is_none());
}

#[test]
fn a_forbid_holds_on_observed_operations_unless_its_author_says_otherwise() {
    for permits in [PERMIT, NOBODY] {
        assert_eq!(
            said(&[permits, HOLDS], &world(true)),
            ("refused", "forbidden")
        );
        assert_eq!(
            said(&[permits, SAYS], &world(true)),
            ("observed", "forbidden")
        );
        assert_eq!(
            said(&[permits, SAYS], &world(false)),
            ("refused", "forbidden")
        );
        // One that holds is enough.
        assert_eq!(
            said(&[permits, SAYS, HOLDS], &world(true)),
            ("refused", "forbidden")
        );
    }
    let judgement = judge(&[PERMIT, SAYS], &world(true));
    assert_eq!(judgement.determining, [Arc::<str>::from("says")]);
}

#[test]
fn e1_a_forbid_in_error_is_denied_on_observed_operations_too() {
    for forbid in [ERRS, SAYS_AND_ERRS] {
        for others in [PERMIT, NOBODY] {
            let judgement = judge(&[others, forbid], &world(true));
            let Outcome::Refused(refusal) = judgement.verdict else {
                panic!("it passes: {forbid}");
            };
            assert_eq!(refusal.reason, Reason::PolicyError);
        }
        // Whatever else would only have been said.
        assert_eq!(said(&[PERMIT, SAYS, forbid], &world(true)).0, "refused");
    }
}

#[test]
fn what_no_document_describes_is_never_observed() {
    let mut generic = World::new("http:GET", "");
    Arc::make_mut(&mut generic.matched.operation).observed = true;
    assert_eq!(said(&[NOBODY], &generic), ("refused", "not_permitted"));
}

#[test]
fn an_operation_that_cannot_be_judged_is_denied_though_observed() {
    let mut unknown = world(true);
    Arc::make_mut(&mut unknown.matched.operation).id = "nobody.knows".into();
    assert_eq!(said(&[PERMIT], &unknown), ("refused", "internal"));
}

#[test]
fn a_shadow_policy_counts_as_it_would_in_force() {
    let shadow = "@mode(\"shadow\") forbid (principal, action, resource);";
    let world = world(true);
    let policies = compile(&[("p.cedar", &format!("{NOBODY}{shadow}"))], &[]).unwrap();
    let principal = world.principal(&policies);
    let live = policies.judge(world.question(&principal));
    assert_eq!(live.verdict.reason_code(), "observed");
    let tried = policies.judge_with_shadow(world.question(&principal));
    assert_eq!(tried.verdict.reason_code(), "forbidden");
}

proptest! {
    /// Observing changes nothing but refusals, and those into exactly what they were.
    #[test]
    fn observing_only_turns_a_refusal_into_the_same_refusal_that_would_have_been(
        chosen in proptest::sample::subsequence(vec![PERMIT, NOBODY, HOLDS, SAYS, ERRS], 1..=5),
        anonymous in any::<bool>(),
    ) {
        let of = |observed| {
            let world = world(observed);
            judge(&chosen, &if anonymous { world.anonymous() } else { world })
        };
        let (plain, observed) = (of(false), of(true));
        prop_assert_eq!(plain.determining, observed.determining);
        prop_assert_eq!(plain.faults, observed.faults);
        prop_assert_eq!(plain.verdict.permitted(), observed.verdict.permitted());
        prop_assert_eq!(plain.verdict.refusal(), observed.verdict.refusal());
        let holds = chosen.contains(&HOLDS) || chosen.contains(&ERRS);
        prop_assert_eq!(observed.verdict.passes(), plain.verdict.passes() || !holds);
    }
}

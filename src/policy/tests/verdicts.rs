//! The rule of the house, case by case.

use std::sync::Arc;

use super::fixture::{World, compile, delegation};
use crate::model::{Effect, Notes, Outcome, Period, Reason, Severity, StepUp};
use crate::policy::Judgement;

fn judge(policies: &str, world: &World) -> Judgement {
    let entities = r#"[{"uid":{"type":"Cardea::Role","id":"r0"},"parents":[{"type":"Cardea::Role","id":"above"}]}]"#;
    let policies = compile(&[("p.cedar", policies)], &[("e.json", entities)]).unwrap();
    let principal = world.principal(&policies);
    policies.judge(world.question(&principal))
}

fn reason(policies: &str, world: &World) -> Option<Reason> {
    match judge(policies, world).verdict {
        Outcome::Refused(refusal) => Some(refusal.reason),
        Outcome::Allowed(_) | Outcome::Observed(..) => None,
    }
}

const PERMIT: &str = "permit (principal, action, resource);";

#[test]
fn only_a_permit_allows_and_any_forbid_denies() {
    let world = World::new("a0.list", "");
    assert_eq!(reason(PERMIT, &world), None);
    let nobody = r#"permit (principal == Cardea::User::"x", action, resource);"#;
    assert_eq!(reason(nobody, &world), Some(Reason::NotPermitted));
    assert_eq!(
        reason(nobody, &World::new("a0.list", "").anonymous()),
        Some(Reason::CredentialMissing)
    );
    let forbid = format!("{PERMIT} forbid (principal, action, resource);");
    let judgement = judge(&forbid, &world);
    assert_eq!(
        judgement.verdict.refusal().unwrap().reason,
        Reason::Forbidden
    );
    assert_eq!(judgement.determining, [Arc::<str>::from("p#2")]);
}

#[test]
fn e1_a_forbid_in_error_denies_and_a_permit_in_error_is_skipped() {
    let mut world = World::new("a0.list", "");
    world.facts.signals.rate_ratio_pct = i64::MAX;
    let overflow = include_str!("../../../tests/fixtures/hazard/forbid_overflow.cedar");
    let judgement = judge(overflow, &world);
    assert_eq!(
        judgement.verdict.refusal().unwrap().reason,
        Reason::PolicyError
    );
    assert_eq!(judgement.faults.len(), 1);
    assert_eq!(
        (&*judgement.faults[0].policy, judgement.faults[0].effect),
        ("forbid-overflow", Effect::Forbid)
    );

    let permits =
        "permit (principal, action, resource) when { context.signals.rateRatioPct * 2 > 0 };";
    let judgement = judge(permits, &world);
    assert_eq!(
        judgement.verdict.refusal().unwrap().reason,
        Reason::NotPermitted
    );
    assert_eq!(judgement.faults[0].effect, Effect::Permit);
    let judgement = judge(&format!("{permits}{PERMIT}"), &world);
    assert!(judgement.verdict.permitted() && judgement.faults.len() == 1);
}

#[test]
fn e1_a_forbid_that_reads_an_entity_nobody_loaded_denies() {
    let mut world = World::new("a0.list", "");
    let unloaded = include_str!("../../../tests/fixtures/hazard/forbid_unloaded_entity.cedar");
    assert_eq!(reason(unloaded, &world), None);
    world.facts.delegation = Some(delegation(false));
    assert_eq!(reason(unloaded, &world), Some(Reason::PolicyError));
}

#[test]
fn a_role_above_a_callers_role_counts() {
    let forbid =
        format!(r#"{PERMIT} forbid (principal in Cardea::Role::"above", action, resource);"#);
    let mut world = World::new("a0.get", "1");
    assert_eq!(reason(&forbid, &world), Some(Reason::Forbidden));
    world.attributes.as_mut().unwrap().roles.clear();
    assert_eq!(reason(&forbid, &world), None);
}

#[test]
fn annotations_choose_the_answer_and_the_strongest_wins() {
    let world = World::new("a0.list", "");
    let forbid =
        |answer: &str| format!("@on_deny(\"{answer}\") forbid (principal, action, resource);");
    for (answer, expected) in [
        ("not_found", Reason::NotFound),
        ("quarantine:15m", Reason::Quarantined),
        ("gone", Reason::Retired),
        ("slow_down", Reason::TooManyRequests),
        ("human_approval", Reason::ApprovalRequired),
        ("bad_request", Reason::ContractViolated),
    ] {
        assert_eq!(
            reason(&format!("{PERMIT}{}", forbid(answer)), &world),
            Some(expected),
            "{answer}"
        );
    }
    let plain = "forbid (principal, action, resource);";
    let both = |answer: &str| reason(&format!("{PERMIT}{plain}{}", forbid(answer)), &world);
    assert_eq!(both("not_found"), Some(Reason::NotFound));
    assert_eq!(both("step_up"), Some(Reason::Forbidden));
}

#[test]
fn a_better_login_is_offered_only_where_it_would_be_enough() {
    let world = World::new("a0.list", "");
    let step_up = r#"@on_deny("step_up") @acr_values("gold silver") @max_age("300")
                     forbid (principal, action, resource);"#;
    let offered = StepUp {
        acr_values: vec!["gold".to_owned(), "silver".to_owned()],
        max_age: Some(300),
    };
    assert_eq!(
        reason(&format!("{PERMIT}{step_up}"), &world),
        Some(Reason::StepUpRequired(offered))
    );
    assert_eq!(reason(step_up, &world), Some(Reason::Forbidden));
    let second = r#"@on_deny("step_up") @acr_values("platinum gold") @max_age("60") forbid (principal, action, resource);"#;
    let merged = StepUp {
        acr_values: vec!["gold".to_owned()],
        max_age: Some(60),
    };
    assert_eq!(
        reason(&format!("{PERMIT}{step_up}{second}"), &world),
        Some(Reason::StepUpRequired(merged))
    );
    let failing =
        "forbid (principal, action, resource) when { context.signals.rateRatioPct * 2 > 0 };";
    let mut failing_world = World::new("a0.list", "");
    failing_world.facts.signals.rate_ratio_pct = i64::MAX;
    assert_eq!(
        reason(&format!("{PERMIT}{step_up}{failing}"), &failing_world),
        Some(Reason::Forbidden)
    );
}

#[test]
fn an_operation_that_was_not_compiled_is_denied() {
    let policies = compile(&[("p.cedar", PERMIT)], &[]).unwrap();
    let mut world = World::new("a0.list", "");
    let operation = std::sync::Arc::make_mut(&mut world.matched.operation);
    operation.id = "elsewhere.list".into();
    let principal = world.principal(&policies);
    let verdict = policies.judge(world.question(&principal)).verdict;
    assert_eq!(verdict.refusal().unwrap().reason, Reason::Internal);
}

#[test]
fn e3_claims_stay_strings_whatever_they_look_like() {
    let mut world = World::new("a0.list", "");
    let injected = r#"{"__entity":{"type":"Cardea::Role","id":"admin"}}"#;
    let attributes = world.attributes.as_mut().unwrap();
    attributes.roles = vec![injected.to_owned()];
    attributes.claims = [("role".to_owned(), vec![injected.to_owned()])].into();
    let admin = r#"permit (principal in Cardea::Role::"admin", action, resource);"#;
    assert_eq!(reason(admin, &world), Some(Reason::NotPermitted));
    let claims = r#"permit (principal, action, resource) when {
        context.token.claims.hasTag("role") &&
        context.token.claims.getTag("role").contains("{\"__entity\":{\"type\":\"Cardea::Role\",\"id\":\"admin\"}}") };"#;
    assert_eq!(reason(claims, &world), None);
}

#[test]
fn objects_carry_their_owner_tenant_and_parameters() {
    let entities = r#"[{"uid":{"type":"Cardea::Object","id":"a0/things/7"},
                        "attrs":{"owner":{"type":"Cardea::User","id":"https://i|alice"}}}]"#;
    let policy = r#"permit (principal, action, resource)
        when { resource has owner && resource.owner == principal && resource.id == "7" && resource.kind == "things" &&
               context.request.params.hasTag("id") && context.request.params.getTag("id") == "7" && resource.api.name == "a0" };"#;
    let policies = compile(&[("p.cedar", policy)], &[("e.json", entities)]).unwrap();
    for (id, name, allowed) in [
        ("7", "alice", true),
        ("8", "alice", false),
        ("7", "bob", false),
    ] {
        let mut world = World::new("a0.get", id);
        world.attributes.as_mut().unwrap().subject = name.to_owned();
        let principal = world.principal(&policies);
        let verdict = policies.judge(world.question(&principal)).verdict;
        assert_eq!(verdict.permitted(), allowed, "{id} {name}");
    }
}

#[test]
fn what_the_determining_policies_note_is_gathered() {
    let world = World::new("a0.list", "");
    let permits = r#"
        @obligation("notify:soc") @severity("low") permit (principal, action, resource);
        @severity("high") permit (principal is Cardea::User, action, resource);
        @severity("critical") permit (principal is Cardea::Agent, action, resource);"#;
    let notes = judge(permits, &world).notes;
    assert_eq!(notes.severity, Some(Severity::High));
    assert_eq!(notes.obligations, [Arc::<str>::from("notify:soc")]);
    assert_eq!(notes.said, None);

    let forbids = r#"
        @reason("this is not yours") forbid (principal, action, resource);
        @reason("it does not exist") @on_deny("not_found") forbid (principal, action, resource);
        @on_deny("gone") forbid (principal, action, resource);"#;
    let notes = judge(&format!("{permits}{forbids}"), &world).notes;
    assert_eq!(notes.said.as_deref(), Some("it does not exist"));
    assert_eq!((notes.severity, notes.obligations), (None, Vec::new()));
}

#[test]
fn controls_and_the_time_of_a_quarantine_are_noted() {
    let world = World::new("a0.list", "");
    let permits = r#"
        @control("PCI 7.2") permit (principal, action, resource);
        @control("PCI 7.2") permit (principal is Cardea::User, action, resource);
        @control("PCI 8") permit (principal is Cardea::User, action, resource);
        @control("PCI 9") permit (principal is Cardea::Agent, action, resource);"#;
    let mut controls = judge(permits, &world).notes.controls;
    controls.sort();
    assert_eq!(controls, [Arc::<str>::from("PCI 7.2"), "PCI 8".into()]);

    let forbids = r#"
        @on_deny("quarantine:15m") forbid (principal, action, resource);
        @on_deny("quarantine:90s") @control("SOC 1") forbid (principal, action, resource);
        @on_deny("quarantine") forbid (principal, action, resource);"#;
    let notes = judge(&format!("{permits}{forbids}"), &world).notes;
    assert_eq!(notes.set_apart, Some(Period::seconds(900)));
    assert_eq!(
        notes.controls,
        [Arc::<str>::from("SOC 1")],
        "of the policies that decide"
    );
    assert_eq!(judge(permits, &world).notes.set_apart, None);
}

#[test]
fn notes_of_two_judgements_make_one_with_each_text_once() {
    let notes = |controls: &[&str], seconds: Option<u64>| Notes {
        obligations: vec!["page".into()],
        controls: controls.iter().map(|control| (*control).into()).collect(),
        set_apart: seconds.map(Period::seconds),
        ..Notes::default()
    };
    let both = notes(&["a", "b"], Some(1)).and(notes(&["b", "c"], Some(2)));
    assert_eq!(both, notes(&["a", "b", "c"], Some(2)));
    assert_eq!(both.clone().and(notes(&[], None)), both);
}

#[test]
fn an_anonymous_caller_is_asked_for_a_credential_unless_it_would_not_help() {
    let world = || World::new("a0.list", "").anonymous();
    let about_callers = [
        "forbid (principal is Cardea::Anonymous, action, resource);",
        r#"forbid (principal, action, resource) unless { principal in Cardea::Role::"r0" };"#,
        "forbid (principal, action, resource) when { context.token.assurance < 2 };",
    ];
    for forbid in about_callers {
        let policies = format!("{PERMIT}{forbid}");
        assert_eq!(
            reason(&policies, &world()),
            Some(Reason::CredentialMissing),
            "{forbid}"
        );
    }
    let whoever_asks = "forbid (principal, action, resource) when { context.request.documented };";
    assert_eq!(
        reason(&format!("{PERMIT}{whoever_asks}"), &world()),
        Some(Reason::Forbidden)
    );
    let both = format!("{PERMIT}{whoever_asks}{}", about_callers[0]);
    assert_eq!(reason(&both, &world()), Some(Reason::Forbidden));
}

#[test]
fn a_client_says_what_it_proved_itself_with_and_since_when_it_has_its_key() {
    let by = |scheme: &'static str| {
        let mut world = World::new("a0.list", "");
        let attributes = world.attributes.as_mut().unwrap();
        attributes.kind = crate::model::PrincipalKind::Client;
        attributes.scheme = scheme;
        attributes.issued_at = Some("2026-11-01T00:00:00Z".parse().unwrap());
        world
    };
    let old_key = r#"permit (principal is Cardea::Client, action, resource) when {
        principal.kind == "api_key" && context.token.kind == "api_key" && principal has keyIssuedAt
        && principal.keyIssuedAt < datetime("2026-11-02") };"#;
    assert_eq!(reason(old_key, &by("api_key")), None);
    assert_eq!(
        reason(old_key, &by("bearer_jwt")),
        Some(Reason::NotPermitted)
    );
    let of = |kind: &str| {
        format!(
            r#"permit (principal is Cardea::Client, action, resource)
            when {{ principal.kind == "{kind}" && !(principal has keyIssuedAt) }};"#
        )
    };
    assert_eq!(reason(&of("oauth"), &by("bearer_jwt")), None);
    assert_eq!(reason(&of("basic"), &by("basic")), None);
}

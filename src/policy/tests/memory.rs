//! A remembered judgement is held against a fresh one, whatever changes between the two.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::fixture::{World, compile, delegation, operations, user};
use super::oracle::{Shape, compile_valid, sets, shapes};
use crate::model::{Binding, Caller, IdentityAttributes, OnBehalf, PrincipalKind, SpiffeId};
use crate::model::{Body, CanonicalPath, DecisionCache, Emergency, Host, PathRules, Period};
use crate::policy::evidence::{Plan, lines};
use crate::policy::{CacheSettings, Memory, Policies, Principal};

/// One input that changes: the line of the context it is, the change, and a condition that tells before from after.
type Change = (&'static str, fn(&mut World), &'static str);

/// Every line of the context but the credential's, in the order of the table.
const FACTS: [Change; 54] = [
    (
        "device.known",
        |w| w.facts.device.known = true,
        "context.device.known",
    ),
    (
        "device.managed",
        |w| w.facts.device.managed = true,
        "context.device.managed",
    ),
    (
        "device.compliant",
        |w| w.facts.device.compliant = true,
        "context.device.compliant",
    ),
    (
        "device.id",
        |w| w.facts.device.id = Some("d".to_owned()),
        "context.device has id",
    ),
    (
        "device.platform",
        |w| w.facts.device.platform = Some("linux".to_owned()),
        "context.device has platform && context.device.platform == \"linux\"",
    ),
    (
        "device.assessedAt",
        |w| w.facts.device.assessed_at = Some(Timestamp::UNIX_EPOCH),
        "context.device has assessedAt",
    ),
    (
        "geo.known",
        |w| w.facts.geo.known = true,
        "context.geo.known",
    ),
    (
        "geo.country",
        |w| w.facts.geo.country = "DE".to_owned(),
        "context.geo.country == \"DE\"",
    ),
    (
        "geo.asn",
        |w| w.facts.geo.asn = 64512,
        "context.geo.asn == 64512",
    ),
    (
        "geo.inOffice",
        |w| w.facts.geo.in_office = true,
        "context.geo.inOffice",
    ),
    (
        "geo.anonymizer",
        |w| w.facts.geo.anonymizer = true,
        "context.geo.anonymizer",
    ),
    (
        "geo.impossibleTravel",
        |w| w.facts.geo.impossible_travel = true,
        "context.geo.impossibleTravel",
    ),
    (
        "network.ip",
        |w| w.facts.network.ip = Some([127, 0, 0, 1].into()),
        "context.network.ip.isLoopback()",
    ),
    (
        "network.ipTrusted",
        |w| w.facts.network.ip_trusted = true,
        "context.network.ipTrusted",
    ),
    (
        "time",
        |w| w.facts.moment.now += SignedDuration::from_secs(1),
        "context.time.now > datetime(\"2026-11-21T12:00:00Z\")",
    ),
    (
        "risk.score",
        |w| w.facts.risk.score = 60,
        "context.risk.score >= 60",
    ),
    (
        "risk.level",
        |w| w.facts.risk.level = "high".to_owned(),
        "context.risk.level == \"high\"",
    ),
    (
        "risk.reasons",
        |w| w.facts.risk.reasons = vec!["a".to_owned(), "b".to_owned()],
        "context.risk.reasons.containsAll([\"a\", \"b\"])",
    ),
    (
        "risk.model",
        |w| w.facts.risk.model = "m".to_owned(),
        "context.risk.model == \"m\"",
    ),
    (
        "signals.quarantined",
        |w| w.facts.signals.quarantined = true,
        "context.signals.quarantined",
    ),
    (
        "signals.baselineReady",
        |w| w.facts.signals.baseline_ready = true,
        "context.signals.baselineReady",
    ),
    (
        "signals.distinctObjects",
        |w| w.facts.signals.distinct_objects = 7,
        "context.signals.distinctObjects > 6",
    ),
    (
        "signals.distinctObjectsLimit",
        |w| w.facts.signals.distinct_objects_limit = 7,
        "context.signals.distinctObjectsLimit > 6",
    ),
    (
        "signals.sequentialRun",
        |w| w.facts.signals.sequential_run = 7,
        "context.signals.sequentialRun > 6",
    ),
    (
        "signals.rateRatioPct",
        |w| w.facts.signals.rate_ratio_pct = 7,
        "context.signals.rateRatioPct * 3 > 20",
    ),
    (
        "signals.authFailPct",
        |w| w.facts.signals.auth_fail_pct = 7,
        "context.signals.authFailPct > 6",
    ),
    (
        "signals.newOperation",
        |w| w.facts.signals.new_operation = true,
        "context.signals.newOperation",
    ),
    (
        "request.id",
        |w| w.request.id = "r".to_owned(),
        "context.request.id == \"r\"",
    ),
    (
        "request.method",
        |w| w.request.method = crate::model::Method::Head,
        "context.request.method == \"HEAD\"",
    ),
    (
        "request.host",
        |w| w.request.host = Host::parse("other.example.com").unwrap(),
        "context.request.host like \"other*\"",
    ),
    (
        "request.path",
        |w| w.request.path = CanonicalPath::parse("/x", PathRules::default()).unwrap(),
        "context.request.path == \"/x\"",
    ),
    // An operation has its own slice: it cannot be documented at one time and not at another.
    (
        "request.documented",
        |w| w.matched.operation = operations().into_iter().find(|o| !o.documented).unwrap(),
        "context.request.documented",
    ),
    (
        "request.bodyBytes",
        |w| {
            w.request.body = Body {
                length: 1 << 20,
                ..Body::default()
            };
        },
        "context.request.bodyBytes > 1000",
    ),
    // No source fills these, so nothing changes them.
    ("request.bodyInspected", |_| {}, ""),
    ("request.schemaErrors", |_| {}, ""),
    ("request.undeclaredFields", |_| {}, ""),
    ("request.findings", |_| {}, ""),
    (
        "request.params",
        |w| w.matched.parameters.push(("more".into(), "p".to_owned())),
        "context.request.params.hasTag(\"more\")",
    ),
    ("request.numbers", |_| {}, ""),
    (
        "tls.mutual",
        |w| w.facts.tls.mutual = true,
        "context.tls.mutual",
    ),
    (
        "tls.sni",
        |w| w.facts.tls.sni = Some("a.example.com".to_owned()),
        "context.tls has sni && context.tls.sni == \"a.example.com\"",
    ),
    (
        "tls.peer",
        |w| {
            let id = SpiffeId::parse("spiffe://example.com/ns/shop/sa/web").unwrap();
            let peer = IdentityAttributes::workload(id, jiff::Timestamp::MAX);
            w.facts.tls.peer = Some(Caller::Supposed(std::sync::Arc::new(peer)));
        },
        "context.tls has peer",
    ),
    (
        "delegation.subject",
        |w| w.facts.delegation = Some(delegation(false)),
        "context has delegation && context.delegation.subject == Cardea::User::\"mallory\"",
    ),
    (
        "delegation.agent",
        |w| delegated(w).agent = Some("a".to_owned()),
        "context has delegation && context.delegation has agent",
    ),
    (
        "delegation.client",
        |w| delegated(w).client = Some("c".to_owned()),
        "context has delegation && context.delegation has client",
    ),
    (
        "delegation.workload",
        |w| delegated(w).workload = Some("w".to_owned()),
        "context has delegation && context.delegation has workload",
    ),
    (
        "delegation.depth",
        |w| delegated(w).depth = 3,
        "context has delegation && context.delegation.depth > 2",
    ),
    (
        "delegation.scopes",
        |w| delegated(w).scopes = vec!["s".to_owned()],
        "context has delegation && context.delegation.scopes.contains(\"s\")",
    ),
    (
        "delegation.purpose",
        |w| delegated(w).purpose = Some("p".to_owned()),
        "context has delegation && context.delegation has purpose && context.delegation.purpose == \"p\"",
    ),
    (
        "delegation.humanApproved",
        |w| delegated(w).human_approved = true,
        "context has delegation && context.delegation.humanApproved",
    ),
    (
        "emergency.ticket",
        |w| w.facts.emergency = Some(emergency("INC-1")),
        "context has emergency && context.emergency.ticket == \"INC-1\"",
    ),
    (
        "emergency.approver",
        |w| {
            w.facts
                .emergency
                .get_or_insert_with(|| emergency("INC-2"))
                .approver = "eve".to_owned();
        },
        "context has emergency && context.emergency.approver == Cardea::User::\"eve\"",
    ),
    (
        "emergency.expiresAt",
        |w| {
            let emergency = w.facts.emergency.get_or_insert_with(|| emergency("INC-2"));
            emergency.expires_at += SignedDuration::from_hours(1);
        },
        "context has emergency && context.emergency.expiresAt > datetime(\"2027-01-01T00:00:00Z\")",
    ),
    (
        "delegation, and nothing in it",
        |w| w.facts.delegation = Some(delegation(false)),
        "context has delegation",
    ),
];

/// What a credential says, and what it acts on.
const OTHERS: [Change; 22] = [
    (
        "nobody asks",
        |w| w.attributes = None,
        "principal is Cardea::Anonymous",
    ),
    (
        "another kind of principal",
        |w| change(w, |a| a.kind = PrincipalKind::Client),
        "principal is Cardea::Client",
    ),
    (
        "another subject",
        |w| change(w, |a| a.subject = "bob".to_owned()),
        "principal has tenant",
    ),
    (
        "another issuer",
        |w| change(w, |a| a.issuer = "https://j".into()),
        "context.token has issuer && context.token.issuer == \"https://j\"",
    ),
    (
        "another role",
        |w| change(w, |a| a.roles.push("r1".to_owned())),
        "principal in Cardea::Role::\"r1\"",
    ),
    (
        "no role",
        |w| change(w, |a| a.roles.clear()),
        "principal in Cardea::Role::\"above\"",
    ),
    (
        "a group",
        |w| change(w, |a| a.groups.push("g1".to_owned())),
        "principal in Cardea::Group::\"g1\"",
    ),
    (
        "a tenant",
        |w| change(w, |a| a.tenant = Some("acme".to_owned())),
        "principal in Cardea::Tenant::\"acme\"",
    ),
    (
        "another scope",
        |w| change(w, |a| a.scopes.push("s1".to_owned())),
        "context.token.scopes.contains(\"s1\")",
    ),
    (
        "another audience",
        |w| change(w, |a| a.audience.push("b".to_owned())),
        "context.token.audience.contains(\"b\")",
    ),
    (
        "another login",
        |w| change(w, |a| a.amr.push("mfa".to_owned())),
        "context.token.amr.contains(\"mfa\")",
    ),
    (
        "a login class",
        |w| change(w, |a| a.acr = Some("x".to_owned())),
        "context.token has acr && context.token.acr == \"x\"",
    ),
    (
        "more assurance",
        |w| change(w, |a| a.assurance = 3),
        "context.token.assurance >= 2",
    ),
    (
        "more than one factor",
        |w| change(w, |a| a.mfa = true),
        "context.token.mfa",
    ),
    (
        "a time of login",
        |w| change(w, |a| a.auth_time = Some(Timestamp::UNIX_EPOCH)),
        "context.token has authTime",
    ),
    (
        "another end",
        |w| change(w, |a| a.expires_at += SignedDuration::from_hours(1)),
        "context.token has expiresAt && context.token.expiresAt > datetime(\"2027-01-15T08:30:00Z\")",
    ),
    (
        "proof of possession",
        |w| change(w, |a| a.binding = Some(Binding::Certificate([7; 32]))),
        "context.token.senderConstrained",
    ),
    (
        "a client",
        |w| change(w, |a| a.client_id = Some("c".to_owned())),
        "context.token has clientId",
    ),
    (
        "a claim",
        |w| {
            change(w, |a| {
                a.claims.insert("c".to_owned(), vec!["v".to_owned()]);
            });
        },
        "context.token.claims.hasTag(\"c\")",
    ),
    (
        "acts for somebody",
        |w| change(w, |a| a.on_behalf = Some(on_behalf_of("bob", &[]))),
        "context.token has subject && context.token.subject == \"alice\"",
    ),
    (
        "another object",
        |w| w.matched.parameters = vec![("id".into(), "2".to_owned())],
        "resource in Cardea::Tenant::\"acme\"",
    ),
    (
        "another API",
        |w| w.matched.operation = operation("a1.get"),
        "resource in Cardea::Api::\"a1\"",
    ),
];

fn change(world: &mut World, how: impl FnOnce(&mut IdentityAttributes)) {
    if let Some(attributes) = &mut world.attributes {
        how(attributes);
    }
}

fn on_behalf_of(name: &str, roles: &[&str]) -> OnBehalf {
    let mut subject = user(name);
    subject.roles = roles.iter().map(|role| (*role).to_owned()).collect();
    OnBehalf {
        subject: Box::new(subject),
        earlier: Vec::new(),
        purpose: None,
        human_approved: false,
    }
}

fn delegated(world: &mut World) -> &mut crate::model::Delegation {
    world
        .facts
        .delegation
        .get_or_insert_with(|| delegation(false))
}

fn emergency(ticket: &str) -> Emergency {
    Emergency {
        ticket: ticket.to_owned(),
        approver: "trent".to_owned(),
        expires_at: "2026-12-31T23:30:00Z".parse().unwrap(),
    }
}

fn operation(id: &str) -> std::sync::Arc<crate::model::Operation> {
    operations().into_iter().find(|o| &*o.id == id).unwrap()
}

fn memory() -> Memory {
    Memory::new(&CacheSettings::default())
}

/// The principals of one snapshot as the room of identity keeps them: the same credential is the same principal.
struct Callers<'a> {
    policies: &'a Policies,
    known: BTreeMap<String, Principal>,
}

impl<'a> Callers<'a> {
    fn new(policies: &'a Policies) -> Self {
        Self {
            policies,
            known: BTreeMap::new(),
        }
    }

    /// Judges anew and from memory, and wants every word the same.
    fn judge(&mut self, world: &World, memory: &Memory) -> (String, DecisionCache) {
        let credential = format!("{:?}", world.attributes.as_ref().map(in_full));
        let principal = self
            .known
            .entry(credential)
            .or_insert_with(|| world.principal(self.policies));
        let fresh = format!("{:?}", self.policies.judge(world.question(principal)));
        let (judgement, recalled) = self.policies.recall(world.question(principal), memory);
        assert_eq!(format!("{judgement:?}"), fresh, "{recalled:?}");
        (fresh, recalled)
    }
}

/// Every attribute, also of whom the caller acts for: the type's own `Debug` leaves some out.
fn in_full(attributes: &IdentityAttributes) -> String {
    let a = attributes;
    let who = (a.kind, a.scheme, &a.issuer, &a.subject, &a.client_id);
    let what = (&a.audience, &a.scopes, &a.amr, &a.acr, a.assurance, a.mfa);
    let when = (a.auth_time, a.issued_at, a.expires_at, &a.token_id);
    let more = (
        &a.roles,
        &a.groups,
        &a.tenant,
        &a.claims,
        &a.binding,
        &a.service_account,
    );
    let subject = a.on_behalf.as_ref().map(|on| in_full(&on.subject));
    format!("{who:?} {what:?} {when:?} {more:?} {subject:?}")
}

const ENTITIES: &str = r#"[
    {"uid":{"type":"Cardea::Role","id":"r0"},"parents":[{"type":"Cardea::Role","id":"above"}]},
    {"uid":{"type":"Cardea::User","id":"https://i|bob"},"attrs":{"tenant":{"__entity":{"type":"Cardea::Tenant","id":"acme"}}}},
    {"uid":{"type":"Cardea::Object","id":"a0/things/1"},"parents":[{"type":"Cardea::Tenant","id":"acme"}]}
]"#;

fn one_policy(condition: &str) -> Policies {
    let text = format!("permit (principal, action, resource) when {{ {condition} }};");
    compile(&[("p.cedar", &text)], &[("e.json", ENTITIES)])
        .unwrap_or_else(|problems| panic!("{condition}: {problems:?}"))
}

#[test]
fn every_line_of_the_context_is_among_the_changes() {
    let changed: BTreeSet<String> = FACTS.iter().map(|(line, ..)| (*line).to_owned()).collect();
    let missing: Vec<_> = lines()
        .filter(|line| line != "token" && !changed.contains(line))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn c2_no_judgement_outlives_what_it_was_made_from() {
    for (name, change, condition) in FACTS.iter().chain(&OTHERS) {
        if condition.is_empty() {
            continue;
        }
        let policies = one_policy(condition);
        let (mut callers, memory) = (Callers::new(&policies), memory());
        let before = World::new("a0.get", "1");
        let mut after = World::new("a0.get", "1");
        change(&mut after);
        let (first, _) = callers.judge(&before, &memory);
        let (second, recalled) = callers.judge(&after, &memory);
        assert_ne!(first, second, "{name}: the condition tells the two apart");
        // What is read of the clock, or followed to the workload on the connection, is judged anew.
        let (now, then) = match *name {
            "time" => (DecisionCache::Bypass, DecisionCache::Bypass),
            "tls.peer" => (DecisionCache::Hit, DecisionCache::Bypass),
            _ => (DecisionCache::Hit, DecisionCache::Hit),
        };
        let expected = match then {
            DecisionCache::Hit => DecisionCache::Miss,
            other => other,
        };
        assert_eq!(recalled, expected, "{name}");
        for (world, again) in [(&before, now), (&after, then), (&before, now)] {
            assert_eq!(callers.judge(world, &memory).1, again, "{name}");
        }
    }
}

#[test]
fn what_no_policy_can_read_makes_no_difference() {
    let policies = one_policy("context.tls.mutual");
    let (mut callers, memory) = (Callers::new(&policies), memory());
    let world = World::new("a0.get", "1");
    assert_eq!(callers.judge(&world, &memory).1, DecisionCache::Miss);
    let unread = FACTS.iter().filter(|(line, ..)| {
        // What is another operation, or another object, is another question.
        !["tls.mutual", "request.documented"].contains(line)
    });
    for (name, change, _) in unread {
        let mut world = World::new("a0.get", "1");
        change(&mut world);
        assert_eq!(
            callers.judge(&world, &memory).1,
            DecisionCache::Hit,
            "{name}"
        );
    }
}

#[test]
fn the_same_subject_with_other_rights_is_another_principal() {
    let policies = one_policy("context.tls.mutual || principal in Cardea::Role::\"admin\"");
    let (mut callers, memory) = (Callers::new(&policies), memory());
    let plain = World::new("a0.get", "1");
    let mut admin = World::new("a0.get", "1");
    change(&mut admin, |a| a.roles.push("admin".to_owned()));
    assert!(callers.judge(&admin, &memory).0.contains("Allowed"));
    assert!(callers.judge(&plain, &memory).0.contains("Refused"));
    // The same words said again by a new proof are another principal too.
    let again = policies.principal(&crate::model::VerifiedIdentity::assertion(
        plain.attributes.clone().unwrap(),
    ));
    let (_, recalled) = policies.recall(plain.question(&again), &memory);
    assert_eq!(recalled, DecisionCache::Miss);
}

#[test]
fn whoever_acts_for_somebody_is_remembered_only_with_whom_they_act_for() {
    let policies = one_policy("principal in Cardea::Role::\"r0\"");
    let (mut callers, memory) = (Callers::new(&policies), memory());
    let alone = World::new("a0.get", "1");
    let acting = |roles: &[&str]| {
        let mut world = World::new("a0.get", "1");
        change(&mut world, |a| {
            a.on_behalf = Some(on_behalf_of("bob", roles));
        });
        world
    };
    // The same actor each time, who is permitted; it is the other who decides.
    for (world, said) in [
        (&alone, "Allowed"),
        (&acting(&["r0"]), "Allowed"),
        (&acting(&[]), "Refused"),
        (&acting(&["r1"]), "Refused"),
    ] {
        for expected in [DecisionCache::Miss, DecisionCache::Hit] {
            let (judgement, recalled) = callers.judge(world, &memory);
            assert!(judgement.contains(said), "{judgement}");
            assert_eq!(recalled, expected);
        }
    }
}

#[test]
fn another_snapshot_shares_nothing_even_of_the_same_files() {
    let memory = memory();
    let world = World::new("a0.get", "1");
    for (condition, reason) in [
        ("true", "Allowed"),
        ("false", "Refused"),
        ("true", "Allowed"),
    ] {
        let policies = one_policy(&format!("{condition} || context.tls.mutual"));
        let mut callers = Callers::new(&policies);
        // Nobody in particular is made by the snapshot, and named by it.
        for world in [&world, &World::new("a0.get", "1").anonymous()] {
            let (said, recalled) = callers.judge(world, &memory);
            assert!(said.contains(reason), "{said}");
            assert_eq!(recalled, DecisionCache::Miss);
            assert_eq!(callers.judge(world, &memory).1, DecisionCache::Hit);
        }
    }
}

#[test]
fn only_callers_whose_policies_read_the_clock_are_judged_anew() {
    let text = r#"
        permit (principal, action, resource);
        permit (principal in Cardea::Role::"night", action, resource) when { context.time.weekday == 6 };
        permit (principal is Cardea::Client, action, resource) when { context.time.weekday == 6 };
        forbid (principal, action, resource) when { resource.api has sunset && context.time.now >= resource.api.sunset };
    "#;
    let policies = compile(&[("p.cedar", text)], &[("e.json", ENTITIES)]).unwrap();
    let (mut callers, memory) = (Callers::new(&policies), memory());
    let day = World::new("a0.get", "1");
    let mut night = World::new("a0.get", "1");
    change(&mut night, |a| a.roles.push("night".to_owned()));
    let mut client = World::new("a0.get", "1");
    change(&mut client, |a| a.kind = PrincipalKind::Client);
    for (world, expected) in [
        (&day, DecisionCache::Hit),
        (&night, DecisionCache::Bypass),
        (&client, DecisionCache::Bypass),
    ] {
        callers.judge(world, &memory);
        assert_eq!(callers.judge(world, &memory).1, expected);
    }
}

#[test]
fn c8_a_judgement_with_an_error_is_made_anew() {
    let policies = one_policy("context.signals.rateRatioPct * 3 > 6");
    let (mut callers, memory) = (Callers::new(&policies), memory());
    let mut world = World::new("a0.get", "1");
    world.facts.signals.rate_ratio_pct = i64::MAX;
    for _ in 0..3 {
        let (said, recalled) = callers.judge(&world, &memory);
        assert!(said.contains("overflow"), "{said}");
        assert_eq!(recalled, DecisionCache::Miss);
    }
}

#[test]
fn what_is_too_long_is_judged_anew_and_not_kept() {
    let policies = one_policy("context.request.path like \"/x*\"");
    let (mut callers, memory) = (Callers::new(&policies), memory());
    let mut world = World::new("a0.get", "1");
    for (length, expected) in [(900, DecisionCache::Miss), (1024, DecisionCache::Bypass)] {
        let path = format!("/{}", "x".repeat(length));
        world.request.path = CanonicalPath::parse(&path, PathRules::default()).unwrap();
        assert_eq!(callers.judge(&world, &memory).1, expected);
    }
}

#[test]
fn what_is_kept_is_bounded_and_nothing_is_kept_where_it_is_switched_off() {
    let policies = one_policy("context.request.params.hasTag(\"id\")");
    let mut callers = Callers::new(&policies);
    let settings = |entries| CacheSettings {
        entries,
        time_to_live: Period::seconds(60),
    };
    let (small, none) = (Memory::new(&settings(8)), Memory::new(&settings(0)));
    for object in 0..500 {
        let mut world = World::new("a0.get", "1");
        world.matched.parameters = vec![("id".into(), object.to_string())];
        assert_ne!(callers.judge(&world, &small).1, DecisionCache::Bypass);
        assert_eq!(callers.judge(&world, &none).1, DecisionCache::Bypass);
        assert_eq!(
            callers.judge(&world, &Memory::none()).1,
            DecisionCache::Bypass
        );
    }
    small.settle();
    assert!((1..=8).contains(&small.entries()), "{}", small.entries());
    assert_eq!(none.entries(), 0);
}

#[test]
fn c4_objects_and_parameters_are_not_read_across_their_borders() {
    // Once the object alone tells two requests apart, and once its parameter does too.
    for condition in [
        "context.tls.mutual",
        "context.request.params.hasTag(\"id\")",
    ] {
        let policies = one_policy(condition);
        let (mut callers, memory) = (Callers::new(&policies), memory());
        for expected in [DecisionCache::Miss, DecisionCache::Hit] {
            for id in ["1", "2", "1,2", "a/b", "a%2Fb", "a%252Fb", "", "1\0"] {
                let mut world = World::new("a0.get", "1");
                world.matched.parameters = vec![("id".into(), id.to_owned())];
                let (_, recalled) = callers.judge(&world, &memory);
                assert_eq!(recalled, expected, "{condition}: {id}");
            }
        }
    }
}

/// What happens between two judgements: an input changes, or changes back, or the bundle is compiled again.
#[derive(Debug, Clone, Copy)]
enum Step {
    Toggle(usize),
    Operation(usize),
    Reload,
}

const OPERATIONS: [&str; 6] = [
    "a0.get",
    "a0.list",
    "a0.drop",
    "a1.get",
    "http:GET",
    "a0.create",
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let all = FACTS.len() + OTHERS.len();
    let step = prop_oneof![
        24 => (0..all).prop_map(Step::Toggle),
        6 => (0..OPERATIONS.len()).prop_map(Step::Operation),
        1 => Just(Step::Reload),
    ];
    prop::collection::vec(step, 10..40)
}

/// Policies that read facts, beside those of the generator: each the condition of a change, for or against.
fn readers() -> impl Strategy<Value = String> {
    let all: Vec<&str> = FACTS
        .iter()
        .chain(&OTHERS)
        .map(|(.., condition)| *condition)
        // Whoever reads the clock is judged anew, which a few sets show.
        .filter(|condition| !condition.is_empty() && !condition.contains("time"))
        .collect();
    let policy = (any::<bool>(), prop::sample::select(all)).prop_map(|(forbid, condition)| {
        let effect = if forbid { "forbid" } else { "permit" };
        format!("{effect} (principal, action, resource) when {{ {condition} }};\n")
    });
    prop::collection::vec(policy, 0..8).prop_map(|policies| policies.concat())
}

fn world(operation: usize, changed: &BTreeSet<usize>) -> World {
    let mut world = World::new(OPERATIONS[operation], "1");
    let all = FACTS.iter().chain(&OTHERS).enumerate();
    for (_, (_, change, _)) in all.filter(|(number, _)| changed.contains(number)) {
        change(&mut world);
    }
    world
}

fn walk(shapes: &mut Vec<Shape>, readers: &str, steps: &[Step]) -> Option<BTreeSet<String>> {
    let memory = memory();
    let mut met = BTreeSet::new();
    let (_, mut policies) = compile_valid(shapes, readers)?;
    let mut rest = steps.iter();
    let (mut operation, mut changed) = (0, BTreeSet::new());
    loop {
        let mut callers = Callers::new(&policies);
        loop {
            let world = world(operation, &changed);
            for _ in 0..2 {
                let (_, recalled) = callers.judge(&world, &memory);
                met.insert(recalled.as_str().to_owned());
            }
            match rest.next() {
                None => return Some(met),
                Some(Step::Reload) => break,
                Some(Step::Operation(number)) => operation = *number,
                Some(Step::Toggle(number)) => {
                    if !changed.remove(number) {
                        changed.insert(*number);
                    }
                }
            }
        }
        // One policy less, so that the old answers would be wrong.
        shapes.pop();
        if shapes.is_empty() {
            return Some(met);
        }
        policies = compile_valid(shapes, readers)?.1;
    }
}

#[test]
fn a_remembered_judgement_is_the_one_that_would_be_made() {
    let config = ProptestConfig {
        cases: sets().div_ceil(4),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let met = std::cell::RefCell::new(BTreeSet::new());
    runner
        .run(
            &(shapes(), readers(), steps()),
            |(mut shapes, readers, steps)| {
                let walked = walk(&mut shapes, &readers, &steps);
                prop_assume!(walked.is_some());
                met.borrow_mut().extend(walked.unwrap());
                Ok(())
            },
        )
        .unwrap();
    let met = met.into_inner();
    assert_eq!(
        met.into_iter().collect::<Vec<_>>(),
        ["bypass", "hit", "miss"]
    );
}

#[test]
fn every_line_can_be_named() {
    // A plan of every line names two worlds alike only where their contexts are alike.
    let policies = one_policy("true");
    let plan = Plan::everything();
    let context = |world: &World| {
        let principal = world.principal(&policies);
        let mut name = crate::policy::reading::Name::new();
        let evidence = world.question(&principal).evidence();
        plan.name(&evidence, &mut name);
        (name.into_bytes(), format!("{:?}", plan.context(&evidence)))
    };
    let (name, shown) = context(&World::new("a0.get", "1"));
    for (line, change, _) in &FACTS {
        let mut world = World::new("a0.get", "1");
        change(&mut world);
        let (other, other_shown) = context(&world);
        if *line != "time" && other_shown != shown {
            assert_ne!(other, name, "{line}");
        }
    }
}

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::context;
use crate::model::{Arrival, ManualClock, Outcome, SystemClock};
use crate::policy::BundleFiles;

const SCHEMA: &str = include_str!("../../../policies/schema/cardea.cedarschema");
const API: &str = include_str!("../../../policies/apis/orders.yaml");
const OVERFLOW: &str = include_str!("../../../tests/fixtures/hazard/forbid_overflow.cedar");

/// Plain settings. A refusal has the status 403, whatever its reason: the real table is Envoy's.
pub(in crate::pipeline) fn staging() -> Staging {
    Staging {
        paths: PathRules::default(),
        context: Context::new(&context::Settings::default()).unwrap(),
        claims: ClaimReader::default(),
        status: |decision| if decision.allowed() { 200 } else { 403 },
        clock: Arc::new(SystemClock),
    }
}

fn snapshot(policies: &str) -> Snapshot {
    snapshot_with(policies, API)
}

fn snapshot_with(policies: &str, api: &str) -> Snapshot {
    let document = |name: &str, text: &str| Document {
        path: PathBuf::from(name),
        text: text.to_owned(),
    };
    let files = BundleFiles {
        schema: vec![document("s.cedarschema", SCHEMA)],
        policies: vec![document("p.cedar", policies)],
        apis: vec![document("orders.yaml", api)],
        ..BundleFiles::default()
    };
    Snapshot::compile(&files, Path::new(""), &SystemClock).unwrap()
}

fn tests(text: &str) -> Vec<Document> {
    vec![Document {
        path: PathBuf::from("tests/t.yaml"),
        text: text.to_owned(),
    }]
}

fn read(text: &str) -> Result<Suites, Vec<String>> {
    Suites::read(&tests(text)).map_err(|problems| told(&problems))
}

fn told(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

const POLICIES: &str = r#"
@id("viewers") permit (principal in Cardea::Role::"viewer", action, resource);
@id("not-at-night") forbid (principal, action, resource)
when { context.time.localTime < duration("6h") };
@id("never") permit (principal == Cardea::User::"x|y", action, resource);
"#;

fn run(cases: &str) -> Report {
    read(cases).unwrap().run(&snapshot(POLICIES), &staging())
}

#[test]
fn cases_pass_and_fail_with_every_difference() {
    let report = run("
base:
  given: { caller: { roles: viewer }, request: { path: /v1/orders/7 } }
cases:
  - name: viewers read
    expect: { verdict: allow, status: 200, policies: [viewers], operation: orders.getOrder, errors: [] }
  - name: others do not
    given: { caller: { roles: [] } }
    expect:
      verdict: allow
      reason: permitted
      status: 200
      policies: [viewers]
      policies_include: null
      step_up: { max_age: 300 }
");
    assert!(report.cases[0].passed());
    assert_eq!((report.failed(), report.left_out), (1, 0));
    assert_eq!(
        report.cases[1].complaints(),
        [
            "verdict: expected allow, found deny",
            "reason: expected permitted, found not_permitted",
            "status: expected 200, found 403",
            "policies: expected [viewers], found []",
            "step_up: expected max_age 300, found none",
        ]
    );
}

#[test]
fn policies_are_compared_as_sets_or_as_a_part() {
    let report = run("
- name: exactly
  given: { caller: { roles: [viewer] }, request: { path: / } }
  expect: { policies: [viewers, viewers] }
- name: among others
  given: { caller: { roles: [viewer] }, request: { path: / } }
  expect: { policies_include: [viewers, never] }
");
    assert!(report.cases[0].passed());
    assert_eq!(
        report.cases[1].complaints(),
        ["policies_include: expected [viewers, never], found [viewers]"]
    );
}

#[test]
fn coverage_names_the_policies_that_no_case_made_determining() {
    let report = run("
- { name: one, given: { caller: { roles: [viewer] }, request: { path: / } }, expect: { verdict: allow } }
- { name: two, given: { at: 2026-01-05T05:59:59Z, request: { path: / } }, expect: { policies: [not-at-night] } }
");
    assert_eq!(report.failed(), 0);
    let coverage = report.coverage;
    assert_eq!(
        (coverage.reached, coverage.policies(), coverage.percent()),
        (2, 3, 66)
    );
    assert_eq!(
        coverage.missed,
        [(PathBuf::from("p.cedar"), 5, "never".to_owned())]
    );
}

#[test]
fn a_case_that_does_not_say_when_is_at_the_usual_time() {
    assert_eq!(USUAL_TIME.to_string(), "2026-01-05T12:00:00Z");
    let supposed = given("{ request: { path: / } }").unwrap();
    assert_eq!(
        (supposed.arrival.at, supposed.facts.moment.weekday),
        (USUAL_TIME, 1)
    );
}

#[test]
fn a_policy_that_errors_is_found_and_compared() {
    let suites = read(
        "
base: { given: { request: { path: / }, signals: { rateRatioPct: 9223372036854775807 } } }
cases:
  - { name: named, expect: { verdict: deny, reason: policy_error, errors: [forbid-overflow] } }
  - { name: not named, expect: { errors: [] } }
",
    );
    let report = suites.unwrap().run(&snapshot(OVERFLOW), &staging());
    assert!(
        report.cases[0].passed(),
        "{:?}",
        report.cases[0].complaints()
    );
    assert_eq!(
        report.cases[1].complaints(),
        ["errors: expected [], found [forbid-overflow]"]
    );
}

#[test]
fn a_case_says_only_what_differs_from_its_base() {
    let suites = read("
base:
  given:
    caller: { subject: alice, roles: [viewer], tenant: acme }
    request: { host: a.example, path: /a, headers: { x-one: '1' } }
    risk: { score: 90 }
  expect: { verdict: deny }
cases:
  - { name: member by member, given: { caller: { tenant: globex }, request: { headers: { x-two: ['2', '3'] } } } }
  - { name: null takes away, given: { caller: { tenant: null, roles: null }, risk: null } }
  - { name: rivals replace, given: { token: { sub: bob }, request: { url: 'http://b.example/b' } } }
  - { name: lists replace, given: { caller: { roles: [editor] } }, expect: { verdict: allow } }
")
    .unwrap();
    let supposed: Vec<Supposed> = suites
        .cases
        .iter()
        .map(|case| case.given.clone().suppose(&staging(), USUAL_TIME).unwrap())
        .collect();
    let caller = |index: usize| supposed[index].caller.clone().unwrap();
    let request = |index: usize| supposed[index].request.as_ref().unwrap();
    assert_eq!(
        (caller(0).subject.as_str(), caller(0).tenant.as_deref()),
        ("alice", Some("globex"))
    );
    assert_eq!(request(0).headers.single("x-one"), Some("1"));
    assert_eq!(request(0).headers.values("x-two").count(), 2);
    assert_eq!(
        (caller(1).tenant.as_deref(), caller(1).roles.len()),
        (None, 0)
    );
    assert_eq!(
        (supposed[0].facts.risk.score, supposed[1].facts.risk.score),
        (90, 0)
    );
    assert_eq!(
        (caller(2).subject.as_str(), request(2).host.as_str()),
        ("bob", "b.example")
    );
    assert_eq!(caller(3).roles, ["editor"]);
    assert_eq!(
        suites
            .cases
            .iter()
            .map(|case| case.line)
            .collect::<Vec<_>>(),
        [9, 10, 11, 12]
    );
}

#[test]
fn every_mistake_in_a_file_has_its_place() {
    for (text, expected) in [
        ("- name: [", "tests/t.yaml:1:"),
        (
            "- name: a\n  given: { caler: {} }\n  expect: { verdict: deny }",
            "tests/t.yaml:2:12: unknown field `caler`",
        ),
        (
            "- name: a\n  given: {}\n  expect: { verdict: maybe }",
            "tests/t.yaml:3:",
        ),
        (
            "- name: a\n  given: { at: noon }\n  expect: {}",
            "tests/t.yaml:2:",
        ),
        (
            "- name: a\n  given: { request: { client_address: here } }\n",
            "tests/t.yaml:2:",
        ),
        (
            "- name: a\n  given: { caller: somebody }\n",
            "tests/t.yaml:2:",
        ),
        (
            "- name: a\n  given: { caller: { kind: robot } }\n",
            "tests/t.yaml:2:",
        ),
        ("- name: a\n  name: b\n", "tests/t.yaml:2:"),
        ("cases: []\nbases: {}", "tests/t.yaml:2:"),
        ("base: {}", "tests/t.yaml:1:"),
        ("just text", "tests/t.yaml:1:"),
        (
            "# first\n- given: {}\n  expect: { verdict: deny }",
            "tests/t.yaml:2:1: a case needs a `name`",
        ),
        (
            "- name: a\n",
            "tests/t.yaml:1:1: the case `a` expects nothing",
        ),
        (
            "- { name: a, expect: { status: 200 } }\n- { name: a, expect: { status: 200 } }",
            "tests/t.yaml:2:1: another case of this file is called `a` too",
        ),
        ("base: { given: 7 }\ncases: []", "tests/t.yaml:1:"),
    ] {
        let problems = read(text).unwrap_err();
        assert!(problems[0].starts_with(expected), "{text}: {problems:?}");
    }
    for nothing in ["", "# nothing yet\n", "[]", "cases: []"] {
        assert!(read(nothing).unwrap().cases.is_empty(), "{nothing:?}");
    }
}

#[test]
fn every_file_is_read_even_if_one_is_malformed() {
    let mut files = tests("- name: [");
    files.extend(tests("- name: a"));
    assert_eq!(Suites::read(&files).unwrap_err().len(), 2);
}

#[test]
fn nesting_size_and_number_are_bounded() {
    let deep = format!(
        "- name: a\n  given: {{ token: {{ sub: {}{} }} }}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(read(&deep).unwrap_err()[0].starts_with("tests/t.yaml:2:"));
    let large = format!("- name: {}", "a".repeat(9 * 1024 * 1024));
    assert!(read(&large).unwrap_err()[0].contains("too large"));
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned()
        + &(1..9).fold(String::new(), |mut text, level| {
            let items = format!("*a{level}, ").repeat(9).replace("*a1,", "*a,");
            let _ = writeln!(text, "b{level}: &a{} [{items}]", level + 1);
            text
        });
    assert!(read(&bomb).is_err());
    let mut many = String::new();
    for number in 0..=MAX_CASES {
        let _ = writeln!(many, "- {{ name: n{number}, expect: {{ verdict: deny }} }}");
    }
    let problems = read(&many).unwrap_err();
    assert_eq!(
        problems,
        ["tests/t.yaml: the tests hold more than 10000 cases"]
    );
}

fn given(text: &str) -> Result<Supposed, String> {
    let given: Given = crate::model::yaml::parse(text).map_err(|problem| problem.to_string())?;
    given.suppose(&staging(), USUAL_TIME)
}

fn full() -> Supposed {
    given("
caller:
  { kind: agent, issuer: i, subject: s, client_id: c, roles: [r], groups: g, tenant: t, scopes: a b, audience: [x, y],
    acr: gold, amr: pwd, assurance: 2, mfa: true, auth_time: 2026-01-01T00:00:00Z, sender_constrained: true,
    claims: { dept: [1, sales], vip: true } }
request:
  { method: POST, url: 'http://API.example.com:8080/v1/orders?x=1&y=2', headers: { Accept: text/html }, body: { a: [1] },
    client_address: '::ffff:192.0.2.7', sni: Api.example.com, mutual_tls: spiffe://a/b }
at: 2026-01-04T23:30:00+01:00
device: { known: true, managed: true, platform: macos, assessed_at: 2026-01-01T00:00:00Z }
geo: { known: true, country: DE, inOffice: true }
network: { ip_trusted: true }
risk: { score: 70, level: high, reasons: [new-device] }
signals: { quarantined: true, distinct_objects: 3 }
delegation: { subject: i|u, agent: i|s, depth: 2, scopes: a, purpose: p, humanApproved: true }
emergency: { ticket: T1 }
")
    .unwrap()
}

#[test]
fn a_service_account_is_supposed_by_its_name() {
    let web = given(
        "
caller: { service_account: shop/web, issuer: https://cluster, groups: 'system:serviceaccounts:shop' }
request: { path: / }
",
    );
    let web = web.unwrap().caller.unwrap();
    assert_eq!(
        (web.kind, web.scheme),
        (crate::model::PrincipalKind::Workload, "kubernetes")
    );
    assert_eq!(
        web.principal_id(),
        "https://cluster|system:serviceaccount:shop:web"
    );
    assert_eq!(web.groups, ["system:serviceaccounts:shop"]);
    let wrong = given("caller: { service_account: shop }").unwrap_err();
    assert!(wrong.contains("is no service account"), "{wrong}");
}

#[test]
fn the_caller_that_is_given_is_the_one_that_is_judged() {
    let caller = full().caller.unwrap();
    assert_eq!(
        (
            &*caller.issuer,
            caller.subject.as_str(),
            caller.client_id.as_deref()
        ),
        ("i", "s", Some("c"))
    );
    assert_eq!(
        (caller.roles.as_slice(), caller.groups.as_slice()),
        (&["r".to_owned()][..], &["g".to_owned()][..])
    );
    assert_eq!(
        (caller.scopes.as_slice(), caller.audience.len()),
        (&["a".to_owned(), "b".to_owned()][..], 2)
    );
    assert_eq!(
        (caller.assurance, caller.mfa, caller.sender_constrained()),
        (2, true, true)
    );
    assert_eq!(
        (
            caller.claims["dept"].join(","),
            caller.claims["vip"].join(",")
        ),
        ("1,sales".into(), "true".into())
    );
}

#[test]
fn the_request_and_the_facts_that_are_given_are_those_that_are_judged() {
    let supposed = full();
    let request = supposed.request.unwrap();
    assert_eq!(
        (
            request.method.as_str(),
            request.host.as_str(),
            request.path.as_str()
        ),
        ("POST", "api.example.com", "/v1/orders")
    );
    assert_eq!(
        (request.scheme.as_str(), request.query.pairs().len()),
        ("http", 2)
    );
    assert_eq!(
        (
            request.headers.single("accept"),
            request.body.bytes.as_slice()
        ),
        (Some("text/html"), br#"{"a":[1]}"#.as_slice())
    );
    assert_eq!(request.peer.principal.as_deref(), Some("spiffe://a/b"));
    let facts = supposed.facts;
    assert_eq!(facts.network.ip, Some([192, 0, 2, 7].into()));
    assert!(
        facts.network.ip_trusted && facts.tls.mutual && facts.device.managed && facts.geo.in_office
    );
    assert_eq!(
        (facts.tls.sni.as_deref(), facts.geo.country.as_str()),
        (Some("api.example.com"), "DE")
    );
    assert_eq!(
        (facts.moment.now, facts.moment.weekday),
        ("2026-01-04T22:30:00Z".parse().unwrap(), 7)
    );
    assert_eq!((facts.risk.score, facts.risk.level.as_str()), (70, "high"));
    assert!(facts.signals.quarantined && facts.delegation.unwrap().human_approved);
    assert_eq!(
        facts.emergency.unwrap().expires_at,
        "2026-01-04T23:30:00Z".parse().unwrap()
    );
}

#[test]
fn a_workload_is_supposed_by_its_spiffe_id_as_the_caller_and_beside_it() {
    let id = "spiffe://example.com/ns/shop/sa/web";
    let peer = |supposed: &Supposed| {
        let peer = supposed.facts.tls.peer.as_ref();
        peer.map(|peer| peer.attributes().unwrap().subject.clone())
    };
    let text = format!("{{ caller: {{ spiffe_id: '{id}' }}, request: {{ path: / }} }}");
    let supposed = given(&text).unwrap();
    assert_eq!(peer(&supposed).as_deref(), Some(id));
    let caller = supposed.caller.unwrap();
    assert_eq!(
        (&*caller.issuer, caller.scheme),
        ("spiffe://example.com", "certificate")
    );
    let text = format!("{{ caller: {{ roles: r }}, request: {{ path: /, mutual_tls: '{id}' }} }}");
    let supposed = given(&text).unwrap();
    assert_eq!(peer(&supposed).as_deref(), Some(id));
    assert_eq!(supposed.caller.unwrap().scheme, "bearer_jwt");
    let supposed = given("{ request: { path: /, mutual_tls: a.example } }").unwrap();
    assert!(supposed.facts.tls.mutual && supposed.facts.tls.peer.is_none());
    let error = given("{ caller: { spiffe_id: 'spiffe://A/b' }, request: { path: / } }");
    assert!(error.unwrap_err().contains("SPIFFE ID"));
}

#[test]
fn what_is_left_out_stands_on_the_strict_side() {
    let supposed = given("{ request: { path: /x } }").unwrap();
    assert!(supposed.caller.is_none());
    let request = supposed.request.unwrap();
    assert_eq!(
        (
            request.method.as_str(),
            request.host.as_str(),
            request.scheme.as_str()
        ),
        ("GET", "localhost", "https")
    );
    let facts = supposed.facts;
    assert!(
        !facts.network.ip_trusted && !facts.tls.mutual && !facts.device.known && !facts.geo.known
    );
    assert!(facts.network.ip.is_none() && facts.delegation.is_none() && facts.emergency.is_none());
    let caller = given("{ caller: { kind: client }, request: { path: / } }")
        .unwrap()
        .caller
        .unwrap();
    assert_eq!(
        (
            caller.subject.as_str(),
            caller.client_id.as_deref(),
            caller.scheme
        ),
        ("somebody", Some("somebody"), "bearer_jwt")
    );
}

#[test]
fn a_case_that_supposes_no_request_says_what_is_missing() {
    for (text, expected) in [
        ("{ caller: anonymous }", "neither `url` nor `path`"),
        ("{ request: { url: /x } }", "`url` is not like"),
        ("{ request: { url: 'ftp://a/x' } }", "`url` is not like"),
        ("{ request: { url: 'https://a?x' } }", "no path before it"),
        (
            "{ request: { url: 'https://a/x', host: a } }",
            "in place of",
        ),
        (
            "{ caller: anonymous, token: {}, request: { path: / } }",
            "in place of `caller`",
        ),
        (
            "{ request: { path: /, headers: { 'a b': x } } }",
            "no token",
        ),
        (
            "{ request: { path: /, headers: { a: \"x\\r\\ny\" } } }",
            "CR, LF or NUL",
        ),
    ] {
        let error = given(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let report = run("- { name: a, given: { caller: anonymous }, expect: { verdict: deny } }");
    assert_eq!(
        (report.failed(), report.cases[0].complaints().len()),
        (1, 1)
    );
}

#[test]
fn a_request_without_one_reading_is_refused_as_it_would_be() {
    for (request, reason) in [
        ("{ path: /a/../b }", "ambiguous_path"),
        ("{ path: a }", "ambiguous_path"),
        ("{ path: '/a?b=%ff' }", "ambiguous_query"),
        ("{ path: /a, host: 'b c' }", "ambiguous_host"),
        ("{ url: 'https://me@b/a' }", "ambiguous_host"),
        ("{ path: /a, method: get }", "unknown_method"),
        (
            "{ path: '/v1/orders?limit=1&limit=2' }",
            "repeated_parameter",
        ),
    ] {
        let text = format!("{{ caller: {{ roles: viewer }}, request: {request} }}");
        let decision = snapshot(POLICIES).rehearse(given(&text).unwrap());
        assert_eq!(decision.reason_code(), reason, "{request}");
        assert!(matches!(decision.outcome, Outcome::Refused(_)));
    }
}

#[test]
fn claims_that_no_valid_token_has_are_refused() {
    let supposed = given("{ token: { sub: a, exp: 1 }, request: { path: / } }").unwrap();
    assert_eq!(
        snapshot(POLICIES).rehearse(supposed).reason_code(),
        "credential_invalid"
    );
    let supposed = given("{ token: { sub: a, roles: [viewer] }, request: { path: / } }").unwrap();
    assert!(snapshot(POLICIES).rehearse(supposed).allowed());
}

#[test]
fn a_failing_case_is_a_problem_with_its_place_and_its_difference() {
    let wrong =
        "- { name: in vain, given: { request: { path: / } }, expect: { verdict: allow } }\n";
    let problems = examine(&snapshot(POLICIES), &tests(wrong), &staging()).unwrap_err();
    assert_eq!(
        told(&problems),
        ["tests/t.yaml:1:1: the test `in vain` fails: verdict: expected allow, found deny"]
    );
    let right = wrong.replace("allow", "deny");
    assert_eq!(
        examine(&snapshot(POLICIES), &tests(&right), &staging()),
        Ok(())
    );
    assert_eq!(examine(&snapshot(POLICIES), &[], &staging()), Ok(()));
}

/// A clock on which every look takes ten seconds.
#[derive(Debug)]
struct Slow(ManualClock);

impl Clock for Slow {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> std::time::Instant {
        self.0.advance(Duration::from_secs(10));
        self.0.monotonic()
    }
}

#[test]
fn tests_that_take_too_long_are_a_problem_that_names_the_limit() {
    let mut many = String::new();
    for number in 0..9 {
        let _ = writeln!(
            many,
            "- {{ name: n{number}, given: {{ request: {{ path: / }} }}, expect: {{ verdict: deny }} }}"
        );
    }
    let staging = Staging {
        clock: Arc::new(Slow(ManualClock::at(USUAL_TIME))),
        ..staging()
    };
    let problems = examine(&snapshot(POLICIES), &tests(&many), &staging).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .message
            .starts_with("the tests took longer than 30s: "),
        "{}",
        problems[0]
    );
    let all = Suites::read(&tests(&many))
        .unwrap()
        .run(&snapshot(POLICIES), &staging);
    assert_eq!((all.cases.len(), all.failed()), (9, 0));
}

#[test]
fn many_failures_are_summed_up() {
    let mut many = String::new();
    for number in 0..150 {
        let _ = writeln!(
            many,
            "- {{ name: n{number}, given: {{ request: {{ path: / }} }}, expect: {{ verdict: allow }} }}"
        );
    }
    let problems = examine(&snapshot(POLICIES), &tests(&many), &staging()).unwrap_err();
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100].message, "and 50 more tests fail");
}

#[test]
fn a_rehearsal_leaves_no_deadline_and_no_trace() {
    let Arrival {
        deadline,
        trace_parent,
        grpc,
        ..
    } = given("{ request: { path: / } }").unwrap().arrival;
    assert!(deadline.is_none() && trace_parent.is_none() && !grpc);
}

#[test]
fn what_would_have_been_on_an_observed_operation_can_be_expected() {
    let api = API.replacen("  api: orders\n", "  api: orders\n  observe: true\n", 1);
    let suites = read(
        "cases:
  - name: nobody permits it
    given: { caller: anonymous, request: { path: /v1/orders } }
    expect: { verdict: allow, reason: observed, would_be: credential_missing, status: 200, policies: [] }
  - name: a forbid holds
    given: { caller: anonymous, request: { path: /v1/orders }, at: '2026-11-21T03:00:00Z' }
    expect: { verdict: deny, reason: forbidden, would_be: none, policies: [not-at-night] }
  - name: not so
    given: { caller: anonymous, request: { path: /v1/orders } }
    expect: { would_be: forbidden }
",
    );
    let report = suites
        .unwrap()
        .run(&snapshot_with(POLICIES, &api), &staging());
    let complaints: Vec<_> = report.cases.iter().map(CaseReport::complaints).collect();
    assert_eq!(
        complaints,
        [
            vec![],
            vec![],
            vec!["would_be: expected forbidden, found credential_missing".to_owned()]
        ]
    );
}

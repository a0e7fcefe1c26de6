use std::fs;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::*;
use crate::model::{
    AccessRequest, Arrival, Body, CanonicalPath, Facts, Host, PathRules, Period, SystemClock,
};
use crate::pipeline::{BundleSettings, Supposed};

const SCHEMA: &str = include_str!("../../../policies/schema/cardea.cedarschema");
const PERMIT: &str = "permit (principal, action, resource);";

fn bundle(policy: &str) -> (tempfile::TempDir, Arc<Snapshots>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.cedarschema"), SCHEMA).unwrap();
    fs::write(folder.path().join("p.cedar"), policy).unwrap();
    let settings = BundleSettings {
        path: folder.path().to_path_buf(),
        poll: Period::millis(50),
        ..BundleSettings::default()
    };
    let snapshots = Arc::new(
        Snapshots::new(
            settings,
            Arc::new(SystemClock),
            Arc::new(crate::pipeline::trial::staging()),
        )
        .unwrap(),
    );
    snapshots.load().unwrap();
    (folder, snapshots)
}

/// A decision as the server makes it: an anonymous `GET /x` on the live snapshot.
#[expect(clippy::disallowed_methods, reason = "an arrival needs some instant")]
fn decide(live: &Snapshot) -> Decision {
    let request = AccessRequest::bare(
        Host::parse("api.example.com").unwrap(),
        CanonicalPath::parse("/x", PathRules::default()).unwrap(),
    );
    let arrival = Arrival {
        at: Timestamp::UNIX_EPOCH,
        started: Instant::now(),
        deadline: None,
        trace_parent: None,
        grpc: false,
    };
    live.rehearse(Supposed {
        arrival,
        request: Ok(request),
        caller: None,
        facts: Facts::default(),
    })
}

/// A runtime that is never driven: nothing is taken from a queue.
fn idle_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

async fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn a_shadow_policy_decides_nothing_and_says_what_it_would_have_decided() {
    let shadow_forbid = r#"@id("soon") @mode("shadow") forbid (principal, action, resource);"#;
    let (_folder, live) = bundle(&format!("{PERMIT}{shadow_forbid}"));
    let snapshot = live.current().unwrap();
    let shadow = Shadow::start(None, &Handle::current());
    for _ in 0..7 {
        let decision = decide(&snapshot);
        assert!(decision.allowed(), "a shadow policy never decides");
        shadow.consider(decision, live.current());
    }
    eventually("all are looked at", || shadow.disagreements() == 7).await;
    let report = shadow.report();
    let line = &report["disagreements"][0];
    assert_eq!(line["by"], "shadow_policies");
    assert_eq!(
        (&line["operation"], &line["change"]),
        (&json!("http:GET"), &json!("newly_denied"))
    );
    assert_eq!(
        (&line["count"], line["examples"].as_array().unwrap().len()),
        (&json!(7), EXAMPLES)
    );
    let example = &line["examples"][0];
    assert_eq!(example["request"], "GET /x");
    assert_eq!(
        (&example["was"], &example["would_be"]),
        (&json!("permitted"), &json!("forbidden"))
    );
    assert_eq!(example["policies"], json!(["soon"]));
}

#[tokio::test]
async fn a_candidate_bundle_is_asked_about_every_decision() {
    let (_one, live) = bundle("permit (principal is Cardea::User, action, resource);");
    let (_other, candidate) = bundle(PERMIT);
    let shadow = Shadow::start(Some(candidate), &Handle::current());
    let decision = decide(&live.current().unwrap());
    assert!(!decision.allowed());
    shadow.consider(decision, live.current());
    eventually("it is looked at", || shadow.disagreements() == 1).await;
    let report = shadow.report();
    assert_eq!(report["disagreements"][0]["by"], "candidate");
    assert_eq!(report["disagreements"][0]["change"], "newly_allowed");
    assert_eq!(report["candidate_problems"], json!([]));
}

#[tokio::test]
async fn agreement_is_not_listed() {
    let (_folder, live) = bundle(PERMIT);
    let (_other, same) = bundle(&format!("{PERMIT} // the same"));
    let (_third, stricter) = bundle("permit (principal is Cardea::User, action, resource);");
    let shadow = Shadow::start(Some(same), &Handle::current());
    for decides in [&live, &live, &stricter] {
        shadow.consider(decide(&decides.current().unwrap()), live.current());
    }
    // Decisions are looked at in their order: with the last one, all were.
    eventually("the last one is looked at", || shadow.disagreements() == 1).await;
    assert_eq!(shadow.report()["disagreements"][0]["count"], 1);
}

#[test]
fn nobody_in_the_shadows_costs_nothing() {
    let idle = idle_runtime();
    let (_folder, live) = bundle(PERMIT);
    let shadow = Shadow::start(None, idle.handle());
    for _ in 0..QUEUE + 3 {
        shadow.consider(decide(&live.current().unwrap()), live.current());
    }
    assert_eq!(shadow.dropped(), 0, "something was queued");
}

#[test]
fn a_full_queue_drops_and_counts() {
    let idle = idle_runtime();
    let (_folder, live) = bundle(PERMIT);
    let shadow = Shadow::start(Some(Arc::clone(&live)), idle.handle());
    for _ in 0..QUEUE + 3 {
        shadow.consider(decide(&live.current().unwrap()), live.current());
    }
    assert_eq!(shadow.dropped(), 3);
}

#[test]
fn what_waits_holds_no_body_and_no_credential_and_is_judged_the_same() {
    let (_folder, live) = bundle(
        "permit (principal, action, resource) when { context.request.bodyBytes == 1048576 };",
    );
    let snapshot = live.current().unwrap();
    let mut decision = decide(&snapshot);
    let request = decision.trail.request.as_mut().unwrap();
    request.body = Body {
        bytes: vec![0; 1 << 20],
        truncated: false,
        length: 1 << 20,
    };
    request.headers = Headers::new(vec![(
        "authorization".to_owned(),
        b"Bearer s3cret".to_vec(),
    )]);
    let before = snapshot.reconsider(&decision).unwrap().1;
    lighten(&mut decision);
    let request = decision.trail.request.as_ref().unwrap();
    assert!(request.body.bytes.is_empty() && request.headers.names().next().is_none());
    let after = snapshot.reconsider(&decision).unwrap().1;
    assert!(before.verdict.permitted() && after.verdict.permitted());
}

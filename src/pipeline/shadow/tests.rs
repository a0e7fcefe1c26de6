use std::fs;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::*;
use crate::model::{
    AccessRequest, Arrival, Body, CanonicalPath, Facts, Headers, Host, Method, PathRules, Peer,
    Period, Query, Scheme, SystemClock,
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
    let request = AccessRequest {
        id: "r".to_owned(),
        method: Method::Get,
        scheme: Scheme::Https,
        host: Host::parse("api.example.com").unwrap(),
        path: CanonicalPath::parse("/x", PathRules::default()).unwrap(),
        query: Query::default(),
        headers: Headers::default(),
        body: Body::default(),
        client_address: None,
        peer: Peer::default(),
        sni: None,
        context_extensions: BTreeMap::new(),
        metadata: BTreeMap::new(),
        route_metadata: BTreeMap::new(),
    };
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
async fn agreement_is_not_listed_and_nobody_in_the_shadows_costs_nothing() {
    let (_folder, live) = bundle(PERMIT);
    let shadow = Shadow::start(None, &Handle::current());
    shadow.consider(decide(&live.current().unwrap()), live.current());
    let (_other, same) = bundle(&format!("{PERMIT} // the same"));
    let compared = Shadow::start(Some(same), &Handle::current());
    compared.consider(decide(&live.current().unwrap()), live.current());
    tokio::time::sleep(Duration::from_millis(200)).await;
    for shadow in [shadow, compared] {
        assert_eq!((shadow.disagreements(), shadow.dropped()), (0, 0));
        assert_eq!(shadow.report()["disagreements"], json!([]));
    }
}

#[test]
fn a_full_queue_drops_and_counts() {
    // A runtime that is never driven: nothing is taken from the queue.
    let idle = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (_folder, live) = bundle(PERMIT);
    let shadow = Shadow::start(Some(Arc::clone(&live)), idle.handle());
    for _ in 0..QUEUE + 3 {
        shadow.consider(decide(&live.current().unwrap()), live.current());
    }
    assert_eq!(shadow.dropped(), 3);
}

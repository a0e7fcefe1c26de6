//! Decisions to record, for tests, with canaries wherever telemetry may not look; and a page to log them on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{
    AccessRequest, Api, Arrival, Body, Caller, Clock, ColdStep, Decision, DecisionCache, Host,
    IdentityAttributes, Lifecycle, Matched, Method, Operation, Outcome, Peer, Permit,
    PrincipalKind, Query, Reason, Refusal, ResourceRule, Route, Scheme, SnapshotId, SystemClock,
    TraceParent, Trail, VerifiedIdentity,
};
use crate::model::{CanonicalPath, Headers, PathRules};

/// What no signal may ever hold.
pub(super) const CANARIES: [&str; 9] = [
    "CANARY-token",
    "CANARY-cookie",
    "CANARY-key",
    "CANARY-body",
    "CANARY-query",
    "CANARY-claim",
    "CANARY-jti",
    "CANARY-parameter",
    "CANARY-extension",
];

pub(super) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub(super) const PARENT: &str = "00f067aa0ba902b7";

/// An allowed, warm decision of Alice's on a documented operation, in a sampled trace.
pub(super) fn allowed() -> Decision {
    let mut trail = Trail::begin(arrival("01"));
    trail.snapshot = Some(SnapshotId::new("d1gest"));
    trail.request = Some(request("/v1/orders/42"));
    trail.matched = Some(matched("orders.getOrder"));
    trail.caller = Some(alice("alice"));
    trail.cache_hit = Some(true);
    trail.decision_cache = Some(DecisionCache::Hit);
    trail.determining = vec!["owner-reads".into(), "staff-reads".into()];
    Decision {
        outcome: Outcome::Allowed(Permit::assertion()),
        trail,
        took: Duration::from_micros(40),
    }
}

/// The same, refused.
pub(super) fn refused(reason: Reason) -> Decision {
    let mut decision = allowed();
    decision.outcome = Outcome::Refused(Refusal::new(reason, "a sentence for operators"));
    decision
}

/// The same, refused by nobody only because the operation is observed.
pub(super) fn observed(reason: Reason) -> Decision {
    let mut decision = allowed();
    let refusal = Refusal::new(reason, "a sentence for operators");
    decision.outcome = Outcome::Observed(Permit::assertion(), refusal);
    decision
}

/// The same request, with a slow step 10 us after its arrival that took 300 us.
pub(super) fn with_a_cold_step(mut decision: Decision) -> Decision {
    let began = decision.trail.arrival.started + Duration::from_micros(10);
    decision.trail.cold.push(ColdStep {
        name: "verify token",
        began,
        took: Duration::from_micros(300),
    });
    decision
}

/// The same decision, in a trace with these flags, or in none.
pub(super) fn in_trace(mut decision: Decision, flags: Option<&str>) -> Decision {
    decision.trail.arrival.trace_parent = flags.and_then(parent);
    decision
}

pub(super) fn matched(id: &str) -> Matched {
    let api = Arc::new(Api {
        name: "orders".into(),
        version: "1".into(),
        lifecycle: Lifecycle::Active,
        sunset: None,
        exposure: "public".into(),
        owner: None,
        data_classes: Vec::new(),
    });
    let route = Arc::new(Route {
        id: "GET /v1/orders/{orderId}".into(),
        api,
        template: "/v1/orders/{orderId}".into(),
        sensitivity: 1,
        tags: Vec::new(),
        lifecycle: Lifecycle::Active,
    });
    Matched {
        operation: Arc::new(Operation {
            id: id.into(),
            documented: true,
            method: Method::Get,
            route,
            resource: ResourceRule::Route,
            observed: false,
            single_query_parameters: Vec::new(),
        }),
        parameters: vec![("orderId".into(), "CANARY-parameter".into())],
    }
}

pub(super) fn alice(subject: &str) -> Caller {
    Caller::Verified(Arc::new(VerifiedIdentity::assertion(IdentityAttributes {
        token_id: Some("CANARY-jti".into()),
        claims: BTreeMap::from([("team".into(), vec!["CANARY-claim".into()])]),
        ..IdentityAttributes::of(
            PrincipalKind::User,
            "bearer_jwt",
            ("https://id.example".into(), subject.into()),
            Timestamp::MAX,
        )
    })))
}

pub(super) fn request(path: &str) -> AccessRequest {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    AccessRequest {
        id: "req-1".into(),
        method: Method::Get,
        scheme: Scheme::Https,
        host: Host::parse("api.example.com").unwrap(),
        port: None,
        path: CanonicalPath::parse(path, PathRules::default()).unwrap(),
        query: Query::parse("access_token=CANARY-query").unwrap(),
        headers: Headers::new(vec![
            header("authorization", "Bearer CANARY-token"),
            header("cookie", "session=CANARY-cookie"),
            header("x-api-key", "CANARY-key"),
        ]),
        body: Body {
            bytes: b"CANARY-body".to_vec(),
            truncated: false,
            length: 11,
        },
        client_address: Some("203.0.113.7".parse().unwrap()),
        peer: Peer {
            certificate: Some(b"CANARY-key".to_vec()),
            ..Peer::default()
        },
        sni: None,
        context_extensions: BTreeMap::from([("k".into(), "CANARY-extension".into())]),
        metadata: BTreeMap::new(),
        route_metadata: BTreeMap::new(),
    }
}

fn arrival(flags: &str) -> Arrival {
    Arrival {
        at: "2026-03-01T12:00:00Z".parse().unwrap(),
        started: SystemClock.monotonic(),
        deadline: None,
        trace_parent: parent(flags),
        grpc: false,
    }
}

fn parent(flags: &str) -> Option<TraceParent> {
    TraceParent::parse(&format!("00-{TRACE}-{PARENT}-{flags}"), "vendor=state")
}

/// A page of log lines that can be read back.
#[derive(Clone, Default)]
pub(super) struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

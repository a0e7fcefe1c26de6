use std::io;
use std::sync::Mutex;
use std::time::SystemTime;

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::*;
use crate::model::{CredentialFault, Effect, PolicyFault, Reason, SecretRef};

const SOON: Duration = Duration::from_secs(20);

/// A collector that keeps what it is sent.
#[derive(Clone, Default, Debug)]
struct Collected {
    spans: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    keys: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collected {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let key = request.metadata().get("x-collector-key");
        let key = key.map(|key| key.to_str().unwrap().to_owned());
        self.keys.lock().unwrap().extend(key);
        self.spans.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collected {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Collected {
    async fn listen() -> (Self, String) {
        let (collected, port) = Self::listen_as(Server::builder()).await;
        (collected, format!("http://127.0.0.1:{port}"))
    }

    /// A collector with a certificate for `localhost`, and that certificate.
    async fn listen_with_tls() -> (Self, String, String) {
        let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = issued.cert.pem();
        let identity = Identity::from_pem(&certificate, issued.signing_key.serialize_pem());
        let tls = ServerTlsConfig::new().identity(identity);
        let server = Server::builder().tls_config(tls).unwrap();
        let (collected, port) = Self::listen_as(server).await;
        (collected, format!("https://localhost:{port}"), certificate)
    }

    async fn listen_as(mut server: Server) -> (Self, u16) {
        let collected = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = server
            .add_service(TraceServiceServer::new(collected.clone()))
            .add_service(MetricsServiceServer::new(collected.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (collected, port)
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.spans.lock().unwrap();
        requests
            .iter()
            .flat_map(|request| &request.resource_spans)
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| scope.spans.clone())
            .collect()
    }

    fn metric_names(&self) -> Vec<String> {
        let requests = self.metrics.lock().unwrap();
        requests
            .iter()
            .flat_map(|request| &request.resource_metrics)
            .flat_map(|resource| &resource.scope_metrics)
            .flat_map(|scope| &scope.metrics)
            .map(|metric| metric.name.clone())
            .collect()
    }
}

fn settings(endpoint: Option<String>) -> Settings {
    Settings {
        otlp: collector::Settings {
            endpoint,
            timeout: crate::model::Period::millis(500),
            ..collector::Settings::default()
        },
        log: logs::Settings {
            decisions: logs::Decisions::All,
            ..logs::Settings::default()
        },
        ..Settings::default()
    }
}

fn start(settings: &Settings) -> Arc<Telemetry> {
    let lines = Lines::start(io::sink()).unwrap();
    Telemetry::start_with(settings, &Handle::current(), lines).unwrap()
}

/// Starts telemetry with a collector, records, shuts down, and hands over what the collector got.
async fn collect(settings: impl FnOnce(&mut Settings), decisions: &[Decision]) -> Collected {
    let (collected, endpoint) = Collected::listen().await;
    let mut chosen = self::settings(Some(endpoint));
    settings(&mut chosen);
    let telemetry = start(&chosen);
    for decision in decisions {
        telemetry.record(decision);
    }
    assert!(telemetry.shutdown(SOON).await);
    collected
}

fn text(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key == name)?;
    Some(match found.value.clone()?.value? {
        Any::StringValue(text) => text,
        Any::BoolValue(value) => value.to_string(),
        Any::ArrayValue(values) => format!("{:?}", values.values),
        other => panic!("{name}: {other:?}"),
    })
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_nanos().try_into().unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[tokio::test]
async fn a_decision_is_a_span_below_envoys() {
    let collected = collect(|_| {}, &[samples::allowed()]).await;
    let spans = collected.spans();
    assert_eq!(spans.len(), 1);
    let span = &spans[0];
    assert_eq!(span.trace_id, bytes(samples::TRACE));
    assert_eq!(span.parent_span_id, bytes(samples::PARENT));
    assert_eq!(span.trace_state, "vendor=state");
    assert_eq!(span.name, "envoy.service.auth.v3.Authorization/Check");
    assert_eq!(span.kind, SpanKind::Server as i32);
    assert_eq!(span.status.clone().unwrap_or_default().code, 0);
    let begin: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    assert_eq!(span.start_time_unix_nano, nanos(begin.into()));
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 40_000);
    for (name, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "envoy.service.auth.v3.Authorization/Check"),
        ("http.request.method", "GET"),
        ("http.route", "/v1/orders/{orderId}"),
        ("url.path", "/v1/orders/42"),
        ("url.scheme", "https"),
        ("server.address", "api.example.com"),
        ("client.address", "203.0.113.7"),
        ("user.id", "alice"),
        ("cardea.principal.kind", "user"),
        ("cardea.principal.issuer", "https://id.example"),
        ("cardea.decision.verdict", "allow"),
        ("cardea.decision.reason", "permitted"),
        ("cardea.operation", "orders.getOrder"),
        ("cardea.snapshot", "d1gest"),
        ("cardea.cache.hit", "true"),
        ("cardea.decision.cache", "hit"),
        ("cardea.request.id", "req-1"),
    ] {
        assert_eq!(text(span, name).as_deref(), Some(value), "{name}");
    }
    let policies = text(span, "cardea.policies").unwrap();
    assert!(policies.contains("owner-reads") && policies.contains("staff-reads"));
    assert_eq!(text(span, "error.type"), None);
    assert_eq!(text(span, "url.query"), None);
}

#[tokio::test]
async fn slow_work_is_a_child_span_at_its_own_time() {
    let decision = samples::with_a_cold_step(samples::allowed());
    let collected = collect(|_| {}, &[decision]).await;
    let spans = collected.spans();
    assert_eq!(spans.len(), 2);
    let own = spans.iter().find(|s| s.name.ends_with("/Check")).unwrap();
    let step = spans.iter().find(|s| s.name == "verify token").unwrap();
    assert_eq!(step.trace_id, own.trace_id);
    assert_eq!(step.parent_span_id, own.span_id);
    assert_eq!(step.kind, SpanKind::Internal as i32);
    assert_eq!(step.start_time_unix_nano - own.start_time_unix_nano, 10_000);
    assert_eq!(step.end_time_unix_nano - step.start_time_unix_nano, 300_000);
}

#[tokio::test]
async fn refusals_are_no_errors_and_own_trouble_is_one() {
    let expired = Reason::CredentialInvalid(CredentialFault::Expired);
    let mut broken = samples::refused(Reason::PolicyError);
    broken.trail.faults.push(PolicyFault {
        policy: "guard".into(),
        effect: Effect::Forbid,
        message: "CANARY-claim overflows".into(),
    });
    let collected = collect(|_| {}, &[samples::refused(expired), broken]).await;
    let spans = collected.spans();
    assert_eq!(text(&spans[0], "cardea.decision.verdict").unwrap(), "deny");
    assert_eq!(
        text(&spans[0], "cardea.credential.fault").unwrap(),
        "expired"
    );
    assert_eq!(text(&spans[0], "error.type"), None);
    assert_eq!(spans[0].status.clone().unwrap_or_default().code, 0);
    assert_eq!(text(&spans[1], "error.type").unwrap(), "policy_error");
    assert!(
        text(&spans[1], "cardea.policies.failed")
            .unwrap()
            .contains("guard")
    );
    assert_eq!(spans[1].status.clone().unwrap().code, 2);
}

#[tokio::test]
async fn an_observed_request_is_told_as_what_it_would_have_been() {
    let collected = collect(|_| {}, &[samples::observed(Reason::NotPermitted)]).await;
    let span = &collected.spans()[0];
    for (name, value) in [
        ("cardea.decision.verdict", "allow"),
        ("cardea.decision.reason", "observed"),
        ("cardea.would_be", "not_permitted"),
    ] {
        assert_eq!(text(span, name).unwrap(), value, "{name}");
    }
    assert_eq!(text(span, "error.type"), None);
    let telemetry = start(&settings(None));
    telemetry.record(&samples::observed(Reason::NotPermitted));
    telemetry.record(&samples::allowed());
    let metrics = telemetry.render();
    assert!(
        metrics.contains(
            r#"cardea_observed_total{operation="orders.getOrder",reason="not_permitted"} 1"#
        ),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"cardea_decisions_total{operation="orders.getOrder",reason="observed",verdict="allow"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_unsampled_parent_exports_nothing() {
    let decision = || samples::with_a_cold_step(samples::allowed());
    let unsampled = samples::in_trace(decision(), Some("00"));
    let everything = |settings: &mut Settings| settings.traces.sample_ratio = 1.0;
    assert_eq!(collect(everything, &[unsampled]).await.spans(), []);
}

#[tokio::test]
async fn without_a_parent_the_ratio_decides() {
    let lone = || samples::in_trace(samples::with_a_cold_step(samples::allowed()), None);
    let nothing = |settings: &mut Settings| settings.traces.sample_ratio = 0.0;
    assert_eq!(collect(nothing, &[lone(), lone()]).await.spans(), []);
    let everything = |settings: &mut Settings| settings.traces.sample_ratio = 1.0;
    let spans = collect(everything, &[lone()]).await.spans();
    assert_eq!(spans.len(), 2);
    let own = spans.iter().find(|s| s.name.ends_with("/Check")).unwrap();
    assert!(own.parent_span_id.is_empty());
}

#[tokio::test]
async fn an_excessive_or_malformed_trace_state_is_left_out() {
    for state in ["x=y,".repeat(200), "no pair".to_owned()] {
        let mut decision = samples::allowed();
        if let Some(parent) = &mut decision.trail.arrival.trace_parent {
            parent.state = state;
        }
        let spans = collect(|_| {}, &[decision]).await.spans();
        assert_eq!(spans[0].trace_state, "");
        assert_eq!(spans[0].trace_id, bytes(samples::TRACE));
    }
}

#[tokio::test]
async fn collector_headers_come_from_their_secret_and_stay_out_of_debug() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "s3cret\n").unwrap();
    let secret = SecretRef::File(path);
    let add = |settings: &mut Settings| {
        settings
            .otlp
            .headers
            .insert("x-collector-key".into(), secret.clone());
    };
    let collected = collect(add, &[samples::allowed()]).await;
    assert_eq!(*collected.keys.lock().unwrap(), ["s3cret"]);
    let mut settings = settings(Some("http://127.0.0.1:9".into()));
    add(&mut settings);
    let telemetry = start(&settings);
    assert!(!format!("{telemetry:?}").contains("s3cret"));
    telemetry.shutdown(SOON).await;
}

#[tokio::test]
async fn a_collector_behind_tls_has_to_prove_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    for right in [true, false] {
        let (collected, endpoint, certificate) = Collected::listen_with_tls().await;
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let ca = if right { certificate } else { other.cert.pem() };
        std::fs::write(&path, ca).unwrap();
        let mut settings = settings(Some(endpoint));
        settings.otlp.ca_file = Some(path.clone());
        let telemetry = start(&settings);
        telemetry.record(&samples::allowed());
        assert_eq!(telemetry.shutdown(SOON).await, right);
        assert_eq!(collected.spans().len(), usize::from(right));
    }
}

#[tokio::test]
async fn metrics_arrive_by_otlp_too() {
    let collected = collect(|_| {}, &[samples::allowed()]).await;
    let names = collected.metric_names();
    for name in [
        "cardea.decisions",
        "cardea.decision.duration",
        "cardea.token.cache.lookups",
        "cardea.policy.errors",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} of {names:?}");
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let telemetry = start(&settings(None));
    telemetry.record(&samples::allowed());
    let expired = Reason::CredentialInvalid(CredentialFault::Expired);
    let mut refused = samples::with_a_cold_step(samples::refused(expired));
    refused.trail.cache_hit = Some(false);
    refused.trail.decision_cache = None;
    refused.trail.matched = None;
    telemetry.record(&refused);
    telemetry.panicked();
    telemetry.cancelled();
    let text = telemetry.render();
    for line in [
        r#"cardea_decisions_total{operation="orders.getOrder",reason="permitted",verdict="allow"} 1"#,
        r#"cardea_decisions_total{operation="unread",reason="credential_invalid",verdict="deny"} 1"#,
        r#"cardea_decision_duration_seconds_bucket{cold="false",verdict="allow",le="0.00002"} 0"#,
        r#"cardea_decision_duration_seconds_bucket{cold="false",verdict="allow",le="0.00005"} 1"#,
        r#"cardea_decision_duration_seconds_count{cold="true",verdict="deny"} 1"#,
        r#"cardea_token_cache_lookups_total{result="hit"} 1"#,
        r#"cardea_token_cache_lookups_total{result="miss"} 1"#,
        r#"cardea_decision_cache_lookups_total{result="hit"} 1"#,
        r#"cardea_credential_faults_total{fault="expired"} 1"#,
        r#"cardea_policy_errors_total{effect="forbid"} 0"#,
        "cardea_panics_total 1",
        "cardea_cancelled_total 1",
        r#"cardea_telemetry_dropped_total{signal="logs"} 0"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    assert!(text.contains(r#"service_name="cardea""#));
}

#[tokio::test]
async fn a_forbid_in_error_is_counted() {
    let telemetry = start(&settings(None));
    let mut decision = samples::refused(Reason::PolicyError);
    decision.trail.faults.push(PolicyFault {
        policy: "guard".into(),
        effect: Effect::Forbid,
        message: String::new(),
    });
    telemetry.record(&decision);
    let text = telemetry.render();
    assert!(text.contains(r#"cardea_policy_errors_total{effect="forbid"} 1"#));
    assert!(text.contains(r#"cardea_policy_errors_total{effect="permit"} 0"#));
}

/// An observation in which everything has a value of its own.
fn everything_seen() -> Observation {
    Observation {
        ready: true,
        keys: vec![IssuerKeys {
            issuer: "https://id.example".into(),
            age: Some(Duration::from_secs(90)),
            failures: 2,
            left_out: 1,
        }],
        bundle: Some(BundleInForce {
            digest: crate::model::SnapshotId::new("d1gest"),
            age: Duration::from_secs(5),
        }),
        bundle_stale: true,
        reload_failures: 3,
        cached_tokens: 7,
        judged_tokens: 6,
        revocations: RevocationsSeen {
            applied: vec![("subject", "ssf", 4)],
            entries: 3,
            evicted: 9,
            refused: 1,
            unsaved: true,
        },
        shared: Some(SharedSeen {
            connected: true,
            age: Duration::from_secs(6),
            waiting: 1,
            sent: 2,
            received: 3,
            dropped: vec![("version", 4)],
        }),
        signals: vec![StreamSeen {
            transmitter: "idp".into(),
            events: vec![("session-revoked", "applied", 6)],
            verified: Some(Duration::from_secs(11)),
            alive: Some(false),
            enabled: true,
            polled: Some(Duration::from_secs(12)),
            poll_failures: Some(5),
            keys_age: Some(Duration::from_secs(13)),
        }],
        minted: Some(MintSeen {
            signed: 6,
            failures: vec![("too_long", 2)],
            entries: 5,
            key_age: Some(Duration::from_secs(30)),
            stale: true,
        }),
        status_lists: vec![StatusListsSeen {
            issuer: "https://id.example".into(),
            held: 6,
            oldest: Some(Duration::from_secs(70)),
            failures: 5,
        }],
        remembered_judgements: 8,
        shadow_disagreements: 1,
        shadow_dropped: 2,
        observed_operations: 4,
    }
}

#[tokio::test]
async fn gauges_ask_the_application() {
    let telemetry = start(&settings(None));
    assert!(!telemetry.render().contains("cardea_bundle_info"));
    assert!(!telemetry.render().contains("cardea_mint"));
    assert!(telemetry.observe(everything_seen));
    assert!(!telemetry.observe(Observation::default));
    let text = telemetry.render();
    for line in [
        "cardea_ready 1",
        r#"cardea_keys_age_seconds{issuer="https://id.example"} 90"#,
        r#"cardea_keys_fetch_failures_total{issuer="https://id.example"} 2"#,
        r#"cardea_keys_left_out{issuer="https://id.example"} 1"#,
        r#"cardea_status_lists_held{issuer="https://id.example"} 6"#,
        r#"cardea_status_lists_age_seconds{issuer="https://id.example"} 70"#,
        r#"cardea_status_lists_fetch_failures_total{issuer="https://id.example"} 5"#,
        r#"cardea_bundle_info{digest="d1gest"} 1"#,
        "cardea_bundle_age_seconds 5",
        "cardea_bundle_stale 1",
        "cardea_bundle_reload_failures_total 3",
        "cardea_token_cache_entries 7",
        "cardea_token_verifications_total 6",
        "cardea_decision_cache_entries 8",
        "cardea_shadow_disagreements_total 1",
        r#"cardea_revocations_total{source="ssf",target="subject"} 4"#,
        "cardea_shared_state_connected 1",
        "cardea_shared_state_age_seconds 6",
        "cardea_shared_state_waiting 1",
        "cardea_shared_state_sent_total 2",
        "cardea_shared_state_received_total 3",
        r#"cardea_shared_state_dropped_total{reason="version"} 4"#,
        "cardea_revocations_entries 3",
        "cardea_revocations_evicted_total 9",
        "cardea_revocations_refused_total 1",
        "cardea_revocations_unsaved 1",
        "cardea_observed_operations 4",
        r#"cardea_signals_total{event="session-revoked",outcome="applied",transmitter="idp"} 6"#,
        r#"cardea_signals_stream_verified_age_seconds{transmitter="idp"} 11"#,
        r#"cardea_signals_stream_alive{transmitter="idp"} 0"#,
        r#"cardea_signals_stream_enabled{transmitter="idp"} 1"#,
        r#"cardea_signals_poll_age_seconds{transmitter="idp"} 12"#,
        r#"cardea_signals_poll_failures_total{transmitter="idp"} 5"#,
        r#"cardea_signals_keys_age_seconds{transmitter="idp"} 13"#,
        "cardea_mint_tokens_total 6",
        r#"cardea_mint_failures_total{reason="too_long"} 2"#,
        "cardea_mint_cache_entries 5",
        "cardea_mint_key_age_seconds 30",
        "cardea_mint_keys_stale 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn a_panic_in_a_gauge_leaves_the_other_metrics() {
    let telemetry = start(&settings(None));
    telemetry.observe(|| panic!("no"));
    telemetry.record(&samples::allowed());
    assert!(telemetry.render().contains("cardea_decisions_total{"));
}

#[tokio::test]
async fn s1_ten_thousand_operations_are_a_bounded_number_of_series() {
    let mut settings = settings(None);
    settings.metrics.max_operations = 50;
    settings.log.decisions = logs::Decisions::None;
    let telemetry = start(&settings);
    for number in 0..10_000 {
        let mut decision = samples::refused(Reason::Forbidden);
        decision.trail.matched = Some(samples::matched(&format!("op-{number}")));
        decision.trail.caller = Some(samples::alice(&format!("user-{number}")));
        telemetry.record(&decision);
    }
    let text = telemetry.render();
    let series = text
        .lines()
        .filter(|l| l.starts_with("cardea_decisions_total{"));
    assert_eq!(series.count(), 51);
    let rest =
        r#"cardea_decisions_total{operation="other",reason="forbidden",verdict="deny"} 9950"#;
    assert!(text.contains(rest), "{text}");
    assert!(text.lines().count() < 250);
    assert!(!text.contains("user-"));
}

#[tokio::test]
async fn s1_the_cap_holds_while_many_threads_meet_new_operations() {
    let mut settings = settings(None);
    settings.metrics.max_operations = 10;
    let telemetry = start(&settings);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let telemetry = &telemetry;
            scope.spawn(move || {
                for number in 0..200 {
                    let mut decision = samples::allowed();
                    let id = format!("op-{}", number * (thread + 1));
                    decision.trail.matched = Some(samples::matched(&id));
                    telemetry.record(&decision);
                }
            });
        }
    });
    let text = telemetry.render();
    let values = text
        .lines()
        .filter(|l| l.starts_with("cardea_decisions_total{"))
        .map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    let values: Vec<u64> = values.collect();
    assert_eq!(values.len(), 11);
    assert_eq!(values.iter().sum::<u64>(), 800);
}

#[tokio::test]
async fn a3_no_signal_holds_a_token_a_key_a_query_or_a_body() {
    let (collected, endpoint) = Collected::listen().await;
    let page = samples::Page::default();
    let lines = Lines::start(page.clone()).unwrap();
    let telemetry =
        Telemetry::start_with(&settings(Some(endpoint)), &Handle::current(), lines).unwrap();
    let mut faulty = samples::refused(Reason::PolicyError);
    faulty.trail.faults.push(PolicyFault {
        policy: "guard".into(),
        effect: Effect::Forbid,
        message: "CANARY-claim overflows".into(),
    });
    let expired = Reason::CredentialInvalid(CredentialFault::Expired);
    for decision in [samples::allowed(), samples::refused(expired), faulty] {
        telemetry.record(&samples::with_a_cold_step(decision));
    }
    let prometheus = telemetry.render();
    assert!(telemetry.shutdown(SOON).await);
    let logged = page.text();
    let spans = format!("{:?}", collected.spans.lock().unwrap());
    let metrics = format!("{:?}", collected.metrics.lock().unwrap());
    for (signal, output) in [
        ("traces", spans),
        ("metrics", metrics),
        ("prometheus", prometheus),
        ("logs", logged),
    ] {
        assert!(output.contains("orders.getOrder"), "{signal} is empty");
        for canary in samples::CANARIES {
            assert!(!output.contains(canary), "{canary} in {signal}: {output}");
        }
    }
}

#[tokio::test]
async fn the_log_names_the_span_that_was_made() {
    let (collected, endpoint) = Collected::listen().await;
    let page = samples::Page::default();
    let lines = Lines::start(page.clone()).unwrap();
    let settings = settings(Some(endpoint));
    let telemetry = Telemetry::start_with(&settings, &Handle::current(), lines).unwrap();
    telemetry.record(&samples::allowed());
    assert!(telemetry.shutdown(SOON).await);
    let line: serde_json::Value = serde_json::from_str(&page.text()).unwrap();
    assert_eq!(line["trace_id"], samples::TRACE);
    let span = collected.spans()[0].span_id.clone();
    assert_eq!(bytes(line["span_id"].as_str().unwrap()), span);
}

#[tokio::test]
async fn a_collector_that_never_answers_costs_spans_and_no_decision() {
    // Bound and never accepted from: connections hang.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut settings = settings(Some(endpoint));
    settings.traces.queue = 100;
    settings.otlp.timeout = crate::model::Period::seconds(60);
    let telemetry = start(&settings);
    for _ in 0..5_000 {
        telemetry.record(&samples::allowed());
    }
    let text = telemetry.render();
    let dropped = text
        .lines()
        .find_map(|l| l.strip_prefix(r#"cardea_telemetry_dropped_total{signal="traces"} "#))
        .unwrap();
    // One batch may be on its way, another one in the queue.
    assert!(dropped.parse::<u64>().unwrap() >= 4_800, "{dropped}");
    let counted = r#"cardea_decisions_total{operation="orders.getOrder",reason="permitted",verdict="allow"} 5000"#;
    assert!(text.contains(counted));
    // An end within the bound, long before the export's own timeout.
    assert!(!telemetry.shutdown(Duration::from_millis(200)).await);
}

#[tokio::test]
async fn an_absent_collector_is_counted() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let telemetry = start(&settings(Some(endpoint)));
    telemetry.record(&samples::allowed());
    telemetry.shutdown(SOON).await;
    // The Prometheus side is shut down as well, so the counter is read where it is kept.
    let deliveries = telemetry.traces.as_ref().unwrap().deliveries();
    assert_eq!((deliveries.failed(), deliveries.dropped()), (1, 0));
}

#[tokio::test]
async fn every_mistake_in_the_settings_is_reported_at_once() {
    let text = r#"{
        "service_name": " ",
        "otlp": {
            "endpoint": "http://user@collector.example:4317/v1?x",
            "headers": { "Bad Name": { "env": "X" }, "grpc-x": { "env": "X" } },
            "timeout": "0s",
            "ca_file": "ca.pem"
        },
        "traces": { "sample_ratio": 1.5, "queue": 0, "delay": "1h" },
        "metrics": { "interval": "0s", "max_operations": 0 }
    }"#;
    let settings: Settings = serde_json::from_str(text).unwrap();
    let problems = settings.problems();
    assert_eq!(problems.len(), 13, "{problems:#?}");
    assert_eq!(
        Telemetry::start(&settings, &Handle::current()).unwrap_err(),
        problems
    );
    assert_eq!(Settings::default().problems(), []);
    let nan = Settings {
        traces: traces::Settings {
            sample_ratio: f64::NAN,
            ..traces::Settings::default()
        },
        ..Settings::default()
    };
    assert_eq!(nan.problems().len(), 1);
}

#[tokio::test]
async fn unknown_settings_are_refused() {
    for text in [
        r#"{"otlp":{"endpiont":"x"}}"#,
        r#"{"log":{"level":"loud"}}"#,
        r#"{"traces":{"ratio":1}}"#,
    ] {
        assert!(serde_json::from_str::<Settings>(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn secrets_that_cannot_be_read_are_reported_by_place() {
    let mut settings = settings(Some("https://collector.example:4317".into()));
    let missing = SecretRef::Env("CARDEA_NO_SUCH_VARIABLE".into());
    settings.otlp.headers.insert("x-a".into(), missing.clone());
    settings.otlp.headers.insert("x-b".into(), missing);
    settings.otlp.ca_file = Some("no-such-file.pem".into());
    let problems = Telemetry::start(&settings, &Handle::current()).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems[0].message.contains("CARDEA_NO_SUCH_VARIABLE"));
}

#[tokio::test]
async fn secrets_are_not_sent_in_the_clear_beyond_this_machine() {
    let secret = SecretRef::Env("X".into());
    for (endpoint, problems) in [
        ("http://collector.example:4317", 1),
        ("http://127.0.0.1.example:4317", 1),
        ("https://collector.example:4317", 0),
        ("http://127.0.0.1:4317", 0),
        ("http://[::1]:4317", 0),
        ("http://localhost:4317", 0),
    ] {
        let mut settings = settings(Some(endpoint.into()));
        settings.otlp.headers.insert("x-key".into(), secret.clone());
        assert_eq!(settings.problems().len(), problems, "{endpoint}");
    }
}

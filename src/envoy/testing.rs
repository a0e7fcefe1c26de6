//! Stand-ins for tests of this room: a decider that does as it is told, a running server, a client, certificates.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3 as full;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::model::{
    AccessRequest, Decision, Outcome, Permit, Problem, Reason, Refusal, SystemClock, Trail,
};

use super::health::HealthService;
use super::listener::{Bound, ListenSettings, Local};
use super::{AnswerSettings, CheckService, Decide, RequestSettings};

/// Decides as the request's header `x-do` says, and keeps what it was asked and told.
#[derive(Debug, Default)]
pub(super) struct StandIn {
    pub(super) asked: Mutex<Vec<Result<String, Refusal>>>,
    pub(super) overruled: Mutex<Vec<Reason>>,
    /// The paths that overruled decisions were about.
    pub(super) left: Mutex<Vec<Option<String>>>,
    pub(super) answered: AtomicU64,
}

impl Decide for StandIn {
    async fn decide(&self, asked: Result<AccessRequest, Refusal>, trail: &mut Trail) -> Decision {
        let seen = asked.as_ref().map(|request| request.path.to_string());
        self.asked.lock().unwrap().push(seen.map_err(Clone::clone));
        let outcome = match asked {
            Err(refusal) => Outcome::Refused(refusal),
            Ok(request) => self.obey(trail.request.insert(request)).await,
        };
        Decision {
            outcome,
            trail: trail.take(),
            took: Duration::ZERO,
        }
    }

    fn answered(&self, _: Decision) {
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    fn overruled(&self, denial: &Decision) {
        if let Outcome::Refused(refusal) = &denial.outcome {
            self.overruled.lock().unwrap().push(refusal.reason.clone());
        }
        let request = denial.trail.request.as_ref();
        let path = request.map(|request| request.path.to_string());
        self.left.lock().unwrap().push(path);
    }
}

impl StandIn {
    async fn obey(&self, request: &AccessRequest) -> Outcome {
        match request.headers.single("x-do") {
            Some("allow") => Outcome::Allowed(Permit::assertion()),
            Some("panic") => panic!("as told"),
            Some("hang") => pending().await,
            _ => Outcome::Refused(Refusal::new(Reason::NotPermitted, "as told")),
        }
    }
}

/// A server on a port or socket of its own.
pub(super) struct Running {
    pub(super) local: Local,
    pub(super) decider: Arc<StandIn>,
    pub(super) ready: watch::Sender<bool>,
    pub(super) closing: CancellationToken,
    pub(super) tls: Option<Arc<super::tls::Tls>>,
    pub(super) workers: Vec<JoinHandle<Result<(), Problem>>>,
}

impl Running {
    pub(super) fn on(listen: &ListenSettings) -> Self {
        Self::with(listen, RequestSettings::default())
    }

    pub(super) fn with(listen: &ListenSettings, request: RequestSettings) -> Self {
        let bound = Bound::bind(listen).unwrap();
        let decider = Arc::new(StandIn::default());
        let answers = AnswerSettings::default().resolve().unwrap();
        let check = CheckService::new(
            Arc::clone(&decider),
            Arc::new(SystemClock),
            (request, answers),
            listen.max_message_bytes,
        );
        let closing = CancellationToken::new();
        let (ready, readiness) = watch::channel(true);
        let health = HealthService::new(readiness, closing.clone());
        let local = bound.local_address().clone();
        let tls = bound.tls();
        let doors = bound.into_doors().into_iter();
        let workers = doors
            .map(|door| tokio::spawn(door.serve(check.clone(), health.clone(), closing.clone())))
            .collect();
        Self {
            local,
            decider,
            ready,
            closing,
            tls,
            workers,
        }
    }

    pub(super) fn port(&self) -> u16 {
        match &self.local {
            Local::Tcp(address) => address.port(),
            Local::Unix(path) => panic!("listening on {}", path.display()),
        }
    }

    pub(super) async fn channel(&self) -> Channel {
        let address = format!("http://127.0.0.1:{}", self.port());
        Endpoint::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub(super) async fn client(&self) -> AuthorizationClient<Channel> {
        AuthorizationClient::new(self.channel().await)
    }

    /// Ends the server and waits for it.
    pub(super) async fn stop(self) {
        self.closing.cancel();
        for worker in self.workers {
            worker.await.unwrap().unwrap();
        }
    }
}

pub(super) fn on_any_port() -> ListenSettings {
    ListenSettings {
        address: "127.0.0.1:0".parse().unwrap(),
        ..ListenSettings::default()
    }
}

/// A client over a connection that is already there.
pub(super) async fn client_over<S>(
    stream: S,
) -> Result<AuthorizationClient<Channel>, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| std::io::Error::other("there is one connection only")) }
    });
    let endpoint = Endpoint::from_static("http://cardea.test");
    Ok(AuthorizationClient::new(
        endpoint.connect_with_connector(connector).await?,
    ))
}

/// A check as Envoy sends it, with further headers.
pub(super) fn check(headers: &[(&str, &str)]) -> full::CheckRequest {
    let http = full::attribute_context::HttpRequest {
        method: "GET".into(),
        path: "/v1/orders?limit=2".into(),
        host: "api.example.com".into(),
        scheme: "https".into(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Default::default()
    };
    let request = full::attribute_context::Request {
        http: Some(http),
        ..Default::default()
    };
    full::CheckRequest {
        attributes: Some(full::AttributeContext {
            request: Some(request),
            ..Default::default()
        }),
    }
}

/// Asks, with further headers.
pub(super) async fn ask(
    client: &mut AuthorizationClient<Channel>,
    headers: &[(&str, &str)],
) -> full::CheckResponse {
    client.check(check(headers)).await.unwrap().into_inner()
}

/// The gRPC code of an answer; panics where there is none, which Envoy would take for ALLOW.
pub(super) fn code(answer: &full::CheckResponse) -> i32 {
    answer.status.as_ref().expect("a status").code
}

/// The body of a denial.
pub(super) fn denial(answer: full::CheckResponse) -> (i32, String) {
    use full::check_response::HttpResponse;
    match answer.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => (denied.status.unwrap().code, denied.body),
        other => panic!("no denial: {other:?}"),
    }
}

/// An authority that issues certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    pub(super) der: rustls_pki_types::CertificateDer<'static>,
}

/// A certificate and its key.
pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) key_pem: String,
    pub(super) der: rustls_pki_types::CertificateDer<'static>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn issue(&self, dns: &[&str], uris: &[&str]) -> Issued {
        let names: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI((*uri).try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }
}

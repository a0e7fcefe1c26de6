//! Everything that runs, started once: issuer, upstream, collector, seven Cardeas, one Envoy with a listener for each
//! configuration, and another one in front of it. It lives as long as the test process.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use axum::http::{HeaderMap, Method, Uri};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardea::app::App;
use cardea::config::Config;
use cardea::envoy::listener::{ListenAddress, Local};
use cardea::envoy::response::{Credential, OwnTrouble};
use cardea::envoy::tls::TlsSettings;
use cardea::identity::{
    CertificateSettings, ClaimSettings, ForwardedSettings, IssuerSettings, KeyPlace, RouteSettings,
    SchemeName, TrustDomainSettings, install_crypto,
};
use cardea::model::Period;
use cardea::telemetry::logs::{Decisions, Level};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::collector::Collector;
use crate::gate::{Clusters, Envoy, HOP};
use crate::issuer::{AUDIENCE, ISSUER, Issuer};
use crate::papers::{ENVOY_NAME, Papers};
use crate::recorder::Recorder;

/// The longest anything may take. It decides how soon a broken test ends, and nothing else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Rules beside the shipped ones: every answer a policy can choose, told apart by host.
const ROWS: &str = r#"
@id("rows") permit (principal is Cardea::User, action == Cardea::Action::"orders.createOrder", resource)
when { context.request.host like "*.rows" };
@id("row-plain") forbid (principal, action, resource) when { context.request.host == "plain.rows" };
@id("row-hidden") @on_deny("not_found") forbid (principal, action, resource) when { context.request.host == "hidden.rows" };
@id("row-contract") @on_deny("bad_request") forbid (principal, action, resource) when { context.request.host == "contract.rows" };
@id("row-slow") @on_deny("slow_down") forbid (principal, action, resource) when { context.request.host == "slow.rows" };
@id("row-gone") @on_deny("gone") forbid (principal, action, resource) when { context.request.host == "gone.rows" };
@id("row-stronger") @on_deny("step_up") @acr_values("urn:cardea:strong") @max_age("300")
forbid (principal, action, resource) when { context.request.host == "stronger.rows" && context.token.assurance < 3 };
@id("certificate-lists") permit (principal, action == Cardea::Action::"orders.listOrders", resource)
when { context.tls.mutual && context.tls has sni && context.tls.sni == "api.example.com" };
@id("client-creates") permit (principal is Cardea::Workload in Cardea::TrustDomain::"example.com", action == Cardea::Action::"orders.createOrder", resource)
when { principal has serviceAccount && principal has namespace && principal.namespace == "shop" && principal.serviceAccount == "client" };
@id("not-beside-other") forbid (principal is Cardea::User, action == Cardea::Action::"orders.createOrder", resource)
when { context.tls has peer && context.tls.peer has serviceAccount && context.tls.peer.serviceAccount == "other" && !context.token.senderConstrained };
"#;

/// An API whose callers are not all known yet.
const OLD: &str = r"
openapi: 3.1.0
info: { title: Old, version: '1' }
x-cardea: { api: old, observe: true }
paths:
  /old/things: { get: { operationId: list }, post: { operationId: create } }
";

pub(crate) struct House {
    pub(crate) issuer: Issuer,
    pub(crate) collector: Collector,
    pub(crate) recorder: Recorder,
    papers: Papers,
    envoy: Envoy,
    edge: Envoy,
    runtime: Runtime,
    _apps: [App; 7],
}

/// The house. Whoever asks first starts it.
pub(crate) fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(House::start)
}

impl House {
    fn start() -> Self {
        install_crypto();
        // The leash on Envoy removes the folder when the test process has ended, however it ends.
        let folder = tempfile::Builder::new()
            .prefix("cardea-envoy-")
            .tempdir()
            .unwrap()
            .keep();
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (issuer, collector, recorder) =
            (Issuer::new(), Collector::default(), Recorder::default());
        let papers = Papers::new(&folder);
        let bundle = bundle(&folder);
        let (keys, upstream, otlp, recorder_port) = runtime.block_on(async {
            let ports = (
                issuer.serve().await,
                upstream().await,
                collector.serve().await,
            );
            (ports.0, ports.1, ports.2, recorder.serve())
        });
        let settings = |keys: &str| settings(&bundle, keys);
        let mut main = settings(&keys);
        main.telemetry.otlp.endpoint = Some(format!("http://127.0.0.1:{otlp}"));
        main.identity.certificates = Some(certificates(&papers));
        main.identity.routes = vec![RouteSettings {
            schemes: vec![SchemeName::Jwt, SchemeName::Certificate],
            combine: vec![(SchemeName::Jwt, SchemeName::Certificate)],
            ..RouteSettings::default()
        }];
        main.telemetry.traces.delay = Period::millis(50);
        // Nobody listens on port 1.
        let no_keys = settings("http://127.0.0.1:1/jwks");
        let mut own_error = no_keys.clone();
        own_error.answer.own_trouble = OwnTrouble::EnvoyError;
        let mut tls = settings(&keys);
        tls.listen.tls = Some(tls_settings(&papers));
        let mut unix = settings(&keys);
        let socket = folder.join("cardea.sock");
        unix.listen.address = ListenAddress::Unix(socket.clone());
        unix.answer.credential = Credential::Remove;
        let hop = behind(&main, false);
        let appending = behind(&main, true);
        sign(&mut unix);
        let all = [&main, &no_keys, &own_error, &tls, &unix, &hop, &appending];
        let apps = all.map(|config| App::start(config).unwrap());
        for (index, app) in apps.iter().enumerate() {
            let has_keys = index != 1 && index != 2;
            assert!(!has_keys || app.wait_until_ready(PATIENCE), "no keys");
        }
        let clusters = Clusters {
            main: port(&apps[0]),
            no_keys: port(&apps[1]),
            own_error: port(&apps[2]),
            tls: port(&apps[3]),
            unix: socket,
            recorder: recorder_port,
            upstream,
            otlp,
            behind_hop: port(&apps[5]),
            behind_appending_hop: port(&apps[6]),
            keys: apps[4].public_address().unwrap().port(),
            sidecar: folder.join("sidecar.sock"),
        };
        let envoy = runtime.block_on(Envoy::start(&folder, &clusters, &papers));
        let edge = runtime.block_on(envoy.edge(&folder.join("edge"), &papers));
        Self {
            issuer,
            collector,
            recorder,
            papers,
            envoy,
            edge,
            runtime,
            _apps: apps,
        }
    }

    /// The address of a listener.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let edge = self.edge.has(listener);
        let envoy = if edge { &self.edge } else { &self.envoy };
        ([127, 0, 0, 1], envoy.port(listener)).into()
    }

    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Waits for something to be there.
    pub(crate) fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let waiting = async {
            loop {
                match look() {
                    Some(found) => return found,
                    None => sleep(LOOK).await,
                }
            }
        };
        self.run(async { timeout(PATIENCE, waiting).await })
            .unwrap_or_else(|_| panic!("{what}: not in time"))
    }

    /// The access log's line about a request.
    pub(crate) fn line(&self, test: &str) -> Value {
        let path = self.envoy.access_log();
        self.wait_for("the line of the access log", || {
            let bytes = read(&path);
            let lines = bytes
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            lines.into_iter().find(|line: &Value| line["test"] == test)
        })
    }

    /// One of Envoy's counters.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let url = format!(
            "{}/stats?filter=^{}$",
            self.envoy.admin(),
            name.replace('.', "\\.")
        );
        let text = self.run(async { reqwest::get(url).await.unwrap().text().await.unwrap() });
        let value = text.trim().rsplit(": ").next().unwrap();
        value
            .parse()
            .unwrap_or_else(|_| panic!("no counter {name}: {text}"))
    }

    /// SHA-256 of somebody's certificate, as tokens are bound to it.
    pub(crate) fn thumbprint(&self, whose: &str) -> String {
        let pem = read(&self.papers.certificate_file(whose));
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der))
    }

    /// A client with a certificate, for which `host` is a listener here.
    pub(crate) fn tls_client(&self, whose: &str, host: &str, listener: &str) -> reqwest::Client {
        let authority = read(&self.papers.authority_file());
        let own = read(&self.papers.certificate_file(whose)) + &read(&self.papers.key_file(whose));
        reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .resolve(host, self.address(listener))
            .tls_certs_only([reqwest::Certificate::from_pem(authority.as_bytes()).unwrap()])
            .identity(reqwest::Identity::from_pem(own.as_bytes()).unwrap())
            .build()
            .unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test may block")]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The shipped bundle, the rows, and an API that is observed.
fn bundle(folder: &Path) -> PathBuf {
    let copy = folder.join("policies");
    copy_folder(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"),
        &copy,
    );
    fs::write(copy.join("rows.cedar"), ROWS).unwrap();
    fs::write(copy.join("apis/old.yaml"), OLD).unwrap();
    copy
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn settings(bundle: &Path, keys: &str) -> Config {
    let mut config = Config::default();
    config.listen.address = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
    config.admin.address = ([127, 0, 0, 1], 0).into();
    bundle.clone_into(&mut config.bundle.path);
    config.request.client_address = cardea::envoy::request::ClientAddress::EnvoyExternalAddress;
    config.context.client_certificates = cardea::context::ClientCertificates::Validated;
    config.answer.realm = "api.example.com".to_owned();
    config.identity.key_wait = Period::millis(50);
    config.identity.issuers = vec![IssuerSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        keys: KeyPlace::JwksUrl(keys.to_owned()),
        acr_levels: BTreeMap::from([("urn:cardea:strong".to_owned(), 3)]),
        claims: ClaimSettings {
            roles: vec!["roles".to_owned()],
            tenant: Some("tenant".to_owned()),
            ..ClaimSettings::default()
        },
        ..IssuerSettings::default()
    }];
    config.telemetry.log.level = Level::Error;
    config.telemetry.log.decisions = Decisions::None;
    config
}

fn certificates(papers: &Papers) -> CertificateSettings {
    CertificateSettings {
        trust_domains: vec![TrustDomainSettings {
            name: "example.com".to_owned(),
            ca_files: vec![papers.authority_file()],
        }],
        ..CertificateSettings::default()
    }
}

/// The same behind a hop, which passes on whose certificate it saw.
fn behind(main: &Config, last_of_several: bool) -> Config {
    let mut config = main.clone();
    config.telemetry.otlp.endpoint = None;
    let certificates = config.identity.certificates.as_mut().unwrap();
    certificates.forwarded = Some(ForwardedSettings {
        from: vec![format!("{HOP}/32")],
        last_of_several,
        ..ForwardedSettings::default()
    });
    config
}

/// Signs what upstreams are told, and publishes the keys.
fn sign(config: &mut Config) {
    config.public.address = Some(([127, 0, 0, 1], 0).into());
    config.mint = Some(cardea::mint::Settings {
        issuer: "https://cardea.internal".to_owned(),
        ..cardea::mint::Settings::default()
    });
}

fn tls_settings(papers: &Papers) -> TlsSettings {
    TlsSettings {
        certificate: papers.certificate_file("cardea"),
        key: papers.key_file("cardea"),
        client_ca: Some(papers.authority_file()),
        require_client_certificate: true,
        allowed_client_names: vec![ENVOY_NAME.to_owned()],
        reload_interval: Period::seconds(5),
    }
}

fn port(app: &App) -> u16 {
    let Local::Tcp(address) = *app.check_address() else {
        panic!("not a TCP address");
    };
    address.port()
}

/// An API that answers with what reached it.
async fn upstream() -> u16 {
    async fn echo(method: Method, uri: Uri, headers: HeaderMap) -> Json<Value> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields = headers
            .iter()
            .map(|(name, value)| json!([name.as_str(), text(value.as_bytes())]));
        Json(json!({
            "upstream": true, "method": method.as_str(), "target": uri.to_string(),
            "headers": fields.collect::<Vec<_>>(),
        }))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(echo)).await });
    port
}

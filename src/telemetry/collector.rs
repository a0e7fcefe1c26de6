//! The way to an OpenTelemetry collector: OTLP over gRPC.

use std::collections::BTreeMap;
use std::path::PathBuf;

use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::Deserialize;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use url::{Host, Url};

use crate::model::{Period, Problem, SecretRef};

/// Where spans and metrics are sent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The collector's address, such as `http://127.0.0.1:4317` or `https://collector.example:4317`. Without one nothing
    /// is sent; `/metrics` works all the same.
    pub endpoint: Option<String>,
    /// Headers sent with every export, such as an API key, each by the place where its value is found. They are sent
    /// over TLS, or to this machine, only.
    pub headers: BTreeMap<String, SecretRef>,
    /// How long one export may take, its retries included.
    pub timeout: Period,
    /// A PEM file with the certificates the collector's own is checked against, in place of the system's. For `https`.
    pub ca_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: BTreeMap::new(),
            timeout: Period::seconds(5),
            ca_file: None,
        }
    }
}

impl Settings {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let timeouts = Period::millis(10)..=Period::seconds(60);
        problems.extend(Problem::out_of_bounds(
            "telemetry.otlp.timeout",
            self.timeout,
            timeouts,
        ));
        for name in self.headers.keys() {
            if let Some(problem) = header_problem(name) {
                problems.push(problem);
            }
        }
        match self.endpoint.as_deref().map(Url::parse) {
            None => {}
            Some(Ok(url)) => problems.extend(self.endpoint_problems(&url)),
            Some(Err(error)) => problems.push(
                Problem::new(format!("`telemetry.otlp.endpoint` is no URL: {error}"))
                    .hint("write it like `http://127.0.0.1:4317`"),
            ),
        }
        problems
    }

    fn endpoint_problems(&self, url: &Url) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |message: &str, hint: &str| {
            problems.push(Problem::new(format!("`telemetry.otlp.{message}")).hint(hint));
        };
        let secure = url.scheme() == "https";
        if !secure && url.scheme() != "http" {
            add("endpoint` is neither `http` nor `https`", "OTLP over gRPC");
        }
        if !url.username().is_empty() || url.password().is_some() {
            add(
                "endpoint` holds a user name or password",
                "use `telemetry.otlp.headers`",
            );
        }
        if url.host().is_none() || url.query().is_some() || !matches!(url.path(), "" | "/") {
            add(
                "endpoint` is not a host and a port",
                "gRPC needs no path; leave it out",
            );
        }
        if !secure && !self.headers.is_empty() && !is_this_machine(url) {
            add(
                "headers` would be sent in the clear",
                "use an `https` endpoint, or a collector on this machine",
            );
        }
        if !secure && self.ca_file.is_some() {
            add("ca_file` is set for an endpoint without TLS", "use `https`");
        }
        problems
    }
}

fn header_problem(name: &str) -> Option<Problem> {
    let named = AsciiMetadataKey::from_bytes(name.as_bytes());
    let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    let free = !name.starts_with("grpc-") && !matches!(name, "te" | "content-type" | "user-agent");
    (named.is_err() || !lower || !free).then(|| {
        Problem::new("`telemetry.otlp.headers` holds a name that no header may have here")
            .hint("names are lower case; `grpc-*`, `te`, `content-type`, `user-agent` are taken")
    })
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The way, ready to be taken.
pub(super) struct Collector {
    endpoint: String,
    settings: Settings,
    headers: MetadataMap,
    tls: Option<ClientTlsConfig>,
}

impl Collector {
    /// Fetches headers and certificates; `None` where no endpoint is set.
    pub(super) fn resolve(settings: &Settings) -> Result<Option<Self>, Vec<Problem>> {
        let Some(endpoint) = settings.endpoint.clone() else {
            return Ok(None);
        };
        let mut problems = Vec::new();
        let headers = headers(settings, &mut problems);
        let tls = if endpoint.starts_with("https:") {
            tls(settings, &mut problems)
        } else {
            None
        };
        if problems.is_empty() {
            Ok(Some(Self {
                endpoint,
                settings: settings.clone(),
                headers,
                tls,
            }))
        } else {
            Err(problems)
        }
    }

    /// An exporter of spans. Needs to be called inside a tokio runtime, which then carries the connection.
    pub(super) fn spans(&self) -> Result<SpanExporter, Problem> {
        let builder = self.configured(SpanExporter::builder().with_tonic());
        builder.build().map_err(|error| unusable(&error))
    }

    /// An exporter of metrics, as [`Self::spans`].
    pub(super) fn metrics(&self) -> Result<MetricExporter, Problem> {
        let builder = self.configured(MetricExporter::builder().with_tonic());
        builder.build().map_err(|error| unusable(&error))
    }

    fn configured<B: WithExportConfig + WithTonicConfig>(&self, builder: B) -> B {
        let builder = builder
            .with_endpoint(&self.endpoint)
            .with_timeout(self.settings.timeout.0)
            .with_metadata(self.headers.clone());
        match &self.tls {
            Some(tls) => builder.with_tls_config(tls.clone()),
            None => builder,
        }
    }
}

fn unusable(error: &opentelemetry_otlp::ExporterBuildError) -> Problem {
    Problem::new(format!("`telemetry.otlp` cannot be used: {error}"))
}

fn headers(settings: &Settings, problems: &mut Vec<Problem>) -> MetadataMap {
    let mut map = MetadataMap::new();
    for (name, secret) in &settings.headers {
        let value = match secret.resolve() {
            Ok(value) => value,
            Err(error) => {
                problems.push(Problem::new(format!("`telemetry.otlp.headers`: {error}")));
                continue;
            }
        };
        let name = AsciiMetadataKey::from_bytes(name.as_bytes());
        let value = AsciiMetadataValue::try_from(value.expose_secret());
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            map.insert(name, value);
        } else {
            problems.push(Problem::new(
                "`telemetry.otlp.headers` holds a secret that is no header value",
            ));
        }
    }
    map
}

#[expect(clippy::disallowed_methods, reason = "read once at start")]
fn tls(settings: &Settings, problems: &mut Vec<Problem>) -> Option<ClientTlsConfig> {
    let Some(path) = &settings.ca_file else {
        return Some(ClientTlsConfig::new().with_native_roots());
    };
    match std::fs::read(path) {
        Ok(pem) => Some(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))),
        Err(error) => {
            problems.push(
                Problem::new(format!("`telemetry.otlp.ca_file` cannot be read: {error}"))
                    .in_file(path),
            );
            None
        }
    }
}

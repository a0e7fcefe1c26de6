//! Envoy: one process with a listener for each configuration. All of them are made from the configuration that users
//! copy, by taking away or adding what their name says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cardea::model::yaml;
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use crate::house::PATIENCE;
use crate::papers::Papers;

/// Where what Cardea signs for upstreams is shown, and how a service's own Envoy verifies it.
pub(crate) const DOWNSTREAM: &str = include_str!("../../docs/downstream-identity.md");

pub(crate) const BLESSED: &str = include_str!("../../deploy/envoy/envoy.yaml");

/// Runs Envoy until standard input ends, which it does when the test process does, however that ends. Then it ends Envoy
/// by its process id, and removes the folder.
const LEASH: &str = r#"
"$0" -c "$1/envoy.json" --admin-address-path "$1/admin" --concurrency 1 --disable-hot-restart \
  --file-flush-interval-msec 20 --log-level warning >"$1/access.log" 2>"$1/envoy.log" &
envoy=$!
cat >/dev/null
kill "$envoy"
wait "$envoy"
rm -rf "$1"
"#;

/// Who is where.
pub(crate) struct Clusters {
    pub(crate) main: u16,
    pub(crate) no_keys: u16,
    pub(crate) own_error: u16,
    pub(crate) tls: u16,
    pub(crate) unix: PathBuf,
    pub(crate) recorder: u16,
    pub(crate) upstream: u16,
    pub(crate) otlp: u16,
    /// Behind a hop that writes whose certificate it saw, and behind one that appends that.
    pub(crate) behind_hop: u16,
    pub(crate) behind_appending_hop: u16,
    /// Where the keys are published that sign for upstreams.
    pub(crate) keys: u16,
    /// The socket of the service's own sidecar.
    pub(crate) sidecar: PathBuf,
}

/// Where the connections of the edge come from, and those of an edge that is configured nowhere.
pub(crate) const HOP: &str = "127.0.0.3";
const STRANGE_HOP: &str = "127.0.0.4";

pub(crate) struct Envoy {
    folder: PathBuf,
    admin: String,
    ports: BTreeMap<String, u16>,
    /// Holds the end of the leash.
    _leash: Child,
}

/// The binary that `make test` installs.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("CARDEA_ENVOY").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/envoy-1.40.0");
    let path = named.unwrap_or_else(beside);
    assert!(
        path.exists(),
        "{} is missing: run `make test`, which installs it",
        path.display()
    );
    path
}

impl Envoy {
    pub(crate) async fn start(folder: &Path, clusters: &Clusters, papers: &Papers) -> Self {
        Self::run(folder, &configuration(clusters, papers)).await
    }

    /// Another Envoy, in front of this one: clients speak mutual TLS to it, and it does to this one.
    pub(crate) async fn edge(&self, folder: &Path, papers: &Papers) -> Self {
        fs::create_dir_all(folder).unwrap();
        let inner = ["behind_hop", "behind_appending_hop"].map(|name| (name, self.port(name)));
        Self::run(folder, &edge(inner, papers)).await
    }

    async fn run(folder: &Path, config: &Value) -> Self {
        fs::write(folder.join("envoy.json"), config.to_string()).unwrap();
        let leash = Command::new("/bin/sh")
            .args(["-c", LEASH])
            .arg(binary())
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut envoy = Self {
            folder: folder.to_owned(),
            admin: String::new(),
            ports: BTreeMap::new(),
            _leash: leash,
        };
        if timeout(PATIENCE, envoy.come_up()).await.is_err() {
            let log = tokio::fs::read_to_string(folder.join("envoy.log"))
                .await
                .unwrap_or_default();
            panic!("envoy did not start: {log}");
        }
        envoy
    }

    async fn come_up(&mut self) {
        let wait = || sleep(std::time::Duration::from_millis(20));
        loop {
            match tokio::fs::read_to_string(self.folder.join("admin")).await {
                Ok(address) if !address.is_empty() => {
                    self.admin = format!("http://{}", address.trim());
                    break;
                }
                _ => wait().await,
            }
        }
        while !reqwest::get(format!("{}/ready", self.admin))
            .await
            .is_ok_and(|a| a.status() == 200)
        {
            wait().await;
        }
        let url = format!("{}/listeners?format=json", self.admin);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let listeners: Value = serde_json::from_str(&text).unwrap();
        for listener in listeners["listener_statuses"].as_array().unwrap() {
            let address = &listener["local_address"]["socket_address"];
            let Some(port) = address["port_value"].as_u64() else {
                continue;
            };
            let name = listener["name"].as_str().unwrap().to_owned();
            self.ports.insert(name, u16::try_from(port).unwrap());
        }
    }

    pub(crate) fn port(&self, listener: &str) -> u16 {
        self.ports[listener]
    }

    pub(crate) fn has(&self, listener: &str) -> bool {
        self.ports.contains_key(listener)
    }

    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    pub(crate) fn access_log(&self) -> PathBuf {
        self.folder.join("access.log")
    }
}

fn configuration(clusters: &Clusters, papers: &Papers) -> Value {
    let blessed: Value = yaml::parse(BLESSED).unwrap();
    let resources = &blessed["static_resources"];
    let named = |name: &str| {
        let all = resources["clusters"].as_array().unwrap();
        all.iter().find(|cluster| cluster["name"] == name).unwrap()
    };
    let cardea = |name: &str, address: Value| cluster(named("cardea"), name, &address);
    let with_tls = |name: &str, own: Option<&str>| {
        let mut cluster = cardea(name, tcp(clusters.tls));
        cluster["transport_socket"] = upstream_tls(papers, own);
        cluster
    };
    json!({
        "node": { "id": "test", "cluster": "test" },
        "admin": { "address": tcp(0) },
        "overload_manager": blessed["overload_manager"],
        // Spans at once, so that tests need not wait.
        "layered_runtime": { "layers": [{ "name": "test", "static_layer": {
            "tracing": { "opentelemetry": { "min_flush_spans": 1, "flush_interval_ms": 100 } },
        }}]},
        "static_resources": {
            "listeners": listeners(&resources["listeners"][0], papers, &clusters.sidecar),
            "clusters": [
                cardea("main", tcp(clusters.main)),
                cardea("no_keys", tcp(clusters.no_keys)),
                cardea("own_error", tcp(clusters.own_error)),
                // Nobody listens on port 1.
                cardea("nobody", tcp(1)),
                cardea("behind_hop", tcp(clusters.behind_hop)),
                cardea("behind_appending_hop", tcp(clusters.behind_appending_hop)),
                cardea("unix", pipe(&clusters.unix)),
                cardea("recorder", tcp(clusters.recorder)),
                cardea("otlp", tcp(clusters.otlp)),
                with_tls("tls", Some("envoy")),
                with_tls("tls_stranger", Some("client")),
                with_tls("tls_nameless", None),
                cluster(named("upstream"), "upstream", &tcp(clusters.upstream)),
                cluster(named("upstream"), "cardea_keys", &tcp(clusters.keys)),
                cluster(named("upstream"), "sidecar", &pipe(&clusters.sidecar)),
            ],
        },
    })
}

/// Every listener: its name, the Cardea it asks, and how it differs from the blessed one.
fn listeners(blessed: &Value, papers: &Papers, socket: &Path) -> Vec<Value> {
    let open = |listener: &mut Value| authz(listener)["failure_mode_allow"] = json!(true);
    let short = |listener: &mut Value| {
        authz(listener)["with_request_body"]["max_request_bytes"] = json!(16);
    };
    let tls = |listener: &mut Value| {
        listener["filter_chains"][0]["transport_socket"] = downstream_tls(papers);
    };
    let hop = |listener: &mut Value| {
        tls(listener);
        // What the hop writes comes through, and this Envoy adds nothing.
        manager(listener)["forward_client_cert_details"] = json!("FORWARD_ONLY");
    };
    let make = |name: &str, asks: &str, changes: &[&dyn Fn(&mut Value)]| {
        listener(blessed, (name, asks), changes)
    };
    vec![
        make("blessed", "main", &[]),
        // Envoy's own defaults, and open where Cardea does not say no: whatever slipped through would show.
        make("defaults", "main", &[&soften, &open]),
        make("defaults_raw", "main", &[&soften, &open, &raw]),
        make("no_keys_open", "no_keys", &[&open]),
        make("own_error_closed", "own_error", &[]),
        make("own_error_open", "own_error", &[&open]),
        make("nobody_closed", "nobody", &[]),
        make("nobody_open", "nobody", &[&open]),
        make("tls_to_cardea", "tls", &[]),
        make("tls_to_cardea_as_stranger", "tls_stranger", &[]),
        make("tls_to_cardea_nameless", "tls_nameless", &[]),
        make("unix_to_cardea", "unix", &[]),
        make("tls_from_client", "main", &[&tls]),
        make("behind_hop", "behind_hop", &[&hop]),
        make("behind_appending_hop", "behind_appending_hop", &[&hop]),
        make("recorded", "recorder", &[&short]),
        make("recorded_joined", "recorder", &[&soften]),
        make("recorded_tls", "recorder", &[&tls]),
        make("traced", "main", &[&traced]),
        make("verified", "unix", &[&soften, &verified]),
        make("unsigned", "main", &[&soften, &verified]),
        sidecar(socket),
    ]
}

/// An Envoy at the edge. Each listener: what it does with the header that tells of certificates, and what it leads to.
fn edge(inner: [(&str, u16); 2], papers: &Papers) -> Value {
    let listener = |name: &str, details: &str, leads_to: &str| {
        json!({
            "name": name, "address": tcp(0), "filter_chains": [{
                "transport_socket": downstream_tls(papers),
                "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": name,
                    "use_remote_address": true,
                    "forward_client_cert_details": details,
                    "set_current_client_cert_details": { "cert": true, "chain": true, "uri": true, "subject": true },
                    "route_config": { "virtual_hosts": [{
                        "name": "all", "domains": ["*"],
                        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": leads_to } }],
                    }]},
                    "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    }}],
                }}],
            }],
        })
    };
    let cluster = |name: &str, port: u16, from: &str| {
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s",
            "upstream_bind_config": { "source_address": { "address": from, "port_value": 0 } },
            "transport_socket": tls_between(papers),
            "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{
                "endpoint": { "address": tcp(port) },
            }]}]},
        })
    };
    let [(hop, hop_port), (appending, appending_port)] = inner;
    json!({
        "node": { "id": "edge", "cluster": "edge" },
        "admin": { "address": tcp(0) },
        "static_resources": {
            "listeners": [
                listener("edge_sets", "SANITIZE_SET", hop),
                listener("edge_appends", "APPEND_FORWARD", hop),
                listener("edge_appends_to_last", "APPEND_FORWARD", appending),
                listener("edge_sanitizes", "SANITIZE", hop),
                listener("edge_from_elsewhere", "SANITIZE_SET", "elsewhere"),
            ],
            "clusters": [
                cluster(hop, hop_port, HOP),
                cluster(appending, appending_port, HOP),
                cluster("elsewhere", hop_port, STRANGE_HOP),
            ],
        },
    })
}

fn tls_between(papers: &Papers) -> Value {
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "api.example.com",
        "common_tls_context": {
            "tls_certificates": [certificate(papers, "envoy")],
            "validation_context": {
                "trusted_ca": { "filename": papers.authority_file() },
                "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": "api.example.com" } }],
            },
        },
    }})
}

fn listener(blessed: &Value, (name, asks): (&str, &str), changes: &[&dyn Fn(&mut Value)]) -> Value {
    let mut listener = blessed.clone();
    listener["name"] = json!(name);
    listener["address"] = tcp(0);
    let manager = manager(&mut listener);
    manager["stat_prefix"] = json!(name);
    let format = &mut manager["access_log"][0]["typed_config"]["log_format"]["json_format"];
    format["test"] = json!("%REQ(X-TEST)%");
    let service = &mut authz(&mut listener)["grpc_service"];
    service["envoy_grpc"]["cluster_name"] = json!(asks);
    // A machine under load must not change a verdict.
    service["timeout"] = json!("10s");
    for change in changes {
        change(&mut listener);
    }
    listener
}

/// Takes all hardening away.
fn soften(listener: &mut Value) {
    let manager = manager(listener);
    for name in [
        "normalize_path",
        "merge_slashes",
        "path_with_escaped_slashes_action",
        "strip_trailing_host_dot",
        "use_remote_address",
        "xff_num_trusted_hops",
        "forward_client_cert_details",
        "early_header_mutation_extensions",
        "common_http_protocol_options",
    ] {
        remove(manager, name);
    }
    let authz = authz(listener);
    for name in [
        "encode_raw_headers",
        "validate_mutations",
        "decoder_header_mutation_rules",
    ] {
        remove(authz, name);
    }
}

/// The service stands behind a sidecar of its own, which verifies what Cardea signed.
fn verified(listener: &mut Value) {
    let route = &mut manager(listener)["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
    assert_eq!(route["cluster"], "upstream");
    route["cluster"] = json!("sidecar");
}

/// The sidecar that the documentation shows, in front of the upstream of these tests.
fn sidecar(socket: &Path) -> Value {
    let shown: Value = yaml::parse(&shown_sidecar()).unwrap();
    let mut listener = shown["static_resources"]["listeners"][0].clone();
    listener["name"] = json!("sidecar");
    listener["address"] = pipe(socket);
    let route =
        &mut manager(&mut listener)["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
    assert_eq!(route["cluster"], "service");
    route["cluster"] = json!("upstream");
    listener
}

/// The configuration in the documentation.
pub(crate) fn shown_sidecar() -> String {
    let (_, rest) = DOWNSTREAM.split_once("```yaml\nstatic_resources:").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    format!("static_resources:{block}")
}

fn raw(listener: &mut Value) {
    authz(listener)["encode_raw_headers"] = json!(true);
}

fn traced(listener: &mut Value) {
    manager(listener)["tracing"] = json!({ "provider": {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "service_name": "envoy",
            "grpc_service": { "envoy_grpc": { "cluster_name": "otlp" }, "timeout": "5s" },
        },
    }});
}

/// A difference from the blessed configuration that is no difference would test nothing.
fn remove(from: &mut Value, name: &str) {
    let object: &mut Map<String, Value> = from.as_object_mut().unwrap();
    assert!(
        object.remove(name).is_some(),
        "the blessed configuration has no `{name}`"
    );
}

fn manager(listener: &mut Value) -> &mut Value {
    &mut listener["filter_chains"][0]["filters"][0]["typed_config"]
}

fn authz(listener: &mut Value) -> &mut Value {
    let filter = &mut manager(listener)["http_filters"][0];
    assert_eq!(filter["name"], "envoy.filters.http.ext_authz");
    &mut filter["typed_config"]
}

fn pipe(path: &Path) -> Value {
    json!({ "pipe": { "path": path } })
}

fn tcp(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn cluster(like: &Value, name: &str, address: &Value) -> Value {
    let mut cluster = like.clone();
    cluster["name"] = json!(name);
    cluster["load_assignment"] = json!({
        "cluster_name": name,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
    });
    cluster
}

fn certificate(papers: &Papers, whose: &str) -> Value {
    json!({
        "certificate_chain": { "filename": papers.certificate_file(whose) },
        "private_key": { "filename": papers.key_file(whose) },
    })
}

fn downstream_tls(papers: &Papers) -> Value {
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificates": [certificate(papers, "server")],
            "validation_context": { "trusted_ca": { "filename": papers.authority_file() } },
        },
    }})
}

fn upstream_tls(papers: &Papers, own: Option<&str>) -> Value {
    let own: Vec<Value> = own
        .into_iter()
        .map(|whose| certificate(papers, whose))
        .collect();
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "cardea.test",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": own,
            "validation_context": {
                "trusted_ca": { "filename": papers.authority_file() },
                "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": "cardea.test" } }],
            },
        },
    }})
}

//! Through a real Envoy: three listeners of one process, alike but for the filter.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::fixture::{Key, Result};
use crate::process::{Process, free_port, listens};
use crate::saturate::{H2Load, Target, Until};
use crate::server::{AllowAll, Cardea, get};
use crate::{figure, median, note};

const ROUNDS: usize = 5;
const TURN: Until = Until::Seconds(2);

/// `envoy_ratio_allow_all`: requests a second through Envoy with Cardea, as a share of the same with allow-all.
pub(crate) fn throughput(envoy: Option<&Path>) -> Result<()> {
    let envoy = envoy.ok_or("no Envoy: give --envoy or CARDEA_ENVOY; `make` installs one")?;
    let cardea = Cardea::on_tcp()?;
    let allow_all = AllowAll::start()?;
    let listeners = [
        Listener::new("bare", None)?,
        Listener::new("cardea", Some(&cardea.target))?,
        Listener::new("allow_all", Some(&allow_all.target))?,
    ];
    let admin = free_port()?;
    let config = cardea.world.folder().join("envoy.json");
    fs::write(&config, configuration(&listeners, admin).to_string())?;
    let mut process = Process::start(
        Command::new(envoy)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "error",
            ])
            .arg("--config-path")
            .arg(config),
    )?;
    process.wait_until(|| {
        listeners.iter().all(|listener| listens(listener.port)) && get(admin, "/ready").is_ok()
    })?;
    let token = cardea.world.token(Key::Es256, "user-0")?;
    let path = cardea.world.target();
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (listener, rates) in listeners.iter().zip(&mut rates) {
            let before = cardea.allowed()?;
            let load = H2Load::requests(listener.port, &path, &token).run(TURN)?;
            if listener.name == "cardea" && cardea.allowed()? - before < load.succeeded {
                return Err("Cardea did not allow every request that passed".into());
            }
            rates.push(load.per_second);
        }
    }
    if cardea.denied()? > 0 {
        return Err("not every answer was an allow".into());
    }
    let [bare, own, other] = &rates;
    let ratios = own.iter().zip(other).map(|(own, other)| own / other);
    let ratio = median(ratios.collect());
    for (name, rates) in ["without the filter", "with cardea", "with allow-all"]
        .iter()
        .zip([bare, own, other])
    {
        note(&format!(
            "through Envoy {name}: {:.0} requests/s",
            median(rates.clone())
        ));
    }
    figure("envoy_ratio_allow_all", ratio, "ratio");
    Ok(())
}

struct Listener {
    name: &'static str,
    port: u16,
    /// Port of the server that is asked; `None` without the filter.
    asks: Option<u16>,
}

impl Listener {
    fn new(name: &'static str, asks: Option<&Target>) -> Result<Self> {
        let asks = match asks {
            None => None,
            Some(Target::Tcp(port)) => Some(*port),
            Some(Target::Unix(_)) => return Err("Envoy is measured over TCP".into()),
        };
        Ok(Self {
            name,
            port: free_port()?,
            asks,
        })
    }

    fn configuration(&self) -> serde_json::Value {
        let router = json!({
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": typed("filters.http.router.v3.Router") },
        });
        let mut filters = vec![router];
        if self.asks.is_some() {
            let ext_authz = json!({
                "name": "envoy.filters.http.ext_authz",
                "typed_config": {
                    "@type": typed("filters.http.ext_authz.v3.ExtAuthz"),
                    "transport_api_version": "V3",
                    "grpc_service": { "envoy_grpc": { "cluster_name": self.name }, "timeout": "2s" },
                    "validate_mutations": true,
                },
            });
            filters.insert(0, ext_authz);
        }
        // Answered by Envoy itself: an upstream would only add its own cost to all three.
        let route = json!({ "match": { "prefix": "/" }, "direct_response": { "status": 200 } });
        let manager = json!({
            "@type": typed("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": self.name,
            "codec_type": "HTTP2",
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
            "http_filters": filters,
        });
        json!({
            "name": self.name,
            "address": address(self.port),
            "filter_chains": [{ "filters": [
                { "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }
            ] }],
        })
    }

    fn cluster(&self) -> Option<serde_json::Value> {
        let endpoint = json!({ "endpoint": { "address": address(self.asks?) } });
        Some(json!({
            "name": self.name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": typed("upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http2_protocol_options": {} },
            } },
            "load_assignment": {
                "cluster_name": self.name,
                "endpoints": [{ "lb_endpoints": [endpoint] }],
            },
        }))
    }
}

fn configuration(listeners: &[Listener], admin: u16) -> serde_json::Value {
    let clusters: Vec<_> = listeners.iter().filter_map(Listener::cluster).collect();
    let listeners: Vec<_> = listeners.iter().map(Listener::configuration).collect();
    json!({
        "admin": { "address": address(admin) },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

fn address(port: u16) -> serde_json::Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn typed(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

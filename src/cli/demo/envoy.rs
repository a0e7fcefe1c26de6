//! Envoy as a child process, with the configuration that users copy.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::model::Problem;

/// The blessed configuration. Only addresses are replaced in it.
const TEMPLATE: &str = include_str!("../../../deploy/envoy/envoy.yaml");

/// How long Envoy may take to start (a busy machine reads its 100 MB slowly), and to end.
const START: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(25);

/// Who listens where, all on loopback.
pub(super) struct Ports {
    /// Envoy itself; 0 for a free one.
    pub(super) gate: u16,
    pub(super) cardea: u16,
    pub(super) upstream: u16,
}

/// A running Envoy. Dropping it ends it at once.
pub(super) struct Envoy {
    child: Child,
    http: reqwest::Client,
    admin: String,
    gate: SocketAddr,
    folder: PathBuf,
}

impl Envoy {
    /// Starts Envoy and waits until it takes requests.
    pub(super) async fn start(
        binary: &Path,
        folder: &Path,
        ports: &Ports,
    ) -> Result<Self, Problem> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(END)
            .build()
            .map_err(|error| Problem::new(format!("cannot make an HTTP client: {error}")))?;
        let child = spawn(binary, folder, ports)?;
        let mut envoy = Self {
            child,
            http,
            admin: String::new(),
            gate: (Ipv4Addr::LOCALHOST, ports.gate).into(),
            folder: folder.to_owned(),
        };
        match timeout(START, envoy.come_up()).await {
            Ok(up) => up.map(|()| envoy),
            Err(_) => Err(envoy.trouble("envoy did not start in time").await),
        }
    }

    /// Where clients connect.
    pub(super) fn gate(&self) -> SocketAddr {
        self.gate
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its access log goes, one JSON object a line.
    pub(super) fn access_log(&self) -> PathBuf {
        self.folder.join(ACCESS_LOG)
    }

    /// Where its own log goes.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// Asks Envoy to end, and ends it where it does not.
    pub(super) async fn quit(mut self) {
        let _ = self
            .http
            .post(format!("{}/quitquitquit", self.admin))
            .send()
            .await;
        let ended = async {
            while matches!(self.child.try_wait(), Ok(None)) {
                sleep(LOOK).await;
            }
        };
        // Dropping ends it in any case.
        let _ = timeout(END, ended).await;
    }

    async fn come_up(&mut self) -> Result<(), Problem> {
        loop {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Err(self.trouble("envoy ended at once").await);
            }
            if self.admin.is_empty() {
                let address = tokio::fs::read_to_string(self.folder.join(ADMIN)).await;
                self.admin = address
                    .map_or_else(|_| String::new(), |text| format!("http://{}", text.trim()));
            } else if self.is_live().await
                && let Some(gate) = self.bound().await
            {
                self.gate = gate;
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    async fn is_live(&self) -> bool {
        let asked = self.http.get(format!("{}/ready", self.admin)).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// The address Envoy listens on, by its own word.
    async fn bound(&self) -> Option<SocketAddr> {
        let url = format!("{}/listeners?format=json", self.admin);
        let text = self.http.get(url).send().await.ok()?.text().await.ok()?;
        let listeners: Value = serde_json::from_str(&text).ok()?;
        let port =
            listeners.pointer("/listener_statuses/0/local_address/socket_address/port_value")?;
        let port = u16::try_from(port.as_u64()?).ok()?;
        Some((Ipv4Addr::LOCALHOST, port).into())
    }

    /// A problem with the end of Envoy's own log in it.
    async fn trouble(&self, what: &str) -> Problem {
        let log = tokio::fs::read_to_string(self.log())
            .await
            .unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(3)..)
            .unwrap_or_default();
        let last = if last.is_empty() {
            "it logged nothing".to_owned()
        } else {
            last.join("\n  ")
        };
        Problem::new(format!("{what}: {last}"))
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CONFIGURATION: &str = "envoy.yaml";
const ACCESS_LOG: &str = "access.log";
const LOG: &str = "envoy.log";
const ADMIN: &str = "envoy.admin";

fn spawn(binary: &Path, folder: &Path, ports: &Ports) -> Result<Child, Problem> {
    let file = |name: &str| {
        let path = folder.join(name);
        File::create(&path)
            .map_err(|error| Problem::new(format!("cannot write the file: {error}")).in_file(path))
    };
    let configuration = folder.join(CONFIGURATION);
    std::fs::write(&configuration, render(ports)).map_err(|error| {
        Problem::new(format!("cannot write the file: {error}")).in_file(&configuration)
    })?;
    Command::new(binary)
        .arg("--config-path")
        .arg(&configuration)
        .arg("--admin-address-path")
        .arg(folder.join(ADMIN))
        .args(["--concurrency", "1", "--log-level", "warning"])
        // No shared memory, so that it gets along with any other Envoy on the machine.
        .arg("--disable-hot-restart")
        // The tour reads the access log, so its lines must not wait.
        .args(["--file-flush-interval-msec", "20"])
        .stdin(Stdio::null())
        .stdout(file(ACCESS_LOG)?)
        .stderr(file(LOG)?)
        .spawn()
        .map_err(|error| {
            Problem::new(format!("cannot start envoy: {error}"))
                .in_file(binary)
                .hint("name the binary with `--envoy`; `make demo` installs one")
        })
}

/// The blessed configuration with this run's addresses.
fn render(ports: &Ports) -> String {
    let gate = format!("address: 127.0.0.1, port_value: {} ", ports.gate);
    let cardea = format!("port_value: {} ", ports.cardea);
    let upstream = format!("port_value: {} ", ports.upstream);
    [
        ("address: 0.0.0.0, port_value: 10000 ", gate.as_str()),
        ("port_value: 9901 ", "port_value: 0 "),
        ("port_value: 9191 ", &cardea),
        ("port_value: 8080 ", &upstream),
    ]
    .iter()
    .fold(TEMPLATE.to_owned(), |text, (from, to)| {
        text.replacen(from, to, 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_four_addresses_of_the_blessed_configuration_are_replaced() {
        let ports = Ports {
            gate: 1,
            cardea: 2,
            upstream: 3,
        };
        let rendered = render(&ports);
        let pairs = TEMPLATE.lines().zip(rendered.lines());
        let changed: Vec<(&str, &str)> = pairs.filter(|(from, to)| from != to).collect();
        assert_eq!(changed.len(), 4);
        assert!(changed.iter().all(|(from, _)| from.ends_with("# (*)")));
        for address in [
            "127.0.0.1, port_value: 0 ",
            "127.0.0.1, port_value: 1 ",
            "127.0.0.1, port_value: 2 ",
            "127.0.0.1, port_value: 3 ",
        ] {
            assert!(
                changed.iter().any(|(_, to)| to.contains(address)),
                "{address}"
            );
        }
    }
}

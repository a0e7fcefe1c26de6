//! The real program as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tonic::Request;
use tonic::transport::Channel;

use crate::world::{Ask, Heard, eventually, http_get, write};

/// The program, with nothing of the tests' own environment that it listens to.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardea"));
    command
        .args(arguments)
        .env_remove("CARDEA_CONFIG")
        .env_remove("CARDEA_BUNDLE")
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

/// The end of a program: its code, and what it said on standard error.
pub(crate) fn told(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

/// A running `cardea serve`.
pub(crate) struct Child {
    process: std::process::Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    _settings: TempDir,
    pub(crate) check: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Child {
    /// Starts the program with these settings, and waits until it says that it answers checks.
    pub(crate) fn serve(settings: &Value, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings.clone();
        let level = &mut settings["telemetry"]["log"]["level"];
        if level == "error" {
            // It says where it listens at this level.
            *level = "info".into();
        }
        write(folder.path(), "cardea.yaml", &settings.to_string());
        let file = folder.path().join("cardea.yaml");
        let mut process = program(&["serve", "--config", shown(&file)])
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            keep(process.stdout.take().unwrap(), &output),
            keep(process.stderr.take().unwrap(), &output),
        ];
        let (mut check, mut admin) = (None, None);
        eventually("it says that it answers checks", || {
            let ended = process.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "it ended: {ended:?} {}",
                output.lock().unwrap()
            );
            let lines = lines(&output);
            let line = lines
                .iter()
                .find(|line| line["message"] == "cardea answers checks");
            let address = |name: &str| {
                let text = line?[name].as_str()?;
                text.trim_start_matches("Some(")
                    .trim_end_matches(')')
                    .parse()
                    .ok()
            };
            (check, admin) = (address("address"), address("admin"));
            line.is_some()
        });
        Self {
            process,
            output,
            readers,
            _settings: folder,
            check: check.unwrap(),
            admin: admin.unwrap(),
        }
    }

    /// Where its public endpoint is, as it says.
    pub(crate) fn public(&self) -> SocketAddr {
        let told = self.log().into_iter().find_map(|line| {
            let address = line["public"].as_str()?;
            let address = address.strip_prefix("Some(")?.strip_suffix(')')?;
            address.parse().ok()
        });
        told.expect("it has a public endpoint")
    }

    /// Everything it has said so far, on both outputs.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// The same as far as it is JSON, line by line.
    pub(crate) fn log(&self) -> Vec<Value> {
        lines(&self.output)
    }

    /// A connection to it, once it is ready.
    pub(crate) fn line(&self) -> Line {
        eventually("it is ready", || http_get(self.admin, "/ready").0 == 200);
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let url = format!("http://{}", self.check);
        let channel = Channel::from_shared(url).unwrap();
        let channel = runtime.block_on(channel.connect()).unwrap();
        Line {
            client: AuthorizationClient::new(channel),
            runtime,
        }
    }

    /// Asks it to end, as a supervisor does.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Asks it to end, as somebody at a terminal does.
    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end. Returns how it ended, and all it said.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let process = &mut self.process;
        let mut status = None;
        eventually("it ends", || {
            status = process.try_wait().unwrap();
            status.is_some()
        });
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (status.unwrap(), self.output())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A connection to a program, on which it is asked as Envoy asks.
pub(crate) struct Line {
    runtime: Runtime,
    client: AuthorizationClient<Channel>,
}

impl Line {
    pub(crate) fn ask(&self, ask: Ask) -> Heard {
        self.runtime.block_on(ask.send(self.client.clone()))
    }

    /// The same within a trace.
    pub(crate) fn ask_within(&self, trace_parent: &str, ask: Ask) -> Heard {
        let mut request = Request::new(ask.check);
        let parent = trace_parent.parse().unwrap();
        request.metadata_mut().insert("traceparent", parent);
        let mut client = self.client.clone();
        let answer = self.runtime.block_on(client.check(request));
        Heard {
            response: answer.unwrap().into_inner(),
        }
    }
}

fn keep(stream: impl Read + Send + 'static, output: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            let mut output = output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
        }
    })
}

fn lines(output: &Mutex<String>) -> Vec<Value> {
    let text = output.lock().unwrap();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// A path as an argument.
pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A settings file in a folder of its own.
pub(crate) fn settings_file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "cardea.yaml", text);
    let file = folder.path().join("cardea.yaml");
    (folder, file)
}

//! The two servers: Cardea's release binary, and the yardstick.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Key, Result, World};
use crate::process::{Process, free_port, listens};
use crate::saturate::{H2Load, Target};
use crate::{client, figure, note};

/// Cardea with a bundle of 100 policies.
#[derive(Debug)]
pub(crate) struct Cardea {
    pub(crate) process: Process,
    pub(crate) world: Rc<World>,
    pub(crate) target: Target,
    pub(crate) admin: u16,
}

impl Cardea {
    /// Starts the release binary on a free TCP port, with a world of its own.
    pub(crate) fn on_tcp() -> Result<Self> {
        Self::with(|_| {})
    }

    /// The same, with nothing remembered of judgements: policies are asked for every request.
    pub(crate) fn without_memory() -> Result<Self> {
        Self::with(|settings| settings["decisions"]["cache"]["entries"] = json!(0))
    }

    /// The same on a Unix socket.
    pub(crate) fn on_unix_socket() -> Result<Self> {
        let world = Rc::new(World::new(100)?);
        let socket = world.folder().join("cardea.sock");
        Self::start(&world, Target::Unix(socket), |_| {})
    }

    /// The same on a free TCP port, with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Value)) -> Result<Self> {
        Self::within(&Rc::new(World::new(100)?), change)
    }

    /// The same in a world that others share.
    pub(crate) fn within(world: &Rc<World>, change: impl FnOnce(&mut Value)) -> Result<Self> {
        Self::start(world, Target::Tcp(free_port()?), change)
    }

    fn start(world: &Rc<World>, target: Target, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let admin = free_port()?;
        let listen = match &target {
            Target::Tcp(port) => format!("127.0.0.1:{port}"),
            Target::Unix(path) => format!("unix:{}", path.display()),
        };
        let config = world.folder().join(format!("cardea-{admin}.yaml"));
        let mut settings = world.settings(&listen, &format!("127.0.0.1:{admin}"));
        change(&mut settings);
        fs::write(&config, settings.to_string())?;
        let process = launch(
            Command::new(binary())
                .arg("serve")
                .arg("--config")
                .arg(config),
            admin,
        )?;
        Ok(Self {
            process,
            world: Rc::clone(world),
            target,
            admin,
        })
    }

    /// A check that is allowed, as it goes over the wire, for each of so many callers. Their tokens are verified and
    /// cached when this returns, and the answers are real allows.
    pub(crate) fn warm_checks(&self, callers: usize) -> Result<Vec<Vec<u8>>> {
        let keys = Key::USUAL.into_iter().cycle();
        let messages: Vec<Vec<u8>> = (0..callers)
            .zip(keys)
            .map(|(caller, key)| {
                let token = self.world.token(key, &format!("user-{caller}"))?;
                Ok(client::framed(&self.world.check(Some(&token))))
            })
            .collect::<Result<_>>()?;
        for message in &messages {
            client::assert_allows(&self.target, message)?;
        }
        Ok(messages)
    }

    /// The message of one warm caller, in a file, for h2load.
    pub(crate) fn one_message(&self) -> Result<PathBuf> {
        let file = self.world.folder().join("check.bin");
        fs::write(&file, self.warm_checks(1)?.concat())?;
        Ok(file)
    }

    /// The sum of a counter's series whose labels hold `label`; an empty one fits all, and a series without labels.
    pub(crate) fn counted(&self, counter: &str, label: &str) -> Result<u64> {
        let metrics = get(self.admin, "/metrics")?;
        let series = metrics.lines().filter(|line| {
            line.strip_prefix(counter)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        });
        series
            .map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<u64>()?))
            .sum()
    }

    /// How many requests were allowed so far.
    pub(crate) fn allowed(&self) -> Result<u64> {
        self.counted("cardea_decisions_total", "verdict=\"allow\"")
    }

    /// How many credentials were verified so far, because nothing was remembered of them.
    pub(crate) fn verifications(&self) -> Result<u64> {
        self.counted("cardea_token_verifications_total", "")
    }

    /// How many requests were denied so far.
    pub(crate) fn denied(&self) -> Result<u64> {
        self.counted("cardea_decisions_total", "verdict=\"deny\"")
    }
}

/// The server that allows everything.
#[derive(Debug)]
pub(crate) struct AllowAll {
    pub(crate) process: Process,
    pub(crate) target: Target,
}

impl AllowAll {
    /// Starts this very program again, as a server.
    pub(crate) fn start() -> Result<Self> {
        let port = free_port()?;
        let mut process = Process::start(
            Command::new(std::env::current_exe()?)
                .arg("--allow-all")
                .arg(port.to_string()),
        )?;
        process.wait_until(|| listens(port))?;
        Ok(Self {
            process,
            target: Target::Tcp(port),
        })
    }
}

/// Keeps a warm server for a profiler, until its own input ends.
pub(crate) fn hold() -> Result<()> {
    let cardea = Cardea::on_tcp()?;
    let message = cardea.one_message()?;
    let load = H2Load::checks(&cardea.target, &message);
    note(&format!("process {}: {load:?}", cardea.process.id()));
    std::io::stdin().read_to_string(&mut String::new())?;
    Ok(())
}

/// `rss_idle_mib`: the release binary with the default bundle, ready and left alone.
pub(crate) fn idle() -> Result<()> {
    let (port, admin) = (free_port()?, free_port()?);
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("cardea.yaml");
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    fs::write(
        &config,
        format!(
            "listen: {{ address: \"127.0.0.1:{port}\" }}\nadmin: {{ address: \"127.0.0.1:{admin}\" }}\n"
        ),
    )?;
    let mut command = Command::new(binary());
    command.arg("serve").arg("--config").arg(config);
    let process = launch(command.arg("--bundle").arg(policies), admin)?;
    sleep(Duration::from_secs(2));
    figure("rss_idle_mib", process.rss_mib()?, "MiB");
    Ok(())
}

fn launch(command: &mut Command, admin: u16) -> Result<Process> {
    let mut process = Process::start(command)?;
    process.wait_until(|| get(admin, "/ready").is_ok())?;
    Ok(process)
}

/// The binary that cargo built beside this one, with the same settings.
fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_cardea"))
}

/// The body of a GET that is answered with 200.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(format!("GET {path} is not answered with 200").into()),
    }
}

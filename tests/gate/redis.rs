//! A real Redis or Valkey, and a way to it that can be cut.

use std::io::{self, BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use redis::{Client, Connection};
use tempfile::TempDir;

use crate::world::eventually;

/// A server of its own, with its own data.
pub(crate) struct Redis {
    process: Child,
    port: u16,
    arguments: Vec<String>,
    folder: TempDir,
}

impl Redis {
    /// A server without passwords and TLS, which keeps its data.
    pub(crate) fn start() -> Self {
        Self::with(|_, port| vec!["--port".into(), port.to_string()])
    }

    /// One with other arguments, which a folder and a port are given for.
    pub(crate) fn with(arguments: impl Fn(&Path, u16) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A port that was free a moment ago may not be any more.
        for _ in 0..10 {
            let port = free_port();
            let arguments = arguments(folder.path(), port);
            if let Some(process) = launch(&folder, &arguments) {
                return Self {
                    process,
                    port,
                    arguments,
                    folder,
                };
            }
        }
        panic!("redis does not start");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Ends it as a crash does.
    pub(crate) fn stop(&mut self) {
        // It may have ended already.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }

    /// Starts it again with the data it had.
    pub(crate) fn start_again(&mut self) {
        eventually("redis starts again", || {
            let process = launch(&self.folder, &self.arguments);
            process.map(|process| self.process = process).is_some()
        });
    }

    /// Starts it again without any data.
    pub(crate) fn start_empty(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
        self.start_again();
    }

    /// A connection of the test's own.
    pub(crate) fn connection(&self) -> Connection {
        let client = Client::open(self.url()).unwrap();
        client.get_connection().unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A server that listens; `None` where it ended instead.
fn launch(folder: &TempDir, arguments: &[String]) -> Option<Child> {
    let server = std::env::var("CARDEA_REDIS").expect("`make test` says where redis-server is");
    let mut process = Command::new(server)
        .args([
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ])
        .args(["--bind", "127.0.0.1", "--daemonize", "no"])
        .arg("--dir")
        .arg(folder.path())
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    let listens = said.any(|line| line.unwrap().contains("Ready to accept connections"));
    // It would wait for somebody to listen to it.
    thread::spawn(move || said.for_each(drop));
    if !listens {
        let _reaped = process.wait();
    }
    listens.then_some(process)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Counts entries of the log.
pub(crate) fn log_length(connection: &mut Connection) -> u64 {
    redis::cmd("XLEN")
        .arg("cardea:revocations:log")
        .query(connection)
        .unwrap()
}

const OPEN: u8 = 0;
const CUT: u8 = 1;
const SILENT: u8 = 2;

/// A way to a server that can be cut, loudly or in silence.
pub(crate) struct Road {
    address: SocketAddr,
    state: Arc<AtomicU8>,
    turned_away: Arc<AtomicUsize>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Road {
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let road = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(AtomicU8::new(OPEN)),
            turned_away: Arc::default(),
            streams: Arc::default(),
        };
        let (state, streams) = (Arc::clone(&road.state), Arc::clone(&road.streams));
        let turned_away = Arc::clone(&road.turned_away);
        // It ends with the test's process.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if state.load(Ordering::SeqCst) == CUT {
                    drop(near);
                    turned_away.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let Ok(far) = TcpStream::connect(server) else {
                    continue;
                };
                carry(&near, &far, &state);
                carry(&far, &near, &state);
                streams.lock().unwrap().extend([near, far]);
            }
        });
        road
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Nothing gets through, and both ends hear of it.
    pub(crate) fn cut(&self) {
        self.state.store(CUT, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ended = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many came while it was cut.
    pub(crate) fn turned_away(&self) -> usize {
        self.turned_away.load(Ordering::SeqCst)
    }

    /// Nothing gets through, and nobody is told.
    pub(crate) fn fall_silent(&self) {
        self.state.store(SILENT, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.state.store(OPEN, Ordering::SeqCst);
    }
}

fn carry(from: &TcpStream, to: &TcpStream, state: &Arc<AtomicU8>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let state = Arc::clone(state);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = io::Read::read(&mut from, &mut bytes) {
            // What was sent into the silence is lost, and so is the connection.
            if state.load(Ordering::SeqCst) != OPEN {
                return;
            }
            if io::Write::write_all(&mut to, &bytes[..read]).is_err() {
                return;
            }
        }
        let _ended = to.shutdown(Shutdown::Both);
    });
}

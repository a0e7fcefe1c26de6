//! Binding sockets: TCP ports shared by workers, and Unix sockets that never appear with the wrong permissions.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Type};

use crate::model::Problem;

use super::accept::Listener;
use super::{ListenAddress, ListenSettings};

/// Connections that wait for `accept`.
const BACKLOG: i32 = 1024;

/// The address in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Local {
    /// Whether others than this machine can reach it.
    pub(super) fn is_exposed(&self) -> bool {
        matches!(self, Self::Tcp(address) if !address.ip().is_loopback())
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listening socket that no runtime watches yet.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    /// Has the current runtime watch it.
    pub(super) fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(socket).map(Listener::Tcp)
            }
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(socket).map(Listener::Unix)
            }
        }
    }
}

/// All sockets of one address.
pub(super) struct Sockets {
    pub(super) local: Local,
    pub(super) listening: Vec<Socket>,
    pub(super) file: Option<SocketFile>,
}

pub(super) fn sockets(settings: &ListenSettings) -> Result<Sockets, Problem> {
    let failed = |error: io::Error| {
        Problem::new(format!("cannot listen on `{}`: {error}", settings.address))
            .hint("choose another `listen.address`, or end the program that holds it")
    };
    match &settings.address {
        ListenAddress::Tcp(address) => tcp(*address, settings.workers).map_err(failed),
        ListenAddress::Unix(path) => unix(path, settings).map_err(failed),
    }
}

fn tcp(address: SocketAddr, workers: usize) -> io::Result<Sockets> {
    let shared = workers > 1;
    if shared && address.port() != 0 {
        // SO_REUSEPORT would let a second program of the same user take a share of the connections in silence.
        drop(TcpListener::bind(address)?);
    }
    let first = tcp_socket(address, shared)?;
    let local = first.local_addr()?;
    let mut listening = vec![Socket::Tcp(first)];
    for _ in 1..workers {
        listening.push(Socket::Tcp(tcp_socket(local, shared)?));
    }
    Ok(Sockets {
        local: Local::Tcp(local),
        listening,
        file: None,
    })
}

fn tcp_socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds beside the path, sets the mode, then moves the socket into place: it is never there with other permissions,
/// and a stale one is replaced in one step.
fn unix(path: &Path, settings: &ListenSettings) -> io::Result<Sockets> {
    check_vacant(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    remove_stale(&beside)?;
    let listener = UnixListener::bind(&beside)?;
    let placed = fs::set_permissions(
        &beside,
        fs::Permissions::from_mode(settings.unix_mode.bits()),
    )
    .and_then(|()| fs::rename(&beside, path));
    if let Err(error) = placed {
        // The error that matters is the first one.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    let file = SocketFile::of(path)?;
    let mut listening = Vec::with_capacity(settings.workers);
    for _ in 1..settings.workers {
        listening.push(Socket::Unix(listener.try_clone()?));
    }
    listening.push(Socket::Unix(listener));
    Ok(Sockets {
        local: Local::Unix(path.to_owned()),
        listening,
        file: Some(file),
    })
}

/// Whether the path may be taken: nothing is there, or a socket that nobody listens on. Never a file, and never a link.
fn check_vacant(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path exists and is no socket",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another program listens on the socket",
        )),
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path),
        _ => Ok(()),
    }
}

/// Removes the socket's file when the last worker is done, unless somebody else has taken the path by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let there = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: there.dev(),
            inode: there.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|there| there.dev() == self.device && there.ino() == self.inode);
        if ours {
            // Nothing is lost if it stays: the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

//! A Redis or Valkey server that processes share, for as long as it is held.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::fixture::Result;
use crate::process::{Process, free_port, listens};

/// The server, on a loopback port. It keeps nothing.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Redis {
    pub(crate) fn start(binary: Option<&Path>) -> Result<Self> {
        let binary = binary.ok_or("no Redis: give --redis or CARDEA_REDIS; `make` installs one")?;
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let mut process = Process::start(
            Command::new(binary)
                .current_dir(folder.path())
                .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
                .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]),
        )?;
        process.wait_until(|| listens(port))?;
        Ok(Self {
            port,
            _process: process,
            _folder: folder,
        })
    }
}

//! The file that revocations survive a restart in.
//!
//! JSON lines: one that says what the file is, then one a change. Lines are only appended, and synced to the disk before
//! anybody hears that they are kept. At start, and when most of it is no longer in force, the file is written anew beside
//! itself and takes its own place, so that it is always whole or the one before.
//!
//! A line that a crash cut off was promised to nobody, and is dropped. Any other line that cannot be read stops the start:
//! going on without it would trust again what somebody took trust from.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::{Event, rfc3339};
use crate::model::{Problem, json};

/// The first line.
const HEAD: &str = r#"{"cardea_revocations":1}"#;

/// The longest line, in bytes: several times what the largest event takes.
const MAX_LINE: usize = 16 * 1024;

/// How many lines may be out of force before the file is written anew, beside as many as are in force.
const SLACK: usize = 4096;

/// A change of what is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Trust is taken back.
    Revoke(Event),
    /// The event of an id is taken back, as far as it was told before an instant: one told since then stays in force, in
    /// whatever order the two are heard.
    Lift {
        /// The event's id.
        id: String,
        /// The instant.
        #[serde(with = "rfc3339")]
        told_before: Timestamp,
    },
}

/// The file, open for appending. Only one process at a time may have it.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// `None` until it was written once, and after a write failed: then it may end in half a line.
    file: Option<File>,
    lines: usize,
    _lock: File,
}

impl Journal {
    /// Makes the file this process's own. Blocks, so it belongs to the start.
    ///
    /// # Errors
    /// Where another process has it, or the folder cannot be written to.
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        let lock_path = beside(path, ".lock");
        let unusable = |error: &dyn std::fmt::Display| {
            Problem::new(format!("the revocations cannot be kept: {error}"))
                .in_file(&lock_path)
                .hint("`identity.revocation.file` needs a folder that cardea may write to")
        };
        let lock = private().create(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(|error| unusable(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Problem::new("the revocations are another process's")
                    .in_file(path)
                    .hint("give each process an `identity.revocation.file` of its own"));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&error)),
        }
        Ok(Self {
            path: path.to_path_buf(),
            file: None,
            lines: 0,
            _lock: lock,
        })
    }

    /// Appends changes and syncs them. Blocks.
    ///
    /// # Errors
    /// Where that fails. Nothing is appended any more then, until [`Journal::rewrite`] succeeds.
    pub(super) fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        let mut file = self
            .file
            .take()
            .ok_or_else(|| io::Error::other("the file has to be written anew first"))?;
        let mut text = Vec::new();
        for change in changes {
            line(&mut text, change)?;
        }
        file.write_all(&text)?;
        file.sync_data()?;
        self.file = Some(file);
        self.lines = self.lines.saturating_add(changes.len());
        Ok(())
    }

    /// Writes the file anew with nothing but these events. Blocks.
    ///
    /// # Errors
    /// Where that fails. The file is the one before then.
    pub(super) fn rewrite<'e>(
        &mut self,
        events: impl Iterator<Item = &'e Event>,
    ) -> io::Result<()> {
        let unfinished = beside(&self.path, ".tmp");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut text = format!("{HEAD}\n").into_bytes();
        let mut lines = 0;
        for event in events {
            line(&mut text, &Change::Revoke(event.clone()))?;
            lines += 1;
        }
        let mut file = private().create_new(true).open(&unfinished)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.path)?;
        File::open(folder(&self.path))?.sync_all()?;
        self.file = Some(file);
        self.lines = lines;
        Ok(())
    }

    /// Whether most of the file is no longer in force.
    pub(super) fn is_large(&self, in_force: usize) -> bool {
        self.lines > in_force.saturating_mul(2).saturating_add(SLACK)
    }
}

/// Reads the changes in a file, in order; none where there is no file. Blocks, so it belongs to the start.
///
/// # Errors
/// The first line that cannot be read, by its number.
pub(super) fn read(path: &Path) -> Result<Vec<(usize, Change)>, Problem> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let mut reader = BufReader::new(file);
    let mut changes = Vec::new();
    for number in 1.. {
        let mut bytes = Vec::new();
        let longest = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let mut limited = reader.by_ref().take(longest);
        limited
            .read_until(b'\n', &mut bytes)
            .map_err(|error| unreadable(path, &error))?;
        let whole = bytes.pop_if(|last| *last == b'\n').is_some();
        if !whole && bytes.len() < MAX_LINE {
            let torn = !bytes.is_empty();
            if number == 1 {
                return Err(corrupt(path, (1, 1), "there is no first line"));
            }
            if torn {
                tracing::warn!(file = %path.display(), line = number, "the last revocation was cut off and is dropped");
            }
            break;
        }
        if number == 1 {
            if bytes != HEAD.as_bytes() {
                return Err(corrupt(path, (1, 1), "it is no file of revocations"));
            }
            continue;
        }
        let change = parse(&bytes).map_err(|what| corrupt(path, (number, 1), what))?;
        changes.push((number, change));
    }
    Ok(changes)
}

/// What stops a start for a line that cannot be believed.
pub(super) fn corrupt(path: &Path, (line, column): (usize, usize), what: &str) -> Problem {
    Problem::new(format!("the revocations cannot be read: {what}"))
        .in_file(path)
        .at(line, column)
        .hint("mend or remove that line, or take a copy back; without the file, everything in it would be trusted again")
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(format!("the revocations cannot be read: {error}")).in_file(path)
}

fn parse(line: &[u8]) -> Result<Change, &'static str> {
    let value = json::parse(line).map_err(|error| error.what())?;
    let change = serde_json::from_value(value).map_err(|_| "the line is no revocation")?;
    if let Change::Revoke(event) = &change
        && !event.problems().is_empty()
    {
        return Err("a name in it is too long or has characters that no name has");
    }
    Ok(change)
}

fn line(text: &mut Vec<u8>, change: &Change) -> io::Result<()> {
    serde_json::to_writer(&mut *text, change)?;
    text.push(b'\n');
    Ok(())
}

/// Opens files for appending that only their owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

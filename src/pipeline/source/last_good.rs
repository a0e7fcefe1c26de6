//! The last good archive: what a newer one is measured by, and what a restart without the network serves.
//!
//! It is one file, so that it is whole or the one before: the signature's line, then the archive's bytes
//! (`tail -n +2 last-good.bundle > bundle.tar.gz` takes it apart). Nothing in it is believed for lying there: its signature
//! is verified again at start. Its serial number lies in the signed manifest, so no separate note of it can be lost alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Found, Seal, open};
use crate::model::{Problem, SnapshotId};
use crate::policy::{MAX_PACKED, MAX_SIGNATURE, PublicKeys};

const NAME: &str = "last-good.bundle";
/// Where it is written before it takes the other's place.
const UNFINISHED: &str = "last-good.bundle.tmp";

/// The last good archive, in memory and on disk.
#[derive(Debug)]
pub(in crate::pipeline) struct LastGood {
    folder: Option<PathBuf>,
    allow_rollback: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Newest>,
    /// What could not be written yet.
    unwritten: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Newest {
    serial: u64,
    id: SnapshotId,
    signature: Vec<u8>,
}

impl LastGood {
    pub(super) fn new(folder: Option<PathBuf>, allow_rollback: bool) -> Self {
        Self {
            folder,
            allow_rollback,
            state: Mutex::default(),
        }
    }

    /// Reads what is kept, and measures what comes by it from now on. Blocks.
    ///
    /// # Errors
    /// Where something is kept that cannot be read or is not signed by a key that is trusted now.
    pub(in crate::pipeline) fn revive(
        &self,
        keys: &PublicKeys,
    ) -> Result<Option<Found>, Vec<Problem>> {
        let found = self.read(keys)?;
        if let Some(Found {
            files,
            root,
            seal: Some(seal),
        }) = &found
        {
            self.lock().newest = Some(Newest::of(seal, files.id(root)));
        }
        Ok(found)
    }

    /// Reads what is kept. Blocks.
    ///
    /// # Errors
    /// As [`LastGood::revive`].
    pub(in crate::pipeline) fn read(
        &self,
        keys: &PublicKeys,
    ) -> Result<Option<Found>, Vec<Problem>> {
        let Some(path) = self.folder.as_ref().map(|folder| folder.join(NAME)) else {
            return Ok(None);
        };
        let wrong = |what: String| vec![Problem::new(what).in_file(&path)];
        let mut bytes = Vec::new();
        let limit = (MAX_PACKED + MAX_SIGNATURE + 1) as u64;
        match File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(format!("cannot read the kept bundle: {error}"))),
        }
        let line = bytes.iter().position(|byte| *byte == b'\n');
        let (signature, archive) = line
            .and_then(|end| bytes.split_at_checked(end + 1))
            .ok_or_else(|| wrong("the kept bundle has no signature".to_owned()))?;
        open(keys, archive.to_vec(), signature.to_vec(), &path).map(Some)
    }

    /// Whether an archive may follow the last good one.
    ///
    /// # Errors
    /// A serial that was passed already, or that was in force with other content.
    pub(in crate::pipeline) fn admit(&self, seal: &Seal, id: &SnapshotId) -> Result<(), Problem> {
        let state = self.lock();
        let Some(newest) = &state.newest else {
            return Ok(());
        };
        let (serial, known) = (seal.serial, newest.serial);
        if serial > known || self.allow_rollback || (serial == known && *id == newest.id) {
            return Ok(());
        }
        let hint = "publish the content under a higher serial; to go back to an old archive as it is, set \
                    `bundle.allow_rollback` for as long as that takes";
        let message = if serial == known {
            format!("the serial {serial} was in force already with other content")
        } else {
            format!("the serial {serial} is older than {known}, which was in force already")
        };
        Err(Problem::new(message).hint(hint))
    }

    /// Notes that an archive is in force, and keeps it on disk. Blocks. Where it cannot be kept it is in force all the
    /// same: an old policy in force would be worse than an old policy after a restart. It is tried again by
    /// [`LastGood::write`].
    pub(in crate::pipeline) fn keep(&self, seal: &Seal, id: SnapshotId) {
        let bundle = id.as_str().to_owned();
        let newest = Newest::of(seal, id);
        let mut state = self.lock();
        let same = state
            .newest
            .as_ref()
            .is_some_and(|known| known.signature == newest.signature);
        state.newest = Some(newest);
        if !same {
            tracing::info!(bundle, serial = seal.serial, key = %seal.signer, "the bundle in force is signed");
        }
        if self.folder.is_some() && !same {
            let line = seal.signature.trim_ascii_end();
            state.unwritten = Some([line, b"\n", &seal.archive].concat());
        }
        drop(state);
        self.write();
    }

    /// Writes what is not written yet. Blocks, if there is something.
    pub(in crate::pipeline) fn write(&self) {
        let mut state = self.lock();
        let (Some(folder), Some(bytes)) = (&self.folder, &state.unwritten) else {
            return;
        };
        match replace(folder, bytes) {
            Ok(()) => state.unwritten = None,
            Err(error) => {
                tracing::error!(folder = %folder.display(), %error,
                    "the bundle in force cannot be kept on disk: a restart would serve an older one");
            }
        }
    }

    /// Whether something waits to be written.
    pub(in crate::pipeline) fn unwritten(&self) -> bool {
        self.lock().unwritten.is_some()
    }

    /// The signature of the last good archive.
    pub(in crate::pipeline) fn signature(&self) -> Option<Vec<u8>> {
        let state = self.lock();
        state.newest.as_ref().map(|newest| newest.signature.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newest {
    fn of(seal: &Seal, id: SnapshotId) -> Self {
        Self {
            serial: seal.serial,
            id,
            signature: seal.signature.trim_ascii_end().to_vec(),
        }
    }
}

/// Puts a whole new file in the old one's place, on the disk itself.
fn replace(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::create_dir_all(folder)?;
    let unfinished = folder.join(UNFINISHED);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(unfinished, folder.join(NAME))?;
    File::open(folder)?.sync_all()
}

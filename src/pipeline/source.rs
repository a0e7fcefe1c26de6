//! Where bundles come from: a folder, a signed archive beside its signature, or a signed archive that is fetched.
//!
//! A folder is trusted as the settings are: whoever can write there decides. An archive is trusted for its signature, is
//! measured by the [`LastGood`] one, and is kept by it. Either way it gives the same files, and so the same digest.

mod last_good;
#[cfg(feature = "object-store")]
mod objects;
mod remote;
mod settings;
mod web;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::model::Problem;
use crate::policy::{Archive, BundleFiles, KeyId, MAX_PACKED, MAX_SIGNATURE, PublicKeys};

pub(super) use last_good::LastGood;
pub(super) use remote::{FetchError, Offer, Remote, Seen};
pub use settings::{BundleSettings, RemoteSettings};

/// A source, ready to be read.
#[derive(Debug)]
pub(super) enum Source {
    /// A folder.
    Folder(PathBuf),
    /// An archive on this machine.
    Archive {
        /// Where it is.
        path: PathBuf,
        /// Whose signature it needs.
        keys: PublicKeys,
    },
    /// An archive elsewhere.
    Remote {
        /// Where it is.
        remote: Box<Remote>,
        /// Whose signature it needs.
        keys: PublicKeys,
    },
}

/// A bundle as it was found, signature verified where it needs one.
#[derive(Debug)]
pub(super) struct Found {
    /// What it says.
    pub(super) files: BundleFiles,
    /// What its paths begin with.
    pub(super) root: PathBuf,
    /// The archive it came in.
    pub(super) seal: Option<Seal>,
}

/// An archive that was verified, and what its manifest says.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) serial: u64,
    pub(super) signer: KeyId,
    pub(super) archive: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Source {
    /// The source that settings name, and what is kept of it. Reads the public keys, so call it at start.
    ///
    /// # Errors
    /// Keys that cannot be read, or a remote place that cannot be asked.
    pub(super) fn of(settings: &BundleSettings) -> Result<(Self, LastGood), Vec<Problem>> {
        let last_good = LastGood::new(settings.cache_dir.clone(), settings.allow_rollback);
        if !settings.is_signed() {
            return Ok((Self::Folder(settings.path.clone()), last_good));
        }
        if let Some(problem) = settings.missing_keys() {
            return Err(vec![problem]);
        }
        let keys = PublicKeys::read(&settings.public_keys)?;
        let source = match &settings.remote {
            Some(remote) => Self::Remote {
                remote: Box::new(Remote::new(remote).map_err(|problem| vec![problem])?),
                keys,
            },
            None => Self::Archive {
                path: settings.path.clone(),
                keys,
            },
        };
        Ok((source, last_good))
    }

    /// Whose signature a bundle needs; `None` where it needs none.
    pub(super) fn keys(&self) -> Option<&PublicKeys> {
        match self {
            Self::Folder(_) => None,
            Self::Archive { keys, .. } | Self::Remote { keys, .. } => Some(keys),
        }
    }

    /// The files and folders whose change is a change of the bundle.
    pub(super) fn places(&self) -> Vec<PathBuf> {
        match self {
            Self::Folder(path) => vec![path.clone()],
            Self::Archive { path, .. } => vec![path.clone(), signature_path(path)],
            Self::Remote { .. } => Vec::new(),
        }
    }

    /// Reads the bundle; `None` where it is elsewhere and has to be fetched. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn read(&self) -> Result<Option<Found>, Vec<Problem>> {
        match self {
            Self::Folder(path) => {
                let files = BundleFiles::read(path)?;
                Ok(Some(Found {
                    files,
                    root: path.clone(),
                    seal: None,
                }))
            }
            Self::Archive { path, keys } => {
                let archive = read_file(path, MAX_PACKED).map_err(|problem| vec![problem])?;
                let signature = read_file(&signature_path(path), MAX_SIGNATURE)
                    .map_err(|problem| vec![problem])?;
                open(keys, archive, signature, path).map(Some)
            }
            Self::Remote { .. } => Ok(None),
        }
    }
}

/// Verifies an archive, then reads it.
///
/// # Errors
/// A signature that does not hold, or everything that is wrong with the archive.
pub(super) fn open(
    keys: &PublicKeys,
    archive: Vec<u8>,
    signature: Vec<u8>,
    root: &Path,
) -> Result<Found, Vec<Problem>> {
    let (verified, signer) = keys
        .verify(&archive, &signature)
        .map_err(|problem| vec![problem.in_file(root)])?;
    let Archive { manifest, files } = Archive::open(verified, root)?;
    Ok(Found {
        files,
        root: root.to_path_buf(),
        seal: Some(Seal {
            serial: manifest.serial,
            signer,
            archive,
            signature,
        }),
    })
}

/// Where the signature of an archive is: beside it, with `.sig` at its end.
#[must_use]
pub fn signature_path(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Reads one file, up to a limit. Blocks.
///
/// # Errors
/// A file that cannot be read or is longer.
pub fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Problem::new(format!("cannot read the file: {error}")).in_file(path))?;
    if bytes.len() > limit {
        return Err(Problem::new(format!("the file is longer than {limit} bytes")).in_file(path));
    }
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

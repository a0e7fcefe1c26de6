//! A bundle as one file: a gzip-compressed tar (POSIX ustar) of the bundle's files and `manifest.json`, which lists them.
//!
//! An archive is taken for hostile even after its signature is verified, since keys get stolen. It is read in memory and
//! never unpacked to disk, so no path in it leads anywhere; what it may hold is the least that serves: plain files, each
//! once, each listed with its digest, nothing else, to the last byte. The tar crate's own reader forgives more than that
//! (extensions, a missing end, whatever follows the end), so its layout of headers is used and its reader is not.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::{Compression, GzBuilder, bufread::GzDecoder};
use jiff::Timestamp;
use tar::{EntryType, Header};

use super::manifest::{self, MAX_PATH, Manifest, check_path, digest_of};
use super::{BundleFiles, MAX_BYTES, MAX_FILES, Verified};
use crate::model::{Problem, shown};

/// The most bytes an archive may hold as it is sent. Unpacked it may hold [`MAX_BYTES`], headers and manifest included.
pub const MAX_PACKED: usize = 16 * 1024 * 1024;

/// Tar's unit of size.
const BLOCK: usize = 512;
/// The most mistakes that are told of one archive.
const MAX_TOLD: usize = 20;
const TRUNCATED: &str = "the archive ends too early";

/// Files by their paths.
type Entries<'a> = BTreeMap<String, &'a [u8]>;

/// An archive that was read, whole and in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What it holds: the same as the folder that it was made from.
    pub files: BundleFiles,
}

impl Archive {
    /// Reads a signed archive. `root` is how its files are named in messages, in place of the folder.
    ///
    /// # Errors
    /// Everything that is wrong with it, as far as it could be read.
    pub fn open(verified: Verified<'_>, root: &Path) -> Result<Self, Vec<Problem>> {
        Self::inspect(verified.bytes(), root)
    }

    /// Reads an archive that nobody vouches for: to sign it, or to look at what was just made. Never to serve it.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn inspect(packed: &[u8], root: &Path) -> Result<Self, Vec<Problem>> {
        let refused = |wrong: Vec<String>| {
            let problem = |message| Problem::new(message).in_file(root);
            wrong.into_iter().map(problem).collect::<Vec<_>>()
        };
        let tar = unpack(packed).map_err(|wrong| refused(vec![wrong]))?;
        let (manifest, entries) = read(&tar).map_err(refused)?;
        let files = BundleFiles::of_texts(root, entries)?;
        Ok(Self { manifest, files })
    }

    /// Packs a folder's files: the same files, serial and time give the same bytes, whoever packs them and when.
    ///
    /// # Errors
    /// Every path that cannot stand in an archive, a serial that is out of range, and every limit that is passed.
    pub fn build(
        files: &BundleFiles,
        folder: &Path,
        serial: u64,
        created: Option<Timestamp>,
    ) -> Result<Vec<u8>, Vec<Problem>> {
        let mut manifest =
            Manifest::new(serial, created).map_err(|wrong| vec![Problem::new(wrong)])?;
        let mut contents = BTreeMap::new();
        let mut problems = Vec::new();
        for document in files.documents() {
            let path = document.path.strip_prefix(folder).unwrap_or(&document.path);
            let checked = path.to_str().ok_or("is not UTF-8");
            match checked.and_then(|path| check_path(path).map(|()| path)) {
                Ok(path) => {
                    contents.insert(path, document.text.as_bytes());
                    let digest = digest_of(document.text.as_bytes());
                    manifest.files.insert(path.to_owned(), digest);
                }
                Err(wrong) => problems.push(
                    Problem::new(format!(
                        "the path {wrong}, so it cannot stand in an archive"
                    ))
                    .in_file(&document.path),
                ),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let packed = pack(&manifest, &contents)
            .map_err(|wrong| vec![Problem::new(wrong).in_file(folder)])?;
        // What is made must be what is read, limits included.
        Self::inspect(&packed, folder).map(|_| packed)
    }
}

/// Undoes the compression, within limits.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    if packed.len() > MAX_PACKED {
        let limit = MAX_PACKED / 1024 / 1024;
        return Err(format!("the archive is longer than {limit} MiB"));
    }
    let mut tar = Vec::new();
    let mut reader = GzDecoder::new(packed).take(MAX_BYTES + 1);
    reader.read_to_end(&mut tar).map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            TRUNCATED.to_owned()
        } else {
            "the archive is not gzip, or is damaged".to_owned()
        }
    })?;
    if tar.len() as u64 > MAX_BYTES {
        let limit = MAX_BYTES / 1024 / 1024;
        return Err(format!("the archive unpacks to more than {limit} MiB"));
    }
    if reader.into_inner().into_inner().is_empty() {
        Ok(tar)
    } else {
        Err("something follows the end of the archive".to_owned())
    }
}

/// The manifest and the files, which agree.
fn read(tar: &[u8]) -> Result<(Manifest, Entries<'_>), Vec<String>> {
    let mut entries = entries(tar).map_err(|wrong| vec![wrong])?;
    let text = entries
        .remove(manifest::NAME)
        .ok_or_else(|| vec![format!("the archive holds no `{}`", manifest::NAME)])?;
    let manifest = Manifest::parse(text)
        .map_err(|wrong| vec![format!("`{}` cannot be used: {wrong}", manifest::NAME)])?;
    let listed = manifest.files.iter().filter_map(|(path, digest)| {
        let content = entries.get(path.as_str());
        match content.map(|content| digest_of(content) == *digest) {
            None => Some(format!(
                "`{path}` is in the manifest and not in the archive"
            )),
            Some(false) => Some(format!("`{path}` is not what the manifest says")),
            Some(true) => None,
        }
    });
    let unlisted = entries
        .keys()
        .filter(|path| !manifest.files.contains_key(*path))
        .map(|path| format!("`{path}` is in the archive and not in the manifest"));
    let wrong: Vec<String> = listed.chain(unlisted).take(MAX_TOLD).collect();
    if wrong.is_empty() {
        Ok((manifest, entries))
    } else {
        Err(wrong)
    }
}

/// Every file of a tar, by path, to its last byte.
fn entries(tar: &[u8]) -> Result<Entries<'_>, String> {
    let mut entries = BTreeMap::new();
    let mut rest = tar;
    loop {
        let (block, after) = rest.split_at_checked(BLOCK).ok_or(TRUNCATED)?;
        if is_zero(block) {
            // The end is two blocks of zeros, and zeros as far as the writer rounds up.
            return match (after.len() >= BLOCK, is_zero(after)) {
                (true, true) => Ok(entries),
                (false, true) => Err(TRUNCATED.to_owned()),
                (_, false) => Err("something follows the end of the archive".to_owned()),
            };
        }
        let (path, size) = entry(Header::from_byte_slice(block))?;
        let (content, after) = after.split_at_checked(size).ok_or(TRUNCATED)?;
        let padding = size.next_multiple_of(BLOCK) - size;
        let (padding, after) = after.split_at_checked(padding).ok_or(TRUNCATED)?;
        if !is_zero(padding) {
            return Err(format!("something hides behind the end of `{path}`"));
        }
        if entries.contains_key(&path) {
            return Err(format!("the archive holds `{path}` twice"));
        }
        entries.insert(path, content);
        if entries.len() > MAX_FILES + 1 {
            return Err(format!("the archive holds more than {MAX_FILES} files"));
        }
        rest = after;
    }
}

/// What one header says: the path of a plain file, and its size.
fn entry(header: &Header) -> Result<(String, usize), String> {
    let mut again = header.clone();
    again.set_cksum();
    if again.cksum().ok() != header.cksum().ok() {
        return Err("a header in the archive is damaged".to_owned());
    }
    let path = header.path_bytes();
    let name = shown(&String::from_utf8_lossy(&path), MAX_PATH).into_owned();
    let refused = |why: &str| Err(format!("`{name}` in the archive {why}"));
    match header.entry_type() {
        EntryType::Regular => {}
        EntryType::Symlink | EntryType::Link => return refused("is a link"),
        EntryType::Directory => return refused("is a folder; list files alone"),
        EntryType::Char | EntryType::Block | EntryType::Fifo => return refused("is a device"),
        _ => return refused("is no plain file of the ustar form"),
    }
    if header.as_ustar().is_none() {
        return refused("is not of the ustar form");
    }
    let Ok(path) = String::from_utf8(path.into_owned()) else {
        return refused("has a name that is not UTF-8");
    };
    if let Err(wrong) = check_path(&path) {
        return refused(wrong);
    }
    match header.entry_size().map(usize::try_from) {
        Ok(Ok(size)) if size as u64 <= MAX_BYTES => Ok((path, size)),
        _ => refused("has a size that cannot be"),
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Writes the archive. Owners, times and modes are the same whoever writes it.
fn pack(manifest: &Manifest, contents: &BTreeMap<&str, &[u8]>) -> Result<Vec<u8>, String> {
    let mut listing = serde_json::to_vec_pretty(manifest).map_err(|error| error.to_string())?;
    listing.push(b'\n');
    // Operating system 255 is "unknown" (RFC 1952, section 2.3.1): the default tells on which one it was written.
    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), Compression::best());
    let mut tar = tar::Builder::new(gzip);
    let first = (manifest::NAME, listing.as_slice());
    for (path, content) in std::iter::once(first).chain(contents.iter().map(|(p, c)| (*p, *c))) {
        let mut header = Header::new_ustar();
        header.set_path(path).map_err(|_| {
            format!("`{path}` is too long for the ustar form: 155 bytes of folders, 100 of name")
        })?;
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        tar.append(&header, content)
            .map_err(|error| format!("cannot write the archive: {error}"))?;
    }
    tar.into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .map_err(|error| format!("cannot write the archive: {error}"))
}

#[cfg(test)]
mod tests;

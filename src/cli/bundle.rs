//! `cardea bundle`: policies as one signed file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::print;
use crate::model::{Problem, SystemClock};
use crate::pipeline::{Snapshot, read_file, signature_path};
use crate::policy::{Archive, BundleFiles, MAX_PACKED, MAX_SIGNATURE, PublicKeys, SigningKey};

const PRIVATE: &str = "cardea-bundle.key";
const PUBLIC: &str = "cardea-bundle.pub";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done; 2 a mistake in arguments, files or bundle, or a signature that does not hold."
)]
pub(super) struct BundleCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a key pair (Ed25519) that signs bundles; a file that exists is left alone
    Keygen {
        /// The folder for `cardea-bundle.key` (keep it secret) and `cardea-bundle.pub` (for `bundle.public_keys`)
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Pack a folder into one archive; the same input gives the same bytes
    Build {
        /// The folder that holds the bundle
        folder: PathBuf,
        /// Higher than that of every bundle before it
        #[arg(long, value_name = "NUMBER")]
        serial: u64,
        /// The archive to write, such as `policies.tar.gz`
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The time to note in the manifest (RFC 3339); without it none is noted, so that builds stay the same
        #[arg(long, value_name = "TIME")]
        created: Option<Timestamp>,
    },
    /// Sign an archive: writes the signature beside it, as FILE.sig
    Sign {
        /// The archive
        file: PathBuf,
        /// The private key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Verify an archive as `serve` would, compile it, and say what is in it
    Verify {
        /// The archive; its signature lies beside it, as FILE.sig
        file: PathBuf,
        /// A public key that may sign; give it again for more
        #[arg(long, value_name = "FILE", required = true)]
        key: Vec<PathBuf>,
    },
}

pub(super) fn run(command: &BundleCommand) -> Result<(), Vec<Problem>> {
    let said = match &command.what {
        What::Keygen { out } => keygen(out),
        What::Build {
            folder,
            serial,
            out,
            created,
        } => build(folder, out, (*serial, *created)),
        What::Sign { file, key } => sign(file, key),
        What::Verify { file, key } => verify(file, key),
    };
    said.map(|said| print(&said))
}

fn keygen(folder: &Path) -> Result<String, Vec<Problem>> {
    let (private, public) = (folder.join(PRIVATE), folder.join(PUBLIC));
    let key = SigningKey::generate().map_err(one)?;
    std::fs::create_dir_all(folder).map_err(|error| cannot("make the folder", folder, &error))?;
    if public.exists() {
        let problem = Problem::new("the file exists already").in_file(public);
        return Err(vec![
            problem.hint("name another folder, or take the old keys away"),
        ]);
    }
    write_new(&private, key.private.expose_secret(), 0o600)?;
    write_new(&public, &key.public, 0o644)?;
    Ok(format!(
        "key {}\nprivate key: {} (keep it secret)\npublic key: {}\n",
        key.id,
        private.display(),
        public.display()
    ))
}

fn build(
    folder: &Path,
    out: &Path,
    (serial, created): (u64, Option<Timestamp>),
) -> Result<String, Vec<Problem>> {
    let files = BundleFiles::read(folder)?;
    let archive = Archive::build(&files, folder, serial, created)?;
    replace(out, &archive)?;
    Ok(format!(
        "{}: serial {serial}, bundle {}, {} bytes\nnot signed yet: `cardea bundle sign`\n",
        out.display(),
        files.id(folder).as_str(),
        archive.len()
    ))
}

fn sign(file: &Path, key: &Path) -> Result<String, Vec<Problem>> {
    let key = SigningKey::read(key).map_err(one)?;
    let bytes = read_file(file, MAX_PACKED).map_err(one)?;
    // What would be refused anyway is not signed.
    let archive = Archive::inspect(&bytes, file)?;
    let signature = signature_path(file);
    replace(&signature, key.sign(&bytes).as_bytes())?;
    Ok(format!(
        "{}: serial {}, signed with the key {}\n",
        signature.display(),
        archive.manifest.serial,
        key.id()
    ))
}

fn verify(file: &Path, keys: &[PathBuf]) -> Result<String, Vec<Problem>> {
    let keys = PublicKeys::read(keys)?;
    let bytes = read_file(file, MAX_PACKED).map_err(one)?;
    let signature = read_file(&signature_path(file), MAX_SIGNATURE).map_err(one)?;
    let (verified, signer) = keys
        .verify(&bytes, &signature)
        .map_err(|problem| vec![problem.in_file(file)])?;
    let Archive { manifest, files } = Archive::open(verified, file)?;
    let snapshot = Snapshot::compile(&files, file, &SystemClock)?;
    let created = manifest.created.as_ref();
    Ok(format!(
        "{}: signed with the key {signer}\nserial {}{}, {} files\nbundle {}: {} policies, {} operations in {} APIs, {} entities\n",
        file.display(),
        manifest.serial,
        created.map_or_else(String::new, |time| format!(", created {time}")),
        manifest.len(),
        snapshot.id.as_str(),
        snapshot.policies.len(),
        snapshot.inventory.operations().count(),
        snapshot.inventory.apis().count(),
        snapshot.policies.entities(),
    ))
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Vec<Problem> {
    vec![Problem::new(format!("cannot {what}: {error}")).in_file(path)]
}

/// Writes a file that must not exist yet: a key is never written over.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Vec<Problem>> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| cannot("write the file", path, &error))
}

/// Puts a whole file in place, so that nobody who watches sees half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Vec<Problem>> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    std::fs::write(&unfinished, bytes)
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(|error| cannot("write the file", path, &error))
}

#[cfg(test)]
mod tests;

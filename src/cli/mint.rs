//! `cardea mint`: the keys that sign what upstreams are told of callers.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use secrecy::ExposeSecret;
use serde_json::json;

use super::{json, print};
use crate::config::Config;
use crate::mint::{FreshSigningKey, KEY_FILE_ENDING, ListedKey, SigningAlgorithm, listed_keys};
use crate::model::{Clock, Problem, SystemClock};

const AFTER_HELP: &str = "\
Each key is a file of its own in `mint.keys.directory`; the last one by name signs. A running Cardea publishes a new key at \
once, and signs with it after `mint.keys.publish_ahead`. Take an old key away only after the new one signs.

Examples:
  cardea mint create-key --directory signing-keys
  cardea mint list-keys --directory signing-keys
  cardea mint list-keys --config cardea.yaml --format jwks > jwks.json

Exit codes: 0 done; 2 a mistake in arguments, settings or files.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct MintCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a private key in a new file that only its owner may read; the folder too, where there is none
    CreateKey {
        #[command(flatten)]
        folder: FolderArguments,
        /// What the key signs with
        #[arg(long, value_enum, default_value_t = Algorithm::Es256, value_name = "ALGORITHM")]
        algorithm: Algorithm,
    },
    /// Show which keys there are: never a private one
    ListKeys {
        #[command(flatten)]
        folder: FolderArguments,
        /// How to show them
        #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
        format: Format,
    },
}

/// Where keys are kept.
#[derive(Debug, clap::Args)]
struct FolderArguments {
    /// The settings file, whose `mint.keys.directory` says where the keys are
    #[arg(short, long, value_name = "FILE", env = "CARDEA_CONFIG")]
    config: Option<PathBuf>,
    /// The folder of keys, in place of the settings'
    #[arg(long, value_name = "FOLDER")]
    directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs: a list of names, key ids and algorithms
    Json,
    /// The key set that verifiers need (RFC 7517), for those that cannot fetch it
    Jwks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    /// ECDSA over P-256
    Es256,
    /// Ed25519
    Eddsa,
}

impl From<Algorithm> for SigningAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Es256 => Self::ES256,
            Algorithm::Eddsa => Self::EdDSA,
        }
    }
}

pub(super) fn run(command: &MintCommand) -> Result<(), Vec<Problem>> {
    let text = match &command.what {
        What::CreateKey { folder, algorithm } => create(&folder.path()?, *algorithm)?,
        What::ListKeys { folder, format } => list(&folder.path()?, *format)?,
    };
    print(&text);
    Ok(())
}

impl FolderArguments {
    fn path(&self) -> Result<PathBuf, Vec<Problem>> {
        if let Some(folder) = &self.directory {
            return Ok(folder.clone());
        }
        let config = self.config.as_deref().map(Config::read).transpose()?;
        let named = config.and_then(|config| config.mint?.keys.directory);
        named.ok_or_else(|| {
            let problem = Problem::new("no folder of keys is named");
            one(problem.hint(
                "name it with `--directory`, or settings with `mint.keys.directory` by `--config`",
            ))
        })
    }
}

fn create(folder: &Path, algorithm: Algorithm) -> Result<String, Vec<Problem>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| cannot("make the folder of keys", folder, &error))?;
    let key = FreshSigningKey::generate(algorithm.into())
        .map_err(|error| one(Problem::new(error.to_string())))?;
    let name = file_name(SystemClock.now(), &key.kid);
    let last = last_by_name(folder)?;
    if let Some(last) = last.filter(|last| *last > name) {
        let problem = Problem::new(format!(
            "the new key `{name}` would not be the last by name, and so never sign"
        ));
        return Err(one(problem
            .in_file(folder.join(last))
            .hint("give that file a name that comes before it")));
    }
    let path = folder.join(&name);
    write_new(folder, &name, key.pem.expose_secret())
        .map_err(|error| cannot("write the key", &path, &error))?;
    Ok(format!("{}\nkid {}\n", path.display(), key.kid))
}

/// Sorted by name, keys are sorted by when they were made.
fn file_name(now: Timestamp, kid: &str) -> String {
    let at = now
        .to_zoned(TimeZone::UTC)
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    // A kid may begin with `-`; what follows the time is for people alone.
    format!("{at}-{}{KEY_FILE_ENDING}", kid.get(..8).unwrap_or(kid))
}

fn last_by_name(folder: &Path) -> Result<Option<String>, Vec<Problem>> {
    let failed = |error: std::io::Error| cannot("look at the folder of keys", folder, &error);
    let mut last = None;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry
            .map_err(failed)?
            .file_name()
            .to_str()
            .map(str::to_owned);
        let key = |name: &String| name.ends_with(KEY_FILE_ENDING) && !name.starts_with('.');
        last = last.max(name.filter(key));
    }
    Ok(last)
}

/// Writes a whole file that only its owner may read, and only then gives it its name: whoever follows the folder never sees
/// half a key.
fn write_new(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let unfinished = folder.join(format!(".{name}.tmp"));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    let put = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&unfinished, folder.join(name)))
        .and_then(|()| File::open(folder)?.sync_all());
    if put.is_err() {
        // What is left of it is of no use, and holds a key.
        let _ = std::fs::remove_file(&unfinished);
    }
    put
}

fn list(folder: &Path, format: Format) -> Result<String, Vec<Problem>> {
    let keys = listed_keys(folder)?;
    match format {
        Format::Text => Ok(table(&keys)),
        Format::Json => {
            let all = keys.iter().map(|key| {
                json!({ "file": key.file, "kid": key.kid, "algorithm": key.algorithm.as_str() })
            });
            json(&all.collect::<Vec<_>>())
        }
        Format::Jwks => {
            let all: Vec<_> = keys.iter().map(|key| &key.jwk).collect();
            json(&json!({ "keys": all }))
        }
    }
}

fn table(keys: &[ListedKey]) -> String {
    let width = keys
        .iter()
        .map(|key| key.file.len())
        .max()
        .unwrap_or_default();
    let row =
        |file: &str, algorithm: &str, kid: &str| format!("{file:<width$}  {algorithm:<9}  {kid}\n");
    let mut text = row("FILE", "ALGORITHM", "KID");
    for key in keys {
        text.push_str(&row(&key.file, key.algorithm.as_str(), &key.kid));
    }
    text
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Vec<Problem> {
    one(Problem::new(format!("cannot {what}: {error}")).in_file(path))
}

//! `cardea keys`: API keys are made, listed, taken back and replaced.

mod list;
mod store;

use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use self::store::Store;
use super::{json, print};
use crate::identity::{FreshKey, KeyEntry, Owner, hash_password};
use crate::model::{Clock, PrincipalKind, Problem, SystemClock};

const AFTER_HELP: &str = "\
A key is shown once, on standard output, when it is made: the file holds a keyed hash of it and nothing else. A running \
Cardea reads the file again when it changes.

Examples:
  cardea keys init
  cardea keys create --owner billing --scope invoices:read --expires-in 90d
  cardea keys rotate 4fK2mQ9xTbLw --overlap 24h
  cardea keys revoke 4fK2mQ9xTbLw
  cardea keys hash-password < password.txt

Exit codes: 0 done; 2 a mistake in arguments, settings or files.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct KeysCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the hash key and an empty file of keys; what exists is left alone
    Init(StoreArguments),
    /// Make a key, and show it once
    Create(CreateArguments),
    /// Show whose keys there are, and until when: never a key
    List {
        #[command(flatten)]
        store: StoreArguments,
        /// How to show them
        #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
        format: Format,
    },
    /// Take keys back, at once and for good
    Revoke {
        #[command(flatten)]
        store: StoreArguments,
        /// The keys' ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Make a key in place of another, which ends after a while
    Rotate(RotateArguments),
    /// Hash a password from standard input, for the file of users (`identity.basic`)
    HashPassword,
}

/// Where keys are kept.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct StoreArguments {
    /// The settings file, whose section `identity.api_keys` says where the keys are
    #[arg(short, long, value_name = "FILE", env = "CARDEA_CONFIG")]
    config: Option<PathBuf>,
    /// The file of keys, in place of the settings'
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The file that holds the hash key, in place of the settings'
    #[arg(long, value_name = "FILE")]
    hash_key_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct CreateArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Who the key belongs to: the subject, unique within its issuer
    #[arg(long, value_name = "SUBJECT")]
    owner: String,
    /// Who vouches for the owner; without it, `identity.api_keys.issuer`
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// What kind of principal the owner is
    #[arg(long, value_enum, default_value_t = Kind::Client, value_name = "KIND")]
    kind: Kind,
    /// What the key may be used for; give it again for more
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// A role of the owner; give it again for more
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// A group of the owner; give it again for more
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// The owner's tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// How long the key may be used
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = life)]
    expires_in: SignedDuration,
    /// What people should know of it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// How to show the key
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct RotateArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// The id of the key to replace
    id: String,
    /// How long the old key may be used beside the new one
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
    overlap: SignedDuration,
    /// How long the new key may be used; without it, as long as the old one was made for
    #[arg(long, value_name = "TIME", value_parser = life)]
    expires_in: Option<SignedDuration>,
    /// How to show the key
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: the key alone on standard output, all else on standard error
    Text,
    /// For programs: one JSON document on standard output
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Client,
    Workload,
    User,
    Agent,
}

impl From<Kind> for PrincipalKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Client => Self::Client,
            Kind::Workload => Self::Workload,
            Kind::User => Self::User,
            Kind::Agent => Self::Agent,
        }
    }
}

pub(super) fn run(command: &KeysCommand) -> Result<(), Vec<Problem>> {
    match &command.what {
        What::Init(arguments) => store::init(arguments).map(|said| print(&said)),
        What::Create(arguments) => create(arguments),
        What::List { store, format } => {
            let store = Store::open(store)?;
            let now = SystemClock.now();
            match format {
                Format::Text => print(&list::text(store.read()?.keys(), now)),
                Format::Json => print(&list::json(store.read()?.keys(), now)?),
            }
            Ok(())
        }
        What::Revoke { store, ids } => revoke(store, ids),
        What::Rotate(arguments) => rotate(arguments),
        What::HashPassword => hash(),
    }
}

fn create(arguments: &CreateArguments) -> Result<(), Vec<Problem>> {
    let owner = Owner {
        issuer: arguments.issuer.clone(),
        subject: arguments.owner.clone(),
        kind: arguments.kind.into(),
        scopes: arguments.scope.clone(),
        roles: arguments.role.clone(),
        groups: arguments.group.clone(),
        tenant: arguments.tenant.clone(),
    };
    let wrong = owner.mistakes();
    if !wrong.is_empty() {
        return Err(wrong.into_iter().map(Problem::new).collect());
    }
    let store = Store::open(&arguments.store)?;
    let now = SystemClock.now();
    let key = FreshKey::generate(store.prefix()).map_err(one)?;
    let entry = store.edit(|file, hash_key| {
        let times = (now, after(now, arguments.expires_in));
        let note = arguments.note.clone();
        Ok(file.add((&key, hash_key), owner, times, note).clone())
    })?;
    show(&key, &entry, arguments.format)
}

fn rotate(arguments: &RotateArguments) -> Result<(), Vec<Problem>> {
    let store = Store::open(&arguments.store)?;
    let now = SystemClock.now();
    let key = FreshKey::generate(store.prefix()).map_err(one)?;
    let entry = store.edit(|file, hash_key| {
        let times = (now, arguments.overlap);
        file.rotate(&arguments.id, (&key, hash_key), times, arguments.expires_in)
            .cloned()
    })?;
    show(&key, &entry, arguments.format)
}

fn revoke(arguments: &StoreArguments, ids: &[String]) -> Result<(), Vec<Problem>> {
    let said = Store::open(arguments)?.edit(|file, _| {
        let mut said = String::new();
        for id in ids {
            let word = if file.revoke(id)? {
                "revoked"
            } else {
                "was revoked already"
            };
            said.extend([id, ": ", word, "\n"]);
        }
        Ok(said)
    })?;
    print(&said);
    Ok(())
}

/// Shows a key, the one time that it is there to be shown.
fn show(key: &FreshKey, entry: &KeyEntry, format: Format) -> Result<(), Vec<Problem>> {
    let text = key.text.expose_secret();
    let (subject, expires_at) = (&entry.owner.subject, entry.expires_at);
    let shown = match format {
        Format::Text => format!("{text}\n"),
        Format::Json => json(&json!({
            "id": entry.id,
            "key": text,
            "subject": subject,
            "expires_at": expires_at.to_string(),
            "replaces": entry.replaces,
        }))?,
    };
    let mut out = std::io::stdout().lock();
    let told = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
    told.map_err(|error| {
        let id = &entry.id;
        let problem = Problem::new(format!("the key `{id}` could not be shown: {error}"));
        one(problem.hint(format!("nobody knows it now: `cardea keys revoke {id}`")))
    })?;
    if format == Format::Text {
        // With nowhere to tell it, the list has it too.
        let _ = writeln!(
            std::io::stderr().lock(),
            "key {} of {subject}, until {expires_at}; it is shown this once",
            entry.id
        );
    }
    Ok(())
}

/// Reads a password from standard input, where no list of processes and no shell history shows it.
fn hash() -> Result<(), Vec<Problem>> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| one(Problem::new(format!("cannot read the password: {error}"))))?;
    let password: SecretString = line.trim_end_matches(['\n', '\r']).into();
    let hash = hash_password(&password).map_err(one)?;
    print(&format!("{hash}\n"));
    Ok(())
}

/// A length of time in which days count: `90d`, `24h`, `1w 2d`.
fn span(text: &str) -> Result<SignedDuration, String> {
    let days = SpanRelativeTo::days_are_24_hours();
    let parsed = text.parse::<Span>().and_then(|span| span.to_duration(days));
    let wrong = || "not a length of time: write it like `90d`, `24h` or `1h 30m`".to_owned();
    parsed
        .ok()
        .filter(|span| !span.is_negative())
        .ok_or_else(wrong)
}

/// How long a key may be used.
fn life(text: &str) -> Result<SignedDuration, String> {
    let life = span(text)?;
    if life < SignedDuration::from_secs(1) {
        return Err("a key must live a second at least".to_owned());
    }
    Ok(life)
}

/// As late as can be written, where it would be later.
fn after(now: Timestamp, life: SignedDuration) -> Timestamp {
    now.saturating_add(life).unwrap_or(Timestamp::MAX)
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

/// A time as a table has room for it: the day, in UTC.
fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).date().to_string()
}

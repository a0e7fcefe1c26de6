//! The file that keys are kept in: who may use each, until when, and the keyed hash it is found by.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::fmt::{self, Display};
use std::path::Path;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::settings::plain;
use super::key::{FreshKey, HashKey, KeyHash};
use crate::model::{PrincipalKind, Problem, line_and_column, yaml};

/// The form of the file that this program reads and writes.
const VERSION: u32 = 1;

/// The most keys one file may hold.
const MOST: usize = 100_000;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    version: u32,
    /// Which hash key the hashes need: another one would find no key at all.
    hash_key_id: String,
    keys: Vec<KeyEntry>,
}

/// One key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The key's public name.
    pub id: String,
    /// HMAC-SHA-256 of the key under the hash key, in hex.
    hash: String,
    /// Who it belongs to.
    pub owner: Owner,
    /// When it was made.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub expires_at: Timestamp,
    /// Whether it may be used.
    pub state: KeyState,
    /// The key that this one replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The key that replaces this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,
    /// What people should know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Shows no hash.
impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEntry")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("expires_at", &self.expires_at)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Who a key belongs to, and what its bearer is to policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Who vouches for the subject; without one, `identity.api_keys.issuer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The holder, unique within the issuer.
    pub subject: String,
    /// What kind of principal it is.
    #[serde(default = "client")]
    pub kind: PrincipalKind,
    /// What the key may be used for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The holder's roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The holder's groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The holder's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// Whether a key may be used, its time aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It may.
    Active,
    /// It was taken back for good.
    Revoked,
}

fn client() -> PrincipalKind {
    PrincipalKind::Client
}

impl KeyFile {
    /// A file without keys, for this hash key.
    #[must_use]
    pub fn empty(hash_key: &HashKey) -> Self {
        Self {
            version: VERSION,
            hash_key_id: hash_key.id().to_owned(),
            keys: Vec::new(),
        }
    }

    /// Reads a file, and holds it against everything that a file must meet.
    ///
    /// # Errors
    /// All mistakes, with their lines where these can be told.
    pub fn parse(bytes: &[u8], path: &Path, hash_key: &HashKey) -> Result<Self, Vec<Problem>> {
        let one = |problem: Problem| vec![problem.in_file(path)];
        let text = std::str::from_utf8(bytes)
            .map_err(|_| one(Problem::new("the file of API keys is not UTF-8")))?;
        let file: Self = if is_yaml(path) {
            yaml::parse(text)
        } else {
            json(text)
        }
        .map_err(one)?;
        let problems = file.problems(text, hash_key);
        if problems.is_empty() {
            Ok(file)
        } else {
            let placed = problems.into_iter().map(|problem| problem.in_file(path));
            Err(placed.collect())
        }
    }

    /// The file's text.
    ///
    /// # Errors
    /// Where it cannot be put into JSON, which nothing in it causes.
    pub fn text(&self) -> Result<String, Problem> {
        serde_json::to_string_pretty(self)
            .map(|text| format!("{text}\n"))
            .map_err(|error| Problem::new(format!("cannot write the keys: {error}")))
    }

    /// Every key, in the order of the file.
    #[must_use]
    pub fn keys(&self) -> &[KeyEntry] {
        &self.keys
    }

    /// Adds a fresh key for `owner`, and returns its entry.
    pub fn add(
        &mut self,
        (key, hash_key): (&FreshKey, &HashKey),
        owner: Owner,
        (now, expires_at): (Timestamp, Timestamp),
        note: Option<String>,
    ) -> &KeyEntry {
        let hash = hash_key.hash(key.text.expose_secret().as_bytes());
        self.keys.push(KeyEntry {
            id: key.id.clone(),
            hash: hash.map(KeyHash::to_hex).unwrap_or_default(),
            owner,
            created_at: whole(now),
            expires_at: whole(expires_at),
            state: KeyState::Active,
            replaces: None,
            successor: None,
            note,
        });
        let last = self.keys.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "it was pushed a line above")]
        &self.keys[last]
    }

    /// Takes a key back for good. Whether it was not before.
    ///
    /// # Errors
    /// Where there is no such key.
    pub fn revoke(&mut self, id: &str) -> Result<bool, Problem> {
        let entry = self.entry(id)?;
        let before = std::mem::replace(&mut entry.state, KeyState::Revoked);
        Ok(before == KeyState::Active)
    }

    /// Adds a key for the same owner and for as long as the old one was for; the old one ends after `overlap`.
    ///
    /// # Errors
    /// Where there is no such key, or it cannot be used any more.
    pub fn rotate(
        &mut self,
        id: &str,
        (key, hash_key): (&FreshKey, &HashKey),
        (now, overlap): (Timestamp, SignedDuration),
        life: Option<SignedDuration>,
    ) -> Result<&KeyEntry, Problem> {
        let old = self.entry(id)?;
        if !old.usable(now) {
            return Err(
                Problem::new(format!("the key `{id}` has ended or was revoked"))
                    .hint("make a new one with `cardea keys create`"),
            );
        }
        if let Some(successor) = &old.successor {
            let message = format!("the key `{id}` was replaced by `{successor}` already");
            return Err(Problem::new(message).hint("rotate that one"));
        }
        let life = life.unwrap_or_else(|| old.expires_at.duration_since(old.created_at));
        let expires_at = now.saturating_add(life).unwrap_or(Timestamp::MAX);
        let end = now.saturating_add(overlap).unwrap_or(Timestamp::MAX);
        let (owner, note) = (old.owner.clone(), old.note.clone());
        // Not before it was made, which a file may not say: the clock may have been set back.
        old.expires_at = whole(old.expires_at.min(end)).max(old.created_at);
        old.successor = Some(key.id.clone());
        self.add((key, hash_key), owner, (now, expires_at), note);
        let new = self.entry(&key.id)?;
        new.replaces = Some(id.to_owned());
        Ok(new)
    }

    fn entry(&mut self, id: &str) -> Result<&mut KeyEntry, Problem> {
        let mut keys = self.keys.iter_mut();
        keys.find(|entry| entry.id == id).ok_or_else(|| {
            Problem::new("there is no key of that id")
                .hint("`cardea keys list` shows them; an id is the middle part of a key")
        })
    }

    /// Everything that is wrong with what the file says. `text` is the file, for the lines.
    fn problems(&self, text: &str, hash_key: &HashKey) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.version != VERSION {
            let message = format!(
                "the file has version {}, and only {VERSION} is known",
                self.version
            );
            problems.push(Problem::new(message));
        }
        if self.hash_key_id != hash_key.id() {
            let message = "the keys were hashed with another hash key than the configured one";
            problems.push(
                Problem::new(message)
                    .hint("point `identity.api_keys.hash_key` to the one that made this file"),
            );
        }
        if self.keys.len() > MOST {
            problems.push(Problem::new(format!(
                "the file holds more than {MOST} keys"
            )));
        }
        let (mut ids, mut hashes) = (BTreeMap::new(), BTreeMap::new());
        for (index, entry) in self.keys.iter().enumerate() {
            let mut wrong = entry.mistakes();
            for (seen, value, what) in [
                (&mut ids, &entry.id, "id"),
                (&mut hashes, &entry.hash, "hash"),
            ] {
                match seen.entry(value.as_str()) {
                    Place::Vacant(place) => _ = place.insert(index),
                    Place::Occupied(first) => {
                        wrong.push(format!(
                            "`{what}` is the same as that of keys[{}]",
                            first.get()
                        ));
                    }
                }
            }
            let at = text
                .find(&format!("{}\"", entry.id))
                .or_else(|| text.find(&entry.id));
            let at = at.filter(|_| !entry.id.is_empty());
            problems.extend(wrong.into_iter().map(|what| {
                let mut problem = Problem::new(format!("keys[{index}]: {what}"));
                problem.at = at.map(|at| line_and_column(text, at));
                problem
            }));
        }
        problems
    }
}

impl KeyEntry {
    /// Whether the key may be used at that time.
    #[must_use]
    pub fn usable(&self, now: Timestamp) -> bool {
        self.state == KeyState::Active && now < self.expires_at
    }

    /// What the key is found by; [`KeyFile::parse`] lets no entry pass without.
    pub(super) fn key_hash(&self) -> Option<KeyHash> {
        KeyHash::parse(&self.hash)
    }

    fn mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let id = |id: &String| {
            (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        if !id(&self.id) {
            wrong.push("`id` must be 1 to 64 letters and digits".to_owned());
        }
        if KeyHash::parse(&self.hash).is_none() {
            wrong.push("`hash` must be 64 hexadecimal digits in lower case".to_owned());
        }
        if self.expires_at < self.created_at {
            wrong.push("`expires_at` must not be earlier than `created_at`".to_owned());
        }
        if self.note.as_ref().is_some_and(|note| !plain(note)) {
            wrong.push("`note` must be 1 to 512 bytes without control characters".to_owned());
        }
        wrong.extend(
            self.owner
                .mistakes()
                .into_iter()
                .map(|what| format!("owner: {what}")),
        );
        wrong
    }
}

impl Owner {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut text = |what: &str, value: Option<&String>| {
            if value.is_some_and(|value| !plain(value)) {
                wrong.push(format!(
                    "`{what}` must be 1 to 512 bytes without control characters"
                ));
            }
        };
        text("subject", Some(&self.subject));
        text("issuer", self.issuer.as_ref());
        text("tenant", self.tenant.as_ref());
        for (what, list) in [("roles", &self.roles), ("groups", &self.groups)] {
            for value in list {
                text(what, Some(value));
            }
        }
        if self
            .issuer
            .as_ref()
            .is_some_and(|issuer| issuer.contains('|'))
        {
            wrong.push("`issuer` must not hold `|`".to_owned());
        }
        if !self.scopes.iter().all(|scope| is_scope(scope)) {
            wrong.push(
                "`scopes` must be scope tokens: visible ASCII without `\"` and `\\`".to_owned(),
            );
        }
        wrong
    }
}

/// A scope token (RFC 6749, section 3.3).
pub(in super::super) fn is_scope(text: &str) -> bool {
    let visible = |b: u8| (0x21..0x7f).contains(&b) && b != b'"' && b != b'\\';
    (1..=512).contains(&text.len()) && text.bytes().all(visible)
}

/// Whether a file's name says that it is YAML.
#[must_use]
pub fn is_yaml(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    end.is_some_and(|end| end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml"))
}

/// Reads JSON, which is some ten times faster than reading it as YAML, and refuses members that are given twice.
fn json(text: &str) -> Result<KeyFile, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        let mut problem = Problem::new(crate::model::shown(message, 400));
        if error.line() > 0 {
            problem = problem.at(error.line(), error.column().max(1));
        }
        problem
    })
}

/// Whole seconds are enough for the life of a key, and read better.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// RFC 3339.
fn write_time<S: Serializer>(at: &impl Display, writer: S) -> Result<S::Ok, S::Error> {
    writer.collect_str(at)
}

/// RFC 3339.
pub(in super::super) fn read_time<'de, T: FromStr, D: Deserializer<'de>>(
    reader: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(reader)?;
    text.parse()
        .map_err(|_| D::Error::custom("not a time: write it like `2030-01-31T12:00:00Z`"))
}

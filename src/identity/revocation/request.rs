//! An event as somebody asks for it, with what is left out filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::super::scheme::SchemeName;
use super::super::settings::{IssuerSettings, Settings, life, plain};
use super::event::{Event, Kind, Source, Target, is_id, is_reason};
use crate::model::{Problem, json};

/// How long credentials can live, and so how long events about them have to be kept.
#[derive(Debug, Clone)]
pub struct Lives {
    /// By the settings, for all but keys.
    keep: Option<SignedDuration>,
    /// Of those who vouch for nothing but tokens.
    by_issuer: BTreeMap<String, SignedDuration>,
    /// Of whatever issuer; `None` where there are credentials without a known end.
    longest: Option<SignedDuration>,
    /// Whether there are API keys: their file may name any issuer, and they live as long as it says.
    keys: bool,
}

impl Lives {
    /// What these settings say.
    pub(super) fn new(settings: &Settings) -> Self {
        let signed = |life| SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        let keep = settings.revocation.keep.map(|keep| signed(keep.0));
        let configured = settings.schemes();
        let opaque = configured.contains(&SchemeName::Introspection);
        let elsewhere = beside_tokens(settings);
        let issuers = settings.token_issuers();
        let by_issuer: BTreeMap<_, _> = issuers
            .iter()
            .filter(|issuer| !opaque && !elsewhere.contains(&issuer.issuer))
            .map(|issuer| {
                let life = longest_life(&issuers, issuer);
                (issuer.issuer.clone(), signed(life))
            })
            .collect();
        let token =
            |scheme: &SchemeName| matches!(scheme, SchemeName::Jwt | SchemeName::TransactionToken);
        let only_tokens = configured.iter().all(token);
        let longest = by_issuer.values().max().copied();
        Self {
            keep,
            longest: longest.filter(|_| only_tokens),
            by_issuer,
            keys: configured.contains(&SchemeName::ApiKey),
        }
    }

    /// An event about `target`, told at `now`. A subject, client or issuer is trusted again with what is issued later; a
    /// token, session or key never is. It is kept until the last credential it refuses has expired; where nobody knows when
    /// that is, as with keys, it is kept for good.
    #[must_use]
    pub fn event(&self, target: Target, source: Source, now: Timestamp) -> Event {
        let issued_before = match target.kind() {
            Kind::Subject | Kind::Client | Kind::Issuer => now,
            Kind::TokenId | Kind::Session | Kind::Key => Event::FOR_GOOD,
        };
        Event {
            id: Uuid::now_v7().to_string(),
            expires_at: self.end(&target, issued_before, now),
            target,
            issued_before,
            reason: None,
            source,
            at: now,
        }
    }

    /// When everything an event refuses has expired.
    fn end(&self, target: &Target, issued_before: Timestamp, now: Timestamp) -> Timestamp {
        let life = match (target.kind(), target.issuer()) {
            (Kind::Key, _) => None,
            (Kind::Subject | Kind::Client | Kind::Issuer, Some(_)) if self.keys => self.keep,
            (_, Some(issuer)) => self.keep.or(self.by_issuer.get(issuer).copied()),
            (_, None) => self.keep.or(self.longest),
        };
        let last = match target.kind() {
            // Issued already: nobody issues the same token again, or for a session that is over.
            Kind::TokenId | Kind::Session => now,
            _ => issued_before.max(now),
        };
        life.and_then(|life| last.checked_add(life).ok())
            .unwrap_or(Event::FOR_GOOD)
    }
}

/// Who vouches for holders of other things than tokens, which live for nobody knows how long. The issuers of API keys are
/// any that their file names: see [`Lives`].
fn beside_tokens(settings: &Settings) -> BTreeSet<String> {
    let basic = settings.basic.iter().map(|basic| basic.issuer.clone());
    let certificates = settings.certificates.iter();
    let certified = certificates.flat_map(|certificates| {
        let names = certificates.names.iter().map(|name| name.issuer.clone());
        let domains = certificates.trust_domains.iter();
        names.chain(domains.map(|domain| format!("spiffe://{}", domain.name)))
    });
    basic.chain(certified).collect()
}

/// How long a token can live that names one of this issuer's subjects: its own, or one of an issuer that takes its subjects
/// for actors.
fn longest_life(issuers: &[IssuerSettings], issuer: &IssuerSettings) -> Duration {
    let name = &issuer.issuer;
    let names =
        |other: &&IssuerSettings| other.issuer == *name || other.actor_issuers.contains(name);
    let lives = issuers.iter().filter(names).map(life);
    lives.max().unwrap_or(Duration::MAX)
}

/// Reads an event and fills in what is left out.
pub(super) fn read(body: &[u8], lives: &Lives, now: Timestamp) -> Result<Event, Vec<Problem>> {
    let members = json::parse_object(body)
        .map_err(|error| vec![Problem::new(format!("the body is no JSON object: {error}"))])?;
    let mut reader = Reader {
        problems: Vec::new(),
    };
    let known = [
        "id",
        "target",
        "issued_before",
        "expires_at",
        "reason",
        "source",
    ];
    reader.only(&members, "the event", &known);
    let target = reader.target(members.get("target"));
    let id = reader.text(&members, "id");
    let reason = reader.text(&members, "reason");
    let source = reader.source(&members);
    let issued_before = reader.time(&members, "issued_before");
    let expires_at = reader.time(&members, "expires_at");
    if expires_at.is_some_and(|end| end <= now) {
        reader.say("`expires_at` has passed already");
    }
    if id.as_deref().is_some_and(|id| !is_id(id)) {
        reader.say("`id` must be 1 to 128 letters, digits, `.`, `_`, `:` or `-`");
    }
    if reason.as_deref().is_some_and(|reason| !is_reason(reason)) {
        reader.say("`reason` must be at most 256 bytes without control characters");
    }
    let Some(target) = target.filter(|_| reader.problems.is_empty()) else {
        return Err(reader.problems);
    };
    let usual = lives.event(target, source, now);
    let issued_before = issued_before.unwrap_or(usual.issued_before);
    Ok(Event {
        id: id.unwrap_or(usual.id),
        issued_before,
        expires_at: expires_at.unwrap_or_else(|| lives.end(&usual.target, issued_before, now)),
        reason,
        ..usual
    })
}

/// What was found wrong so far.
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn say(&mut self, what: impl Into<String>) {
        self.problems.push(Problem::new(what));
    }

    fn only(&mut self, members: &Map<String, Value>, place: &str, known: &[&str]) {
        let strange = members.keys().any(|name| !known.contains(&name.as_str()));
        if strange {
            let known = known.join("`, `");
            self.say(format!("{place} has a member other than `{known}`"));
        }
    }

    fn text(&mut self, members: &Map<String, Value>, name: &str) -> Option<String> {
        match members.get(name) {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.say(format!("`{name}` must be a text"));
                None
            }
        }
    }

    fn time(&mut self, members: &Map<String, Value>, name: &str) -> Option<Timestamp> {
        let text = self.text(members, name)?;
        let time = text.parse().ok();
        if time.is_none() {
            self.say(format!(
                "`{name}` must be a time like `2026-01-05T12:00:00Z`"
            ));
        }
        time
    }

    fn source(&mut self, members: &Map<String, Value>) -> Source {
        match self.text(members, "source").as_deref() {
            None | Some("admin") => Source::Admin,
            Some("cli") => Source::Cli,
            Some(_) => {
                self.say("`source` must be `admin` or `cli`");
                Source::Admin
            }
        }
    }

    fn target(&mut self, target: Option<&Value>) -> Option<Target> {
        let kinds = Kind::ALL.map(Kind::as_str).join("`, `");
        let members = target.and_then(Value::as_object);
        let mut members = members.into_iter().flatten();
        let (Some((name, value)), None) = (members.next(), members.next()) else {
            self.say(format!("`target` must be an object with one of `{kinds}`"));
            return None;
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
        let (Some(kind), Some(parts)) = (kind, value.as_object()) else {
            self.say(format!("`target` must hold one of `{kinds}`, an object"));
            return None;
        };
        self.named(kind, parts)
    }

    fn named(&mut self, kind: Kind, parts: &Map<String, Value>) -> Option<Target> {
        let member = match kind {
            Kind::TokenId => "token_id",
            Kind::Subject => "subject",
            Kind::Client => "client_id",
            Kind::Session => "session_id",
            Kind::Issuer => "issuer",
            Kind::Key => "key_id",
        };
        let place = kind.as_str();
        self.only(parts, &format!("`target.{place}`"), &["issuer", member]);
        let before = self.problems.len();
        let issuer = self.name(parts, place, "issuer", kind.within_issuer());
        let name = self.name(parts, place, member, true);
        if self.problems.len() > before {
            return None;
        }
        let (name, issuer_text) = (name?, issuer.clone().unwrap_or_default());
        Some(match kind {
            Kind::TokenId => Target::TokenId {
                issuer,
                token_id: name,
            },
            Kind::Subject => Target::Subject {
                issuer: issuer_text,
                subject: name,
            },
            Kind::Client => Target::Client {
                issuer,
                client_id: name,
            },
            Kind::Session => Target::Session {
                issuer: issuer_text,
                session_id: name,
            },
            Kind::Issuer => Target::Issuer { issuer: name },
            Kind::Key => Target::Key {
                issuer,
                key_id: fingerprint(name),
            },
        })
    }

    fn name(
        &mut self,
        parts: &Map<String, Value>,
        place: &str,
        member: &str,
        needed: bool,
    ) -> Option<String> {
        let name = parts.get(member);
        if name.is_none() && !needed {
            return None;
        }
        let name = name.and_then(Value::as_str).filter(|name| plain(name));
        if name.is_none() {
            self.say(format!(
                "`target.{place}.{member}` must be 1 to 512 bytes without control characters"
            ));
        }
        name.map(str::to_owned)
    }
}

/// A SHA-256 in hex as tools print it (`AB:CD:..`) becomes lower case without colons; any other key's id stays as it is.
fn fingerprint(name: String) -> String {
    let bare: String = name.chars().filter(|c| *c != ':').collect();
    let sha256 = bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    if sha256 {
        bare.to_ascii_lowercase()
    } else {
        name
    }
}

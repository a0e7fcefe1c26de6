//! Whom an event is about (RFC 9493; OpenID Shared Signals Framework 1.0, section 3), in the names that credentials have.
//!
//! A subject of several parts names what all of them have in common: this user on that device. Credentials do not tell
//! devices, tenants and groups apart, so the part that a credential does tell decides, and rather more than less is revoked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::events::Whom;
use super::settings::{DeviceMeaning, Identifier, Meaning, TransmitterSettings};
use crate::identity::Target;

/// The most identifiers that `aliases` may list.
const MAX_ALIASES: usize = 16;

/// The parts of a subject that are read. Others, such as tenants and groups, would revoke those of everybody in them.
const PARTS: [(&str, Part); 4] = [
    ("session", Part::Session),
    ("user", Part::User),
    ("device", Part::Device),
    ("application", Part::Application),
];

/// All parts that make a subject one of several parts.
const ALL_PARTS: [&str; 7] = [
    "session",
    "user",
    "device",
    "application",
    "tenant",
    "org_unit",
    "group",
];

/// Reads one transmitter's subjects.
#[derive(Debug)]
pub(super) struct Subjects {
    issuers: Vec<String>,
    names: BTreeMap<String, String>,
    identifiers: BTreeMap<Identifier, Meaning>,
    devices: Option<DeviceMeaning>,
}

/// Why a subject is nobody whom a credential could name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is well formed, and nobody here knows such a name.
    Unmapped,
    /// It is a subject of an issuer that this transmitter may not speak for.
    Foreign,
    /// It is no subject.
    Malformed(&'static str),
}

/// What an identifier stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The whole subject.
    Whole,
    User,
    Session,
    Device,
    Application,
}

type Found = Result<Vec<Target>, Lost>;

impl Subjects {
    pub(super) fn new(settings: &TransmitterSettings) -> Self {
        Self {
            issuers: settings.subject_issuers(),
            names: settings.issuer_names.clone(),
            identifiers: settings.identifiers.clone(),
            devices: settings.devices,
        }
    }

    /// What an event about this subject revokes: at least one target.
    ///
    /// # Errors
    /// [`Lost`] where that is nothing, or nothing this transmitter may revoke.
    pub(super) fn targets(&self, subject: &Value, whom: Whom) -> Found {
        let members = object(subject)?;
        match format(members)? {
            None if ALL_PARTS.iter().any(|part| members.contains_key(*part)) => {
                self.of_parts(members, whom)
            }
            None => Err(Lost::Malformed("is about a subject without `format`")),
            Some("complex") => self.of_parts(members, whom),
            Some("aliases") => self.of_aliases(members, (Part::Whole, None)),
            Some(format) => self.identified(members, format, (Part::Whole, None)),
        }
    }

    fn of_parts(&self, members: &Map<String, Value>, whom: Whom) -> Found {
        let mut order = PARTS;
        if whom == Whom::User {
            order.swap(0, 1);
        }
        let user = members
            .get("user")
            .map(|user| self.part(user, (Part::User, None)));
        // Whoever may not speak of the user may not speak of what is the user's.
        if let Some(Err(lost @ (Lost::Foreign | Lost::Malformed(_)))) = user {
            return Err(lost);
        }
        let mut lost = Lost::Unmapped;
        let whose = members.get("user").and_then(|user| self.issuer_of(user));
        for (name, part) in order {
            let Some(value) = members.get(name) else {
                continue;
            };
            match self.part(value, (part, whose)) {
                Ok(targets) => return Ok(targets),
                Err(Lost::Unmapped) => {}
                Err(other) => lost = other,
            }
        }
        Err(lost)
    }

    fn part(&self, value: &Value, part: (Part, Option<&str>)) -> Found {
        let members = object(value)?;
        match format(members)? {
            None => Err(Lost::Malformed("is about a subject without `format`")),
            Some("aliases") => self.of_aliases(members, part),
            Some(format) => self.identified(members, format, part),
        }
    }

    /// One subject under several names (RFC 9493, section 3.2.8): whatever of them is known here.
    fn of_aliases(&self, members: &Map<String, Value>, part: (Part, Option<&str>)) -> Found {
        let listed = members.get("identifiers").and_then(Value::as_array);
        let listed = listed.filter(|listed| (1..=MAX_ALIASES).contains(&listed.len()));
        let listed = listed.ok_or(Lost::Malformed("is about no 1 to 16 aliases"))?;
        let mut targets = Vec::new();
        let mut lost = Lost::Unmapped;
        for alias in listed {
            let members = object(alias)?;
            let format = format(members)?.filter(|format| *format != "aliases");
            let format = format.ok_or(Lost::Malformed("is about aliases of aliases"))?;
            match self.identified(members, format, part) {
                Ok(found) => targets.extend(found),
                Err(Lost::Malformed(why)) => return Err(Lost::Malformed(why)),
                Err(Lost::Foreign) => lost = Lost::Foreign,
                Err(Lost::Unmapped) => {}
            }
        }
        if targets.is_empty() {
            Err(lost)
        } else {
            Ok(targets)
        }
    }

    fn identified(
        &self,
        members: &Map<String, Value>,
        format: &str,
        (part, whose): (Part, Option<&str>),
    ) -> Found {
        let nameless = |identifier, member| {
            let name = text(members, member)?;
            self.nameless(identifier, name, (part, whose))
        };
        match format {
            "iss_sub" => {
                let issuer = self.issuer(text(members, "iss")?)?;
                self.named(part, issuer, text(members, "sub")?)
                    .map(|target| vec![target])
            }
            "jwt_id" => {
                let issuer = self.issuer(text(members, "iss")?)?.to_owned();
                let token_id = text(members, "jti")?.to_owned();
                match part {
                    Part::Whole | Part::User | Part::Session => Ok(vec![Target::TokenId {
                        issuer: Some(issuer),
                        token_id,
                    }]),
                    Part::Device | Part::Application => Err(Lost::Unmapped),
                }
            }
            "opaque" => nameless(Identifier::Opaque, "id"),
            "email" => nameless(Identifier::Email, "email"),
            "phone_number" => nameless(Identifier::PhoneNumber, "phone_number"),
            "account" => nameless(Identifier::Account, "uri"),
            "did" => nameless(Identifier::Did, "url"),
            "uri" => nameless(Identifier::Uri, "uri"),
            _ => Err(Lost::Unmapped),
        }
    }

    /// A name that an issuer gives.
    fn named(&self, part: Part, issuer: &str, name: &str) -> Result<Target, Lost> {
        let (issuer, name) = (issuer.to_owned(), name.to_owned());
        Ok(match part {
            Part::Whole | Part::User => Target::Subject {
                issuer,
                subject: name,
            },
            Part::Session => Target::Session {
                issuer,
                session_id: name,
            },
            Part::Application => Target::Client {
                issuer: Some(issuer),
                client_id: name,
            },
            Part::Device => match self.devices.ok_or(Lost::Unmapped)? {
                DeviceMeaning::Subject => Target::Subject {
                    issuer,
                    subject: name,
                },
                DeviceMeaning::Key => Target::Key {
                    issuer: Some(issuer),
                    key_id: name,
                },
            },
        })
    }

    /// A name without an issuer: the user's, where the subject names one, or else any that this transmitter speaks for.
    fn nameless(
        &self,
        identifier: Identifier,
        name: &str,
        (part, whose): (Part, Option<&str>),
    ) -> Found {
        let part = match (part, self.identifiers.get(&identifier)) {
            (Part::Whole, Some(Meaning::Session)) => Part::Session,
            (Part::Whole | Part::User, Some(Meaning::Subject)) => Part::User,
            (Part::Whole | Part::User, _) => return Err(Lost::Unmapped),
            (other, _) => other,
        };
        let issuers: Vec<&str> = match whose {
            Some(issuer) => vec![issuer],
            None => self.issuers.iter().map(String::as_str).collect(),
        };
        let targets = issuers
            .into_iter()
            .map(|issuer| self.named(part, issuer, name));
        targets.collect()
    }

    /// The issuer as tokens name it, where this transmitter may speak for it.
    fn issuer<'a>(&'a self, named: &'a str) -> Result<&'a str, Lost> {
        let issuer = self.names.get(named).map_or(named, String::as_str);
        let ours = self.issuers.iter().any(|own| own == issuer);
        if ours { Ok(issuer) } else { Err(Lost::Foreign) }
    }

    fn issuer_of<'a>(&'a self, subject: &'a Value) -> Option<&'a str> {
        let issuer = subject.get("iss")?.as_str()?;
        self.issuer(issuer).ok()
    }
}

fn object(subject: &Value) -> Result<&Map<String, Value>, Lost> {
    subject
        .as_object()
        .ok_or(Lost::Malformed("is about a subject that is no object"))
}

/// The format of an identifier. Older transmitters write `subject_type`, with `iss-sub` for `iss_sub`.
fn format(members: &Map<String, Value>) -> Result<Option<&str>, Lost> {
    let named = match (members.get("format"), members.get("subject_type")) {
        (Some(_), Some(_)) => return Err(Lost::Malformed("is about a subject of two formats")),
        (None, None) => return Ok(None),
        (Some(format), None) | (None, Some(format)) => format,
    };
    let format = named.as_str();
    let format = format.ok_or(Lost::Malformed(
        "is about a subject whose `format` is no text",
    ))?;
    Ok(Some(match format {
        "iss-sub" => "iss_sub",
        other => other,
    }))
}

fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Result<&'m str, Lost> {
    let text = members.get(name).and_then(Value::as_str);
    text.filter(|text| (1..=512).contains(&text.len()) && !text.chars().any(char::is_control))
        .ok_or(Lost::Malformed(
            "is about a subject that lacks what its format needs",
        ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OWN: &str = "https://idp.example";

    fn subjects(change: impl FnOnce(&mut TransmitterSettings)) -> Subjects {
        let mut settings = TransmitterSettings {
            issuer: OWN.into(),
            ..TransmitterSettings::default()
        };
        change(&mut settings);
        Subjects::new(&settings)
    }

    fn found(subjects: &Subjects, subject: impl Into<Value>, whom: Whom) -> Result<Value, Lost> {
        let targets = subjects.targets(&subject.into(), whom)?;
        Ok(serde_json::to_value(targets).unwrap())
    }

    fn alice() -> Value {
        json!({ "format": "iss_sub", "iss": OWN, "sub": "alice" })
    }

    fn subject(name: &str) -> Value {
        json!({ "subject": { "issuer": OWN, "subject": name } })
    }

    #[test]
    fn simple_subjects_are_subjects_and_tokens() {
        let plain = subjects(|_| {});
        let whole = |subject| found(&plain, subject, Whom::Session);
        assert_eq!(whole(alice()), Ok(json!([subject("alice")])));
        let google = json!({ "subject_type": "iss-sub", "iss": OWN, "sub": "alice" });
        assert_eq!(whole(google), Ok(json!([subject("alice")])));
        let token = json!({ "format": "jwt_id", "iss": OWN, "jti": "7" });
        let expected = json!([{ "token_id": { "issuer": OWN, "token_id": "7" } }]);
        assert_eq!(whole(token), Ok(expected));
    }

    #[test]
    fn identifiers_without_issuer_mean_what_the_settings_say_and_else_nobody() {
        let all = [
            ("opaque", "id"),
            ("email", "email"),
            ("phone_number", "phone_number"),
            ("account", "uri"),
            ("did", "url"),
            ("uri", "uri"),
        ];
        let plain = subjects(|_| {});
        let told = subjects(|settings| {
            use Identifier::{Account, Did, Email, Opaque, PhoneNumber, Uri};
            let known = [Opaque, Email, PhoneNumber, Account, Did, Uri];
            settings.identifiers = known.map(|one| (one, Meaning::Subject)).into();
        });
        for (format, member) in all {
            let value = json!({ "format": format, member: "alice" });
            assert_eq!(
                found(&plain, value.clone(), Whom::User),
                Err(Lost::Unmapped)
            );
            assert_eq!(
                found(&told, value, Whom::User),
                Ok(json!([subject("alice")]))
            );
        }
        for unknown in ["saml_assertion_id", "ip-addresses", "catalog_item"] {
            let value = json!({ "format": unknown });
            assert_eq!(
                found(&told, value, Whom::User),
                Err(Lost::Unmapped),
                "{unknown}"
            );
        }
        let sessions = subjects(|settings| {
            settings.identifiers = [(Identifier::Opaque, Meaning::Session)].into();
        });
        let value = json!({ "format": "opaque", "id": "s1" });
        let expected = json!([{ "session": { "issuer": OWN, "session_id": "s1" } }]);
        assert_eq!(found(&sessions, value, Whom::Session), Ok(expected));
    }

    #[test]
    fn of_several_parts_the_one_decides_that_the_event_is_about() {
        let plain = subjects(|_| {});
        let session = json!({ "format": "opaque", "id": "s1" });
        let tenant = json!({ "format": "opaque", "id": "t" });
        let whole =
            json!({ "format": "complex", "user": alice(), "session": session, "tenant": tenant });
        let of_session = json!([{ "session": { "issuer": OWN, "session_id": "s1" } }]);
        assert_eq!(
            found(&plain, whole.clone(), Whom::Session),
            Ok(of_session.clone())
        );
        assert_eq!(
            found(&plain, whole, Whom::User),
            Ok(json!([subject("alice")]))
        );
        // As drafts wrote it: without a format of its own.
        let bare = json!({ "session": { "format": "iss_sub", "iss": OWN, "sub": "s1" } });
        assert_eq!(found(&plain, bare, Whom::User), Ok(of_session));
        let device = json!({ "format": "iss_sub", "iss": OWN, "sub": "d1" });
        let both = json!({ "format": "complex", "user": alice(), "device": device });
        assert_eq!(
            found(&plain, both, Whom::Session),
            Ok(json!([subject("alice")]))
        );
        let application = json!({ "format": "complex", "application": device });
        let client = json!([{ "client": { "issuer": OWN, "client_id": "d1" } }]);
        assert_eq!(found(&plain, application, Whom::Session), Ok(client));
        let tenant = json!({ "format": "complex", "tenant": tenant });
        assert_eq!(found(&plain, tenant, Whom::User), Err(Lost::Unmapped));
    }

    #[test]
    fn a_device_is_nobody_unless_the_settings_say_what_it_is() {
        let device = json!({ "device": { "format": "iss_sub", "iss": OWN, "sub": "d1" } });
        for (meaning, expected) in [
            (None, Err(Lost::Unmapped)),
            (Some(DeviceMeaning::Subject), Ok(json!([subject("d1")]))),
            (
                Some(DeviceMeaning::Key),
                Ok(json!([{ "key": { "issuer": OWN, "key_id": "d1" } }])),
            ),
        ] {
            let subjects = subjects(|settings| settings.devices = meaning);
            assert_eq!(found(&subjects, device.clone(), Whom::Session), expected);
        }
    }

    #[test]
    fn all_known_aliases_count() {
        let plain = subjects(|_| {});
        let email = json!({ "format": "email", "email": "a@example.com" });
        let foreign = json!({ "format": "iss_sub", "iss": "https://other.example", "sub": "a" });
        let aliases = |listed: &[&Value]| json!({ "format": "aliases", "identifiers": listed });
        let known = aliases(&[&email, &alice(), &foreign]);
        assert_eq!(
            found(&plain, known, Whom::User),
            Ok(json!([subject("alice")]))
        );
        assert_eq!(
            found(&plain, aliases(&[&email]), Whom::User),
            Err(Lost::Unmapped)
        );
        assert_eq!(
            found(&plain, aliases(&[&email, &foreign]), Whom::User),
            Err(Lost::Foreign)
        );
        let nested = aliases(&[&aliases(&[&alice()])]);
        assert!(matches!(
            found(&plain, nested, Whom::User),
            Err(Lost::Malformed(_))
        ));
    }

    #[test]
    fn nobody_speaks_for_another_issuer() {
        let other = "https://other.example";
        let plain = subjects(|_| {});
        let foreign = json!({ "format": "iss_sub", "iss": other, "sub": "bob" });
        let session = json!({ "format": "opaque", "id": "s1" });
        for subject in [
            foreign.clone(),
            json!({ "format": "jwt_id", "iss": other, "jti": "7" }),
            json!({ "user": foreign, "session": session }),
            json!({ "session": foreign }),
            json!({ "application": foreign }),
            json!({ "format": "iss_sub", "iss": format!("{OWN}/"), "sub": "alice" }),
            json!({ "format": "iss_sub", "iss": OWN.to_uppercase(), "sub": "alice" }),
        ] {
            for whom in [Whom::User, Whom::Session] {
                assert_eq!(
                    found(&plain, subject.clone(), whom),
                    Err(Lost::Foreign),
                    "{subject}"
                );
            }
        }
        let allowed = subjects(|settings| settings.subject_issuers = vec![other.into()]);
        let expected = json!([{ "subject": { "issuer": other, "subject": "bob" } }]);
        assert_eq!(found(&allowed, foreign, Whom::User), Ok(expected));
        assert_eq!(
            found(&allowed, alice(), Whom::User),
            Err(Lost::Foreign),
            "not its own either"
        );
    }

    #[test]
    fn an_issuer_may_have_another_name_in_tokens() {
        let named = subjects(|settings| {
            settings.issuer_names = [(format!("{OWN}/"), OWN.to_owned())].into();
        });
        let slashed = json!({ "format": "iss_sub", "iss": format!("{OWN}/"), "sub": "alice" });
        assert_eq!(
            found(&named, slashed, Whom::User),
            Ok(json!([subject("alice")]))
        );
    }

    #[test]
    fn what_is_no_subject_is_malformed() {
        let plain = subjects(|_| {});
        let long = "x".repeat(513);
        for bad in [
            json!("alice"),
            json!({}),
            json!({ "iss": OWN, "sub": "alice" }),
            json!({ "format": 5 }),
            json!({ "format": "iss_sub", "subject_type": "iss_sub", "iss": OWN, "sub": "alice" }),
            json!({ "format": "iss_sub", "iss": OWN }),
            json!({ "format": "iss_sub", "iss": OWN, "sub": "" }),
            json!({ "format": "iss_sub", "iss": OWN, "sub": ["alice"] }),
            json!({ "format": "iss_sub", "iss": OWN, "sub": "a\nb" }),
            json!({ "format": "iss_sub", "iss": OWN, "sub": long }),
            json!({ "format": "opaque" }),
            json!({ "format": "aliases", "identifiers": [] }),
            json!({ "user": "alice" }),
            json!({ "user": { "format": "iss_sub" }, "session": alice() }),
        ] {
            let found = found(&plain, bad.clone(), Whom::Session);
            assert!(matches!(found, Err(Lost::Malformed(_))), "{bad}: {found:?}");
        }
    }
}

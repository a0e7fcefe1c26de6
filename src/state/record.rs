//! Records, and how they are written: JSON on one line, with a signature before it where there is a secret.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::figures::Dropped;
use crate::model::json;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// The longest record, in bytes, as it is written.
pub(super) const MAX_RECORD: usize = 8 * 1024;

/// What a secret is stretched for.
const PURPOSE: &str = "cardea shared state: records, 1";

/// The length of a signature, and of what stands between it and the record.
const SIGNATURE: usize = 2 * blake3::OUT_LEN;

/// What is told of a key: that something is there, or that it was withdrawn.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: String,
    /// When the record may be forgotten.
    pub ends: Timestamp,
    /// When what is there was told; of a withdrawal: what was told before then is withdrawn, and nothing else.
    pub told: Timestamp,
    /// What is there; `None` where it was withdrawn.
    pub body: Option<Value>,
}

/// Without what is there, which names people and credentials.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("ends", &self.ends)
            .field("told", &self.told)
            .field("there", &self.body.is_some())
            .finish_non_exhaustive()
    }
}

/// A record as others told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) record: Record,
    /// Its number, where it is this replica's own.
    pub(super) own: Option<u64>,
}

/// A record ready to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) key: String,
    /// When it ends, in milliseconds since 1970.
    pub(super) ends: i64,
    pub(super) text: String,
}

/// Writes this replica's records of a topic, and reads everybody's.
pub(super) struct Pen {
    topic: &'static str,
    /// What the keys of the shared state begin with. It is signed along: nothing can be carried over from another's.
    prefix: String,
    origin: String,
    secret: Option<[u8; blake3::KEY_LEN]>,
}

/// The members of a record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    v: u32,
    /// Who told it: one start of one process.
    origin: String,
    /// Its number among that origin's own, from 1; 0 for what was told without having been asked for.
    n: u64,
    key: String,
    ends: Timestamp,
    told: Timestamp,
    body: Option<Value>,
}

impl Pen {
    /// A pen for one start of one process.
    pub(super) fn new(
        (prefix, topic): (&str, &'static str),
        origin: Uuid,
        secret: Option<[u8; blake3::KEY_LEN]>,
    ) -> Self {
        Self {
            topic,
            prefix: prefix.to_owned(),
            origin: origin.to_string(),
            secret,
        }
    }

    /// The topic.
    pub(super) fn topic(&self) -> &'static str {
        self.topic
    }

    /// What this replica rings the bell with.
    pub(super) fn bell(&self) -> String {
        format!("{VERSION} {}", self.origin)
    }

    /// Whether a message of the channel is a bell, and if so whether somebody else rings.
    pub(super) fn hears(&self, message: &[u8]) -> Option<bool> {
        let text = std::str::from_utf8(message).ok()?;
        let origin = text.strip_prefix(&format!("{VERSION} "))?;
        let usual = origin.len() == self.origin.len();
        usual.then(|| origin != self.origin)
    }

    /// Writes a record; `None` where it is too long.
    pub(super) fn write(&self, n: u64, record: &Record) -> Option<Written> {
        let members = Members {
            v: VERSION,
            origin: self.origin.clone(),
            n,
            key: record.key.clone(),
            ends: record.ends,
            told: record.told,
            body: record.body.clone(),
        };
        let mut text = serde_json::to_string(&members).ok()?;
        if let Some(secret) = &self.secret {
            let signature = self.sign(secret, text.as_bytes());
            text = format!("{} {text}", signature.to_hex());
        }
        (text.len() <= MAX_RECORD).then(|| Written {
            key: record.key.clone(),
            ends: record.ends.as_millisecond(),
            text,
        })
    }

    /// Reads a record, whoever wrote it.
    ///
    /// # Errors
    /// Why it does not count.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Heard, Dropped> {
        if bytes.len() > MAX_RECORD {
            return Err(Dropped::TooLong);
        }
        let text = self.unsigned(bytes)?;
        let value = json::parse(text).map_err(|_| Dropped::Unreadable)?;
        match value.get("v").and_then(Value::as_u64) {
            None => return Err(Dropped::Unreadable),
            Some(version) if version != u64::from(VERSION) => return Err(Dropped::Version),
            Some(_) => {}
        }
        let members: Members = serde_json::from_value(value).map_err(|_| Dropped::Unreadable)?;
        Ok(Heard {
            own: (members.origin == self.origin).then_some(members.n),
            record: Record {
                key: members.key,
                ends: members.ends,
                told: members.told,
                body: members.body,
            },
        })
    }

    /// A record without its signature, which has to be there where there is a secret, and must not be where there is none.
    fn unsigned<'b>(&self, bytes: &'b [u8]) -> Result<&'b [u8], Dropped> {
        let Some(secret) = &self.secret else {
            let signed = bytes.first() != Some(&b'{') && bytes.get(SIGNATURE) == Some(&b' ');
            return if signed {
                Err(Dropped::Signature)
            } else {
                Ok(bytes)
            };
        };
        let (signature, rest) = bytes
            .split_at_checked(SIGNATURE)
            .ok_or(Dropped::Signature)?;
        let text = rest.strip_prefix(b" ").ok_or(Dropped::Signature)?;
        let signature = blake3::Hash::from_hex(signature).map_err(|_| Dropped::Signature)?;
        // Compared in constant time.
        if signature == self.sign(secret, text) {
            Ok(text)
        } else {
            Err(Dropped::Signature)
        }
    }

    fn sign(&self, secret: &[u8; blake3::KEY_LEN], text: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        // None of the two holds the sign behind it.
        for part in [&self.prefix, self.topic] {
            hasher.update(part.as_bytes());
            hasher.update(b"\n");
        }
        hasher.update(text);
        hasher.finalize()
    }
}

/// A secret as it signs.
pub(super) fn stretched(secret: &str) -> [u8; blake3::KEY_LEN] {
    blake3::derive_key(PURPOSE, secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn record(key: &str, body: Option<Value>) -> Record {
        Record {
            key: key.to_owned(),
            ends: Timestamp::MAX,
            told: Timestamp::UNIX_EPOCH,
            body,
        }
    }

    fn pen(origin: Uuid, secret: Option<&str>) -> Pen {
        Pen::new(("cardea:", "things"), origin, secret.map(stretched))
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_ones_own_is_known() {
        for secret in [None, Some("a secret of some length")] {
            for body in [None, Some(json!({ "a": "\"\u{e9}" }))] {
                let record = record("k", body);
                let written = pen(ONE, secret).write(7, &record).unwrap();
                assert_eq!(written.ends, Timestamp::MAX.as_millisecond());
                let heard = pen(OTHER, secret).read(written.text.as_bytes()).unwrap();
                assert_eq!((&heard.record, heard.own), (&record, None));
                let heard = pen(ONE, secret).read(written.text.as_bytes()).unwrap();
                assert_eq!((&heard.record, heard.own), (&record, Some(7)));
            }
        }
    }

    #[test]
    fn what_is_no_record_is_told_apart() {
        let pen = pen(ONE, None);
        let good = pen.write(1, &record("k", None)).unwrap().text;
        let long = format!("{good}{}", " ".repeat(MAX_RECORD));
        for (text, expected) in [
            ("", Dropped::Unreadable),
            ("{}", Dropped::Unreadable),
            ("[1]", Dropped::Unreadable),
            ("\u{0}", Dropped::Unreadable),
            (r#"{"v":1}"#, Dropped::Unreadable),
            (r#"{"v":"1"}"#, Dropped::Unreadable),
            (r#"{"v":2,"new":true}"#, Dropped::Version),
            (&long, Dropped::TooLong),
            (
                &good.replacen('{', r#"{"strange":1,"#, 1),
                Dropped::Unreadable,
            ),
            (&good.replacen('{', r#"{"v":1,"#, 1), Dropped::Unreadable),
            (
                &good.replace("9999-12-30", "9999-99-99"),
                Dropped::Unreadable,
            ),
        ] {
            assert_eq!(pen.read(text.as_bytes()), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_record_without_the_right_signature_does_not_count() {
        let signed = pen(ONE, Some("a secret of some length"));
        let good = signed.write(1, &record("k", None)).unwrap().text;
        let elsewhere = |place| {
            let secret = stretched("a secret of some length");
            let pen = Pen::new(place, ONE, Some(secret));
            pen.write(1, &record("k", None)).unwrap().text
        };
        let forged = [
            pen(ONE, None).write(1, &record("k", None)).unwrap().text,
            pen(ONE, Some("another secret, as long"))
                .write(1, &record("k", None))
                .unwrap()
                .text,
            elsewhere(("cardea:", "others")),
            elsewhere(("staging:", "things")),
            elsewhere(("", "cardea:things")),
            good.replace("\"k\"", "\"l\""),
            good.replacen(' ', "  ", 1),
            String::new(),
        ];
        for text in forged {
            assert_eq!(
                signed.read(text.as_bytes()),
                Err(Dropped::Signature),
                "{text}"
            );
        }
        let unsigned = pen(OTHER, None).read(good.as_bytes());
        assert_eq!(unsigned, Err(Dropped::Signature));
    }

    #[test]
    fn a_record_that_is_too_long_is_not_written() {
        let body = json!("x".repeat(MAX_RECORD));
        assert_eq!(pen(ONE, None).write(1, &record("k", Some(body))), None);
    }

    #[test]
    fn a_bell_says_whether_somebody_else_rings() {
        let (one, other) = (pen(ONE, None), pen(OTHER, None));
        assert_eq!(one.hears(one.bell().as_bytes()), Some(false));
        assert_eq!(one.hears(other.bell().as_bytes()), Some(true));
        for garbage in [&b""[..], b"1", b"1 x", b"2 x", b"\xff"] {
            assert_eq!(one.hears(garbage), None);
        }
        let later = one.bell().replacen('1', "2", 1);
        assert_eq!(one.hears(later.as_bytes()), None);
    }

    #[test]
    fn debug_texts_do_not_show_what_is_there() {
        let text = format!("{:?}", record("k", Some(json!("canary"))));
        assert!(!text.contains("canary"), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_shared_state_is_read_or_dropped(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0_usize..200,
            flipped in any::<u8>(),
        ) {
            for secret in [None, Some("a secret of some length")] {
                let pen = pen(ONE, secret);
                let _ = pen.read(&bytes);
                let mut text = pen.write(1, &record("k", None)).unwrap().text.into_bytes();
                let at = cut % text.len();
                text[at] ^= flipped;
                let heard = pen.read(&text);
                // A signature may be written in capitals.
                let same = heard.is_ok_and(|heard| heard.record == record("k", None));
                prop_assert!(secret.is_none() || !same || flipped == 0 || flipped == 0x20);
            }
        }
    }
}

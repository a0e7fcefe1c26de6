//! A fact as it is read: what Cedar's value and the name of a remembered judgement are both made of.

use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy_core::ast::Value;
use jiff::Timestamp;

use super::value::{Kind, datetime, ip, strings};
use crate::model::IdentityAttributes;

/// One fact.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading<'a> {
    Truth(bool),
    Count(i64),
    Text(&'a str),
    Texts(&'a [String]),
    Address(Option<IpAddr>),
    Instant(Timestamp),
    Entity(Kind, &'a str),
    /// The entity that a caller of that kind becomes.
    Principal(Kind, &'a IdentityAttributes),
}

impl Reading<'_> {
    /// The same as Cedar sees it. `None` for an instant beyond Cedar's range.
    pub(super) fn value(self) -> Option<Value> {
        Some(match self {
            Self::Truth(truth) => truth.into(),
            Self::Count(count) => count.into(),
            Self::Text(text) => text.into(),
            Self::Texts(texts) => strings(texts.iter().map(String::as_str)),
            Self::Address(address) => ip(address)?,
            Self::Instant(at) => datetime(at)?,
            Self::Entity(kind, id) => kind.uid(id).into(),
            Self::Principal(kind, who) => kind.uid(&who.principal_id()).into(),
        })
    }
}

impl From<bool> for Reading<'_> {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

impl From<i64> for Reading<'_> {
    fn from(count: i64) -> Self {
        Self::Count(count)
    }
}

impl<'a> From<&'a str> for Reading<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [String]> for Reading<'a> {
    fn from(texts: &'a [String]) -> Self {
        Self::Texts(texts)
    }
}

impl From<Option<IpAddr>> for Reading<'_> {
    fn from(address: Option<IpAddr>) -> Self {
        Self::Address(address)
    }
}

impl From<Timestamp> for Reading<'_> {
    fn from(at: Timestamp) -> Self {
        Self::Instant(at)
    }
}

/// Facts written one after another, so that different facts are never the same bytes: every fact begins with what it is,
/// and whatever can differ in length with its length.
#[derive(Debug)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(128))
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A fact, or that there is none.
    pub(super) fn reading(&mut self, reading: Option<&Reading<'_>>) {
        match reading {
            None => self.0.push(0),
            Some(Reading::Truth(truth)) => self.truth(*truth),
            Some(Reading::Count(count)) => {
                self.0.push(3);
                self.0.extend(count.to_le_bytes());
            }
            Some(Reading::Text(text)) => {
                self.0.push(4);
                self.text(text);
            }
            Some(Reading::Texts(texts)) => {
                self.0.push(5);
                self.0.extend(texts.len().to_le_bytes());
                texts.iter().for_each(|text| self.text(text));
            }
            Some(Reading::Address(None)) => self.0.push(6),
            Some(Reading::Address(Some(IpAddr::V4(address)))) => {
                self.0.push(7);
                self.0.extend(address.octets());
            }
            Some(Reading::Address(Some(IpAddr::V6(address)))) => {
                self.0.push(8);
                self.0.extend(address.octets());
            }
            Some(Reading::Instant(at)) => {
                self.0.push(9);
                self.0.extend(at.as_nanosecond().to_le_bytes());
            }
            Some(Reading::Principal(kind, who)) => {
                self.0.push(11);
                self.text(kind.name());
                self.text(&who.issuer);
                self.text(&who.subject);
            }
            Some(Reading::Entity(kind, id)) => {
                self.0.push(10);
                self.text(kind.name());
                self.text(id);
            }
        }
    }

    pub(super) fn truth(&mut self, truth: bool) {
        self.0.push(if truth { 2 } else { 1 });
    }

    /// A text behind its length.
    pub(super) fn text(&mut self, text: &str) {
        self.0.extend(text.len().to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Pairs behind their number.
    pub(super) fn pairs(&mut self, pairs: &[(Arc<str>, String)]) {
        self.0.extend(pairs.len().to_le_bytes());
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }

    /// The bytes.
    pub(super) fn into_bytes(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(readings: &[Option<Reading<'_>>]) -> Box<[u8]> {
        let mut name = Name::new();
        for reading in readings {
            name.reading(reading.as_ref());
        }
        name.into_bytes()
    }

    #[test]
    fn c4_different_facts_never_have_the_same_name() {
        let own = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        let (joined, apart) = (own(&["a,b"]), own(&["a", "b"]));
        let (none, empty, two_empty) = (own(&[]), own(&[""]), own(&["", ""]));
        let address = |text: &str| Some(Reading::Address(Some(text.parse().unwrap())));
        let long = "x".repeat(4096);
        let longer = format!("{long}y");
        let all: Vec<Vec<Option<Reading<'_>>>> = vec![
            vec![],
            vec![None],
            vec![None, None],
            vec![Some(false.into())],
            vec![Some(true.into())],
            vec![Some(0.into())],
            vec![Some(1.into())],
            vec![Some((-1).into())],
            vec![Some(256.into())],
            vec![Some("".into())],
            vec![Some("a".into()), Some("bc".into())],
            vec![Some("ab".into()), Some("c".into())],
            vec![Some("abc".into())],
            vec![Some("a\0b".into())],
            vec![Some("true".into())],
            vec![Some(long.as_str().into())],
            vec![Some(longer.as_str().into())],
            vec![Some(joined.as_slice().into())],
            vec![Some(apart.as_slice().into())],
            vec![Some(none.as_slice().into())],
            vec![Some(empty.as_slice().into())],
            vec![Some(two_empty.as_slice().into())],
            vec![Some(Reading::Address(None))],
            vec![address("::")],
            vec![address("0.0.0.0")],
            vec![address("::ffff:0.0.0.0")],
            vec![Some(Timestamp::UNIX_EPOCH.into())],
            vec![Some(Timestamp::from_nanosecond(1).unwrap().into())],
            vec![Some(Reading::Entity(Kind::User, "a"))],
            vec![Some(Reading::Entity(Kind::Client, "a"))],
            vec![Some(Reading::Entity(Kind::User, "ab"))],
        ];
        for (number, one) in all.iter().enumerate() {
            for other in &all[..number] {
                assert_ne!(name(one), name(other), "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn c4_pairs_are_not_read_across_their_borders() {
        let name = |pairs: &[(&str, &str)]| {
            let mut name = Name::new();
            let pairs: Vec<(Arc<str>, String)> = pairs
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).to_owned()))
                .collect();
            name.pairs(&pairs);
            name.into_bytes()
        };
        assert_ne!(name(&[("a", "bc")]), name(&[("ab", "c")]));
        assert_ne!(name(&[("a", "b"), ("c", "d")]), name(&[("a", "b")]));
        assert_ne!(name(&[]), name(&[("", "")]));
    }
}

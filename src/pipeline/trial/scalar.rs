//! Small values as people write them.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

/// The most items one list may hold.
const MAX_ITEMS: usize = 1024;

/// An instant, in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When(pub Timestamp);

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        let at = text.parse().map_err(|_| {
            de::Error::custom("not an instant: write it like `2026-01-05T12:00:00Z` (RFC 3339)")
        })?;
        Ok(Self(at))
    }
}

/// A list of texts, or one alone. Booleans and whole numbers are taken as the text they are written with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(NamesVisitor).map(Self)
    }
}

/// As [`Names`], but a text is a list of words with spaces between them, as `scope` is (RFC 6749, section 3.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let names = reader.deserialize_any(NamesVisitor)?;
        let words = names.iter().flat_map(|text| text.split(' '));
        Ok(Self(
            words
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
        ))
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(vec![flag.to_string()])
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(One(item)) = items.next_element()? {
            if all.len() == MAX_ITEMS {
                let message = format!("the list holds more than {MAX_ITEMS} items");
                return Err(de::Error::custom(message));
            }
            all.push(item);
        }
        Ok(all)
    }
}

/// One item of a list.
struct One(String);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(OneVisitor).map(Self)
    }
}

struct OneVisitor;

impl Visitor<'_> for OneVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E>(self, flag: bool) -> Result<String, E> {
        Ok(flag.to_string())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

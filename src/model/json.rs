//! JSON with one reading: RFC 8259, no member twice, bounded depth.
//!
//! `serde_json` reads the text (it refuses a BOM, lone surrogates, trailing bytes, NaN and more than 128 levels); this
//! adds the one thing parsers disagree on that it lets pass: a member that occurs twice.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// Reads one JSON text.
///
/// # Errors
/// Where the bytes are not one JSON text, or an object in it holds a member twice. The message never quotes a value.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = OneReading
        .deserialize(&mut reader)
        .map_err(|error| JsonError::new(&error))?;
    reader.end().map_err(|error| JsonError::new(&error))?;
    Ok(value)
}

/// Reads one JSON object, see [`parse`].
///
/// # Errors
/// As [`parse`], and where the text is not an object.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match parse(bytes)? {
        Value::Object(members) => Ok(members),
        _ => Err(JsonError {
            what: "not an object",
            line: 1,
            column: 1,
        }),
    }
}

/// The items of one JSON list as they are written, each with the byte it begins at. Nothing in them is read yet, so that
/// a list of a million is told from its length alone.
///
/// # Errors
/// Where the text is not one JSON list, or holds more than `most` items.
pub fn items(text: &str, most: usize) -> Result<Vec<(usize, &str)>, ItemsError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let listed = reader.deserialize_any(Items { most });
    let listed = listed.and_then(|items| reader.end().map(|()| items));
    let items = listed.map_err(|error| match error.classify() {
        serde_json::error::Category::Data if error.to_string().starts_with(TOO_MANY) => {
            ItemsError::TooMany
        }
        // What begins as something else may still be no JSON.
        serde_json::error::Category::Data => {
            match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => ItemsError::NoList,
                Err(error) => ItemsError::Json(JsonError::new(&error)),
            }
        }
        _ => ItemsError::Json(JsonError::new(&error)),
    })?;
    let begin = text.as_ptr().addr();
    let at = |item: &str| item.as_ptr().addr().saturating_sub(begin);
    Ok(items
        .into_iter()
        .map(|item| (at(item.get()), item.get()))
        .collect())
}

/// Why a text has no items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemsError {
    /// It is no JSON.
    Json(JsonError),
    /// It is JSON, and no list.
    NoList,
    /// It holds more than it may.
    TooMany,
}

const TOO_MANY: &str = "too many items";

struct Items {
    most: usize,
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut listed = Vec::new();
        while let Some(item) = items.next_element()? {
            listed.push(item);
            if listed.len() > self.most {
                return Err(A::Error::custom(TOO_MANY));
            }
        }
        Ok(listed)
    }
}

/// Why a text has no single reading as JSON. It says where, never what stood there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}, line {line}, column {column}")]
pub struct JsonError {
    what: &'static str,
    line: usize,
    column: usize,
}

const TWICE: &str = "a member occurs twice";
/// What `serde_json` says of more than 127 levels.
const TOO_DEEP: &str = "recursion limit exceeded";

impl JsonError {
    /// What is wrong.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Line and column, both from 1.
    #[must_use]
    pub fn place(&self) -> (usize, usize) {
        (self.line, self.column)
    }

    fn new(error: &serde_json::Error) -> Self {
        let what = match error.classify() {
            serde_json::error::Category::Data if error.to_string().starts_with(TWICE) => TWICE,
            serde_json::error::Category::Syntax if error.to_string().starts_with(TOO_DEEP) => {
                "nested more than 127 levels deep"
            }
            serde_json::error::Category::Eof => "the text ends too early",
            _ => "not JSON",
        };
        Self {
            what,
            line: error.line(),
            column: error.column(),
        }
    }
}

struct OneReading;

impl<'de> DeserializeSeed<'de> for OneReading {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneReading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a number"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(OneReading)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = BTreeMap::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(OneReading)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Value::Object(object.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_json_reads_as_ordinary_json() {
        let text = r#"{"a":[1,-2,1.5,true,null,"x"],"b":{"a":{}}}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_text_with_two_readings_is_refused() {
        for text in [
            r#"{"role":"user","role":"admin"}"#,
            r#"{"role":"user","\u0072ole":"admin"}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"[{"b":1,"b":1}]"#,
            "\u{feff}{}",
            "{} {}",
            "{}x",
            "[1,]",
            r#"{"a":NaN}"#,
            r#"{"a":1e400}"#,
            r#""\ud800""#,
            "",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let error = parse(deep.as_bytes()).unwrap_err();
        assert_eq!(error.what(), "nested more than 127 levels deep");
        let most = format!("{}{}", "[".repeat(127), "]".repeat(127));
        assert!(parse(most.as_bytes()).is_ok());
    }

    #[test]
    fn items_are_given_as_they_are_written_and_no_more_than_asked_for() {
        let text = "\n[1, {\"a\":[ ]} ,\"x\"] ";
        assert_eq!(
            items(text, 3).unwrap(),
            [(2, "1"), (5, "{\"a\":[ ]}"), (16, "\"x\"")]
        );
        assert_eq!(items(text, 2), Err(ItemsError::TooMany));
        assert_eq!(items("[]", 0), Ok(Vec::new()));
        for no_list in ["{}", "1", "null"] {
            assert_eq!(items(no_list, 9), Err(ItemsError::NoList), "{no_list}");
        }
        for no_json in ["", "[", "[1,]", "[1] x", "x", "{", "{} x"] {
            assert!(
                matches!(items(no_json, 9), Err(ItemsError::Json(_))),
                "{no_json}"
            );
        }
    }

    #[test]
    fn an_error_says_where_and_quotes_nothing() {
        let error = parse(br#"{"s3cret":1,"s3cret":2}"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("a member occurs twice, line 1"),
            "{error}"
        );
        assert!(!error.contains("s3cret"));
        assert_eq!(
            parse_object(b"[1,2]").unwrap_err().to_string(),
            "not an object, line 1, column 1"
        );
    }
}

//! Protobuf's JSON form (ProtoJSON) of the few types that need more than a plain reading.

use std::fmt;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as Wire};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::{Map, Value};

/// `bytes`: base64 in either alphabet, with or without padding.
#[derive(Debug, Default)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        let alphabet = if text.contains(['-', '_']) {
            &URL_SAFE
        } else {
            &STANDARD
        };
        let config = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(false);
        let bytes = GeneralPurpose::new(alphabet, config).decode(&text);
        bytes.map(Self).map_err(|_| de::Error::custom("not base64"))
    }
}

/// `int64`, `uint32` and kin: a whole number, or the text of one.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Integer(pub(super) i64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(IntegerVisitor).map(Self)
    }
}

struct IntegerVisitor;

impl Visitor<'_> for IntegerVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, or a text that holds one")
    }

    fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<i64, E> {
        i64::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
        text.parse()
            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// `google.protobuf.Timestamp`: RFC 3339.
#[derive(Debug)]
pub(super) struct Instant(pub(super) prost_types::Timestamp);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        let at: Timestamp = text
            .parse()
            .map_err(|_| de::Error::custom("not an instant in RFC 3339"))?;
        Ok(Self(prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }))
    }
}

/// `google.protobuf.Struct`: any JSON object.
pub(super) fn structure(members: Map<String, Value>) -> Struct {
    Struct {
        fields: members
            .into_iter()
            .map(|(name, value)| (name, wire(value)))
            .collect(),
    }
}

/// How deep a value nests is bounded by whoever read the text.
fn wire(value: Value) -> Wire {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        // Every number of the form is a double; one that is none in JSON cannot be written.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.into_iter().map(wire).collect(),
        }),
        Value::Object(members) => Kind::StructValue(structure(members)),
    };
    Wire { kind: Some(kind) }
}

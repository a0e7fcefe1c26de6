//! Facts that other Envoy filters, or the route's own settings, left about a request.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{Struct, Value as Wire};
use serde_json::{Map, Number, Value};

use super::malformed;
use crate::envoy::proto::core::Metadata;
use crate::model::Refusal;

/// The most values one request's metadata may hold, and how deep they may lie in one another.
const MOST_VALUES: usize = 1024;
const DEEPEST: usize = 16;

/// Reads metadata: one JSON object a filter, by the filter's name.
pub(super) fn read(metadata: Option<Metadata>) -> Result<BTreeMap<String, Value>, Refusal> {
    let mut left = MOST_VALUES;
    let filters = metadata
        .map(|metadata| metadata.filter_metadata)
        .unwrap_or_default();
    filters
        .into_iter()
        .map(|(filter, fields)| Ok((filter, object(fields, DEEPEST, &mut left)?)))
        .collect()
}

fn object(fields: Struct, depth: usize, left: &mut usize) -> Result<Value, Refusal> {
    let members = fields
        .fields
        .into_iter()
        .map(|(name, value)| Ok((name, json(value, depth, left)?)));
    Ok(Value::Object(
        members.collect::<Result<Map<_, _>, Refusal>>()?,
    ))
}

fn json(value: Wire, depth: usize, left: &mut usize) -> Result<Value, Refusal> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| malformed("the metadata is nested too deep"))?;
    *left = left
        .checked_sub(1)
        .ok_or_else(|| malformed("the metadata holds too many values"))?;
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => Value::Bool(truth),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| malformed("the metadata holds a number that is none"))?,
        Some(Kind::StructValue(fields)) => object(fields, depth, left)?,
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().map(|item| json(item, depth, left));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use prost_types::ListValue;

    use super::*;

    fn metadata(value: Wire) -> Metadata {
        let fields = Struct {
            fields: [("field".to_owned(), value)].into(),
        };
        Metadata {
            filter_metadata: [("filter".to_owned(), fields)].into(),
        }
    }

    fn wire(kind: Kind) -> Wire {
        Wire { kind: Some(kind) }
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let list = ListValue {
            values: vec![
                wire(Kind::StringValue("a".to_owned())),
                wire(Kind::NumberValue(1.5)),
                wire(Kind::BoolValue(true)),
                wire(Kind::NullValue(0)),
                wire(Kind::StructValue(Struct::default())),
            ],
        };
        let read = read(Some(metadata(wire(Kind::ListValue(list))))).unwrap();
        assert_eq!(
            read["filter"],
            serde_json::json!({ "field": ["a", 1.5, true, null, {}] })
        );
    }

    #[test]
    fn metadata_is_bounded_in_depth_and_number() {
        let mut deep = wire(Kind::NullValue(0));
        for _ in 0..DEEPEST {
            deep = wire(Kind::ListValue(ListValue { values: vec![deep] }));
        }
        assert!(
            read(Some(metadata(deep)))
                .unwrap_err()
                .detail
                .contains("too deep")
        );
        let many = ListValue {
            values: vec![wire(Kind::NullValue(0)); MOST_VALUES],
        };
        let refusal = read(Some(metadata(wire(Kind::ListValue(many))))).unwrap_err();
        assert!(refusal.detail.contains("too many"));
        let refusal = read(Some(metadata(wire(Kind::NumberValue(f64::NAN))))).unwrap_err();
        assert!(refusal.detail.contains("a number that is none"));
        assert!(read(None).unwrap().is_empty());
    }
}

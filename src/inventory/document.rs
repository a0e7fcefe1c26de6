//! The typed view of an OpenAPI document: only what routing and policies need, the same for 3.0 and 3.1.
//!
//! JSON is read by the YAML reader too (YAML 1.2 contains it), so that a mistake in either has its line and column.
//! Keys this view does not name are skipped unread; what it does name must have the right shape.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value};
use serde_saphyr::Spanned;

use super::extension::{DocumentExtension, OperationExtension};
use crate::model::{Method, yaml};

/// Line and column, both from 1.
pub(super) type Place = Option<(usize, usize)>;

/// The document.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) openapi: Option<Spanned<String>>,
    pub(super) info: Info,
    #[serde(default)]
    pub(super) servers: Vec<Spanned<Server>>,
    #[serde(default)]
    pub(super) paths: Paths,
    #[serde(default)]
    pub(super) components: Components,
    #[serde(default, rename = "x-cardea")]
    pub(super) extension: DocumentExtension,
}

#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) version: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Server {
    pub(super) url: String,
    #[serde(default)]
    pub(super) variables: BTreeMap<String, ServerVariable>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ServerVariable {
    pub(super) default: String,
}

/// The paths in the order they are written, without `x-` keys.
#[derive(Debug, Default)]
pub(super) struct Paths(pub(super) Vec<(Spanned<String>, PathItem)>);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PathItem {
    #[serde(rename = "$ref")]
    pub(super) reference: Option<Spanned<String>>,
    pub(super) servers: Vec<Spanned<Server>>,
    pub(super) parameters: Vec<Spanned<Parameter>>,
    #[serde(rename = "x-cardea")]
    pub(super) extension: OperationExtension,
    get: Option<Spanned<OperationItem>>,
    head: Option<Spanned<OperationItem>>,
    options: Option<Spanned<OperationItem>>,
    post: Option<Spanned<OperationItem>>,
    put: Option<Spanned<OperationItem>>,
    patch: Option<Spanned<OperationItem>>,
    delete: Option<Spanned<OperationItem>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OperationItem {
    #[serde(rename = "operationId")]
    pub(super) operation_id: Option<Spanned<String>>,
    pub(super) tags: Vec<Spanned<String>>,
    pub(super) servers: Vec<Spanned<Server>>,
    pub(super) parameters: Vec<Spanned<Parameter>>,
    pub(super) deprecated: bool,
    #[serde(rename = "x-cardea")]
    pub(super) extension: OperationExtension,
}

/// A parameter, or a reference to one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Parameter {
    #[serde(rename = "$ref")]
    pub(super) reference: Option<String>,
    pub(super) name: Option<String>,
    #[serde(rename = "in")]
    pub(super) place: Option<String>,
    pub(super) schema: Option<Schema>,
    pub(super) style: Option<String>,
    pub(super) explode: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Components {
    pub(super) parameters: BTreeMap<String, Parameter>,
    pub(super) schemas: BTreeMap<String, Schema>,
    #[serde(rename = "pathItems")]
    pub(super) path_items: BTreeMap<String, PathItem>,
}

/// As much of a schema as tells whether it can describe a list. A boolean schema (3.1) tells nothing.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub(super) reference: Option<String>,
    pub(super) types: Vec<String>,
    pub(super) has_items: bool,
    /// `allOf`, `anyOf` and `oneOf` alike.
    pub(super) parts: Vec<Schema>,
}

impl PathItem {
    /// The documented operations. `trace` is left out: no request with that method is ever let in.
    pub(super) fn operations(&self) -> impl Iterator<Item = (Method, &Spanned<OperationItem>)> {
        [
            (Method::Get, &self.get),
            (Method::Head, &self.head),
            (Method::Options, &self.options),
            (Method::Post, &self.post),
            (Method::Put, &self.put),
            (Method::Patch, &self.patch),
            (Method::Delete, &self.delete),
        ]
        .into_iter()
        .filter_map(|(method, item)| item.as_ref().map(|item| (method, item)))
    }
}

/// Where a value stands.
pub(super) fn place<T>(value: &Spanned<T>) -> Place {
    yaml::place(value.referenced)
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_map(PathsVisitor)
    }
}

struct PathsVisitor;

impl<'de> Visitor<'de> for PathsVisitor {
    type Value = Paths;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of path templates")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Paths, A::Error> {
        let mut paths = Vec::new();
        while let Some(template) = members.next_key::<Spanned<String>>()? {
            if template.value.starts_with("x-") {
                members.next_value::<IgnoredAny>()?;
            } else {
                paths.push((template, members.next_value()?));
            }
        }
        Ok(Paths(paths))
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(SchemaVisitor)
    }
}

struct SchemaVisitor;

impl<'de> Visitor<'de> for SchemaVisitor {
    type Value = Schema;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schema (a mapping or a boolean)")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Schema, E> {
        Ok(Schema::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Schema, A::Error> {
        let members = SchemaMembers::deserialize(value::MapAccessDeserializer::new(members))?;
        let SchemaMembers {
            reference,
            types,
            items,
            all_of,
            any_of,
            one_of,
        } = members;
        Ok(Schema {
            reference,
            types: types.0,
            has_items: items.is_some(),
            parts: [all_of, any_of, one_of].into_iter().flatten().collect(),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SchemaMembers {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    #[serde(rename = "type")]
    types: Types,
    items: Option<IgnoredAny>,
    #[serde(rename = "allOf")]
    all_of: Vec<Schema>,
    #[serde(rename = "anyOf")]
    any_of: Vec<Schema>,
    #[serde(rename = "oneOf")]
    one_of: Vec<Schema>,
}

/// `type`: one word (3.0), or a list of words (3.1).
#[derive(Default)]
struct Types(Vec<String>);

impl<'de> Deserialize<'de> for Types {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(TypesVisitor)
    }
}

struct TypesVisitor;

impl<'de> Visitor<'de> for TypesVisitor {
    type Value = Types;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type name or a list of them")
    }

    fn visit_str<E>(self, name: &str) -> Result<Types, E> {
        Ok(Types(vec![name.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Types, A::Error> {
        let mut types = Vec::new();
        // `null` is often written without the quotes it needs; it does not matter here.
        while let Some(name) = names.next_element::<Option<String>>()? {
            types.extend(name);
        }
        Ok(Types(types))
    }
}

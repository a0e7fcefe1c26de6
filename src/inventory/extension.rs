//! `x-cardea`: what an API document says for Cardea alone. Unknown keys are refused, since a misspelt one would
//! silently say nothing.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor, value};
use serde_saphyr::Spanned;

use crate::model::Lifecycle;

/// `x-cardea` at the top of a document.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DocumentExtension {
    /// The API's stable name. Default: the file's name without its extension.
    pub(super) api: Option<Spanned<String>>,
    /// Where the API stands in its life. Default: `active`.
    pub(super) lifecycle: Option<Stage>,
    /// When it goes out of service: an RFC 3339 date and time.
    pub(super) sunset: Option<Spanned<String>>,
    /// Who is meant to reach it. Default: `internal`.
    pub(super) exposure: Exposure,
    /// Group that answers for it.
    pub(super) owner: Option<Spanned<String>>,
    /// Kinds of data it handles.
    pub(super) data_classes: Vec<Spanned<String>>,
    /// The hosts it is served on. Default: any.
    pub(super) hosts: Option<Spanned<Vec<Spanned<String>>>>,
    /// What stands before every path template, instead of what `servers` say.
    pub(super) base_path: Option<Spanned<String>>,
    /// Put the API's name before its routes' ids, where another API has routes of the same name.
    pub(super) qualify_routes: bool,
    /// Let pass what policies would have refused, and say so: for legacy APIs whose callers are not all known yet.
    pub(super) observe: bool,
    /// The roles that may call its operations: for `cardea generate policies`, and of no effect by themselves.
    pub(super) roles: Vec<Spanned<String>>,
}

/// `x-cardea` of a path (for all its operations) or of one operation.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OperationExtension {
    /// 0 (public) to 3 (most sensitive).
    pub(super) sensitivity: Option<Spanned<u8>>,
    /// Labels policies can ask for, beside the operation's OpenAPI tags.
    pub(super) tags: Vec<Spanned<String>>,
    /// Where it stands in its life, if not where its API does.
    pub(super) lifecycle: Option<Stage>,
    /// What it acts on, if not what its template suggests.
    pub(super) resource: Option<Spanned<Resource>>,
    /// Whether what policies would have refused passes: its own word, else its path's, else its document's.
    pub(super) observe: Option<bool>,
    /// The roles that may call it, in place of the document's: for `cardea generate policies`, and of no effect by
    /// themselves.
    pub(super) roles: Vec<Spanned<String>>,
}

/// `resource: route`, or `resource: { kind: .., id: [..] }`.
#[derive(Debug)]
pub(super) enum Resource {
    Route,
    Object(Object),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) id: Vec<String>,
}

/// The stages a document may name.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Active,
    Deprecated,
    Retired,
}

impl From<Stage> for Lifecycle {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Active => Self::Active,
            Stage::Deprecated => Self::Deprecated,
            Stage::Retired => Self::Retired,
        }
    }
}

/// Who is meant to reach an API.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Exposure {
    #[default]
    Internal,
    Partner,
    Public,
}

impl Exposure {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Partner => "partner",
            Self::Public => "public",
        }
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(ResourceVisitor)
    }
}

struct ResourceVisitor;

impl<'de> Visitor<'de> for ResourceVisitor {
    type Value = Resource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`route` or a mapping with `kind` and `id`")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Resource, E> {
        match word {
            "route" => Ok(Resource::Route),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Resource, A::Error> {
        Object::deserialize(value::MapAccessDeserializer::new(members)).map(Resource::Object)
    }
}

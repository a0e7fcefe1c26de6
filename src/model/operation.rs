//! What is being done, in the words of the API's own document.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Method;

/// Where an API stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// In service. The default.
    #[default]
    Active,
    /// In service, but on its way out.
    Deprecated,
    /// No longer in service.
    Retired,
    /// Not in any document.
    Unknown,
}

impl Lifecycle {
    /// The word policies compare with.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deprecated => "deprecated",
            Self::Retired => "retired",
            Self::Unknown => "unknown",
        }
    }
}

/// One API: the document it is described by.
#[derive(Debug, PartialEq, Eq)]
pub struct Api {
    /// Its stable name, the id of its Cedar entity.
    pub name: Arc<str>,
    /// `info.version`.
    pub version: String,
    /// Where it stands in its life.
    pub lifecycle: Lifecycle,
    /// When it goes out of service (RFC 8594).
    pub sunset: Option<Timestamp>,
    /// `internal`, `partner` or `public`.
    pub exposure: String,
    /// Group that answers for it.
    pub owner: Option<String>,
    /// Kinds of data it handles, such as `personal`.
    pub data_classes: Vec<String>,
}

/// One path template of an API.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// `METHOD /template`, the id of its Cedar entity.
    pub id: Arc<str>,
    /// The API it belongs to.
    pub api: Arc<Api>,
    /// The path template (`/v1/orders/{orderId}`).
    pub template: String,
    /// 0 (public) to 3 (most sensitive).
    pub sensitivity: u8,
    /// Labels policies can ask for (`resource in Cardea::Tag::"recovery"`).
    pub tags: Vec<String>,
    /// Where it stands in its life: its own word, else its API's.
    pub lifecycle: Lifecycle,
}

/// What a documented operation acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceRule {
    /// The route itself: a collection, a search, an action.
    Route,
    /// One object behind the route.
    Object {
        /// What kind of object, such as `orders`.
        kind: String,
        /// The path parameters that make its id, in order: see [`Matched::object_id`].
        id: Vec<Arc<str>>,
    },
}

/// One operation: a documented one, or the generic one of its method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The id of its Cedar action: `orders.getOrder`, or `http:GET` where no document knows the request.
    pub id: Arc<str>,
    /// Whether a document describes it.
    pub documented: bool,
    /// Its method.
    pub method: Method,
    /// Its route.
    pub route: Arc<Route>,
    /// What it acts on.
    pub resource: ResourceRule,
    /// Whether its document marks it as observed: what policies would have refused passes, and is told. Never true of a
    /// generic operation.
    pub observed: bool,
    /// Query parameters that may be given once at most.
    pub single_query_parameters: Vec<String>,
}

/// An operation, and what the request's path says of it.
#[derive(Debug, Clone)]
pub struct Matched {
    /// The operation.
    pub operation: Arc<Operation>,
    /// Path parameters, decoded, in template order.
    pub parameters: Vec<(Arc<str>, String)>,
}

impl Matched {
    /// The value of a path parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| &**key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The id of the object the request acts on: the values its rule names, joined with `/`; `None` where it acts on its
    /// route. A `/` or `%` within a value is percent-encoded, so that `a%2Fb` and `c` are not `a` and `b%2Fc`.
    #[must_use]
    pub fn object_id(&self) -> Option<String> {
        let ResourceRule::Object { id: names, .. } = &self.operation.resource else {
            return None;
        };
        let mut id = String::new();
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                id.push('/');
            }
            for c in self.parameter(name)?.chars() {
                match c {
                    '/' => id.push_str("%2F"),
                    '%' => id.push_str("%25"),
                    _ => id.push(c),
                }
            }
        }
        Some(id)
    }
}

//! What API documents say beyond routing: who must prove what, and which names a path and a body hold.
//!
//! For generated schemas and policies only, so nothing here is kept on a request's way and nothing here can make a
//! document unfit to serve. The documents are read a second time, as plain values: what has an odd shape is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Inventory;
use super::reader::{self, Compiled, Entry};
use crate::model::{Operation, Problem, shown, yaml};

/// How many references and compositions lead from one schema to the next.
const MAX_DEPTH: usize = 8;
/// How many fields of one body are named.
const MAX_FIELDS: usize = 64;
/// The most bytes of a document's own words in one line.
const MAX_SHOWN: usize = 160;

/// What a document says of one operation, for whoever writes policies about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The operation.
    pub operation: Arc<Operation>,
    /// `summary`, in one line.
    pub summary: Option<String>,
    /// Who must prove what: the operation's `security`, else the document's.
    pub security: Security,
    /// `x-cardea.roles`: the operation's and its path's, else the document's.
    pub roles: Vec<String>,
    /// The path parameters, in the order of the template.
    pub parameters: Vec<Field>,
    /// The top-level fields of a JSON body, in alphabetical order.
    pub body: Vec<Field>,
}

/// What a caller must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// The document says nothing. That is not the same as nothing being needed.
    Unstated,
    /// Nothing: `security: []`, or an alternative `{}` among others.
    Public,
    /// Any one of these.
    AnyOf(Vec<Requirement>),
}

/// One alternative: everything in it must be proven.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requirement {
    /// The names of its security schemes.
    pub schemes: Vec<String>,
    /// The scopes its OAuth 2.0 and OpenID Connect schemes name.
    pub scopes: Vec<String>,
    /// The roles its other schemes name (OpenAPI 3.1, section 4.8.30).
    pub roles: Vec<String>,
    /// Whether one of its schemes is `mutualTLS`.
    pub mutual_tls: bool,
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What kind of value it is, in the document's words: `string (uuid)`, `integer, 1 to 100`.
    pub kind: String,
}

/// Reads what documents (file and text) say of their operations, in the order they say it.
///
/// # Errors
/// Every mistake [`Inventory::compile`] finds, and every `security` that names a scheme the document does not have.
pub fn outlines(documents: &[(PathBuf, String)]) -> Result<Vec<Outline>, Vec<Problem>> {
    // Mistakes between documents count as well, though their order of reading is all that is used of it here.
    Inventory::compile(documents)?;
    let mut problems = Vec::new();
    let mut outlines = Vec::new();
    for (file, text) in documents {
        let Some(compiled) = reader::read(file, text, &mut problems) else {
            continue;
        };
        match yaml::parse::<Value>(text) {
            Ok(root) => outlines.extend(Reader::new(file, &root, &mut problems).all(&compiled)),
            Err(problem) => problems.push(problem.in_file(file)),
        }
    }
    if problems.is_empty() {
        Ok(outlines)
    } else {
        Err(problems)
    }
}

/// Reads one document.
struct Reader<'d, 'p> {
    file: &'d Path,
    root: &'d Value,
    problems: &'p mut Vec<Problem>,
}

/// An operation as the document writes it: with the path it stands under.
#[derive(Clone, Copy)]
struct Written<'d> {
    path: &'d Value,
    item: &'d Value,
}

impl<'d, 'p> Reader<'d, 'p> {
    fn new(file: &'d Path, root: &'d Value, problems: &'p mut Vec<Problem>) -> Self {
        Self {
            file,
            root,
            problems,
        }
    }

    fn all(&mut self, compiled: &Compiled) -> Vec<Outline> {
        let written = self.written();
        let mut outlines = Vec::new();
        for entry in &compiled.entries {
            let own = entry
                .operation
                .id
                .split_once('.')
                .and_then(|(_, id)| written.get(id));
            outlines.extend(own.map(|written| self.outline(entry, *written)));
        }
        outlines
    }

    /// The operations by their `operationId`, which is unique within a document that compiles.
    fn written(&self) -> BTreeMap<&'d str, Written<'d>> {
        let paths = self.root.get("paths").and_then(Value::as_object);
        let items = paths.into_iter().flat_map(Map::values);
        let paths = items.filter_map(|item| self.follow(item));
        paths
            .flat_map(|path| {
                let members = path.as_object().into_iter().flat_map(Map::values);
                members.filter_map(move |item| {
                    let id = item.get("operationId")?.as_str()?;
                    Some((id, Written { path, item }))
                })
            })
            .collect()
    }

    fn outline(&mut self, entry: &Entry, written: Written<'d>) -> Outline {
        let Written { path, item } = written;
        let extended = |value: &'d Value| strings(value.pointer("/x-cardea/roles"));
        let own: Vec<String> = [extended(item), extended(path)].concat();
        Outline {
            operation: Arc::clone(&entry.operation),
            summary: item
                .get("summary")
                .or_else(|| path.get("summary"))
                .and_then(Value::as_str)
                .map(one_line),
            security: self.security(entry, item),
            roles: if own.is_empty() {
                extended(self.root)
            } else {
                unique(own)
            },
            parameters: self.parameters(entry, written),
            body: self.body(item),
        }
    }

    fn security(&mut self, entry: &Entry, item: &'d Value) -> Security {
        let stated = item.get("security").or_else(|| self.root.get("security"));
        let Some(alternatives) = stated.and_then(Value::as_array) else {
            return Security::Unstated;
        };
        let mut any_of = Vec::new();
        for alternative in alternatives.iter().filter_map(Value::as_object) {
            if alternative.is_empty() {
                return Security::Public;
            }
            any_of.push(self.requirement(entry, alternative));
        }
        match (any_of.is_empty(), alternatives.is_empty()) {
            (_, true) => Security::Public,
            // Alternatives of an odd shape say nothing, and least of all that nothing is needed.
            (true, false) => Security::Unstated,
            (false, false) => Security::AnyOf(any_of),
        }
    }

    fn requirement(&mut self, entry: &Entry, alternative: &Map<String, Value>) -> Requirement {
        let mut requirement = Requirement::default();
        for (name, named) in alternative {
            let scheme = self
                .root
                .pointer("/components/securitySchemes")
                .and_then(|schemes| schemes.get(name))
                .and_then(|scheme| self.follow(scheme));
            let Some(scheme) = scheme else {
                self.unknown_scheme(entry, name);
                continue;
            };
            requirement.schemes.push(name.clone());
            match scheme.get("type").and_then(Value::as_str) {
                Some("oauth2" | "openIdConnect") => requirement.scopes.extend(strings(Some(named))),
                Some("mutualTLS") => requirement.mutual_tls = true,
                _ => requirement.roles.extend(strings(Some(named))),
            }
        }
        requirement
    }

    fn unknown_scheme(&mut self, entry: &Entry, name: &str) {
        let (id, name) = (&entry.operation.id, shown(name, MAX_SHOWN));
        let mut problem = Problem::new(format!(
            "`security` of `{id}` names the scheme `{name}`, which the document does not have"
        ))
        .in_file(self.file)
        .hint(format!(
            "declare it: `components: {{ securitySchemes: {{ {name}: .. }} }}`"
        ));
        problem.at = entry.place;
        self.problems.push(problem);
    }

    fn parameters(&self, entry: &Entry, written: Written<'d>) -> Vec<Field> {
        let Written { path, item } = written;
        let listed = |value: &'d Value| {
            let list = value.get("parameters").and_then(Value::as_array);
            list.into_iter().flatten().filter_map(|p| self.follow(p))
        };
        let in_path: Vec<&Value> = listed(item)
            .chain(listed(path))
            .filter(|parameter| parameter.get("in").and_then(Value::as_str) == Some("path"))
            .collect();
        let kind = |name: &str| {
            let named = |p: &&&Value| p.get("name").and_then(Value::as_str) == Some(name);
            let schema = in_path.iter().find(named)?.get("schema")?;
            Some(self.kind(schema))
        };
        let names = entry.template.names();
        names
            .map(|name| Field {
                name: name.to_string(),
                kind: kind(name).unwrap_or_else(|| "a value the document does not type".to_owned()),
            })
            .collect()
    }

    fn body(&self, item: &'d Value) -> Vec<Field> {
        let content = item
            .get("requestBody")
            .and_then(|body| self.follow(body))
            .and_then(|body| body.get("content")?.as_object());
        let json = |kind: &str| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind == "application/json" || kind.ends_with("+json")
        };
        let schema = content
            .into_iter()
            .flatten()
            .find(|(kind, _)| json(kind))
            .and_then(|(_, media)| media.get("schema"));
        let mut fields = BTreeMap::new();
        if let Some(schema) = schema {
            self.fields(schema, 0, &mut fields);
        }
        fields
            .into_iter()
            .map(|(name, kind)| Field { name, kind })
            .collect()
    }

    fn fields(&self, schema: &'d Value, depth: usize, into: &mut BTreeMap<String, String>) {
        let Some(schema) = self.follow(schema).filter(|_| depth < MAX_DEPTH) else {
            return;
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            if into.len() < MAX_FIELDS {
                let name = one_line(name);
                into.entry(name).or_insert_with(|| self.kind(property));
            }
        }
        for part in ["allOf", "anyOf", "oneOf"] {
            let parts = schema.get(part).and_then(Value::as_array);
            for part in parts.into_iter().flatten() {
                self.fields(part, depth + 1, into);
            }
        }
    }

    /// What a schema says of a value, in a few words.
    fn kind(&self, schema: &'d Value) -> String {
        let Some(schema) = self.follow(schema) else {
            return "a value whose schema stands elsewhere".to_owned();
        };
        let text = |name: &str| schema.get(name).and_then(Value::as_str);
        let types = match schema.get("type") {
            Some(Value::String(name)) => name.clone(),
            Some(list @ Value::Array(_)) => strings(Some(list)).join(" or "),
            _ => "any type".to_owned(),
        };
        let mut words =
            text("format").map_or(types.clone(), |format| format!("{types} ({format})"));
        if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
            let choices: Vec<String> = choices.iter().map(Value::to_string).collect();
            words = format!("{words}, one of {}", choices.join(", "));
        }
        let number = |name: &str| schema.get(name).filter(|limit| limit.is_number());
        match (number("minimum"), number("maximum")) {
            (Some(low), Some(high)) => words = format!("{words}, {low} to {high}"),
            (Some(low), None) => words = format!("{words}, at least {low}"),
            (None, Some(high)) => words = format!("{words}, at most {high}"),
            (None, None) => {}
        }
        if let Some(pattern) = text("pattern") {
            words = format!("{words}, like {pattern}");
        }
        one_line(&words)
    }

    /// Follows references within the document; `None` where they lead out of it or in a circle.
    fn follow(&self, value: &'d Value) -> Option<&'d Value> {
        let mut value = value;
        for _ in 0..MAX_DEPTH {
            match value.get("$ref").and_then(Value::as_str) {
                None => return Some(value),
                Some(reference) => value = self.root.pointer(reference.strip_prefix('#')?)?,
            }
        }
        None
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    unique(items.filter_map(Value::as_str).map(str::to_owned))
}

/// Each once, in order.
fn unique(items: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    items
        .into_iter()
        .filter(|item| seen.insert(item.clone()))
        .collect()
}

/// Text that stays within a comment: one line, printable, not endless.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shown(&line, MAX_SHOWN).into_owned()
}

#[cfg(test)]
mod tests;

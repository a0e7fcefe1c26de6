//! The entities a bundle's files name: hierarchies of roles and groups, owners of objects, tenants, tags.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Entities, Schema};
use cedar_policy_core::ast::{Entity, EntityUID};
use foldhash::fast::RandomState;
use serde_json::{Value, json};

use super::bundle::Document;
use super::entities::route_parents;
use super::source::Chain;
use super::value::Kind;
use crate::model::{Operation, Problem, json as one_reading};

/// Entities from files, each with all its ancestors. A request only ever looks one up: the set is never copied.
#[derive(Debug, Default)]
pub(super) struct StaticEntities {
    known: HashMap<EntityUID, Arc<Entity>, RandomState>,
    /// What the routes of the documents are in: a file may place an object in another route than its own.
    routes: HashMap<EntityUID, HashSet<EntityUID>>,
}

impl StaticEntities {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Every entity the files describe.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entity>> {
        self.known.values()
    }

    /// The places the files put objects into.
    pub(super) fn object_places(&self) -> HashSet<&EntityUID> {
        let is_object = |e: &&Arc<Entity>| e.uid().entity_type() == Kind::Object.entity_type();
        let objects = self.all().filter(is_object);
        objects.flat_map(|entity| entity.ancestors()).collect()
    }

    pub(super) fn get(&self, uid: &EntityUID) -> Option<&Arc<Entity>> {
        self.known.get(uid)
    }

    /// Takes note of what the documents say the routes are in.
    pub(super) fn learn_routes(&mut self, operations: &[Arc<Operation>]) {
        let routes = operations.iter().map(|operation| {
            let uid = Kind::Route.uid(&operation.route.id);
            (uid, self.closure(route_parents(&operation.route)))
        });
        self.routes = routes.collect();
    }

    /// The parents, and everything the files and the documents know above them.
    pub(super) fn closure(
        &self,
        parents: impl IntoIterator<Item = EntityUID>,
    ) -> HashSet<EntityUID> {
        let mut ancestors = HashSet::new();
        for parent in parents {
            if let Some(entity) = self.known.get(&parent) {
                ancestors.extend(entity.ancestors().cloned());
            }
            if let Some(above) = self.routes.get(&parent) {
                ancestors.extend(above.iter().cloned());
            }
            ancestors.insert(parent);
        }
        ancestors
    }
}

/// Understands entity files in Cedar's JSON form. Attributes that every request brings itself (an object's API, a user's
/// issuer) may be left out.
pub(super) fn parse(
    documents: &[Document],
    schema: &Schema,
) -> Result<StaticEntities, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut items = Vec::new();
    let mut first = HashMap::new();
    for document in documents {
        let wrong = |message: String| Problem::new(message).in_file(&document.path);
        match one_reading::parse(document.text.as_bytes()) {
            Ok(Value::Array(list)) => {
                for mut item in list {
                    let uid = uid_text(&item);
                    if let Some(other) = first.insert(uid.clone(), &document.path) {
                        let other = other.display();
                        problems.push(wrong(format!("the entity {uid} stands in {other} already")));
                    }
                    if made_by_request(&item) {
                        problems.push(wrong(format!(
                            "the entity {uid} is made anew for every request: what a file says of it counts for nothing"
                        )));
                    }
                    complete(&mut item);
                    items.push((item, document));
                }
            }
            Ok(_) => problems.push(wrong("the entities are not a JSON list".to_owned())),
            Err(error) => problems.push(wrong(format!("the entities are not JSON: {error}"))),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let all = Value::Array(items.iter().map(|(item, _)| item.clone()).collect());
    match Entities::from_json_value(all, Some(schema)) {
        Ok(entities) => Ok(collect(&entities)),
        Err(error) => Err(blame(&items, schema, &Chain(&error).to_string())),
    }
}

fn collect(entities: &Entities) -> StaticEntities {
    let entities: &cedar_policy_core::entities::Entities = entities.as_ref();
    let known = entities.iter().filter(|entity| !entity.uid().is_action());
    StaticEntities {
        known: known
            .map(|entity| (entity.uid().clone(), Arc::new(entity.clone())))
            .collect(),
        routes: HashMap::new(),
    }
}

/// Finds the entities that do not fit by trying each alone; a fault between several (a cycle) is told as a whole.
fn blame(items: &[(Value, &Document)], schema: &Schema, whole: &str) -> Vec<Problem> {
    let alone: Vec<Problem> = items
        .iter()
        .filter_map(|(item, document)| {
            let error = Entities::from_json_value(json!([item]), Some(schema)).err()?;
            let uid = uid_text(item);
            let message = format!(
                "the entity {uid} does not fit the schema: {}",
                Chain(&error)
            );
            Some(Problem::new(message).in_file(&document.path))
        })
        .take(20)
        .collect();
    if alone.is_empty() {
        vec![Problem::new(format!(
            "the entities do not fit together: {whole}"
        ))]
    } else {
        alone
    }
}

fn uid_text(item: &Value) -> String {
    let part = |name: &str| {
        item.pointer(name)
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned()
    };
    format!("{}::\"{}\"", part("/uid/type"), part("/uid/id"))
}

/// Whether the entity is of a type that only requests make. A file that names one would be passed over in silence.
fn made_by_request(item: &Value) -> bool {
    let kind = item.pointer("/uid/type").and_then(Value::as_str);
    let own = [Kind::Anonymous, Kind::Claims, Kind::Params, Kind::Numbers];
    kind.and_then(|kind| kind.strip_prefix("Cardea::"))
        .is_some_and(|kind| own.iter().any(|own| own.name() == kind))
}

/// Fills in what a request brings itself, so that files need not repeat it. The request's own values replace these.
fn complete(item: &mut Value) {
    let part = |name: &str| {
        item.pointer(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let (Some(kind), Some(id)) = (part("/uid/type"), part("/uid/id")) else {
        return;
    };
    let Some(members) = item.as_object_mut() else {
        return;
    };
    members.entry("parents").or_insert_with(|| json!([]));
    let attributes = members.entry("attrs").or_insert_with(|| json!({}));
    let Some(attributes) = attributes.as_object_mut() else {
        return;
    };
    for (name, value) in brought_by_request(&kind, &id) {
        attributes.entry(name).or_insert(value);
    }
}

fn brought_by_request(kind: &str, id: &str) -> Vec<(&'static str, Value)> {
    let (issuer, subject) = id.split_once('|').unwrap_or(("", id));
    let caller = || vec![("issuer", json!(issuer)), ("sub", json!(subject))];
    let api = || {
        json!({
            "name": "", "version": "", "lifecycle": "unknown", "exposure": "", "dataClasses": [],
        })
    };
    match kind {
        "Cardea::User" | "Cardea::Workload" => caller(),
        "Cardea::Client" => [caller(), vec![("kind", json!("oauth"))]].concat(),
        "Cardea::Agent" => [caller(), vec![("tier", json!(0))]].concat(),
        "Cardea::Object" => vec![("api", api()), ("kind", json!("")), ("id", json!(""))],
        "Cardea::Route" => vec![
            ("api", api()),
            ("template", json!("")),
            ("sensitivity", json!(3)),
        ],
        _ => Vec::new(),
    }
}

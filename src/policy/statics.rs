//! The entities a bundle's files name: hierarchies of roles and groups, owners of objects, tenants, tags.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::Schema;
use cedar_policy_core::ast::{Entity, EntityUID};
use cedar_policy_core::entities::{Entities, EntityJsonParser, TCComputation};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::CoreSchema;
use foldhash::fast::RandomState;
use serde_json::{Value, json};

use super::bundle::Document;
use super::entities::route_parents;
use super::source::{Chain, Lines};
use super::value::Kind;
use crate::model::json::{self as one_reading, ItemsError, items};
use crate::model::{Operation, Problem};

/// The most entities a bundle's files may name.
pub const MAX_ENTITIES: usize = 250_000;
/// The longest text of one entity, in bytes.
const MAX_ENTITY: usize = 64 * 1024;
/// The most steps from an entity to a parent, counted for every entity anew.
const MAX_STEPS: usize = 4_000_000;
/// The most mistakes that are told.
const MAX_TOLD: usize = 20;

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
///
/// Each entity is read by itself, so that what is being read never takes more memory than one entity can.
pub(super) fn parse(
    documents: &[Document],
    schema: &Schema,
) -> Result<StaticEntities, Vec<Problem>> {
    let schema = CoreSchema::new(schema.as_ref());
    let mut reader = Reader {
        parser: EntityJsonParser::new(
            Some(&schema),
            Extensions::all_available(),
            TCComputation::ComputeNow,
        ),
        first: HashMap::new(),
        entities: Vec::new(),
        problems: Vec::new(),
    };
    for document in documents {
        reader.read(document);
        if reader.problems.len() >= MAX_TOLD {
            break;
        }
    }
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    check_hierarchy(&reader.entities)?;
    // Each was held against the schema already, before its ancestors are filled in as Cedar does it.
    Entities::from_entities(
        reader.entities,
        None::<&CoreSchema<'_>>,
        TCComputation::ComputeNow,
        Extensions::all_available(),
    )
    .map(collect)
    .map_err(|error| {
        let whole = Chain(&error);
        vec![Problem::new(format!(
            "the entities do not fit together: {whole}"
        ))]
    })
}

/// Reads entity files, one after the other.
struct Reader<'d, 's> {
    parser: EntityJsonParser<'s, 's, CoreSchema<'s>>,
    /// Which file named an entity first.
    first: HashMap<String, &'d Document>,
    entities: Vec<Entity>,
    problems: Vec<Problem>,
}

impl<'d> Reader<'d, '_> {
    fn read(&mut self, document: &'d Document) {
        let wrong = |message: String| Problem::new(message).in_file(&document.path);
        let left = MAX_ENTITIES.saturating_sub(self.first.len());
        let items = match items(&document.text, left) {
            Ok(items) => items,
            Err(error) => {
                self.problems.push(match error {
                    ItemsError::Json(error) => {
                        let (line, column) = error.place();
                        wrong(format!("the entities are not JSON: {}", error.what()))
                            .at(line, column)
                    }
                    ItemsError::NoList => wrong("the entities are not a JSON list".to_owned()),
                    ItemsError::TooMany => wrong(format!(
                        "the bundle holds more than {MAX_ENTITIES} entities"
                    )),
                });
                return;
            }
        };
        let lines = Lines::of(&document.text);
        for (offset, text) in items {
            let (line, column) = lines.place(offset);
            if let Err((message, (down, right))) = self.take(text, document) {
                let column = if down == 1 { column + right - 1 } else { right };
                let problem = wrong(message).at(line + down - 1, column);
                self.problems.push(problem);
            }
            if self.problems.len() >= MAX_TOLD {
                return;
            }
        }
    }

    /// Takes one entity in. What is wrong with it stands at a place within its text.
    fn take(&mut self, text: &str, document: &'d Document) -> Result<(), (String, (usize, usize))> {
        let at_begin = |message| (message, (1, 1));
        if text.len() > MAX_ENTITY {
            let limit = MAX_ENTITY / 1024;
            return Err(at_begin(format!("an entity is longer than {limit} KiB")));
        }
        let mut item = one_reading::parse(text.as_bytes()).map_err(|error| {
            let what = error.what();
            (format!("the entities are not JSON: {what}"), error.place())
        })?;
        let uid = uid_text(&item);
        if let Some(other) = self.first.insert(uid.clone(), document) {
            let other = other.path.display();
            let message = format!("the entity {uid} stands in {other} already");
            return Err(at_begin(message));
        }
        if made_by_request(&item) {
            return Err(at_begin(format!(
                "the entity {uid} is made anew for every request: what a file says of it counts for nothing"
            )));
        }
        complete(&mut item);
        let entity = self.parser.single_from_json_value(item).map_err(|error| {
            let error = Chain(&error);
            at_begin(format!("the entity {uid} does not fit the schema: {error}"))
        })?;
        self.entities.push(entity);
        Ok(())
    }
}

/// That filling in everybody's ancestors ends soon, and does not fill the memory: a chain of groups costs its length
/// squared.
fn check_hierarchy(entities: &[Entity]) -> Result<(), Vec<Problem>> {
    let known: HashMap<&EntityUID, &Entity, RandomState> = entities
        .iter()
        .map(|entity| (entity.uid(), entity))
        .collect();
    let mut steps = 0_usize;
    let mut seen: HashSet<&EntityUID, RandomState> = HashSet::default();
    let mut open = Vec::new();
    for entity in entities {
        seen.clear();
        open.push(entity);
        while let Some(one) = open.pop() {
            for parent in one.ancestors() {
                steps += 1;
                if seen.insert(parent) {
                    open.extend(known.get(parent).copied());
                }
            }
            if steps > MAX_STEPS {
                let uid = entity.uid();
                return Err(vec![
                    Problem::new(format!("the hierarchy is too large: naming the ancestors of every entity, up to {uid}, takes more than {MAX_STEPS} steps"))
                        .hint("shorten long chains of groups within groups"),
                ]);
            }
        }
    }
    Ok(())
}

fn collect(entities: Entities) -> StaticEntities {
    let known = entities
        .into_iter()
        .filter(|entity| !entity.uid().is_action());
    StaticEntities {
        known: known
            .map(|entity| (entity.uid().clone(), Arc::new(entity)))
            .collect(),
        routes: HashMap::new(),
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

#[cfg(test)]
mod tests;

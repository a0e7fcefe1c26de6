//! Bundles that differ in one number: how many policies, or how many entities. The operations stay the same 500, and so
//! does what is asked of them.
//!
//! Each operation has the rules that speak of everybody (one permit for a role, one forbid by a path parameter); whatever
//! more there is are grants, each to a role of its own, dealt to the operations in turn. So does a large organisation
//! grow: by who may do what, and not by rules for everybody.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::fixture::{ITEM, Result};

/// How many services there are, with four operations each.
pub(crate) const SERVICES: usize = 125;
/// The operations of a service.
const OPERATIONS: [&str; 4] = ["getItem", "listItems", "createItem", "deleteItem"];
/// How many entities stand in one file.
const FILE: usize = 10_000;

/// The service whose item is asked for, as `World` names it.
fn measured() -> String {
    service(SERVICES / 2)
}

fn service(number: usize) -> String {
    format!("service{number:03}")
}

/// Writes a bundle of so many policies and entities.
pub(crate) fn write(folder: &Path, policies: usize, entities: usize) -> Result<usize> {
    for part in ["schema", "guardrails", "apis", "rules", "entities"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut guardrails = 0;
    for part in ["schema", "guardrails"] {
        for file in fs::read_dir(shipped.join(part))? {
            let file = file?;
            let text = fs::read_to_string(file.path())?;
            guardrails += text.matches("@id(").count();
            fs::write(folder.join(part).join(file.file_name()), text)?;
        }
    }
    let rules = policies
        .checked_sub(guardrails)
        .filter(|left| *left >= 2)
        .ok_or("there must be room for the guardrails and two rules")?;
    let mut texts = vec![String::new(); SERVICES];
    for rule in 0..rules {
        // Two rules an operation, one operation after the other, the measured one first; then grants in turn.
        let (operation, round) = match rule.checked_sub(2 * SERVICES * OPERATIONS.len()) {
            None => (rule / 2, rule % 2),
            Some(more) => (
                more % (SERVICES * OPERATIONS.len()),
                2 + more / (SERVICES * OPERATIONS.len()),
            ),
        };
        let number = (operation / OPERATIONS.len() + SERVICES / 2) % SERVICES;
        let name = OPERATIONS
            .get(operation % OPERATIONS.len())
            .ok_or("no operation")?;
        let text = texts.get_mut(number).ok_or("no service")?;
        text.push_str(&one_rule(&service(number), name, round));
    }
    for (number, text) in texts.iter().enumerate() {
        let name = service(number);
        fs::write(folder.join(format!("rules/{name}.cedar")), text)?;
        fs::write(folder.join(format!("apis/{name}.yaml")), document(&name))?;
    }
    write_entities(&folder.join("entities"), entities)?;
    Ok(SERVICES)
}

fn one_rule(name: &str, operation: &str, round: usize) -> String {
    let id = format!("@id(\"{name}-{operation}-{round}\")");
    let action = format!("Cardea::Action::\"{name}.{operation}\"");
    match round {
        0 => format!(
            r#"{id}
permit (principal in Cardea::Role::"{name}-viewer", action == {action}, resource)
when {{ context.token.scopes.contains("{name}:read") && context.token.audience.contains("https://api.example.com") }};
"#
        ),
        1 => format!(
            r#"{id}
forbid (principal, action == {action}, resource)
when {{ context.request.params.hasTag("itemId") && context.request.params.getTag("itemId") like "internal-*" }};
"#
        ),
        _ => format!(
            r#"{id}
permit (principal in Cardea::Role::"{name}-role-{round}", action == {action}, resource)
when {{ context.token.scopes.contains("{name}:read") && context.token.assurance >= 1 }}
unless {{ context.geo.anonymizer }};
"#
        ),
    }
}

/// The API document of a service: a collection and its items.
fn document(name: &str) -> String {
    format!(
        r#"openapi: 3.1.0
info: {{ title: {name}, version: 1.0.0 }}
servers: [{{ url: "https://api.example.com" }}]
x-cardea: {{ api: {name}, exposure: public, owner: team-{name}, data_classes: [commercial] }}
paths:
  /v1/{name}/items:
    get:
      operationId: listItems
      responses: {{ "200": {{ description: Items }} }}
    post:
      operationId: createItem
      responses: {{ "201": {{ description: Made }} }}
  /v1/{name}/items/{{itemId}}:
    parameters:
      - {{ name: itemId, in: path, required: true, schema: {{ type: string }} }}
      - {{ name: expand, in: query, schema: {{ type: string }} }}
    get:
      operationId: getItem
      responses: {{ "200": {{ description: The item }} }}
    delete:
      operationId: deleteItem
      responses: {{ "204": {{ description: Gone }} }}
"#
    )
}

/// Groups of groups (a tenth), users in three groups each (six tenths), and objects with an owner. The callers and the
/// item that is asked for are among them.
fn write_entities(folder: &Path, count: usize) -> Result<()> {
    let groups = count / 10;
    let users = count * 6 / 10;
    let mut lines = Vec::with_capacity(count);
    for number in 0..count {
        lines.push(if number < groups {
            let above = number / 10;
            if number == above {
                format!(r#"{{"uid":{{"type":"Cardea::Group","id":"g{number}"}}}}"#)
            } else {
                format!(
                    r#"{{"uid":{{"type":"Cardea::Group","id":"g{number}"}},"parents":[{{"type":"Cardea::Group","id":"g{above}"}}]}}"#
                )
            }
        } else if number < groups + users {
            let user = number - groups;
            let mut parents = String::new();
            for group in [user % 10, (user + 3) % 10, (user + 7) % 10] {
                // Writing to a string cannot fail.
                let _ = write!(parents, r#"{{"type":"Cardea::Group","id":"g{group}"}},"#);
            }
            let parents = parents.trim_end_matches(',');
            format!(
                r#"{{"uid":{{"type":"Cardea::User","id":"https://login.example.com|user-{user}"}},"parents":[{parents}]}}"#
            )
        } else {
            let item = ITEM.parse::<usize>()? + number - groups - users;
            format!(
                r#"{{"uid":{{"type":"Cardea::Object","id":"{}/items/{item}"}},"attrs":{{"owner":{{"type":"Cardea::User","id":"https://login.example.com|user-{number}"}}}}}}"#,
                measured()
            )
        });
    }
    for (number, part) in lines.chunks(FILE).enumerate() {
        let text = format!("[\n{}\n]\n", part.join(",\n"));
        fs::write(folder.join(format!("entities-{number}.json")), text)?;
    }
    Ok(())
}

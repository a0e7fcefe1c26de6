//! The starter set: one permit for each operation, as narrow as its document says, and narrower where it says nothing.
//!
//! Text only. Every name a document brings is written as a Cedar string, so that none can be read as anything else.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::title;
use crate::inventory::{Outline, Requirement, Security};
use crate::model::{Lifecycle, Method, ResourceRule};

/// The audience no token has: a set that nobody edited permits nothing that is not public.
const NOBODYS_AUDIENCE: &str = "urn:example:replace-this-audience";

/// The most bytes of a policy's id that come from its operation.
const MAX_ID: usize = 120;

/// Words for those whose id may be a caller's own.
const PEOPLE: [&str; 7] = [
    "user", "account", "customer", "member", "person", "profile", "subject",
];

const HEADER: &str = "\
// A starter set: one permit for each operation, as narrow as its API document says.
//
// Before it is used, go through what no document can know:
//   - roles: those marked as placeholders are made up from scopes; name the ones your issuers give out.
//   - audience: what your issuers write into the tokens for this API (`aud`).
//   - objects: a permit lets a role reach every object of an operation. Where that is too much, take a line from below it.
";

/// Writes the set.
pub(super) fn starter_set(outlines: &[Outline], audience: Option<&str>) -> String {
    let mut text = HEADER.to_owned();
    let mut api = "";
    let mut taken = BTreeSet::new();
    for outline in outlines {
        let own = &outline.operation.route.api;
        if api != &*own.name {
            api = &own.name;
            let version: String = own.version.chars().filter(|c| !c.is_control()).collect();
            let _ = write!(text, "\n// ---- {api} {version}\n");
        }
        let id = id(&outline.operation.id, &mut taken);
        let _ = write!(text, "\n{}", permit(outline, &id, audience));
    }
    text
}

/// A policy's id: the operation's, in the characters a policy's id may hold, once only.
fn id(operation: &str, taken: &mut BTreeSet<String>) -> String {
    let plain: String = operation
        .chars()
        .map(|c| if c == ',' { '_' } else { c })
        .take(MAX_ID)
        .collect();
    let mut id = plain.clone();
    let mut number = 2;
    while !taken.insert(id.clone()) {
        id = format!("{plain}~{number}");
        number += 1;
    }
    id
}

fn permit(outline: &Outline, id: &str, audience: Option<&str>) -> String {
    let operation = &outline.operation;
    let mut text = format!("// {}\n", title(outline));
    text.extend(life(operation.route.lifecycle).map(|life| format!("// {life}\n")));
    let action = format!("action == Cardea::Action::{}", quoted(&operation.id));
    if outline.security == Security::Public {
        let _ = write!(
            text,
            "// The document opens it to everybody, with a credential or without.\n\
             @id({})\npermit (principal, {action}, resource);\n",
            quoted(id)
        );
        return text;
    }
    let (roles, made_up) = roles(outline);
    if made_up {
        text.push_str("// The role is a placeholder.\n");
    }
    if outline.security == Security::Unstated {
        text.push_str("// The document has no `security`: who may call it is for you to say.\n");
    }
    let mut conditions = Vec::new();
    let principal = if let [role] = &*roles {
        format!("principal in {}", entity("Role", role))
    } else {
        let roles: Vec<String> = roles.iter().map(|role| entity("Role", role)).collect();
        conditions.push(format!("principal in [{}]", roles.join(", ")));
        "principal".to_owned()
    };
    conditions.extend(required(&outline.security));
    let audience = quoted(audience.unwrap_or(NOBODYS_AUDIENCE));
    conditions.push(format!("context.token.audience.contains({audience})"));
    let _ = write!(
        text,
        "@id({})\npermit ({principal}, {action}, resource)\nwhen {{\n  {}\n{}}};\n",
        quoted(id),
        conditions.join(" &&\n  "),
        hints(outline),
    );
    text
}

fn life(lifecycle: Lifecycle) -> Option<&'static str> {
    match lifecycle {
        Lifecycle::Retired => Some("It is retired: the shipped guardrails deny it all the same."),
        Lifecycle::Deprecated => Some("It is deprecated."),
        Lifecycle::Active | Lifecycle::Unknown => None,
    }
}

/// The roles that may call it, and whether they had to be made up: from scopes, else from API and method.
fn roles(outline: &Outline) -> (Vec<String>, bool) {
    if !outline.roles.is_empty() {
        return (outline.roles.clone(), false);
    }
    let alternatives: &[Requirement] = match &outline.security {
        Security::AnyOf(alternatives) => alternatives,
        Security::Public | Security::Unstated => &[],
    };
    let mut roles = Vec::new();
    let mut made_up = alternatives.is_empty();
    for alternative in alternatives {
        if alternative.roles.is_empty() {
            roles.push(role_from(outline, &alternative.scopes));
            made_up = true;
        } else {
            roles.extend(alternative.roles.iter().cloned());
        }
    }
    if roles.is_empty() {
        roles.push(role_from(outline, &[]));
    }
    let mut seen = BTreeSet::new();
    roles.retain(|role| seen.insert(role.clone()));
    (roles, made_up)
}

/// `orders-read` for `orders:read`.
fn role_from(outline: &Outline, scopes: &[String]) -> String {
    if scopes.is_empty() {
        let verb = match outline.operation.method {
            Method::Get | Method::Head | Method::Options => "read",
            Method::Post | Method::Put | Method::Patch => "write",
            Method::Delete => "delete",
        };
        return format!("{}-{verb}", outline.operation.route.api.name);
    }
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let scopes: Vec<String> = scopes
        .iter()
        .map(|scope| scope.chars().map(letter).collect())
        .collect();
    scopes.join("-")
}

/// What the document's schemes ask of a token or connection; nothing where an alternative asks for nothing that a policy
/// could see, such as any bearer token at all.
fn required(security: &Security) -> Option<String> {
    let Security::AnyOf(alternatives) = security else {
        return None;
    };
    let mut any_of = Vec::new();
    for alternative in alternatives {
        let scopes = alternative.scopes.iter();
        let mut all: Vec<String> = scopes
            .map(|scope| format!("context.token.scopes.contains({})", quoted(scope)))
            .collect();
        if alternative.mutual_tls {
            all.push("context.tls.mutual".to_owned());
        }
        if all.is_empty() {
            return None;
        }
        let all = all.join(" && ");
        if !any_of.contains(&all) {
            any_of.push(all);
        }
    }
    match &*any_of {
        [one] => Some(one.clone()),
        _ => Some(format!("(({}))", any_of.join(") || ("))),
    }
}

/// Lines that make a permit for objects narrower, ready to be uncommented.
fn hints(outline: &Outline) -> String {
    let ResourceRule::Object { kind, id } = &outline.operation.resource else {
        return String::new();
    };
    let mut hints = "  // Only one's own, where the entity files say who owns what:\n  \
         // && principal is Cardea::User && resource has owner && resource.owner == principal\n"
        .to_owned();
    if let [name] = &**id
        && names_a_person(kind, name)
    {
        let name = quoted(name);
        let _ = write!(
            hints,
            "  // Only oneself, where the path holds the caller's subject:\n  \
             // && principal is Cardea::User && context.request.params.hasTag({name}) && \
             context.request.params.getTag({name}) == principal.sub\n"
        );
    }
    hints
}

/// Whether an object sounds like somebody who could call.
fn names_a_person(kind: &str, parameter: &str) -> bool {
    let words = format!("{kind} {parameter}").to_ascii_lowercase();
    PEOPLE.iter().any(|word| words.contains(word))
}

fn entity(kind: &str, id: &str) -> String {
    format!("Cardea::{kind}::{}", quoted(id))
}

/// A Cedar string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

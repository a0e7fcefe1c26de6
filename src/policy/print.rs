//! The assembled schema as text, so that an author and an editor see every name a policy can use.
//!
//! The bundle's own schema files are printed as they are written, comments and all; the operations' actions follow in the
//! namespace they belong to. The text is read back and held against what a bundle is judged by before it is given out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use cedar_policy::Schema;

use super::bounds::with_room;
use super::bundle::Document;
use super::schema::{action_group, assemble, resource_kind};
use super::value::Kind;
use crate::model::{Operation, Problem};

/// The vocabulary that Cardea ships: where nothing else is given, documents are judged by it.
pub const VOCABULARY: &str = include_str!("../../policies/schema/cardea.cedarschema");

/// The namespace of everything Cardea says of a request.
const NAMESPACE: &str = "Cardea";

/// Prints the schema that `documents` and `operations` make together. `notes` holds comment lines for an operation, by
/// its id.
///
/// # Errors
/// Everything that is wrong with the schema; and a schema that one text cannot hold, such as two files that describe one
/// namespace beside declarations of the same name.
pub fn schema_text(
    documents: &[Document],
    operations: &[Arc<Operation>],
    notes: &BTreeMap<Arc<str>, Vec<String>>,
) -> Result<String, Vec<Problem>> {
    let assembled = with_room(|| assemble(documents, operations))?;
    let mut namespaces: Vec<Namespace<'_>> = Vec::new();
    let mut rest = String::new();
    for document in documents {
        for part in parts(&document.text) {
            match part {
                Part::Other(text) => rest.push_str(text),
                Part::Namespace(found) => {
                    match namespaces.iter_mut().find(|known| known.name == found.name) {
                        Some(known) => known.bodies.extend(found.bodies),
                        None => namespaces.push(found),
                    }
                }
            }
        }
    }
    let actions = actions(operations, notes);
    let mut text = String::new();
    for namespace in &namespaces {
        let actions = if namespace.name == NAMESPACE {
            &*actions
        } else {
            ""
        };
        let bodies = namespace.bodies.concat();
        let _ = writeln!(
            text,
            "{}{{{}{actions}}}",
            namespace.head,
            with_newline(&bodies)
        );
    }
    if !rest.trim().is_empty() {
        let _ = writeln!(text, "{}", rest.trim_end());
    }
    if same_meaning(&text, assembled.whole()) {
        Ok(text)
    } else {
        Err(vec![
            Problem::new("the schema files do not fit into one text")
                .hint("describe each namespace in one file only"),
        ])
    }
}

/// Whether a text is a schema with the same request environments as another.
fn same_meaning(text: &str, assembled: &Schema) -> bool {
    let environments = |schema: &Schema| {
        let mut all: Vec<String> = schema
            .request_envs()
            .map(|env| {
                let (principal, action) = (env.principal(), env.action());
                format!("{principal} {action} {}", env.resource())
            })
            .collect();
        all.sort();
        all
    };
    Schema::from_cedarschema_str(text)
        .is_ok_and(|(schema, _)| environments(&schema) == environments(assembled))
}

fn with_newline(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// One action for each operation that a document describes.
fn actions(operations: &[Arc<Operation>], notes: &BTreeMap<Arc<str>, Vec<String>>) -> String {
    let mut text = String::new();
    let mut api = "";
    let principals = Kind::PRINCIPALS.map(Kind::name).join(", ");
    for operation in operations.iter().filter(|operation| operation.documented) {
        if api != &*operation.route.api.name {
            api = &operation.route.api.name;
            let version = plain(&operation.route.api.version);
            let _ = write!(text, "\n  // ---- operations of the API {api} {version}\n");
        }
        let _ = writeln!(text);
        for line in notes.get(&operation.id).into_iter().flatten() {
            let _ = writeln!(text, "  // {}", plain(line));
        }
        let _ = writeln!(
            text,
            "  action \"{}\" in [\"{}\"] appliesTo {{\n    principal: [{principals}], resource: [{}], context: Ctx }};",
            operation.id.escape_debug(),
            action_group(operation.method),
            resource_kind(operation).name(),
        );
    }
    text
}

/// What stays within a comment of one line.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A namespace, and what the files say in it.
struct Namespace<'a> {
    name: &'a str,
    /// Comments, annotations and `namespace <name> `, up to the brace.
    head: &'a str,
    bodies: Vec<&'a str>,
}

enum Part<'a> {
    Namespace(Namespace<'a>),
    /// Declarations outside of any namespace, and what follows the last one.
    Other(&'a str),
}

/// Takes a schema apart into namespaces and the rest. It parses already, so braces pair up.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut begin, mut open, mut depth) = (0, 0, 0_usize);
    for (offset, token) in tokens(text) {
        match token {
            b'{' => {
                if depth == 0 {
                    open = offset;
                }
                depth += 1;
            }
            b'}' => {
                depth = depth.saturating_sub(1);
                let head = text.get(begin..open).unwrap_or_default();
                if let Some(name) = namespace_of(head).filter(|_| depth == 0) {
                    let body = text.get(open + 1..offset).unwrap_or_default();
                    parts.push(Part::Namespace(Namespace {
                        name,
                        head,
                        bodies: vec![body],
                    }));
                    begin = offset + 1;
                }
            }
            b';' if depth == 0 => {
                parts.push(Part::Other(text.get(begin..=offset).unwrap_or_default()));
                begin = offset + 1;
            }
            _ => {}
        }
    }
    parts.push(Part::Other(text.get(begin..).unwrap_or_default()));
    parts
}

/// The name in `// comment .. namespace <name> `.
fn namespace_of(head: &str) -> Option<&str> {
    let line = head
        .lines()
        .rfind(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//"))?;
    let mut words = line
        .split_whitespace()
        .skip_while(|word| *word != "namespace");
    words.next()?;
    words.next()
}

/// The bytes that are neither in a comment nor in a string.
fn tokens(text: &str) -> impl Iterator<Item = (usize, u8)> {
    #[derive(Clone, Copy, PartialEq)]
    enum In {
        Code,
        Comment,
        Text { escaped: bool },
    }
    let mut state = In::Code;
    let mut last = 0;
    text.bytes().enumerate().filter(move |(_, byte)| {
        let before = state;
        state = match (state, byte) {
            (In::Comment, b'\n' | b'\r') | (In::Text { escaped: false }, b'"') => In::Code,
            (In::Text { escaped }, byte) => In::Text {
                escaped: *byte == b'\\' && !escaped,
            },
            (In::Code, b'"') => In::Text { escaped: false },
            (In::Code, b'/') if last == b'/' => In::Comment,
            (state, _) => state,
        };
        last = *byte;
        before == In::Code && state == In::Code
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::fixture::{document, operations};

    fn printed(documents: &[(&str, &str)]) -> Result<String, Vec<Problem>> {
        let documents: Vec<Document> = documents.iter().map(|(n, t)| document(n, t)).collect();
        let notes = [("a0.get".into(), vec!["a note\n} action".to_owned()])];
        schema_text(&documents, &operations(), &notes.into_iter().collect())
    }

    #[test]
    fn the_printed_schema_is_the_assembled_one_with_the_authors_comments() {
        let text = printed(&[("s.cedarschema", VOCABULARY)]).unwrap();
        let again = Schema::from_cedarschema_str(&text).unwrap().0;
        let assembled = assemble(&[document("s", VOCABULARY)], &operations()).unwrap();
        assert_eq!(
            again.request_envs().count(),
            assembled.whole().request_envs().count()
        );
        assert!(text.starts_with("// What policies can speak of."));
        assert!(text.contains(
            "\n  // a note} action\n  action \"a0.get\" in [\"read\"] appliesTo {\n    \
             principal: [User, Client, Workload, Agent, Anonymous], resource: [Object], context: Ctx };\n"
        ));
        assert!(text.contains("\n  // ---- operations of the API a1 1\n"));
        assert_eq!(text, printed(&[("s.cedarschema", VOCABULARY)]).unwrap());
    }

    #[test]
    fn several_files_and_namespaces_become_one_text() {
        let more = "// of our own\nnamespace Cardea {\n  entity Extra; // not a }\n}\n\
                    @doc(\"a } \\\" {\")\nnamespace Ours { entity Thing { a: { b: Long } }; }\nentity Bare;\n";
        let text = printed(&[("a.cedarschema", VOCABULARY), ("b.cedarschema", more)]).unwrap();
        assert_eq!(text.matches("namespace Cardea {").count(), 1);
        for expected in [
            "entity Extra; // not a }",
            "namespace Ours {",
            "entity Bare;",
        ] {
            assert!(text.contains(expected), "{expected}");
        }
    }

    #[test]
    fn a_schema_that_is_wrong_is_told_and_not_printed() {
        let wrong = printed(&[("s.cedarschema", "namespace Cardea { entity")]).unwrap_err();
        assert!(
            wrong[0].to_string().starts_with("s.cedarschema:1:"),
            "{wrong:?}"
        );
        let none = printed(&[]).unwrap_err();
        assert_eq!(none[0].message, "the bundle holds no schema");
    }
}

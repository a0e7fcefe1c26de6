//! Where in a settings file a mistake stands, and what of the file may be shown.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::model::{Problem, yaml};

/// Words in a key whose value is nobody's business but the setting's.
const SECRET: [&str; 6] = [
    "secret",
    "password",
    "passphrase",
    "credential",
    "authorization",
    "private_key",
];

/// What helps with any mistake in the settings.
pub(super) const HINT: &str = "`cardea config schema` describes every setting";

/// Places a mistake that names its setting (`` `listen.workers` ``) in the file. The deepest part of the name that is
/// written counts: what is left out has no line.
pub(super) fn placed(mut problem: Problem, file: &Path, text: &str) -> Problem {
    problem.hint.get_or_insert_with(|| HINT.to_owned());
    if problem.file.is_some() {
        return problem;
    }
    problem.file = Some(file.to_owned());
    let name = problem.message.split('`').nth(1);
    problem.at = name.and_then(|name| {
        let root: Node = yaml::parse(text).ok()?;
        root.place(name)
    });
    problem
}

/// A settings file as it may be shown: a value that stands where a secret's place should be named is left out.
pub(super) fn without_secrets(text: &str) -> String {
    let mut shown = String::new();
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        let key = SECRET.iter().filter_map(|word| lower.find(word)).min();
        let value = key.and_then(|key| Some(key + line.get(key..)?.find(':')? + 1));
        let written = value.and_then(|value| line.get(value..)).map(str::trim);
        match (value.and_then(|value| line.get(..value)), written) {
            (Some(head), Some(written)) if !written.is_empty() && !written.starts_with('{') => {
                shown.push_str(head);
                shown.push_str(" (not shown)\n");
            }
            _ => shown.push_str(line),
        }
    }
    shown
}

/// A document with the place of every value.
enum Node {
    Map(Vec<(Spanned<String>, Node)>),
    List(Vec<Spanned<Node>>),
    Leaf,
}

impl Node {
    /// The place of `part.part[0].part`, as far as it is written.
    fn place(&self, name: &str) -> Option<(usize, usize)> {
        let mut node = self;
        let mut place = None;
        let parts = name.split('.').flat_map(|part| {
            let mut indexed = part.split('[');
            let key = indexed.next().unwrap_or_default();
            std::iter::once(key).chain(indexed)
        });
        for part in parts {
            let below = match (node, part.strip_suffix(']')) {
                (Self::List(items), Some(index)) => index.parse().ok().and_then(|index: usize| {
                    let item = items.get(index)?;
                    Some((yaml::place(item.referenced), &item.value))
                }),
                (Self::Map(members), None) => members
                    .iter()
                    .find(|(key, _)| key.value == part)
                    .map(|(key, value)| (yaml::place(key.referenced), value)),
                _ => None,
            };
            let Some((at, value)) = below else {
                break;
            };
            place = at;
            node = value;
        }
        place
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some(key) = members.next_key()? {
            all.push((key, members.next_value()?));
        }
        Ok(Node::Map(all))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Node::List(all))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Node, D::Error> {
        IgnoredAny::deserialize(reader).map(|_| Node::Leaf)
    }
}

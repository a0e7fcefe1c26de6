//! From method and decoded path segments to the operation.
//!
//! A tree over whole segments, so that nothing inside a segment, not even a kept `%2F`, can move a match to another one.
//! At each segment fixed text wins over a parameter with fixed text around it, and that over a bare parameter (OpenAPI 3:
//! concrete paths are matched before templated ones); decided from left to right, with a step back where the first choice
//! leads nowhere for this method. Each node is visited at most once, so a lookup is bounded by the number of templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::template::{Affix, Segment, Template};
use crate::model::{Matched, Method, Operation};

/// All operations that one host serves.
#[derive(Debug, Default)]
pub(super) struct Router {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    fixed: BTreeMap<Box<str>, Node>,
    /// Most fixed text first.
    partial: Vec<(Affix, Node)>,
    bare: Option<Box<Node>>,
    leaves: Vec<(Method, Leaf)>,
}

#[derive(Debug)]
struct Leaf {
    operation: Arc<Operation>,
    /// The parameters' names in this operation's own template: templates that differ in names alone share their nodes.
    names: Vec<Arc<str>>,
}

/// Why an operation finds no place beside the others.
#[derive(Debug)]
pub(super) enum Conflict {
    /// Another operation matches exactly the same requests.
    Same(Arc<Operation>),
    /// A parameter's affixes cross those of another template (`v{n}` and `{id}.json`).
    Crossing,
}

impl Router {
    /// Adds an operation.
    pub(super) fn insert(
        &mut self,
        template: &Template,
        operation: &Arc<Operation>,
    ) -> Result<(), Conflict> {
        let mut node = &mut self.root;
        for segment in &template.segments {
            node = match segment {
                Segment::Fixed(text) => node.fixed.entry(text.clone()).or_default(),
                Segment::Parameter { affix, .. } if affix.weight() == 0 => {
                    node.bare.get_or_insert_default()
                }
                Segment::Parameter { affix, .. } => node.partial(affix)?,
            };
        }
        if let Some(leaf) = node.leaf(operation.method) {
            return Err(Conflict::Same(Arc::clone(&leaf.operation)));
        }
        let leaf = Leaf {
            operation: Arc::clone(operation),
            names: template.names().cloned().collect(),
        };
        node.leaves.push((operation.method, leaf));
        Ok(())
    }

    /// The operation for these decoded segments, with its parameters.
    pub(super) fn find(&self, method: Method, segments: &[String]) -> Option<Matched> {
        let mut values = Vec::new();
        let leaf = self.root.find(method, segments, &mut values)?;
        Some(Matched {
            operation: Arc::clone(&leaf.operation),
            parameters: leaf
                .names
                .iter()
                .cloned()
                .zip(values.into_iter().map(str::to_owned))
                .collect(),
        })
    }
}

impl Node {
    fn leaf(&self, method: Method) -> Option<&Leaf> {
        self.leaves
            .iter()
            .find(|(own, _)| *own == method)
            .map(|(_, leaf)| leaf)
    }

    fn partial(&mut self, affix: &Affix) -> Result<&mut Self, Conflict> {
        if self.partial.iter().any(|(other, _)| affix.crosses(other)) {
            return Err(Conflict::Crossing);
        }
        let at = self.partial.iter().position(|(other, _)| affix == other);
        let at = at.unwrap_or_else(|| {
            // INVARIANT: two affixes that match one segment differ in weight, for they do not cross.
            let at = self
                .partial
                .partition_point(|(other, _)| other.weight() >= affix.weight());
            self.partial.insert(at, (affix.clone(), Self::default()));
            at
        });
        match self.partial.get_mut(at) {
            Some((_, node)) => Ok(node),
            None => Err(Conflict::Crossing),
        }
    }

    fn find<'n, 's>(
        &'n self,
        method: Method,
        segments: &'s [String],
        values: &mut Vec<&'s str>,
    ) -> Option<&'n Leaf> {
        let Some((segment, rest)) = segments.split_first() else {
            return self.leaf(method);
        };
        if let Some(node) = self.fixed.get(segment.as_str())
            && let Some(leaf) = node.find(method, rest, values)
        {
            return Some(leaf);
        }
        let partial = self
            .partial
            .iter()
            .filter_map(|(affix, node)| Some((affix.value(segment)?, node)));
        let bare = self
            .bare
            .iter()
            .filter(|_| !segment.is_empty())
            .map(|node| (segment.as_str(), &**node));
        for (value, node) in partial.chain(bare) {
            values.push(value);
            if let Some(leaf) = node.find(method, rest, values) {
                return Some(leaf);
            }
            values.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests;

//! How much a schema's types come to where every common type is written out, as Cedar does before it uses one.
//!
//! `type A = { x: B, y: B }; type B = { x: C, y: C }; ..` is forty lines that stand for a million million attributes.

use std::collections::HashMap;

use cedar_policy::SchemaFragment;
use serde_json::Value;

use crate::model::Problem;

/// The most types a schema's files may come to, written out.
const MAX_TYPES: usize = 100_000;
/// The most all contexts may come to: each operation's action has one of its own.
const MAX_CONTEXTS: usize = 10_000_000;

/// That the types of a schema come to too much.
pub(in crate::policy) fn too_many(
    fragments: &[SchemaFragment],
    operations: usize,
) -> Option<Problem> {
    let fragments: Vec<Value> = fragments
        .iter()
        .filter_map(|fragment| fragment.clone().to_json_value().ok())
        .collect();
    let mut types = Types::default();
    let namespaces = || fragments.iter().filter_map(Value::as_object).flatten();
    for (_, namespace) in namespaces() {
        let common = namespace.get("commonTypes").and_then(Value::as_object);
        for (name, one) in common.into_iter().flatten() {
            types.common.entry(name).or_default().push(one);
        }
    }
    let all = namespaces().fold(0_usize, |sum, (_, one)| sum.saturating_add(types.size(one)));
    let hint = "a common type counts wherever it is named: let types that are large be entities";
    if all > MAX_TYPES {
        let message =
            format!("the schema's types come to more than {MAX_TYPES} where they are written out");
        return Some(Problem::new(message).hint(hint));
    }
    let context = types.named("Ctx");
    (context.saturating_mul(operations) > MAX_CONTEXTS).then(|| {
        let message = format!(
            "the contexts of {operations} operations come to more than {MAX_CONTEXTS} types"
        );
        Problem::new(message).hint(hint)
    })
}

/// The common types by their names without namespace: where two share one, both count.
#[derive(Default)]
struct Types<'f> {
    common: HashMap<&'f str, Vec<&'f Value>>,
    /// What is known already. A type that is being counted counts as nothing: Cedar refuses circles by name.
    sizes: HashMap<&'f str, usize>,
}

impl<'f> Types<'f> {
    fn size(&mut self, value: &'f Value) -> usize {
        let mut sum = 1_usize;
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let named = member.as_str().filter(|_| name == "type" || name == "name");
                    let size = match named {
                        Some(name) => {
                            let (_, name) = name.rsplit_once("::").unwrap_or(("", name));
                            self.named(name)
                        }
                        None => self.size(member),
                    };
                    sum = sum.saturating_add(size);
                }
            }
            Value::Array(items) => {
                for item in items {
                    sum = sum.saturating_add(self.size(item));
                }
            }
            // What is no type costs nothing.
            _ => return 0,
        }
        sum
    }

    fn named(&mut self, name: &'f str) -> usize {
        if let Some(size) = self.sizes.get(name) {
            return *size;
        }
        self.sizes.insert(name, 0);
        let types = self.common.get(name).cloned().unwrap_or_default();
        let size = types
            .into_iter()
            .fold(1_usize, |sum, one| sum.saturating_add(self.size(one)));
        self.sizes.insert(name, size);
        size
    }
}

//! Validation at a cost that follows what policies name, and not how many operations there are.
//!
//! Cedar's validator looks at every policy once for every kind of request, and each operation's action brings five to ten
//! kinds: with 10,000 policies and 500 operations that is minutes. But the actions that Cardea writes are alike but for
//! their names: two of one method group and one kind of resource have the same parents and apply to the same types. So a
//! policy that names neither of two such actions cannot tell them apart: whatever the validator finds for the one, it
//! finds for the other. Each policy is therefore validated against a schema with the actions it names, one more of each
//! sort, and everything the bundle's own files declare. A test holds the outcome against validation with the whole schema.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::{
    PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, ValidationResult, Validator,
};
use cedar_policy_core::ast::{ActionConstraint, EntityUID, Expr, ExprKind, Literal};

use super::schema::{action_group, generated_actions, resource_kind};
use super::value::Kind;
use crate::model::Operation;

/// What two actions have in common that cannot be told apart: the method group, and the kind of resource.
type Sort = (&'static str, &'static str);

/// The actions that a policy names, by their ids.
type Named = BTreeSet<Arc<str>>;

/// A schema, in the parts it is put together from.
#[derive(Debug)]
pub(super) struct Grounds {
    /// What the bundle's files declare.
    own: Vec<SchemaFragment>,
    /// The documented operations, whose actions Cardea writes.
    operations: BTreeMap<Arc<str>, Arc<Operation>>,
    /// The same by what tells their actions apart, but for the name.
    sorts: BTreeMap<Sort, Vec<Arc<Operation>>>,
    whole: Schema,
}

impl Grounds {
    pub(super) fn new(
        own: Vec<SchemaFragment>,
        operations: &[Arc<Operation>],
        whole: Schema,
    ) -> Self {
        let mut grounds = Self {
            own,
            operations: BTreeMap::new(),
            sorts: BTreeMap::new(),
            whole,
        };
        for operation in operations.iter().filter(|operation| operation.documented) {
            let sort = (
                action_group(operation.method),
                resource_kind(operation).name(),
            );
            let alike = grounds.sorts.entry(sort).or_default();
            alike.push(Arc::clone(operation));
            let id = Arc::clone(&operation.id);
            grounds.operations.insert(id, Arc::clone(operation));
        }
        grounds
    }

    /// The schema with everything in it.
    pub(super) fn whole(&self) -> &Schema {
        &self.whole
    }

    /// What Cedar says of a set: strictly, and that no policy follows more than `level` steps where a level is given.
    pub(super) fn validate(&self, set: &PolicySet, level: Option<u32>) -> Vec<ValidationResult> {
        let validate = |schema: Schema, set: &PolicySet| {
            let validator = Validator::new(schema);
            match level {
                Some(level) => validator.validate_with_level(set, ValidationMode::Strict, level),
                None => validator.validate(set, ValidationMode::Strict),
            }
        };
        let parts = self.parts(set);
        let held = |set: &PolicySet| set.num_of_policies() + set.num_of_templates();
        if parts.values().map(held).sum::<usize>() != held(set) {
            // Ids are unique in the whole set, so no part can refuse one; were one to, nothing may go unvalidated.
            return vec![validate(self.whole.clone(), set)];
        }
        let result = |(named, part): (&Named, &PolicySet)| {
            let schema = self.reduced(named);
            validate(schema.unwrap_or_else(|| self.whole.clone()), part)
        };
        parts.iter().map(result).collect()
    }

    /// The schema with the named actions, and one more of each sort. `None` where a bundle's own file names an action
    /// that would be missing from it.
    fn reduced(&self, named: &Named) -> Option<Schema> {
        let wanted = named.iter().filter_map(|id| self.operations.get(id));
        let others = self.sorts.values().filter_map(|alike| {
            alike
                .iter()
                .find(|operation| !named.contains(&operation.id))
        });
        let kept: Vec<Arc<Operation>> = wanted.chain(others).cloned().collect();
        let actions = SchemaFragment::from_json_value(generated_actions(&kept)).ok()?;
        let fragments = self.own.iter().cloned().chain([actions]);
        Schema::from_schema_fragments(fragments).ok()
    }

    /// The policies by the actions they name; a template with its links.
    fn parts(&self, set: &PolicySet) -> BTreeMap<Named, PolicySet> {
        let mut parts: BTreeMap<Named, PolicySet> = BTreeMap::new();
        let mut homes: HashMap<PolicyId, Named> = HashMap::new();
        // What cannot be added is missed by whoever counts.
        for template in set.templates() {
            let ast: &cedar_policy_core::ast::Template = template.as_ref();
            let named = self.named(ast.action_constraint(), ast.non_scope_constraints());
            homes.insert(template.id().clone(), named.clone());
            let _ = parts
                .entry(named)
                .or_default()
                .add_template(template.clone());
        }
        for policy in set.policies() {
            let ast: &cedar_policy_core::ast::Policy = policy.as_ref();
            let Some((template, links)) = policy.template_id().zip(policy.template_links()) else {
                let named = self.named(ast.action_constraint(), ast.non_scope_constraints());
                let _ = parts.entry(named).or_default().add(policy.clone());
                continue;
            };
            if let Some(part) = homes.get(template).and_then(|named| parts.get_mut(named)) {
                let _ = part.link(template.clone(), policy.id().clone(), links);
            }
        }
        parts
    }

    fn named(&self, scope: &ActionConstraint, condition: Option<&Expr>) -> Named {
        let mut named = Named::new();
        let mut note = |uid: &EntityUID| {
            if uid.entity_type() == Kind::Action.entity_type() {
                let id: &str = uid.eid().as_ref();
                named.extend(
                    self.operations
                        .get_key_value(id)
                        .map(|(id, _)| Arc::clone(id)),
                );
            }
        };
        match scope {
            ActionConstraint::Any => {}
            ActionConstraint::Eq(uid) => note(uid),
            ActionConstraint::In(uids) => uids.iter().for_each(|uid| note(uid)),
        }
        for expr in condition.into_iter().flat_map(Expr::subexpressions) {
            if let ExprKind::Lit(Literal::EntityUID(uid)) = expr.expr_kind() {
                note(uid);
            }
        }
        named
    }
}

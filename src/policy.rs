//! The judgement room: Cedar policies, compiled at load, asked once a request.
//!
//! [`BundleFiles`] reads a bundle; [`Policies::compile`] understands it, or says everything that is wrong with it;
//! [`Policies::judge`] answers.
//!
//! | file | does |
//! |---|---|
//! | `bundle`, `bounds` | a bundle's files, how much they may hold and how deep they may nest |
//! | `source`, `links`, `obligation` | policies: parsed, named, placed; linked templates; what annotations ask for |
//! | `schema`, `statics`, `validate` | the vocabulary, the entities that files name, and whether policies keep to both |
//! | `reads`, `slice`, `placeless` | what a policy can read, where it can apply, its condition made lean |
//! | `entities`, `evidence`, `reading`, `value` | a request: who, what, on what; the context, one line a fact |
//! | `judge`, `memory` | the verdict, and the verdicts that are remembered |
//! | `explain`, `nearest`, `lint`, `print` | for authors: why, what was meant, what is odd, the names there are |
//! | `proof`, `invariant` | what holds of every request |
//! | `whole` | Cedar's own authorizer, as a yardstick |
//!
//! This is the only room that knows Cedar. It uses constructors of Cedar's core crate that carry no promise of stability,
//! because they cost a tenth of the public ones; both crates are pinned to one version, and the tests hold every decision
//! against Cedar's own authorizer. [`Memory`] remembers judgements by everything they were made from.

mod bounds;
mod bundle;
mod entities;
mod evidence;
mod explain;
mod invariant;
mod judge;
mod links;
mod lint;
mod memory;
mod nearest;
mod obligation;
mod placeless;
mod print;
#[cfg(feature = "prove")]
pub mod proof;
mod reading;
mod reads;
mod schema;
mod slice;
mod source;
mod statics;
mod validate;
mod value;
mod whole;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use cedar_policy::Schema;

pub use bounds::{MAX_IFS, MAX_NESTING, MAX_POLICIES, MAX_POLICY_TOKENS, MAX_TOKENS};
pub use bundle::{
    Archive, BundleFiles, Document, Fingerprint, KeyId, MAX_BYTES, MAX_DEPTH, MAX_FILE, MAX_FILES,
    MAX_PACKED, MAX_SIGNATURE, Manifest, NewKey, PublicKeys, SigningKey, Verified,
};
pub use entities::Principal;
pub use explain::{
    Clause, Condition, Explanation, Fact, Given, Nearest, Offer, PolicyView, Reach, State,
};
pub use invariant::Invariants;
pub use judge::{Judgement, Question};
pub use lint::{Rule, Surroundings, Warning};
pub use memory::{CacheSettings, DecisionSettings, Memory};
pub use print::{VOCABULARY, schema_text};
pub use reads::ReadSet;
pub use statics::MAX_ENTITIES;
pub use whole::Whole;

use crate::model::{DecisionCache, IdentityAttributes, Operation, Problem, VerifiedIdentity};
use judge::Finding;
use schema::{action_entity, resource_kind};
use slice::{CompiledPolicy, Index, Slice};
use source::Sources;
use statics::StaticEntities;
use validate::Grounds;

/// A bundle's policies, ready to judge.
#[derive(Debug)]
pub struct Policies {
    statics: StaticEntities,
    anonymous: Principal,
    slices: HashMap<Arc<str>, Slice>,
    /// The same with the shadow policies among them; empty where there are none.
    shadow_slices: HashMap<Arc<str>, Slice>,
    sources: Sources,
    grounds: Grounds,
    invariants: Invariants,
}

impl Policies {
    /// Understands a bundle: its schema with an action for each operation, its entities, its policies.
    ///
    /// # Errors
    /// Everything that is wrong, with file and line where there is one.
    pub fn compile(
        files: &BundleFiles,
        operations: &[Arc<Operation>],
    ) -> Result<Self, Vec<Problem>> {
        bounds::with_room(|| Self::compile_here(files, operations))
    }

    fn compile_here(
        files: &BundleFiles,
        operations: &[Arc<Operation>],
    ) -> Result<Self, Vec<Problem>> {
        let sources = Sources::parse(&files.policies, &files.links);
        let grounds = schema::assemble(&files.schema, operations);
        let (sources, grounds) = both(sources, grounds)?;
        let wrong = sources.validate(&grounds);
        let schema = grounds.whole();
        let entities = statics::parse(&files.entities, schema);
        let mut statics = match (wrong.is_empty(), entities) {
            (true, entities) => entities?,
            (false, Ok(_)) => return Err(wrong),
            (false, Err(more)) => return Err([wrong, more].concat()),
        };
        statics.learn_routes(operations);
        let actions = schema
            .action_entities()
            .map_err(|error| vec![Problem::new(format!("the schema's actions: {error}"))])?;
        let wrong = schema::check_vocabulary(schema, actions.as_ref(), &statics, operations);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let invariants = Invariants::parse(&files.invariants, &grounds)?;
        let slices = |policies: &[Arc<CompiledPolicy>]| -> HashMap<Arc<str>, Slice> {
            let index = Index::of(policies);
            let slices = operations.iter().filter_map(|operation| {
                // INVARIANT: the schema has an action for each operation; one without is not judged, and so denied.
                let action = action_entity(actions.as_ref(), &operation.id)?;
                let target = statics.target(operation, action);
                let slice = {
                    let kind = resource_kind(operation);
                    Slice::compile(index.candidates(&target.action), target, kind)
                };
                Some((Arc::clone(&operation.id), slice))
            });
            slices.collect()
        };
        let (shadow, live): (Vec<_>, Vec<_>) = sources
            .compiled
            .iter()
            .cloned()
            .partition(|policy| policy.obligation.shadow);
        let shadow_slices = if shadow.is_empty() {
            HashMap::new()
        } else {
            slices(&sources.compiled)
        };
        Ok(Self {
            slices: slices(&live),
            shadow_slices,
            anonymous: entities::anonymous(),
            statics,
            sources,
            grounds,
            invariants,
        })
    }

    /// What is wrong with the form of the policies, whatever they mean.
    #[must_use]
    pub fn malformed(files: &BundleFiles) -> Vec<Problem> {
        bounds::with_room(|| Sources::parse(&files.policies, &files.links).map(drop))
            .err()
            .unwrap_or_default()
    }

    /// A verified caller as Cedar sees it. Costs some microseconds: keep it beside the identity.
    #[must_use]
    pub fn principal(&self, identity: &VerifiedIdentity) -> Principal {
        self.statics.principal(identity)
    }

    /// A caller as Cedar would see it, for rehearsals.
    #[must_use]
    pub fn supposed(&self, attributes: &IdentityAttributes) -> Principal {
        self.statics.principal(attributes)
    }

    /// The caller without a credential as Cedar sees it.
    #[must_use]
    pub fn anonymous(&self) -> &Principal {
        &self.anonymous
    }

    /// Whether some policies only say what they would decide (`@mode("shadow")`).
    #[must_use]
    pub fn has_shadow(&self) -> bool {
        !self.shadow_slices.is_empty()
    }

    /// What would be decided if the shadow policies counted. For after the answer: nothing here decides a request.
    #[must_use]
    pub fn judge_with_shadow(&self, question: Question<'_>) -> Judgement {
        match self.shadow_slices.get(&question.matched.operation.id) {
            Some(slice) => judge_all(question, &mut |one| slice.judge(&self.statics, one)),
            None => self.judge(question),
        }
    }

    /// Judges one request.
    #[must_use]
    pub fn judge(&self, question: Question<'_>) -> Judgement {
        match self.slices.get(&question.matched.operation.id) {
            Some(slice) => judge_all(question, &mut |one| slice.judge(&self.statics, one)),
            None => no_action().into_judgement(),
        }
    }

    /// Judges one request as [`Policies::judge`] does, or says what was judged when everything that policies can read was
    /// the same. Who asks and whom they act for are looked up apart: it is a hit where both are.
    #[must_use]
    pub fn recall(&self, question: Question<'_>, memory: &Memory) -> (Judgement, DecisionCache) {
        let Some(slice) = self.slices.get(&question.matched.operation.id) else {
            return (no_action().into_judgement(), DecisionCache::Bypass);
        };
        let mut recalled = DecisionCache::Hit;
        let judgement = judge_all(question, &mut |one| {
            let (judgement, how) = self.recall_one(slice, one, memory);
            recalled = recalled.and(how);
            judgement
        });
        (judgement, recalled)
    }

    fn recall_one(
        &self,
        slice: &Slice,
        question: Question<'_>,
        memory: &Memory,
    ) -> (Judgement, DecisionCache) {
        let Some(key) = memory.key(slice, question) else {
            return (slice.judge(&self.statics, question), DecisionCache::Bypass);
        };
        if let Some(known) = memory.get(&key) {
            return (known.judgement(), DecisionCache::Hit);
        }
        let found = Arc::new(slice.find(&self.statics, question));
        memory.keep(key, Arc::clone(&found));
        (found.judgement(), DecisionCache::Miss)
    }

    /// Each policy's id, and the file and line where it stands; in no order.
    pub fn places(&self) -> impl Iterator<Item = (&str, &Path, usize)> {
        let places = self.sources.places.iter();
        places.map(|(id, (file, line, _))| (&**id, file.as_path(), *line))
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.compiled.len()
    }

    /// Whether there are none. A compiled bundle always holds some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entities the bundle's files name.
    #[must_use]
    pub fn entities(&self) -> usize {
        self.statics.len()
    }

    /// The ids of all permits in force.
    pub fn permits(&self) -> impl Iterator<Item = &Arc<str>> {
        let all = self.sources.compiled.iter();
        all.filter(|policy| !policy.obligation.shadow)
            .filter(|policy| policy.effect == cedar_policy_core::ast::Effect::Permit)
            .map(|policy| &policy.id)
    }

    /// The assembled schema.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.grounds.whole()
    }

    /// Understands invariants that stand beside the bundle's own.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn understand(&self, documents: &[Document]) -> Result<Invariants, Vec<Problem>> {
        bounds::with_room(|| Invariants::parse(documents, &self.grounds))
    }

    /// The bundle's invariants.
    #[must_use]
    pub fn invariants(&self) -> &Invariants {
        &self.invariants
    }

    /// What the policies that can apply to an operation can read, for the kind of caller in `principal`.
    #[must_use]
    pub fn reads(&self, operation: &Operation, principal: &Principal) -> Option<&ReadSet> {
        self.slices.get(&operation.id)?.reads(principal.0.kind)
    }
}

/// Judges who asks, and whom they act for: a right that is delegated is one that both have.
fn judge_all(
    question: Question<'_>,
    judge: &mut dyn FnMut(Question<'_>) -> Judgement,
) -> Judgement {
    let judgement = judge(question);
    match &question.principal.0.subject {
        None => judgement,
        Some(principal) => judgement.and(judge_all(
            Question {
                principal,
                ..question
            },
            judge,
        )),
    }
}

fn no_action() -> Finding {
    Finding::impossible("the operation has no action in the schema")
}

/// Both, or everything that is wrong with either.
fn both<A, B>(
    one: Result<A, Vec<Problem>>,
    other: Result<B, Vec<Problem>>,
) -> Result<(A, B), Vec<Problem>> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(one), Err(other)) => Err([one, other].concat()),
        (Err(wrong), _) | (_, Err(wrong)) => Err(wrong),
    }
}

#[cfg(test)]
mod tests;

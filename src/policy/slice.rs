//! Which policies can apply to an operation, found at load.
//!
//! Sound because a Cedar scope is a conjunction: a policy whose scope cannot hold can be neither satisfied nor in error.
//! A property test holds every slice against the full set: decision, determining policies and errors.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy_core::ast::{
    ActionConstraint, Effect, Entity, EntityReference, EntityType, EntityUID, Expr, Policy,
    PrincipalOrResourceConstraint, SlotEnv,
};
use foldhash::fast::RandomState;

use super::entities::Target;
use super::evidence::{Plan, TIME};
use super::memory::SliceId;
use super::obligation::Obligation;
use super::placeless::placeless;
use super::reads::ReadSet;
use super::value::Kind;

/// A policy, taken apart at load so that judging builds no syntax tree.
#[derive(Debug)]
pub(super) struct CompiledPolicy {
    pub(super) id: Arc<str>,
    pub(super) effect: Effect,
    pub(super) obligation: Obligation,
    /// What `when` and `unless` say, as one expression; `None` where there are none.
    pub(super) condition: Option<Arc<Expr>>,
    /// The same without its places in the source: what is evaluated.
    pub(super) swift: Option<Expr>,
    pub(super) slots: SlotEnv,
    pub(super) reads: ReadSet,
    pub(super) action: ActionConstraint,
    pub(super) principal: Scope,
    pub(super) resource: Scope,
}

/// The scope of one variable: a type and a place in the hierarchy.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) entity_type: Option<Arc<EntityType>>,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Place {
    Anywhere,
    Exactly(EntityUID),
    In(EntityUID),
}

impl Scope {
    /// The constraint, its slot filled. `None` for a template that is not linked: it applies to nothing.
    fn of(constraint: PrincipalOrResourceConstraint) -> Option<Self> {
        let uid = |reference| match reference {
            EntityReference::EUID(uid) => Some(Arc::unwrap_or_clone(uid)),
            EntityReference::Slot(_) => None,
        };
        let (entity_type, place) = match constraint {
            PrincipalOrResourceConstraint::Any => (None, Place::Anywhere),
            PrincipalOrResourceConstraint::Eq(at) => (None, Place::Exactly(uid(at)?)),
            PrincipalOrResourceConstraint::In(at) => (None, Place::In(uid(at)?)),
            PrincipalOrResourceConstraint::Is(kind) => (Some(kind), Place::Anywhere),
            PrincipalOrResourceConstraint::IsIn(kind, at) => (Some(kind), Place::In(uid(at)?)),
        };
        Some(Self { entity_type, place })
    }

    /// What the scope asks for, in words.
    pub(super) fn wanted(&self) -> String {
        let place = match &self.place {
            Place::Anywhere => None,
            Place::Exactly(uid) => Some(format!("to be `{uid}`")),
            Place::In(uid) => {
                let id: &str = uid.eid().as_ref();
                Some(match uid.entity_type() {
                    kind if kind == Kind::Role.entity_type() => format!("the role `{id}`"),
                    kind if kind == Kind::Group.entity_type() => format!("the group `{id}`"),
                    kind if kind == Kind::Tenant.entity_type() => format!("the tenant `{id}`"),
                    _ => format!("to be in `{uid}`"),
                })
            }
        };
        let kind = self
            .entity_type
            .as_ref()
            .map(|kind| format!("a caller of type `{kind}`"));
        [kind, place]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", and ")
    }

    pub(super) fn allows_type(&self, entity_type: &EntityType) -> bool {
        self.entity_type
            .as_deref()
            .is_none_or(|wanted| wanted == entity_type)
    }

    pub(super) fn holds(&self, entity: &Entity) -> bool {
        self.holds_within(entity)
            && match &self.place {
                Place::Anywhere | Place::Exactly(_) => true,
                Place::In(uid) => entity.uid() == uid || entity.is_descendant_of(uid),
            }
    }

    /// Whether the scope holds for every object behind a route: objects are in their route, and in all it is in.
    fn holds_behind(&self, route: &Entity) -> bool {
        match &self.place {
            Place::Anywhere => true,
            Place::Exactly(_) => false,
            Place::In(uid) => route.uid() == uid || route.is_descendant_of(uid),
        }
    }

    /// Whether the scope holds for an entity that is known to be, or to be in, the place it names.
    fn holds_within(&self, entity: &Entity) -> bool {
        self.allows_type(entity.uid().entity_type())
            && match &self.place {
                Place::Anywhere | Place::In(_) => true,
                Place::Exactly(uid) => entity.uid() == uid,
            }
    }
}

impl CompiledPolicy {
    /// Takes a policy apart.
    pub(super) fn new(policy: &Policy, obligation: Obligation) -> Option<Self> {
        Some(Self {
            id: AsRef::<str>::as_ref(policy.id()).into(),
            effect: policy.effect(),
            obligation,
            condition: policy.non_scope_constraints_arc().cloned(),
            swift: policy.non_scope_constraints().map(placeless),
            slots: policy.env().clone(),
            reads: ReadSet::of(policy),
            action: policy.action_constraint().clone(),
            principal: Scope::of(policy.principal_constraint().into_inner())?,
            resource: Scope::of(policy.resource_constraint().into_inner())?,
        })
    }

    /// Whether the scope holds for this action.
    pub(super) fn action_holds(&self, action: &Entity) -> bool {
        let within = |uid: &EntityUID| action.uid() == uid || action.is_descendant_of(uid);
        match &self.action {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => action.uid() == &**uid,
            ActionConstraint::In(uids) => uids.iter().any(|uid| within(uid)),
        }
    }

    /// Whether the scope can hold for some request of the operation. What acts on a route is settled here for good;
    /// what acts on an object depends on the object.
    pub(super) fn can_apply(&self, target: &Target, resource: Kind) -> bool {
        self.action_holds(&target.action)
            && if resource == Kind::Route {
                self.resource.holds(&target.route)
            } else {
                self.resource.allows_type(resource.entity_type())
            }
    }

    /// Whether the scope can hold for some request of these types, wherever its entities stand in their hierarchies.
    #[cfg(feature = "prove")]
    pub(super) fn fits(&self, action: &Entity, principal: Kind, resource: Kind) -> bool {
        self.action_holds(action)
            && self.principal.allows_type(principal.entity_type())
            && self.resource.allows_type(resource.entity_type())
    }

    /// Whether the scope holds for this principal.
    pub(super) fn principal_holds(&self, principal: &Entity) -> bool {
        self.principal.holds(principal)
    }

    /// Whether the scope holds for this resource.
    pub(super) fn resource_holds(&self, resource: &Entity) -> bool {
        self.resource.holds(resource)
    }

    /// Whether another caller might fare otherwise: the scope or a condition asks who it is.
    pub(super) fn asks_who(&self) -> bool {
        self.principal.entity_type.is_some()
            || !matches!(self.principal.place, Place::Anywhere)
            || self.reads.asks_who()
    }

    /// The caller the scope asks for, in words.
    pub(super) fn principal_wanted(&self) -> String {
        self.principal.wanted()
    }
}

/// Policies by the action their scope names, so that compiling every slice does not ask every policy.
#[derive(Debug)]
pub(super) struct Index<'p> {
    policies: &'p [Arc<CompiledPolicy>],
    any_action: Vec<usize>,
    by_action: HashMap<&'p EntityUID, Vec<usize>>,
}

impl<'p> Index<'p> {
    pub(super) fn of(policies: &'p [Arc<CompiledPolicy>]) -> Self {
        let mut any_action = Vec::new();
        let mut by_action: HashMap<&EntityUID, Vec<usize>> = HashMap::new();
        for (number, policy) in policies.iter().enumerate() {
            match &policy.action {
                ActionConstraint::Any => any_action.push(number),
                ActionConstraint::Eq(uid) => by_action.entry(uid).or_default().push(number),
                ActionConstraint::In(uids) => {
                    for uid in uids {
                        by_action.entry(uid).or_default().push(number);
                    }
                }
            }
        }
        Self {
            policies,
            any_action,
            by_action,
        }
    }

    /// Every policy whose scope names the action, or something it is in, or nothing; in their order.
    pub(super) fn candidates(&self, action: &Entity) -> Vec<&'p Arc<CompiledPolicy>> {
        let places = std::iter::once(action.uid()).chain(action.ancestors());
        let named = places.filter_map(|uid| self.by_action.get(uid)).flatten();
        let mut numbers: Vec<usize> = named.chain(&self.any_action).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let policies = numbers.iter().filter_map(|n| self.policies.get(*n));
        policies.collect()
    }
}

/// A policy that can apply to one operation.
#[derive(Debug)]
struct Candidate {
    policy: Arc<CompiledPolicy>,
    /// Whether its scope holds for every resource of the operation.
    any_resource: bool,
    /// Whether its condition can read the clock.
    reads_clock: bool,
}

impl Candidate {
    /// `None` for a policy that cannot apply.
    fn new(policy: &Arc<CompiledPolicy>, target: &Target, resource: Kind) -> Option<Self> {
        policy.can_apply(target, resource).then(|| Self {
            any_resource: resource == Kind::Route || policy.resource.holds_behind(&target.route),
            reads_clock: policy.reads.wants_group(TIME)
                && policy.condition.as_ref().is_some_and(|condition| {
                    ReadSet::given(condition, |path| target.has(path)).wants_group(TIME)
                }),
            policy: Arc::clone(policy),
        })
    }

    /// Whether the scope holds. The action is known to be right, and the principal to be in the place that is named.
    fn applies(&self, principal: &Entity, resource: &Entity) -> bool {
        self.policy.principal.holds_within(principal)
            && (self.any_resource || self.policy.resource.holds(resource))
    }
}

/// For whom some policy can read the clock.
#[derive(Debug, Default)]
struct ClockReaders {
    /// For everybody of a type.
    anybody: bool,
    /// For whoever is, or is in, one of these.
    places: Vec<EntityUID>,
}

/// The policies that can apply to one operation.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) id: SliceId,
    pub(super) target: Target,
    /// Policies for any principal (of a type).
    unscoped: Vec<Candidate>,
    /// Policies for one principal or one role, group or tenant, by that entity. What is kept here comes from the bundle,
    /// so the hash need not bear hostile keys.
    by_principal: HashMap<EntityUID, Vec<Candidate>, RandomState>,
    /// What each type of principal's policies need, in the order of [`Kind::PRINCIPALS`].
    plans: [Plan; 5],
    reads: [ReadSet; 5],
    clock: [ClockReaders; 5],
}

impl Slice {
    /// The slice of an operation that acts on a resource of type `resource`.
    pub(super) fn compile<'p>(
        policies: impl IntoIterator<Item = &'p Arc<CompiledPolicy>>,
        target: Target,
        resource: Kind,
    ) -> Self {
        let mut unscoped = Vec::new();
        let mut by_principal: HashMap<EntityUID, Vec<Candidate>, RandomState> = HashMap::default();
        let mut reads: [ReadSet; 5] = Default::default();
        let mut clock: [ClockReaders; 5] = Default::default();
        for policy in policies {
            let Some(candidate) = Candidate::new(policy, &target, resource) else {
                continue;
            };
            for (kind, (reads, clock)) in Kind::PRINCIPALS
                .into_iter()
                .zip(reads.iter_mut().zip(&mut clock))
            {
                if policy.principal.allows_type(kind.entity_type()) {
                    reads.extend(&policy.reads);
                    clock.extend(&candidate);
                }
            }
            match &policy.principal.place {
                Place::Anywhere => unscoped.push(candidate),
                Place::Exactly(uid) | Place::In(uid) => {
                    by_principal.entry(uid.clone()).or_default().push(candidate);
                }
            }
        }
        Self {
            id: SliceId::fresh(),
            target,
            unscoped,
            by_principal,
            plans: std::array::from_fn(|kind| {
                reads
                    .get(kind)
                    .map_or_else(Plan::everything, Plan::for_reads)
            }),
            reads,
            clock,
        }
    }

    /// Every policy whose scope holds for this principal and resource.
    pub(super) fn applicable<'a>(
        &'a self,
        principal: &'a Entity,
        resource: &'a Entity,
    ) -> impl Iterator<Item = &'a CompiledPolicy> {
        let places = std::iter::once(principal.uid())
            .chain(principal.ancestors())
            .take(if self.by_principal.is_empty() {
                0
            } else {
                usize::MAX
            });
        places
            .filter_map(|uid| self.by_principal.get(uid))
            .flatten()
            .chain(&self.unscoped)
            .filter(move |candidate| candidate.applies(principal, resource))
            .map(|candidate| &*candidate.policy)
    }

    /// What the policies for principals of this kind need of the context.
    pub(super) fn plan(&self, kind: Kind) -> &Plan {
        #[expect(
            clippy::indexing_slicing,
            reason = "a principal's index is below five; a test holds it"
        )]
        &self.plans[principal_index(kind)]
    }

    /// Whether some policy whose scope may hold for this principal can read the clock.
    pub(super) fn reads_clock(&self, kind: Kind, principal: &Entity) -> bool {
        self.clock
            .get(principal_index(kind))
            .is_none_or(|clock| clock.holds(principal))
    }

    /// What the policies for principals of this kind can read.
    pub(super) fn reads(&self, kind: Kind) -> Option<&ReadSet> {
        self.reads.get(principal_index(kind))
    }
}

impl ClockReaders {
    fn extend(&mut self, candidate: &Candidate) {
        if !candidate.reads_clock {
            return;
        }
        match &candidate.policy.principal.place {
            Place::Anywhere => self.anybody = true,
            Place::Exactly(uid) | Place::In(uid) => {
                if !self.places.contains(uid) {
                    self.places.push(uid.clone());
                }
            }
        }
    }

    fn holds(&self, principal: &Entity) -> bool {
        let within = |uid| principal.uid() == uid || principal.is_descendant_of(uid);
        self.anybody || self.places.iter().any(within)
    }
}

/// The place of a principal's type in [`Kind::PRINCIPALS`].
fn principal_index(kind: Kind) -> usize {
    match kind {
        Kind::User => 0,
        Kind::Client => 1,
        Kind::Workload => 2,
        Kind::Agent => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_indexed_in_their_order() {
        for (index, kind) in Kind::PRINCIPALS.into_iter().enumerate() {
            assert_eq!(principal_index(kind), index);
        }
    }
}

//! Where policies can apply, and which of them therefore change nothing.

use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy_core::ast::{ActionConstraint, Effect, Entity, EntityType, EntityUID};

use super::{Ground, Judged, Rule, Warning};
use crate::model::{Operation, ResourceRule};
use crate::policy::entities::Target;
use crate::policy::schema::resource_kind;
use crate::policy::slice::{CompiledPolicy, Place, Scope};
use crate::policy::statics::StaticEntities;
use crate::policy::value::Kind;

/// A set of operations, by their place in the list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Operations(Vec<u64>);

impl Operations {
    fn collect(members: impl Iterator<Item = bool>) -> Self {
        let mut words = Vec::new();
        for (index, member) in members.enumerate() {
            let bit = index % 64;
            if bit == 0 {
                words.push(0);
            }
            if let Some(word) = words.last_mut().filter(|_| member) {
                *word |= 1_u64 << bit;
            }
        }
        Self(words)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn meet(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(one, two)| one & two != 0)
    }

    fn within(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .all(|(one, two)| one & !two == 0)
    }

    /// Whether the operation at this place of the list is a member.
    pub(super) fn has(&self, index: usize) -> bool {
        let word = self.0.get(index / 64).copied().unwrap_or_default();
        word & (1 << (index % 64)) != 0
    }
}

/// Where a policy can apply, as far as its scope says.
#[derive(Debug)]
pub(super) struct Extent {
    /// The operations it can apply to.
    pub(super) operations: Operations,
    /// Those of them that its scope covers whatever object is asked for.
    whole: Operations,
    /// The kinds of principal it can apply to, in the order of [`Kind::PRINCIPALS`].
    kinds: [bool; 5],
}

impl Extent {
    pub(super) fn of(
        policy: &CompiledPolicy,
        operations: &[(&Arc<Operation>, &Target)],
        object_places: &HashSet<&EntityUID>,
    ) -> Self {
        // Objects lie in what their route lies in, and wherever the entity files put some.
        let put_there = match &policy.resource.place {
            Place::In(uid) => object_places.contains(uid),
            Place::Anywhere | Place::Exactly(_) => false,
        };
        let can = |operation: &Operation, target: &Target| {
            policy.can_apply(target, resource_kind(operation))
                && (put_there || can_hold_objects(&policy.resource, operation, target))
        };
        let all = || operations.iter();
        Self {
            operations: Operations::collect(all().map(|(o, target)| can(o, target))),
            whole: Operations::collect(
                all().map(|(o, t)| can(o, t) && covers_operation(&policy.resource, o, t)),
            ),
            kinds: Kind::PRINCIPALS.map(|kind| can_be(&policy.principal, kind)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty() || self.kinds.iter().all(|can| !can)
    }
}

/// Whether some object of an operation can lie in a scope: an API, route or tag holds it where it holds the route.
fn can_hold_objects(scope: &Scope, operation: &Operation, target: &Target) -> bool {
    let is = |uid: &EntityUID, kind: Kind| uid.entity_type() == kind.entity_type();
    let behind_route = |uid| {
        [Kind::Route, Kind::Api, Kind::Tag]
            .iter()
            .any(|kind| is(uid, *kind))
    };
    operation.resource == ResourceRule::Route
        || match &scope.place {
            Place::Anywhere => true,
            Place::Exactly(uid) => is(uid, Kind::Object),
            Place::In(uid) => !behind_route(uid) || lies_in(&target.route, uid),
        }
}

/// Whether every object of an operation lies in a scope that its kind of resource can meet.
fn covers_operation(scope: &Scope, operation: &Operation, target: &Target) -> bool {
    match (&operation.resource, &scope.place) {
        (ResourceRule::Route, _) | (_, Place::Anywhere) => true,
        // An object lies behind its route, and so in all the route lies in.
        (ResourceRule::Object { .. }, Place::In(uid)) => lies_in(&target.route, uid),
        (ResourceRule::Object { .. }, Place::Exactly(_)) => false,
    }
}

fn lies_in(entity: &Entity, uid: &EntityUID) -> bool {
    entity.uid() == uid || entity.is_descendant_of(uid)
}

/// Whether a principal of this kind can be in a scope: nobody puts an anonymous caller anywhere.
fn can_be(scope: &Scope, kind: Kind) -> bool {
    let kind_type = kind.entity_type();
    let is = |entity_type: &EntityType| entity_type == kind_type;
    scope.allows_type(kind_type)
        && match &scope.place {
            Place::Anywhere => true,
            Place::Exactly(uid) => is(uid.entity_type()),
            Place::In(uid) => is(uid.entity_type()) || kind != Kind::Anonymous,
        }
}

/// Whether some entity can be in both places: sure to be none only where both name one and not the same.
fn places_meet(one: &Scope, other: &Scope) -> bool {
    match (&one.place, &other.place) {
        (Place::Exactly(one), Place::Exactly(other)) => one == other,
        _ => true,
    }
}

/// Whether everything that is in `inner` is in `outer` too.
fn covers(outer: &Scope, inner: &Scope, statics: &StaticEntities) -> bool {
    let typed = match (&outer.entity_type, &inner.entity_type, &inner.place) {
        (None, _, _) => true,
        (Some(wanted), Some(stated), _) => wanted == stated,
        (Some(wanted), None, Place::Exactly(uid)) => **wanted == *uid.entity_type(),
        (Some(_), None, _) => false,
    };
    let below = |inner: &EntityUID, outer: &EntityUID| {
        inner == outer || statics.get(inner).is_some_and(|e| lies_in(e, outer))
    };
    typed
        && match (&outer.place, &inner.place) {
            (Place::Anywhere, _) => true,
            (Place::In(outer), Place::In(inner) | Place::Exactly(inner)) => below(inner, outer),
            (Place::Exactly(outer), Place::Exactly(inner)) => outer == inner,
            _ => false,
        }
}

impl Ground<'_> {
    /// Policies that change nothing.
    pub(super) fn effect(&self, warnings: &mut Vec<Warning>) {
        let with = |effect: Effect| {
            let all = self.judged.iter();
            all.filter(move |one| one.compiled.effect == effect && !one.extent.is_empty())
        };
        let nowhere = self.judged.iter().filter(|one| one.extent.is_empty());
        warnings.extend(nowhere.map(Judged::never_applies));
        for forbid in with(Effect::Forbid) {
            if !self.stands_guard(forbid)
                && !with(Effect::Permit).any(|permit| forbid.meets(permit))
            {
                warnings.push(forbid.meets_no_permit());
            }
        }
        let total: Vec<&Judged<'_>> = with(Effect::Forbid)
            .filter(|forbid| {
                forbid.compiled.condition.is_none() && !forbid.compiled.obligation.shadow
            })
            .collect();
        for permit in with(Effect::Permit) {
            let forbid = total.iter().find(|forbid| self.shadows(forbid, permit));
            warnings.extend(
                forbid.map(|forbid| {
                    permit.shadowed(&forbid.compiled.id, &self.place(forbid.compiled))
                }),
            );
        }
    }

    /// A rule about kinds of callers and actions that names nobody and nothing: it stands for permits that are yet to be
    /// written, so that it meets none is what its author hopes.
    fn stands_guard(&self, forbid: &Judged<'_>) -> bool {
        let policy = forbid.compiled;
        let anywhere = |scope: &Scope| matches!(scope.place, Place::Anywhere);
        let is_operation =
            |uid: &EntityUID| self.operations.iter().any(|(_, t)| t.action.uid() == uid);
        anywhere(&policy.principal)
            && anywhere(&policy.resource)
            && match &policy.action {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(_) => false,
                ActionConstraint::In(uids) => !uids.iter().any(|uid| is_operation(uid)),
            }
    }

    fn shadows(&self, forbid: &Judged<'_>, permit: &Judged<'_>) -> bool {
        let statics = &self.policies.statics;
        let (outer, inner) = (forbid.compiled, permit.compiled);
        let resources = permit.extent.operations.within(&forbid.extent.whole)
            || (permit.extent.operations.within(&forbid.extent.operations)
                && covers(&outer.resource, &inner.resource, statics));
        resources && covers(&outer.principal, &inner.principal, statics)
    }
}

impl Judged<'_> {
    /// Whether some request can be in the scope of both.
    fn meets(&self, permit: &Self) -> bool {
        let (one, other) = (self.compiled, permit.compiled);
        let mut kinds = self.extent.kinds.iter().zip(permit.extent.kinds);
        self.extent.operations.meet(&permit.extent.operations)
            && kinds.any(|(one, other)| *one && other)
            && places_meet(&one.principal, &other.principal)
            && places_meet(&one.resource, &other.resource)
    }

    fn never_applies(&self) -> Warning {
        let id = &self.compiled.id;
        self.warning(
            Rule::NeverApplies,
            format!("the policy `{id}` can never apply: no operation and caller fit its scope"),
            "compare its action, API, tag and route with `cardea generate schema`: names are compared to the letter",
        )
    }

    fn meets_no_permit(&self) -> Warning {
        let id = &self.compiled.id;
        self.warning(
            Rule::MeetsNoPermit,
            format!("the forbid `{id}` meets no permit: nothing that it names is permitted anyway"),
            "compare its scope with that of the permits it should overrule, or leave it out",
        )
    }

    fn shadowed(&self, forbid: &str, place: &str) -> Warning {
        let id = &self.compiled.id;
        self.warning(
            Rule::Shadowed,
            format!("the permit `{id}` never decides: the forbid `{forbid}` ({place}) has no condition and covers all of it"),
            "leave out one of the two, or give the forbid a condition",
        )
    }
}

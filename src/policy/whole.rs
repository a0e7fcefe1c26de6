//! The yardstick: what Cedar's own authorizer says of a request, asked about all policies with all entities.
//!
//! This is how Cedar is used without slices and without a room that knows what a request can meet. Nothing decides by it;
//! measurements hold the judge against it.

use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Entities, PolicySet, Request};
use cedar_policy_core::ast::{Entity, EntityUIDEntry, Request as CoreRequest};
use cedar_policy_core::entities::{Entities as CoreEntities, TCComputation};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::CoreSchema;

use super::entities::{numbers_entity, params_entity, store};
use super::evidence::{Evidence, Plan};
use super::{Policies, Question};

/// A bundle's policies and entities as Cedar takes them, and one question to put to it.
#[derive(Debug)]
pub struct Whole {
    set: PolicySet,
    /// The bundle's entities, but for those that the request brings itself.
    known: CoreEntities,
    own: Vec<Arc<Entity>>,
    request: Request,
}

impl Policies {
    /// Puts everything together for Cedar's own authorizer. `None` where the question cannot be put.
    #[must_use]
    pub fn whole(&self, question: Question<'_>) -> Option<Whole> {
        let slice = self.slices.get(&question.matched.operation.id)?;
        let principal = &question.principal.0;
        let resource = self.statics.resource(question.matched, &slice.target);
        let evidence = Evidence {
            principal,
            request: question.request,
            matched: question.matched,
            facts: question.facts,
        };
        let uids = [
            principal.entity.uid(),
            slice.target.action.uid(),
            resource.uid(),
        ];
        let [principal_uid, action_uid, resource_uid] =
            uids.map(|uid| EntityUIDEntry::known(uid.clone(), None));
        let request = CoreRequest::new_unchecked(
            principal_uid,
            action_uid,
            resource_uid,
            Some(Plan::everything().context(&evidence)),
        );
        let own = vec![
            Arc::clone(&principal.entity),
            Arc::clone(&principal.claims),
            Arc::clone(&slice.target.action),
            Arc::clone(&resource),
            Arc::new(params_entity(question.matched)),
            Arc::new(numbers_entity()),
        ];
        let brought = |entity: &&Arc<Entity>| own.iter().any(|one| one.uid() == entity.uid());
        let known = self.statics.all().filter(|entity| !brought(entity));
        Some(Whole {
            set: self.sources.set.clone(),
            known: store(known.cloned())?,
            own,
            request: Request::from(request),
        })
    }
}

impl Whole {
    /// Whether Cedar allows the request. Its own entities join a copy of the bundle's, as they have to in Cedar's
    /// interface.
    #[must_use]
    pub fn allows(&self) -> bool {
        let joined = self.known.clone().add_entities(
            self.own.iter().cloned(),
            None::<&CoreSchema<'_>>,
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        );
        joined.is_ok_and(|entities| {
            let entities = Entities::from(entities);
            let response = Authorizer::new().is_authorized(&self.request, &self.set, &entities);
            response.decision() == Decision::Allow
        })
    }
}

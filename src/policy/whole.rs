//! The yardstick: what Cedar's own authorizer says of a request, asked about all policies with all entities.
//!
//! This is how Cedar is used without slices and without a room that knows what a request can meet. Nothing decides by it;
//! measurements hold the judge against it.

use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Entities, PolicySet, Request};
use cedar_policy_core::ast::{EntityUIDEntry, Request as CoreRequest};
use cedar_policy_core::entities::{Entities as CoreEntities, TCComputation};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::CoreSchema;

use super::entities::{numbers_entity, params_entity};
use super::evidence::{Evidence, Plan};
use super::{Policies, Question};

/// A bundle's policies and entities, as Cedar takes them.
#[derive(Debug)]
pub struct Whole<'p> {
    policies: &'p Policies,
    set: PolicySet,
    entities: CoreEntities,
}

impl Policies {
    /// Puts everything together for Cedar's own authorizer. Costs a copy of the set and of the entities.
    #[must_use]
    pub fn whole(&self) -> Whole<'_> {
        let known = self.statics.all().map(Arc::clone);
        Whole {
            policies: self,
            set: self.sources.set.clone(),
            entities: with(CoreEntities::new(), known).unwrap_or_default(),
        }
    }
}

impl Whole<'_> {
    /// Whether Cedar allows a request. `None` where the question cannot be put.
    ///
    /// The request's own entities join a copy of the bundle's, as they have to in Cedar's interface.
    #[must_use]
    pub fn allows(&self, question: Question<'_>) -> Option<bool> {
        let slice = self.policies.slices.get(&question.matched.operation.id)?;
        let principal = &question.principal.0;
        let statics = &self.policies.statics;
        let resource = statics.resource(question.matched, &slice.target);
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
        let own = [
            Arc::clone(&principal.entity),
            Arc::clone(&principal.claims),
            Arc::clone(&slice.target.action),
            Arc::clone(&resource),
            Arc::new(params_entity(question.matched)),
            Arc::new(numbers_entity()),
        ];
        let entities = with(self.entities.clone(), own)?;
        let response = Authorizer::new().is_authorized(
            &Request::from(request),
            &self.set,
            &Entities::from(entities),
        );
        Some(response.decision() == Decision::Allow)
    }
}

/// Entities with others, which replace those of the same id.
fn with(
    entities: CoreEntities,
    others: impl IntoIterator<Item = Arc<cedar_policy_core::ast::Entity>>,
) -> Option<CoreEntities> {
    entities
        .upsert_entities(
            others,
            None::<&CoreSchema<'_>>,
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )
        .ok()
}

//! The entities of a request: made by this room alone, and always complete.
//!
//! Cedar skips what it cannot evaluate, and with the principal's entity missing even `forbid (principal in Role::"x", ..)`
//! vanishes without an error. So whoever judges gets the principal with all its ancestors, the action and the resource
//! from here, and there is no other way to make them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cedar_policy_core::ast::{Entity, EntityUID, PartialValue, Value, ValueKind};
use cedar_policy_core::entities::{Entities, TCComputation};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::CoreSchema;
use jiff::Timestamp;
use smol_str::SmolStr;

use super::statics::StaticEntities;
use super::value::{Kind, datetime, entity, record, strings};
use crate::model::{
    Api, Facts, IdentityAttributes, Matched, Operation, ResourceRule, Route, SpiffeId,
};

/// A caller as Cedar sees it, finished: what is cached beside a verified token, so that a warm decision builds nothing.
#[derive(Debug, Clone)]
pub struct Principal(pub(super) Arc<PrincipalParts>);

#[derive(Debug)]
pub(super) struct PrincipalParts {
    pub(super) kind: Kind,
    pub(super) entity: Arc<Entity>,
    pub(super) claims: Arc<Entity>,
    pub(super) token: Value,
    /// Whom the principal acts for: policies have to allow them too.
    pub(super) subject: Option<Principal>,
}

/// An operation as Cedar sees it, finished at load.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) action: Arc<Entity>,
    pub(super) route: Arc<Entity>,
    /// What every object behind the route is in: the route, and all it is in.
    behind: HashSet<EntityUID>,
    api: Value,
}

impl Target {
    /// Whether this path is there in every request of the operation; `None` where that is not settled at load. What a
    /// document says of its API is: files cannot change it, see [`StaticEntities::resource`].
    pub(super) fn has(&self, path: &[SmolStr]) -> Option<bool> {
        match path {
            [resource, api, name] if resource == "resource" && api == "api" => {
                match self.api.value_kind() {
                    ValueKind::Record(fields) => Some(fields.contains_key(name)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl StaticEntities {
    /// A caller: attributes, ancestors and tags from its credential and from the files; where both name an attribute, the
    /// credential counts. What the files say is never passed over: `forbid .. when { principal has suspended && .. }`
    /// would silently not apply.
    pub(super) fn principal(&self, identity: &IdentityAttributes) -> Principal {
        let kind = Kind::from(identity.kind);
        let uid = kind.uid(&identity.principal_id());
        let known = self.get(&uid);
        let roles = identity.roles.iter().map(|role| Kind::Role.uid(role));
        let groups = identity.groups.iter().map(|group| Kind::Group.uid(group));
        // The schema gives workloads no tenant.
        let tenant = identity
            .tenant
            .as_deref()
            .filter(|_| kind != Kind::Workload);
        let tenant = tenant.map(|tenant| Kind::Tenant.uid(tenant));
        // Only the schema's workloads have trust domains and SPIFFE IDs.
        let spiffe = identity.spiffe.as_ref();
        let spiffe = spiffe.filter(|_| kind == Kind::Workload);
        let trust_domain = spiffe.map(|id| Kind::TrustDomain.uid(id.trust_domain()));
        let account = identity.service_account.as_ref();
        let account = account.filter(|_| kind == Kind::Workload);
        let account = account
            .map(|account| (account.namespace(), account.name()))
            .or_else(|| spiffe.and_then(SpiffeId::service_account));
        let listed = listed_ancestors(known).chain(trust_domain);
        let ancestors = self.closure(roles.chain(groups).chain(tenant.clone()).chain(listed));
        let client = (kind == Kind::Client).then(|| ClientFacts::of(identity));
        // The tier of an agent that no file names is the lowest; files always say one, see `statics`.
        let unranked = kind == Kind::Agent && known.is_none();
        let attributes = [
            ("issuer", Some((&*identity.issuer).into())),
            ("sub", Some(identity.subject.as_str().into())),
            ("tenant", tenant.map(Value::from)),
            ("spiffeId", spiffe.map(|id| id.as_str().into())),
            ("namespace", account.map(|(namespace, _)| namespace.into())),
            ("serviceAccount", account.map(|(_, name)| name.into())),
            ("kind", client.map(|client| client.kind.into())),
            (
                "keyIssuedAt",
                client
                    .and_then(|client| client.key_issued_at)
                    .and_then(datetime),
            ),
            ("tier", unranked.then(|| 0.into())),
        ];
        let attributes = over_known(known, attributes);
        let entity = entity(uid, attributes, ancestors, known_tags(known));
        let claims = claims_entity(&identity.claims);
        Principal(Arc::new(PrincipalParts {
            kind,
            token: token(identity.subject_of_token()),
            claims: Arc::new(claims),
            entity: Arc::new(entity),
            subject: identity
                .on_behalf
                .as_ref()
                .map(|on_behalf| self.principal(&on_behalf.subject)),
        }))
    }

    /// The workload whose certificate was proven, where it is another than the principal: policies may follow
    /// `context.tls.peer`.
    pub(super) fn peer(&self, facts: &Facts, principal: &PrincipalParts) -> Option<Arc<Entity>> {
        let peer = self.principal(facts.tls.peer.as_ref()?.attributes()?);
        (peer.0.entity.uid() != principal.entity.uid()).then(|| Arc::clone(&peer.0.entity))
    }

    /// An operation's action and route.
    pub(super) fn target(&self, operation: &Operation, action: Arc<Entity>) -> Target {
        let route = &operation.route;
        let api = api_facts(&route.api, route);
        let uid = Kind::Route.uid(&route.id);
        let known = self.get(&uid);
        let ancestors = self.closure(route_parents(route).chain(listed_ancestors(known)));
        let attributes = [
            ("api", Some(api.clone())),
            ("template", Some(route.template.as_str().into())),
            ("sensitivity", Some(i64::from(route.sensitivity).into())),
        ];
        let attributes = over_known(known, attributes);
        let mut behind = ancestors.clone();
        behind.insert(uid.clone());
        Target {
            action,
            route: Arc::new(entity(uid, attributes, ancestors, known_tags(known))),
            behind,
            api,
        }
    }

    /// What a request acts on: the route, or the object behind it.
    pub(super) fn resource(&self, matched: &Matched, target: &Target) -> Arc<Entity> {
        match &matched.operation.resource {
            ResourceRule::Route => Arc::clone(&target.route),
            ResourceRule::Object { kind, .. } => Arc::new(self.object(matched, target, kind)),
        }
    }

    fn object(&self, matched: &Matched, target: &Target, kind: &str) -> Entity {
        let id = matched.object_id().unwrap_or_default();
        let api = &matched.operation.route.api.name;
        let uid = Kind::Object.uid(&[api, "/", kind, "/", &id].concat());
        let known = self.get(&uid);
        let mut ancestors = target.behind.clone();
        if known.is_some() {
            ancestors.extend(self.closure(listed_ancestors(known)));
        }
        let attributes = [
            ("api", Some(target.api.clone())),
            ("kind", Some(kind.into())),
            ("id", Some(id.into())),
        ];
        let attributes = over_known(known, attributes);
        entity(uid, attributes, ancestors, known_tags(known))
    }
}

/// What policies can read of a client: what it proved itself with, and since when it has its API key.
#[derive(Clone, Copy)]
struct ClientFacts {
    kind: &'static str,
    key_issued_at: Option<Timestamp>,
}

impl ClientFacts {
    fn of(identity: &IdentityAttributes) -> Self {
        let key = identity.scheme == "api_key";
        Self {
            kind: match identity.scheme {
                own @ ("api_key" | "basic") => own,
                _ => "oauth",
            },
            key_issued_at: identity.issued_at.filter(|_| key),
        }
    }
}

/// Nobody in particular.
pub(super) fn anonymous() -> Principal {
    let uid = Kind::Anonymous.uid("anonymous");
    Principal(Arc::new(PrincipalParts {
        kind: Kind::Anonymous,
        entity: Arc::new(entity(uid, Vec::new(), HashSet::new(), [])),
        claims: Arc::new(claims_entity(&BTreeMap::new())),
        token: anonymous_token(),
        subject: None,
    }))
}

/// Where a route stands by its document.
pub(super) fn route_parents(route: &Route) -> impl Iterator<Item = EntityUID> + '_ {
    let tags = route.tags.iter().map(|tag| Kind::Tag.uid(tag));
    tags.chain([Kind::Api.uid(&route.api.name)])
}

/// The ancestors that files name.
fn listed_ancestors(known: Option<&Arc<Entity>>) -> impl Iterator<Item = EntityUID> + '_ {
    known
        .into_iter()
        .flat_map(|entity| entity.ancestors().cloned())
}

/// The attributes that files name, under those that the request brings.
fn over_known<const N: usize>(
    known: Option<&Arc<Entity>>,
    own: [(&'static str, Option<Value>); N],
) -> Vec<(SmolStr, Value)> {
    let own = own
        .into_iter()
        .filter_map(|(name, value)| Some((SmolStr::new_static(name), value?)));
    let mut all: Vec<(SmolStr, Value)> = own.collect();
    let listed = known.into_iter().flat_map(|entity| entity.attrs());
    let listed = listed.filter_map(|(name, value)| match value {
        PartialValue::Value(value) if all.iter().all(|(brought, _)| brought != name) => {
            Some((name.clone(), value.clone()))
        }
        PartialValue::Value(_) | PartialValue::Residual(_) => None,
    });
    let listed: Vec<_> = listed.collect();
    all.extend(listed);
    all
}

fn known_tags(known: Option<&Arc<Entity>>) -> Vec<(SmolStr, Value)> {
    known
        .into_iter()
        .flat_map(|entity| entity.tags())
        .filter_map(|(name, value)| match value {
            PartialValue::Value(value) => Some((name.clone(), value.clone())),
            PartialValue::Residual(_) => None,
        })
        .collect()
}

fn api_facts(api: &Api, route: &Route) -> Value {
    record([
        ("name", Some((&*api.name).into())),
        ("version", Some(api.version.as_str().into())),
        ("lifecycle", Some(route.lifecycle.as_str().into())),
        ("sunset", api.sunset.and_then(datetime)),
        (
            "owner",
            api.owner
                .as_ref()
                .map(|owner| Kind::Group.uid(owner).into()),
        ),
        ("exposure", Some(api.exposure.as_str().into())),
        (
            "dataClasses",
            Some(strings(api.data_classes.iter().map(String::as_str))),
        ),
    ])
}

fn token(identity: &IdentityAttributes) -> Value {
    record([
        ("kind", Some(identity.scheme.into())),
        ("issuer", Some((&*identity.issuer).into())),
        ("subject", Some(identity.subject.as_str().into())),
        ("clientId", identity.client_id.as_deref().map(Value::from)),
        (
            "audience",
            Some(strings(identity.audience.iter().map(String::as_str))),
        ),
        (
            "scopes",
            Some(strings(identity.scopes.iter().map(String::as_str))),
        ),
        (
            "amr",
            Some(strings(identity.amr.iter().map(String::as_str))),
        ),
        ("acr", identity.acr.as_deref().map(Value::from)),
        ("assurance", Some(i64::from(identity.assurance).into())),
        ("mfa", Some(identity.mfa.into())),
        ("authTime", identity.auth_time.and_then(datetime)),
        ("expiresAt", datetime(identity.expires_at)),
        (
            "senderConstrained",
            Some(identity.sender_constrained().into()),
        ),
        ("claims", Some(Kind::Claims.uid("claims").into())),
    ])
}

fn anonymous_token() -> Value {
    record([
        ("kind", Some("anonymous".into())),
        ("audience", Some(strings([]))),
        ("scopes", Some(strings([]))),
        ("amr", Some(strings([]))),
        ("assurance", Some(0.into())),
        ("mfa", Some(false.into())),
        ("senderConstrained", Some(false.into())),
        ("claims", Some(Kind::Claims.uid("claims").into())),
    ])
}

fn claims_entity(claims: &BTreeMap<String, Vec<String>>) -> Entity {
    let tags = claims.iter().map(|(name, values)| {
        (
            SmolStr::new(name),
            strings(values.iter().map(String::as_str)),
        )
    });
    entity(Kind::Claims.uid("claims"), Vec::new(), HashSet::new(), tags)
}

/// The path parameters of a request.
pub(super) fn params_entity(matched: &Matched) -> Entity {
    let tags = matched
        .parameters
        .iter()
        .map(|(name, value)| (SmolStr::new(name), value.as_str().into()));
    entity(Kind::Params.uid("params"), Vec::new(), HashSet::new(), tags)
}

/// The numbers of a request's body. No source fills them yet, so there are none to read.
pub(super) fn numbers_entity() -> Entity {
    entity(Kind::Numbers.uid("numbers"), Vec::new(), HashSet::new(), [])
}

/// The store a request is judged with. `None` where two different entities share an id, which nothing here produces.
pub(super) fn store(entities: impl IntoIterator<Item = Arc<Entity>>) -> Option<Entities> {
    Entities::new()
        .add_entities(
            entities,
            None::<&CoreSchema<'_>>,
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )
        .ok()
}

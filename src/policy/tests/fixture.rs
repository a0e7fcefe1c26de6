//! A small world to judge in.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::super::{BundleFiles, Document, Policies, Principal, Question};
use crate::model::{
    AccessRequest, Api, CanonicalPath, Delegation, Facts, Host, IdentityAttributes, Lifecycle,
    Matched, Method, Moment, Operation, PathRules, PrincipalKind, Problem, ResourceRule, Route,
    VerifiedIdentity,
};

pub(in crate::policy) const BASE_SCHEMA: &str =
    include_str!("../../../policies/schema/cardea.cedarschema");

pub(in crate::policy) fn document(name: &str, text: &str) -> Document {
    Document {
        path: name.into(),
        text: text.to_owned(),
    }
}

pub(in crate::policy) fn compile(
    policies: &[(&str, &str)],
    entities: &[(&str, &str)],
) -> Result<Policies, Vec<Problem>> {
    let documents = |files: &[(&str, &str)]| files.iter().map(|(n, t)| document(n, t)).collect();
    let files = BundleFiles {
        schema: vec![document("s.cedarschema", BASE_SCHEMA)],
        policies: documents(policies),
        entities: documents(entities),
        ..BundleFiles::default()
    };
    Policies::compile(&files, &operations())
}

/// Policies, some of them templates, with their links (`l.links.yaml`).
pub(in crate::policy) fn compile_linked(
    policies: &str,
    links: &str,
    entities: &str,
) -> Result<Policies, Vec<Problem>> {
    let files = BundleFiles {
        schema: vec![document("s.cedarschema", BASE_SCHEMA)],
        policies: vec![document("p.cedar", policies)],
        links: vec![document("l.links.yaml", links)],
        entities: vec![document("e.json", entities)],
        ..BundleFiles::default()
    };
    Policies::compile(&files, &operations())
}

/// Two APIs (`a0`, `a1`) with a collection and an object each, and the generic operation of every method.
pub(in crate::policy) fn operations() -> Vec<Arc<Operation>> {
    let mut operations = Vec::new();
    for name in ["a0", "a1"] {
        let api = api(name, Lifecycle::Active);
        operations.push(operation(&api, "list", Method::Get, "/things", &[]));
        operations.push(operation(&api, "create", Method::Post, "/things", &[]));
        operations.push(operation(&api, "get", Method::Get, "/things/{id}", &["id"]));
        operations.push(operation(
            &api,
            "drop",
            Method::Delete,
            "/things/{id}",
            &["id"],
        ));
    }
    let nowhere = api("undocumented", Lifecycle::Unknown);
    for method in Method::ALL {
        let mut generic = operation(&nowhere, "", method, "", &[]);
        let operation = Arc::get_mut(&mut generic).unwrap();
        operation.id = format!("http:{}", method.as_str()).into();
        operation.documented = false;
        operations.push(generic);
    }
    operations
}

fn api(name: &str, lifecycle: Lifecycle) -> Arc<Api> {
    Arc::new(Api {
        name: name.into(),
        version: "1".to_owned(),
        lifecycle,
        sunset: None,
        exposure: "internal".to_owned(),
        owner: None,
        data_classes: Vec::new(),
    })
}

fn operation(api: &Arc<Api>, id: &str, method: Method, path: &str, key: &[&str]) -> Arc<Operation> {
    let resource = if key.is_empty() {
        ResourceRule::Route
    } else {
        ResourceRule::Object {
            kind: "things".to_owned(),
            id: key.iter().map(|&name| name.into()).collect(),
        }
    };
    Arc::new(Operation {
        id: format!("{}.{id}", api.name).into(),
        documented: true,
        method,
        route: Arc::new(Route {
            id: format!("{} /{}{path}", method.as_str(), api.name).into(),
            api: Arc::clone(api),
            template: path.to_owned(),
            sensitivity: 1,
            tags: vec!["t0".to_owned()],
            lifecycle: api.lifecycle,
        }),
        resource,
        observed: false,
        single_query_parameters: Vec::new(),
    })
}

/// One request in that world. Change what a test is about.
pub(in crate::policy) struct World {
    pub(in crate::policy) attributes: Option<IdentityAttributes>,
    pub(in crate::policy) request: AccessRequest,
    pub(in crate::policy) matched: Matched,
    pub(in crate::policy) facts: Facts,
}

impl World {
    /// A user who asks for object `id` (or the collection) by the operation `operation`.
    pub(in crate::policy) fn new(operation: &str, id: &str) -> Self {
        let operation = operations()
            .into_iter()
            .find(|o| &*o.id == operation)
            .unwrap();
        Self {
            attributes: Some(user("alice")),
            request: AccessRequest {
                method: operation.method,
                ..AccessRequest::bare(
                    Host::parse("api.example.com").unwrap(),
                    CanonicalPath::parse("/", PathRules::default()).unwrap(),
                )
            },
            matched: Matched {
                operation,
                parameters: vec![("id".into(), id.to_owned())],
            },
            facts: Facts {
                moment: Moment {
                    now: "2026-11-21T12:00:00Z".parse().unwrap(),
                    local_time: SignedDuration::from_hours(12),
                    weekday: 6,
                },
                ..Facts::default()
            },
        }
    }

    pub(in crate::policy) fn anonymous(mut self) -> Self {
        self.attributes = None;
        self
    }

    pub(in crate::policy) fn principal(&self, policies: &Policies) -> Principal {
        match &self.attributes {
            Some(attributes) => {
                policies.principal(&VerifiedIdentity::assertion(attributes.clone()))
            }
            None => policies.anonymous().clone(),
        }
    }

    pub(in crate::policy) fn question<'a>(&'a self, principal: &'a Principal) -> Question<'a> {
        Question {
            principal,
            request: &self.request,
            matched: &self.matched,
            facts: &self.facts,
        }
    }
}

pub(in crate::policy) fn user(name: &str) -> IdentityAttributes {
    IdentityAttributes {
        audience: vec!["aud".to_owned()],
        scopes: vec!["s0".to_owned()],
        assurance: 1,
        roles: vec!["r0".to_owned()],
        ..IdentityAttributes::of(
            PrincipalKind::User,
            "bearer_jwt",
            ("https://i".into(), name.to_owned()),
            Timestamp::from_second(1_800_000_000).unwrap(),
        )
    }
}

/// Somebody acts for Mallory.
pub(in crate::policy) fn delegation(human_approved: bool) -> Delegation {
    Delegation {
        subject: "mallory".to_owned(),
        agent: None,
        client: None,
        workload: None,
        depth: 1,
        scopes: Vec::new(),
        purpose: None,
        human_approved,
    }
}

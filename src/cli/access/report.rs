//! The answer, found and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::{
    AccessRequest, Body, CanonicalPath, Effect, Facts, Headers, Host, IdentityAttributes, Matched,
    Moment, Operation, PathRules, Peer, Query, Scheme,
};
use crate::pipeline::Snapshot;
use crate::policy::{Condition, Given, Policies, Question, Reach};

/// What was found out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// The caller asked about, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caller: Option<String>,
    /// What it can do: every documented operation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) operations: Vec<Access>,
    /// The operation asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operation: Option<WhoCan>,
    /// Permits that no recorded decision names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unused: Option<Vec<String>>,
}

/// Whether a caller can call an operation.
#[derive(Debug, Serialize)]
pub(super) struct Access {
    pub(super) operation: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) verdict: Verdict,
    /// The policies that settle it, or on which it depends.
    pub(super) because: Vec<Because>,
    /// Forbids that other circumstances could bring to bear.
    pub(super) unless: Vec<Arc<str>>,
    /// Whether the operation is observed: the verdict is the policies', and what they do not permit passes all the same.
    pub(super) observed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Allowed,
    Denied,
    Depends,
}

#[derive(Debug, Serialize)]
pub(super) struct Because {
    pub(super) policy: Arc<str>,
    pub(super) effect: &'static str,
    /// What the given facts leave open.
    pub(super) conditions: Vec<Condition>,
}

/// Who can call one operation.
#[derive(Debug, Serialize)]
pub(super) struct WhoCan {
    pub(super) id: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) permits: Vec<Who>,
    pub(super) forbids: Vec<Who>,
}

#[derive(Debug, Serialize)]
pub(super) struct Who {
    pub(super) policy: Arc<str>,
    /// In words.
    pub(super) principal: String,
    /// Roles it names, and those below them.
    pub(super) roles: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) conditions: Vec<Condition>,
}

/// What everything is asked of: a bundle, now.
pub(super) struct Stage<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) now: Timestamp,
}

impl Stage<'_> {
    /// What a caller can do.
    pub(super) fn caller(
        &self,
        caller: Option<&IdentityAttributes>,
        given: Given,
        words: String,
    ) -> Report {
        let operations = self.snapshot.inventory.operations();
        Report {
            caller: Some(words),
            operations: operations
                .filter_map(|operation| self.access(operation, caller, given))
                .collect(),
            ..Report::default()
        }
    }

    /// Who can call an operation.
    pub(super) fn operation(&self, operation: &Arc<Operation>) -> Report {
        let who = |effect: Effect, reached: &[Reach]| {
            let such = reached.iter().filter(|reach| reach.effect == effect);
            such.map(|reach| Who {
                policy: Arc::clone(&reach.policy),
                principal: if reach.principal.is_empty() {
                    "everybody".to_owned()
                } else {
                    reach.principal.clone()
                },
                roles: reach.roles.clone(),
                groups: reach.groups.clone(),
                conditions: reach.open.clone(),
            })
            .collect()
        };
        let reached = self.ask(operation, None, |policies, question| {
            policies.reach(question, Given::default())
        });
        let reached = reached.unwrap_or_default();
        Report {
            operation: Some(WhoCan {
                id: Arc::clone(&operation.id),
                route: Arc::clone(&operation.route.id),
                permits: who(Effect::Permit, &reached),
                forbids: who(Effect::Forbid, &reached),
            }),
            ..Report::default()
        }
    }

    /// The permits that no recorded decision names, in the order of their names.
    pub(super) fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        let permits = self.snapshot.policies.permits();
        let mut unused: Vec<String> = permits
            .filter(|id| !used.contains(&***id))
            .map(ToString::to_string)
            .collect();
        unused.sort();
        unused
    }

    fn access(
        &self,
        operation: &Arc<Operation>,
        caller: Option<&IdentityAttributes>,
        given: Given,
    ) -> Option<Access> {
        self.ask(operation, caller, |policies, question| {
            let reached = policies.reach(question, given);
            let rehearsal = policies.judge(question);
            let of = |effect: Effect| reached.iter().filter(move |reach| reach.effect == effect);
            let settled = |reach: &&Reach| reach.open.is_empty();
            let because = |reaches: Vec<&Reach>| reaches.into_iter().map(Because::of).collect();
            let unless = of(Effect::Forbid).filter(|reach| !reach.open.is_empty());
            let unless: Vec<Arc<str>> = unless.map(|reach| Arc::clone(&reach.policy)).collect();

            // The forbids that meet circumstances nobody knows: they had to be told otherwise.
            let met = |reach: &&Reach| {
                let failed = rehearsal.faults.iter().map(|fault| &fault.policy);
                let mut spoke = rehearsal.determining.iter().chain(failed);
                !reach.open.is_empty() && spoke.any(|id| *id == reach.policy)
            };
            let forbids: Vec<&Reach> = of(Effect::Forbid).filter(settled).collect();
            let sure: Vec<&Reach> = of(Effect::Permit).filter(settled).collect();
            let (verdict, because, unless) = if !forbids.is_empty() {
                (Verdict::Denied, because(forbids), Vec::new())
            } else if of(Effect::Permit).next().is_none() {
                (Verdict::Denied, Vec::new(), Vec::new())
            } else if sure.is_empty() {
                let all = of(Effect::Permit).chain(of(Effect::Forbid).filter(met));
                (Verdict::Depends, because(all.collect()), unless)
            } else if rehearsal.verdict.permitted() {
                (Verdict::Allowed, because(sure), unless)
            } else {
                // A permit is sure, and yet the rehearsal is denied.
                (
                    Verdict::Depends,
                    because(of(Effect::Forbid).filter(met).collect()),
                    unless,
                )
            };
            Access {
                operation: Arc::clone(&operation.id),
                route: Arc::clone(&operation.route.id),
                verdict,
                because,
                unless,
                observed: operation.observed,
            }
        })
    }

    /// Asks about a request for an operation, in circumstances nobody knows.
    fn ask<T>(
        &self,
        operation: &Arc<Operation>,
        caller: Option<&IdentityAttributes>,
        ask: impl FnOnce(&Policies, Question<'_>) -> T,
    ) -> Option<T> {
        let policies = &self.snapshot.policies;
        let request = any_request(operation)?;
        let principal = match caller {
            None => policies.anonymous().clone(),
            Some(attributes) => policies.supposed(attributes),
        };
        let facts = Facts {
            moment: Moment {
                now: self.now,
                ..Moment::default()
            },
            ..Facts::default()
        };
        let matched = Matched {
            parameters: parameters(&operation.route.template),
            operation: Arc::clone(operation),
        };
        Some(ask(
            policies,
            Question {
                principal: &principal,
                request: &request,
                matched: &matched,
                facts: &facts,
            },
        ))
    }
}

/// A request for the operation with nothing in it that a policy would be told of.
fn any_request(operation: &Operation) -> Option<AccessRequest> {
    Some(AccessRequest {
        id: "access".to_owned(),
        method: operation.method,
        scheme: Scheme::Https,
        host: Host::parse("host.invalid").ok()?,
        port: None,
        path: CanonicalPath::parse("/", PathRules::default()).ok()?,
        query: Query::default(),
        headers: Headers::default(),
        body: Body::default(),
        client_address: None,
        peer: Peer::default(),
        sni: None,
        context_extensions: BTreeMap::new(),
        metadata: BTreeMap::new(),
        route_metadata: BTreeMap::new(),
    })
}

/// A value for each parameter of a template.
fn parameters(template: &str) -> Vec<(Arc<str>, String)> {
    let names = template
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    names.map(|name| (name.into(), "some".to_owned())).collect()
}

impl Because {
    fn of(reach: &Reach) -> Self {
        Self {
            policy: Arc::clone(&reach.policy),
            effect: match reach.effect {
                Effect::Permit => "permit",
                Effect::Forbid => "forbid",
            },
            conditions: reach.open.clone(),
        }
    }
}

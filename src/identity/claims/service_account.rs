//! What the token of a Kubernetes service account says of its holder (KEP-1205; the claim `kubernetes.io`).
//!
//! The token names the account twice, in `sub` and in the claim, and both have to agree: nobody can then be one account
//! here and another one there. What it is bound to becomes its session, so that a pod can be revoked.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::settings::{BoundTo, KubernetesSettings};
use super::super::token::Wrong;
use super::{Claims, text};
use crate::model::{CredentialFault as Fault, IdentityAttributes, ServiceAccount};

/// The claim that holds everything Kubernetes has to say.
const CLAIM: &str = "kubernetes.io";

const NO_ACCOUNT: Wrong = Wrong(
    Fault::Claims,
    "the claim `kubernetes.io` names no service account with its uid, or is not as Kubernetes writes it",
);

/// Which of a cluster's accounts are accepted.
#[derive(Debug)]
pub(super) struct Accounts {
    namespaces: Vec<String>,
    bound_to: Vec<BoundTo>,
    group_prefix: String,
}

/// An object of the cluster.
#[derive(Clone, Copy)]
struct Reference<'c> {
    name: &'c str,
    uid: &'c str,
}

impl Accounts {
    pub(super) fn new(settings: &KubernetesSettings) -> Self {
        Self {
            namespaces: settings.namespaces.clone(),
            bound_to: settings.bound_to.clone(),
            group_prefix: settings.group_prefix.clone(),
        }
    }

    /// What the claims say of `holder`, the subject of the token.
    ///
    /// # Errors
    /// [`Fault::Claims`] where the token is none of an account that is accepted, or is bound to nothing that suffices.
    pub(super) fn holder(
        &self,
        claims: &Claims,
        holder: IdentityAttributes,
    ) -> Result<IdentityAttributes, Wrong> {
        let own = claims.get(CLAIM).and_then(Value::as_object);
        let own = own.ok_or(NO_ACCOUNT)?;
        let namespace = text(own, "namespace")?.ok_or(NO_ACCOUNT)?;
        let known = reference(own, "serviceaccount")?.ok_or(NO_ACCOUNT)?;
        let account = ServiceAccount::new(namespace, known.name).ok_or(NO_ACCOUNT)?;
        if account.subject() != holder.subject {
            return Err(Wrong(
                Fault::Claims,
                "sub and the claim `kubernetes.io` name different service accounts",
            ));
        }
        if !self.namespaces.is_empty() && !self.namespaces.iter().any(|own| own == namespace) {
            return Err(Wrong(
                Fault::Claims,
                "the service account is of a namespace that is not accepted",
            ));
        }
        let (pod, node) = (reference(own, "pod")?, reference(own, "node")?);
        let bound = bound(pod, node, reference(own, "secret")?)?;
        let kind = bound.map_or(BoundTo::Nothing, |(kind, _)| kind);
        if !self.bound_to.contains(&kind) {
            return Err(Wrong(
                Fault::Claims,
                "the token is not bound to what `bound_to` asks for",
            ));
        }
        let prefixed = |group: String| format!("{}{group}", self.group_prefix);
        let groups = account.groups().map(prefixed);
        Ok(IdentityAttributes {
            session_id: bound.map(|(_, to)| to.uid.to_owned()),
            groups: groups.into(),
            claims: told([
                ("serviceaccount", Some(known)),
                ("pod", pod),
                ("node", node),
            ]),
            service_account: Some(account),
            ..holder
        })
    }
}

/// What the token is bound to. One that is bound to a pod tells its node too.
fn bound<'c>(
    pod: Option<Reference<'c>>,
    node: Option<Reference<'c>>,
    secret: Option<Reference<'c>>,
) -> Result<Option<(BoundTo, Reference<'c>)>, Wrong> {
    match (pod, secret, node) {
        (Some(pod), None, _) => Ok(Some((BoundTo::Pod, pod))),
        (None, Some(secret), None) => Ok(Some((BoundTo::Secret, secret))),
        (None, None, Some(node)) => Ok(Some((BoundTo::Node, node))),
        (None, None, None) => Ok(None),
        (Some(_), Some(_), _) | (None, Some(_), Some(_)) => Err(NO_ACCOUNT),
    }
}

fn reference<'c>(own: &'c Claims, kind: &str) -> Result<Option<Reference<'c>>, Wrong> {
    let Some(value) = own.get(kind) else {
        return Ok(None);
    };
    let members = value.as_object().ok_or(NO_ACCOUNT)?;
    Ok(Some(Reference {
        name: text(members, "name")?.ok_or(NO_ACCOUNT)?,
        uid: text(members, "uid")?.ok_or(NO_ACCOUNT)?,
    }))
}

/// Names and uids for policies: `pod.name`, `pod.uid` and so on. The uid of an account tells it from a later one of the same
/// name.
fn told(objects: [(&str, Option<Reference<'_>>); 3]) -> BTreeMap<String, Vec<String>> {
    let there = objects
        .into_iter()
        .filter_map(|(kind, object)| Some((kind, object?)));
    let each = there.flat_map(|(kind, object)| {
        [
            (format!("{kind}.name"), vec![object.name.to_owned()]),
            (format!("{kind}.uid"), vec![object.uid.to_owned()]),
        ]
    });
    each.collect()
}

#[cfg(test)]
mod tests;

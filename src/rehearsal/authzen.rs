//! The AuthZEN evaluation request (OpenID Authorization API 1.0, section 6): subject, action, resource, context.
//!
//! | AuthZEN | Cardea |
//! |---|---|
//! | `subject.type` | `user`, `client`, `workload`, `agent` or `anonymous` |
//! | `subject.id` | the subject, or `<issuer>\|<subject>` |
//! | `subject.properties` | what a case says of a caller: `issuer`, `roles`, `groups`, `scopes`, `tenant` .. |
//! | `action.name` | an operation (`orders.getOrder`), or an HTTP method |
//! | `resource.id` | the object's id where the action is an operation on objects; the path where the action is a method and no `path` is given; else a label |
//! | `resource.type` | a label: what a request acts on follows from its operation |
//! | `resource.properties` | `path` or `url`, `host`, `params` (path parameters by name) |
//! | `context` | `time`, `ip`, `headers`, `body`, `sni`, `mutual_tls`, `device`, `geo`, `network`, `risk`, `signals`, `delegation`, `emergency` |
//!
//! An unknown member is an error anywhere: a fact that is passed over could have changed the answer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::Reader;
use crate::model::{CanonicalPath, Host, Matched, Method, Operation, PrincipalKind, ResourceRule};
use crate::pipeline::trial::{
    CallerForm, CallerParts, DelegationForm, DeviceForm, EmergencyForm, GeoForm, Given, MutualTls,
    Names, NetworkForm, RequestForm, RiskForm, SignalsForm, When,
};

/// What is percent-encoded in a path parameter: all but unreserved characters (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An evaluation request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Evaluation {
    subject: Subject,
    action: Action,
    resource: Resource,
    #[serde(default)]
    context: Circumstances,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    #[serde(rename = "type")]
    kind: SubjectKind,
    id: String,
    #[serde(default)]
    properties: Option<CallerParts>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SubjectKind {
    User,
    Client,
    Workload,
    Agent,
    Anonymous,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    name: String,
    #[serde(default, rename = "properties")]
    _properties: Nothing,
}

/// An object without members.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    #[serde(rename = "type")]
    _label: String,
    id: String,
    #[serde(default)]
    properties: Place,
}

/// Where the resource is found.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Place {
    path: Option<String>,
    url: Option<String>,
    host: Option<String>,
    params: BTreeMap<String, Names>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Circumstances {
    #[serde(alias = "at")]
    time: Option<When>,
    #[serde(alias = "client_address")]
    ip: Option<IpAddr>,
    headers: BTreeMap<String, Names>,
    body: Option<Value>,
    sni: Option<String>,
    #[serde(alias = "mutualTls")]
    mutual_tls: MutualTls,
    device: Option<DeviceForm>,
    geo: Option<GeoForm>,
    network: Option<NetworkForm>,
    risk: Option<RiskForm>,
    signals: Option<SignalsForm>,
    delegation: Option<DelegationForm>,
    emergency: Option<EmergencyForm>,
}

impl Evaluation {
    /// The same in Cardea's own words.
    ///
    /// # Errors
    /// Where its parts do not fit together, or name what there is not.
    pub(super) fn given(self, reader: &Reader<'_>) -> Result<Given, String> {
        let Circumstances {
            time,
            ip,
            headers,
            body,
            sni,
            mutual_tls,
            ..
        } = self.context;
        let target = target(&self.action.name, self.resource, reader)?;
        Ok(Given {
            caller: Some(self.subject.caller()?),
            token: None,
            request: RequestForm {
                headers,
                body,
                client_address: ip,
                sni,
                mutual_tls,
                ..target
            },
            at: time,
            device: self.context.device,
            geo: self.context.geo,
            network: self.context.network,
            risk: self.context.risk,
            signals: self.context.signals,
            delegation: self.context.delegation,
            emergency: self.context.emergency,
        })
    }
}

impl Subject {
    fn caller(self) -> Result<CallerForm, String> {
        let kind = match self.kind {
            SubjectKind::User => PrincipalKind::User,
            SubjectKind::Client => PrincipalKind::Client,
            SubjectKind::Workload => PrincipalKind::Workload,
            SubjectKind::Agent => PrincipalKind::Agent,
            SubjectKind::Anonymous if self.properties.is_none() => {
                return Ok(CallerForm::Anonymous);
            }
            SubjectKind::Anonymous => return Err("an anonymous subject has no properties".into()),
        };
        let mut parts = self.properties.unwrap_or_default();
        if parts.kind.is_some() || parts.subject.is_some() {
            let message =
                "`subject.properties` names `kind` or `subject`: they stand in `type` and `id`";
            return Err(message.to_owned());
        }
        if self.id.is_empty() {
            return Err("`subject.id` is empty".to_owned());
        }
        // Cedar's own spelling. An issuer is a URL, and holds no `|`.
        match self.id.split_once('|') {
            Some((issuer, subject)) if parts.issuer.is_none() => {
                parts.issuer = Some(issuer.to_owned());
                parts.subject = Some(subject.to_owned());
            }
            _ => parts.subject = Some(self.id),
        }
        parts.kind = Some(kind);
        Ok(CallerForm::Known(Box::new(parts)))
    }
}

/// Method and place of the request that the action on the resource is.
fn target(action: &str, resource: Resource, reader: &Reader<'_>) -> Result<RequestForm, String> {
    let Resource { id, properties, .. } = resource;
    if let Some(method) = Method::parse(action) {
        if !properties.params.is_empty() {
            let message = "`resource.properties.params` needs an operation for `action.name`";
            return Err(message.to_owned());
        }
        let place = place(properties, || Ok(id.clone()))?;
        let form = with_method(method, place);
        if form.path.as_ref() != Some(&id) {
            acts_on(&form, &id, reader)?;
        }
        return Ok(form);
    }
    let operation = find(action, reader)?;
    let params = properties.params.clone();
    if (properties.path.is_some() || properties.url.is_some()) && !params.is_empty() {
        let message = "`resource.properties` holds `params` and a path: one of them is enough";
        return Err(message.to_owned());
    }
    let place = place(properties, || fill(&operation, &id, &params))?;
    let form = with_method(operation.method, place);
    match acts_on(&form, &id, reader)? {
        Some(matched) if matched.operation.id != operation.id => Err(format!(
            "the request would be the operation `{}`, and not `{action}`",
            matched.operation.id
        )),
        _ => Ok(form),
    }
}

fn with_method(method: Method, place: RequestForm) -> RequestForm {
    RequestForm {
        method: Some(method.as_str().to_owned()),
        ..place
    }
}

/// The place the properties name; else the path that `otherwise` gives.
fn place(
    properties: Place,
    otherwise: impl FnOnce() -> Result<String, String>,
) -> Result<RequestForm, String> {
    let path = match (&properties.path, &properties.url) {
        (None, None) => Some(otherwise()?),
        _ => properties.path,
    };
    Ok(RequestForm {
        path,
        url: properties.url,
        host: properties.host,
        ..RequestForm::default()
    })
}

fn find(action: &str, reader: &Reader<'_>) -> Result<Arc<Operation>, String> {
    let inventory = &reader.snapshot.inventory;
    let mut known = inventory.operations().chain(inventory.generic_operations());
    let found = known.find(|operation| &*operation.id == action);
    found.cloned().ok_or_else(|| {
        "`action.name` is neither an operation of the API documents nor an HTTP method".to_owned()
    })
}

/// The operation's path, its parameters filled in from `params`, else from the object's id.
fn fill(
    operation: &Operation,
    id: &str,
    params: &BTreeMap<String, Names>,
) -> Result<String, String> {
    if !operation.documented {
        return Err(format!(
            "`{}` is no path of its own: name `resource.properties.path`",
            operation.id
        ));
    }
    let mut values = BTreeMap::new();
    if let ResourceRule::Object { id: names, .. } = &operation.resource {
        let parts: Vec<String> = id.split('/').map(decoded).collect();
        if parts.len() == names.len() {
            values.extend(names.iter().map(ToString::to_string).zip(parts));
        }
    }
    for (name, given) in params {
        let [value] = given.0.as_slice() else {
            return Err(format!("the path parameter `{name}` needs one value"));
        };
        values.insert(name.clone(), value.clone());
    }
    let path = substitute(&operation.route.template, &mut values)?;
    match values.keys().next() {
        Some(name) => Err(format!("`{}` has no path parameter `{name}`", operation.id)),
        None => Ok(path),
    }
}

/// Puts values, percent-encoded, in place of `{name}`; takes each from `values`.
fn substitute(template: &str, values: &mut BTreeMap<String, String>) -> Result<String, String> {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        let value = values.remove(name).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| {
            format!(
                "the path parameter `{name}` is missing: put it into `resource.properties.params`"
            )
        })?;
        path.push_str(before);
        path.extend(utf8_percent_encode(&value, ENCODED));
        rest = after;
    }
    path.push_str(rest);
    Ok(path)
}

/// A part of an object's id, see [`Matched::object_id`].
fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// Which operation the request is, where it has one reading. If that acts on an object, the resource must be it: an
/// answer about one object must not be taken for an answer about another.
fn acts_on(form: &RequestForm, id: &str, reader: &Reader<'_>) -> Result<Option<Matched>, String> {
    let Some(matched) = matched(form, reader) else {
        return Ok(None);
    };
    match matched.object_id() {
        Some(object) if object != id && form.path.as_deref() != Some(id) => Err(format!(
            "the request acts on the object `{object}`, and `resource.id` names another"
        )),
        _ => Ok(Some(matched)),
    }
}

fn matched(form: &RequestForm, reader: &Reader<'_>) -> Option<Matched> {
    let method = Method::parse(form.method.as_deref()?)?;
    let (host, path) = form.place().ok()?;
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let path = CanonicalPath::parse(path, reader.staging.paths).ok()?;
    let host = Host::parse(host).ok()?;
    Some(reader.snapshot.inventory.find(method, &host, &path))
}

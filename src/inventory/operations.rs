//! From the paths of one document to its operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_saphyr::Spanned;

use super::document::{Document, OperationItem, PathItem, Place, place};
use super::extension::{OperationExtension, Resource};
use super::parameters::single_query_parameters;
use super::reader::{Entry, MAX_ROLES, is_printable, words};
use super::report::{MAX_SHOWN, Report};
use super::servers::base_path;
use super::template::Template;
use crate::model::{Api, Lifecycle, Method, Operation, ResourceRule, Route, shown};

/// The most operations one document may describe.
pub(super) const MAX_OPERATIONS: usize = 5_000;
/// The most bytes an `operationId` may have.
const MAX_OPERATION_ID: usize = 128;
/// The most tags one route may have.
const MAX_TAGS: usize = 32;
/// The most sensitive a route may be.
const MAX_SENSITIVITY: u8 = 3;
/// What an operation that does not say its sensitivity has: neither open to the world nor special.
const USUAL_SENSITIVITY: u8 = 1;

/// Reads the operations of one document.
pub(super) struct OperationReader<'a, 'd> {
    report: Report<'a>,
    document: &'d Document,
    api: Arc<Api>,
    seen: BTreeMap<&'d str, Place>,
    entries: Vec<Entry>,
}

/// One operation as it stands in the document.
struct Found<'d> {
    method: Method,
    path: &'d PathItem,
    item: &'d OperationItem,
    place: Place,
}

impl<'a, 'd> OperationReader<'a, 'd> {
    pub(super) fn new(report: Report<'a>, document: &'d Document, api: Arc<Api>) -> Self {
        Self {
            report,
            document,
            api,
            seen: BTreeMap::new(),
            entries: Vec::new(),
        }
    }

    /// All operations, behind `base` where neither path nor operation names servers of its own.
    pub(super) fn read(mut self, base: &str) -> Vec<Entry> {
        for (template, item) in &self.document.paths.0 {
            self.path(base, template, item);
            if self.entries.len() > MAX_OPERATIONS {
                self.report.hinted(
                    place(template),
                    format!("the document describes more than {MAX_OPERATIONS} operations"),
                    "split it",
                );
                break;
            }
        }
        self.entries
    }

    fn path(&mut self, base: &str, template: &'d Spanned<String>, item: &'d PathItem) {
        let Some(path) = self.follow(item) else {
            return;
        };
        // Read even where no operation follows: a template that cannot be matched is a mistake by itself.
        if let Err(error) = Template::parse(base, &template.value) {
            let text = shown(&template.value, MAX_SHOWN);
            self.report
                .problem(place(template), format!("`{text}`: {error}"));
            return;
        }
        for (method, item) in path.operations() {
            let found = Found {
                method,
                path,
                item: &item.value,
                place: place(item),
            };
            let Some(base) = self.base(base, &found) else {
                continue;
            };
            match Template::parse(&base, &template.value) {
                Ok(template) => self.operation(template, &found),
                Err(error) => self.report.problem(found.place, error.to_string()),
            }
        }
    }

    /// Path items may stand among the components (OpenAPI 3.1).
    fn follow(&mut self, item: &'d PathItem) -> Option<&'d PathItem> {
        let Some(reference) = &item.reference else {
            return Some(item);
        };
        let prefix = "#/components/pathItems/";
        let items = &self.document.components.path_items;
        let target = reference
            .value
            .strip_prefix(prefix)
            .and_then(|name| items.get(name))
            .filter(|target| target.reference.is_none());
        if target.is_none() {
            self.report
                .dangling(place(reference), &reference.value, prefix);
        } else if item.operations().next().is_some() {
            // OpenAPI leaves open which of the two counts.
            self.report.problem(
                place(reference),
                "a path that refers to another describes no operations itself",
            );
        }
        target
    }

    /// `servers` of the operation count before those of the path, and those before the document's.
    fn base(&mut self, base: &str, found: &Found<'d>) -> Option<String> {
        let own = [&found.item.servers, &found.path.servers]
            .into_iter()
            .find(|servers| !servers.is_empty());
        match own {
            Some(servers) if self.document.extension.base_path.is_none() => {
                base_path(&mut self.report, servers)
            }
            _ => Some(base.to_owned()),
        }
    }

    fn operation(&mut self, template: Template, found: &Found<'d>) {
        let Some(id) = self.operation_id(&template, found) else {
            return;
        };
        let resource = self.resource(&template, found);
        let single_query_parameters = single_query_parameters(
            &mut self.report,
            &self.document.components,
            &template,
            (&found.path.parameters, &found.item.parameters),
        );
        let operation = Operation {
            id: id.into(),
            documented: true,
            method: found.method,
            route: Arc::new(self.route(&template, found)),
            resource,
            observed: self.observed(found),
            single_query_parameters,
        };
        self.entries.push(Entry {
            template,
            operation: Arc::new(operation),
            place: found.place,
        });
    }

    /// `<api>.<operationId>`. It is asked for rather than derived: policies name it, so it may not change when a path does.
    fn operation_id(&mut self, template: &Template, found: &Found<'d>) -> Option<String> {
        let Some(id) = &found.item.operation_id else {
            let method = found.method.as_str();
            let suggested = suggested_id(found.method, template);
            self.report.hinted(
                found.place,
                format!("`{method} {}` has no `operationId`", template.text),
                format!(
                    "add one, such as `operationId: {suggested}`: policies name the action by it"
                ),
            );
            return None;
        };
        let text = id.value.as_str();
        let valid = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'`');
        if text.is_empty() || text.len() > MAX_OPERATION_ID || !text.bytes().all(valid) {
            let text = shown(text, MAX_SHOWN);
            self.report.hinted(
                place(id),
                format!("`{text}` cannot be the name of an action"),
                format!("use at most {MAX_OPERATION_ID} printable ASCII characters, without spaces, quotes and backslashes"),
            );
            return None;
        }
        if let Some(first) = self.seen.insert(text, place(id)) {
            let line = first.map_or(0, |(line, _)| line);
            self.report.problem(
                place(id),
                format!("the `operationId` `{text}` is already used in line {line}"),
            );
            return None;
        }
        Some(format!("{}.{text}", self.api.name))
    }

    fn route(&mut self, template: &Template, found: &Found<'d>) -> Route {
        let own = &found.item.extension;
        let shared = &found.path.extension;
        let id = format!("{} {}", found.method.as_str(), template.text);
        let roles = own.roles.iter().chain(&shared.roles);
        words(&mut self.report, roles, "role", MAX_ROLES);
        let tags = own.tags.iter().chain(&shared.tags).chain(&found.item.tags);
        let id = if self.document.extension.qualify_routes {
            format!("{}:{id}", self.api.name)
        } else {
            id
        };
        Route {
            id: id.into(),
            api: Arc::clone(&self.api),
            template: template.text.clone(),
            sensitivity: self.sensitivity(own, shared),
            tags: words(&mut self.report, tags, "tag", MAX_TAGS),
            lifecycle: lifecycle(&self.api, found),
        }
    }

    fn observed(&self, found: &Found<'_>) -> bool {
        let stated = found.item.extension.observe;
        stated
            .or(found.path.extension.observe)
            .unwrap_or(self.document.extension.observe)
    }

    fn sensitivity(&mut self, own: &OperationExtension, shared: &OperationExtension) -> u8 {
        let Some(stated) = own.sensitivity.as_ref().or(shared.sensitivity.as_ref()) else {
            return USUAL_SENSITIVITY;
        };
        if stated.value > MAX_SENSITIVITY {
            self.report.problem(
                place(stated),
                "`sensitivity` is 0 (public) to 3 (most sensitive)",
            );
        }
        stated.value.min(MAX_SENSITIVITY)
    }

    /// What the extension says; else an object where the template has parameters, else the route.
    fn resource(&mut self, template: &Template, found: &Found<'d>) -> ResourceRule {
        let own = &found.item.extension.resource;
        match own.as_ref().or(found.path.extension.resource.as_ref()) {
            Some(stated) => self.stated_resource(template, stated),
            None if template.names().next().is_none() => ResourceRule::Route,
            None => ResourceRule::Object {
                kind: template.kind().unwrap_or(&self.api.name).to_owned(),
                id: template.names().cloned().collect(),
            },
        }
    }

    fn stated_resource(&mut self, template: &Template, stated: &Spanned<Resource>) -> ResourceRule {
        let Resource::Object(object) = &stated.value else {
            return ResourceRule::Route;
        };
        let at = place(stated);
        if !is_printable(&object.kind) {
            self.report.problem(
                at,
                "the resource's `kind` is empty, too long or not printable",
            );
        }
        if object.kind.contains('/') {
            self.report.hinted(
                at,
                "the resource's `kind` holds a `/`, which separates it from the id in an object's name",
                "write `order-item` instead of `orders/items`",
            );
        }
        if object.id.is_empty() {
            self.report.hinted(
                at,
                "the resource's `id` names no path parameter",
                "write `resource: route` for an operation that acts on no single object",
            );
        }
        for name in &object.id {
            if !template.names().any(|own| **own == **name) {
                let (name, text) = (shown(name, MAX_SHOWN), &template.text);
                self.report.problem(
                    at,
                    format!(
                        "the resource's `id` names `{name}`, which is no parameter of `{text}`"
                    ),
                );
            }
        }
        ResourceRule::Object {
            kind: object.kind.clone(),
            id: object.id.iter().map(|name| name.as_str().into()).collect(),
        }
    }
}

/// Its own word, else its path's; else its API's, which `deprecated: true` can only worsen.
fn lifecycle(api: &Api, found: &Found<'_>) -> Lifecycle {
    let stated = found.item.extension.lifecycle;
    match stated.or(found.path.extension.lifecycle) {
        Some(stage) => stage.into(),
        None if found.item.deprecated && api.lifecycle == Lifecycle::Active => {
            Lifecycle::Deprecated
        }
        None => api.lifecycle,
    }
}

/// `getV1OrdersOrderId` for `GET /v1/orders/{orderId}`.
fn suggested_id(method: Method, template: &Template) -> String {
    let mut id = method.as_str().to_ascii_lowercase();
    for word in template.text.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut letters = word.chars();
        id.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        id.push_str(letters.as_str());
    }
    id
}

//! The inventory: which documented operation a request is.
//!
//! OpenAPI 3.0 and 3.1 documents say which operations exist. Each `operationId` is one action that policies can name
//! (`orders.getOrder`), each path template one route (`GET /v1/orders/{orderId}`). A request that no document describes is
//! not refused here: it becomes the generic action of its method (`http:GET`) on the route `undocumented`, and a policy
//! judges that.
//!
//! ```text
//! document.rs    the typed view of the document         template.rs    path templates
//! extension.rs   x-cardea: what it says for us alone    servers.rs     base paths
//! reader.rs      document to API                        operations.rs  paths to operations
//! parameters.rs  which query parameters come once       router.rs      method and path to operation
//! ```
//!
//! # What matches
//! - Methods are exact: `HEAD` and `OPTIONS` only where a document describes them.
//! - Segments are compared decoded, byte for byte: case, trailing slash and Unicode form count. A value never crosses a
//!   segment and is never empty.
//! - Fixed text wins over parameters, from left to right, among the operations of the request's method.
//! - A document with `hosts` is served on those only. Without, it is served on any host: then it is up to Envoy's virtual
//!   hosts which names reach it at all. Two documents that meet on a host may not describe the same requests.

mod document;
mod extension;
mod operations;
mod parameters;
mod reader;
mod report;
mod router;
mod servers;
mod template;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::reader::{Compiled, Entry};
use self::router::{Conflict, Router};
use crate::model::{
    Api, CanonicalPath, Host, Lifecycle, Matched, Method, Operation, Problem, Query, ResourceRule,
    Route,
};

/// The name of the route, and of the API, of everything that no document describes.
pub const UNDOCUMENTED: &str = "undocumented";

/// The most documents one inventory may hold.
const MAX_DOCUMENTS: usize = 500;
/// The most operations one inventory may hold.
const MAX_OPERATIONS: usize = 50_000;
/// How many problems are told at once.
const MAX_PROBLEMS: usize = 200;

/// All documented operations, and how requests find them.
#[derive(Debug)]
pub struct Inventory {
    apis: Vec<Arc<Api>>,
    operations: Vec<Arc<Operation>>,
    /// Hosts that some document names. Hosts served by the same documents share their router.
    hosts: HashMap<Host, Arc<Router>>,
    /// Every other host.
    elsewhere: Arc<Router>,
    generic: [Arc<Operation>; Method::ALL.len()],
}

impl Inventory {
    /// An inventory without documents: every request is undocumented.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            apis: Vec::new(),
            operations: Vec::new(),
            hosts: HashMap::new(),
            elsewhere: Arc::default(),
            generic: generic_operations(),
        }
    }

    /// Reads documents (file and text), JSON or YAML.
    ///
    /// # Errors
    /// Every mistake in every document, and every two operations that match the same requests: with file, line, column and
    /// a hint where there is one. At most 200 at once.
    pub fn compile(documents: &[(PathBuf, String)]) -> Result<Self, Vec<Problem>> {
        if documents.len() > MAX_DOCUMENTS {
            let message = format!("there are more than {MAX_DOCUMENTS} API documents");
            return Err(vec![Problem::new(message)]);
        }
        let mut problems = Vec::new();
        let compiled: Vec<Compiled> = documents
            .iter()
            .filter_map(|(file, text)| reader::read(file, text, &mut problems))
            .collect();
        problems.extend(find_same_names(&compiled));
        if compiled.iter().map(|one| one.entries.len()).sum::<usize>() > MAX_OPERATIONS {
            let message = format!("the API documents describe more than {MAX_OPERATIONS} operations");
            problems.push(Problem::new(message));
            return Err(bounded(problems));
        }
        let (elsewhere, hosts) = build_routers(&compiled, &mut problems);
        if !problems.is_empty() {
            return Err(bounded(problems));
        }
        Ok(Self {
            operations: compiled
                .iter()
                .flat_map(|one| one.entries.iter())
                .map(|entry| Arc::clone(&entry.operation))
                .collect(),
            apis: compiled.into_iter().map(|one| one.api).collect(),
            hosts,
            elsewhere,
            generic: generic_operations(),
        })
    }

    /// The operation of a request: the documented one, or the generic one of its method.
    #[must_use]
    pub fn find(&self, method: Method, host: &Host, path: &CanonicalPath) -> Matched {
        self.hosts
            .get(host)
            .unwrap_or(&self.elsewhere)
            .find(method, path.segments())
            .unwrap_or_else(|| self.undocumented(method))
    }

    /// The documented operations. Each has an id and a route of its own.
    pub fn operations(&self) -> impl Iterator<Item = &Arc<Operation>> {
        self.operations.iter()
    }

    /// The generic operations, one a method: what undocumented requests are.
    pub fn generic_operations(&self) -> impl Iterator<Item = &Arc<Operation>> {
        self.generic.iter()
    }

    /// The documented APIs.
    pub fn apis(&self) -> impl Iterator<Item = &Arc<Api>> {
        self.apis.iter()
    }

    fn undocumented(&self, method: Method) -> Matched {
        let [get, head, options, post, put, patch, delete] = &self.generic;
        let operation = match method {
            Method::Get => get,
            Method::Head => head,
            Method::Options => options,
            Method::Post => post,
            Method::Put => put,
            Method::Patch => patch,
            Method::Delete => delete,
        };
        Matched {
            operation: Arc::clone(operation),
            parameters: Vec::new(),
        }
    }
}

/// The name of a query parameter that the operation documents with one value and the request gives more than once: two
/// servers would read two values.
#[must_use]
pub fn repeated_parameter<'m>(matched: &'m Matched, query: &Query) -> Option<&'m str> {
    matched
        .operation
        .single_query_parameters
        .iter()
        .find(|name| query.values(name).nth(1).is_some())
        .map(String::as_str)
}

/// Everything unknown stands on the strict side: as internal and as sensitive as can be.
fn generic_operations() -> [Arc<Operation>; Method::ALL.len()] {
    let api = Arc::new(Api {
        name: UNDOCUMENTED.into(),
        version: String::new(),
        lifecycle: Lifecycle::Unknown,
        sunset: None,
        exposure: "internal".to_owned(),
        owner: None,
        data_classes: Vec::new(),
    });
    let route = Arc::new(Route {
        id: UNDOCUMENTED.into(),
        api,
        template: String::new(),
        sensitivity: 3,
        tags: Vec::new(),
        lifecycle: Lifecycle::Unknown,
    });
    Method::ALL.map(|method| {
        Arc::new(Operation {
            id: format!("http:{}", method.as_str()).into(),
            documented: false,
            method,
            route: Arc::clone(&route),
            resource: ResourceRule::Route,
            single_query_parameters: Vec::new(),
        })
    })
}

/// Two APIs of one name; two routes of one name in two APIs, which policies could not tell apart.
fn find_same_names(compiled: &[Compiled]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut apis: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut routes: BTreeMap<&str, &Path> = BTreeMap::new();
    for one in compiled {
        if let Some(first) = apis.insert(&one.api.name, &one.file) {
            let (name, first) = (&one.api.name, first.display());
            let problem = Problem::new(format!("the API name `{name}` is already used in {first}"))
                .in_file(&one.file)
                .hint("set `x-cardea: { api: .. }` in one of the two");
            problems.push(problem);
        }
        for entry in &one.entries {
            let id = &entry.operation.route.id;
            match routes.insert(id, &one.file) {
                Some(first) if first != one.file => {
                    let message = format!(
                        "the route `{id}` is already described in {}, and policies could not tell the two apart",
                        first.display()
                    );
                    problems.push(at_entry(one, entry, message).hint(
                        "set `x-cardea: { qualify_routes: true }` in one of the two, or describe different paths",
                    ));
                }
                _ => {}
            }
        }
    }
    problems
}

/// One router for each set of documents that meet on a host, and one for the hosts that no document names.
fn build_routers(
    compiled: &[Compiled],
    problems: &mut Vec<Problem>,
) -> (Arc<Router>, HashMap<Host, Arc<Router>>) {
    // Documents that meet on several hosts would tell their conflicts once for each.
    let mut conflicts = BTreeSet::new();
    let named: BTreeSet<&Host> = compiled
        .iter()
        .filter_map(|one| one.hosts.as_ref())
        .flatten()
        .collect();
    let mut routers: BTreeMap<Vec<usize>, Arc<Router>> = BTreeMap::new();
    let mut router_for = |host: Option<&Host>| {
        let serving = |one: &Compiled| match &one.hosts {
            None => true,
            Some(hosts) => host.is_some_and(|host| hosts.contains(host)),
        };
        let meeting: Vec<(usize, &Compiled)> = compiled
            .iter()
            .enumerate()
            .filter(|(_, one)| serving(one))
            .collect();
        let key = meeting.iter().map(|(index, _)| *index).collect();
        let build = || Arc::new(build_router(meeting, &mut conflicts));
        Arc::clone(routers.entry(key).or_insert_with(build))
    };
    let elsewhere = router_for(None);
    let hosts = named
        .into_iter()
        .map(|host| (host.clone(), router_for(Some(host))))
        .collect();
    problems.extend(conflicts);
    (elsewhere, hosts)
}

fn build_router(meeting: Vec<(usize, &Compiled)>, conflicts: &mut BTreeSet<Problem>) -> Router {
    let mut router = Router::default();
    for (_, one) in meeting {
        for entry in &one.entries {
            if let Err(conflict) = router.insert(&entry.template, &entry.operation) {
                conflicts.insert(describe(one, entry, &conflict));
            }
        }
    }
    router
}

fn describe(one: &Compiled, entry: &Entry, conflict: &Conflict) -> Problem {
    let own = &entry.operation;
    match conflict {
        Conflict::Same(other) => {
            let message = format!(
                "`{}` (`{}`) matches the same requests as `{}` (`{}`)",
                own.route.id, own.id, other.route.id, other.id
            );
            let problem = at_entry(one, entry, message);
            match own.route.api.name == other.route.api.name {
                true => problem.hint("describe them as one operation"),
                false => problem.hint(
                    "set `x-cardea: { hosts: [..] }` in both documents if they are served on different hosts",
                ),
            }
        }
        Conflict::Crossing => {
            let message = format!(
                "a parameter of `{}` and one of another template match the same segment, and neither says more",
                own.route.id
            );
            at_entry(one, entry, message)
                .hint("write `/v{n}` beside `/{id}.json` only where the text around them cannot meet")
        }
    }
}

fn at_entry(one: &Compiled, entry: &Entry, message: String) -> Problem {
    let mut problem = Problem::new(message).in_file(&one.file);
    problem.at = entry.place;
    problem
}

fn bounded(mut problems: Vec<Problem>) -> Vec<Problem> {
    if let Some(more) = problems.len().checked_sub(MAX_PROBLEMS).filter(|more| *more > 0) {
        problems.truncate(MAX_PROBLEMS);
        problems.push(Problem::new(format!("and {more} more problems")));
    }
    problems
}

#[cfg(test)]
mod tests;

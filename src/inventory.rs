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
//! parameters.rs  which query parameters come once       assembly.rs    all documents together, host by host
//! router.rs      method and path to operation           report.rs      collects the mistakes of a document
//! observed.rs    which operations are observed, and where that is written
//! outline.rs     what documents say for authors alone: security, summaries, the names in paths and bodies
//! ```
//!
//! # What matches
//! - Methods are exact: `HEAD` and `OPTIONS` only where a document describes them.
//! - Segments are compared decoded, byte for byte: case, trailing slash and Unicode form count. A value never crosses a
//!   segment and is never empty.
//! - Fixed text wins over parameters, from left to right, among the operations of the request's method.
//! - A document with `hosts` is served on those only. Without, it is served on any host: then it is up to Envoy's virtual
//!   hosts which names reach it at all. Two documents that meet on a host may not describe the same requests.

mod assembly;
mod document;
mod extension;
mod observed;
mod operations;
mod outline;
mod parameters;
mod reader;
mod report;
mod router;
mod servers;
mod template;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::observed::observed;
pub use self::outline::{Field, Outline, Requirement, Security, outlines};

use self::reader::Compiled;
use self::router::Router;
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
        problems.extend(assembly::find_same_names(&compiled));
        if compiled.iter().map(|one| one.entries.len()).sum::<usize>() > MAX_OPERATIONS {
            let message =
                format!("the API documents describe more than {MAX_OPERATIONS} operations");
            problems.push(Problem::new(message));
            return Err(bounded(problems));
        }
        let (elsewhere, hosts) = assembly::build_routers(&compiled, &mut problems);
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

    /// The documented operations that are observed: what policies would have refused passes.
    pub fn observed(&self) -> impl Iterator<Item = &Arc<Operation>> {
        self.operations
            .iter()
            .filter(|operation| operation.observed)
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
            // What nobody described, nobody can have marked.
            observed: false,
            single_query_parameters: Vec::new(),
        })
    })
}

fn bounded(mut problems: Vec<Problem>) -> Vec<Problem> {
    if let Some(more) = problems
        .len()
        .checked_sub(MAX_PROBLEMS)
        .filter(|more| *more > 0)
    {
        problems.truncate(MAX_PROBLEMS);
        problems.push(Problem::new(format!("and {more} more problems")));
    }
    problems
}

#[cfg(test)]
mod tests;

//! All documents together: names that must differ, and one router for each set of documents that meet on a host.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::reader::{Compiled, Entry};
use super::router::{Conflict, Router};
use crate::model::{Host, Problem};

/// The most places that operations may take in all routers together: documents without `hosts` take one on every host
/// that some other document names.
const MAX_PLACES: usize = 500_000;

/// Two APIs of one name; two routes of one name in two APIs, which policies could not tell apart.
pub(super) fn find_same_names(compiled: &[Compiled]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut apis: BTreeMap<&str, &Compiled> = BTreeMap::new();
    let mut routes: BTreeMap<&str, &Compiled> = BTreeMap::new();
    for one in compiled {
        if let Some(first) = apis.insert(&one.api.name, one) {
            let (name, first) = (&one.api.name, first.file.display());
            let problem = Problem::new(format!("the API name `{name}` is already used in {first}"))
                .in_file(&one.file)
                .hint("set `x-cardea: { api: .. }` in one of the two");
            problems.push(problem);
        }
        for entry in &one.entries {
            let id = &entry.operation.route.id;
            let first = routes.insert(id, one);
            // Where the two meet on a host the router tells it: they match the same requests.
            if let Some(first) = first.filter(|first| !meet(first, one)) {
                let message = format!(
                    "the route `{id}` is already described in {}, and policies could not tell the two apart",
                    first.file.display()
                );
                problems.push(at_entry(one, entry, message).hint(
                    "set `x-cardea: { qualify_routes: true }` in one of the two, or describe different paths",
                ));
            }
        }
    }
    problems
}

/// Whether two documents are served on a common host.
fn meet(one: &Compiled, other: &Compiled) -> bool {
    match (&one.hosts, &other.hosts) {
        (Some(own), Some(others)) => !own.is_disjoint(others),
        _ => true,
    }
}

/// One router for each set of documents that meet on a host, and one for the hosts that no document names.
pub(super) fn build_routers(
    compiled: &[Compiled],
    problems: &mut Vec<Problem>,
) -> (Arc<Router>, HashMap<Host, Arc<Router>>) {
    let mut builder = Builder {
        compiled,
        routers: BTreeMap::new(),
        conflicts: BTreeSet::new(),
        places: 0,
    };
    let elsewhere = builder.router_for(None);
    let named: BTreeSet<&Host> = compiled
        .iter()
        .filter_map(|one| one.hosts.as_ref())
        .flatten()
        .collect();
    let hosts = named
        .into_iter()
        .map(|host| (host.clone(), builder.router_for(Some(host))))
        .collect();
    problems.extend(builder.conflicts);
    (elsewhere, hosts)
}

struct Builder<'c> {
    compiled: &'c [Compiled],
    routers: BTreeMap<Vec<usize>, Arc<Router>>,
    /// A set, for documents that meet on several hosts have the same conflicts on each.
    conflicts: BTreeSet<Problem>,
    places: usize,
}

impl Builder<'_> {
    /// The router of `host`, or of all hosts that no document names.
    fn router_for(&mut self, host: Option<&Host>) -> Arc<Router> {
        let serves = |one: &Compiled| match &one.hosts {
            None => true,
            Some(hosts) => host.is_some_and(|host| hosts.contains(host)),
        };
        let serving: Vec<usize> = self
            .compiled
            .iter()
            .enumerate()
            .filter(|(_, one)| serves(one))
            .map(|(index, _)| index)
            .collect();
        if let Some(router) = self.routers.get(&serving) {
            return Arc::clone(router);
        }
        let router = Arc::new(self.build(&serving));
        self.routers.insert(serving, Arc::clone(&router));
        router
    }

    fn build(&mut self, serving: &[usize]) -> Router {
        let mut router = Router::default();
        for one in serving.iter().filter_map(|index| self.compiled.get(*index)) {
            self.places = self.places.saturating_add(one.entries.len());
            if self.places > MAX_PLACES {
                let message = "the API documents name too many hosts for their operations";
                let hint = format!(
                    "hosts times the operations served on them may be {MAX_PLACES}: name fewer, or leave `hosts` out"
                );
                self.conflicts.insert(Problem::new(message).hint(hint));
                break;
            }
            for entry in &one.entries {
                if let Err(conflict) = router.insert(&entry.template, &entry.operation) {
                    self.conflicts.insert(describe(one, entry, &conflict));
                }
            }
        }
        router
    }
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
            problem.hint(if own.route.api.name == other.route.api.name {
                "describe them as one operation"
            } else {
                "set `x-cardea: { hosts: [..] }` in both documents if they are served on different hosts"
            })
        }
        Conflict::Crossing => {
            let message = format!(
                "a parameter of `{}` and one of another template match the same segment, and neither says more",
                own.route.id
            );
            at_entry(one, entry, message).hint(
                "write `/v{n}` beside `/{id}.json` only where the text around them cannot meet",
            )
        }
    }
}

fn at_entry(one: &Compiled, entry: &Entry, message: String) -> Problem {
    let mut problem = Problem::new(message).in_file(&one.file);
    problem.at = entry.place;
    problem
}

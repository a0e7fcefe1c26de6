//! Base paths: what `servers` say stands before every template.
//!
//! Only the path of a server's URL is used. Its host is not: `servers` often name production alone, and a request to
//! another host would silently fall out of the inventory. `x-cardea.hosts` says it on purpose.

use serde_saphyr::Spanned;

use super::document::{Server, place};
use super::report::{MAX_SHOWN, Report};
use super::template::read_base;
use crate::model::shown;

/// The one base path of a list of servers. `None` where it cannot be told; the report says why.
pub(super) fn base_path(report: &mut Report<'_>, servers: &[Spanned<Server>]) -> Option<String> {
    let mut base: Option<String> = None;
    for server in servers {
        let at = place(server);
        let path = match path_of(&server.value) {
            Ok(path) => path,
            Err(message) => {
                let url = shown(&server.value.url, MAX_SHOWN);
                report.hinted(
                    at,
                    format!("the server URL `{url}` {message}"),
                    "set `x-cardea: { base_path: .. }` at the top of the document to say it once",
                );
                return None;
            }
        };
        match &base {
            Some(first) if *first != path => {
                report.hinted(
                    at,
                    format!("the servers give two base paths, `{first}/` and `{path}/`"),
                    "set `x-cardea: { base_path: .. }` to the one that requests carry where Envoy asks",
                );
                return None;
            }
            _ => base = Some(path),
        }
    }
    Some(base.unwrap_or_default())
}

/// The path of a server's URL without its trailing slash.
fn path_of(server: &Server) -> Result<String, String> {
    let url = server.url.as_str();
    let after_scheme = url.split_once("://").map(|(_, rest)| rest);
    let path = match after_scheme.or_else(|| url.strip_prefix("//")) {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or(""),
        None => url,
    };
    let path = fill_in(server, path)?;
    if path.contains(['?', '#']) {
        return Err("holds a query or a fragment".to_owned());
    }
    if !path.is_empty() && !path.starts_with('/') {
        return Err("is relative to the document, whose own address is not known".to_owned());
    }
    match read_base(&path) {
        Ok(base) => Ok(base.to_owned()),
        Err(error) => Err(format!("has an unusable path: {error}")),
    }
}

/// Server variables stand for their defaults.
fn fill_in(server: &Server, path: &str) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("holds an unpaired brace")?;
        let variable = server
            .variables
            .get(name)
            .ok_or("holds a variable that `variables` does not name")?;
        filled.push_str(before);
        filled.push_str(&variable.default);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

//! From one document to its API: who it is, where it is served, and that it can be read at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_saphyr::Spanned;

use super::document::{Document, Place, place};
use super::extension::DocumentExtension;
use super::operations::OperationReader;
use super::report::{MAX_SHOWN, Report};
use super::servers::base_path;
use super::template::{Template, read_base};
use crate::model::{Api, Host, Lifecycle, Operation, Problem, shown, yaml};

/// The most hosts one document may name.
const MAX_HOSTS: usize = 64;
/// The most bytes an API's name may have.
const MAX_API_NAME: usize = 64;
/// The most data classes one API may have.
const MAX_DATA_CLASSES: usize = 32;
/// The most roles one document or operation may name.
pub(super) const MAX_ROLES: usize = 32;
/// The most bytes of an owner, a role, a data class, a tag or a kind.
const MAX_WORD: usize = 128;

/// A document that has been read.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) file: PathBuf,
    pub(super) api: Arc<Api>,
    /// The hosts it is served on; `None` for any.
    pub(super) hosts: Option<BTreeSet<Host>>,
    pub(super) entries: Vec<Entry>,
}

/// One operation, and which requests are requests for it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) template: Template,
    pub(super) operation: Arc<Operation>,
    pub(super) place: Place,
}

/// Reads one document. Problems go to `problems`; what could be read is given all the same, so that mistakes between
/// documents show in the same run.
pub(super) fn read(file: &Path, text: &str, problems: &mut Vec<Problem>) -> Option<Compiled> {
    let document = match yaml::parse(text) {
        Ok(document) => document,
        Err(problem) => {
            problems.push(problem.in_file(file));
            return None;
        }
    };
    let mut report = Report::new(file, problems);
    let known = version_is_known(&mut report, &document);
    let api = read_api(&mut report, &document);
    let hosts = read_hosts(&mut report, &document.extension);
    let base = read_document_base(&mut report, &document);
    // What hangs on these is not read without them: it would only repeat the same mistake.
    let (true, Some(api), Some(base)) = (known, api.map(Arc::new), base) else {
        return None;
    };
    let entries = OperationReader::new(report, &document, Arc::clone(&api)).read(&base);
    Some(Compiled {
        file: file.to_owned(),
        api,
        hosts,
        entries,
    })
}

fn version_is_known(report: &mut Report<'_>, document: &Document) -> bool {
    let hint = "documents of OpenAPI 3.0 and 3.1 are understood";
    let Some(version) = &document.openapi else {
        report.hinted(None, "the document does not say `openapi: ..`", hint);
        return false;
    };
    let known = ["3.0", "3.1"]
        .iter()
        .filter_map(|known| version.value.strip_prefix(known))
        .any(|rest| rest.is_empty() || rest.starts_with('.'));
    if !known {
        let text = shown(&version.value, 16);
        let message = format!("OpenAPI version `{text}` is not known");
        report.hinted(place(version), message, hint);
    }
    known
}

fn read_api(report: &mut Report<'_>, document: &Document) -> Option<Api> {
    let extension = &document.extension;
    let sunset = extension.sunset.as_ref();
    words(report, &extension.roles, "role", MAX_ROLES);
    Some(Api {
        version: shown(&document.info.version, MAX_SHOWN).into_owned(),
        lifecycle: extension.lifecycle.map_or(Lifecycle::Active, Into::into),
        sunset: sunset.and_then(|text| read_sunset(report, text)),
        exposure: extension.exposure.as_str().to_owned(),
        owner: words(report, extension.owner.as_ref(), "owner", 1).pop(),
        data_classes: words(
            report,
            &extension.data_classes,
            "data class",
            MAX_DATA_CLASSES,
        ),
        name: read_api_name(report, extension)?,
    })
}

/// `x-cardea.api`, else the file's name. It holds no dot, so that the first dot in an action's id ends the API's name and
/// no two operations can share an id.
fn read_api_name(report: &mut Report<'_>, extension: &DocumentExtension) -> Option<Arc<str>> {
    let stem = report.file.file_stem().and_then(|stem| stem.to_str());
    let stated = extension.api.as_ref();
    let at = stated.and_then(place);
    let name = stated.map_or(stem.unwrap_or_default(), |name| &name.value);
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > MAX_API_NAME || !name.bytes().all(valid) {
        let name = shown(name, MAX_API_NAME);
        report.hinted(
            at,
            format!("`{name}` is no name for an API"),
            "set `x-cardea: { api: .. }` to at most 64 ASCII letters, digits, `-` and `_`",
        );
        return None;
    }
    if name == super::UNDOCUMENTED {
        report.problem(at, format!("the API name `{name}` is reserved"));
        return None;
    }
    Some(name.into())
}

fn read_sunset(report: &mut Report<'_>, text: &Spanned<String>) -> Option<Timestamp> {
    let parsed = text.value.parse();
    if parsed.is_err() {
        report.hinted(
            place(text),
            "`sunset` is no date and time",
            "write it by RFC 3339, such as `2027-01-31T00:00:00Z`",
        );
    }
    parsed.ok()
}

fn read_hosts(report: &mut Report<'_>, extension: &DocumentExtension) -> Option<BTreeSet<Host>> {
    let list = extension.hosts.as_ref()?;
    if list.value.is_empty() || list.value.len() > MAX_HOSTS {
        report.hinted(
            place(list),
            format!("`hosts` names 1 to {MAX_HOSTS} hosts"),
            "leave it out to serve the API on any host",
        );
    }
    let mut hosts = BTreeSet::new();
    for host in list.value.iter().take(MAX_HOSTS) {
        match Host::parse(&host.value) {
            Ok(parsed) => {
                hosts.insert(parsed);
            }
            Err(error) => {
                let text = shown(&host.value, MAX_SHOWN);
                report.problem(place(host), format!("`{text}` is no host: {error}"));
            }
        }
    }
    Some(hosts)
}

fn read_document_base(report: &mut Report<'_>, document: &Document) -> Option<String> {
    let Some(base) = &document.extension.base_path else {
        return base_path(report, &document.servers);
    };
    match read_base(&base.value) {
        Ok(path) => Some(path.to_owned()),
        Err(error) => {
            report.problem(place(base), format!("`base_path`: {error}"));
            None
        }
    }
}

/// Words that become entity ids or attribute values: printable, bounded in length and number, each once.
pub(super) fn words<'d>(
    report: &mut Report<'_>,
    words: impl IntoIterator<Item = &'d Spanned<String>>,
    what: &str,
    max: usize,
) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for word in words {
        let at = place(word);
        if !is_printable(&word.value) {
            report.problem(
                at,
                format!("this {what} is empty, longer than {MAX_WORD} bytes, or not printable"),
            );
        } else if !kept.contains(&word.value) {
            kept.push(word.value.clone());
        }
        if kept.len() > max {
            report.problem(at, format!("there are more than {max} of the kind {what}"));
            break;
        }
    }
    kept
}

/// Whether a word can be shown as it is, in a policy, a log or a header.
pub(super) fn is_printable(word: &str) -> bool {
    !word.is_empty() && word.len() <= MAX_WORD && shown(word, MAX_WORD) == word
}

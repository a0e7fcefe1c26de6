//! `cardea generate`: from API documents to Cedar.

mod policies;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;

use super::print;
use crate::inventory::{Field, Inventory, Outline, Security, outlines};
use crate::model::{Operation, Problem, ResourceRule, yaml};
use crate::pipeline::BundleSettings;
use crate::policy::{BundleFiles, Document, VOCABULARY, schema_text};

#[derive(Debug, clap::Args)]
pub(super) struct GenerateCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The schema a bundle is judged by: the vocabulary, and an action for each operation
    Schema {
        #[command(flatten)]
        from: From,
    },
    /// A starter set: one permit for each operation, as narrow as its document says
    Policies {
        #[command(flatten)]
        from: From,
        /// Only the operations of this API
        #[arg(long, value_name = "NAME")]
        api: Option<String>,
        /// The audience tokens must be for, in place of the placeholder
        #[arg(long, value_name = "AUDIENCE")]
        audience: Option<String>,
    },
}

/// Which documents to read.
#[derive(Debug, clap::Args)]
struct From {
    /// The folder that holds a bundle
    #[arg(
        short,
        long,
        value_name = "FOLDER",
        env = "CARDEA_BUNDLE",
        conflicts_with = "files"
    )]
    bundle: Option<PathBuf>,
    /// OpenAPI documents, judged by the vocabulary that Cardea ships; without them, the bundle's
    #[arg(value_name = "FILES")]
    files: Vec<PathBuf>,
}

/// What was read.
struct Source {
    schema: Vec<Document>,
    apis: Vec<(PathBuf, String)>,
}

pub(super) fn run(command: &GenerateCommand) -> Result<(), Vec<Problem>> {
    let text = match &command.what {
        What::Schema { from } => schema(&from.read()?)?,
        What::Policies {
            from,
            api,
            audience,
        } => {
            let outlines = outlines(&from.read()?.apis)?;
            let outlines = of_api(outlines, api.as_deref())?;
            policies::starter_set(&outlines, audience.as_deref())
        }
    };
    print(&text);
    Ok(())
}

impl From {
    fn read(&self) -> Result<Source, Vec<Problem>> {
        if self.files.is_empty() {
            let folder = match &self.bundle {
                Some(folder) => folder.clone(),
                None => BundleSettings::default().path,
            };
            let files = BundleFiles::read(&folder)?;
            return Ok(Source {
                schema: files.schema,
                apis: files.apis.into_iter().map(|d| (d.path, d.text)).collect(),
            });
        }
        let mut apis = Vec::new();
        let mut problems = Vec::new();
        for file in &self.files {
            match read(file) {
                Ok(text) => apis.push((file.clone(), text)),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Source {
            schema: vec![Document {
                path: "cardea.cedarschema".into(),
                text: VOCABULARY.to_owned(),
            }],
            apis,
        })
    }
}

/// Reads a document, no more of it than one may hold.
fn read(file: &Path) -> Result<String, Problem> {
    use std::io::Read;
    let cannot = |error: std::io::Error| {
        Problem::new(format!("cannot read the document: {error}")).in_file(file)
    };
    let mut text = String::new();
    // One byte more than may be read tells that there is more.
    let most = u64::try_from(yaml::MAX_BYTES).unwrap_or(u64::MAX);
    std::fs::File::open(file)
        .map_err(cannot)?
        .take(most.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(cannot)?;
    Ok(text)
}

fn schema(source: &Source) -> Result<String, Vec<Problem>> {
    // What a bundle is judged by does not hang on what its documents say of security.
    let inventory = Inventory::compile(&source.apis)?;
    let operations: Vec<Arc<Operation>> = inventory.operations().cloned().collect();
    let notes: BTreeMap<Arc<str>, Vec<String>> = outlines(&source.apis)?
        .iter()
        .map(|outline| (Arc::clone(&outline.operation.id), notes(outline)))
        .collect();
    schema_text(&source.schema, &operations, &notes)
}

fn of_api(outlines: Vec<Outline>, api: Option<&str>) -> Result<Vec<Outline>, Vec<Problem>> {
    let mut names: Vec<String> = outlines
        .iter()
        .map(|o| format!("`{}`", name_of(o)))
        .collect();
    names.dedup();
    let kept: Vec<Outline> = outlines
        .into_iter()
        .filter(|outline| api.is_none_or(|api| name_of(outline) == api))
        .collect();
    match (kept.is_empty(), api) {
        (false, _) => Ok(kept),
        (true, Some(api)) if !names.is_empty() => Err(vec![
            Problem::new(format!("no document describes an API `{api}`"))
                .hint(format!("there is {}", names.join(", "))),
        ]),
        (true, _) => Err(vec![
            Problem::new("the documents describe no operations")
                .hint("put OpenAPI documents below `apis/`, or name them"),
        ]),
    }
}

fn name_of(outline: &Outline) -> &str {
    &outline.operation.route.api.name
}

/// What an author should know of an operation, line by line.
fn notes(outline: &Outline) -> Vec<String> {
    let mut notes = vec![title(outline)];
    let route = &outline.operation.route;
    notes.push(match &outline.operation.resource {
        ResourceRule::Route => format!("resource: Cardea::Route::\"{}\"", route.id),
        ResourceRule::Object { kind, id } => {
            let id: Vec<String> = id.iter().map(|name| format!("{{{name}}}")).collect();
            let (api, id) = (&route.api.name, id.join("/"));
            format!(
                "resource: Cardea::Object::\"{api}/{kind}/{id}\", in Cardea::Route::\"{}\"",
                route.id
            )
        }
    });
    let tags = route
        .tags
        .iter()
        .map(|tag| format!(", Cardea::Tag::\"{tag}\""));
    notes.push(format!(
        "in: Cardea::Api::\"{}\"{}; sensitivity {}, {}",
        route.api.name,
        tags.collect::<String>(),
        route.sensitivity,
        route.lifecycle.as_str(),
    ));
    notes.extend(security_note(&outline.security));
    for Field { name, kind } in &outline.parameters {
        notes.push(format!(
            "context.request.params.getTag(\"{name}\"): {kind}, always read as a String"
        ));
    }
    // Named all the same: an author should know what the contract holds, and that no rule can ask for it.
    for Field { name, kind } in &outline.body {
        notes.push(format!(
            "body field `{name}`: {kind}; no policy can read it yet"
        ));
    }
    notes
}

fn title(outline: &Outline) -> String {
    let Outline {
        operation, summary, ..
    } = outline;
    let (method, template) = (operation.method.as_str(), &operation.route.template);
    match summary {
        Some(summary) => format!("{method} {template}: {summary}"),
        None => format!("{method} {template}"),
    }
}

fn security_note(security: &Security) -> Option<String> {
    match security {
        Security::Unstated => None,
        Security::Public => Some("security: none, everybody may".to_owned()),
        Security::AnyOf(alternatives) => {
            let alternatives = alternatives.iter().map(|one| {
                let named = [&*one.scopes, &*one.roles].concat().join(" ");
                let schemes = one.schemes.join(" and ");
                if named.is_empty() {
                    schemes
                } else {
                    format!("{schemes} ({named})")
                }
            });
            let alternatives: Vec<String> = alternatives.collect();
            Some(format!("security: {}", alternatives.join(", or ")))
        }
    }
}

#[cfg(test)]
mod tests;

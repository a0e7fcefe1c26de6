//! Policies as they are written: parsed, named, placed.

use std::collections::HashSet;
use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;
use std::sync::Arc;

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationError, ValidationResult};
use cedar_policy_core::ast;

use super::bounds::{Grammar, Measure};
use super::bundle::Document;
use super::links::{Places, Templates};
use super::nearest::nearest;
use super::obligation::Obligation;
use super::slice::CompiledPolicy;
use super::validate::Grounds;
use crate::model::{Problem, line_and_column};

/// The most of the validator's findings that are told: each is placed by reading its file.
const MAX_TOLD: usize = 1000;

/// The policies of a bundle: as one set for the validator, and taken apart for the judge.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) set: PolicySet,
    pub(super) compiled: Vec<Arc<CompiledPolicy>>,
    /// Where each policy stands.
    pub(super) places: Places,
}

impl Sources {
    /// Parses every file of a bundle's policies, of which there must be one at least.
    pub(super) fn parse(documents: &[Document], links: &[Document]) -> Result<Self, Vec<Problem>> {
        let sources = Self::read(documents, links)?;
        if sources.compiled.is_empty() {
            return Err(vec![
                Problem::new("the bundle holds no policy")
                    .hint("an empty bundle would deny everything; write at least one `permit` in a `.cedar` file"),
            ]);
        }
        Ok(sources)
    }

    /// Parses every file and names every policy: by `@id`, else by file and number, so that an edit elsewhere shifts no
    /// name. Templates are linked as `links` say.
    pub(super) fn read(documents: &[Document], links: &[Document]) -> Result<Self, Vec<Problem>> {
        let mut sources = Self::default();
        let mut templates = Templates::default();
        let mut problems = Vec::new();
        let mut measure = Measure::new(Grammar::Policies);
        for document in documents {
            if let Err(limit) = measure.take(document) {
                problems.push(limit);
                continue;
            }
            match document.text.parse::<PolicySet>() {
                Ok(set) => problems.extend(sources.add(&set, &mut templates, document)),
                Err(error) => problems.push(problem(&error, document)),
            }
        }
        problems.extend(templates.link(&mut sources, links));
        problems.extend(templates.unlinked());
        if problems.is_empty() {
            Ok(sources)
        } else {
            Err(problems)
        }
    }

    fn add(
        &mut self,
        set: &PolicySet,
        templates: &mut Templates,
        document: &Document,
    ) -> Vec<Problem> {
        let mut policies: Vec<(usize, &Policy)> = set
            .policies()
            .map(|policy| (offset(policy.as_ref()), policy))
            .collect();
        policies.sort_by_key(|(offset, _)| *offset);
        let stem = document
            .path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let lines = Lines::of(&document.text);
        let mut problems = Vec::new();
        for (number, (offset, policy)) in policies.into_iter().enumerate() {
            let name = policy
                .annotation("id")
                .map_or_else(|| format!("{stem}#{}", number + 1), str::to_owned);
            let (line, column) = lines.place(offset);
            let place = |message: String| {
                Problem::new(message)
                    .in_file(&document.path)
                    .at(line, column)
            };
            let at = (document.path.clone(), line, column);
            if let Err(wrong) = self.add_policy(policy, &name, at) {
                problems.extend(wrong.into_iter().map(place));
            }
        }
        for template in set.templates() {
            let (line, column) = lines.place(template_offset(template));
            let at = (document.path.clone(), line, column);
            if let Err(wrong) = templates.add(self, template, at) {
                let place = |message| {
                    Problem::new(message)
                        .in_file(&document.path)
                        .at(line, column)
                };
                problems.extend(wrong.into_iter().map(place));
            }
        }
        problems
    }

    fn add_policy(
        &mut self,
        policy: &Policy,
        name: &str,
        place: (PathBuf, usize, usize),
    ) -> Result<(), Vec<String>> {
        check_name(name)?;
        let id = PolicyId::new(name);
        self.set.add(policy.new_id(id.clone())).map_err(|_| {
            vec![format!(
                "the policy id `{name}` is taken: ids are unique over all files"
            )]
        })?;
        self.take(&id, place)
    }

    /// Takes apart a policy of the set.
    pub(super) fn take(
        &mut self,
        id: &PolicyId,
        place: (PathBuf, usize, usize),
    ) -> Result<(), Vec<String>> {
        let unknown = || vec!["the policy has an unfilled slot".to_owned()];
        let policy = self.set.policy(id).ok_or_else(unknown)?;
        let obligation = Obligation::of(policy.as_ref())?;
        let compiled = CompiledPolicy::new(policy.as_ref(), obligation).ok_or_else(unknown)?;
        self.places.insert(Arc::clone(&compiled.id), place);
        self.compiled.push(Arc::new(compiled));
        Ok(())
    }

    /// Validates strictly, and that no policy follows more than one step away from principal, resource and context.
    pub(super) fn validate(&self, grounds: &Grounds) -> Vec<Problem> {
        let schema = grounds.whole();
        let results = grounds.validate(&self.set, Some(1));
        // One mistake shows once for each kind of request the policy may apply to: its first showing says it all.
        let mut problems: Vec<_> = results
            .iter()
            .flat_map(ValidationResult::validation_errors)
            .take(MAX_TOLD)
            .map(|error| (self.mistaken(error, schema), mistake(error)))
            .collect();
        problems.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut told = HashSet::new();
        problems.retain(|(_, mistake)| told.insert(mistake.clone()));
        problems.into_iter().map(|(problem, _)| problem).collect()
    }

    /// What the validator found, where it points.
    fn mistaken(&self, error: &ValidationError, schema: &Schema) -> Problem {
        let id: &str = error.policy_id().as_ref();
        let problem = Problem::new(error.to_string());
        let problem = match self.places.get(id) {
            Some((file, line, column)) => {
                let (line, column) = self.label(id, error).unwrap_or((*line, *column));
                problem.in_file(file).at(line, column)
            }
            None => problem,
        };
        let hint = match error {
            ValidationError::UnrecognizedActionId(_) => self.meant(id, error, schema),
            _ => help(error),
        };
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }

    /// Where in a policy's file the validator points.
    fn label(&self, id: &str, error: &ValidationError) -> Option<(usize, usize)> {
        let offset = miette::Diagnostic::labels(error)?.next()?.offset();
        Some(line_and_column(self.text_of(id)?, offset))
    }

    /// The text a policy or template stands in. A link stands in no such text, and what it says is its template's.
    fn text_of(&self, id: &str) -> Option<&str> {
        let id = PolicyId::new(id);
        let loc = if let Some(template) = self.set.template(&id) {
            AsRef::<ast::Template>::as_ref(template).loc()
        } else {
            let policy = self.set.policy(&id).filter(|policy| policy.is_static())?;
            AsRef::<ast::Policy>::as_ref(policy).loc()
        };
        Some(&loc?.src)
    }

    /// The action that an unknown one was meant to be. (Cedar's own guess knows no operations.)
    fn meant(&self, id: &str, error: &ValidationError, schema: &Schema) -> Option<String> {
        let label = miette::Diagnostic::labels(error)?.next()?;
        let end = label.offset() + label.len();
        let written = self.text_of(id)?.get(label.offset()..end)?;
        let name = written.split('"').nth(1)?;
        let mut known: Vec<&str> = schema.actions().map(|uid| uid.id().unescaped()).collect();
        known.sort_unstable();
        Some(match nearest(name, known.into_iter()) {
            Some(meant) => format!("did you mean `Cardea::Action::\"{meant}\"`?"),
            None => "`cardea generate schema` shows the action of every operation".to_owned(),
        })
    }
}

/// Where the lines of a text begin: to place every policy of a file without reading the file for each.
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(starts).collect(),
        }
    }

    /// As [`line_and_column`] says it.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied();
        let within = self.text.get(start.unwrap_or_default()..offset);
        (line, within.map_or(0, |text| text.chars().count()) + 1)
    }
}

/// Ids travel in headers, metadata and comma-joined lists.
pub(super) fn check_name(name: &str) -> Result<(), Vec<String>> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | ',');
    if !name.is_empty() && name.len() <= 128 && name.chars().all(plain) {
        return Ok(());
    }
    let message = "a policy's id must be 1 to 128 visible ASCII characters without quotes, commas or backslashes";
    Err(vec![message.to_owned()])
}

/// What makes a mistake the same one: the policy, the kind of mistake, and where in the text it is.
fn mistake(error: &ValidationError) -> (String, Discriminant<ValidationError>, String) {
    let mut labels = miette::Diagnostic::labels(error).into_iter().flatten();
    let place = labels.next().map_or_else(
        || error.to_string(),
        |label| format!("{}+{}", label.offset(), label.len()),
    );
    let policy: &str = error.policy_id().as_ref();
    (policy.to_owned(), discriminant(error), place)
}

/// A Cedar error, placed in its file.
pub(super) fn problem<E: miette::Diagnostic>(error: &E, document: &Document) -> Problem {
    let offset = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map_or(0, |label| label.offset());
    let (line, column) = line_and_column(&document.text, offset);
    let problem = Problem::new(Chain(error).to_string())
        .in_file(&document.path)
        .at(line, column);
    match help(error) {
        Some(help) => problem.hint(help),
        None => problem,
    }
}

/// What Cedar says of what it expected instead: as its help, else beside the place.
fn help<E: miette::Diagnostic>(error: &E) -> Option<String> {
    error.help().map(|help| help.to_string()).or_else(|| {
        let mut labels = error.labels()?;
        labels.find_map(|label| label.label().map(str::to_owned))
    })
}

/// An error with its causes, in one line.
pub(super) struct Chain<'a, E>(pub(super) &'a E);

impl<E: std::error::Error> std::fmt::Display for Chain<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn offset(policy: &ast::Policy) -> usize {
    policy.loc().map_or(0, |loc| loc.span.offset())
}

fn template_offset(template: &cedar_policy::Template) -> usize {
    let template: &ast::Template = template.as_ref();
    template.loc().map_or(0, |loc| loc.span.offset())
}

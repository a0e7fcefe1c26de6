//! Policies as they are written: parsed, named, placed.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{
    Policy, PolicyId, PolicySet, Schema, ValidationError, ValidationMode, Validator,
};
use cedar_policy_core::ast;

use super::bundle::Document;
use super::nearest::nearest;
use super::obligation::Obligation;
use super::slice::CompiledPolicy;
use crate::model::{Problem, line_and_column};

/// The policies of a bundle: as one set for the validator, and taken apart for the judge.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) set: PolicySet,
    pub(super) compiled: Vec<Arc<CompiledPolicy>>,
    /// Where each policy stands.
    pub(super) places: HashMap<Arc<str>, (std::path::PathBuf, usize, usize)>,
}

impl Sources {
    /// Parses every file and names every policy: by `@id`, else by file and number, so that an edit elsewhere shifts no
    /// name.
    pub(super) fn parse(documents: &[Document]) -> Result<Self, Vec<Problem>> {
        let mut sources = Self::default();
        let mut problems = Vec::new();
        for document in documents {
            match document.text.parse::<PolicySet>() {
                Ok(set) => problems.extend(sources.add(&set, document)),
                Err(error) => problems.push(problem(&error, document)),
            }
        }
        if problems.is_empty() && sources.compiled.is_empty() {
            problems.push(
                Problem::new("the bundle holds no policy")
                    .hint("an empty bundle would deny everything; write at least one `permit` in a `.cedar` file"),
            );
        }
        if problems.is_empty() {
            Ok(sources)
        } else {
            Err(problems)
        }
    }

    fn add(&mut self, set: &PolicySet, document: &Document) -> Vec<Problem> {
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
        let mut problems = Vec::new();
        for (number, (offset, policy)) in policies.into_iter().enumerate() {
            let name = policy
                .annotation("id")
                .map_or_else(|| format!("{stem}#{}", number + 1), str::to_owned);
            let (line, column) = line_and_column(&document.text, offset);
            let place = |message: String| {
                Problem::new(message)
                    .in_file(&document.path)
                    .at(line, column)
            };
            match self.add_policy(policy, &name) {
                Ok(()) => {
                    let place = (document.path.clone(), line, column);
                    self.places.insert(name.into(), place);
                }
                Err(wrong) => problems.extend(wrong.into_iter().map(place)),
            }
        }
        for template in set.templates() {
            let (line, column) = line_and_column(&document.text, template_offset(template));
            problems.push(
                Problem::new("a template that nothing links would never apply")
                    .in_file(&document.path)
                    .at(line, column)
                    .hint("write it as a policy, with its principal and resource filled in"),
            );
        }
        problems
    }

    fn add_policy(&mut self, policy: &Policy, name: &str) -> Result<(), Vec<String>> {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | ',');
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
            let message = "a policy's id must be 1 to 128 visible ASCII characters without quotes, commas or backslashes";
            return Err(vec![message.to_owned()]);
        }
        let obligation = Obligation::of(policy.as_ref())?;
        let named = policy.new_id(PolicyId::new(name));
        let compiled = CompiledPolicy::new(named.as_ref(), obligation)
            .ok_or_else(|| vec!["the policy has an unfilled slot".to_owned()])?;
        self.set.add(named).map_err(|_| {
            vec![format!(
                "the policy id `{name}` is taken: ids are unique over all files"
            )]
        })?;
        self.compiled.push(Arc::new(compiled));
        Ok(())
    }

    /// Validates strictly, and that no policy follows more than one step away from principal, resource and context.
    pub(super) fn validate(&self, schema: &Schema) -> Vec<Problem> {
        let result = Validator::new(schema.clone()).validate_with_level(
            &self.set,
            ValidationMode::Strict,
            1,
        );
        let problems = result.validation_errors().map(|error| {
            let id: &str = error.policy_id().as_ref();
            let problem = Problem::new(error.to_string());
            let problem = match self.places.get(id) {
                Some((file, line, column)) => {
                    let (line, column) = self.label(id, error).unwrap_or((*line, *column));
                    problem.in_file(file).at(line, column)
                }
                None => problem,
            };
            let meant = match error {
                ValidationError::UnrecognizedActionId(_) => self.meant(id, error, schema),
                _ => help(error),
            };
            match meant {
                Some(hint) => problem.hint(hint),
                None => problem,
            }
        });
        folded(problems.collect())
    }

    /// Where in a policy's file the validator points.
    fn label<E: miette::Diagnostic>(&self, id: &str, error: &E) -> Option<(usize, usize)> {
        let policy: &ast::Policy = self.set.policy(&PolicyId::new(id))?.as_ref();
        let offset = error.labels()?.next()?.offset();
        Some(line_and_column(&policy.loc()?.src, offset))
    }

    /// The action that an unknown one was meant to be. (Cedar's own guess knows no operations.)
    fn meant<E: miette::Diagnostic>(&self, id: &str, error: &E, schema: &Schema) -> Option<String> {
        let policy: &ast::Policy = self.set.policy(&PolicyId::new(id))?.as_ref();
        let label = error.labels()?.next()?;
        let written = policy
            .loc()?
            .src
            .get(label.offset()..label.offset() + label.len())?;
        let name = written.split('"').nth(1)?;
        let mut known: Vec<&str> = schema.actions().map(|uid| uid.id().unescaped()).collect();
        known.sort_unstable();
        Some(match nearest(name, known.into_iter()) {
            Some(meant) => format!("did you mean `Cardea::Action::\"{meant}\"`?"),
            None => "`cardea generate schema` shows the action of every operation".to_owned(),
        })
    }
}

/// One problem for each mistake, sorted: a policy that speaks of many actions is told once what is wrong with it, and not
/// once an action.
fn folded(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort();
    let mut kept: Vec<(Problem, String, usize)> = Vec::new();
    for problem in problems {
        let kind = without_action(&problem.message);
        // Sorted, so what stands in the same place stands together.
        let mut here = kept
            .iter_mut()
            .rev()
            .take_while(|(first, _, _)| (&first.file, first.at) == (&problem.file, problem.at));
        match here.find(|(_, known, _)| *known == kind) {
            Some((_, _, more)) => *more += 1,
            None => kept.push((problem, kind, 0)),
        }
    }
    let told = kept.into_iter().map(|(mut problem, _, more)| {
        if more > 0 {
            problem.message = format!("{} (and for {more} more actions)", problem.message);
        }
        problem
    });
    told.collect()
}

/// A message without the action it is about.
fn without_action(message: &str) -> String {
    const ACTION: &str = "Cardea::Action::\"";
    let Some((before, rest)) = message.split_once(ACTION) else {
        return message.to_owned();
    };
    let after = rest.split_once('"').map_or("", |(_, after)| after);
    format!("{before}{ACTION}{after}")
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

//! `cardea check`: validate settings and bundle, run the bundle's tests, and show every mistake where it stands.

mod settings;

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use serde::Serialize;

use super::excerpt::{Severity, render};
use super::{ConfigArgument, print};
use crate::app;
use crate::config::Config;
use crate::identity::KubernetesSettings;
use crate::inventory::{Security, observed, outlines};
use crate::model::{Operation, Problem, SystemClock};
use crate::pipeline::{BundleSettings, Snapshot, trial};
use crate::policy::{BundleFiles, Surroundings};

/// The rule of a document whose `security` names what it does not have.
const UNKNOWN_SCHEME: &str = "unknown_security_scheme";
/// The rule of an operation where what policies do not permit passes.
const OBSERVED: &str = "observed_operation";
/// The rule of settings that name an API which no document describes.
const UNKNOWN_API: &str = "unknown_api";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 no mistake; 1 no mistake, but a warning and `--deny-warnings`; 2 a mistake in arguments, \
settings or bundle, or a test of the bundle that fails."
)]
pub(super) struct CheckCommand {
    #[command(flatten)]
    config: ConfigArgument,
    /// How to tell what was found
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,
    /// Fail where there is a warning, too
    #[arg(long)]
    deny_warnings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: each with its line, on standard error
    Text,
    /// For editors and pipelines: one JSON object on standard output
    Json,
}

/// Tells what was found. Returns whether all is well, or well enough.
pub(super) fn run(command: &CheckCommand) -> Result<bool, Vec<Problem>> {
    let report = Report::of(&command.config);
    match command.format {
        Format::Json => print(&report.json()?),
        Format::Text => {
            // With nowhere left to complain to, the exit code has to do.
            let _ = std::io::stderr()
                .lock()
                .write_all(report.findings().as_bytes());
            print(&report.conclusion());
        }
    }
    if report.errors.is_empty() {
        Ok(report.warnings.is_empty() || !command.deny_warnings)
    } else {
        // Everything is told already.
        Err(Vec::new())
    }
}

/// What was found.
#[derive(Debug, Default)]
struct Report {
    errors: Vec<Problem>,
    warnings: Vec<(&'static str, Problem)>,
    /// The bundle, where it can be used.
    bundle: Option<Bundle>,
    /// Whether the bundle is elsewhere, and nothing of it is kept here.
    unseen: bool,
    /// The texts that problems stand in.
    texts: HashMap<PathBuf, String>,
}

fn bundle_at(path: PathBuf) -> BundleSettings {
    BundleSettings {
        path,
        ..BundleSettings::default()
    }
}

/// What a bundle that can be used holds.
#[derive(Debug, Clone, Serialize)]
struct Bundle {
    digest: String,
    policies: usize,
    operations: usize,
    apis: usize,
    entities: usize,
    /// Operations where what policies do not permit passes; each has its warning.
    observed: usize,
}

impl Report {
    fn of(argument: &ConfigArgument) -> Self {
        let mut report = Self::default();
        let config = report.settings(argument);
        // Settings that cannot be read still leave a bundle to look at, where the command line names one.
        let named = config.as_ref().map(|config| config.bundle.clone());
        if let Some(settings) = named.or_else(|| argument.bundle.clone().map(bundle_at)) {
            let found = report.bundle(&settings, config.as_ref());
            report.complain(found);
        }
        report
    }

    fn settings(&mut self, argument: &ConfigArgument) -> Option<Config> {
        let loaded = argument.load();
        if let Some(path) = &argument.config {
            // Read again, for its lines: what cannot be read is told already.
            #[expect(clippy::disallowed_methods, reason = "read once, in a command")]
            let text = std::fs::read_to_string(path).unwrap_or_default();
            self.texts
                .insert(path.clone(), settings::without_secrets(&text));
        }
        match loaded {
            Ok(config) => {
                let file = argument.config.as_deref();
                let text = file.and_then(|file| self.texts.get(file));
                self.errors
                    .extend(
                        config
                            .problems()
                            .into_iter()
                            .map(|problem| match (file, text) {
                                (Some(file), Some(text)) => settings::placed(problem, file, text),
                                _ => problem,
                            }),
                    );
                Some(config)
            }
            Err(problems) => {
                let hinted = |mut problem: Problem| {
                    problem
                        .hint
                        .get_or_insert_with(|| settings::HINT.to_owned());
                    problem
                };
                self.errors.extend(problems.into_iter().map(hinted));
                None
            }
        }
    }

    /// Understands the bundle, and runs its tests where the settings want it.
    fn bundle(
        &mut self,
        settings: &BundleSettings,
        config: Option<&Config>,
    ) -> Result<(), Vec<Problem>> {
        let Some((files, root)) = Snapshot::files_of(settings)? else {
            self.unseen = true;
            return Ok(());
        };
        for document in files.documents() {
            let (path, text) = (document.path.clone(), document.text.clone());
            self.texts.insert(path, text);
        }
        let snapshot = Snapshot::compile(&files, &root, &SystemClock)?;
        self.warnings = warnings(&snapshot, &files, config);
        if let Some(mint) = config.and_then(|config| config.mint.as_ref()) {
            let unknown = app::unknown_apis(mint, &snapshot.inventory).into_iter();
            let unknown = unknown.map(|api| (UNKNOWN_API, unknown_api(api)));
            self.warnings.extend(unknown);
        }
        // Tests are judged under the settings: under wrong ones they would tell of mistakes that are none.
        if let Some(config) = config.filter(|_| settings.run_tests && self.errors.is_empty()) {
            let staging = app::staging(config, Arc::new(SystemClock))?;
            trial::examine(&snapshot, &files.tests, &staging)?;
        }
        self.bundle = Some(Bundle {
            digest: snapshot.id.as_str().to_owned(),
            policies: snapshot.policies.len(),
            operations: snapshot.inventory.operations().count(),
            apis: snapshot.inventory.apis().count(),
            entities: snapshot.policies.entities(),
            observed: snapshot.inventory.observed().count(),
        });
        Ok(())
    }

    /// Takes in what is wrong, each once: missing keys are a mistake of settings and of reading the bundle.
    fn complain(&mut self, found: Result<(), Vec<Problem>>) {
        for problem in found.err().unwrap_or_default() {
            let same = |known: &&Problem| known.message == problem.message;
            if problem.file.is_some() || !self.errors.iter().any(|known| same(&known)) {
                self.errors.push(problem);
            }
        }
    }

    fn text_of(&self, problem: &Problem) -> Option<&str> {
        self.texts.get(problem.file.as_ref()?).map(String::as_str)
    }

    /// Every mistake, then every warning, each with its line.
    fn findings(&self) -> String {
        let errors = self
            .errors
            .iter()
            .map(|problem| render(Severity::Error, None, problem, self.text_of(problem)));
        let warnings = self.warnings.iter().map(|(rule, problem)| {
            render(
                Severity::Warning,
                Some(rule),
                problem,
                self.text_of(problem),
            )
        });
        let mut text = String::new();
        for one in errors.chain(warnings) {
            text.push_str(&one);
            text.push('\n');
        }
        text
    }

    fn conclusion(&self) -> String {
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            _ => format!("{number} {what}s"),
        };
        let warnings = match self.warnings.len() {
            0 => String::new(),
            number => format!(", {}", count(number, "warning")),
        };
        match &self.bundle {
            Some(bundle) if self.errors.is_empty() => format!(
                "settings and bundle are well{warnings}\nbundle {}: {} policies, {} operations in {} APIs, {} entities\n",
                bundle.digest, bundle.policies, bundle.operations, bundle.apis, bundle.entities,
            ),
            None if self.errors.is_empty() && self.unseen => {
                "settings are well\nthe bundle is remote and none is kept on disk yet: it was not looked at\n".to_owned()
            }
            _ => format!("{}{warnings}\n", count(self.errors.len(), "error")),
        }
    }

    fn json(&self) -> Result<String, Vec<Problem>> {
        #[derive(Serialize)]
        struct Whole<'r> {
            ok: bool,
            errors: Vec<Finding<'r>>,
            warnings: Vec<Finding<'r>>,
            bundle: Option<&'r Bundle>,
        }
        let whole = Whole {
            ok: self.errors.is_empty(),
            errors: self.errors.iter().map(|p| Finding::of(None, p)).collect(),
            warnings: self
                .warnings
                .iter()
                .map(|(rule, problem)| Finding::of(Some(rule), problem))
                .collect(),
            bundle: self.bundle.as_ref(),
        };
        super::json(&whole)
    }
}

/// One mistake or warning, for machines.
#[derive(Serialize)]
struct Finding<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'r str>,
    file: Option<&'r Path>,
    line: Option<usize>,
    column: Option<usize>,
    message: &'r str,
    hint: Option<&'r str>,
}

impl<'r> Finding<'r> {
    fn of(rule: Option<&'r str>, problem: &'r Problem) -> Self {
        Self {
            rule,
            file: problem.file.as_deref(),
            line: problem.at.map(|(line, _)| line),
            column: problem.at.map(|(_, column)| column),
            message: &problem.message,
            hint: problem.hint.as_deref(),
        }
    }
}

fn unknown_api(name: &str) -> Problem {
    let message = format!(
        "`mint.audiences` names the API `{name}`, which no document of the bundle describes"
    );
    Problem::new(message).hint("an API's name is `x-cardea.api` of its document")
}

/// What the author of a bundle that can be used hardly meant.
fn warnings(
    snapshot: &Snapshot,
    files: &BundleFiles,
    config: Option<&Config>,
) -> Vec<(&'static str, Problem)> {
    let documents: Vec<_> = files
        .apis
        .iter()
        .map(|document| (document.path.clone(), document.text.clone()))
        .collect();
    let (outlines, undeclared) = match outlines(&documents) {
        Ok(outlines) => (outlines, Vec::new()),
        Err(problems) => (Vec::new(), problems),
    };
    let public: BTreeSet<Arc<str>> = outlines
        .iter()
        .filter(|outline| outline.security == Security::Public)
        .map(|outline| Arc::clone(&outline.operation.id))
        .collect();
    let issuers = config.map(|config| &config.identity.issuers);
    let prefixes = |prefix: fn(&crate::identity::IssuerSettings) -> &String| {
        issuers.into_iter().flatten().map(prefix).cloned().collect()
    };
    let clusters = config
        .into_iter()
        .flat_map(|config| &config.identity.kubernetes);
    let mut group_prefixes: Vec<String> = prefixes(|issuer| &issuer.claims.group_prefix);
    group_prefixes.extend(clusters.map(KubernetesSettings::groups));
    let surroundings = Surroundings {
        public,
        role_prefixes: prefixes(|issuer| &issuer.claims.role_prefix),
        group_prefixes,
    };
    let inventory = &snapshot.inventory;
    let operations: Vec<Arc<Operation>> = inventory
        .operations()
        .chain(inventory.generic_operations())
        .cloned()
        .collect();
    let undeclared = undeclared
        .into_iter()
        .map(|problem| (UNKNOWN_SCHEME, problem));
    let lint = snapshot.policies.lint(&operations, &surroundings);
    let observed = observed(&documents).into_iter();
    undeclared
        .chain(observed.map(|problem| (OBSERVED, problem)))
        .chain(
            lint.into_iter()
                .map(|warning| (warning.rule.name(), warning.problem)),
        )
        .collect()
}

#[cfg(test)]
mod tests;

//! The settings file: a list of sections, each owned by the part it configures.

use std::path::Path;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;

use crate::envoy::{AnswerSettings, Answers, ListenSettings, RequestSettings};
use crate::model::{Problem, yaml};
use crate::pipeline::BundleSettings;
use crate::policy::DecisionSettings;
use crate::{admin, context, envoy, identity, mint, public, signals, state, telemetry};

/// All settings, as written. Every section may be left out; what is left out has the default shown in the reference.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Envoy reaches Cardea.
    pub listen: ListenSettings,
    /// Where operators reach it: readiness, metrics.
    pub admin: admin::Settings,
    /// Where other services reach it.
    pub public: public::Settings,
    /// Where policies come from.
    pub bundle: BundleSettings,
    /// How requests are read.
    pub request: RequestSettings,
    /// Whose tokens are believed.
    pub identity: identity::Settings,
    /// What replicas tell one another.
    pub state: state::Settings,
    /// Whose security events are received.
    pub signals: signals::Settings,
    /// What circumstances are told from.
    pub context: context::Settings,
    /// How decisions are made.
    pub decisions: DecisionSettings,
    /// What the upstream and the client hear.
    pub answer: AnswerSettings,
    /// What the upstream gets about the caller, signed.
    pub mint: Option<mint::Settings>,
    /// Traces, metrics and logs.
    pub telemetry: telemetry::Settings,
}

impl Config {
    /// Reads a settings file. Relative paths in it are relative to the process's working folder.
    ///
    /// # Errors
    /// A file that cannot be read or is no settings file, with line and column.
    #[expect(clippy::disallowed_methods, reason = "read once at start")]
    pub fn read(path: &Path) -> Result<Self, Vec<Problem>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![
                Problem::new(format!("cannot read the settings: {error}"))
                    .in_file(path)
                    .hint("name the file with `--config`, or see `cardea config example`"),
            ]
        })?;
        Self::parse(&text).map_err(|problem| vec![problem.in_file(path)])
    }

    /// Reads settings from text.
    ///
    /// # Errors
    /// The first mistake in the text's form, with line and column.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            return Ok(Self::default());
        }
        yaml::parse(text)
    }

    /// Everything that is wrong with what the settings mean, at once.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        [
            self.listen.problems(),
            self.admin.problems(),
            self.public.problems(),
            self.bundle.problems(),
            self.request.problems(),
            envoy::problems_between(&self.request, &self.listen),
            self.identity.problems(),
            self.state.problems(),
            self.signals_problems(),
            self.context.problems(),
            self.decisions.problems(),
            self.answer.problems(),
            self.mint_problems(),
            self.telemetry.problems(),
        ]
        .concat()
    }

    /// How decisions are answered: the section `answer`, and the header that `mint` fills.
    ///
    /// # Errors
    /// Everything that is wrong with the section `answer`.
    pub fn answers(&self) -> Result<Answers, Vec<Problem>> {
        let answers = self.answer.resolve()?;
        Ok(match &self.mint {
            Some(mint) => answers.with_minted(&mint.header),
            None => answers,
        })
    }

    /// What is wrong with the section `mint`, also beside others.
    fn mint_problems(&self) -> Vec<Problem> {
        let Some(mint) = &self.mint else {
            return Vec::new();
        };
        let mut problems = mint.problems(&self.identity.believed());
        problems.extend(self.answer.problem_of_minted(&mint.header));
        if mint.keys.directory.is_none() && self.public.address.is_none() {
            let message = "`mint` makes its keys in memory, and nobody can fetch them: `public.address` is not set";
            problems.push(Problem::new(message).hint(
                "set `public.address`, where the key set is served, or keep the keys in `mint.keys.directory`",
            ));
        }
        problems
    }

    /// What is wrong with the section `signals`, also beside others.
    fn signals_problems(&self) -> Vec<Problem> {
        let mut problems = self.signals.problems(self.public.address.is_some());
        let heard = !self.signals.transmitters.is_empty();
        if heard && self.identity.revocation.file.is_none() && !self.signals.memory_only {
            let message = "`signals.transmitters` are told that events are taken, and a restart would forget these: `identity.revocation.file` is not set";
            problems.push(Problem::new(message).hint(
                "set `identity.revocation.file`, or `signals.memory_only: true` if events may be forgotten",
            ));
        }
        problems.extend(self.signals.problems_of_subjects(&self.identity.vouching()));
        problems
    }

    /// The JSON Schema of the settings file (draft 2020-12), for editors.
    #[must_use]
    pub fn schema() -> Schema {
        schema_for!(Config)
    }
}

#[cfg(test)]
mod tests;

//! The command line: one file a command.

mod access;
mod bundle;
mod check;
mod config;
mod decide;
mod demo;
mod desk;
mod excerpt;
mod explain;
mod generate;
mod keys;
mod paint;
#[cfg(feature = "prove")]
mod prove;
mod replay;
mod revoke;
mod serve;
mod test;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::model::Problem;

/// Everything was well.
const DONE: u8 = 0;
/// What was asked for was done, and the answer is no.
const FAILED: u8 = 1;
/// Settings, bundle or arguments are wrong.
const MISTAKES: u8 = 2;

/// Cardea decides, for every API request that Envoy holds at the door, whether the door opens.
#[derive(Debug, Parser)]
#[command(name = "cardea", version, about, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
#[command(arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "\
Cardea decides, for every API request that Envoy holds at the door, whether the door opens.

It answers Envoy's external-authorization gRPC API (envoy.service.auth.v3). Each request's identity, operation and \
circumstances are judged against Cedar policies; without a policy that permits it, a request is denied.";

const AFTER_HELP: &str = "\
Examples:
  cardea check --config cardea.yaml     Validate settings and policies; print every mistake
  cardea test --bundle policies         Run the bundle's tests
  cardea explain request.json           Show why a request is decided as it is
  cardea prove --bundle policies        Prove that no policy errs and every invariant holds
  cardea serve --config cardea.yaml     Answer Envoy's checks
  cardea config schema > schema.json    Let an editor complete and check cardea.yaml
  cardea demo --envoy PATH              Envoy, an issuer and an upstream on this machine, and a guided tour

Exit codes: 0 done; 1 a test failed, or the answer is not the one asked for; 2 a mistake in arguments, settings or bundle; \
3 nothing proven either way (prove).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer Envoy's checks until SIGTERM
    Serve(ConfigArgument),
    /// Validate settings and bundle, and print every mistake at once
    Check(check::CheckCommand),
    /// Write the Cedar schema, or a starter set of policies, that API documents ask for
    Generate(generate::GenerateCommand),
    /// Show who can do what
    Access(access::AccessCommand),
    /// Pack, sign and verify policies as one file
    Bundle(bundle::BundleCommand),
    /// Take trust back from tokens, people, clients, sessions, keys or issuers, at once
    Revoke(revoke::RevokeCommand),
    /// Make, list, take back and replace API keys
    Keys(keys::KeysCommand),
    /// Run the bundle's tests
    Test(test::TestCommand),
    /// Decide requests from standard input, one JSON object a line
    Decide(decide::DecideCommand),
    /// Show why a request is decided as it is
    Explain(explain::ExplainCommand),
    /// Judge recorded decisions again under another bundle, and show what changes
    Replay(replay::ReplayCommand),
    /// Show the settings' schema, or an example to start from
    Config(config::ConfigCommand),
    /// Prove what holds of every request: no errors, invariants, no more than before
    #[cfg(feature = "prove")]
    Prove(prove::ProveCommand),
    /// Show everything at work on this machine: a real Envoy, an issuer, an API, and a guided tour
    Demo(demo::DemoArguments),
}

/// Which settings to use.
#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The settings file (YAML); without it, every setting has its default
    #[arg(short, long, value_name = "FILE", env = "CARDEA_CONFIG")]
    config: Option<PathBuf>,
    /// The folder that holds the policies, or a signed archive, in place of `bundle.path` and `bundle.remote`
    #[arg(short, long, value_name = "FOLDER", env = "CARDEA_BUNDLE")]
    bundle: Option<PathBuf>,
}

impl ConfigArgument {
    fn load(&self) -> Result<crate::config::Config, Vec<Problem>> {
        let mut config = match &self.config {
            Some(path) => crate::config::Config::read(path)?,
            None => crate::config::Config::default(),
        };
        if let Some(bundle) = &self.bundle {
            config.bundle.path.clone_from(bundle);
            config.bundle.remote = None;
        }
        Ok(config)
    }

    /// The same, for commands that judge: wrong settings would make them judge otherwise than the server does.
    fn load_sound(&self) -> Result<crate::config::Config, Vec<Problem>> {
        let config = self.load()?;
        let problems = config.problems();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems)
        }
    }
}

/// Runs what the command line asks for.
#[must_use]
pub fn run() -> ExitCode {
    crate::telemetry::panics::tell_only_where();
    let done = match Arguments::parse().command {
        Command::Serve(argument) => serve::run(&argument).map(|()| DONE),
        Command::Check(command) => check::run(&command).map(passed),
        Command::Generate(command) => generate::run(&command).map(|()| DONE),
        Command::Access(command) => access::run(&command).map(|()| DONE),
        Command::Bundle(command) => bundle::run(&command).map(|()| DONE),
        Command::Revoke(command) => revoke::run(&command).map(passed),
        Command::Keys(command) => keys::run(&command).map(|()| DONE),
        Command::Test(command) => test::run(&command).map(passed),
        Command::Decide(command) => decide::run(&command).map(passed),
        Command::Explain(command) => explain::run(&command).map(|()| DONE),
        Command::Replay(command) => replay::run(&command).map(passed),
        Command::Config(command) => config::run(&command).map(|()| DONE),
        Command::Demo(arguments) => demo::run(&arguments),
        #[cfg(feature = "prove")]
        Command::Prove(command) => prove::run(&command),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(problems) => {
            tell(&problems);
            ExitCode::from(MISTAKES)
        }
    }
}

/// The exit code of a command that passes or fails.
fn passed(well: bool) -> u8 {
    if well { DONE } else { FAILED }
}

/// Prints every problem on standard error.
fn tell(problems: &[Problem]) {
    let mut err = std::io::stderr().lock();
    for problem in problems {
        // With nowhere left to complain to, the exit code has to do.
        let _ = writeln!(err, "error: {problem}");
    }
}

/// A value as indented JSON, with a line end.
fn json(value: &impl serde::Serialize) -> Result<String, Vec<Problem>> {
    serde_json::to_string_pretty(value)
        .map(|text| format!("{text}\n"))
        .map_err(|error| vec![Problem::new(format!("cannot print JSON: {error}"))])
}

/// Prints text on standard output. A reader that went away (`| head`) is no error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

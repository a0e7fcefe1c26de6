//! `cardea config`: what the settings file may say.

use clap::Subcommand;

use super::print;
use crate::config::Config;
use crate::model::Problem;

/// A settings file that shows every part an operator usually sets.
const EXAMPLE: &str = include_str!("../../deploy/cardea.yaml");

#[derive(Debug, clap::Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The JSON Schema of the settings file, for editors
    Schema,
    /// A commented settings file to start from
    Example,
}

pub(super) fn run(command: &ConfigCommand) -> Result<(), Vec<Problem>> {
    match command.what {
        What::Schema => {
            let text = serde_json::to_string_pretty(&Config::schema())
                .map_err(|error| vec![Problem::new(format!("cannot print the schema: {error}"))])?;
            print(&format!("{text}\n"));
        }
        What::Example => print(EXAMPLE),
    }
    Ok(())
}

//! `cardea serve`: answer Envoy's checks.

use super::ConfigArgument;
use crate::app::App;
use crate::model::Problem;

pub(super) fn run(argument: &ConfigArgument) -> Result<(), Vec<Problem>> {
    App::start(&argument.load()?)?
        .run()
        .map_err(|problem| vec![problem])
}

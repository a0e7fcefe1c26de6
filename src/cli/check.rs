//! `cardea check`: validate settings and bundle, and print every problem at once.

use super::{ConfigArgument, print};
use crate::model::{Problem, SystemClock};
use crate::pipeline::Snapshot;

pub(super) fn run(argument: &ConfigArgument) -> Result<(), Vec<Problem>> {
    // Settings that cannot be read still leave a bundle to look at, where the command line names one.
    let (folder, mut problems) = match argument.load() {
        Ok(config) => (Some(config.bundle.path.clone()), config.problems()),
        Err(problems) => (argument.bundle.clone(), problems),
    };
    let Some(folder) = folder else {
        return Err(problems);
    };
    let bundle = Snapshot::load(&folder, &SystemClock);
    if let Err(wrong) = &bundle {
        problems.extend_from_slice(wrong);
    }
    match bundle {
        Ok(snapshot) if problems.is_empty() => {
            print(&summary(&snapshot));
            Ok(())
        }
        _ => Err(problems),
    }
}

fn summary(snapshot: &Snapshot) -> String {
    format!(
        "settings and bundle are well\nbundle {}: {} policies, {} operations in {} APIs, {} entities\n",
        snapshot.id.as_str(),
        snapshot.policies.len(),
        snapshot.inventory.operations().count(),
        snapshot.inventory.apis().count(),
        snapshot.policies.entities(),
    )
}

//! `cardea check`: validate settings and bundle, run the bundle's tests, and print every problem at once.

use std::path::Path;
use std::sync::Arc;

use super::{ConfigArgument, print};
use crate::app;
use crate::config::Config;
use crate::model::{Problem, SystemClock};
use crate::pipeline::{Snapshot, trial};
use crate::policy::BundleFiles;

pub(super) fn run(argument: &ConfigArgument) -> Result<(), Vec<Problem>> {
    // Settings that cannot be read still leave a bundle to look at, where the command line names one.
    let (config, mut problems) = match argument.load() {
        Ok(config) => {
            let problems = config.problems();
            (Some(config), problems)
        }
        Err(problems) => (None, problems),
    };
    let named = config.as_ref().map(|config| config.bundle.path.clone());
    let Some(folder) = named.or_else(|| argument.bundle.clone()) else {
        return Err(problems);
    };
    // Tests are judged under the settings: under wrong ones they would tell of mistakes that are none.
    let under = config.filter(|_| problems.is_empty());
    let bundle = load(&folder, under.as_ref());
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

/// Understands the bundle, and runs its tests where the settings want it.
fn load(folder: &Path, config: Option<&Config>) -> Result<Snapshot, Vec<Problem>> {
    let files = BundleFiles::read(folder)?;
    let snapshot = Snapshot::compile(&files, folder, &SystemClock)?;
    if let Some(config) = config.filter(|config| config.bundle.run_tests) {
        let staging = app::staging(config, Arc::new(SystemClock))?;
        trial::examine(&snapshot, &files.tests, &staging)?;
    }
    Ok(snapshot)
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

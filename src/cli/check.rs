//! `cardea check`: validate settings and bundle, and print every problem at once.

use std::path::PathBuf;

use super::{ConfigArgument, print};
use crate::model::{Problem, SystemClock};
use crate::pipeline::{BundleSettings, Snapshot};

pub(super) fn run(argument: &ConfigArgument) -> Result<(), Vec<Problem>> {
    // Settings that cannot be read still leave a bundle to look at, where the command line names one.
    let (settings, mut problems) = match argument.load() {
        Ok(config) => (Some(config.bundle.clone()), config.problems()),
        Err(problems) => (argument.bundle.clone().map(bundle_at), problems),
    };
    let Some(settings) = settings else {
        return Err(problems);
    };
    let bundle = Snapshot::of(&settings, &SystemClock);
    if let Err(wrong) = &bundle {
        // Missing keys are a mistake of settings and of reading the bundle.
        let news = wrong.iter().filter(|problem| !problems.contains(problem));
        problems.extend(news.cloned().collect::<Vec<_>>());
    }
    match bundle {
        Ok(snapshot) if problems.is_empty() => {
            print(&snapshot.as_ref().map_or_else(unseen, summary));
            Ok(())
        }
        _ => Err(problems),
    }
}

fn bundle_at(path: PathBuf) -> BundleSettings {
    BundleSettings {
        path,
        ..BundleSettings::default()
    }
}

fn unseen() -> String {
    "settings are well\nthe bundle is remote and none is kept on disk yet: it was not looked at\n"
        .to_owned()
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

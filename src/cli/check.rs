//! `cardea check`: validate settings and bundle, run the bundle's tests, and print every problem at once.

use std::path::PathBuf;
use std::sync::Arc;

use super::{ConfigArgument, print};
use crate::app;
use crate::config::Config;
use crate::model::{Problem, SystemClock};
use crate::pipeline::{BundleSettings, Snapshot};

pub(super) fn run(argument: &ConfigArgument) -> Result<(), Vec<Problem>> {
    // Settings that cannot be read still leave a bundle to look at, where the command line names one.
    let (config, mut problems) = match argument.load() {
        Ok(config) => {
            let problems = config.problems();
            (Some(config), problems)
        }
        Err(problems) => (None, problems),
    };
    let named = config.as_ref().map(|config| config.bundle.clone());
    let Some(settings) = named.or_else(|| argument.bundle.clone().map(bundle_at)) else {
        return Err(problems);
    };
    // Tests are judged under the settings: under wrong ones they would tell of mistakes that are none.
    let under = config.filter(|_| problems.is_empty());
    let bundle = load(&settings, under.as_ref());
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

/// Understands the bundle, and runs its tests where the settings want it.
fn load(
    settings: &BundleSettings,
    config: Option<&Config>,
) -> Result<Option<Snapshot>, Vec<Problem>> {
    let staging = match config.filter(|_| settings.run_tests) {
        Some(config) => Some(app::staging(config, Arc::new(SystemClock))?),
        None => None,
    };
    Snapshot::of(settings, &SystemClock, staging.as_ref())
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

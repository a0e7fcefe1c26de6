//! What is signed for upstreams, in the words of the application, of metrics and of the public endpoint.

use std::sync::Arc;

use tokio::runtime::{Handle, Runtime};

use crate::config::Config;
use crate::inventory::{Inventory, UNDOCUMENTED};
use crate::mint::{Mint, Settings};
use crate::model::{Clock, Problem};
use crate::pipeline::Pipeline;
use crate::telemetry::MintSeen;

/// Starts to sign, where settings want it.
///
/// # Errors
/// Everything that keeps the keys from being read.
pub(super) fn start(
    settings: Option<&Settings>,
    clock: &Arc<dyn Clock>,
    background: &Handle,
) -> Result<Option<Arc<Mint>>, Vec<Problem>> {
    let start = |settings| Mint::start(settings, Arc::clone(clock), background).map(Arc::new);
    settings.map(start).transpose()
}

/// The APIs that `mint.audiences` names and no document describes: their tokens have another audience than was meant.
pub fn unknown_apis<'s>(settings: &'s Settings, inventory: &Inventory) -> Vec<&'s str> {
    let named = settings.audiences.keys().map(String::as_str);
    let known = |name: &str| {
        let described = inventory.apis().any(|api| *api.name == *name);
        described || name == UNDOCUMENTED
    };
    named.filter(|name| !known(name)).collect()
}

/// Tells of them, once, when a bundle is in force.
pub(super) fn tell_unknown_apis(config: &Config, pipeline: &Pipeline, background: &Runtime) {
    let wanted = |settings: &&Settings| !settings.audiences.is_empty();
    let Some(settings) = config.mint.as_ref().filter(wanted).cloned() else {
        return;
    };
    let snapshots = Arc::clone(&pipeline.snapshots);
    background.spawn(async move {
        let mut loaded = snapshots.loaded();
        if loaded.wait_for(|loaded| *loaded).await.is_err() {
            return;
        }
        let Some(snapshot) = snapshots.current() else {
            return;
        };
        for api in unknown_apis(&settings, &snapshot.inventory) {
            tracing::warn!(
                api,
                "`mint.audiences` names an API that no document describes: tokens have the audiences of other names"
            );
        }
    });
}

/// What verifiers fetch.
pub(super) fn key_set(mint: &Arc<Mint>) -> Arc<dyn Fn() -> String + Send + Sync> {
    let mint = Arc::clone(mint);
    Arc::new(move || mint.key_set())
}

/// What metrics tell of it.
pub(super) fn seen(mint: &Mint) -> MintSeen {
    let figures = mint.figures();
    MintSeen {
        signed: figures.signed,
        failures: figures.failures.to_vec(),
        entries: figures.entries,
        key_age: figures.key_age,
        stale: figures.stale,
    }
}

//! What is signed for upstreams, in the words of the application, of metrics and of the public endpoint.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::mint::{Mint, Settings};
use crate::model::{Clock, Problem};
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

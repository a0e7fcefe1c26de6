//! What decisions are made from: one immutable whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::source::{BundleSettings, Source};
use super::trial::{self, Staging};
use crate::inventory::{Inventory, repeated_parameter};
use crate::model::{
    AccessRequest, Clock, Matched, Operation, Problem, Reason, Refusal, SnapshotId,
};
use crate::policy::{BundleFiles, Policies};

/// A bundle in force. A request reads all of it or none.
#[derive(Debug)]
pub struct Snapshot {
    /// The digest of the bundle's files.
    pub id: SnapshotId,
    /// Which operation a request is.
    pub inventory: Inventory,
    /// What policies say of it.
    pub policies: Policies,
    /// Since when it is in force.
    pub since: Instant,
}

impl Snapshot {
    /// Reads and understands the bundle in a folder. Blocks and computes, up to seconds for a large bundle: call it at
    /// start, in commands and on the background runtime.
    ///
    /// # Errors
    /// Everything that is wrong with the bundle.
    pub fn load(folder: &Path, clock: &dyn Clock) -> Result<Self, Vec<Problem>> {
        let files = BundleFiles::read(folder)?;
        Self::compile(&files, folder, clock)
    }

    /// Reads and understands the bundle that settings name, as [`Snapshot::load`] does; of a remote one what is kept on
    /// disk, if anything. Nothing is put in force, fetched or written.
    ///
    /// # Errors
    /// Public keys that cannot be read, and everything that is wrong with the bundle.
    pub fn of(
        settings: &BundleSettings,
        clock: &dyn Clock,
        staging: Option<&Staging>,
    ) -> Result<Option<Self>, Vec<Problem>> {
        let Some((files, root)) = Self::files_of(settings)? else {
            return Ok(None);
        };
        let snapshot = Self::compile(&files, &root, clock)?;
        if let Some(staging) = staging {
            trial::examine(&snapshot, &files.tests, staging)?;
        }
        Ok(Some(snapshot))
    }

    /// Reads the bundle that settings name, and says what its paths begin with; of a remote one what is kept on disk, if
    /// anything.
    ///
    /// # Errors
    /// Public keys that cannot be read, and a bundle that cannot be read or believed.
    pub fn files_of(
        settings: &BundleSettings,
    ) -> Result<Option<(BundleFiles, PathBuf)>, Vec<Problem>> {
        let found = match Source::of(settings)? {
            (Source::Remote { keys, .. }, last_good) => last_good.read(&keys)?,
            (source, _) => source.read()?,
        };
        Ok(found.map(|found| (found.files, found.root)))
    }

    /// Understands a bundle that was read from `folder`.
    ///
    /// # Errors
    /// Everything that is wrong with the bundle.
    pub fn compile(
        files: &BundleFiles,
        folder: &Path,
        clock: &dyn Clock,
    ) -> Result<Self, Vec<Problem>> {
        let documents: Vec<_> = files
            .apis
            .iter()
            .map(|document| (document.path.clone(), document.text.clone()))
            .collect();
        let inventory = Inventory::compile(&documents).map_err(|problems| {
            // Without operations policies cannot be validated, but their form can be checked all the same.
            [problems, Policies::malformed(files)].concat()
        })?;
        let operations: Vec<Arc<Operation>> = inventory
            .operations()
            .chain(inventory.generic_operations())
            .cloned()
            .collect();
        Ok(Self {
            id: files.id(folder),
            policies: Policies::compile(files, &operations)?,
            inventory,
            since: clock.monotonic(),
        })
    }

    /// Which operation a request is. A parameter that servers could read in two ways is refused; all else is evidence.
    /// What is found stays in `request` and `matched`, whatever becomes of it.
    pub(super) fn read<'t>(
        &self,
        asked: Result<AccessRequest, Refusal>,
        request: &'t mut Option<AccessRequest>,
        matched: &'t mut Option<Matched>,
    ) -> Result<(&'t AccessRequest, &'t Matched), Refusal> {
        let request = &*request.insert(asked?);
        let found = self
            .inventory
            .find(request.method, &request.host, &request.path);
        let matched = &*matched.insert(found);
        match repeated_parameter(matched, &request.query) {
            None => Ok((request, matched)),
            Some(name) => {
                let detail = format!("the query parameter `{name}` is given more than once");
                Err(Refusal::new(Reason::RepeatedParameter, detail))
            }
        }
    }
}

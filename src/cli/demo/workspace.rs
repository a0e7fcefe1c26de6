//! A folder for one run: a copy of the bundle, Envoy's configuration and its logs.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::model::Problem;
use crate::policy::BundleFiles;

/// The policy file that the tour edits.
const EDITED: &str = "examples/orders.cedar";

/// The folder. It is removed when this is dropped, unless it is to be kept.
pub(super) struct Workspace {
    folder: PathBuf,
    kept: bool,
}

impl Workspace {
    /// Makes the folder, for this user only, and copies the bundle's files into it. Blocks, once at start.
    pub(super) fn create(bundle: &Path) -> Result<Self, Vec<Problem>> {
        let files = BundleFiles::read(bundle)?;
        let folder =
            std::env::temp_dir().join(format!("cardea-demo-{}", uuid::Uuid::now_v7().simple()));
        let failed = |error: io::Error| {
            vec![
                Problem::new(format!("cannot prepare the demo's folder: {error}")).in_file(&folder),
            ]
        };
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(failed)?;
        let workspace = Self {
            folder: folder.clone(),
            kept: false,
        };
        let all = [
            files.schema,
            files.policies,
            files.entities,
            files.apis,
            files.tests,
        ];
        for document in all.into_iter().flatten() {
            let name = document.path.strip_prefix(bundle).unwrap_or(&document.path);
            put(&workspace.policies().join(name), &document.text).map_err(failed)?;
        }
        Ok(workspace)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The copy of the bundle.
    pub(super) fn policies(&self) -> PathBuf {
        self.folder.join("policies")
    }

    /// Leaves the folder where it is.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// Adds text at the end of the edited policy file, and says how long the file was.
    pub(super) fn add(&self, text: &str) -> Result<u64, Problem> {
        let path = self.policies().join(EDITED);
        let add = || {
            let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
            let length = file.metadata()?.len();
            file.write_all(text.as_bytes())?;
            Ok(length)
        };
        add().map_err(|error: io::Error| {
            Problem::new(format!("cannot edit the policy: {error}")).in_file(&path)
        })
    }

    /// Cuts the edited policy file back to the length it had.
    pub(super) fn cut_back(&self, length: u64) -> Result<(), Problem> {
        let path = self.policies().join(EDITED);
        let opened = OpenOptions::new().write(true).open(&path);
        opened
            .and_then(|file| file.set_len(length))
            .map_err(|error| {
                Problem::new(format!("cannot edit the policy: {error}")).in_file(&path)
            })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed is left to whoever cleans the temporary folder.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

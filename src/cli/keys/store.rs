//! The file of keys as commands use it: read, edited by one command at a time, replaced whole.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::{StoreArguments, one};
use crate::config::Config;
use crate::identity::{ApiKeySettings, HashKey, KeyFile, is_yaml};
use crate::model::{Problem, SecretRef};

/// Where keys are kept, and the hash key that they need.
pub(super) struct Store {
    settings: ApiKeySettings,
    hash_key: HashKey,
}

impl Store {
    /// # Errors
    /// Where the settings or the hash key cannot be read.
    pub(super) fn open(arguments: &StoreArguments) -> Result<Self, Vec<Problem>> {
        let settings = settings(arguments)?;
        let hash_key = settings.hash_key.resolve().map_err(|error| {
            one(Problem::new(error.to_string()).hint("`cardea keys init` makes a hash key"))
        })?;
        let hash_key = HashKey::parse(&hash_key).map_err(one)?;
        Ok(Self { settings, hash_key })
    }

    /// What keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// The keys there are.
    ///
    /// # Errors
    /// Where the file cannot be read, and everything that is wrong with it.
    pub(super) fn read(&self) -> Result<KeyFile, Vec<Problem>> {
        self.read_at(&self.settings.file)
    }

    #[expect(clippy::disallowed_methods, reason = "read once, in a command")]
    fn read_at(&self, path: &Path) -> Result<KeyFile, Vec<Problem>> {
        let bytes = std::fs::read(path).map_err(|error| {
            let problem = Problem::new(format!("cannot read the file of keys: {error}"));
            one(problem
                .in_file(path)
                .hint("`cardea keys init` makes an empty one"))
        })?;
        KeyFile::parse(&bytes, path, &self.hash_key)
    }

    /// Changes the file. Two commands at a time wait for one another, and whoever reads sees the old file or the new one.
    ///
    /// # Errors
    /// What `change` said, and then nothing is written; or why the file cannot be read, locked or written.
    pub(super) fn edit<T>(
        &self,
        change: impl FnOnce(&mut KeyFile, &HashKey) -> Result<T, Problem>,
    ) -> Result<T, Vec<Problem>> {
        // A link stays a link: what it leads to is replaced.
        let path = std::fs::canonicalize(&self.settings.file)
            .unwrap_or_else(|_| self.settings.file.clone());
        if is_yaml(&path) {
            let problem = Problem::new(
                "a file of keys in YAML is edited by hand: its comments would be lost",
            );
            return Err(one(problem
                .in_file(path)
                .hint("keep the keys in a file that ends in `.json`")));
        }
        let _lock = lock(&path)?;
        let mut file = self.read_at(&path)?;
        let outcome = change(&mut file, &self.hash_key).map_err(one)?;
        let text = file.text().map_err(one)?;
        // What would be refused when it is read is not written.
        KeyFile::parse(text.as_bytes(), &path, &self.hash_key)?;
        replace(&path, &text)?;
        Ok(outcome)
    }
}

/// Makes the hash key and the file, where there are none.
///
/// # Errors
/// Where one of them cannot be written, or the hash key is not to be kept in a file.
pub(super) fn init(arguments: &StoreArguments) -> Result<String, Vec<Problem>> {
    let settings = settings(arguments)?;
    let secret = match &settings.hash_key {
        SecretRef::File(path) if path.exists() => format!("{} (it was there)", path.display()),
        SecretRef::File(path) => {
            let key = HashKey::generate().map_err(one)?;
            write_new(path, &format!("{}\n", key.expose_secret()))?;
            format!("{} (keep it secret)", path.display())
        }
        SecretRef::Env(name) => format!("in the environment as {name}"),
    };
    let store = Store::open(arguments)?;
    let path = &store.settings.file;
    let word = if path.exists() {
        store.read()?;
        "it was there"
    } else {
        write_new(path, &KeyFile::empty(&store.hash_key).text().map_err(one)?)?;
        "empty"
    };
    let keys = path.display();
    Ok(format!("hash key: {secret}\nkeys: {keys} ({word})\n"))
}

/// The settings' section, with what the command line says in place of it.
fn settings(arguments: &StoreArguments) -> Result<ApiKeySettings, Vec<Problem>> {
    let config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let mut settings = config.identity.api_keys.unwrap_or_default();
    if let Some(file) = &arguments.file {
        settings.file.clone_from(file);
    }
    if let Some(file) = &arguments.hash_key_file {
        settings.hash_key = SecretRef::File(file.clone());
    }
    Ok(settings)
}

/// Waits until no other command edits the file. The lock ends with the process, however that ends.
fn lock(path: &Path) -> Result<File, Vec<Problem>> {
    let place = beside(path, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&place);
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| cannot("lock the file of keys", &place, &error))
}

/// Puts a whole file in place: written, on the disk, and only then under its name. Owner, group and mode stay those of the
/// file before, whoever runs the command: the server must be able to read it.
fn replace(path: &Path, text: &str) -> Result<(), Vec<Problem>> {
    let unfinished = beside(path, ".tmp");
    let failed = |error: std::io::Error| cannot("write the file of keys", path, &error);
    let before = std::fs::metadata(path).map_err(failed)?;
    // Left by a command that was killed; whoever holds the lock may take it away.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = write_whole(&unfinished, text).map_err(failed)?;
    if let Err(error) = liken(&file, &before) {
        // The old file is still in place; what is left of this is of no use.
        let _ = std::fs::remove_file(&unfinished);
        let what = format!(
            "give the new file of keys the owner, group and mode of the old one (user {}, group {}), so nothing was changed",
            before.uid(),
            before.gid()
        );
        let problems = cannot(&what, path, &error);
        let hinted = |problem: Problem| problem.hint("run the command as that user, or as root");
        return Err(problems.into_iter().map(hinted).collect());
    }
    let put = || {
        std::fs::rename(&unfinished, path)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    put().map_err(failed)
}

/// Gives a new file the owner, the group and the mode of the one that it replaces.
fn liken(file: &File, before: &Metadata) -> std::io::Result<()> {
    let own = file.metadata()?;
    let other = |wanted: u32, own: u32| (wanted != own).then_some(wanted);
    let (user, group) = (
        other(before.uid(), own.uid()),
        other(before.gid(), own.gid()),
    );
    if user.is_some() || group.is_some() {
        fchown(file, user, group)?;
    }
    // Only now, so that no group of ours reads it meanwhile; and said outright, for the umask takes bits away.
    file.set_permissions(Permissions::from_mode(before.mode() & 0o777))?;
    file.sync_all()
}

/// Writes a file that must not exist yet: a hash key is never written over, for all keys would be lost with it.
fn write_new(path: &Path, text: &str) -> Result<(), Vec<Problem>> {
    write_whole(path, text)
        .map(drop)
        .map_err(|error| cannot("write the file", path, &error))
}

/// Writes a new file that only its owner may read.
fn write_whole(path: &Path, text: &str) -> std::io::Result<File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(file)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Vec<Problem> {
    one(Problem::new(format!("cannot {what}: {error}")).in_file(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    fn file(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        path
    }

    fn held(path: &Path) -> (u32, u32, u32) {
        let data = std::fs::metadata(path).unwrap();
        (data.uid(), data.gid(), data.mode() & 0o777)
    }

    #[test]
    fn a_file_that_is_replaced_keeps_its_owner_its_group_and_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "keys.json");
        let (user, group, _) = held(&path);
        // Only root may give a file away; anybody else finds here at least that the mode stays, whatever the umask.
        let _ = chown(&path, Some(user + 7), Some(group + 7));
        let before = held(&path);
        replace(&path, "something new").unwrap();
        assert_eq!(held(&path), before);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 13);
        assert!(!beside(&path, ".tmp").exists());
    }

    #[test]
    fn a_file_that_cannot_be_given_to_its_owner_is_not_put_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "keys.json");
        let (user, ..) = held(&path);
        let root = std::fs::metadata("/").unwrap();
        if chown(&path, Some(user + 7), None).is_err() && root.uid() != user {
            let new = File::create(folder.path().join("new")).unwrap();
            let error = liken(&new, &root).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        } else {
            // Root can give anything to anybody; but a file that is gone is not made anew.
            std::fs::remove_file(&path).unwrap();
            assert!(replace(&path, "new").is_err());
        }
        assert!(!beside(&path, ".tmp").exists());
    }
}

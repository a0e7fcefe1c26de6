//! A file that is read again when it changes. What was read last and could be used stays until something better is there.
//!
//! Looks are cheap: size, inode and change time. A change is read once it has held still for one more look, so that half a
//! file is not taken for a whole one, and read once more a little later, because two changes may share one time.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::model::Problem;

/// The longest file that is read, in bytes.
const SIZE_LIMIT: u64 = 32 * 1024 * 1024;

/// After how many looks at an unchanged file it is read: soon, and once more.
const READ_AT: [u32; 2] = [1, 4];

/// Takes in what a file holds.
///
/// # Errors
/// Everything that keeps it from being used; what was taken in before is then still in use.
pub(super) type TakeIn = Box<dyn Fn(&[u8]) -> Result<(), Vec<Problem>> + Send + Sync>;

/// A file under watch. Dropping it ends the watch.
#[derive(Debug)]
pub(super) struct Watched(AbortHandle);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks at a file every `poll`, on the background runtime. `read` is what was taken in already.
pub(super) fn watch(
    (path, read): (PathBuf, &[u8]),
    poll: Duration,
    background: &Handle,
    take_in: TakeIn,
) -> Watched {
    let mut follower = Follower::new(path, read, take_in);
    let task = background.spawn(async move {
        loop {
            tokio::time::sleep(poll).await;
            // Off the runtime: a disk may be slow, and a long file takes time to understand.
            let looked = tokio::task::spawn_blocking(move || {
                follower.look();
                follower
            });
            match looked.await {
                Ok(back) => follower = back,
                Err(error) => {
                    tracing::error!(%error, "a watched file is no longer looked at");
                    return;
                }
            }
        }
    });
    Watched(task.abort_handle())
}

/// Reads a whole file. It blocks: at start, in commands and beside the background runtime only.
///
/// # Errors
/// What is no file, cannot be read, or is too long.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let failed = |what: &str| Problem::new(what).in_file(path);
    let broken = |error: std::io::Error| failed(&format!("cannot read the file: {error}"));
    // To open a pipe waits for its other end.
    if !std::fs::metadata(path).map_err(broken)?.is_file() {
        return Err(failed("it is no file"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(broken)?;
    file.take(SIZE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(broken)?;
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(failed(&format!("it is longer than {SIZE_LIMIT} bytes")));
    }
    Ok(bytes)
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([i64; 6], u64);

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        let whole = |number: u64| number.cast_signed();
        let times = [
            data.mtime(),
            data.mtime_nsec(),
            data.ctime(),
            data.ctime_nsec(),
        ];
        let [a, b, c, d] = times;
        Some(Self(
            [a, b, c, d, whole(data.ino()), whole(data.dev())],
            data.len(),
        ))
    }
}

/// One file, and what was last seen of it.
struct Follower {
    path: PathBuf,
    take_in: TakeIn,
    stamp: Option<Stamp>,
    /// How many looks ago it last changed.
    still: u32,
    /// What was read last, good or bad.
    read: blake3::Hash,
    /// What was last told about it.
    told: Option<String>,
}

impl Follower {
    fn new(path: PathBuf, read: &[u8], take_in: TakeIn) -> Self {
        Self {
            path,
            take_in,
            stamp: None,
            still: 0,
            read: blake3::hash(read),
            told: None,
        }
    }

    /// Looks at the file, and takes it in where it changed.
    fn look(&mut self) {
        let stamp = Stamp::of(&self.path);
        if stamp == self.stamp {
            self.still = self.still.saturating_add(1);
        } else {
            self.stamp = stamp;
            self.still = 0;
        }
        if READ_AT.contains(&self.still) {
            let problems = self.renew().err().unwrap_or_default();
            self.tell(&problems);
        }
    }

    fn renew(&mut self) -> Result<(), Vec<Problem>> {
        let bytes = read(&self.path).map_err(|problem| vec![problem])?;
        let hash = blake3::hash(&bytes);
        if hash == self.read && self.told.is_none() {
            return Ok(());
        }
        self.read = hash;
        (self.take_in)(&bytes)?;
        tracing::info!(file = %self.path.display(), "a changed file is in use");
        Ok(())
    }

    /// Says what is wrong, once.
    fn tell(&mut self, problems: &[Problem]) {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let told = (!all.is_empty()).then(|| all.join("; "));
        if let Some(problems) = &told
            && told != self.told
        {
            let file = self.path.display();
            tracing::error!(%file, %problems, "a changed file cannot be used; what it said before counts on");
        }
        self.told = told;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A file, what was taken in of it, and the follower.
    fn followed() -> (tempfile::TempDir, Arc<Mutex<Vec<String>>>, Follower) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "good 1").unwrap();
        let taken: Arc<Mutex<Vec<String>>> = Arc::default();
        let record = Arc::clone(&taken);
        let take_in = move |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            if !text.starts_with("good") {
                return Err(vec![Problem::new("bad")]);
            }
            record.lock().unwrap().push(text);
            Ok(())
        };
        let follower = Follower::new(path, b"good 1", Box::new(take_in));
        (folder, taken, follower)
    }

    fn looks(follower: &mut Follower, count: usize) {
        for _ in 0..count {
            follower.look();
        }
    }

    #[test]
    fn a_change_is_taken_in_once_it_holds_still_and_only_once() {
        let (_folder, taken, mut follower) = followed();
        looks(&mut follower, 6);
        assert!(taken.lock().unwrap().is_empty(), "nothing changed");
        std::fs::write(&follower.path, "good 2, longer").unwrap();
        looks(&mut follower, 1);
        assert!(taken.lock().unwrap().is_empty(), "it may be half written");
        looks(&mut follower, 6);
        assert_eq!(*taken.lock().unwrap(), ["good 2, longer"]);
    }

    #[test]
    fn a_bad_or_missing_file_changes_nothing_and_is_told_until_it_is_good_again() {
        let (_folder, taken, mut follower) = followed();
        std::fs::write(&follower.path, "half").unwrap();
        looks(&mut follower, 3);
        assert_eq!(follower.told.as_deref(), Some("bad"));
        std::fs::remove_file(&follower.path).unwrap();
        looks(&mut follower, 3);
        assert!(
            follower
                .told
                .as_deref()
                .unwrap()
                .contains("cannot read the file")
        );
        assert!(taken.lock().unwrap().is_empty());
        std::fs::write(&follower.path, "good 1").unwrap();
        looks(&mut follower, 3);
        assert_eq!(
            (follower.told.take(), &**taken.lock().unwrap()),
            (None, &["good 1".to_owned()][..])
        );
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(read(&path).unwrap_err().message, "it is no file");
    }
}

//! A bundle as it lies on disk: a folder of schema, policies, entities, API documents and tests; or the same as one signed
//! file (`archive`), which lists its files and their digests (`manifest`) and is believed for its `signature`.
//!
//! What a file is for shows in its name: `*.cedarschema`, `*.cedar` (below `invariants/` or named `*.invariant.cedar` it
//! is an invariant and no policy); JSON below `entities/` or named `*.entities.json`; YAML or JSON below `apis/` or named
//! `*.openapi.yaml`; below `links/` or named `*.links.yaml`; YAML below `tests/` or named `*.test.yaml`. So a bundle may be a
//! tree, or flat as a Kubernetes ConfigMap is. Names that begin with a dot are passed over (`..data` and its kin).

mod archive;
mod manifest;
mod signature;

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use crate::model::{Problem, SnapshotId};

pub use archive::{Archive, MAX_PACKED};
pub use manifest::Manifest;
pub use signature::{KeyId, MAX_SIGNATURE, NewKey, PublicKeys, SigningKey, Verified};

/// The most bytes a bundle's files may hold together.
pub const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// The most bytes one file of a bundle may hold.
pub const MAX_FILE: u64 = 16 * 1024 * 1024;
/// The most files and folders a bundle may hold.
pub const MAX_FILES: usize = 10_000;
/// The most folders that may lie within one another.
pub const MAX_DEPTH: usize = 8;
/// How often a folder that changes meanwhile is read before it is given up.
const MAX_ATTEMPTS: usize = 5;

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Document {
    /// Where it lies, as its reader may open it.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// What a bundle's files say, sorted by path, not yet understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleFiles {
    /// `*.cedarschema`.
    pub schema: Vec<Document>,
    /// `*.cedar`.
    pub policies: Vec<Document>,
    /// Static entities in Cedar's JSON form.
    pub entities: Vec<Document>,
    /// OpenAPI documents.
    pub apis: Vec<Document>,
    /// Links of templates.
    pub links: Vec<Document>,
    /// Policy tests.
    pub tests: Vec<Document>,
    /// What no policy may ever allow. It is proven beforehand and never judged by.
    pub invariants: Vec<Document>,
}

/// What tells, without reading a file, whether it changed: name, size, inode, times, of files and of the folders that
/// hold them. The change time (`ctime`) cannot be set back by whoever writes the file, so a rewrite within the clock's
/// grain is the only change it could miss.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint(Vec<(PathBuf, [i64; 6])>);

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shelf {
    Schema,
    Policies,
    Entities,
    Apis,
    Links,
    Tests,
    Invariants,
}

impl Shelf {
    /// Where a file belongs, by its name; `None` for what is no part of a bundle (a README, say). Neither upper case nor
    /// a name that is not UTF-8 makes a policy file anything else: a forbid in it would be gone without a word.
    fn of(folder: &Path, path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let within = |wanted: &str| {
            path.strip_prefix(folder)
                .ok()
                .and_then(Path::parent)
                .is_some_and(|parent| parent.iter().any(|part| part == wanted))
        };
        let (stem, extension) = name.rsplit_once('.')?;
        let second = stem.rsplit_once('.').map(|(_, second)| second);
        let is = |folder: &str, word: &str| within(folder) || second == Some(word);
        match extension {
            "cedarschema" => Some(Self::Schema),
            "cedar" if is("invariants", "invariant") => Some(Self::Invariants),
            "cedar" => Some(Self::Policies),
            "yaml" | "yml" | "json" if is("entities", "entities") => Some(Self::Entities),
            "yaml" | "yml" | "json" if is("apis", "openapi") => Some(Self::Apis),
            "yaml" | "yml" | "json" if is("links", "links") => Some(Self::Links),
            "yaml" | "yml" | "json" if is("tests", "test") => Some(Self::Tests),
            _ => None,
        }
    }
}

impl BundleFiles {
    /// Reads a folder. Blocks: only at start, in commands and on the background runtime.
    ///
    /// Files of two generations never meet in one bundle: a folder that changed while it was read is read again.
    ///
    /// # Errors
    /// Every file that cannot be read or is not UTF-8, every limit that is passed, and a folder that goes on changing
    /// while it is read: some files old and some new would be a bundle that nobody wrote.
    pub fn read(folder: &Path) -> Result<Self, Vec<Problem>> {
        Self::read_while(folder, || {})
    }

    /// As [`Self::read`]; `meanwhile` is called between reading the files and the look that tells whether they changed.
    fn read_while(folder: &Path, meanwhile: impl Fn()) -> Result<Self, Vec<Problem>> {
        for _ in 0..MAX_ATTEMPTS {
            let found = walk(folder)?;
            let files = Self::read_parts(folder, &found.files);
            meanwhile();
            if Fingerprint::of(&[folder.to_path_buf()]) == Fingerprint::from(found) {
                return files;
            }
        }
        let problem = Problem::new("the bundle changed each time it was read")
            .in_file(folder)
            .hint("replace the folder as a whole: write a new one beside it, then swap a link");
        Err(vec![problem])
    }

    fn read_parts(folder: &Path, parts: &[Part]) -> Result<Self, Vec<Problem>> {
        let mut files = Self::default();
        let mut problems = Vec::new();
        let mut bytes = 0;
        for (path, metadata, shelf) in parts {
            if let Some(problem) = too_long(path, metadata.len()) {
                problems.push(problem);
                continue;
            }
            bytes += metadata.len();
            if bytes > MAX_BYTES {
                let limit = MAX_BYTES / 1024 / 1024;
                problems.push(
                    Problem::new(format!("the bundle holds more than {limit} MiB")).in_file(folder),
                );
                break;
            }
            match read_text(path, metadata.len()) {
                Ok(text) => files.shelf(*shelf).push(Document {
                    path: path.clone(),
                    text,
                }),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(files)
        } else {
            Err(problems)
        }
    }

    /// The files of an archive, by path, as a folder at `root` would have given them.
    fn of_texts(root: &Path, texts: BTreeMap<String, &[u8]>) -> Result<Self, Vec<Problem>> {
        // Sorted as `walk` sorts: by the parts of the path, not by its bytes.
        let mut texts: Vec<_> = texts
            .into_iter()
            .map(|(path, text)| (root.join(path), text))
            .collect();
        texts.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut files = Self::default();
        let mut problems = Vec::new();
        for (path, text) in texts {
            let Some(shelf) = Shelf::of(root, &path) else {
                continue;
            };
            if let Some(problem) = too_long(&path, text.len() as u64) {
                problems.push(problem);
                continue;
            }
            match std::str::from_utf8(text) {
                Ok(text) => files.shelf(shelf).push(Document {
                    path,
                    text: text.to_owned(),
                }),
                Err(_) => {
                    problems.push(Problem::new("the file is not UTF-8 text").in_file(path));
                }
            }
        }
        if problems.is_empty() {
            Ok(files)
        } else {
            Err(problems)
        }
    }

    fn shelf(&mut self, shelf: Shelf) -> &mut Vec<Document> {
        match shelf {
            Shelf::Schema => &mut self.schema,
            Shelf::Policies => &mut self.policies,
            Shelf::Entities => &mut self.entities,
            Shelf::Apis => &mut self.apis,
            Shelf::Links => &mut self.links,
            Shelf::Tests => &mut self.tests,
            Shelf::Invariants => &mut self.invariants,
        }
    }

    /// Every file, kind by kind.
    fn shelves(&self) -> [&Vec<Document>; 7] {
        [
            &self.schema,
            &self.policies,
            &self.entities,
            &self.apis,
            &self.links,
            &self.tests,
            &self.invariants,
        ]
    }

    /// Every file, kind by kind: none is left out, whatever kinds there will be.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.shelves().into_iter().flatten()
    }

    /// The digest of everything the files say and how they are named: the same files anywhere give the same id.
    #[must_use]
    pub fn id(&self, folder: &Path) -> SnapshotId {
        let mut hasher = blake3::Hasher::new();
        for (kind, shelf) in self.shelves().into_iter().enumerate() {
            for document in shelf {
                let name = document.path.strip_prefix(folder).unwrap_or(&document.path);
                // Lengths first, so that no name can run into a text.
                for part in [
                    name.as_os_str().as_encoded_bytes(),
                    document.text.as_bytes(),
                ] {
                    hasher.update(&part.len().to_le_bytes());
                    hasher.update(part);
                }
                hasher.update(&kind.to_le_bytes());
            }
        }
        let digest = hasher.finalize().to_hex();
        SnapshotId::new(digest.get(..16).unwrap_or_default())
    }
}

impl Fingerprint {
    /// Looks at a folder, or at single files. Blocks, briefly: it asks for every file's metadata and reads none.
    #[must_use]
    pub fn of(places: &[PathBuf]) -> Self {
        let look = |place: &PathBuf| match fs::metadata(place) {
            Ok(metadata) if metadata.is_dir() => Self::from(walk(place).unwrap_or_default()).0,
            Ok(metadata) => vec![(place.clone(), stamp(&metadata))],
            Err(_) => Vec::new(),
        };
        Self(places.iter().flat_map(look).collect())
    }
}

impl From<Found> for Fingerprint {
    fn from(found: Found) -> Self {
        let files = found
            .files
            .into_iter()
            .map(|(path, metadata, _)| (path, metadata));
        let all = found.folders.into_iter().chain(files);
        Self(
            all.map(|(path, metadata)| (path, stamp(&metadata)))
                .collect(),
        )
    }
}

#[cfg(unix)]
fn stamp(metadata: &Metadata) -> [i64; 6] {
    use std::os::unix::fs::MetadataExt;
    [
        metadata.size().cast_signed(),
        metadata.ino().cast_signed(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}

/// One file of a bundle that is yet to be read.
type Part = (PathBuf, Metadata, Shelf);

/// The files of a bundle and the folders they lie in, links followed, sorted by path.
#[derive(Debug, Default)]
struct Found {
    files: Vec<Part>,
    /// The folder itself among them: a link that is swapped there and back within one reading shows in its times alone.
    folders: Vec<(PathBuf, Metadata)>,
}

fn walk(root: &Path) -> Result<Found, Vec<Problem>> {
    let mut found = Found::default();
    let mut seen = 0;
    let mut folders = vec![(root.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let unreadable = |error: std::io::Error| {
            vec![Problem::new(format!("cannot read the folder: {error}")).in_file(&folder)]
        };
        let metadata = fs::metadata(&folder).map_err(unreadable)?;
        found.folders.push((folder.clone(), metadata));
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            // A link whose target is gone is a half-made change: it is reported, not passed over.
            let metadata = fs::metadata(&path).map_err(|error| {
                vec![Problem::new(format!("cannot read the file: {error}")).in_file(&path)]
            })?;
            let wrong = |message: String| Err(vec![Problem::new(message).in_file(&path)]);
            // Folders count too: links can make a few of them look like millions.
            seen += 1;
            if seen > MAX_FILES {
                return wrong(format!(
                    "the bundle holds more than {MAX_FILES} files and folders"
                ));
            }
            let shelf = Shelf::of(root, &path);
            if metadata.is_file() {
                found
                    .files
                    .extend(shelf.map(|shelf| (path, metadata, shelf)));
            } else if metadata.is_dir() {
                if depth + 1 > MAX_DEPTH {
                    return wrong(format!(
                        "the bundle holds more than {MAX_DEPTH} folders within one another"
                    ));
                }
                folders.push((path, depth + 1));
            } else if shelf.is_some() {
                // A pipe would be read for ever, and to pass it over would be to drop what it is named for.
                return wrong("the file is no regular file".to_owned());
            }
        }
    }
    found.files.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    found.folders.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// That a file is longer than it may be.
fn too_long(path: &Path, length: u64) -> Option<Problem> {
    let limit = MAX_FILE / 1024 / 1024;
    let problem = || Problem::new(format!("the file holds more than {limit} MiB")).in_file(path);
    (length > MAX_FILE).then(problem)
}

/// Reads one file, which must hold as much as it was said to.
fn read_text(path: &Path, length: u64) -> Result<String, Problem> {
    use std::io::Read;
    let wrong = |message: String| Problem::new(message).in_file(path);
    let file =
        fs::File::open(path).map_err(|error| wrong(format!("cannot read the file: {error}")))?;
    let mut bytes = Vec::new();
    file.take(length.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(format!("cannot read the file: {error}")))?;
    if u64::try_from(bytes.len()) != Ok(length) {
        return Err(wrong("the file changed while it was read".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| wrong("the file is not UTF-8 text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn files_are_known_by_their_names_in_a_tree_and_flat() {
        let tree = folder(&[
            ("schema/a.cedarschema", "1"),
            ("guardrails/b.cedar", "2"),
            ("entities/c.json", "3"),
            ("apis/d.yaml", "4"),
            ("tests/e.yaml", "5"),
            ("README.md", "no part of it"),
            (".hidden/f.cedar", "no part of it"),
        ]);
        let flat = folder(&[
            ("a.cedarschema", "1"),
            ("b.cedar", "2"),
            ("c.entities.json", "3"),
            ("d.openapi.yaml", "4"),
            ("e.test.yaml", "5"),
        ]);
        for folder in [tree, flat] {
            let files = BundleFiles::read(folder.path()).unwrap();
            let shelves = [
                files.schema,
                files.policies,
                files.entities,
                files.apis,
                files.tests,
            ];
            let texts = shelves.map(|shelf| shelf.into_iter().map(|d| d.text).collect::<String>());
            assert_eq!(texts, ["1", "2", "3", "4", "5"]);
        }
    }

    #[test]
    fn the_id_follows_every_byte_and_every_name() {
        let id = |files: &[(&str, &str)]| {
            let folder = folder(files);
            BundleFiles::read(folder.path()).unwrap().id(folder.path())
        };
        let base = id(&[("a.cedar", "xy"), ("b.cedar", "z")]);
        assert_eq!(base, id(&[("b.cedar", "z"), ("a.cedar", "xy")]));
        for other in [
            id(&[("a.cedar", "x"), ("b.cedar", "yz")]),
            id(&[("a.cedar", "xy"), ("c.cedar", "z")]),
            id(&[("a.cedar", "xy")]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn r1_a_link_swap_shows_in_the_fingerprint_even_with_equal_times() {
        let folder = folder(&[("..1/a.cedar", "one"), ("..2/a.cedar", "two")]);
        let link = folder.path().join("..data");
        std::os::unix::fs::symlink("..1", &link).unwrap();
        std::os::unix::fs::symlink("..data/a.cedar", folder.path().join("a.cedar")).unwrap();
        let before = Fingerprint::of(&[folder.path().into()]);
        let text = |folder: &Path| BundleFiles::read(folder).unwrap().policies[0].text.clone();
        assert_eq!(text(folder.path()), "one");
        let new_link = folder.path().join("..data_tmp");
        std::os::unix::fs::symlink("..2", &new_link).unwrap();
        fs::rename(new_link, link).unwrap();
        assert_ne!(Fingerprint::of(&[folder.path().into()]), before);
        assert_eq!(text(folder.path()), "two");
    }

    #[test]
    fn r1_a_folder_that_changes_while_it_is_read_is_read_again_and_never_mixed() {
        let folder = folder(&[("a.cedar", "one"), ("b.cedar", "one")]);
        let texts = |files: BundleFiles| {
            files
                .policies
                .into_iter()
                .map(|document| document.text)
                .collect::<Vec<_>>()
        };
        let left = std::cell::Cell::new(1);
        let change_once = || {
            if left.replace(0) > 0 {
                fs::write(folder.path().join("a.cedar"), "second").unwrap();
                fs::write(folder.path().join("b.cedar"), "second").unwrap();
            }
        };
        let files = BundleFiles::read_while(folder.path(), change_once).unwrap();
        assert_eq!(texts(files), ["second", "second"]);
        let count = std::cell::Cell::new(0);
        let change_always = || {
            count.set(count.get() + 1);
            fs::write(folder.path().join("a.cedar"), "x".repeat(count.get())).unwrap();
        };
        let problems = BundleFiles::read_while(folder.path(), change_always).unwrap_err();
        assert!(problems[0].message.contains("changed each time"));
        assert_eq!(count.get(), MAX_ATTEMPTS);
    }

    #[test]
    fn r1_a_policy_file_that_is_no_regular_file_is_a_problem_and_is_not_opened() {
        let folder = folder(&[("a.cedar", "one")]);
        // A socket stands for pipes and devices: all are neither file nor folder.
        let socket = folder.path().join("b.cedar");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let problems = BundleFiles::read(folder.path()).unwrap_err();
        assert!(problems[0].message.contains("no regular file"));
        fs::rename(socket, folder.path().join("b.sock")).unwrap();
        assert!(BundleFiles::read(folder.path()).is_ok());
    }

    #[test]
    fn e5_no_spelling_of_a_policy_files_name_drops_it() {
        use std::os::unix::ffi::OsStrExt;
        let folder = folder(&[("a.CEDAR", "one"), ("b.Entities.JSON", "two")]);
        let name = std::ffi::OsStr::from_bytes(b"\xff.cedar");
        fs::write(folder.path().join(name), "three").unwrap();
        let files = BundleFiles::read(folder.path()).unwrap();
        assert_eq!((files.policies.len(), files.entities.len()), (2, 1));
    }

    #[test]
    fn links_cannot_make_a_few_folders_look_like_millions() {
        let folder = folder(&[]);
        for depth in 0..6 {
            let at = folder.path().join(format!("{depth}"));
            fs::create_dir(&at).unwrap();
            for link in 0..10 {
                let to = folder.path().join(format!("{}", depth + 1));
                std::os::unix::fs::symlink(to, at.join(format!("{link}"))).unwrap();
            }
        }
        fs::create_dir(folder.path().join("6")).unwrap();
        let problems = BundleFiles::read(folder.path()).unwrap_err();
        assert!(
            problems[0]
                .message
                .contains("more than 10000 files and folders")
        );
    }

    #[test]
    fn writing_to_a_file_that_is_no_part_of_the_bundle_changes_nothing() {
        let folder = folder(&[("a.cedar", "one"), ("cardea.log", "a line")]);
        let places = [folder.path().to_path_buf()];
        let before = Fingerprint::of(&places);
        fs::write(folder.path().join("cardea.log"), "another line").unwrap();
        assert_eq!(Fingerprint::of(&places), before);
    }

    #[test]
    fn limits_are_named() {
        let deep = (0..10).map(|_| "d/").collect::<String>() + "a.cedar";
        let problems = BundleFiles::read(folder(&[(&deep, "x")]).path()).unwrap_err();
        assert!(problems[0].message.contains("more than 8 folders"));
        let large = folder(&[("a.cedar", "")]);
        let file = fs::File::create(large.path().join("b.cedar")).unwrap();
        file.set_len(MAX_FILE + 1).unwrap();
        let problems = BundleFiles::read(large.path()).unwrap_err();
        assert!(
            problems[0]
                .message
                .contains("the file holds more than 16 MiB")
        );
        assert!(problems[0].file.as_ref().unwrap().ends_with("b.cedar"));
        let whole = folder(&[]);
        for name in ["a.cedar", "b.cedar", "c.cedar"] {
            let file = fs::File::create(whole.path().join(name)).unwrap();
            file.set_len(MAX_BYTES / 3 + 1).unwrap();
        }
        let problems = BundleFiles::read(whole.path()).unwrap_err();
        assert!(
            problems[0]
                .message
                .contains("the bundle holds more than 32 MiB")
        );
        let long = vec![b'x'; usize::try_from(MAX_FILE).unwrap() + 1];
        let texts = BTreeMap::from([("a.cedar".to_owned(), &*long)]);
        let problems = BundleFiles::of_texts(Path::new("a"), texts).unwrap_err();
        assert!(
            problems[0]
                .message
                .contains("the file holds more than 16 MiB")
        );
        let problems = BundleFiles::read(Path::new("no/such/folder")).unwrap_err();
        assert!(problems[0].message.contains("cannot read the folder"));
        let binary = folder(&[]);
        fs::write(binary.path().join("a.cedar"), b"\xff").unwrap();
        let problems = BundleFiles::read(binary.path()).unwrap_err();
        assert!(problems[0].message.contains("not UTF-8"));
    }
}

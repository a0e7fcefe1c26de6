use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::write::GzEncoder;

use super::*;

const FILES: [(&str, &str); 4] = [
    ("schema/a.cedarschema", "1"),
    (
        "guardrails/b.cedar",
        "permit (principal, action, resource);",
    ),
    ("a.b/c.entities.json", "[]"),
    ("a/d.entities.json", "[]"),
];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in FILES {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(folder.path().join("README.md"), "no part of it").unwrap();
    folder
}

fn built(folder: &Path, serial: u64) -> Vec<u8> {
    let files = BundleFiles::read(folder).unwrap();
    Archive::build(&files, folder, serial, None).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// A header that says what a hostile writer likes it to say.
fn header(path: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn block(path: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(path, EntryType::Regular, content.len() as u64)
        .as_bytes()
        .to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn manifest_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut manifest = Manifest::new(1, None).unwrap();
    for (path, content) in files {
        let digest = digest_of(content);
        manifest.files.insert((*path).to_owned(), digest);
    }
    serde_json::to_vec(&manifest).unwrap()
}

const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
const POLICY: &[u8] = b"permit (principal, action, resource);";

/// A tar with a right manifest of `a.cedar`, the file, `more`, and the end.
fn tar_with(more: &[u8]) -> Vec<u8> {
    let manifest = manifest_of(&[("a.cedar", POLICY)]);
    [
        &block(manifest::NAME, &manifest),
        &block("a.cedar", POLICY),
        more,
        &END,
    ]
    .concat()
}

fn refusal(packed: &[u8]) -> String {
    let problems = Archive::inspect(packed, Path::new("b.tar.gz")).unwrap_err();
    for problem in &problems {
        assert_eq!(problem.file, Some(PathBuf::from("b.tar.gz")));
    }
    let told: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
    told.join("; ")
}

fn assert_refused(what: &str, tar: &[u8], why: &str) {
    let told = refusal(&gzip(tar));
    assert!(told.contains(why), "{what}: {told}");
}

#[test]
fn an_archive_is_the_folder_it_was_made_from() {
    let folder = folder();
    let files = BundleFiles::read(folder.path()).unwrap();
    let root = Path::new("https://bundles.example/cardea.tar.gz");
    let archive = Archive::inspect(&built(folder.path(), 3), root).unwrap();
    assert_eq!(archive.manifest.serial, 3);
    assert_eq!(archive.manifest.len(), FILES.len());
    assert_eq!(archive.files.id(root), files.id(folder.path()));
    let names = |files: &BundleFiles, root: &Path| -> Vec<PathBuf> {
        let relative = |d: &super::super::Document| d.path.strip_prefix(root).unwrap().to_owned();
        files.documents().map(relative).collect()
    };
    assert_eq!(
        names(&archive.files, root),
        names(&files, folder.path()),
        "in the same order"
    );
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (one, other) = (folder(), folder());
    assert_eq!(built(one.path(), 3), built(other.path(), 3));
    assert_ne!(built(one.path(), 3), built(one.path(), 4));
    let files = BundleFiles::read(one.path()).unwrap();
    let created = "2026-01-02T03:04:05Z".parse().ok();
    let timed = Archive::build(&files, one.path(), 3, created).unwrap();
    let again = Archive::build(&files, one.path(), 3, created).unwrap();
    assert_eq!(timed, again);
    let archive = Archive::inspect(&timed, one.path()).unwrap();
    assert_eq!(
        archive.manifest.created.as_deref(),
        Some("2026-01-02T03:04:05Z")
    );
}

#[test]
fn an_archive_of_the_shipped_bundle_is_the_shipped_bundle() {
    let folder = Path::new("policies");
    let files = BundleFiles::read(folder).unwrap();
    let packed = Archive::build(&files, folder, 1, None).unwrap();
    assert_eq!(Archive::inspect(&packed, folder).unwrap().files, files);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (path, why) in [
        ("../a.cedar", "leads out"),
        ("x/../../a.cedar", "leads out"),
        ("/etc/passwd", "is absolute"),
        ("x//a.cedar", "empty part"),
        ("./a.cedar", "leads out"),
        (".git/a.cedar", "begins with a dot"),
        ("x\\a.cedar", "backslash"),
        ("x\u{1b}[2J.cedar", "cannot be seen"),
    ] {
        assert_refused(path, &tar_with(&block(path, POLICY)), why);
        // The manifest may not list it either.
        let manifest = manifest_of(&[(path, POLICY)]);
        let tar = [&block(manifest::NAME, &manifest)[..], &END].concat();
        assert_refused(path, &tar, why);
    }
    let mut raw = header("a.cedar", EntryType::Regular, 0);
    raw.as_ustar_mut().unwrap().name[0] = 0xff;
    raw.set_cksum();
    assert_refused("not UTF-8", &tar_with(raw.as_bytes()), "not UTF-8");
}

#[test]
fn only_plain_files_are_taken() {
    for (kind, why) in [
        (EntryType::Symlink, "is a link"),
        (EntryType::Link, "is a link"),
        (EntryType::Directory, "is a folder"),
        (EntryType::Char, "is a device"),
        (EntryType::Block, "is a device"),
        (EntryType::Fifo, "is a device"),
        (EntryType::XHeader, "no plain file"),
        (EntryType::XGlobalHeader, "no plain file"),
        (EntryType::GNULongName, "no plain file"),
        (EntryType::GNULongLink, "no plain file"),
        (EntryType::GNUSparse, "no plain file"),
        (EntryType::new(b'V'), "no plain file"),
    ] {
        let mut header = header("b.cedar", kind, 0);
        header.as_ustar_mut().unwrap().linkname[..11].copy_from_slice(b"/etc/passwd");
        header.set_cksum();
        assert_refused(&format!("{kind:?}"), &tar_with(header.as_bytes()), why);
    }
    let mut gnu = Header::new_gnu();
    gnu.set_path("b.cedar").unwrap();
    gnu.set_size(0);
    gnu.set_cksum();
    assert_refused("GNU", &tar_with(gnu.as_bytes()), "not of the ustar form");
}

#[test]
fn what_is_held_and_what_is_listed_must_be_the_same() {
    let twice = tar_with(&block("a.cedar", POLICY));
    assert_refused("twice", &twice, "holds `a.cedar` twice");
    let manifest = manifest_of(&[("a.cedar", POLICY)]);
    let twice = tar_with(&block(manifest::NAME, &manifest));
    assert_refused("two manifests", &twice, "holds `manifest.json` twice");
    let extra = tar_with(&block("b.cedar", POLICY));
    assert_refused("extra", &extra, "`b.cedar` is in the archive and not");
    let missing = [&block(manifest::NAME, &manifest)[..], &END].concat();
    assert_refused("missing", &missing, "`a.cedar` is in the manifest and not");
    let changed = [
        &block(manifest::NAME, &manifest)[..],
        &block("a.cedar", b"permit(principal, action, resource);"),
        &END,
    ];
    assert_refused("changed", &changed.concat(), "`a.cedar` is not what");
    let none = [&block("a.cedar", POLICY)[..], &END].concat();
    assert_refused("no manifest", &none, "holds no `manifest.json`");
    let bad = [&block(manifest::NAME, b"{")[..], &END].concat();
    assert_refused("bad manifest", &bad, "`manifest.json` cannot be used");
    let manifest = manifest_of(&[("a.cedar", b"\xff")]);
    let binary = [
        &block(manifest::NAME, &manifest)[..],
        &block("a.cedar", b"\xff"),
        &END,
    ];
    let root = Path::new("b.tar.gz");
    let problems = Archive::inspect(&gzip(&binary.concat()), root).unwrap_err();
    assert!(
        problems[0]
            .to_string()
            .contains("a.cedar: the file is not UTF-8")
    );
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let whole = built(folder().path(), 1);
    for length in 0..whole.len() {
        let told = refusal(&whole[..length]);
        assert!(told.contains("too early"), "{length}: {told}");
    }
    let tar = tar_with(&[]);
    for length in (0..tar.len()).step_by(BLOCK / 2) {
        assert_refused(&length.to_string(), &tar[..length], "too early");
    }
}

#[test]
fn an_archive_with_any_bit_turned_is_refused_or_the_same() {
    let folder = folder();
    let whole = built(folder.path(), 1);
    let root = Path::new("b.tar.gz");
    let good = Archive::inspect(&whole, root).unwrap();
    let mut refused = 0;
    for index in 0..whole.len() {
        let mut turned = whole.clone();
        turned[index] ^= 1 << (index % 8);
        match Archive::inspect(&turned, root) {
            // The time and the system in gzip's own head say nothing about the content.
            Ok(archive) => assert_eq!(archive, good, "byte {index}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > whole.len() - 16, "{refused} of {}", whole.len());
}

#[test]
fn nothing_may_follow_the_end() {
    let good = tar_with(&[]);
    let zeros = [&good[..], &[0; 16 * BLOCK]].concat();
    Archive::inspect(&gzip(&zeros), Path::new("b.tar.gz")).unwrap();
    let more = [&good[..], &block("b.cedar", POLICY)].concat();
    assert_refused("a file after the end", &more, "follows the end");
    assert_refused("text", &[&good[..], b"x"].concat(), "follows the end");
    let packed = gzip(&good);
    assert!(refusal(&[&packed[..], b"x"].concat()).contains("follows the end"));
    let second = gzip(&block("b.cedar", POLICY));
    assert!(refusal(&[packed, second].concat()).contains("follows the end"));
    let mut hidden = tar_with(&[]);
    hidden[BLOCK + manifest_of(&[("a.cedar", POLICY)]).len()] = b'x';
    assert_refused("in the padding", &hidden, "something hides");
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    // 64 MiB of zeros in some 64 KiB.
    let bomb = gzip(&vec![0; 64 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024);
    assert!(refusal(&bomb).contains("more than 32 MiB"));
    let long = vec![0; MAX_PACKED + 1];
    assert!(refusal(&long).contains("longer than 16 MiB"));
    assert!(refusal(b"not gzip at all, by far").contains("not gzip"));
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for size in [MAX_BYTES + 1, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
        let header = header("b.cedar", EntryType::Regular, size);
        assert_refused(
            "size",
            &tar_with(header.as_bytes()),
            "a size that cannot be",
        );
    }
    let header = header("b.cedar", EntryType::Regular, 20 * 1024);
    assert_refused("size", &tar_with(header.as_bytes()), "too early");
    let mut damaged = tar_with(&[]);
    damaged[3] ^= 1;
    assert_refused("checksum", &damaged, "damaged");
}

#[test]
fn too_many_files_are_refused() {
    let mut tar = Vec::new();
    for number in 0..=MAX_FILES + 1 {
        tar.extend(block(&format!("{number}.cedar"), b""));
    }
    tar.extend(END);
    assert_refused("files", &tar, "more than 10000 files");
}

#[test]
fn what_cannot_stand_in_an_archive_is_not_built() {
    let folder = folder();
    let files = BundleFiles::read(folder.path()).unwrap();
    for serial in [0, 1 << 53] {
        let problems = Archive::build(&files, folder.path(), serial, None).unwrap_err();
        assert!(problems[0].message.contains("serial"));
    }
    fs::write(folder.path().join("b\\c.cedar"), "x").unwrap();
    fs::write(
        folder.path().join(format!("{}.cedar", "x".repeat(120))),
        "x",
    )
    .unwrap();
    let files = BundleFiles::read(folder.path()).unwrap();
    let problems = Archive::build(&files, folder.path(), 1, None).unwrap_err();
    assert!(problems[0].message.contains("backslash"), "{problems:?}");
    fs::remove_file(folder.path().join("b\\c.cedar")).unwrap();
    let files = BundleFiles::read(folder.path()).unwrap();
    let problems = Archive::build(&files, folder.path(), 1, None).unwrap_err();
    assert!(problems[0].message.contains("too long"), "{problems:?}");
}

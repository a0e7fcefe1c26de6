use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::slice::from_ref;

use super::*;

fn told<T: std::fmt::Debug>(result: Result<T, Vec<Problem>>) -> String {
    let problems = result.unwrap_err();
    problems.iter().map(|p| format!("{p}\n")).collect()
}

fn bytes(path: &Path) -> Vec<u8> {
    read_file(path, MAX_PACKED).unwrap()
}

#[test]
fn from_keys_to_a_verified_archive() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let said = keygen(&at("keys")).unwrap();
    let (private, public) = (at("keys/cardea-bundle.key"), at("keys/cardea-bundle.pub"));
    let mode = fs::metadata(&private).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!said.contains("PRIVATE KEY"), "{said}");

    let (one, other) = (at("one.tar.gz"), at("other.tar.gz"));
    build(Path::new("policies"), &one, (4, None)).unwrap();
    build(Path::new("policies"), &other, (4, None)).unwrap();
    assert_eq!(bytes(&one), bytes(&other));

    assert!(told(verify(&one, from_ref(&public))).contains("one.tar.gz.sig: cannot read"));
    sign(&one, &private).unwrap();
    let said = verify(&one, from_ref(&public)).unwrap();
    let same = Snapshot::load(Path::new("policies"), &SystemClock).unwrap();
    for part in ["serial 4", same.id.as_str(), "signed with the key"] {
        assert!(said.contains(part), "{part}: {said}");
    }

    keygen(&at("more")).unwrap();
    let stranger = at("more/cardea-bundle.pub");
    assert!(told(verify(&one, from_ref(&stranger))).contains("not trusted"));
    verify(&one, &[stranger, public.clone()]).unwrap();

    fs::copy(signature_path(&one), signature_path(&other)).unwrap();
    verify(&other, from_ref(&public)).unwrap();
    build(Path::new("policies"), &other, (5, None)).unwrap();
    assert!(told(verify(&other, from_ref(&public))).contains("not over this archive"));
}

#[test]
fn a_key_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    for name in [PRIVATE, PUBLIC] {
        let file = folder.path().join(name);
        fs::write(&file, "mine").unwrap();
        assert!(told(keygen(folder.path())).contains(name), "{name}");
        assert_eq!(bytes(&file), b"mine");
        fs::remove_file(file).unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    keygen(folder.path()).unwrap();
}

#[test]
fn what_would_be_refused_is_not_signed_and_what_does_not_compile_is_not_verified() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    keygen(folder.path()).unwrap();
    fs::write(at("x.tar.gz"), "no archive").unwrap();
    assert!(
        told(sign(&at("x.tar.gz"), &at(PRIVATE))).contains("x.tar.gz: the archive is not gzip")
    );
    assert!(!at("x.tar.gz.sig").exists());

    fs::create_dir(at("broken")).unwrap();
    fs::write(at("broken/p.cedar"), "permit (").unwrap();
    build(&at("broken"), &at("b.tar.gz"), (1, None)).unwrap();
    sign(&at("b.tar.gz"), &at(PRIVATE)).unwrap();
    let problems = told(verify(&at("b.tar.gz"), &[at(PUBLIC)]));
    assert!(problems.contains("b.tar.gz/p.cedar:1:"), "{problems}");
    assert!(
        told(build(&at("none"), &at("c.tar.gz"), (1, None))).contains("cannot read the folder")
    );
    assert!(!at("c.tar.gz").exists());
}

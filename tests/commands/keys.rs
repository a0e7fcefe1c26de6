//! `cardea keys`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::{cardea, text};

/// Runs `cardea keys` on the files of a folder: exit code, standard output, standard error.
fn keys(folder: &Path, what: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let [file, secret] = ["keys.json", "hash-key"].map(|name| folder.join(name));
    let (file, secret) = (file.to_str().unwrap(), secret.to_str().unwrap());
    let places = ["keys", what, "--file", file, "--hash-key-file", secret];
    let output = cardea(&[&places[..], more].concat(), b"");
    let code = output.status.code();
    (code, text(&output.stdout), text(&output.stderr))
}

/// The same, where it must succeed: standard output.
#[track_caller]
fn done(folder: &Path, what: &str, more: &[&str]) -> String {
    let (code, out, err) = keys(folder, what, more);
    assert_eq!(code, Some(0), "{err}");
    out
}

fn listed(folder: &Path) -> Vec<Value> {
    let out = done(folder, "list", &["--format", "json"]);
    serde_json::from_str(&out).unwrap()
}

fn ready() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    done(folder.path(), "init", &[]);
    folder
}

#[test]
fn a_key_is_shown_once_and_no_file_holds_it() {
    let folder = ready();
    let arguments = [
        "--owner",
        "billing",
        "--scope",
        "orders:read",
        "--scope",
        "orders:write",
        "--role",
        "viewer",
        "--tenant",
        "acme",
        "--note",
        "nightly run",
    ];
    let (code, out, err) = keys(folder.path(), "create", &arguments);
    assert_eq!(code, Some(0), "{err}");
    let key = out.strip_suffix('\n').unwrap();
    assert!(
        key.starts_with("cardea_") && !key.contains('\n'),
        "the key and nothing else: {out}"
    );
    assert!(err.contains("billing") && !err.contains(key));
    let stored = fs::read_to_string(folder.path().join("keys.json")).unwrap();
    let secret = key.rsplit('_').next().unwrap();
    assert!(!stored.contains(secret) && !stored.contains(secret.get(..16).unwrap()));
    for name in ["keys.json", "hash-key"] {
        let mode = fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let all = listed(folder.path());
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["owner"]["subject"], "billing");
    assert_eq!(
        all[0]["owner"]["scopes"],
        serde_json::json!(["orders:read", "orders:write"])
    );
    assert_eq!(all[0]["state"], "active");
    let id = all[0]["id"].as_str().unwrap();
    assert!(key.contains(id));
    let table = done(folder.path(), "list", &[]);
    assert!(
        table.starts_with("ID ") && table.contains(id) && table.contains("active"),
        "{table}"
    );
    assert!(!table.contains(secret));
}

#[test]
fn a_key_is_revoked_and_rotated() {
    let folder = ready();
    let shown = done(
        folder.path(),
        "create",
        &["--owner", "billing", "--format", "json"],
    );
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let old = shown["id"].as_str().unwrap();
    assert!(shown["key"].as_str().unwrap().contains(old));
    let rotated = done(
        folder.path(),
        "rotate",
        &[old, "--overlap", "0s", "--expires-in", "1w"],
    );
    assert!(rotated.starts_with("cardea_"));
    let all = listed(folder.path());
    assert_eq!(
        (&all[0]["state"], &all[1]["state"]),
        (&"expired".into(), &"active".into())
    );
    assert_eq!(
        (&all[0]["successor"], &all[1]["replaces"]),
        (&all[1]["id"], &all[0]["id"])
    );
    assert_eq!(all[0]["owner"], all[1]["owner"]);
    let new = all[1]["id"].as_str().unwrap();
    assert!(done(folder.path(), "revoke", &[new]).contains("revoked"));
    assert!(done(folder.path(), "revoke", &[new]).contains("already"));
    assert_eq!(listed(folder.path())[1]["state"], "revoked");
}

#[test]
fn mistakes_end_in_exit_code_2_and_change_nothing() {
    let folder = ready();
    done(folder.path(), "create", &["--owner", "billing"]);
    let before = fs::read(folder.path().join("keys.json")).unwrap();
    for (what, arguments, word) in [
        ("revoke", &["nobody"][..], "there is no key of that id"),
        ("rotate", &["nobody"], "there is no key of that id"),
        ("create", &["--owner", ""], "`subject`"),
        ("create", &["--owner", "a", "--issuer", "a|b"], "`issuer`"),
        ("create", &["--owner", "a", "--scope", "a b"], "`scopes`"),
        (
            "create",
            &["--owner", "a", "--expires-in", "soon"],
            "length of time",
        ),
        (
            "create",
            &["--owner", "a", "--expires-in=-1d"],
            "length of time",
        ),
        (
            "create",
            &["--owner", "a", "--expires-in", "0s"],
            "a second",
        ),
        ("create", &[], "--owner"),
    ] {
        let (code, out, err) = keys(folder.path(), what, arguments);
        assert_eq!((code, &*out), (Some(2), ""), "{arguments:?}");
        assert!(err.contains(word), "{arguments:?}: {err}");
    }
    assert_eq!(fs::read(folder.path().join("keys.json")).unwrap(), before);

    fs::write(folder.path().join("keys.json"), "{\n  \"version\": 1,\n").unwrap();
    let (code, _, err) = keys(folder.path(), "create", &["--owner", "a"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("keys.json:"), "{err}");

    let nowhere = tempfile::tempdir().unwrap();
    let (code, _, err) = keys(nowhere.path(), "list", &[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("cardea keys init"), "{err}");
}

#[test]
fn init_leaves_what_exists_alone_and_another_hash_key_is_told() {
    let folder = ready();
    done(folder.path(), "create", &["--owner", "billing"]);
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let before = (read("hash-key"), read("keys.json"));
    assert!(done(folder.path(), "init", &[]).contains("it was there"));
    assert_eq!((read("hash-key"), read("keys.json")), before);
    fs::remove_file(folder.path().join("hash-key")).unwrap();
    let (code, _, err) = keys(folder.path(), "init", &[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("another hash key"), "{err}");
}

#[test]
fn commands_at_the_same_time_lose_no_key() {
    let folder = ready();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = folder.path();
            scope.spawn(move || done(path, "create", &["--owner", &format!("owner-{number}")]));
        }
    });
    assert_eq!(listed(folder.path()).len(), 8);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".tmp")),
        "{left:?}"
    );
}

#[test]
fn the_settings_say_where_keys_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let settings = format!(
        "identity:\n  api_keys:\n    file: {}\n    hash_key: {{ file: {} }}\n    prefix: acme_live\n",
        path("store.json"),
        path("pepper")
    );
    fs::write(folder.path().join("cardea.yaml"), settings).unwrap();
    let config = path("cardea.yaml");
    let run = |what: &str, more: &[&str]| {
        let output = cardea(
            &[&["keys", what, "--config", &config][..], more].concat(),
            b"",
        );
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    run("init", &[]);
    assert!(run("create", &["--owner", "billing"]).starts_with("acme_live_"));
    assert!(folder.path().join("store.json").exists());
}

#[test]
fn a_password_is_hashed_from_standard_input_only() {
    let output = cardea(&["keys", "hash-password"], b"correct horse battery\n");
    assert_eq!(output.status.code(), Some(0));
    let hash = text(&output.stdout);
    assert!(
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{hash}"
    );
    let again = cardea(&["keys", "hash-password"], b"correct horse battery");
    assert_ne!(text(&again.stdout), hash, "each has a salt of its own");
    for bad in [
        &b""[..],
        b"short\n",
        b"with\ttab in it\n",
        b"\xff\xfe not text at all\n",
    ] {
        let output = cardea(&["keys", "hash-password"], bad);
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]));
    }
    let argument = cardea(&["keys", "hash-password", "correct horse battery"], b"");
    assert_eq!(argument.status.code(), Some(2));
}

//! `cardea test` and `cardea check`.

use std::fs;
use std::path::Path;

use crate::{cardea, shipped, text};

/// A copy of the shipped bundle that may be changed.
pub(crate) fn copy() -> tempfile::TempDir {
    fn copy_folder(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy_folder(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&shipped(), folder.path());
    folder
}

fn test(bundle: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut arguments = vec!["test", "--bundle", bundle.to_str().unwrap()];
    arguments.extend(more);
    let output = cardea(&arguments, b"");
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn the_shipped_bundle_passes_its_tests_and_they_reach_every_policy() {
    let (code, out, err) = test(&shipped(), &["--coverage", "--fail-under", "100"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("(100%)"), "{out}");
}

#[test]
fn a_failing_case_ends_in_exit_code_1_and_shows_the_difference() {
    let bundle = copy();
    let cases = "- { name: everybody writes, given: { request: { method: POST, path: /v1/orders } }, expect: { verdict: allow } }";
    fs::write(bundle.path().join("tests/orders.yaml"), cases).unwrap();
    let (code, out, _) = test(bundle.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(out.contains("orders.yaml:1: everybody writes\n  verdict\n    - expected allow\n    + found    deny\n"), "{out}");
    assert!(out.ends_with("1 of 36 failed\n"), "{out}");

    let (code, out, _) = test(bundle.path(), &["--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["failed"]), (Some(1), &1.into()));

    let (code, out, _) = test(bundle.path(), &["--format", "junit"]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("<failure message=\"verdict: expected allow, found deny\">"),
        "{out}"
    );

    let check = cardea(&["check", "--bundle", bundle.path().to_str().unwrap()], b"");
    assert_eq!(check.status.code(), Some(2));
    let err = text(&check.stderr);
    assert!(
        err.contains(
            "error: the test `everybody writes` fails: verdict: expected allow, found deny"
        ),
        "{err}"
    );
    assert!(err.contains("orders.yaml:1:1\n"), "{err}");
}

/// Keys, and a signed archive of the shipped bundle: the folder they lie in.
fn signed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let bundle = shipped().display().to_string();
    for arguments in [
        &["keygen", "--out", &at("keys")][..],
        &["build", &bundle, "--serial", "1", "--out", &at("b.tar.gz")],
        &[
            "sign",
            &at("b.tar.gz"),
            "--key",
            &at("keys/cardea-bundle.key"),
        ],
    ] {
        let output = cardea(&[&["bundle"], arguments].concat(), b"");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    folder
}

#[test]
fn a_signed_archive_is_tested_as_its_folder_is_and_an_unsigned_one_is_not() {
    let folder = signed();
    let at = |name: &str| folder.path().join(name);
    let config = at("cardea.yaml");
    let key = at("keys/cardea-bundle.pub");
    let settings = serde_json::json!({ "bundle": { "public_keys": [key] } });
    fs::write(&config, settings.to_string()).unwrap();
    let more = ["--config", config.to_str().unwrap()];
    let (code, out, err) = test(&at("b.tar.gz"), &more);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out, test(&shipped(), &[]).1);

    let (code, _, err) = test(&at("b.tar.gz"), &[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("`bundle.public_keys` is empty"), "{err}");
    fs::remove_file(at("b.tar.gz.sig")).unwrap();
    let (code, _, err) = test(&at("b.tar.gz"), &more);
    assert_eq!(code, Some(2));
    assert!(err.contains("b.tar.gz.sig"), "{err}");
}

#[test]
fn a_remote_bundle_that_was_never_fetched_is_not_replaced_by_a_folder() {
    let folder = signed();
    let at = |name: &str| folder.path().join(name);
    let settings = serde_json::json!({ "bundle": {
        "path": shipped(), "public_keys": [at("keys/cardea-bundle.pub")], "cache_dir": at("kept"),
        "remote": { "url": "http://127.0.0.1:1/b.tar.gz" },
    } });
    fs::write(at("cardea.yaml"), settings.to_string()).unwrap();
    let config = at("cardea.yaml").display().to_string();
    for command in ["test", "access"] {
        let output = cardea(&[command, "--config", &config], b"");
        assert_eq!(output.status.code(), Some(2), "{command}");
        let err = text(&output.stderr);
        assert!(err.contains("none is kept on disk yet"), "{command}: {err}");
    }
}

#[test]
fn no_command_judges_under_wrong_settings() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("cardea.yaml");
    fs::write(&config, "bundle: { poll: 1ms }\n").unwrap();
    let (config, bundle) = (config.to_str().unwrap(), shipped().display().to_string());
    let mut commands = vec![
        &["check"][..],
        &["test"],
        &["access"],
        &["decide"],
        &["explain", "-"],
    ];
    if cfg!(feature = "prove") {
        commands.push(&["prove"]);
    }
    for command in commands {
        let places = ["--config", config, "--bundle", &bundle];
        let request = br#"{"caller":"anonymous","request":{"path":"/v1/status"}}"#;
        let output = cardea(&[command, &places[..]].concat(), request);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let err = text(&output.stderr);
        assert!(err.contains("`bundle.poll` must lie"), "{command:?}: {err}");
    }
}

#[test]
fn a_warning_that_is_denied_is_a_no_and_not_a_mistake() {
    let bundle = copy();
    let open = "@id(\"open\")\npermit (principal, action == Cardea::Action::\"orders.createOrder\", resource);\n";
    fs::write(bundle.path().join("open.cedar"), open).unwrap();
    let folder = bundle.path().display().to_string();
    // The bundle's own tests are not what is asked here.
    let config = bundle.path().join("cardea.yaml");
    fs::write(&config, "bundle: { run_tests: false }\n").unwrap();
    let places = [
        "check",
        "--config",
        config.to_str().unwrap(),
        "--bundle",
        &folder,
    ];
    let output = cardea(&places, b"");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(err.contains("warning[no_scope]"), "{err}");
    let output = cardea(&[&places[..], &["--deny-warnings"]].concat(), b"");
    assert_eq!(output.status.code(), Some(1));
    fs::write(bundle.path().join("broken.cedar"), "permit (").unwrap();
    let output = cardea(&[&places[..], &["--deny-warnings"]].concat(), b"");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn every_command_whose_exit_code_says_something_names_its_codes() {
    let mut commands = vec![
        "check", "test", "decide", "explain", "access", "bundle", "replay", "revoke", "keys",
    ];
    if cfg!(feature = "prove") {
        commands.push("prove");
    }
    for command in commands {
        let output = cardea(&[command, "--help"], b"");
        assert_eq!(output.status.code(), Some(0), "{command}");
        let help = text(&output.stdout);
        assert!(help.contains("Exit codes: 0 "), "{command}: {help}");
    }
}

#[test]
fn policies_that_no_case_reaches_are_listed_with_their_place() {
    let bundle = copy();
    let lonely =
        "@id(\"lonely\")\npermit (principal == Cardea::User::\"a|b\", action, resource);\n";
    fs::write(bundle.path().join("lonely.cedar"), lonely).unwrap();
    let (code, out, err) = test(bundle.path(), &["--fail-under", "100"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("lonely.cedar:1: lonely never was"), "{out}");
    assert!(
        err.contains("the tests reach 93% of the policies, and 100% are asked for"),
        "{err}"
    );
    assert_eq!(test(bundle.path(), &["--fail-under", "93"]).0, Some(0));
}

#[test]
fn named_files_stand_in_place_of_the_bundles_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.yaml");
    fs::write(
        &file,
        "- { name: one, given: { request: { path: /v1/status } }, expect: { status: 200 } }",
    )
    .unwrap();
    let (code, out, _) = test(&shipped(), &[file.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(0), "1 passed\n"));
}

#[test]
fn mistakes_end_in_exit_code_2_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.yaml");
    let path = file.to_str().unwrap();
    for (cases, expected) in [
        ("- name: [", "one.yaml:1:"),
        (
            "- name: a\n  given: { requst: {} }\n",
            "one.yaml:2:12: unknown field `requst`",
        ),
        ("", "there is no test"),
    ] {
        fs::write(&file, cases).unwrap();
        let (code, out, err) = test(&shipped(), &[path]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{cases}");
        assert!(err.contains(expected), "{cases}: {err}");
    }
    let (code, _, err) = test(&shipped(), &["no/such/file.yaml"]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("no/such/file.yaml: cannot read the file"),
        "{err}"
    );
    assert_eq!(test(Path::new("no/such/bundle"), &[]).0, Some(2));
}

#[test]
fn the_cases_in_the_documentation_pass() {
    let page = include_str!("../../docs/testing-policies.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (cases, _) = rest.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.yaml");
    fs::write(&file, cases).unwrap();
    let (code, out, err) = test(&shipped(), &[file.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(0), "2 passed\n"), "{err}");
}

//! `cardea mint`, and what rehearsals tell of tokens for upstreams.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::{cardea, shipped, text};

/// Runs `cardea mint` on a folder: exit code, standard output, standard error.
fn mint(folder: &Path, what: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let folder = folder.to_str().unwrap();
    let output = cardea(
        &[&["mint", what, "--directory", folder], more].concat(),
        b"",
    );
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// The same, where it must succeed: standard output.
#[track_caller]
fn done(folder: &Path, what: &str, more: &[&str]) -> String {
    let (code, out, err) = mint(folder, what, more);
    assert_eq!(code, Some(0), "{err}");
    out
}

#[test]
fn a_key_is_made_in_a_file_that_only_its_owner_reads_and_nobody_is_shown_it() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("new");
    let out = done(&keys, "create-key", &[]);
    let (path, kid) = out.trim().split_once("\nkid ").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(Path::new(path)), mode(&keys)), (0o600, 0o700));
    let pem = fs::read_to_string(path).unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let secret = pem.lines().nth(1).unwrap();
    let table = done(&keys, "list-keys", &[]);
    assert!(
        table.starts_with("FILE ") && table.contains("ES256") && table.contains(kid),
        "{table}"
    );
    let listed: Value =
        serde_json::from_str(&done(&keys, "list-keys", &["--format", "json"])).unwrap();
    assert_eq!(listed[0]["kid"], kid);
    let jwks = done(&keys, "list-keys", &["--format", "jwks"]);
    let set: Value = serde_json::from_str(&jwks).unwrap();
    assert_eq!(
        (&set["keys"][0]["kid"], &set["keys"][0]["alg"]),
        (&json!(kid), &json!("ES256"))
    );
    assert_eq!(set["keys"][0].get("d"), None);
    for told in [&out, &table, &jwks] {
        assert!(!told.contains(secret));
    }
    assert_eq!(
        fs::read_dir(&keys).unwrap().count(),
        1,
        "nothing half is left"
    );
}

#[test]
fn a_key_that_would_never_sign_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    done(folder.path(), "create-key", &["--algorithm", "eddsa"]);
    let made = fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::rename(&made, folder.path().join("key.pem")).unwrap();
    let (code, _, err) = mint(folder.path(), "create-key", &[]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("would not be the last by name") && err.contains("key.pem"),
        "{err}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_folder_of_keys_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = mint(folder.path(), "list-keys", &[]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("holds no key that signs") && err.contains("create-key"),
        "{err}"
    );
    fs::write(folder.path().join("a.pem"), "canary").unwrap();
    let (code, _, err) = mint(folder.path(), "list-keys", &[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("a.pem") && !err.contains("canary"), "{err}");
    let output = cardea(&["mint", "list-keys"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no folder of keys is named"));
}

/// Settings that mint, with these claims.
fn settings(folder: &Path) -> String {
    let settings = json!({
        "bundle": { "path": shipped() },
        "public": { "address": "127.0.0.1:0" },
        "mint": { "issuer": "https://cardea.internal", "audiences": { "orders": "https://orders" } },
    });
    let path = folder.join("cardea.yaml");
    fs::write(&path, settings.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

const CALLER: &str = r#"{"roles":"order-viewer","scopes":"orders:read","audience":"https://api.example.com","tenant":"canary-tenant"}"#;

#[test]
fn decide_tells_of_the_token_that_the_upstream_would_get_and_signs_none() {
    let folder = tempfile::tempdir().unwrap();
    let config = settings(folder.path());
    let known = format!(r#"{{"caller":{CALLER},"request":{{"path":"/v1/orders"}}}}"#);
    let roles: Vec<String> = (0..150)
        .map(|number| format!("order-viewer-{number:030}"))
        .collect();
    let all = [&roles[..], &["order-viewer".to_owned()]].concat();
    let too_much = json!({
        "caller": { "roles": all, "scopes": "orders:read", "audience": "https://api.example.com" },
        "request": { "path": "/v1/orders" },
    });
    let input = format!(
        "{known}\n{}\n{}\n{too_much}\n",
        r#"{"caller":"anonymous","request":{"path":"/v1/status"}}"#,
        r#"{"caller":"anonymous","request":{"path":"/v1/orders"}}"#,
    );
    let output = cardea(&["decide", "--config", &config], input.as_bytes());
    let lines = text(&output.stdout);
    let answers: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers[0]["verdict"], "allow", "{lines}");
    let token = &answers[0]["upstream_token"];
    assert_eq!(
        (&token["header"], &token["audience"]),
        (&json!("x-cardea-identity"), &json!("https://orders"))
    );
    let claims: Vec<&str> = token["claims"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        claims.contains(&"sub") && claims.contains(&"roles") && !claims.contains(&"groups"),
        "{claims:?}"
    );
    assert!(!lines.contains("canary"), "names, and not what they hold");
    assert_eq!(
        answers[1].get("upstream_token"),
        None,
        "nobody in particular has none"
    );
    assert_eq!(
        answers[2].get("upstream_token"),
        None,
        "what is refused has none"
    );
    assert_eq!(
        (&answers[3]["reason"], &answers[3]["status"]),
        (&json!("mint_failed"), &json!(503))
    );
}

#[test]
fn explain_tells_of_the_token_that_the_upstream_would_get() {
    let folder = tempfile::tempdir().unwrap();
    let config = settings(folder.path());
    let request = format!(r#"{{"caller":{CALLER},"request":{{"path":"/v1/orders"}}}}"#);
    let output = cardea(&["explain", "-", "--config", &config], request.as_bytes());
    let page = text(&output.stdout);
    assert!(
        page.contains("a token in `x-cardea-identity`, for https://orders"),
        "{page}"
    );
    let output = cardea(
        &["explain", "-", "--json", "--config", &config],
        request.as_bytes(),
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        told["decided"]["upstream_token"]["audience"],
        "https://orders"
    );
}

//! A small bundle, and the command that proves something of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(super) const SHOP: &str = r#"
openapi: 3.1.0
info: { title: Shop, version: 1.0.0 }
servers: [{ url: "https://shop.example.com" }]
x-cardea: { api: shop, exposure: public }
paths:
  /orders:
    post: { operationId: buy, responses: { "201": { description: Bought } } }
"#;

/// One API with one operation, and some policies.
pub(super) struct Bundle(TempDir);

/// What came of a run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) code: i32,
    pub(super) report: Value,
    pub(super) errors: String,
}

/// The solver that `make test` installs.
pub(super) fn solver() -> PathBuf {
    let solver = std::env::var_os("CARDEA_CVC5").map(PathBuf::from);
    let solver = solver.expect("CARDEA_CVC5 names no solver: run these tests with `make test`");
    assert!(
        solver.exists(),
        "there is no solver at {}",
        solver.display()
    );
    solver
}

/// Runs the command with the real solver. The report is JSON.
pub(super) fn prove(arguments: &[&str]) -> Run {
    prove_with(&solver(), arguments)
}

pub(super) fn prove_with(solver: &Path, arguments: &[&str]) -> Run {
    // A busy machine is no reason to fail.
    let mut patience = vec![["--question-timeout", "60s"], ["--timeout", "10m"]];
    patience.retain(|[name, _]| !arguments.contains(name));
    let output = Command::new(env!("CARGO_BIN_EXE_cardea"))
        .args(["prove", "--json"])
        .args(patience.concat())
        .args(arguments)
        .env("CARDEA_CVC5", solver)
        .env_remove("CARDEA_CONFIG")
        .env_remove("CARDEA_BUNDLE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Run {
        code: output.status.code().unwrap(),
        report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Bundle {
    pub(super) fn of(policies: &str) -> Self {
        let bundle = Self(tempfile::tempdir().unwrap());
        bundle.file("policies.cedar", policies);
        bundle.file("shop.openapi.yaml", SHOP);
        let schema = include_str!("../../policies/schema/cardea.cedarschema");
        bundle.file("cardea.cedarschema", schema);
        bundle
    }

    /// Writes a file of the bundle. One named `more.cedar` is an invariant for the command line, and lies beside it.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let folder = if name == "more.cedar" {
            "beside"
        } else {
            "bundle"
        };
        let folder = self.0.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(super) fn path(&self) -> String {
        self.0.path().join("bundle").to_str().unwrap().to_owned()
    }

    pub(super) fn prove(&self, arguments: &[&str]) -> Run {
        prove(&[&["--bundle", &self.path()], arguments].concat())
    }

    pub(super) fn prove_with(&self, solver: &Path, arguments: &[&str]) -> Run {
        prove_with(solver, &[&["--bundle", &self.path()], arguments].concat())
    }

    /// A program that is not cvc5.
    pub(super) fn pretender(&self, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = PathBuf::from(self.file("more.cedar", "")).with_file_name("pretender");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Run {
    /// The ids of what is refuted of a kind, in order.
    pub(super) fn refuted(&self, claim: &str) -> Vec<&str> {
        self.list("refuted")
            .filter(|one| one["claim"] == claim)
            .map(|one| one["id"].as_str().unwrap_or("the bundle"))
            .collect()
    }

    /// The first thing that is refuted.
    pub(super) fn first(&self) -> &Value {
        self.list("refuted")
            .next()
            .unwrap_or_else(|| panic!("nothing is refuted: {self:?}"))
    }

    pub(super) fn reasons(&self) -> String {
        let reasons = self
            .list("unsettled")
            .map(|one| one["reason"].as_str().unwrap());
        reasons.collect::<Vec<_>>().join("\n")
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.report[name].as_array().into_iter().flatten()
    }
}

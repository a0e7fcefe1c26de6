//! The files that operators copy.

use std::fs;
use std::path::Path;
use std::process::Command;

use cardea::config::Config;

use crate::gate::{BLESSED, binary, shown_sidecar};

#[test]
fn envoy_takes_the_blessed_configuration_as_it_is() {
    assert_valid(BLESSED);
}

#[test]
fn envoy_takes_the_sidecar_of_a_service_as_it_is_shown() {
    assert_valid(&shown_sidecar());
}

#[test]
fn envoy_takes_what_is_commented_out_in_it_too() {
    let traced = uncommented(&uncommented(BLESSED, "# tracing:"), "# - name: otlp");
    assert!(traced.contains("\n          tracing:\n") && traced.contains("\n  - name: otlp\n"));
    assert_valid(&traced);
    let streams = uncommented(BLESSED, "# - match: { prefix: \"/\", grpc: {} }");
    assert!(streams.contains("\n              - match: { prefix: \"/\", grpc: {} }\n"));
    assert_valid(&streams);
}

#[test]
fn the_example_settings_are_good_and_say_what_the_defaults_say_of_addresses() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO_BIN_EXE_cardea"))
        .args([
            "check",
            "--config",
            "deploy/cardea.yaml",
            "--bundle",
            "policies",
        ])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{text}");
    let example = Config::read(&folder.join("deploy/cardea.yaml")).unwrap();
    let default = Config::default();
    assert_eq!(example.listen.address, default.listen.address);
    assert_eq!(example.admin.address, default.admin.address);
    assert_eq!(example.bundle, default.bundle);
}

fn assert_valid(configuration: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("envoy.yaml");
    fs::write(&path, configuration).unwrap();
    let mut command = Command::new(binary());
    command
        .args(["--mode", "validate", "--disable-hot-restart", "-c"])
        .arg(&path);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("eprecat"), "{text}");
}

/// The text with one commented block made real: from the line that begins with `first` to the end of the comment.
fn uncommented(text: &str, first: &str) -> String {
    let mut inside = false;
    let lines = text.lines().map(|line| {
        let comment = line.trim_start();
        inside = comment.starts_with('#') && (inside || comment == first);
        if inside {
            line.replacen("# ", "", 1)
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

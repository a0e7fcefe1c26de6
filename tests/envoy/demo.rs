//! `cardea demo`, as a newcomer runs it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::gate::binary;
use crate::house::copy_folder;

fn demo(bundle: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardea"));
    command
        .args(["demo", "--port", "0", "--envoy"])
        .arg(binary())
        .arg("--bundle")
        .arg(bundle)
        .stdin(Stdio::null());
    command
}

fn shipped() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies"))
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

/// The first lines of steps: a number, a method, a path.
fn steps(text: &str) -> Vec<&str> {
    let is_step = |line: &&str| {
        let mut words = line.split_whitespace();
        let number = words
            .next()
            .is_some_and(|word| word.parse::<usize>().is_ok());
        number
            && words
                .next()
                .is_some_and(|word| ["GET", "POST", "DELETE"].contains(&word))
    };
    text.lines().filter(is_step).collect()
}

fn is_running(pid: &str) -> bool {
    Path::new("/proc").join(pid).join("exe").exists()
}

fn envoy_pid(text: &str) -> &str {
    let after = text
        .split("pid ")
        .nth(1)
        .expect("the demo names envoy's pid");
    after.split_whitespace().next().unwrap()
}

#[test]
fn the_tour_ends_well_and_leaves_nothing_behind() {
    let output = demo(shipped()).arg("--once").output().unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("Every verdict was the expected one."),
        "{text}"
    );
    let steps = steps(&text);
    assert!(steps.len() >= 11, "{text}");
    assert!(steps.iter().all(|line| line.ends_with(" ms")), "{text}");
    for line in text.lines() {
        assert!(
            line.chars().count() <= 100,
            "wider than 100 columns: {line}"
        );
        assert!(
            !line.contains('\u{1b}'),
            "colours without a terminal: {line}"
        );
    }
    assert!(!is_running(envoy_pid(&text)));
    let log = text
        .split_whitespace()
        .find(|word| word.ends_with("envoy.log"))
        .unwrap();
    assert!(!Path::new(log).parent().unwrap().exists());
}

#[test]
fn an_unexpected_verdict_is_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(shipped(), folder.path());
    let rule = "@id(\"order-1001\") forbid (principal, action == Cardea::Action::\"orders.getOrder\", resource);";
    fs::write(folder.path().join("more.cedar"), rule).unwrap();
    let output = demo(folder.path()).arg("--once").output().unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("NOT AS EXPECTED"), "{text}");
    assert!(!is_running(envoy_pid(&text)));
    let kept = text.split("what happened is in ").nth(1).unwrap().trim();
    fs::remove_dir_all(kept).unwrap();
}

#[test]
fn it_stays_up_until_it_is_told_to_end() {
    let mut child = demo(shipped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        text.push_str(&line);
        text.push('\n');
        if line.contains("Ctrl-C ends everything") {
            let kill = Command::new("kill")
                .arg("-TERM")
                .arg(child.id().to_string())
                .status();
            assert!(kill.unwrap().success());
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    assert!(text.contains("curl -i"), "{text}");
    assert!(!is_running(envoy_pid(&text)));
}

#[test]
fn what_is_missing_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardea"));
    command.args(["demo", "--once", "--port", "0", "--envoy", "/no/such/envoy"]);
    let output = command.arg("--bundle").arg(shipped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("cannot start envoy"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardea"));
    command
        .args(["demo", "--once", "--port", &port, "--envoy"])
        .arg(binary());
    let output = command.arg("--bundle").arg(shipped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("cannot be had"), "{}", text(&output));
}

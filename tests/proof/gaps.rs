//! What is not proven is never passed off as proven.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::bundle::{Bundle, prove};

const PERMIT: &str = r#"
    @id("staff") permit (principal in Cardea::Role::"staff", action == Cardea::Action::"shop.buy", resource)
    when { context.device.managed };
    @id("guard") forbid (principal, action, resource) when { context.risk.score > 60 };"#;

#[test]
fn without_a_solver_nothing_is_proven() {
    let bundle = Bundle::of(PERMIT);
    let run = bundle.prove_with(Path::new("/nonexistent/cvc5"), &[]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.errors.contains("is not there; install cvc5"),
        "{}",
        run.errors
    );
    assert_eq!(run.report["verdict"], "unsettled", "{run:?}");
    let error = run.report["error"].as_str().unwrap();
    assert!(error.contains("is not there"), "{error}");
}

#[test]
fn a_program_that_is_no_solver_proves_nothing() {
    let bundle = Bundle::of(PERMIT);
    for (script, expected) in [
        ("exit 0", "does not answer as a solver does"),
        ("cat", "does not answer as a solver does"),
        (
            "while read -r line; do echo sat; done",
            "does not know that false is false",
        ),
        ("exec sleep 600", "did not answer within 1s"),
    ] {
        let pretender = bundle.pretender(script);
        let run = bundle.prove_with(&pretender, &["--question-timeout", "1s"]);
        assert_eq!(run.code, 3, "{script}: {run:?}");
        assert!(run.errors.contains(expected), "{script}: {}", run.errors);
    }
}

/// It knows that false is false, and then no more.
#[test]
fn a_solver_that_gives_up_proves_nothing() {
    let bundle = Bundle::of(PERMIT);
    for (after, expected) in [
        ("echo unknown", "did not find an answer"),
        ("exec sleep 600", "did not stop after"),
        ("exit 1", "it ended before it answered"),
        ("echo perhaps", "unrecognized solver output: perhaps"),
        ("echo '(error \"no\")'", "solver error: no"),
    ] {
        let pretender = bundle.pretender(&format!(
            "answer=later\nwhile read -r line; do case $line in\n\
             '(assert false)') answer=unsat;;\n\
             '(check-sat)') if [ $answer = unsat ]; then echo unsat; else {after}; fi;;\nesac; done"
        ));
        let limits = ["--question-timeout", "1s", "--timeout", "6s"];
        let run = bundle.prove_with(&pretender, &limits);
        assert_eq!(run.code, 3, "{after}: {run:?}");
        assert_eq!(run.report["verdict"], "unsettled", "{after}: {run:?}");
        assert!(run.reasons().contains(expected), "{after}: {run:?}");
        assert!(
            run.report["notes"].as_array().unwrap().is_empty(),
            "{after}: {run:?}"
        );
    }
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    let bundle = Bundle::of(PERMIT);
    let run = bundle.prove_with(&bundle.pretender("exec cat /dev/zero"), &[]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.errors
            .contains("its answer is longer than 67108864 bytes"),
        "{}",
        run.errors
    );
}

/// A solver that holds the writing end of a pipe: it lives until the pipe ends.
struct Held {
    solver: PathBuf,
    reader: Child,
}

impl Held {
    fn new(bundle: &Bundle) -> Self {
        let solver = bundle.pretender("exec 3>\"$0.pipe\"; echo here >&3; exec sleep 600");
        let pipe = format!("{}.pipe", solver.display());
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let reader = Command::new("timeout")
            .args(["60", "cat", &pipe])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { solver, reader }
    }

    /// Waits until it runs.
    fn here(&mut self) {
        let output = self.reader.stdout.as_mut().unwrap();
        let mut line = [0; 5];
        output.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"here\n");
    }

    /// Waits until it has ended.
    fn gone(mut self) {
        let ended = self.reader.wait().unwrap();
        assert!(ended.success(), "the solver outlived the run: {ended}");
    }
}

#[test]
fn a_solver_that_hangs_is_ended() {
    let bundle = Bundle::of(PERMIT);
    let mut held = Held::new(&bundle);
    let run = bundle.prove_with(&held.solver, &["--question-timeout", "1s"]);
    assert_eq!(run.code, 3, "{run:?}");
    held.here();
    held.gone();
}

#[test]
fn a_signal_ends_the_run_and_its_solver() {
    let bundle = Bundle::of(PERMIT);
    let mut held = Held::new(&bundle);
    let run = Command::new(env!("CARGO_BIN_EXE_cardea"))
        .args(["prove", "--bundle", &bundle.path()])
        .args(["--question-timeout", "10m"])
        .env("CARDEA_CVC5", &held.solver)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    held.here();
    let signal = Command::new("kill")
        .args(["-TERM", &run.id().to_string()])
        .status()
        .unwrap();
    assert!(signal.success());
    let output = run.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("ended by a signal"), "{errors}");
    held.gone();
}

#[test]
fn the_help_names_the_exit_codes() {
    let output = Command::new(env!("CARGO_BIN_EXE_cardea"))
        .args(["prove", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        help.contains("3 nothing refuted and something not proven, because there is no solver"),
        "{help}"
    );
}

#[test]
fn a_run_whose_time_is_up_proves_nothing() {
    let run = Bundle::of(PERMIT).prove(&["--timeout", "0s"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.reasons().contains("the time of the run was up"),
        "{run:?}"
    );
}

/// Its logic doubles with each step, and cannot be made in the time that is given.
#[test]
fn logic_that_is_too_large_ends_the_run_unproven() {
    let part = "context.token has acr && context.token.acr != \"x\"";
    let mut condition = part.to_owned();
    for _ in 0..24 {
        condition = format!("({condition}) == true && {part}");
    }
    let policy =
        format!("@id(\"deep\") permit (principal, action, resource) when {{ {condition} }};");
    // Long enough that a busy machine begins with it before the time is up.
    let limits = ["--timeout", "8s", "--question-timeout", "1s"];
    let run = Bundle::of(&policy).prove(&limits);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.errors
            .contains("nothing is proven: the run did not end within"),
        "{run:?}"
    );
    assert_eq!(run.report["verdict"], "unsettled", "{run:?}");
}

#[test]
fn mistakes_are_named_with_their_place() {
    let bundle = Bundle::of(PERMIT);
    let invariants = bundle.file(
        "more.cedar",
        "\n@id(\"x\") permit (principal, action, resource);",
    );
    let run = bundle.prove(&["--invariants", &invariants]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(
        run.errors
            .contains("more.cedar:2:1: an invariant is a `permit`"),
        "{}",
        run.errors
    );

    bundle.file(
        "x.invariant.cedar",
        "@id(\"x\") forbid (principal, action, resource) when { true };",
    );
    let invariants = bundle.file(
        "more.cedar",
        "@id(\"x\") forbid (principal, action, resource);",
    );
    let run = bundle.prove(&["--invariants", &invariants]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(
        run.errors.contains("there is another invariant `x`"),
        "{}",
        run.errors
    );

    let missing = prove(&["--bundle", "/nonexistent"]);
    assert_eq!(missing.code, 2, "{missing:?}");
    let missing = bundle.prove(&["--old", "/nonexistent"]);
    assert_eq!(missing.code, 2, "{missing:?}");
    let missing = bundle.prove(&["--invariants", "/nonexistent"]);
    assert_eq!(missing.code, 2, "{missing:?}");
}

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::model::{CredentialFault, PolicyFault, Reason};
use crate::telemetry::samples::{self, Page};

const SOON: Duration = Duration::from_secs(10);

/// Everything that was written, line by line.
fn written(page: &Page, queue: &Lines) -> Vec<String> {
    assert!(queue.flush(SOON));
    let text = page.text();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(str::to_owned).collect()
}

fn page() -> (Page, Lines) {
    let page = Page::default();
    let lines = Lines::start(page.clone()).unwrap();
    (page, lines)
}

fn log(settings: &Settings) -> (Page, DecisionLog) {
    let (page, lines) = page();
    (page, DecisionLog::new(settings, lines))
}

fn with(decisions: Decisions, format: Format) -> Settings {
    Settings {
        format,
        decisions,
        ..Settings::default()
    }
}

fn only_line(page: &Page, log: &DecisionLog) -> Value {
    let lines = written(page, log.lines());
    assert_eq!(lines.len(), 1, "{lines:?}");
    serde_json::from_str(&lines[0]).unwrap()
}

#[test]
fn a_denial_is_one_json_object_with_what_operators_ask_for() {
    let (page, log) = log(&Settings::default());
    let mut decision = samples::refused(Reason::CredentialInvalid(CredentialFault::Expired));
    decision.trail.caller = None;
    log.record(&decision, None);
    let line = only_line(&page, &log);
    for (name, value) in [
        ("timestamp", "2026-03-01T12:00:00.000000Z"),
        ("level", "INFO"),
        ("message", "denied"),
        ("verdict", "deny"),
        ("reason", "credential_invalid"),
        ("fault", "expired"),
        ("detail", "a sentence for operators"),
        ("operation", "orders.getOrder"),
        ("method", "GET"),
        ("host", "api.example.com"),
        ("path", "/v1/orders/42"),
        ("client_address", "203.0.113.7"),
        ("trace_id", samples::TRACE),
        ("span_id", samples::PARENT),
        ("snapshot", "d1gest"),
        ("decision_cache", "hit"),
    ] {
        assert_eq!(line[name], value, "{name}");
    }
    assert_eq!(line["decision"], decision.trail.id.to_string());
    assert_eq!(line["took_us"], 40);
    assert!(line.get("principal").is_none());
}

#[test]
fn a_line_names_the_caller_and_the_policies() {
    let (page, log) = log(&with(Decisions::All, Format::Json));
    log.record(&samples::allowed(), None);
    let line = only_line(&page, &log);
    assert_eq!(line["message"], "allowed");
    assert_eq!(line["principal"]["kind"], "user");
    assert_eq!(line["principal"]["issuer"], "https://id.example");
    assert_eq!(line["principal"]["subject"], "alice");
    assert_eq!(line["policies"][1], "staff-reads");
    assert!(line.get("detail").is_none());
}

#[test]
fn h5_a_line_names_everybody_whose_credentials_came_together() {
    let (page, log) = log(&Settings::default());
    let mut decision = samples::refused(Reason::AmbiguousCredential);
    decision.trail.caller = None;
    decision.trail.beside = ["alice", "bob", "carol"].map(samples::alice).into();
    log.record(&decision, None);
    let line = only_line(&page, &log);
    let names = line["beside"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|one| one["subject"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice", "bob", "carol"]);
    assert!(line.get("principal").is_none());
}

#[test]
fn a_line_names_the_controls_that_decided() {
    let (page, log) = log(&Settings::default());
    let mut decision = samples::refused(Reason::Forbidden);
    decision.trail.notes.controls = vec!["PCI 7.2".into(), "OWASP API1:2023".into()];
    log.record(&decision, None);
    let line = only_line(&page, &log);
    assert_eq!(
        line["controls"],
        serde_json::json!(["PCI 7.2", "OWASP API1:2023"])
    );
}

#[test]
fn what_would_have_been_refused_is_a_line_by_default() {
    let (page, log) = log(&Settings::default());
    log.record(&samples::allowed(), None);
    log.record(&samples::observed(Reason::CredentialMissing), None);
    let line = only_line(&page, &log);
    for (name, value) in [
        ("level", "INFO"),
        ("message", "observed"),
        ("verdict", "allow"),
        ("reason", "observed"),
        ("would_be", "credential_missing"),
        ("detail", "a sentence for operators"),
    ] {
        assert_eq!(line[name], value, "{name}");
    }
}

#[test]
fn settings_say_which_decisions_get_a_line() {
    let mut faulty = samples::allowed();
    faulty.trail.faults.push(PolicyFault {
        policy: "p1".into(),
        effect: crate::model::Effect::Permit,
        message: "CANARY-claim is no number".into(),
    });
    let decisions = [
        samples::allowed(),
        samples::refused(Reason::Forbidden),
        faulty,
    ];
    for (which, expected) in [
        (Decisions::All, 3),
        (Decisions::Denied, 2),
        (Decisions::None, 0),
    ] {
        let (page, log) = log(&with(which, Format::Json));
        for decision in &decisions {
            log.record(decision, None);
        }
        let lines = written(&page, log.lines());
        assert_eq!(lines.len(), expected, "{which:?}");
        assert!(!lines.concat().contains("CANARY"), "{lines:?}");
        if let Some(last) = lines.last() {
            assert!(last.contains(r#""policy_errors":[{"policy":"p1","effect":"permit"}]"#));
            assert!(last.contains(r#""level":"WARN""#));
        }
    }
}

#[test]
fn a1_hostile_text_stays_within_its_own_line_and_field() {
    let hostile =
        "a\n{\"verdict\":\"allow\"}\u{1b}[2J\u{202e}\"},\"verdict\":\"allow\u{9b}\u{2028}";
    let (page, quiet) = log(&Settings::default());
    quiet.record(&samples::refused(Reason::Forbidden), None);
    let ordinary = only_line(&page, &quiet);
    let names =
        |line: &Value| -> Vec<String> { line.as_object().unwrap().keys().cloned().collect() };
    for format in [Format::Json, Format::Text] {
        let (page, log) = log(&with(Decisions::All, format));
        let mut decision = samples::refused(Reason::Forbidden);
        decision.trail.caller = Some(samples::alice(hostile));
        decision.trail.request = Some(samples::request("/a%22%7D,verdict=allow"));
        decision.trail.determining = vec![hostile.into()];
        decision.trail.matched = Some(samples::matched(hostile));
        if let Some(request) = &mut decision.trail.request {
            request.id = hostile.repeat(40_000);
        }
        log.record(&decision, None);
        let lines = written(&page, log.lines());
        assert_eq!(lines.len(), 1, "{lines:?}");
        let safe = |c: char| !c.is_control() && !"\u{202e}\u{2028}".contains(c);
        assert!(lines[0].chars().all(safe), "{}", lines[0]);
        assert!(lines[0].len() < 8 << 10);
        if format == Format::Json {
            let line: Value = serde_json::from_str(&lines[0]).unwrap();
            assert_eq!(line["verdict"], "deny");
            assert_eq!(names(&line), names(&ordinary));
        } else {
            assert_eq!(lines[0].matches(" verdict=\"deny\"").count(), 1);
            assert!(!lines[0].contains(" verdict=\"allow"));
        }
    }
}

#[test]
fn a1_events_of_any_room_become_one_line_each() {
    for format in [Format::Json, Format::Text] {
        let (page, lines) = page();
        let subscriber = subscriber(&with(Decisions::None, format), lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(kid = "a\nINFO b\u{1b}[2J\u{202e}", "a line\nand more");
            tracing::info!(long = "x".repeat(1 << 20), "too long");
        });
        let written = written(&page, &lines);
        assert_eq!(written.len(), 2, "{written:?}");
        assert_eq!(lines.dropped(), 1);
        for line in &written {
            assert!(line.len() <= lines::LONGEST);
            assert!(!line.contains(['\u{1b}', '\u{202e}']), "{line}");
            if format == Format::Json {
                let line: Value = serde_json::from_str(line).unwrap();
                assert!(line["message"].is_string());
            }
        }
        if format == Format::Json {
            assert!(written[0].contains(r#""kid":"a\nINFO b"#), "{}", written[0]);
            assert!(written[1].contains("was left out"));
        }
    }
}

#[test]
fn a3_libraries_are_not_heard_at_debug_where_they_print_headers() {
    let (page, lines) = page();
    let settings = Settings {
        level: Level::Trace,
        ..Settings::default()
    };
    tracing::subscriber::with_default(subscriber(&settings, lines.clone()), || {
        tracing::debug!(target: "h2::codec", "authorization: Bearer CANARY-token");
        tracing::info!(target: "hyper", "CANARY-token");
        tracing::trace!(target: "cardea::identity", "own detail");
        tracing::warn!(target: "hyper", "a warning");
    });
    let written = written(&page, &lines);
    assert_eq!(written.len(), 2, "{written:?}");
    assert!(written[0].contains("own detail"));
    assert!(written[1].contains("a warning"));
}

#[test]
fn levels_leave_out_what_is_less_serious() {
    let (page, lines) = page();
    let settings = Settings {
        level: Level::Error,
        ..Settings::default()
    };
    tracing::subscriber::with_default(subscriber(&settings, lines.clone()), || {
        tracing::warn!("own");
        tracing::warn!(target: "hyper", "theirs");
        tracing::error!("heard");
    });
    let written = written(&page, &lines);
    assert_eq!(written.len(), 1, "{written:?}");
}

/// A sink that is stuck until it is told otherwise.
struct Stuck(mpsc::Receiver<()>);

impl io::Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Ends when the test lets go of its end.
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_reader_costs_lines_and_never_a_wait() {
    let (release, stuck) = mpsc::channel();
    let lines = Lines::start(Stuck(stuck)).unwrap();
    for _ in 0..10_000 {
        lines.push("a line");
    }
    // One line may be in the sink already.
    assert!((10_000 - 4097..=10_000 - 4096).contains(&lines.dropped()));
    drop(release);
    assert!(lines.flush(SOON));
}

/// A sink on a full disk.
struct Full;

impl io::Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a3_a_full_disk_is_counted_and_survived() {
    let lines = Lines::start(Full).unwrap();
    lines.push("a");
    lines.push("b");
    assert!(lines.flush(SOON));
    assert_eq!(lines.dropped(), 2);
}

#[test]
fn logging_can_be_started_twice() {
    let first = install(&Settings::default());
    init(&Settings::default());
    assert!(!install(&Settings::default()));
    // Whether the first call took effect depends on which test of this process came first.
    assert!(first || tracing::dispatcher::has_been_set());
}

#[test]
fn a1_no_request_can_make_the_line_of_its_decision_too_long_to_be_written() {
    let many = |text: &str| vec![Arc::<str>::from(text); 100];
    for hostile in ["\"", "\u{2028}", "\u{202e}", "\u{e9}"] {
        let mut decision = samples::refused(Reason::PolicyError);
        let trail = &mut decision.trail;
        trail.caller = Some(samples::alice(&hostile.repeat(512 / hostile.len())));
        trail.beside = vec![samples::alice(&hostile.repeat(512 / hostile.len())); 8];
        trail.request = Some(samples::request(&format!("/{}", "a".repeat(8000))));
        trail.determining = many(&"p".repeat(128));
        trail.notes.obligations = many(&"\"".repeat(200));
        trail.notes.controls = many(&"\"".repeat(200));
        trail.faults = many(&"p".repeat(128))
            .into_iter()
            .map(|policy| PolicyFault {
                policy,
                effect: crate::model::Effect::Forbid,
                message: String::new(),
            })
            .collect();
        for format in [Format::Json, Format::Text] {
            let (page, log) = log(&with(Decisions::All, format));
            log.record(&decision, None);
            let written = written(&page, log.lines());
            assert!(written[0].contains(&decision.trail.id.to_string()));
            assert_eq!(log.lines().dropped(), 0, "{}", written[0].len());
        }
    }
}

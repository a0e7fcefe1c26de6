//! Logs: one JSON object a line, and a line for each decision an operator wants to see.
//!
//! Two kinds of line share one writer. Process events come through `tracing`, which is process-wide by its own design,
//! so the first settings that reach it stay. Decision lines are written directly: they are data, with a fixed set of
//! fields, and need no formatter that walks a registry.
//!
//! Nothing here waits for the disk or the terminal: the writer is a bounded queue with its own thread, and drops and
//! counts what does not fit. What the lines may not hold is decided by what is handed over: no header, no query, no
//! body; and events of other crates stay below their debug levels, where HTTP libraries print headers.

use std::io::{self, BufWriter};
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::traces::SpanIds;
use crate::model::Decision;

mod decision_line;
mod lines;

pub(super) use lines::Lines;

/// How much the process says.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The least serious level of Cardea's own events that is written. Other libraries never get below `warn`: what
    /// they say at `debug` can hold headers, and so tokens.
    pub level: Level,
    /// How a line looks.
    pub format: Format,
    /// Which decisions get a line.
    pub decisions: Decisions,
}

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something failed and somebody has to act.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happens once in a while: starts, reloads, stops. The default.
    #[default]
    Info,
    /// What helps to find a mistake.
    Debug,
    /// Everything.
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line. The default.
    #[default]
    Json,
    /// Words and `name=value` pairs, for people at a terminal.
    Text,
}

/// Which decisions get a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decisions {
    /// Every one. It costs a few microseconds each, and a line a request.
    All,
    /// Refusals, what would have been one on an observed operation, and allowances during which a policy failed. The
    /// default.
    #[default]
    Denied,
    /// None.
    None,
}

/// Starts logging of process events to standard output. Called again, it leaves what is there as it is: the subscriber
/// belongs to the process, and the first settings stay.
pub fn init(settings: &Settings) {
    install(settings);
}

/// As [`init`]; returns whether these settings took effect.
fn install(settings: &Settings) -> bool {
    stdout().is_ok_and(|lines| subscriber(settings, lines).try_init().is_ok())
}

/// The process's one writer to standard output.
pub(super) fn stdout() -> io::Result<Lines> {
    static STDOUT: OnceLock<Lines> = OnceLock::new();
    if let Some(lines) = STDOUT.get() {
        return Ok(lines.clone());
    }
    let lines = Lines::start(BufWriter::with_capacity(64 << 10, io::stdout()))?;
    Ok(STDOUT.get_or_init(|| lines).clone())
}

fn subscriber(settings: &Settings, lines: Lines) -> impl Subscriber + Send + Sync + 'static {
    let own = LevelFilter::from(settings.level);
    let levels = Targets::new()
        .with_default(own.min(LevelFilter::WARN))
        .with_target("cardea", own);
    let base = fmt::layer().with_writer(lines).with_ansi(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        Format::Json => base
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
        Format::Text => base.boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(levels))
}

/// The decision lines of one application.
#[derive(Debug)]
pub(super) struct DecisionLog {
    which: Decisions,
    format: Format,
    lines: Lines,
}

impl DecisionLog {
    pub(super) fn new(settings: &Settings, lines: Lines) -> Self {
        Self {
            which: settings.decisions,
            format: settings.format,
            lines,
        }
    }

    /// Writes a line for the decision, where the settings ask for one.
    pub(super) fn record(&self, decision: &Decision, span: Option<SpanIds>) {
        let wanted = match self.which {
            Decisions::All => true,
            Decisions::Denied => {
                decision.outcome.refusal().is_some() || !decision.trail.faults.is_empty()
            }
            Decisions::None => false,
        };
        if wanted {
            self.lines
                .push(&decision_line::render(decision, span, self.format));
        }
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }
}

#[cfg(test)]
mod tests;

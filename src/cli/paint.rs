//! Colours, only on a terminal.

use std::io::IsTerminal as _;

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Coloured,
}

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or the terminal has none.
    pub(super) fn for_stdout() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if std::io::stdout().is_terminal() && !no_color && !dumb {
            Self::Coloured
        } else {
            Self::Plain
        }
    }

    fn with(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(super) fn status(self, status: u16) -> String {
        let code = match status {
            200..300 => "32",
            400..500 => "33",
            _ => "31",
        };
        self.with(code, &status.to_string())
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("1;32", text)
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.with("1;33", text)
    }
}

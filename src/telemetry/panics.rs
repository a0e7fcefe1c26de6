//! What is said of a panic: where it happened, and nothing else.
//!
//! The words of a panic can quote what was being worked on, such as the text of a token that a library cut within a
//! character. They would go to standard error as they are: a secret, and in several lines.

use std::fmt::Display;
use std::io::{Write, stderr};
use std::panic::set_hook;
use std::thread;

use serde_json::json;

/// Has every panic of this process told in one line of JSON on standard error, by its place in the source. For programs:
/// a library leaves the process's hook alone.
pub fn tell_only_where() {
    set_hook(Box::new(|panic| {
        let thread = thread::current();
        let line = line(panic.location(), thread.name());
        // With nowhere left to complain to, the counter and the denial have to do.
        let _ = writeln!(stderr().lock(), "{line}");
    }));
}

fn line(place: Option<&impl Display>, thread: Option<&str>) -> String {
    let message = "a part of cardea panicked, which is a fault in cardea: what it said is left out, for it may quote a request";
    let place = place.map(ToString::to_string);
    json!({ "level": "ERROR", "message": message, "place": place, "thread": thread }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_line_that_says_where() {
        let line = line(Some(&"src/a.rs:1:2"), Some("cardea-0"));
        assert_eq!(line.lines().count(), 1);
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(told["place"], "src/a.rs:1:2");
        assert_eq!(told["thread"], "cardea-0");
    }
}

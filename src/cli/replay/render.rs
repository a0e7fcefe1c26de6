//! The difference for people, and for a pull request. Writing to a string cannot fail.

use std::fmt::Write as _;

use super::compare::{Change, Comparison, Key, Row, Ruling};
use crate::model::shown;

/// The longest cell, in bytes.
const MAX_CELL: usize = 120;

/// The columns of both tables.
const HEAD: [&str; 6] = ["count", "action", "principal", "before", "after", "example"];

/// The difference as aligned columns.
pub(super) fn text(found: &Comparison, most: usize) -> String {
    let mut out = format!("{}\n\n", sentence(found, str::to_owned));
    let figures = figures(found);
    let widest = figures.iter().map(|(name, _)| name.len()).max();
    let widest = widest.unwrap_or(0);
    for (name, count) in &figures {
        let _ = writeln!(out, "  {name:<widest$}  {count:>9}");
    }
    for change in Change::ALL {
        let rows = found.rows(change);
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{}", capital(change.words()));
        let cells: Vec<[String; 6]> = rows
            .iter()
            .take(most)
            .map(|(key, row)| cells(key, row, str::to_owned))
            .collect();
        out.push_str(&columns(&cells));
        if let Some(rest) = rest(found, change, &rows, most) {
            let _ = writeln!(out, "  {rest}");
        }
    }
    out
}

/// The difference as tables of GitHub's Markdown.
pub(super) fn markdown(found: &Comparison, most: usize) -> String {
    let mut out = format!(
        "### Replay of recorded decisions\n\n{}\n\n",
        sentence(found, code)
    );
    out.push_str("| | decisions |\n|---|---:|\n");
    for (name, count) in figures(found) {
        let _ = writeln!(out, "| {name} | {count} |");
    }
    for change in Change::ALL {
        let rows = found.rows(change);
        if rows.is_empty() {
            continue;
        }
        let _ = write!(out, "\n#### {}\n\n", capital(change.words()));
        let _ = writeln!(out, "| {} |", HEAD.join(" | "));
        out.push_str("|---:|---|---|---|---|---|\n");
        for (key, row) in rows.iter().take(most) {
            let _ = writeln!(out, "| {} |", cells(key, row, code).join(" | "));
        }
        if let Some(rest) = rest(found, change, &rows, most) {
            let _ = writeln!(out, "\n{rest}");
        }
    }
    out
}

fn sentence(found: &Comparison, name: fn(&str) -> String) -> String {
    let candidate = name(short(found.candidate()));
    let with = match found.against() {
        Some(live) => format!("what the bundle {} decides", name(short(live))),
        None => "the answers that were recorded".to_owned(),
    };
    let decisions = found.decisions;
    let plural = if decisions == 1 { "" } else { "s" };
    format!(
        "{decisions} decision{plural}, judged again by the bundle {candidate} and compared with {with}."
    )
}

/// Enough of a digest to tell bundles apart.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn figures(found: &Comparison) -> Vec<(&'static str, u64)> {
    let mut figures: Vec<(&'static str, u64)> = Change::ALL
        .into_iter()
        .map(|change| (change.words(), found.count(change)))
        .collect();
    figures.push(("unchanged", found.unchanged));
    figures.push(("refused before policies were asked", found.without_policies));
    figures
}

/// The cells of one row; `data` writes what comes from the decision.
fn cells(key: &Key, row: &Row, data: fn(&str) -> String) -> [String; 6] {
    let who = match key.principal.id.as_str() {
        "" => key.principal.r#type.to_owned(),
        id => format!("{} {id}", key.principal.r#type),
    };
    let after = match (&key.after, &key.because) {
        (Some(after), _) => ruling(after),
        (None, because) => because.clone().unwrap_or_default(),
    };
    [
        row.count.to_string(),
        data(&shown(&key.action, MAX_CELL)),
        data(&shown(&who, MAX_CELL)),
        data(&shown(&ruling(&key.before), MAX_CELL)),
        data(&shown(&after, MAX_CELL)),
        data(&row.example),
    ]
}

fn ruling(ruling: &Ruling) -> String {
    let by = match ruling.policies.as_slice() {
        [] => "by no policy".to_owned(),
        policies => format!("by {}", policies.join(", ")),
    };
    let mut login = String::new();
    if let Some(step_up) = &ruling.step_up {
        login.push_str(&step_up.acr_values.join(" "));
        if let Some(age) = step_up.max_age {
            let _ = write!(login, " {age}s");
        }
        login = format!(" ({})", login.trim());
    }
    let kept = ruling.would_be.as_ref();
    let kept = kept.map_or_else(String::new, |reason| format!(" (else {reason})"));
    format!("{} {}{kept}{login} {by}", ruling.status, ruling.reason)
}

/// What is not shown, in one line.
fn rest(found: &Comparison, change: Change, rows: &[(&Key, &Row)], most: usize) -> Option<String> {
    let shown: u64 = rows.iter().take(most).map(|(_, row)| row.count).sum();
    let rest = found.count(change).saturating_sub(shown);
    (rest > 0).then(|| {
        let hint = "`--rows` shows more, `--format json` all that is kept";
        format!("and {rest} decisions more ({hint})")
    })
}

fn columns(rows: &[[String; 6]]) -> String {
    let head = HEAD.map(str::to_uppercase);
    let mut widths = head.clone().map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            line.push_str("  ");
            if index == 0 {
                let _ = write!(line, "{cell:>width$}");
            } else {
                let _ = write!(line, "{cell:<width$}");
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Text as code in a cell of a table: nothing in it is read as Markdown, ends the cell, or links to anybody.
fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' => plain.push_str("\\|"),
            // Before a bar it would undo the escape, and a backtick would end the code.
            '\\' | '`' => plain.extend(c.escape_unicode().filter(|c| *c != '\\')),
            _ => plain.push(c),
        }
    }
    format!("`{plain}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_a_request_is_no_markdown() {
        for (text, expected) in [
            ("orders.getOrder", "`orders.getOrder`"),
            ("https://a|b", "`https://a\\|b`"),
            ("`@everyone` <b>", "`u{60}@everyoneu{60} <b>`"),
            ("a\\|b", "`au{5c}\\|b`"),
            ("", ""),
        ] {
            assert_eq!(code(text), expected);
        }
    }
}

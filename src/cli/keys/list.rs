//! Keys as they are listed: whose, in which state, until when.

use jiff::Timestamp;
use serde::Serialize;

use super::{day, json as indented};
use crate::identity::{KeyEntry, KeyState, Owner};
use crate::model::{Problem, shown};

/// One key as programs read it.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    owner: &'a Owner,
    state: &'static str,
    created_at: String,
    expires_at: String,
    replaces: Option<&'a str>,
    successor: Option<&'a str>,
    note: Option<&'a str>,
}

/// `active`, `expired` or `revoked`.
fn state(key: &KeyEntry, now: Timestamp) -> &'static str {
    match key.state {
        KeyState::Revoked => "revoked",
        KeyState::Active if key.usable(now) => "active",
        KeyState::Active => "expired",
    }
}

/// For programs.
pub(super) fn json(keys: &[KeyEntry], now: Timestamp) -> Result<String, Vec<Problem>> {
    let lines = keys.iter().map(|key| Line {
        id: &key.id,
        owner: &key.owner,
        state: state(key, now),
        created_at: key.created_at.to_string(),
        expires_at: key.expires_at.to_string(),
        replaces: key.replaces.as_deref(),
        successor: key.successor.as_deref(),
        note: key.note.as_deref(),
    });
    indented(&lines.collect::<Vec<_>>())
}

/// For people: a table.
pub(super) fn text(keys: &[KeyEntry], now: Timestamp) -> String {
    if keys.is_empty() {
        return "no keys\n".to_owned();
    }
    let mut rows = vec![["ID", "STATE", "EXPIRES", "OWNER", "SCOPES"].map(str::to_owned)];
    rows.extend(keys.iter().map(|key| {
        let owner = match &key.owner.issuer {
            Some(issuer) => format!("{}|{}", issuer, key.owner.subject),
            None => key.owner.subject.clone(),
        };
        [
            key.id.clone(),
            state(key, now).to_owned(),
            day(key.expires_at),
            shown(&owner, 64).into_owned(),
            key.owner.scopes.join(" "),
        ]
    }));
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
    }
    table
}

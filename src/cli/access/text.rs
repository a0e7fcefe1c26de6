//! The answer for people: tables.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::report::{Because, Report, Verdict, Who, WhoCan};
use crate::policy::Condition;

impl Report {
    /// The answer for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(caller) = &self.caller {
            let _ = writeln!(text, "{caller}:\n");
            text.push_str(&self.operations_table());
        }
        if let Some(operation) = &self.operation {
            text.push_str(&operation.text());
        }
        if let Some(unused) = &self.unused {
            if !text.is_empty() {
                text.push('\n');
            }
            if unused.is_empty() {
                text.push_str("every permit is named by a recorded decision\n");
            } else {
                text.push_str("permits that no recorded decision names:\n");
            }
            for id in unused {
                let _ = writeln!(text, "  {id}");
            }
        }
        text
    }

    fn operations_table(&self) -> String {
        let mut rows = vec![[
            "OPERATION".to_owned(),
            "VERDICT".to_owned(),
            "BECAUSE".to_owned(),
        ]];
        let mut guards = BTreeSet::new();
        for access in &self.operations {
            guards.extend(access.unless.iter().map(|id| &**id));
            let verdict = match access.verdict {
                Verdict::Allowed => "allowed",
                Verdict::Denied => "denied",
                Verdict::Depends => "depends",
            };
            let because: Vec<String> = access.because.iter().map(Because::words).collect();
            let because = if because.is_empty() {
                "no permit can apply".to_owned()
            } else {
                because.join(" | ")
            };
            let observed = if access.observed { " (observed)" } else { "" };
            rows.push([
                access.operation.to_string(),
                format!("{verdict}{observed}"),
                because,
            ]);
        }
        let mut text = table(&rows);
        if !guards.is_empty() {
            let guards: Vec<&str> = guards.into_iter().collect();
            let _ = writeln!(
                text,
                "\nother circumstances could bring these forbids to bear: {}",
                guards.join(", ")
            );
        }
        text
    }
}

impl Because {
    fn words(&self) -> String {
        let forbid = if self.effect == "forbid" {
            "forbid "
        } else {
            ""
        };
        let conditions = wanted(&self.conditions, self.effect == "forbid");
        if conditions.is_empty() {
            format!("{forbid}{}", self.policy)
        } else {
            format!("{forbid}{}: {conditions}", self.policy)
        }
    }
}

/// What a permit wants for; what a forbid asks about, as it is written.
fn wanted(conditions: &[Condition], forbid: bool) -> String {
    let words = |condition: &Condition| {
        if forbid {
            condition.text.clone()
        } else {
            condition.wanted.clone()
        }
    };
    conditions.iter().map(words).collect::<Vec<_>>().join("; ")
}

impl WhoCan {
    fn text(&self) -> String {
        let mut text = format!("{} ({}):\n\n", self.id, self.route);
        let rows = |title: &str, all: &[Who], forbid: bool| {
            let mut rows = vec![[
                title.to_owned(),
                "WHO".to_owned(),
                "ON CONDITION".to_owned(),
            ]];
            rows.extend(all.iter().map(|who| {
                let below: Vec<&str> = who
                    .roles
                    .iter()
                    .chain(&who.groups)
                    .map(String::as_str)
                    .collect();
                let named = if below.is_empty() {
                    String::new()
                } else {
                    format!(" [{}]", below.join(", "))
                };
                [
                    who.policy.to_string(),
                    format!("{}{named}", who.principal),
                    wanted(&who.conditions, forbid),
                ]
            }));
            table(&rows)
        };
        if self.permits.is_empty() {
            text.push_str("nobody: no permit can apply\n");
        } else {
            text.push_str(&rows("PERMIT", &self.permits, false));
        }
        if !self.forbids.is_empty() {
            text.push('\n');
            text.push_str(&rows("FORBID", &self.forbids, true));
        }
        text
    }
}

/// Columns wide enough for what stands in them; the last one as it comes.
fn table(rows: &[[String; 3]]) -> String {
    let width = |column: fn(&[String; 3]) -> &String| {
        rows.iter()
            .map(|row| column(row).chars().count())
            .max()
            .unwrap_or_default()
    };
    let (first, second) = (width(|row| &row[0]), width(|row| &row[1]));
    let mut text = String::new();
    for [one, two, three] in rows {
        let line = format!("{one:first$}  {two:second$}  {three}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

//! The difference between what was decided and what would be.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::desk::Desk;
use crate::pipeline::Snapshot;
use crate::rehearsal::record::{Record, RecordedCaller, RecordedLogin, Verdict};

/// The most different rows that are kept; what comes after is counted.
pub(super) const MAX_ROWS: usize = 10_000;

/// Refusals that no policy was asked about, and none can change: the request or its credential was not sound.
const WITHOUT_POLICIES: [&str; 7] = [
    "ambiguous_path",
    "ambiguous_query",
    "ambiguous_host",
    "ambiguous_credential",
    "unknown_method",
    "malformed_request",
    "credential_invalid",
];

/// How an answer differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    NewlyAllowed,
    NewlyDenied,
    OtherAnswer,
    NotJudged,
}

impl Change {
    pub(super) const ALL: [Self; 4] = [
        Self::NewlyAllowed,
        Self::NewlyDenied,
        Self::OtherAnswer,
        Self::NotJudged,
    ];

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::NewlyAllowed => "newly allowed",
            Self::NewlyDenied => "newly denied",
            Self::OtherAnswer => "answered otherwise",
            Self::NotJudged => "could not be judged",
        }
    }
}

/// An answer, and the policies that determined it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Ruling {
    pub(super) verdict: Verdict,
    pub(super) status: u16,
    pub(super) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) would_be: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step_up: Option<RecordedLogin>,
    pub(super) policies: Vec<String>,
}

impl Ruling {
    fn of(record: &Record) -> Self {
        let mut policies = record.policies.clone();
        policies.sort();
        Self {
            verdict: record.verdict,
            status: record.status,
            reason: record.reason.clone(),
            would_be: record.would_be.clone(),
            step_up: record.step_up.clone(),
            policies,
        }
    }
}

/// What decisions have in common that are shown as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Key {
    #[serde(skip)]
    pub(super) change: Change,
    pub(super) action: String,
    pub(super) principal: Who,
    pub(super) before: Ruling,
    /// Absent where it could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Ruling>,
    /// Why it could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) because: Option<String>,
}

/// Who asked, as recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Who {
    pub(super) r#type: &'static str,
    pub(super) id: String,
}

/// How often, and one of them.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) count: u64,
    pub(super) example: String,
}

/// Everything that was compared.
pub(super) struct Comparison {
    candidate: Desk,
    against: Option<Snapshot>,
    pub(super) decisions: u64,
    pub(super) unchanged: u64,
    /// Refused before policies were asked, as they would be under any bundle.
    pub(super) without_policies: u64,
    counts: BTreeMap<Change, u64>,
    rows: BTreeMap<Key, Row>,
}

/// The difference for programs.
#[derive(Debug, Serialize)]
pub(super) struct Report<'c> {
    candidate: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<&'c str>,
    decisions: u64,
    unchanged: u64,
    without_policies: u64,
    changes: BTreeMap<Change, Group<'c>>,
}

#[derive(Debug, Serialize)]
struct Group<'c> {
    count: u64,
    rows: Vec<Listed<'c>>,
}

#[derive(Debug, Serialize)]
struct Listed<'c> {
    #[serde(flatten)]
    row: &'c Row,
    #[serde(flatten)]
    key: &'c Key,
}

impl Comparison {
    pub(super) fn new(candidate: Desk, against: Option<Snapshot>) -> Self {
        Self {
            candidate,
            against,
            decisions: 0,
            unchanged: 0,
            without_policies: 0,
            counts: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }

    /// The digest of the candidate.
    pub(super) fn candidate(&self) -> &str {
        self.candidate.snapshot.id.as_str()
    }

    /// The digest of the bundle it is compared with; `None` where that is what was recorded.
    pub(super) fn against(&self) -> Option<&str> {
        self.against.as_ref().map(|against| against.id.as_str())
    }

    /// How many decisions changed in this way.
    pub(super) fn count(&self, change: Change) -> u64 {
        self.counts.get(&change).copied().unwrap_or(0)
    }

    /// The rows of one group, the most frequent first.
    pub(super) fn rows(&self, change: Change) -> Vec<(&Key, &Row)> {
        let rows = self.rows.iter().filter(|(key, _)| key.change == change);
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.count));
        rows
    }

    pub(super) fn report(&self) -> Report<'_> {
        let changes = Change::ALL.into_iter().map(|change| {
            let rows = self.rows(change).into_iter();
            let group = Group {
                count: self.count(change),
                rows: rows.map(|(key, row)| Listed { row, key }).collect(),
            };
            (change, group)
        });
        Report {
            candidate: self.candidate(),
            against: self.against(),
            decisions: self.decisions,
            unchanged: self.unchanged,
            without_policies: self.without_policies,
            changes: changes.collect(),
        }
    }

    /// Judges one decision again.
    pub(super) fn take(&mut self, record: &Record) {
        self.decisions += 1;
        if record.facts.is_none() && WITHOUT_POLICIES.contains(&record.reason.as_str()) {
            self.without_policies += 1;
            return;
        }
        let rulings = self.before(record).and_then(|before| {
            let after = Ruling::of(&Record::of(&self.candidate.again(record)?));
            Ok((before, after))
        });
        let (change, before, after, because) = match rulings {
            Err(because) => (Change::NotJudged, Ruling::of(record), None, Some(because)),
            Ok((before, after)) => match change(&before, &after) {
                None => {
                    self.unchanged += 1;
                    return;
                }
                Some(change) => (change, before, Some(after), None),
            },
        };
        let caller = record.caller.as_ref();
        let key = Key {
            change,
            action: record.operation.clone(),
            principal: Who {
                r#type: caller.map_or("unknown", RecordedCaller::kind),
                id: caller.map_or_else(String::new, RecordedCaller::id),
            },
            before,
            after,
            because,
        };
        self.note(key, &record.id);
    }

    fn before(&self, record: &Record) -> Result<Ruling, String> {
        let Some(against) = &self.against else {
            return Ok(Ruling::of(record));
        };
        let supposed = record.supposed(&*self.candidate.clock)?;
        Ok(Ruling::of(&Record::of(&against.rehearse(supposed))))
    }

    fn note(&mut self, key: Key, id: &str) {
        *self.counts.entry(key.change).or_default() += 1;
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
            return;
        }
        let row = self.rows.entry(key).or_insert_with(|| Row {
            count: 0,
            example: id.to_owned(),
        });
        row.count += 1;
    }
}

/// How two answers differ; which policies gave them is no difference.
fn change(before: &Ruling, after: &Ruling) -> Option<Change> {
    let answer = |ruling: &Ruling| (ruling.verdict, ruling.status, ruling.step_up.clone());
    let reasons = |ruling: &Ruling| (ruling.reason.clone(), ruling.would_be.clone());
    if answer(before) == answer(after) && reasons(before) == reasons(after) {
        return None;
    }
    Some(match (before.verdict, after.verdict) {
        (Verdict::Deny, Verdict::Allow) => Change::NewlyAllowed,
        (Verdict::Allow, Verdict::Deny) => Change::NewlyDenied,
        _ => Change::OtherAnswer,
    })
}

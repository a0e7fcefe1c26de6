//! What a case expects of the decision. Only what is named is compared.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;

use super::Found;
use super::scalar::Names;
use crate::model::StepUp;

/// What is expected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// `allow` or `deny`.
    pub verdict: Option<Verdict>,
    /// The reason's code, such as `not_permitted`.
    pub reason: Option<String>,
    /// The reason's code of the refusal that would have been, where the operation is observed; `none` where it is none.
    pub would_be: Option<String>,
    /// The HTTP status; 200 where the request passes.
    pub status: Option<u16>,
    /// The determining policies: exactly these.
    pub policies: Option<Names>,
    /// Policies that are among the determining ones.
    pub policies_include: Option<Names>,
    /// The policies that could not be evaluated: exactly these.
    pub errors: Option<Names>,
    /// The operation.
    pub operation: Option<String>,
    /// The login that is asked for.
    pub step_up: Option<StepUpForm>,
}

/// The thing that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It does not.
    Deny,
}

/// A login that would be enough. What is left out is not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepUpForm {
    /// The classes, any of which serves: exactly these.
    pub acr_values: Option<Names>,
    /// How old the login may be, in seconds.
    pub max_age: Option<u32>,
}

/// One way in which a decision is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs: a member of [`Expect`].
    pub field: &'static str,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            expected,
            found,
        } = self;
        write!(f, "{field}: expected {expected}, found {found}")
    }
}

impl Expect {
    /// Whether nothing at all is expected.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How the decision differs from what is expected; nothing where it does not.
    #[must_use]
    pub fn compare(&self, found: &Found) -> Vec<Difference> {
        let verdict = self.verdict.map(|verdict| match verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        });
        let status = found.status.to_string();
        let of_status = self.status.map(|status| status.to_string());
        [
            text("verdict", verdict, found.verdict),
            text("reason", self.reason.as_deref(), found.reason),
            text(
                "would_be",
                self.would_be.as_deref(),
                found.would_be.unwrap_or("none"),
            ),
            text("status", of_status.as_deref(), &status),
            text("operation", self.operation.as_deref(), &found.operation),
            set("policies", self.policies.as_ref(), &found.policies),
            included(self.policies_include.as_ref(), &found.policies),
            set("errors", self.errors.as_ref(), &found.failed()),
            self.step_up
                .as_ref()
                .and_then(|wanted| wanted.compare(found.step_up.as_ref())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl StepUpForm {
    fn compare(&self, found: Option<&StepUp>) -> Option<Difference> {
        let differs = |expected: String, found: String| {
            Some(Difference {
                field: "step_up",
                expected,
                found,
            })
        };
        let Some(found) = found else {
            return differs(self.to_string(), "none".to_owned());
        };
        let classes = self.acr_values.as_ref();
        let same = classes.is_none_or(|wanted| wanted.0 == found.acr_values)
            && (self.max_age.is_none() || self.max_age == found.max_age);
        if same {
            return None;
        }
        let shown = Self {
            acr_values: Some(Names(found.acr_values.clone())),
            max_age: found.max_age,
        };
        differs(self.to_string(), shown.to_string())
    }
}

impl fmt::Display for StepUpForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(classes) = &self.acr_values {
            parts.push(format!("acr_values {}", list(&classes.0)));
        }
        if let Some(seconds) = self.max_age {
            parts.push(format!("max_age {seconds}"));
        }
        if parts.is_empty() {
            parts.push("a step-up".to_owned());
        }
        f.write_str(&parts.join(" "))
    }
}

fn text(field: &'static str, expected: Option<&str>, found: &str) -> Option<Difference> {
    let expected = expected.filter(|expected| *expected != found)?;
    Some(Difference {
        field,
        expected: expected.to_owned(),
        found: found.to_owned(),
    })
}

/// Order and repetition do not count.
fn set(field: &'static str, expected: Option<&Names>, found: &[String]) -> Option<Difference> {
    let expected = &expected?.0;
    let wanted: BTreeSet<&String> = expected.iter().collect();
    let there: BTreeSet<&String> = found.iter().collect();
    (wanted != there).then(|| Difference {
        field,
        expected: list(expected),
        found: list(found),
    })
}

fn included(expected: Option<&Names>, found: &[String]) -> Option<Difference> {
    let expected = &expected?.0;
    let missing = expected.iter().any(|policy| !found.contains(policy));
    missing.then(|| Difference {
        field: "policies_include",
        expected: list(expected),
        found: list(found),
    })
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}

//! What a policy's annotations ask of the answer.

use cedar_policy_core::ast::{Effect, Policy};

use crate::model::StepUp;

/// The answer a forbid asks for (`@on_deny`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum OnDeny {
    /// As if it did not exist: 404. It outranks the others, so that none of them gives the secret away.
    NotFound,
    /// The caller is set apart: 403.
    Quarantine,
    /// The API is gone: 410.
    Gone,
    /// Too much, too fast: 429.
    SlowDown,
    /// A plain denial: 403.
    Forbid,
    /// A person has to approve it: 403.
    HumanApproval,
    /// The request breaks the contract: 400.
    BadRequest,
    /// A better login would be enough: 401.
    StepUp,
}

/// What a policy's annotations ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Obligation {
    pub(super) on_deny: OnDeny,
    pub(super) step_up: StepUp,
}

/// Annotations that describe and do not act.
const DESCRIPTIVE: [&str; 6] = ["id", "severity", "control", "reason", "obligation", "title"];

impl Obligation {
    /// Reads a policy's annotations.
    ///
    /// # Errors
    /// One sentence for each annotation that is unknown, has a bad value, or asks for what a permit cannot do.
    pub(super) fn of(policy: &Policy) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let mut on_deny = None;
        let mut step_up = StepUp::default();
        for (key, annotation) in policy.annotations() {
            let (key, value) = (key.as_ref(), annotation.as_ref());
            match key {
                "on_deny" => match parse_on_deny(value) {
                    Some(answer) => on_deny = Some(answer),
                    None => wrong.push(format!(
                        "`@on_deny(\"{value}\")` is not an answer: use `step_up`, `bad_request`, `not_found`, `gone`, \
                         `slow_down`, `quarantine` (or `quarantine:15m`) or `human_approval`"
                    )),
                },
                "acr_values" => {
                    step_up.acr_values = value.split_whitespace().map(str::to_owned).collect();
                    if step_up.acr_values.is_empty() || !value.bytes().all(is_plain) {
                        wrong.push("`@acr_values` must name one or more classes in plain ASCII, separated by spaces".to_owned());
                    }
                }
                "max_age" => match value.parse() {
                    Ok(seconds) => step_up.max_age = Some(seconds),
                    Err(_) => wrong.push(format!("`@max_age(\"{value}\")` is not a number of seconds")),
                },
                _ if DESCRIPTIVE.contains(&key) => {}
                _ => wrong.push(format!("`@{key}` is not an annotation that means anything here")),
            }
        }
        if on_deny.is_some() && policy.effect() == Effect::Permit {
            wrong.push(
                "`@on_deny` stands on a permit, which never denies: put it on a forbid".to_owned(),
            );
        }
        if step_up != StepUp::default() && on_deny != Some(OnDeny::StepUp) {
            wrong.push(
                "`@acr_values` and `@max_age` need `@on_deny(\"step_up\")` beside them".to_owned(),
            );
        }
        if wrong.is_empty() {
            Ok(Self {
                on_deny: on_deny.unwrap_or(OnDeny::Forbid),
                step_up,
            })
        } else {
            Err(wrong)
        }
    }
}

fn parse_on_deny(value: &str) -> Option<OnDeny> {
    Some(match value {
        "step_up" => OnDeny::StepUp,
        "bad_request" => OnDeny::BadRequest,
        "not_found" => OnDeny::NotFound,
        "gone" => OnDeny::Gone,
        "slow_down" => OnDeny::SlowDown,
        "human_approval" => OnDeny::HumanApproval,
        "quarantine" => OnDeny::Quarantine,
        _ => {
            let period = value.strip_prefix("quarantine:")?;
            period.parse::<crate::model::Period>().ok()?;
            OnDeny::Quarantine
        }
    })
}

/// What may stand in a challenge without quoting (RFC 6750, section 3).
fn is_plain(byte: u8) -> bool {
    byte == b' ' || (byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy as PublicPolicy;

    use super::*;

    fn of(text: &str) -> Result<Obligation, Vec<String>> {
        let policy = PublicPolicy::parse(None, format!("{text} (principal, action, resource);"));
        Obligation::of(policy.unwrap().as_ref())
    }

    #[test]
    fn annotations_choose_the_answer() {
        let plain = of(r#"@id("x") @control("PCI 7.2") forbid"#).unwrap();
        assert_eq!(plain.on_deny, OnDeny::Forbid);
        let step_up =
            of(r#"@on_deny("step_up") @acr_values("gold silver") @max_age("300") forbid"#);
        assert_eq!(
            step_up.unwrap(),
            Obligation {
                on_deny: OnDeny::StepUp,
                step_up: StepUp {
                    acr_values: vec!["gold".into(), "silver".into()],
                    max_age: Some(300)
                }
            }
        );
        let quarantine = of(r#"@on_deny("quarantine:15m") forbid"#).unwrap();
        assert_eq!(quarantine.on_deny, OnDeny::Quarantine);
    }

    #[test]
    fn unknown_bad_and_impossible_annotations_are_errors() {
        for (text, expected) in [
            (r#"@on_deny("teapot") forbid"#, "is not an answer"),
            (r#"@on_deny("quarantine:soon") forbid"#, "is not an answer"),
            (r#"@ondeny("gone") forbid"#, "is not an annotation"),
            (r#"@on_deny("gone") permit"#, "never denies"),
            (
                r#"@max_age("soon") @on_deny("step_up") forbid"#,
                "number of seconds",
            ),
            (r#"@max_age("300") forbid"#, "need `@on_deny"),
            (
                r#"@acr_values("") @on_deny("step_up") forbid"#,
                "must name one",
            ),
            (
                r#"@acr_values("a\"b") @on_deny("step_up") forbid"#,
                "must name one",
            ),
        ] {
            let wrong = of(text).unwrap_err().join("; ");
            assert!(wrong.contains(expected), "{text}: {wrong}");
        }
    }
}

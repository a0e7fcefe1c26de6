//! What a policy's annotations ask for: how a denial is answered, what is noted about a decision, and whether the policy
//! decides at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{Effect, Policy};

use crate::model::{Period, Severity, StepUp};

/// The answer a forbid asks for (`@on_deny`, or `@status` for those that have a status of their own).
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
    /// How its denial is answered.
    pub(super) on_deny: OnDeny,
    /// How long the caller is to be set apart, where that is the answer and a time is named.
    pub(super) set_apart: Option<Period>,
    /// The login that would be enough.
    pub(super) step_up: StepUp,
    /// What the caller may be told (`@reason`).
    pub(super) reason: Option<Arc<str>>,
    /// How much it matters (`@severity`).
    pub(super) severity: Option<Severity>,
    /// What has to happen when it decides (`@obligation`).
    pub(super) duty: Option<Arc<str>>,
    /// The control of a catalogue that it carries out (`@control`).
    pub(super) control: Option<Arc<str>>,
    /// Whether it only says what it would decide (`@mode("shadow")`).
    pub(super) shadow: bool,
    /// Whether it only says so on operations that are observed (`@mode("observable")`). A forbid that is not holds there
    /// too.
    pub(super) observable: bool,
}

/// Where a policy counts (`@mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Everywhere.
    Enforce,
    /// Everywhere but on operations that are observed.
    Observable,
    /// Nowhere: it only says what it would decide.
    Shadow,
}

/// The longest `@reason`, `@obligation` and `@control`, in bytes: they travel in headers and metadata.
const MAX_TEXT: usize = 200;

/// Every annotation that means something here. `id` is read with the policy, `title` describes it.
const KNOWN: [&str; 11] = [
    "id",
    "on_deny",
    "status",
    "acr_values",
    "max_age",
    "reason",
    "severity",
    "control",
    "obligation",
    "mode",
    "title",
];

impl Obligation {
    /// Reads a policy's annotations.
    ///
    /// # Errors
    /// One sentence for each annotation that is unknown, has a bad value, or cannot stand with the others.
    pub(super) fn of(policy: &Policy) -> Result<Self, Vec<String>> {
        let values: BTreeMap<&str, &str> = policy
            .annotations()
            .map(|(key, annotation)| (key.as_ref(), annotation.as_ref()))
            .collect();
        let mut reader = Reader {
            values,
            wrong: Vec::new(),
        };
        reader.refuse_unknown();
        let on_deny = reader.on_deny();
        let mode = reader.mode();
        let obligation = Self {
            set_apart: reader.get("on_deny").and_then(parse_set_apart),
            step_up: reader.step_up(),
            reason: reader.text("reason"),
            severity: reader.severity(),
            duty: reader.text("obligation"),
            control: reader.text("control"),
            shadow: mode == Mode::Shadow,
            observable: mode == Mode::Observable,
            on_deny: on_deny.unwrap_or(OnDeny::Forbid),
        };
        reader.refuse_impossible(policy.effect(), on_deny, mode);
        if reader.wrong.is_empty() {
            Ok(obligation)
        } else {
            Err(reader.wrong)
        }
    }
}

/// The annotations of one policy, and what is wrong with them so far.
struct Reader<'a> {
    values: BTreeMap<&'a str, &'a str>,
    wrong: Vec<String>,
}

impl<'a> Reader<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).copied()
    }

    /// A value that `parse` understands; what it does not is noted as wrong.
    fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Option<T>,
        wanted: &str,
    ) -> Option<T> {
        let value = self.get(key)?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.wrong
                .push(format!("`@{key}(\"{value}\")`: use {wanted}"));
        }
        parsed
    }

    fn refuse_unknown(&mut self) {
        for key in self.values.keys().filter(|key| !KNOWN.contains(key)) {
            let known = KNOWN.map(|known| format!("`@{known}`")).join(", ");
            self.wrong.push(format!(
                "`@{key}` means nothing here: the annotations are {known}"
            ));
        }
    }

    fn on_deny(&mut self) -> Option<OnDeny> {
        let by_name = self.parsed(
            "on_deny",
            parse_on_deny,
            "`step_up`, `bad_request`, `not_found`, `gone`, `slow_down`, `quarantine` (or `quarantine:15m`) or `human_approval`",
        );
        let by_status = self.parsed("status", parse_status, "400, 403, 404, 410 or 429");
        match (by_name, by_status) {
            (Some(name), Some(status)) if name != status => {
                self.wrong.push(
                    "`@on_deny` and `@status` ask for different answers: keep one".to_owned(),
                );
                Some(name)
            }
            (name, status) => name.or(status),
        }
    }

    fn step_up(&mut self) -> StepUp {
        let classes = |value: &str| {
            let classes: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
            (!classes.is_empty() && value.bytes().all(is_plain)).then_some(classes)
        };
        StepUp {
            acr_values: self
                .parsed(
                    "acr_values",
                    classes,
                    "one or more classes in plain ASCII, separated by spaces",
                )
                .unwrap_or_default(),
            max_age: self.parsed("max_age", |value| value.parse().ok(), "a number of seconds"),
        }
    }

    fn text(&mut self, key: &str) -> Option<Arc<str>> {
        let plain = |value: &str| {
            let visible = |b: u8| (0x20..0x7f).contains(&b);
            (!value.is_empty() && value.len() <= MAX_TEXT && value.bytes().all(visible))
                .then(|| value.into())
        };
        self.parsed(key, plain, "1 to 200 visible ASCII characters")
    }

    fn severity(&mut self) -> Option<Severity> {
        self.parsed(
            "severity",
            Severity::parse,
            "`low`, `medium`, `high` or `critical`",
        )
    }

    fn mode(&mut self) -> Mode {
        let mode = |value: &str| match value {
            "shadow" => Some(Mode::Shadow),
            "observable" => Some(Mode::Observable),
            "enforce" => Some(Mode::Enforce),
            _ => None,
        };
        self.parsed("mode", mode, "`shadow`, `observable` or `enforce`")
            .unwrap_or(Mode::Enforce)
    }

    fn refuse_impossible(&mut self, effect: Effect, on_deny: Option<OnDeny>, mode: Mode) {
        if effect == Effect::Permit {
            if mode == Mode::Observable {
                self.wrong.push(
                    "`@mode(\"observable\")` stands on a permit, which refuses nothing that could be observed: put it on a forbid"
                        .to_owned(),
                );
            }
            for key in ["on_deny", "status", "reason"] {
                if self.get(key).is_some() {
                    self.wrong.push(format!(
                        "`@{key}` stands on a permit, which never denies: put it on a forbid"
                    ));
                }
            }
        }
        let login = ["acr_values", "max_age"]
            .iter()
            .any(|key| self.get(key).is_some());
        if login && on_deny != Some(OnDeny::StepUp) {
            self.wrong.push(
                "`@acr_values` and `@max_age` need `@on_deny(\"step_up\")` beside them".to_owned(),
            );
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
            parse_set_apart(value)?;
            OnDeny::Quarantine
        }
    })
}

/// The time of `quarantine:15m`.
fn parse_set_apart(value: &str) -> Option<Period> {
    value.strip_prefix("quarantine:")?.parse().ok()
}

fn parse_status(value: &str) -> Option<OnDeny> {
    Some(match value {
        "400" => OnDeny::BadRequest,
        "403" => OnDeny::Forbid,
        "404" => OnDeny::NotFound,
        "410" => OnDeny::Gone,
        "429" => OnDeny::SlowDown,
        _ => return None,
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
        assert_eq!(
            (plain.on_deny, plain.control.as_deref()),
            (OnDeny::Forbid, Some("PCI 7.2"))
        );
        let step_up =
            of(r#"@on_deny("step_up") @acr_values("gold silver") @max_age("300") forbid"#).unwrap();
        assert_eq!(step_up.on_deny, OnDeny::StepUp);
        assert_eq!(
            step_up.step_up,
            StepUp {
                acr_values: vec!["gold".into(), "silver".into()],
                max_age: Some(300)
            }
        );
        let quarantine = of(r#"@on_deny("quarantine:15m") forbid"#).unwrap();
        assert_eq!(
            (quarantine.on_deny, quarantine.set_apart),
            (OnDeny::Quarantine, Some(Period::seconds(900)))
        );
        let open = of(r#"@on_deny("quarantine") forbid"#).unwrap();
        assert_eq!((open.on_deny, open.set_apart), (OnDeny::Quarantine, None));
        assert_eq!(
            of(r#"@status("404") forbid"#).unwrap().on_deny,
            OnDeny::NotFound
        );
        assert_eq!(
            of(r#"@status("410") @on_deny("gone") forbid"#)
                .unwrap()
                .on_deny,
            OnDeny::Gone
        );
    }

    #[test]
    fn annotations_say_what_is_noted_and_whether_the_policy_decides() {
        let obligation =
            of(r#"@severity("high") @obligation("notify:soc") @mode("shadow") permit"#).unwrap();
        assert_eq!(obligation.severity, Some(Severity::High));
        assert_eq!(obligation.duty.as_deref(), Some("notify:soc"));
        assert!(obligation.shadow);
        let observable = of(r#"@mode("observable") forbid"#).unwrap();
        assert!(observable.observable && !observable.shadow);
        let forbid = of(r#"@reason("ask your manager") @mode("enforce") forbid"#).unwrap();
        assert!(!forbid.observable);
        assert_eq!(
            (forbid.reason.as_deref(), forbid.shadow),
            (Some("ask your manager"), false)
        );
    }

    #[test]
    fn unknown_bad_and_impossible_annotations_are_errors() {
        for (text, expected) in [
            (r#"@on_deny("teapot") forbid"#, "use `step_up`"),
            (r#"@on_deny("quarantine:soon") forbid"#, "use `step_up`"),
            (r#"@ondeny("gone") forbid"#, "means nothing here"),
            (r#"@on_deny("gone") permit"#, "never denies"),
            (r#"@reason("no") permit"#, "never denies"),
            (r#"@status("404") permit"#, "never denies"),
            (r#"@status("200") forbid"#, "use 400, 403"),
            (
                r#"@status("404") @on_deny("gone") forbid"#,
                "different answers",
            ),
            (
                r#"@max_age("soon") @on_deny("step_up") forbid"#,
                "a number of seconds",
            ),
            (r#"@max_age("300") forbid"#, "need `@on_deny"),
            (
                r#"@acr_values("") @on_deny("step_up") forbid"#,
                "one or more classes",
            ),
            (
                r#"@acr_values("a\"b") @on_deny("step_up") forbid"#,
                "one or more classes",
            ),
            (r#"@severity("huge") forbid"#, "use `low`"),
            (r#"@mode("dry") forbid"#, "use `shadow`"),
            (r#"@mode("observable") permit"#, "refuses nothing"),
            (r#"@reason("a\nb") forbid"#, "visible ASCII"),
            (r#"@control("") permit"#, "visible ASCII"),
        ] {
            let wrong = of(text).unwrap_err().join("; ");
            assert!(wrong.contains(expected), "{text}: {wrong}");
        }
    }
}

//! What was decided, as one JSON object.

use serde::Serialize;

use crate::envoy::response;
use crate::mint::Preview;
use crate::model::{Decision, Effect, Problem};
use crate::pipeline::trial::Found;

/// What was decided of one request. `decision` is what AuthZEN asks for; the rest says why.
#[derive(Debug, Serialize)]
pub struct Answer {
    verdict: &'static str,
    decision: bool,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<i32>,
    reason: &'static str,
    /// The reason of the refusal that would have been, where the operation is observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_be: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    policies: Vec<String>,
    /// The controls that the determining policies carry out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controls: Vec<String>,
    errors: Vec<Failure>,
    operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_up: Option<StepUp>,
    snapshot: String,
    /// The token that the upstream would get.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_token: Option<Preview>,
}

/// A policy that could not be evaluated.
#[derive(Debug, Serialize)]
struct Failure {
    policy: String,
    effect: &'static str,
    message: String,
}

/// The login that would be enough (RFC 9470).
#[derive(Debug, Serialize)]
struct StepUp {
    acr_values: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<u32>,
}

impl Answer {
    /// What is said of a decision.
    #[must_use]
    pub fn of(decision: &Decision) -> Self {
        let found = Found::of(decision, response::http_status);
        let trail = &decision.trail;
        let errors = found.errors.into_iter();
        Self {
            verdict: found.verdict,
            decision: decision.allowed(),
            status: found.status,
            grpc_status: trail.arrival.grpc.then(|| response::grpc_status(decision)),
            reason: found.reason,
            would_be: found.would_be,
            detail: found.detail,
            policies: found.policies,
            controls: trail
                .notes
                .controls
                .iter()
                .map(ToString::to_string)
                .collect(),
            errors: errors
                .map(|fault| Failure {
                    policy: fault.policy.to_string(),
                    effect: match fault.effect {
                        Effect::Permit => "permit",
                        Effect::Forbid => "forbid",
                    },
                    message: fault.message,
                })
                .collect(),
            operation: found.operation,
            step_up: found.step_up.map(|step_up| StepUp {
                acr_values: step_up.acr_values,
                max_age: step_up.max_age,
            }),
            snapshot: trail
                .snapshot
                .as_ref()
                .map_or_else(String::new, |id| id.as_str().to_owned()),
            upstream_token: None,
        }
    }

    /// The same, with the token that the upstream would get.
    #[must_use]
    pub fn with_token(self, upstream_token: Option<Preview>) -> Self {
        Self {
            upstream_token,
            ..self
        }
    }
}

/// What explanations are written from.
impl Answer {
    /// Whether the request may pass.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.decision
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason's code.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The reason of the refusal that would have been, where the operation is observed.
    #[must_use]
    pub fn would_be(&self) -> Option<&'static str> {
        self.would_be
    }

    /// The token that the upstream would get.
    #[must_use]
    pub fn token(&self) -> Option<&Preview> {
        self.upstream_token.as_ref()
    }

    /// A sentence for operators; empty where the request may pass.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The operation's id.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The digest of the bundle.
    #[must_use]
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// Whether a policy could not be evaluated.
    #[must_use]
    pub fn failed(&self, policy: &str) -> bool {
        self.messages(policy).next().is_some()
    }

    /// Why a policy could not be evaluated.
    pub fn messages<'a>(&'a self, policy: &'a str) -> impl Iterator<Item = &'a str> {
        let errors = self
            .errors
            .iter()
            .filter(move |fault| fault.policy == policy);
        errors.map(|fault| fault.message.as_str())
    }

    /// The login that is asked for, in words.
    #[must_use]
    pub fn login(&self) -> Option<String> {
        let login = self.step_up.as_ref()?;
        let mut words = Vec::new();
        if !login.acr_values.is_empty() {
            words.push(format!("of the class {}", login.acr_values.join(" or ")));
        }
        words.extend(
            login
                .max_age
                .map(|age| format!("at most {age} seconds old")),
        );
        Some(words.join(", "))
    }
}

/// What is said of a line that is no request: it is denied, as a check that cannot be read is.
#[derive(Debug, Serialize)]
pub struct NoRequest {
    verdict: &'static str,
    decision: bool,
    error: Mistake,
}

/// What is wrong with a line.
#[derive(Debug, Serialize)]
struct Mistake {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl NoRequest {
    /// What is said of the line of that number.
    #[must_use]
    pub fn of(line: u64, problem: Problem) -> Self {
        Self {
            verdict: "deny",
            decision: false,
            error: Mistake {
                line,
                column: problem.at.map(|(_, column)| column),
                message: problem.message,
                hint: problem.hint,
            },
        }
    }
}

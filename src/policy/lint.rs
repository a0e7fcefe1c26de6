//! What a bundle says that its author hardly meant: policies that change nothing, permits that are too wide, names nobody
//! else knows.
//!
//! Nothing here makes a bundle unfit to serve. Every rule is a function of the compiled set, and what a rule says of a
//! policy does not depend on what the others say:
//!
//! | rule | the author hardly meant | where |
//! |---|---|---|
//! | `never_applies` | a policy whose scope fits no operation, or whose conditions no request meets | `extent` |
//! | `meets_no_permit` | a forbid where nothing is permitted anyway | `extent` |
//! | `shadowed` | a permit that an unconditional forbid covers | `extent` |
//! | `no_scope` | a permit for everybody, or for everything | `wide` |
//! | `unknown_role`, `unknown_group` | a role or group that the entity files do not know | `names` |
//! | `path_pattern` | a pattern on the path, where `*` matches `/` too | `wide` |
//! | `misleading_text` | characters that look like others | here |

mod extent;
mod names;
mod wide;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use cedar_policy::{PolicyId, ValidationResult, ValidationWarning};
use cedar_policy_core::ast::Expr;
use cedar_policy_core::parser::Loc;

use super::Policies;
use super::bounds::with_room;
use super::entities::Target;
use super::slice::CompiledPolicy;
use crate::model::{Operation, Problem, line_and_column};
use extent::Extent;

/// What is known beside the bundle's policies.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Ids of operations that their documents open to everybody.
    pub public: BTreeSet<Arc<str>>,
    /// What the issuers put before their roles (`claims.role_prefix`): such roles need no entity file.
    pub role_prefixes: Vec<String>,
    /// What the issuers put before their groups.
    pub group_prefixes: Vec<String>,
}

/// A rule of this lint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table above says what they mean")]
pub enum Rule {
    NeverApplies,
    MeetsNoPermit,
    Shadowed,
    NoScope,
    UnknownRole,
    UnknownGroup,
    PathPattern,
    MisleadingText,
}

impl Rule {
    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NeverApplies => "never_applies",
            Self::MeetsNoPermit => "meets_no_permit",
            Self::Shadowed => "shadowed",
            Self::NoScope => "no_scope",
            Self::UnknownRole => "unknown_role",
            Self::UnknownGroup => "unknown_group",
            Self::PathPattern => "path_pattern",
            Self::MisleadingText => "misleading_text",
        }
    }
}

/// One thing its author hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule that says so.
    pub rule: Rule,
    /// The policy it is about.
    pub policy: Arc<str>,
    /// What it is, where, and what to do about it.
    pub problem: Problem,
}

/// The compiled set as the rules look at it.
struct Ground<'a> {
    policies: &'a Policies,
    /// Every operation, with its action and route.
    operations: Vec<(&'a Arc<Operation>, &'a Target)>,
    /// Every policy, with where it can apply.
    judged: Vec<Judged<'a>>,
    surroundings: &'a Surroundings,
}

/// One policy, and what is known of it.
struct Judged<'a> {
    compiled: &'a CompiledPolicy,
    file: &'a Path,
    place: (usize, usize),
    /// Whether it is a link: then its text is its template's, in another file.
    linked: bool,
    extent: Extent,
}

impl Policies {
    /// Looks for what the author hardly meant, in the order of the files. Costs as much as validating the bundle again:
    /// for commands, not for reloads.
    #[must_use]
    pub fn lint(&self, operations: &[Arc<Operation>], surroundings: &Surroundings) -> Vec<Warning> {
        with_room(|| Ok(self.lint_here(operations, surroundings))).unwrap_or_default()
    }

    fn lint_here(
        &self,
        operations: &[Arc<Operation>],
        surroundings: &Surroundings,
    ) -> Vec<Warning> {
        let ground = Ground::new(self, operations, surroundings);
        let mut warnings = self.validator_warnings(&ground);
        ground.effect(&mut warnings);
        ground.width(&mut warnings);
        ground.names(&mut warnings);
        warnings.sort_by(|one, other| (&one.problem, one.rule).cmp(&(&other.problem, other.rule)));
        warnings
    }

    /// What Cedar's validator warns of.
    fn validator_warnings(&self, ground: &Ground<'_>) -> Vec<Warning> {
        let judged: HashMap<&str, &Judged<'_>> = ground
            .judged
            .iter()
            .map(|one| (&*one.compiled.id, one))
            .collect();
        let results = self.grounds.validate(&self.sources.set, None);
        results
            .iter()
            .flat_map(ValidationResult::validation_warnings)
            .filter_map(|warning| {
                let id: &str = warning.policy_id().as_ref();
                let judged = *judged.get(id)?;
                Some(match warning {
                    // Ours says the same of it, and why.
                    ValidationWarning::ImpossiblePolicy(_)
                    | ValidationWarning::InvalidActionApplication(_)
                        if judged.extent.is_empty() =>
                    {
                        return None;
                    }
                    ValidationWarning::ImpossiblePolicy(_)
                    | ValidationWarning::InvalidActionApplication(_) => judged.warning(
                        Rule::NeverApplies,
                        format!("the policy `{id}` can never apply: what it asks for holds for no request"),
                        "no caller, operation and resource fit its scope and conditions together; compare them with `cardea generate schema`",
                    ),
                    other => judged.warning(
                        Rule::MisleadingText,
                        other.to_string(),
                        "write it in plain ASCII, so that it reads as it is compared",
                    ),
                })
            })
            .collect()
    }
}

impl<'a> Ground<'a> {
    fn new(
        policies: &'a Policies,
        operations: &'a [Arc<Operation>],
        surroundings: &'a Surroundings,
    ) -> Self {
        let operations: Vec<_> = operations
            .iter()
            .filter_map(|operation| {
                let slice = policies.slices.get(&operation.id)?;
                Some((operation, &slice.target))
            })
            .collect();
        let object_places = policies.statics.object_places();
        let judged = policies.sources.compiled.iter().filter_map(|compiled| {
            let source = policies.sources.set.policy(&PolicyId::new(&*compiled.id))?;
            let (file, line, column) = policies.sources.places.get(&compiled.id)?;
            Some(Judged {
                file,
                place: (*line, *column),
                linked: !source.is_static(),
                extent: Extent::of(compiled, &operations, &object_places),
                compiled,
            })
        });
        Self {
            judged: judged.collect(),
            policies,
            operations,
            surroundings,
        }
    }

    fn place(&self, policy: &CompiledPolicy) -> String {
        match self.policies.sources.places.get(&policy.id) {
            Some((file, line, _)) => format!("{}:{line}", file.display()),
            None => String::new(),
        }
    }
}

impl Judged<'_> {
    /// A warning about the policy as a whole.
    fn warning(&self, rule: Rule, message: String, hint: impl Into<String>) -> Warning {
        self.warning_at(None, rule, message, hint)
    }

    fn warning_at(
        &self,
        loc: Option<&Loc>,
        rule: Rule,
        message: String,
        hint: impl Into<String>,
    ) -> Warning {
        let mut problem = Problem::new(message).in_file(self.file).hint(hint);
        let within = loc.filter(|_| !self.linked);
        problem.at = Some(within.map_or(self.place, |loc| line_and_column(&loc.src, loc.start())));
        Warning {
            rule,
            policy: Arc::clone(&self.compiled.id),
            problem,
        }
    }

    /// Every expression of its conditions.
    fn expressions(&self) -> impl Iterator<Item = &Expr> {
        self.compiled
            .condition
            .iter()
            .flat_map(|condition| condition.subexpressions())
    }
}

#[cfg(test)]
mod tests;

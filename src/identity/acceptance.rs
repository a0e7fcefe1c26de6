//! Which schemes an operation accepts, and which credentials may come together.
//!
//! Rules are tried in order and the first that fits counts; where none fits, every configured scheme is accepted. What a
//! client says of itself plays no part: a rule looks at the operation, the canonical path, and what Envoy's operator set
//! on the route.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scheme::SchemeName;
use crate::model::{AccessRequest, Challenge, Problem};

/// Which schemes some operations accept. Every condition that is given has to hold; a condition that lists several
/// holds with one of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSettings {
    /// Operations by their ids (`orders.getOrder`); `orders.*` stands for all that begin with `orders.`.
    pub operations: Vec<String>,
    /// Paths, in their one spelling: `/v1/orders` stands for itself and all below it.
    pub paths: Vec<String>,
    /// What Envoy's operator set on the route (`context_extensions`): every pair has to be there.
    pub context_extensions: BTreeMap<String, String>,
    /// The schemes accepted, in the order in which they name the caller where several prove the same one.
    /// With none, only callers without a credential are heard.
    pub schemes: Vec<SchemeName>,
    /// Pairs of schemes that may come together and prove different callers: the first names the caller, the second is
    /// proven beside it. Without a pair that fits, two callers on one request are refused with 400.
    pub combine: Vec<(SchemeName, SchemeName)>,
}

/// Which schemes count where.
#[derive(Debug)]
pub(super) struct Acceptance {
    rules: Vec<RouteSettings>,
    accepted: Vec<Accepted>,
    otherwise: Accepted,
}

/// The schemes one operation accepts.
#[derive(Debug)]
pub(super) struct Accepted {
    order: Vec<SchemeName>,
    combine: Vec<(SchemeName, SchemeName)>,
    /// What a caller without a credential is told.
    pub(super) challenges: Arc<[Challenge]>,
}

impl Acceptance {
    /// What these rules say; `configured` are the schemes there are, and `challenges_of` what callers are told of each.
    pub(super) fn new(
        rules: &[RouteSettings],
        configured: Vec<SchemeName>,
        challenges_of: impl Fn(SchemeName) -> Vec<Challenge>,
    ) -> Self {
        let accepted = |order: Vec<SchemeName>, combine| {
            let mut challenges: Vec<Challenge> = Vec::new();
            for one in order.iter().copied().flat_map(&challenges_of) {
                // Two schemes may share one way of being sent.
                if !challenges.contains(&one) {
                    challenges.push(one);
                }
            }
            Accepted {
                order,
                combine,
                challenges: challenges.into(),
            }
        };
        let of = |rule: &RouteSettings| accepted(rule.schemes.clone(), rule.combine.clone());
        Self {
            accepted: rules.iter().map(of).collect(),
            rules: rules.to_vec(),
            otherwise: accepted(configured, Vec::new()),
        }
    }

    /// What counts for this request.
    pub(super) fn of(&self, request: &AccessRequest, operation: &str) -> &Accepted {
        let mut rules = self.rules.iter().zip(&self.accepted);
        rules
            .find(|(rule, _)| rule.fits(request, operation))
            .map_or(&self.otherwise, |(_, accepted)| accepted)
    }
}

impl Accepted {
    /// Whether this scheme counts.
    pub(super) fn takes(&self, scheme: SchemeName) -> bool {
        self.order.contains(&scheme)
    }

    /// How early this scheme names the caller: less is earlier.
    pub(super) fn rank(&self, scheme: SchemeName) -> usize {
        let place = self.order.iter().position(|one| *one == scheme);
        place.unwrap_or(usize::MAX)
    }

    /// Whether `first` may name the caller while `second` proves somebody else.
    pub(super) fn combines(&self, first: SchemeName, second: SchemeName) -> bool {
        self.combine.contains(&(first, second))
    }
}

impl RouteSettings {
    fn fits(&self, request: &AccessRequest, operation: &str) -> bool {
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => operation.starts_with(beginning),
            None => operation == pattern,
        };
        let path = request.path.as_str();
        let below = |place: &String| {
            let place = place.trim_end_matches('/');
            path.strip_prefix(place)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let set =
            |(key, value): (&String, &String)| request.context_extensions.get(key) == Some(value);
        (self.operations.is_empty() || self.operations.iter().any(named))
            && (self.paths.is_empty() || self.paths.iter().any(below))
            && self.context_extensions.iter().all(set)
    }

    /// Everything that is wrong with the rule at `place`; `configured` are the schemes there are.
    pub(super) fn problems(&self, place: &str, configured: &[SchemeName]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut say = |field: &str, what: String| {
            problems.push(Problem::new(format!("`{place}.{field}` {what}")));
        };
        for scheme in &self.schemes {
            if !configured.contains(scheme) {
                let name = scheme.as_str();
                say(
                    "schemes",
                    format!("names `{name}`, which is not configured"),
                );
            }
        }
        for (first, second) in &self.combine {
            if first == second {
                say("combine", "must pair two different schemes".to_owned());
            }
            for scheme in [first, second] {
                if !self.schemes.contains(scheme) {
                    let name = scheme.as_str();
                    say(
                        "combine",
                        format!("names `{name}`, which `schemes` does not"),
                    );
                }
            }
        }
        for path in &self.paths {
            if !path.starts_with('/') {
                say("paths", "must begin with `/`".to_owned());
            }
        }
        if self.operations.iter().any(String::is_empty) {
            say("operations", "must not hold an empty name".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OPERATION, request};
    use super::*;

    fn acceptance(rules: &[RouteSettings]) -> Acceptance {
        Acceptance::new(rules, SchemeName::ALL.to_vec(), |_| Vec::new())
    }

    fn rule(text: &str) -> RouteSettings {
        serde_saphyr::from_str(text).unwrap()
    }

    /// The first scheme the rules accept for a request for `/orders`.
    fn first(rules: &[RouteSettings]) -> Option<SchemeName> {
        let mut request = request(&[], "");
        request
            .context_extensions
            .insert("auth".to_owned(), "keys".to_owned());
        let acceptance = acceptance(rules);
        acceptance.of(&request, OPERATION).order.first().copied()
    }

    #[test]
    fn the_first_rule_that_fits_counts_and_without_one_every_scheme() {
        let fits = [
            "{operations: [orders.listOrders], schemes: [api_key]}",
            "{operations: ['orders.*'], schemes: [api_key]}",
            "{paths: [/orders], schemes: [api_key]}",
            "{paths: [/], schemes: [api_key]}",
            "{context_extensions: {auth: keys}, schemes: [api_key]}",
            "{schemes: [api_key]}",
        ];
        for text in fits {
            let rules = [rule(text), rule("{schemes: [basic]}")];
            assert_eq!(first(&rules), Some(SchemeName::ApiKey), "{text}");
        }
        let misses = [
            "{operations: [orders.list], schemes: [api_key]}",
            "{operations: ['invoices.*'], schemes: [api_key]}",
            "{paths: [/ord], schemes: [api_key]}",
            "{paths: [/orders/9], schemes: [api_key]}",
            "{context_extensions: {auth: other}, schemes: [api_key]}",
            "{operations: [orders.listOrders], paths: [/else], schemes: [api_key]}",
        ];
        for text in misses {
            assert_eq!(first(&[rule(text)]), Some(SchemeName::Jwt), "{text}");
        }
        assert_eq!(first(&[rule("{paths: [/orders]}")]), None);
    }

    #[test]
    fn rules_that_cannot_be_meant_are_told_all_at_once() {
        let rule = rule(
            "{paths: [orders], operations: [''], schemes: [jwt, basic], combine: [[jwt, jwt], [jwt, api_key]]}",
        );
        let problems = rule.problems("identity.routes[0]", &[SchemeName::Jwt]);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(told.iter().all(|line| line.contains("identity.routes[0].")));
    }
}

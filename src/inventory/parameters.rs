//! Which query parameters of an operation may be given once at most.

use super::document::{Components, Parameter, Place, Schema, place};
use super::report::Report;
use super::template::Template;
use serde_saphyr::Spanned;

/// How many references may lead from one to the next.
const MAX_HOPS: usize = 8;
/// How deep `allOf` and its kin are followed, references included.
const MAX_DEPTH: usize = 16;
/// How many schemas are looked at for one parameter.
const MAX_SCHEMAS: usize = 256;
/// The most bytes a query parameter's name may have.
const MAX_NAME: usize = 256;

/// The names of the query parameters that are documented with one value. What the operation itself says of a parameter
/// counts before what its path says.
pub(super) fn single_query_parameters(
    report: &mut Report<'_>,
    components: &Components,
    template: &Template,
    declared: (&[Spanned<Parameter>], &[Spanned<Parameter>]),
) -> Vec<String> {
    let (of_path, of_operation) = declared;
    let mut seen: Vec<(&str, bool)> = Vec::new();
    for spanned in of_operation.iter().chain(of_path) {
        let at = place(spanned);
        let Some(parameter) = resolve(report, components, &spanned.value, at) else {
            continue;
        };
        let Some((name, location)) = named(report, parameter, at) else {
            continue;
        };
        match location {
            "path" if !template.names().any(|own| &**own == name) => {
                let text = &template.text;
                report.problem(at, format!("`{text}` holds no parameter `{name}`"));
            }
            "query" if seen.iter().all(|(other, _)| *other != name) => {
                let single = !may_repeat(report, components, parameter, at);
                seen.push((name, single));
            }
            _ => {}
        }
    }
    seen.into_iter()
        .filter(|(_, single)| *single)
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Follows local references.
fn resolve<'d>(
    report: &mut Report<'_>,
    components: &'d Components,
    parameter: &'d Parameter,
    at: Place,
) -> Option<&'d Parameter> {
    let mut parameter = parameter;
    for _ in 0..MAX_HOPS {
        let Some(reference) = &parameter.reference else {
            return Some(parameter);
        };
        let target = reference
            .strip_prefix("#/components/parameters/")
            .and_then(|name| components.parameters.get(name));
        let Some(target) = target else {
            report.dangling(at, reference, "#/components/parameters/");
            return None;
        };
        parameter = target;
    }
    report.problem(at, "the references of this parameter lead in a circle");
    None
}

/// Name and place (`in`) of a parameter.
fn named<'d>(
    report: &mut Report<'_>,
    parameter: &'d Parameter,
    at: Place,
) -> Option<(&'d str, &'d str)> {
    let (Some(name), Some(location)) = (&parameter.name, &parameter.place) else {
        report.problem(at, "a parameter needs `name` and `in`");
        return None;
    };
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        report.problem(at, "a parameter's name is 1 to 256 printable bytes");
        return None;
    }
    if !matches!(location.as_str(), "path" | "query" | "header" | "cookie") {
        report.hinted(
            at,
            format!("the parameter `{name}` is in no place that OpenAPI 3.0 and 3.1 know"),
            "`in` is `path`, `query`, `header` or `cookie`",
        );
        return None;
    }
    Some((name, location))
}

/// Whether the parameter's own encoding repeats its name: a list in the style `form`, exploded, which is the default.
fn may_repeat(
    report: &mut Report<'_>,
    components: &Components,
    parameter: &Parameter,
    at: Place,
) -> bool {
    let form = matches!(parameter.style.as_deref(), None | Some("form"));
    let Some(schema) = parameter
        .schema
        .as_ref()
        .filter(|_| parameter.explode.unwrap_or(form))
    else {
        return false;
    };
    let mut walk = Walk {
        components,
        left: MAX_SCHEMAS,
        dangling: None,
    };
    let list = walk.may_be_a_list(schema, 0);
    if let Some(reference) = walk.dangling {
        report.dangling(at, reference, "#/components/schemas/");
    }
    list
}

struct Walk<'d> {
    components: &'d Components,
    left: usize,
    dangling: Option<&'d str>,
}

impl<'d> Walk<'d> {
    /// Whether a list can satisfy the schema, as far as `type`, `items` and composition say. What is too deep to follow
    /// counts as no list, so that its parameter may be given once.
    fn may_be_a_list(&mut self, schema: &'d Schema, depth: usize) -> bool {
        if depth > MAX_DEPTH || self.left == 0 {
            return false;
        }
        self.left -= 1;
        if let Some(reference) = &schema.reference {
            let target = reference
                .strip_prefix("#/components/schemas/")
                .and_then(|name| self.components.schemas.get(name));
            let Some(target) = target else {
                self.dangling = Some(reference);
                return false;
            };
            return self.may_be_a_list(target, depth + 1);
        }
        if !schema.types.is_empty() {
            return schema.types.iter().any(|name| name == "array");
        }
        schema.has_items
            || schema
                .parts
                .iter()
                .any(|part| self.may_be_a_list(part, depth + 1))
    }
}

//! Policies in a shape that keeps the logic small.
//!
//! The compiler to logic names the left side of an `&&` twice wherever that side can error or reads what may be absent. A
//! chain `a && b && c && d` nests to the left, so its logic would double with each step. `a && (b && (c && d))` means the
//! same in every case, errors too, since either stops at the first part that is false or errs; its logic stays as long as
//! the chain.

use serde_json::{Map, Value, json};

/// Takes the conditions of a policy in Cedar's JSON form, each as something that has to hold.
pub(super) fn conditions(policy: &mut Value) -> Vec<Value> {
    let Some(Value::Array(list)) = policy.get_mut("conditions").map(Value::take) else {
        return Vec::new();
    };
    list.into_iter()
        .map(|mut condition| {
            let body = condition.get_mut("body").map(Value::take);
            let body = to_the_right(body.unwrap_or_default());
            match condition.get("kind").and_then(Value::as_str) {
                Some("unless") => json!({ "!": { "arg": body } }),
                _ => body,
            }
        })
        .collect()
}

/// One condition that holds where all of these do. `None` for none.
pub(super) fn all_of(conditions: Vec<Value>) -> Option<Value> {
    chain("&&", conditions)
}

/// Turns every chain of `&&` or `||` within an expression to the right.
fn to_the_right(expression: Value) -> Value {
    match expression {
        Value::Array(items) => items.into_iter().map(to_the_right).collect(),
        Value::Object(mut fields) => {
            for operator in ["&&", "||"] {
                if fields.len() == 1 && fields.contains_key(operator) {
                    let parts = parts(operator, fields).into_iter().map(to_the_right);
                    return chain(operator, parts.collect()).unwrap_or_default();
                }
            }
            for value in fields.values_mut() {
                *value = to_the_right(value.take());
            }
            Value::Object(fields)
        }
        _ => expression,
    }
}

/// The parts of a chain, in order.
fn parts(operator: &str, chain: Map<String, Value>) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut left = Value::Object(chain);
    while let Some(pair) = operands(operator, &mut left) {
        let [first, second] = pair;
        parts.push(second);
        left = first;
    }
    parts.push(left);
    parts.reverse();
    parts
}

fn operands(operator: &str, expression: &mut Value) -> Option<[Value; 2]> {
    let fields = expression.as_object_mut()?;
    if fields.len() != 1 {
        return None;
    }
    let sides = fields.get_mut(operator)?;
    Some(["left", "right"].map(|side| sides.get_mut(side).map(Value::take).unwrap_or_default()))
}

fn chain(operator: &str, parts: Vec<Value>) -> Option<Value> {
    let mut parts = parts.into_iter().rev();
    let last = parts.next()?;
    Some(parts.fold(
        last,
        |rest, part| json!({ operator: { "left": part, "right": rest } }),
    ))
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::*;

    fn shaped(text: &str) -> String {
        let policy = Policy::parse(
            None,
            format!("permit (principal, action, resource) {text};"),
        );
        let mut json = policy.unwrap().to_json().unwrap();
        let body = all_of(conditions(&mut json)).unwrap();
        json["conditions"] = json!([{ "kind": "when", "body": body }]);
        Policy::from_json(None, json).unwrap().to_string()
    }

    #[test]
    fn chains_turn_to_the_right_and_mean_what_they_meant() {
        for (text, expected) in [
            (
                "when { context.a && context.b && context.c && context.d }",
                "context.a && (context.b && (context.c && context.d))",
            ),
            (
                "when { context.a || context.b || context.c && context.d }",
                "context.a || (context.b || (context.c && context.d))",
            ),
            (
                "when { context.a } unless { context.b && context.c && context.d } when { context.e }",
                "context.a && ((!(context.b && (context.c && context.d))) && context.e)",
            ),
            (
                "when { if context.a && context.b && context.c then [1].contains(2) else true }",
                "if context.a && (context.b && context.c) then [1].contains(2) else true",
            ),
            (
                r#"when { {"&&": context.a, "b": 1 == 1 && 2 == 2 && 3 == 3}.b }"#,
                "1 == 1 && (2 == 2 && (3 == 3))",
            ),
        ] {
            let shaped = shaped(text)
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            let plain = |text: &str| text.replace(['(', ')', ' '], "");
            assert!(plain(&shaped).contains(&plain(expected)), "{shaped}");
            assert!(
                shaped.contains(expected.split(" && ").next().unwrap()),
                "{shaped}"
            );
        }
    }
}

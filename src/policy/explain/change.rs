//! What would make a clause hold, in words an administrator or a caller can act on.

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp};

/// One sentence for a clause that does not hold.
pub(super) fn change(clause: &Expr, text: &str) -> String {
    wanted(clause).unwrap_or_else(|| match clause.expr_kind() {
        ExprKind::UnaryApp {
            op: UnaryOp::Not, ..
        } if text.starts_with("unless") => {
            format!(
                "that `{}` does not hold",
                text.trim_start_matches("unless { ").trim_end_matches(" }")
            )
        }
        _ => format!("that `{text}` holds"),
    })
}

/// The clauses least privilege is usually written in.
fn wanted(clause: &Expr) -> Option<String> {
    match clause.expr_kind() {
        ExprKind::BinaryApp {
            op: BinaryOp::Contains,
            arg1,
            arg2,
        } => {
            let value = literal(arg2)?;
            Some(match &*path(arg1)? {
                "context.token.scopes" => format!("scope `{value}`"),
                "context.token.audience" => format!("a token for the audience `{value}`"),
                "context.token.amr" => format!("a login by `{value}`"),
                _ => return None,
            })
        }
        // `a >= b` is written `!(a < b)` in the syntax tree.
        ExprKind::UnaryApp {
            op: UnaryOp::Not,
            arg,
        } => match arg.expr_kind() {
            ExprKind::BinaryApp {
                op: BinaryOp::Less,
                arg1,
                arg2,
            } => {
                let level = literal(arg2)?;
                (&*path(arg1)? == "context.token.assurance")
                    .then(|| format!("a login of assurance {level} or more"))
            }
            _ => None,
        },
        ExprKind::BinaryApp {
            op: BinaryOp::LessEq,
            arg1,
            arg2,
        } => fresh_login(arg1, arg2),
        ExprKind::GetAttr { .. } => (&*path(clause)? == "context.token.mfa")
            .then(|| "a login by more than one factor".to_owned()),
        ExprKind::Or { left, right } => Some(format!("{}, or {}", wanted(left)?, wanted(right)?)),
        _ => None,
    }
}

/// `context.time.now.durationSince(context.token.authTime) <= duration("5m")`.
fn fresh_login(age: &Expr, limit: &Expr) -> Option<String> {
    let ExprKind::ExtensionFunctionApp { fn_name, args } = age.expr_kind() else {
        return None;
    };
    let since = args.last()?;
    if fn_name.to_string() != "durationSince" || &*path(since)? != "context.token.authTime" {
        return None;
    }
    let ExprKind::ExtensionFunctionApp { args, .. } = limit.expr_kind() else {
        return None;
    };
    Some(format!(
        "a login of at most {}",
        in_words(&literal(args.first()?)?)
    ))
}

/// A duration of one unit in words; any other as it is written.
fn in_words(duration: &str) -> String {
    let units = [
        ("ms", "millisecond"),
        ("d", "day"),
        ("h", "hour"),
        ("m", "minute"),
        ("s", "second"),
    ];
    let found = units.into_iter().find_map(|(short, word)| {
        let number = duration.strip_suffix(short)?;
        let number: u64 = number.parse().ok()?;
        let plural = if number == 1 { "" } else { "s" };
        Some(format!("{number} {word}{plural}"))
    });
    found.unwrap_or_else(|| duration.to_owned())
}

/// Whether a clause only asks for what the next one reads: `context.token has authTime`. Whoever has the next one's
/// change has this one's too.
pub(super) fn is_asked_for_by(clause: &Expr, next: &Expr) -> bool {
    let ExprKind::HasAttr { expr, attr } = clause.expr_kind() else {
        return false;
    };
    let Some(path) = path(expr) else {
        return false;
    };
    let asked = format!("{path}.{attr}");
    wanted(next).is_some()
        && next
            .subexpressions()
            .any(|part| self::path(part).as_ref() == Some(&asked))
}

fn literal(expr: &Expr) -> Option<String> {
    match expr.expr_kind() {
        ExprKind::Lit(Literal::String(text)) => Some(text.to_string()),
        ExprKind::Lit(Literal::Long(number)) => Some(number.to_string()),
        _ => None,
    }
}

fn path(expr: &Expr) -> Option<String> {
    match expr.expr_kind() {
        ExprKind::Var(var) => Some(var.to_string()),
        ExprKind::GetAttr { expr, attr } => Some(format!("{}.{attr}", path(expr)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_one_unit_are_said_in_words() {
        for (written, said) in [
            ("5m", "5 minutes"),
            ("1h", "1 hour"),
            ("250ms", "250 milliseconds"),
            ("1d12h", "1d12h"),
            ("", ""),
        ] {
            assert_eq!(in_words(written), said);
        }
    }
}

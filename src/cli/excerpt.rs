//! A mistake as an author wants to see it: what is wrong, where, the line itself with the place marked, what to do.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::model::{Problem, shown};

/// The most bytes of a path that are shown.
const MAX_PATH: usize = 1024;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// It keeps settings or bundle from being used.
    Error,
    /// It does not.
    Warning,
}

/// Draws a problem. With the text of its file, the line is shown and the place underlined; a `rule` is its short name.
/// Control characters and text that runs backwards are shown as signs and never obeyed.
pub(super) fn render(
    severity: Severity,
    rule: Option<&str>,
    problem: &Problem,
    text: Option<&str>,
) -> String {
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(problem.message.as_str());
    let title = match rule {
        Some(rule) => title.id(rule),
        None => title,
    };
    let path = problem.file.as_ref();
    let path = path.map(|file| shown(&file.display().to_string(), MAX_PATH).into_owned());
    let mut group = Group::with_title(title);
    match (line(problem, text), problem.at) {
        (Some((number, line)), Some((_, column))) => {
            let snippet = Snippet::source(line)
                .line_start(number)
                .annotation(AnnotationKind::Primary.span(word(line, column)));
            group = group.element(match path {
                Some(path) => snippet.path(path),
                None => snippet,
            });
        }
        _ => {
            if let Some(path) = path {
                let origin = annotate_snippets::Origin::path(path);
                group = group.element(match problem.at {
                    Some((line, column)) => origin.line(line).char_column(column),
                    None => origin,
                });
            }
        }
    }
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    let mut drawn = Renderer::plain().render(&[group]);
    drawn.push('\n');
    drawn
}

/// The line a problem stands in, by its number.
fn line<'t>(problem: &Problem, text: Option<&'t str>) -> Option<(usize, &'t str)> {
    let (number, _) = problem.at?;
    let line = text?.lines().nth(number.checked_sub(1)?)?;
    Some((number, line))
}

/// The word at a column (from 1): a quoted text, an annotation, a name; else one character.
fn word(line: &str, column: usize) -> Range<usize> {
    let begin = line
        .char_indices()
        .nth(column.saturating_sub(1))
        .map_or(line.len(), |(offset, _)| offset);
    let rest = line.get(begin..).unwrap_or_default();
    begin..begin + word_length(rest)
}

fn word_length(rest: &str) -> usize {
    let Some(first) = rest.chars().next() else {
        return 0;
    };
    let through = |closing: char| {
        let inner = rest.get(first.len_utf8()..).unwrap_or_default();
        inner
            .find(closing)
            .map(|end| first.len_utf8() + end + closing.len_utf8())
    };
    let name = |c: char| c.is_alphanumeric() || "_-.:$/".contains(c);
    let length = match first {
        '"' | '\'' | '`' => through(first),
        '@' => through(')'),
        _ if name(first) => {
            let end = rest.find(|c| !name(c)).unwrap_or(rest.len());
            // A name may go on as an entity's id.
            match rest.get(end..) {
                Some(tail) if rest.get(..end).is_some_and(|head| head.ends_with("::")) => {
                    Some(end + word_length(tail))
                }
                _ => Some(
                    rest.get(..end)
                        .map_or(end, |word| word.trim_end_matches([':', '.', '-']).len())
                        .max(1),
                ),
            }
        }
        _ => None,
    };
    length.unwrap_or(first.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(problem: &Problem, text: &str) -> String {
        render(Severity::Error, None, problem, Some(text))
    }

    #[test]
    fn the_line_is_shown_and_the_place_underlined() {
        let problem = Problem::new("no such issuer")
            .in_file("cardea.yaml")
            .at(2, 11)
            .hint("name one of the configured issuers");
        assert_eq!(
            drawn(&problem, "identity:\n  issuer: \"x y\"\n  b: 1\n"),
            "\
error: no such issuer
 --> cardea.yaml:2:11
  |
2 |   issuer: \"x y\"
  |           ^^^^^
  |
  = help: name one of the configured issuers
"
        );
    }

    #[test]
    fn without_the_text_the_place_is_told() {
        let problem = Problem::new("cannot be read").in_file("a.yaml").at(3, 4);
        assert_eq!(
            render(Severity::Warning, Some("rule"), &problem, None),
            "warning[rule]: cannot be read\n--> a.yaml:3:4\n"
        );
        assert_eq!(
            drawn(&problem, "too short"),
            "error: cannot be read\n--> a.yaml:3:4\n"
        );
        assert_eq!(
            drawn(&Problem::new("in no file").hint("do this"), ""),
            "error: in no file\n |\n = help: do this\n"
        );
    }

    #[test]
    fn the_underlined_word_is_what_an_author_would_point_at() {
        for (line, column, expected) in [
            (r#"@id("x y") permit"#, 1, r#"@id("x y")"#),
            (r#"  Cardea::Action::"a b","#, 3, r#"Cardea::Action::"a b""#),
            ("key: value", 1, "key"),
            ("context.token.scopes == 1", 1, "context.token.scopes"),
            ("a == b", 3, "="),
            ("\u{e9}t\u{e9} ha", 1, "\u{e9}t\u{e9}"),
            ("\"open", 1, "\""),
            ("ab", 9, ""),
        ] {
            assert_eq!(line.get(word(line, column)), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_a_file_holds_cannot_move_the_terminal() {
        let problem = Problem::new("bad \u{1b}[2J").in_file("p\u{1b}[1m").at(1, 1);
        let drawn = drawn(&problem, "\u{1b}[31mred \u{202e}backwards\u{7}");
        assert!(
            !drawn.contains(['\u{1b}', '\u{7}', '\u{202e}']),
            "{drawn:?}"
        );
    }
}

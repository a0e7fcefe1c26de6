//! How much Cedar text a bundle may hold, and how deep it may nest: measured before Cedar's parser sees it.
//!
//! Parser, validator and evaluator recurse as deep as an expression nests. Cedar's parser has no guard, so that a file of
//! parentheses ends the process; its validator has one, and where it strikes, the policy counts as valid without having
//! been looked at. So text that nests too deep is refused here, and everything within the limit is compiled on a thread
//! whose stack is large enough for it, whoever asks.

pub(super) mod types;

use std::mem;
use std::thread;

use super::bundle::Document;
use crate::model::{Problem, line_and_column};

/// How deep an expression or a type may nest: brackets, `if`, unary operators, attributes of attributes, and operators
/// in a row (`a && b && c` nests as `(a && b) && c` does).
pub const MAX_NESTING: usize = 100;
/// How many `if` may lie within one another: where a test is constant, Cedar's validator looks at its branch twice, and so
/// at what nests in it twice as often with every level.
pub const MAX_IFS: usize = 10;
/// The most policies, templates and links a bundle may hold together.
pub const MAX_POLICIES: usize = 20_000;
/// The most words and signs a bundle's policies may hold together, without comments; and its schema. One costs about a
/// kilobyte while it is compiled.
pub const MAX_TOKENS: usize = 2_000_000;
/// The most words and signs of one policy.
pub const MAX_POLICY_TOKENS: usize = 50_000;
/// The stack to compile on: three times what [`MAX_NESTING`] parentheses take without optimisation. Only what is used of it
/// is ever real memory.
const STACK: usize = 128 * 1024 * 1024;

/// Does the work on a thread with room for everything the limits let through.
pub(super) fn with_room<T: Send>(
    work: impl FnOnce() -> Result<T, Vec<Problem>> + Send,
) -> Result<T, Vec<Problem>> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("cardea-compile".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| {
                vec![Problem::new(format!(
                    "cannot start a thread to compile on: {error}"
                ))]
            })?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Which text is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    Policies,
    /// Here `<` and `>` are brackets: `Set<Set<String>>`.
    Schema,
}

/// What has been measured so far, over all files of a kind.
#[derive(Debug)]
pub(super) struct Measure {
    grammar: Grammar,
    policies: usize,
    tokens: usize,
}

impl Measure {
    pub(super) fn new(grammar: Grammar) -> Self {
        Self {
            grammar,
            policies: 0,
            tokens: 0,
        }
    }

    /// Takes a file in.
    ///
    /// # Errors
    /// The first limit it passes, by name, and where.
    pub(super) fn take(&mut self, document: &Document) -> Result<(), Problem> {
        let mut scan = Scan::new(&document.text, self.grammar);
        while let Some(token) = scan.next_token() {
            self.tokens += 1;
            self.policies += usize::from(scan.ended && self.grammar == Grammar::Policies);
            let passed = match token {
                Err(limit) => Some(limit),
                Ok(()) if self.tokens > MAX_TOKENS => Some(Limit::Tokens),
                Ok(()) if self.policies > MAX_POLICIES => Some(Limit::Policies),
                Ok(()) => None,
            };
            if let Some(limit) = passed {
                let (line, column) = line_and_column(&document.text, scan.begun);
                return Err(limit.problem().in_file(&document.path).at(line, column));
            }
        }
        Ok(())
    }
}

/// A limit that was passed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    Nesting,
    Ifs,
    PolicyTokens,
    Tokens,
    Policies,
}

impl Limit {
    pub(super) fn problem(self) -> Problem {
        let (message, hint) = match self {
            Self::Nesting => (
                format!("this nests more than {MAX_NESTING} levels deep"),
                "brackets, `if` and operators in a row all count; compare with a set (`[..].contains(..)`), or write several policies",
            ),
            Self::Ifs => (
                format!("more than {MAX_IFS} `if` lie within one another"),
                "write it with `&&` and `||`, or as several policies",
            ),
            Self::PolicyTokens => (
                format!("one policy holds more than {MAX_POLICY_TOKENS} words and signs"),
                "write several policies, or give what is listed a group",
            ),
            Self::Tokens => (
                format!(
                    "the files of this kind hold more than {MAX_TOKENS} words and signs together"
                ),
                "a bundle may not hold more; serve it from several",
            ),
            Self::Policies => (
                format!("the bundle holds more than {MAX_POLICIES} policies"),
                "write one for a role or a group in place of many for its members",
            ),
        };
        Problem::new(message).hint(hint)
    }
}

/// What is open in one pair of brackets.
#[derive(Debug, Default, Clone, Copy)]
struct Level {
    /// What closes these brackets: nothing closes the outermost level. Another bracket closes nothing, since Cedar's parser,
    /// where it recovers from an error, may pass over it and read on within.
    closer: Option<u8>,
    /// Operators in a row between operands: `&&`, `||`, `if`.
    chain: usize,
    /// Operators within the operand that is being read.
    operand: usize,
    /// How deep the brackets of this operand go.
    inner: usize,
    /// How deep the deepest operand so far goes.
    operands: usize,
    /// How deep the deepest of what commas part goes.
    parts: usize,
    /// `if`s of the part that is being read, and the most that lie within one another in its brackets.
    ifs: usize,
    inner_ifs: usize,
    /// The most of all parts.
    parts_ifs: usize,
}

impl Level {
    /// An operand ends.
    fn operand_ends(&mut self) {
        self.operands = self.operands.max(self.operand + self.inner);
        (self.operand, self.inner) = (0, 0);
    }

    /// What commas part ends.
    fn part_ends(&mut self) {
        self.parts = self.parts.max(self.depth());
        self.parts_ifs = self.ifs_deep();
        (self.chain, self.operand, self.inner, self.operands) = (0, 0, 0, 0);
        (self.ifs, self.inner_ifs) = (0, 0);
    }

    fn ifs_deep(&self) -> usize {
        self.parts_ifs.max(self.ifs + self.inner_ifs)
    }

    fn depth(&self) -> usize {
        let operand = self.operand + self.inner;
        self.parts.max(self.chain + self.operands.max(operand))
    }
}

/// Reads Cedar text token by token, without recursion, as Cedar's lexer does: whatever that takes for a blank, a comment or
/// the end of a word must be taken for the same here, or text would be parsed that was not measured. What is no Cedar is
/// counted sign by sign and left to the parser, which reads no further.
struct Scan<'t> {
    text: &'t str,
    at: usize,
    /// Where the last token begins.
    begun: usize,
    /// Whether the last token ended a policy.
    ended: bool,
    /// Tokens of the policy that is being read.
    own: usize,
    /// Whether the last token wants a name or an operand, so that `if`, `then` and `else` after it are names.
    joined: bool,
    levels: Vec<Level>,
    grammar: Grammar,
}

impl<'t> Scan<'t> {
    fn new(text: &'t str, grammar: Grammar) -> Self {
        Self {
            grammar,
            text,
            at: 0,
            begun: 0,
            ended: false,
            own: 0,
            joined: false,
            levels: vec![Level::default()],
        }
    }

    /// Reads one token; `None` at the end.
    fn next_token(&mut self) -> Option<Result<(), Limit>> {
        let token = self.token()?;
        self.own += 1;
        let outermost = self.levels.len() == 1;
        self.ended = outermost && token == b";";
        let own = self.own;
        if self.ended {
            self.own = 0;
        }
        let depth = self.count(token);
        let ifs: usize = self.levels.iter().map(|level| level.ifs).sum();
        let ifs = self.levels.last().map_or(0, Level::ifs_deep).max(ifs);
        let policies = self.grammar == Grammar::Policies;
        Some(if depth > MAX_NESTING {
            Err(Limit::Nesting)
        } else if ifs > MAX_IFS && policies {
            Err(Limit::Ifs)
        } else if own > MAX_POLICY_TOKENS && policies {
            Err(Limit::PolicyTokens)
        } else {
            Ok(())
        })
    }

    /// Counts a token in, and says how deep the innermost brackets are, or how deep what they hold is.
    fn count(&mut self, token: &[u8]) -> usize {
        let open = self.levels.len();
        let joined = mem::replace(&mut self.joined, joins(token));
        let Some(level) = self.levels.last_mut() else {
            return 0;
        };
        if let Some(closer) = closer(token, self.grammar) {
            level.operand += 1;
            self.levels.push(Level {
                closer: Some(closer),
                ..Level::default()
            });
            return open;
        }
        match token {
            [sign] if level.closer == Some(*sign) => {
                level.part_ends();
                let (depth, ifs) = (level.parts, level.parts_ifs);
                self.levels.pop();
                if let Some(outer) = self.levels.last_mut() {
                    outer.inner = outer.inner.max(depth);
                    outer.inner_ifs = outer.inner_ifs.max(ifs);
                }
            }
            b"if" | b"then" | b"else" if joined => {}
            b"&&" | b"||" | b"if" => {
                level.chain += 1;
                level.ifs += usize::from(token == b"if");
                level.operand_ends();
            }
            b"then" | b"else" => level.operand_ends(),
            b"," | b";" => level.part_ends(),
            [b'.' | b'!' | b'-' | b'+' | b'*', ..] => level.operand += 1,
            _ => {}
        }
        self.levels.last().map_or(0, Level::depth) + self.levels.len() - 1
    }

    /// The next token.
    fn token(&mut self) -> Option<&'t [u8]> {
        self.at += blanks(self.text.get(self.at..)?);
        let rest = self.text.get(self.at..)?;
        let token = rest.get(..length(rest, self.grammar)?)?;
        self.begun = self.at;
        self.at += token.len();
        Some(token.as_bytes())
    }
}

/// Whether a name or an operand must follow.
fn joins(token: &[u8]) -> bool {
    matches!(
        token,
        b"." | b"::" | b"!" | b"-" | b"+" | b"*" | b"/" | b"%"
    )
}

/// What closes the bracket that a token is, if it opens one.
fn closer(token: &[u8], grammar: Grammar) -> Option<u8> {
    match token {
        b"(" => Some(b')'),
        b"[" => Some(b']'),
        b"{" => Some(b'}'),
        b"<" if grammar == Grammar::Schema => Some(b'>'),
        _ => None,
    }
}

/// How long the blanks and comments are that a text begins with. Blanks are the white space of Unicode, as for `\s` in
/// Cedar's lexer; a comment ends at `\n` or `\r`, and at nothing else.
fn blanks(text: &str) -> usize {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix("//") {
        rest = comment
            .trim_start_matches(|sign: char| !matches!(sign, '\n' | '\r'))
            .trim_start();
    }
    text.len() - rest.len()
}

/// How long the token is that a text begins with: `None` where the text is at its end.
fn length(text: &str, grammar: Grammar) -> Option<usize> {
    let policies = grammar == Grammar::Policies;
    let mut signs = text.chars();
    let first = signs.next()?;
    let second = signs.next();
    Some(match (first, second) {
        ('"', _) => string(text.as_bytes()),
        ('<' | '>' | '=' | '!', Some('=')) if policies => 2,
        ('&', Some('&')) | ('|', Some('|')) | (':', Some(':')) => 2,
        ('?', Some(second)) if policies && is_word(second) => {
            1 + text
                .chars()
                .skip(1)
                .take_while(|sign| is_word(*sign))
                .count()
        }
        // A word may follow a number without a blank.
        ('0'..='9', _) => until(text, |sign| !sign.is_ascii_digit()),
        _ if is_word(first) => until(text, |sign| !is_word(sign)),
        // Cedar's words are ASCII: anything else stands for itself, in full.
        _ => first.len_utf8(),
    })
}

fn is_word(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || sign == '_'
}

fn until(text: &str, end: impl Fn(char) -> bool) -> usize {
    text.find(end).unwrap_or(text.len())
}

/// How long the string is that begins here, quotes included.
fn string(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests;

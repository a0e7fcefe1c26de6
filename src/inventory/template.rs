//! Path templates: `/v1/orders/{orderId}`.
//!
//! A template is read into decoded segments once, at load, and compared with the decoded segments of a canonical path;
//! so an encoded slash in a request stays data within its segment, and no value is decoded twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

/// The most bytes a template may have.
const MAX_BYTES: usize = 1024;
/// The most segments a template may have. It bounds how deep the router recurses.
const MAX_SEGMENTS: usize = 64;
/// The most bytes a parameter's name may have.
const MAX_NAME: usize = 64;

/// A path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// As written, behind its base path.
    pub(super) text: String,
    /// Decoded; a trailing slash shows as an empty fixed last one.
    pub(super) segments: Vec<Segment>,
}

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Exactly this text.
    Fixed(Box<str>),
    /// A non-empty value between two fixed texts, mostly empty: `{id}`, `{id}.json`, `v{n}`.
    Parameter {
        /// The parameter's name.
        name: Arc<str>,
        /// What stands around it.
        affix: Affix,
    },
}

/// The fixed texts around a parameter within its segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Affix {
    pub(super) prefix: Box<str>,
    pub(super) suffix: Box<str>,
}

impl Affix {
    /// The value of the parameter in `segment`; never empty.
    pub(super) fn value<'s>(&self, segment: &'s str) -> Option<&'s str> {
        segment
            .strip_prefix(&*self.prefix)?
            .strip_suffix(&*self.suffix)
            .filter(|value| !value.is_empty())
    }

    /// How many bytes are fixed: of two that match one segment, the one with more says more.
    pub(super) fn weight(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// Whether both match some segment and neither matches all that the other does (`v{n}` and `{id}.json`).
    pub(super) fn crosses(&self, other: &Self) -> bool {
        let starts = |one: &Self, two: &Self| one.prefix.starts_with(&*two.prefix);
        let ends = |one: &Self, two: &Self| one.suffix.ends_with(&*two.suffix);
        let meet = (starts(self, other) || starts(other, self))
            && (ends(self, other) || ends(other, self));
        let within = |one: &Self, two: &Self| starts(one, two) && ends(one, two);
        meet && !within(self, other) && !within(other, self)
    }
}

/// Why a text is no template this router can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("a path template begins with `/`")]
    NotAbsolute,
    #[error("the path template is longer than {MAX_BYTES} bytes or {MAX_SEGMENTS} segments")]
    TooLong,
    #[error("the path template holds an empty segment (`//`)")]
    EmptySegment,
    #[error("the path template holds a dot segment")]
    DotSegment,
    #[error("the path template holds an unpaired brace, or an empty or unprintable parameter name")]
    Braces,
    #[error(
        "the path template holds two parameters in one segment, whose values could be told apart in several ways"
    )]
    TwoParameters,
    #[error("the path template holds the parameter `{0}` twice")]
    SameName(String),
    #[error("the path template holds a malformed percent-encoding, or one of a slash or backslash")]
    PercentEncoding,
    #[error("the path template holds a character that no path may hold")]
    Character,
    #[error("a base path holds no parameters")]
    ParameterInBase,
}

impl Template {
    /// Reads `path` as it is served behind `base` (which is empty or has passed [`read_base`]).
    pub(super) fn parse(base: &str, path: &str) -> Result<Self, TemplateError> {
        if !path.starts_with('/') {
            return Err(TemplateError::NotAbsolute);
        }
        let text = format!("{base}{path}");
        let parts = text.strip_prefix('/').ok_or(TemplateError::NotAbsolute)?;
        if text.len() > MAX_BYTES || parts.split('/').count() > MAX_SEGMENTS {
            return Err(TemplateError::TooLong);
        }
        let last = parts.split('/').count().saturating_sub(1);
        let mut segments = Vec::with_capacity(last + 1);
        for (index, part) in parts.split('/').enumerate() {
            if part.is_empty() && index != last {
                return Err(TemplateError::EmptySegment);
            }
            segments.push(read_segment(part)?);
        }
        let template = Self { text, segments };
        let mut names = BTreeSet::new();
        if let Some(twice) = template.names().find(|name| !names.insert(*name)) {
            return Err(TemplateError::SameName(twice.to_string()));
        }
        Ok(template)
    }

    /// The parameters' names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter { name, .. } => Some(name),
            Segment::Fixed(_) => None,
        })
    }

    /// The last fixed segment before the last parameter: what kind of thing the parameter names.
    pub(super) fn kind(&self) -> Option<&str> {
        self.segments
            .iter()
            .rev()
            .skip_while(|segment| matches!(segment, Segment::Fixed(_)))
            .find_map(|segment| match segment {
                Segment::Fixed(text) => Some(&**text),
                Segment::Parameter { .. } => None,
            })
    }
}

/// Reads a base path: `/`, `/api`, `/api/`. Gives it without its trailing slash.
pub(super) fn read_base(text: &str) -> Result<&str, TemplateError> {
    let base = text.strip_suffix('/').unwrap_or(text);
    if base.is_empty() {
        return Ok(base);
    }
    let template = Template::parse("", base)?;
    match template.names().next() {
        Some(_) => Err(TemplateError::ParameterInBase),
        None => Ok(base),
    }
}

fn read_segment(part: &str) -> Result<Segment, TemplateError> {
    let Some((prefix, rest)) = part.split_once('{') else {
        return Ok(Segment::Fixed(read_fixed(part)?));
    };
    let (name, suffix) = rest.split_once('}').ok_or(TemplateError::Braces)?;
    if suffix.contains('{') {
        return Err(TemplateError::TwoParameters);
    }
    let printable = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || name.contains('{') || name.len() > MAX_NAME {
        return Err(TemplateError::Braces);
    }
    Ok(Segment::Parameter {
        name: name.into(),
        affix: Affix {
            prefix: read_fixed(prefix)?,
            suffix: read_fixed(suffix)?,
        },
    })
}

/// Decodes the fixed part of a segment.
fn read_fixed(text: &str) -> Result<Box<str>, TemplateError> {
    if text.contains(['{', '}']) {
        return Err(TemplateError::Braces);
    }
    if text.contains(['?', '#', '\\']) || text.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return Err(TemplateError::Character);
    }
    let well_formed = text.split('%').skip(1).all(|after| {
        let mut bytes = after.bytes();
        [bytes.next(), bytes.next()]
            .iter()
            .all(|byte| byte.is_some_and(|byte| byte.is_ascii_hexdigit()))
    });
    if !well_formed {
        return Err(TemplateError::PercentEncoding);
    }
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| TemplateError::PercentEncoding)?;
    if decoded.contains(['/', '\\']) {
        return Err(TemplateError::PercentEncoding);
    }
    if decoded.chars().any(char::is_control) {
        return Err(TemplateError::Character);
    }
    if matches!(&*decoded, "." | "..") {
        return Err(TemplateError::DotSegment);
    }
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_read_into_decoded_segments() {
        let template = Template::parse("/api", "/caf%C3%A9/{id}.json/").unwrap();
        assert_eq!(template.text, "/api/caf%C3%A9/{id}.json/");
        assert_eq!(
            template.segments,
            [
                Segment::Fixed("api".into()),
                Segment::Fixed("caf\u{e9}".into()),
                Segment::Parameter {
                    name: "id".into(),
                    affix: Affix {
                        prefix: "".into(),
                        suffix: ".json".into()
                    },
                },
                Segment::Fixed("".into()),
            ]
        );
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, error) in [
            ("orders", TemplateError::NotAbsolute),
            ("/a//b", TemplateError::EmptySegment),
            ("/a/../b", TemplateError::DotSegment),
            ("/a/%2e%2E/b", TemplateError::DotSegment),
            ("/a%2Fb", TemplateError::PercentEncoding),
            ("/a%5cb", TemplateError::PercentEncoding),
            ("/a%", TemplateError::PercentEncoding),
            ("/a%ff", TemplateError::PercentEncoding),
            ("/a%00", TemplateError::Character),
            ("/a?b", TemplateError::Character),
            ("/a#b", TemplateError::Character),
            ("/a b", TemplateError::Character),
            ("/{", TemplateError::Braces),
            ("/}", TemplateError::Braces),
            ("/{}", TemplateError::Braces),
            ("/{{a}}", TemplateError::Braces),
            ("/{a}}", TemplateError::Braces),
            ("/{a/b}", TemplateError::Braces),
            ("/{a\u{202e}}", TemplateError::Braces),
            ("/{a}-{b}", TemplateError::TwoParameters),
            ("/{a}/{a}", TemplateError::SameName("a".into())),
        ] {
            assert_eq!(Template::parse("", text), Err(error), "{text}");
        }
        let long = format!("/{}", "a".repeat(MAX_BYTES));
        assert_eq!(Template::parse("", &long), Err(TemplateError::TooLong));
        let deep = "/a".repeat(MAX_SEGMENTS + 1);
        assert_eq!(Template::parse("", &deep), Err(TemplateError::TooLong));
        assert_eq!(read_base("/v1/{a}"), Err(TemplateError::ParameterInBase));
    }

    #[test]
    fn the_kind_is_the_last_fixed_segment_before_the_last_parameter() {
        for (text, kind) in [
            ("/v1/orders/{orderId}", Some("orders")),
            ("/v1/orders/{orderId}/cancel", Some("orders")),
            ("/v1/orders/{orderId}/items/{itemId}", Some("items")),
            ("/v1/orders/{orderId}:cancel", Some("orders")),
            ("/t/{tenant}/{id}", Some("t")),
            ("/{id}", None),
        ] {
            assert_eq!(Template::parse("", text).unwrap().kind(), kind, "{text}");
        }
    }

    #[test]
    fn affixes_cross_where_neither_says_more() {
        let affix = |prefix: &str, suffix: &str| Affix {
            prefix: prefix.into(),
            suffix: suffix.into(),
        };
        assert!(affix("v", "").crosses(&affix("", ".json")));
        assert!(affix("v", ".gz").crosses(&affix("v1", "")));
        assert!(!affix("", ".tar.gz").crosses(&affix("", ".gz")));
        assert!(!affix("", ".xml").crosses(&affix("", ".json")));
        assert!(!affix("a", "").crosses(&affix("b", ".json")));
        assert!(!affix("a", "b").crosses(&affix("a", "b")));
        assert_eq!(affix("a", "a").value("a"), None);
        assert_eq!(affix("a", "a").value("aa"), None);
        assert_eq!(affix("a", "a").value("aba"), Some("b"));
    }
}

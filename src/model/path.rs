//! The path a request names, in exactly one reading.
//!
//! Envoy hands the path over as the client sent it unless its operator asks otherwise, so every rule here is a promise
//! about what the upstream will understand too: what two parsers could read in two ways is refused.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to do with a spelling that RFC 3986 permits and some servers read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TwoReadings {
    /// Refuse the request with 400. The default.
    #[default]
    Reject,
    /// Take it as the data it is by RFC 3986. Only where every upstream does the same.
    Keep,
}

/// Which spellings of a path are accepted. The defaults refuse every one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PathRules {
    /// `%2F` and `%5C` within a segment. `keep` matches Envoy's `path_with_escaped_slashes_action: KEEP_UNCHANGED`.
    pub escaped_slashes: TwoReadings,
    /// `;` parameters within a segment (RFC 3986, section 3.3), which some servers strip before routing.
    pub path_parameters: TwoReadings,
    /// A percent-encoded text that would decode a second time (`%2561`). RFC 3986, section 2.4, decodes once.
    pub double_encoding: TwoReadings,
    /// Treat `//` as `/`. Set it exactly where Envoy's `merge_slashes` is set; otherwise `//` is refused.
    pub merge_slashes: bool,
}

/// Why a path has no single reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The target does not begin with `/` (absolute form, authority form, `*`).
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// `//`, which some parsers read as the start of an authority.
    #[error("the path holds an empty segment (`//`)")]
    EmptySegment,
    /// `.` or `..`, plain or encoded.
    #[error("the path holds a dot segment")]
    DotSegment,
    /// `%2F`, `%5C`, or a raw backslash.
    #[error("the path holds an encoded slash or a backslash")]
    EscapedSlash,
    /// `;` within a segment.
    #[error("the path holds a `;` parameter")]
    Parameter,
    /// A raw or encoded `#`.
    #[error("the path holds `#`")]
    Fragment,
    /// A `%` that two hex digits do not follow, or one that decodes twice.
    #[error("the path holds a malformed or doubly applied percent-encoding")]
    PercentEncoding,
    /// A control byte, a space or another byte that must be encoded.
    #[error("the path holds a byte that no path may hold")]
    Character,
    /// The decoded bytes are not UTF-8 (overlong forms included).
    #[error("the path does not decode to UTF-8")]
    NotUtf8,
}

/// A path in canonical form: every segment decoded exactly once, and one spelling for the whole.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CanonicalPath {
    text: String,
    segments: Vec<String>,
}

impl CanonicalPath {
    /// Reads the path part of a request target (without its query).
    ///
    /// # Errors
    /// [`PathError`] where the path could be read in two ways and `rules` do not settle it.
    pub fn parse(raw: &str, rules: PathRules) -> Result<Self, PathError> {
        let rest = raw.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let raw_segments: Vec<&str> = rest.split('/').collect();
        let last = raw_segments.len().saturating_sub(1);
        let mut segments = Vec::with_capacity(raw_segments.len());
        for (index, raw_segment) in raw_segments.into_iter().enumerate() {
            if raw_segment.is_empty() && index != last {
                if rules.merge_slashes {
                    continue;
                }
                return Err(PathError::EmptySegment);
            }
            segments.push(decode_segment(raw_segment, rules)?);
        }
        if last > 0 && !rules.merge_slashes && raw.ends_with("//") {
            return Err(PathError::EmptySegment);
        }
        Ok(Self {
            text: spell(&segments),
            segments,
        })
    }

    /// The one spelling: unreserved characters plain, everything else percent-encoded in upper case
    /// (RFC 3986, section 6.2.2).
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The decoded segments; a trailing slash shows as an empty last one.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
}

fn decode_segment(raw: &str, rules: PathRules) -> Result<String, PathError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hex_value);
                let low = bytes.next().and_then(hex_value);
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(PathError::PercentEncoding);
                };
                decoded.push(check_encoded(high << 4 | low, rules)?);
            }
            _ => decoded.push(check_plain(byte, rules)?),
        }
    }
    let text = String::from_utf8(decoded).map_err(|_| PathError::NotUtf8)?;
    if rules.double_encoding == TwoReadings::Reject && holds_an_escape(&text) {
        return Err(PathError::PercentEncoding);
    }
    // To a server that splits at a kept slash or backslash each part is a segment of its own, and to one that strips
    // parameters a dot segment is one even with a parameter behind it (`..;x=y`).
    let is_dots = |part: &str| matches!(part.split(';').next(), Some("." | ".."));
    if text.split(['/', '\\']).any(is_dots) {
        return Err(PathError::DotSegment);
    }
    Ok(text)
}

/// Bytes that came percent-encoded.
fn check_encoded(byte: u8, rules: PathRules) -> Result<u8, PathError> {
    match byte {
        0..=0x1f | 0x7f => Err(PathError::Character),
        b'/' | b'\\' if rules.escaped_slashes == TwoReadings::Reject => {
            Err(PathError::EscapedSlash)
        }
        b';' if rules.path_parameters == TwoReadings::Reject => Err(PathError::Parameter),
        b'#' => Err(PathError::Fragment),
        _ => Ok(byte),
    }
}

/// Bytes that came as they are.
fn check_plain(byte: u8, rules: PathRules) -> Result<u8, PathError> {
    match byte {
        b'\\' => Err(PathError::EscapedSlash),
        b'#' => Err(PathError::Fragment),
        b';' if rules.path_parameters == TwoReadings::Reject => Err(PathError::Parameter),
        0..=0x20 | 0x7f..=0xff | b'?' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
            Err(PathError::Character)
        }
        _ => Ok(byte),
    }
}

fn hex_value(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn holds_an_escape(text: &str) -> bool {
    text.as_bytes()
        .windows(3)
        .any(|w| matches!(w, [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

fn spell(segments: &[String]) -> String {
    let mut text = String::with_capacity(segments.iter().map(|s| s.len() + 1).sum());
    for segment in segments {
        text.push('/');
        for byte in segment.bytes() {
            if is_plain_in_canonical_form(byte) {
                text.push(char::from(byte));
            } else {
                text.push('%');
                text.push(upper_hex(byte >> 4));
                text.push(upper_hex(byte & 0x0f));
            }
        }
    }
    text
}

/// `pchar` of RFC 3986 without `;`, which is kept encoded so that it can never start a parameter.
fn is_plain_in_canonical_form(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

fn upper_hex(nibble: u8) -> char {
    char::from(if nibble < 10 {
        b'0' + nibble
    } else {
        b'A' - 10 + nibble
    })
}

impl fmt::Debug for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CanonicalPath({})", self.text)
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;

//! The query of a request, parsed once.

use std::fmt;

use percent_encoding::percent_decode_str;

/// Decoded `name=value` pairs in the order they came (the form encoding of the WHATWG URL standard: `+` is a space).
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// Why a query has no single reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// More pairs than [`Query::MAX_PAIRS`].
    #[error("the query holds more than 256 parameters")]
    TooMany,
    /// A `%` that two hex digits do not follow.
    #[error("the query holds a malformed percent-encoding")]
    PercentEncoding,
    /// The decoded bytes are not UTF-8.
    #[error("the query does not decode to UTF-8")]
    NotUtf8,
    /// A raw or encoded control byte, or a raw `#`.
    #[error("the query holds a byte that no query may hold")]
    Character,
}

impl Query {
    /// The most parameters one query may hold.
    pub const MAX_PAIRS: usize = 256;

    /// Reads the part of a request target behind its first `?`.
    ///
    /// # Errors
    /// [`QueryError`] where the text could be read in two ways.
    pub fn parse(raw: &str) -> Result<Self, QueryError> {
        let plain = |b: u8| (0x21..0x7f).contains(&b) && b != b'#';
        if !raw.bytes().all(plain) {
            return Err(QueryError::Character);
        }
        let mut pairs = Vec::new();
        for part in raw.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() == Self::MAX_PAIRS {
                return Err(QueryError::TooMany);
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self { pairs })
    }

    /// Every value given for `name`.
    pub fn values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.pairs
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether `name` is given at all.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// All pairs, decoded, in the order they came.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

fn decode(text: &str) -> Result<String, QueryError> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        if !after
            .bytes()
            .take(2)
            .filter(u8::is_ascii_hexdigit)
            .count()
            .eq(&2)
        {
            return Err(QueryError::PercentEncoding);
        }
        rest = after;
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| QueryError::NotUtf8)?
        .into_owned();
    if decoded.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(QueryError::Character);
    }
    Ok(decoded)
}

/// Shows names only: values may hold credentials.
impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.pairs.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_once_in_order() {
        let query = Query::parse("a=1&b=x+y%20z&a=2&flag&&e=%3d%26").unwrap();
        assert_eq!(query.values("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.values("b").collect::<Vec<_>>(), ["x y z"]);
        assert_eq!(query.values("flag").collect::<Vec<_>>(), [""]);
        assert_eq!(query.values("e").collect::<Vec<_>>(), ["=&"]);
        assert!(!query.contains("c"));
    }

    #[test]
    fn what_has_no_single_reading_is_refused() {
        for (raw, error) in [
            ("a=%", QueryError::PercentEncoding),
            ("a=%4", QueryError::PercentEncoding),
            ("%zz=1", QueryError::PercentEncoding),
            ("a=%ff", QueryError::NotUtf8),
            ("a=%00", QueryError::Character),
            ("a=%0a", QueryError::Character),
            ("a=1#b", QueryError::Character),
            ("a=\u{e9}", QueryError::Character),
            ("a b", QueryError::Character),
        ] {
            assert_eq!(Query::parse(raw), Err(error), "{raw:?}");
        }
        assert_eq!(Query::parse(&"a&".repeat(257)), Err(QueryError::TooMany));
    }

    #[test]
    fn debug_shows_no_value() {
        let query = Query::parse("access_token=s3cret").unwrap();
        assert_eq!(format!("{query:?}"), r#"{"access_token"}"#);
    }
}

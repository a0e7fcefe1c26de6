//! The request's headers, from whichever of the two forms Envoy sends them in.

use crate::model::{Headers, Refusal, every_byte};

use super::super::proto::auth::attribute_context::HttpRequest;
use super::super::proto::core::HeaderValue;
use super::{RequestSettings, malformed};

/// The first value of a header as text, for what must be known even of a request that is refused.
pub(super) fn first<'a>(http: &'a HttpRequest, name: &str) -> Option<&'a str> {
    if let Some(value) = http.headers.get(name) {
        return Some(value);
    }
    let map = http.header_map.as_ref()?;
    let field = map
        .headers
        .iter()
        .find(|field| field.key.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(bytes_of(field)).ok()
}

/// Takes the headers out of the message: names in lower case, sorted by name, a name's values in wire order, pseudo
/// headers checked against the fields they repeat and then dropped.
pub(super) fn read(http: &mut HttpRequest, settings: &RequestSettings) -> Result<Headers, Refusal> {
    let joined = std::mem::take(&mut http.headers);
    let apart = http.header_map.take().unwrap_or_default().headers;
    if !joined.is_empty() && !apart.is_empty() {
        return Err(malformed("both `headers` and `header_map` are filled"));
    }
    if joined.len().max(apart.len()) > settings.max_headers.saturating_add(PSEUDO.len()) {
        return Err(malformed(
            "the request has more headers than `request.max_headers`",
        ));
    }
    let mut fields = Vec::with_capacity(joined.len().max(apart.len()));
    for (name, value) in joined {
        push(&mut fields, http, (name, value.into_bytes()))?;
    }
    for field in apart {
        push(&mut fields, http, into_pair(field)?)?;
    }
    check_size(&fields, settings)?;
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Headers::new(fields))
}

/// Pseudo headers that Envoy repeats in fields of their own.
const PSEUDO: [&str; 4] = [":method", ":scheme", ":authority", ":path"];

fn push(
    fields: &mut Vec<(String, Vec<u8>)>,
    http: &HttpRequest,
    (mut name, value): (String, Vec<u8>),
) -> Result<(), Refusal> {
    name.make_ascii_lowercase();
    if name.starts_with(':') {
        return check_pseudo(&name, &value, http);
    }
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(malformed("a header's name is no token"));
    }
    let visible = every_byte(&value, |b| b >= 0x20);
    if !visible && value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(malformed("a header's value holds CR, LF or NUL"));
    }
    if name == "host" && value != http.host.as_bytes() {
        return Err(malformed("the `host` header and the request's host differ"));
    }
    fields.push((name, value));
    Ok(())
}

/// A pseudo header may only repeat its field. It differs where a byte was lost on the way: Envoy replaces what is not
/// UTF-8 in the field, and in the raw form of the header it does not.
fn check_pseudo(name: &str, value: &[u8], http: &HttpRequest) -> Result<(), Refusal> {
    let field = match name {
        ":method" => &http.method,
        ":scheme" => &http.scheme,
        ":authority" => &http.host,
        ":path" => &http.path,
        _ => return Ok(()),
    };
    if value == field.as_bytes() {
        return Ok(());
    }
    Err(malformed(
        "a pseudo header and the field that repeats it differ",
    ))
}

fn check_size(fields: &[(String, Vec<u8>)], settings: &RequestSettings) -> Result<(), Refusal> {
    if fields.len() > settings.max_headers {
        return Err(malformed(
            "the request has more headers than `request.max_headers`",
        ));
    }
    let bytes: usize = fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > settings.max_header_bytes {
        return Err(malformed(
            "the headers are larger than `request.max_header_bytes`",
        ));
    }
    Ok(())
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'0'..=b'9' | b'A'..=b'Z' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`'
            | b'|' | b'~'
    )
}

fn bytes_of(field: &HeaderValue) -> &[u8] {
    if field.raw_value.is_empty() {
        field.value.as_bytes()
    } else {
        &field.raw_value
    }
}

fn into_pair(field: HeaderValue) -> Result<(String, Vec<u8>), Refusal> {
    let value = match (field.value.is_empty(), field.raw_value.is_empty()) {
        (false, false) if field.value.as_bytes() != field.raw_value => {
            return Err(malformed("a header's `value` and `raw_value` differ"));
        }
        (false, _) => field.value.into_bytes(),
        (true, _) => field.raw_value,
    };
    Ok((field.key, value))
}

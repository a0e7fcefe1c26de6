//! `x-forwarded-client-cert`, as Envoy documents it: elements of one connection each, separated by `,`; in an element pairs
//! `key=value`, separated by `;`; a value with `,`, `;` or `=` in double quotes, in which `\"` stands for a quote.
//!
//! Envoy escapes quotes and not the backslash before them, so a value that ends in a backslash can be read in two ways.
//! Whatever can is refused.

use std::borrow::Cow;

/// The most connections one header may tell of.
const MAX_ELEMENTS: usize = 16;
/// The most pairs an element may hold.
const MAX_PAIRS: usize = 128;

/// What a proxy tells of one connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'h> {
    /// SHA-256 of the client's certificate in hex.
    pub(super) hash: Option<Cow<'h, str>>,
    /// The client's certificate, in percent-encoded PEM.
    pub(super) cert: Option<Cow<'h, str>>,
    /// The same, with those behind it.
    pub(super) chain: Option<Cow<'h, str>>,
    /// The subject's distinguished name. It is read and not used: the certificate says it better.
    pub(super) subject: Option<Cow<'h, str>>,
    /// URI names of the certificate.
    pub(super) uri: Vec<Cow<'h, str>>,
}

/// Reads all elements, in their order.
///
/// # Errors
/// What is wrong with them.
pub(super) fn read(field: &str) -> Result<Vec<Element<'_>>, &'static str> {
    let mut elements = Vec::new();
    let mut rest = field.trim_matches([' ', '\t']);
    loop {
        let (element, after) = element(rest)?;
        elements.push(element);
        if elements.len() > MAX_ELEMENTS {
            return Err("x-forwarded-client-cert tells of more than 16 connections");
        }
        match after {
            None => return Ok(elements),
            Some(more) => rest = more.trim_start_matches([' ', '\t']),
        }
    }
}

/// One element, and what comes behind its comma.
fn element(text: &str) -> Result<(Element<'_>, Option<&str>), &'static str> {
    let mut element = Element::default();
    let mut rest = text;
    for _ in 0..MAX_PAIRS {
        let (key, after) = rest
            .split_once('=')
            .ok_or("x-forwarded-client-cert is not made of pairs `key=value`")?;
        let (value, after) = value(after)?;
        element.set(key, value)?;
        let mut signs = after.chars();
        match signs.next() {
            None => return Ok((element, None)),
            Some(';') => rest = signs.as_str(),
            Some(',') => return Ok((element, Some(signs.as_str()))),
            Some(_) => return Err("x-forwarded-client-cert holds something behind a quoted value"),
        }
    }
    Err("an element of x-forwarded-client-cert holds more than 128 pairs")
}

/// A value, and what comes behind it.
fn value(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end).unwrap_or((text, ""));
        if value.contains(['"', '=', ' ', '\t']) {
            return Err("x-forwarded-client-cert holds a value that should be quoted");
        }
        return Ok((Cow::Borrowed(value), after));
    };
    let mut value = String::new();
    let mut signs = quoted.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '"' => return Ok((Cow::Owned(value), signs.as_str())),
            '\\' if signs.as_str().starts_with('"') => {
                signs.next();
                let after = signs.as_str();
                if after.is_empty() || after.starts_with([';', ',']) {
                    return Err(
                        "x-forwarded-client-cert holds a quote that ends the value or does not",
                    );
                }
                value.push('"');
            }
            other => value.push(other),
        }
    }
    Err("x-forwarded-client-cert holds a quote without an end")
}

impl<'h> Element<'h> {
    fn set(&mut self, key: &str, value: Cow<'h, str>) -> Result<(), &'static str> {
        let slot = match key.to_ascii_lowercase().as_str() {
            "uri" => {
                self.uri.push(value);
                return Ok(());
            }
            // The hop's own names, and DNS names that the certificate says better.
            "by" | "dns" => return Ok(()),
            "hash" => &mut self.hash,
            "cert" => &mut self.cert,
            "chain" => &mut self.chain,
            "subject" => &mut self.subject,
            _ => return Err("x-forwarded-client-cert holds an unknown key"),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err("an element of x-forwarded-client-cert holds a key twice"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Element<'_> {
        let mut all = read(text).unwrap();
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    #[test]
    fn the_examples_of_envoys_documents_are_read() {
        let text = r#"By=http://frontend.lyft.com;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;Subject="/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client";URI=http://testclient.lyft.com"#;
        let element = one(text);
        assert_eq!(element.uri, ["http://testclient.lyft.com"]);
        assert_eq!(
            element.subject.as_deref(),
            Some("/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client")
        );
        assert_eq!(element.hash.unwrap().len(), 64);
        let both = read("By=http://a;URI=http://b,By=http://c;URI=http://d").unwrap();
        assert_eq!(both[1].uri, ["http://d"]);
    }

    #[test]
    fn x4_separators_within_quotes_separate_nothing() {
        let text = r#"Subject="CN=a,O=x;URI=spiffe://evil/x\"y",URI=spiffe://good/x"#;
        let all = read(text).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(
            all[0].subject.as_deref(),
            Some(r#"CN=a,O=x;URI=spiffe://evil/x"y"#)
        );
        assert!(all[0].uri.is_empty());
        assert_eq!(all[1].uri, ["spiffe://good/x"]);
        let element = one(r#"subject="a\b";uri=spiffe://a/b;dns=x;BY=y;by=z"#);
        assert_eq!(element.subject.as_deref(), Some(r"a\b"));
    }

    #[test]
    fn x4_what_can_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            "URI",
            ",",
            "URI=a,",
            ",URI=a",
            "URI=a;",
            ";URI=a",
            "URI=a=b",
            "URI=a b",
            "URI=\"a",
            "URI=\"a\"b",
            "URI=a\"b\"",
            "Subject=\"a\\\";URI=spiffe://evil/x",
            "Subject=\"a\\\",URI=spiffe://evil/x\"",
            "Subject=\"a\\\"",
            "Hash=a;Hash=b",
            "hash=a;HASH=a",
            "Cert=a;cert=a",
            "User=root",
            " URI =a",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert!(read(&["URI=a"; 16].join(",")).is_ok());
        assert!(read(&["URI=a"; 17].join(",")).is_err());
        assert!(read(&["URI=a"; 129].join(";")).is_err());
    }
}

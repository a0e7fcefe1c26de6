//! Strict reading of one client certificate.
//!
//! What can be read in two ways is refused: several URI names, names with control characters, extensions twice.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::super::settings::NameFrom;
use super::super::token::Wrong;
use super::unusable;
use crate::model::{CredentialFault as Fault, SpiffeId, every_byte};

/// The most alternative names a client may have.
const MAX_NAMES: usize = 64;
/// The longest name, and the longest attribute of a distinguished name.
const MAX_NAME: usize = 2048;
/// The longest distinguished name, as text.
const MAX_DISTINGUISHED: usize = 4096;
/// The most certificates in a chain.
const MAX_CHAIN: usize = 8;

/// A certificate, read.
pub(super) struct Paper<'c> {
    parsed: X509Certificate<'c>,
    names: Names,
}

/// For how long a certificate counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    /// The moment to judge its chain at: now, or its nearest moment where the clocks differ.
    pub(super) at: Timestamp,
    /// Its end, by its own word.
    pub(super) until: Timestamp,
    /// Its end, with what clocks may differ.
    pub(super) valid_until: Timestamp,
    /// Now.
    pub(super) now: Timestamp,
}

/// The subject's alternative names.
#[derive(Default)]
struct Names {
    uri: Vec<String>,
    dns: Vec<String>,
    email: Vec<String>,
    ip: Vec<String>,
}

/// The certificates of a credential: the client's own, and those behind it.
pub(super) fn chain(bytes: &[u8]) -> Result<(Paper<'_>, Vec<X509Certificate<'_>>), Wrong> {
    let (mut rest, parsed) = one(bytes)?;
    let names = Names::of(&parsed)?;
    let mut more = Vec::new();
    while !rest.is_empty() {
        let (after, next) = one(rest)?;
        more.push(next);
        rest = after;
        if more.len() >= MAX_CHAIN {
            return Err(unusable("the chain holds more than 8 certificates"));
        }
    }
    Ok((Paper { parsed, names }, more))
}

fn one(bytes: &[u8]) -> Result<(&[u8], X509Certificate<'_>), Wrong> {
    X509Certificate::from_der(bytes)
        .map_err(|_| unusable("a certificate of the chain cannot be read"))
}

impl<'c> Paper<'c> {
    /// The certificate itself.
    pub(super) fn parsed(&self) -> &X509Certificate<'c> {
        &self.parsed
    }

    /// All of it.
    pub(super) fn der(&self) -> &'c [u8] {
        self.parsed.as_raw()
    }

    /// Its first moment.
    pub(super) fn not_before(&self) -> Timestamp {
        moment(self.parsed.validity().not_before)
    }

    /// Whether it is one of a client, and not of an authority (X509-SVID, sections 4 and 5.2; RFC 5280, section 4.2.1).
    pub(super) fn of_a_client(&self) -> Result<(), Wrong> {
        let unreadable =
            |_| unusable("an extension of the certificate is there twice or cannot be read");
        let constraints = self.parsed.basic_constraints().map_err(unreadable)?;
        let usage = self.parsed.key_usage().map_err(unreadable)?;
        let purposes = self.parsed.extended_key_usage().map_err(unreadable)?;
        let authority = constraints.is_some_and(|found| found.value.ca)
            || usage.is_some_and(|found| found.value.key_cert_sign() || found.value.crl_sign());
        if authority {
            return Err(unusable("the certificate is an authority's"));
        }
        if purposes.is_some_and(|found| !found.value.client_auth && !found.value.any) {
            return Err(unusable(
                "the certificate is not for clients (extended key usage)",
            ));
        }
        Ok(())
    }

    /// Whether it counts now.
    pub(super) fn life(&self, now: Timestamp, skew: SignedDuration) -> Result<Life, Wrong> {
        let (from, until) = (self.not_before(), moment(self.parsed.validity().not_after));
        let later = |at: Timestamp| at.saturating_add(skew).unwrap_or(at);
        let valid_until = later(until);
        if until < from {
            return Err(unusable("the certificate ends before it begins"));
        }
        if now >= valid_until {
            return Err(Wrong(Fault::Expired, "the certificate has expired"));
        }
        if later(now) < from {
            return Err(Wrong(
                Fault::NotYetValid,
                "the certificate is not valid yet",
            ));
        }
        Ok(Life {
            at: now.clamp(from, until),
            until,
            valid_until,
            now,
        })
    }

    /// Its SPIFFE ID, where its URI name is meant as one.
    pub(super) fn spiffe(&self) -> Result<Option<SpiffeId>, Wrong> {
        match self.names.uri.as_slice() {
            [name] if is_spiffe(name) => match SpiffeId::parse(name) {
                Some(id) => Ok(Some(id)),
                None => Err(unusable("the certificate's SPIFFE ID is malformed")),
            },
            [] | [_] => Ok(None),
            _ => Err(unusable("the certificate holds several URI names")),
        }
    }

    /// The one name of that kind.
    pub(super) fn name(&self, from: NameFrom) -> Result<Option<String>, Wrong> {
        let common;
        let names = match from {
            NameFrom::Dns => &self.names.dns,
            NameFrom::Email => &self.names.email,
            NameFrom::CommonName => {
                common = common_names(self.parsed.subject())?;
                &common
            }
        };
        let name = match names.as_slice() {
            [] => return Ok(None),
            [name] => name,
            _ => {
                return Err(unusable(
                    "the certificate holds several names of the kind that counts",
                ));
            }
        };
        let good = match from {
            NameFrom::Dns => is_dns_name(name),
            NameFrom::Email => is_address(name),
            NameFrom::CommonName => !name.is_empty() && name.len() <= 256,
        };
        if good {
            Ok(Some(match from {
                NameFrom::Dns => name.to_ascii_lowercase(),
                NameFrom::Email | NameFrom::CommonName => name.clone(),
            }))
        } else {
            Err(unusable("the name that counts is a wildcard or malformed"))
        }
    }

    /// What policies can read of it, as claims.
    pub(super) fn claims(&self) -> Result<BTreeMap<String, Vec<String>>, Wrong> {
        let names = &self.names;
        let serial: String = self
            .parsed
            .raw_serial()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let all = [
            ("x509.san.uri", names.uri.clone()),
            ("x509.san.dns", names.dns.clone()),
            ("x509.san.email", names.email.clone()),
            ("x509.san.ip", names.ip.clone()),
            ("x509.subject", vec![distinguished(self.parsed.subject())?]),
            ("x509.subject.cn", common_names(self.parsed.subject())?),
            ("x509.issuer", vec![distinguished(self.parsed.issuer())?]),
            ("x509.serial", vec![serial]),
        ];
        let there = all.into_iter().map(|(name, mut values)| {
            values.retain(|value| !value.is_empty());
            values.sort_unstable();
            values.dedup();
            (name.to_owned(), values)
        });
        Ok(there.filter(|(_, values)| !values.is_empty()).collect())
    }
}

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, Wrong> {
        let extension = certificate
            .subject_alternative_name()
            .map_err(|_| unusable("the alternative names are there twice or cannot be read"))?;
        let mut names = Self::default();
        let Some(extension) = extension else {
            return Ok(names);
        };
        let all = &extension.value.general_names;
        if all.len() > MAX_NAMES {
            return Err(unusable(
                "the certificate holds more than 64 alternative names",
            ));
        }
        for name in all {
            match name {
                GeneralName::URI(text) => names.uri.push(visible(text)?),
                GeneralName::DNSName(text) => names.dns.push(visible(text)?),
                GeneralName::RFC822Name(text) => names.email.push(visible(text)?),
                GeneralName::IPAddress(bytes) => names.ip.push(address(bytes)?),
                GeneralName::Invalid(..) => {
                    return Err(unusable("an alternative name cannot be read"));
                }
                // Nothing here reads them, so they cannot mislead.
                GeneralName::OtherName(..)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::RegisteredID(_) => {}
            }
        }
        Ok(names)
    }
}

/// A name of visible ASCII: a NUL or a line end could cut it short for another reader.
fn visible(text: &str) -> Result<String, Wrong> {
    let graphic = |b: u8| (b > 0x20) & (b < 0x7f);
    if (1..=MAX_NAME).contains(&text.len()) && every_byte(text.as_bytes(), graphic) {
        Ok(text.to_owned())
    } else {
        Err(unusable(
            "an alternative name is empty, too long, or holds control characters",
        ))
    }
}

fn address(bytes: &[u8]) -> Result<String, Wrong> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let ip = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    ip.map(|ip| ip.to_string())
        .map_err(|_| unusable("an alternative name is no IP address"))
}

/// Whether a URI is meant as a SPIFFE ID, however it is spelled.
fn is_spiffe(uri: &str) -> bool {
    let scheme = uri.split(':').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("spiffe")
}

fn is_dns_name(name: &str) -> bool {
    let plain = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(plain)
}

fn is_address(text: &str) -> bool {
    let Some((local, host)) = text.split_once('@') else {
        return false;
    };
    !local.is_empty() && text.len() <= 254 && is_dns_name(host)
}

fn common_names(name: &X509Name<'_>) -> Result<Vec<String>, Wrong> {
    name.iter_common_name().map(value).collect()
}

fn value(attribute: &AttributeTypeAndValue<'_>) -> Result<String, Wrong> {
    let text = attribute
        .as_str()
        .map_err(|_| unusable("a distinguished name holds what is no text"))?;
    if text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(unusable(
            "a distinguished name is too long or holds control characters",
        ));
    }
    Ok(text.to_owned())
}

/// A distinguished name as text (RFC 4514): the last part first, what could be taken for syntax escaped. Attributes are
/// named by short name where that is well known, else by number.
fn distinguished(name: &X509Name<'_>) -> Result<String, Wrong> {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        let mut sign = if text.is_empty() { "" } else { "," };
        for attribute in part.iter() {
            text.push_str(sign);
            let oid = attribute.attr_type().to_id_string();
            text.push_str(short_name(&oid).unwrap_or(&oid));
            text.push('=');
            escape(&value(attribute)?, &mut text);
            sign = "+";
            if text.len() > MAX_DISTINGUISHED {
                return Err(unusable("a distinguished name is too long"));
            }
        }
    }
    Ok(text)
}

/// RFC 4514, section 3, and the e-mail address of RFC 2985.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// RFC 4514, section 2.4.
fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let edge = (c == ' ' && (index == 0 || index == last)) || (c == '#' && index == 0);
        if edge || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=') {
            text.push('\\');
        }
        // A `String` takes everything.
        let _written = text.write_char(c);
    }
}

/// A moment of a certificate; its years end at 9999, as ours do.
pub(super) fn moment(at: ASN1Time) -> Timestamp {
    Timestamp::from_second(at.timestamp()).unwrap_or(Timestamp::MAX)
}

//! `Client-Cert` and `Client-Cert-Chain` (RFC 9440): certificates in DER as byte sequences of structured fields (RFC 8941,
//! section 3.3.5). Parameters are allowed there and mean nothing here, so they are refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The client's own certificate.
pub(super) const OWN: &str = "client-cert";
/// Those behind it.
pub(super) const CHAIN: &str = "client-cert-chain";

/// The most certificates in a chain.
const MAX_CHAIN: usize = 8;

/// A single byte sequence.
///
/// # Errors
/// What is wrong with it.
pub(super) fn item(field: &str) -> Result<Vec<u8>, &'static str> {
    let wrong = "the client's certificate is no byte sequence (RFC 8941, section 3.3.5)";
    let inner = field
        .trim_matches(' ')
        .strip_prefix(':')
        .and_then(|rest| rest.strip_suffix(':'))
        .ok_or(wrong)?;
    STANDARD.decode(inner).map_err(|_| wrong)
}

/// A list of byte sequences.
///
/// # Errors
/// What is wrong with it.
pub(super) fn list(field: &str) -> Result<Vec<Vec<u8>>, &'static str> {
    let items = field
        .split(',')
        .map(|one| item(one.trim_matches([' ', '\t'])));
    let items: Vec<_> = items.collect::<Result<_, _>>()?;
    if items.len() > MAX_CHAIN {
        return Err("client-cert-chain holds more than 8 certificates");
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sequences_are_read_strictly() {
        assert_eq!(item(":aGVsbG8=:").unwrap(), b"hello");
        assert_eq!(list(":aGVsbG8=:, :aA==:").unwrap(), [&b"hello"[..], b"h"]);
        for bad in [
            "",
            ":",
            "aGVsbG8=",
            ":aGVsbG8:",
            ":aGVsbG8=:;a=1",
            ":aGVs bG8=:",
            ":aGVsbG8=:,:aA==:",
            ":_w==:",
            "\"aGVsbG8=\"",
        ] {
            assert!(item(bad).is_err(), "{bad}");
        }
        assert!(list(":aA==:,").is_err());
        assert!(list("").is_err());
        assert!(list(&[":aA==:"; 9].join(",")).is_err());
    }
}

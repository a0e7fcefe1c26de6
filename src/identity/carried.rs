//! What a request carries that may say who asks, read once for all schemes.

use std::borrow::Cow;

use crate::model::{AccessRequest, CredentialFault as Fault, Reason, Refusal, every_byte};

/// A request, and its `Authorization` field taken apart.
#[derive(Clone, Copy)]
pub(super) struct Carried<'r> {
    /// The request.
    pub(super) request: &'r AccessRequest,
    /// `Authorization`: the scheme as it was written, and the credential.
    pub(super) authorization: Option<(&'r str, &'r str)>,
}

/// A credential a request carries.
pub(super) struct Presented<'r> {
    /// What stands for the holder: a token, a key, a certificate.
    pub(super) credential: Cow<'r, [u8]>,
    /// Where it was found.
    pub(super) place: Place,
}

/// Where a credential was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In `Authorization`: it can belong to one scheme only.
    Authorization,
    /// In a header of its own.
    Header,
    /// In the connection. It is there whatever is asked, so a scheme that is not accepted passes over it.
    Connection,
}

impl<'r> Carried<'r> {
    /// Reads `Authorization`, whatever scheme it is.
    ///
    /// # Errors
    /// A refusal where there are several, or a token beside it in the query, or what no scheme can be.
    pub(super) fn read(request: &'r AccessRequest) -> Result<Self, Refusal> {
        let mut fields = request.headers.values("authorization");
        let Some(field) = fields.next() else {
            // RFC 6750, section 2.3: a token in the query ends up in logs. It is not read as a credential.
            return Ok(Self {
                request,
                authorization: None,
            });
        };
        if fields.next().is_some() {
            return Err(ambiguous("there is more than one authorization header"));
        }
        // Envoy joins repeated headers by commas, and no accepted credential holds one.
        if field.contains(&b',') {
            return Err(ambiguous("the authorization header holds a comma"));
        }
        if request.query.contains("access_token") {
            return Err(ambiguous("there is a token in the query beside the header"));
        }
        let parts = split(field).ok_or_else(|| {
            invalid(
                Fault::Malformed,
                "the authorization header is not a scheme, one space and a credential",
            )
        })?;
        Ok(Self {
            request,
            authorization: Some(parts),
        })
    }

    /// The credential of `Authorization`, where it uses this scheme (lower case).
    pub(super) fn authorization(&self, scheme: &str) -> Option<&'r str> {
        let (name, credential) = self.authorization?;
        name.eq_ignore_ascii_case(scheme).then_some(credential)
    }
}

impl<'r> Presented<'r> {
    /// A credential of `Authorization`.
    pub(super) fn authorization(credential: &'r str) -> Self {
        Self {
            credential: Cow::Borrowed(credential.as_bytes()),
            place: Place::Authorization,
        }
    }
}

/// `scheme SP credential` (RFC 9110, section 11.4), with exactly one space and nothing but visible ASCII.
fn split(field: &[u8]) -> Option<(&str, &str)> {
    let (name, credential) = std::str::from_utf8(field).ok()?.split_once(' ')?;
    let scheme = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let clean = !name.is_empty() && name.bytes().all(scheme);
    let graphic = |b: u8| (b > 0x20) & (b < 0x7f);
    let visible = !credential.is_empty() && every_byte(credential.as_bytes(), graphic);
    (clean && visible).then_some((name, credential))
}

/// `token68` (RFC 9110, section 11.2). It holds no `!`, which stands for any byte that Envoy could not pass on: two such
/// values may look the same and be different.
pub(super) fn token68(credential: &str) -> bool {
    let body = credential.trim_end_matches('=');
    // `-`, `.` and `/` stand together, before the digits.
    let sign = |b: u8| (b == b'_') | (b == b'~') | (b == b'+');
    let plain = |b: u8| b.is_ascii_alphanumeric() | (b'-'..=b'/').contains(&b) | sign(b);
    !body.is_empty() && every_byte(body.as_bytes(), plain)
}

/// The refusal of a request whose credentials can be read in two ways.
pub(super) fn ambiguous(detail: &'static str) -> Refusal {
    Refusal::new(Reason::AmbiguousCredential, detail)
}

/// The refusal of a credential that is none.
pub(super) fn invalid(fault: Fault, detail: &'static str) -> Refusal {
    Refusal::new(Reason::CredentialInvalid(fault), detail)
}

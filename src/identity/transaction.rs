//! Transaction tokens (draft-ietf-oauth-transaction-tokens): short-lived JWTs in a header of their own, which carry within
//! one trust domain on whose behalf a call is made. They are judged as bearer JWTs are, by issuers of their own.

use std::borrow::Cow;

use super::bearer::{BearerJwt, Party};
use super::carried::{Carried, Place, Presented, ambiguous, invalid, token68};
use super::scheme::{Preparing, Scheme, SchemeName};
use super::token::MAX_TOKEN;
use crate::model::{Arrival, CredentialFault as Fault, Refusal};

/// The header that carries them.
const HEADER: &str = "txn-token";

/// The scheme, with all its issuers.
#[derive(Debug)]
pub(super) struct TransactionToken {
    judge: BearerJwt,
}

impl TransactionToken {
    /// The scheme with these issuers.
    pub(super) fn new(issuers: impl IntoIterator<Item = Party>) -> Self {
        Self {
            judge: BearerJwt::new(issuers, false),
        }
    }
}

impl Scheme for TransactionToken {
    fn name(&self) -> SchemeName {
        SchemeName::TransactionToken
    }

    fn find<'r>(&self, carried: &Carried<'r>) -> Result<Option<Presented<'r>>, Refusal> {
        if self.judge.idle() {
            // Nobody here reads such tokens: the header is one like any other.
            return Ok(None);
        }
        let mut fields = carried.request.headers.values(HEADER);
        let Some(token) = fields.next() else {
            return Ok(None);
        };
        if fields.next().is_some() || token.contains(&b',') {
            return Err(ambiguous("there is more than one transaction token"));
        }
        let fault = match std::str::from_utf8(token) {
            _ if token.len() > MAX_TOKEN => Fault::TooLong,
            Ok(text) if token68(text) => {
                return Ok(Some(Presented {
                    credential: Cow::Borrowed(token),
                    place: Place::Header,
                }));
            }
            _ => Fault::Malformed,
        };
        Err(invalid(
            fault,
            "the transaction token is too long or malformed",
        ))
    }

    fn prepare<'a>(&'a self, credential: &'a [u8], arrival: &'a Arrival) -> Preparing<'a> {
        self.judge.prepare(credential, arrival)
    }
}

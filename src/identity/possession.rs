//! Proof of possession: whoever presents a bound token shows with each request that the key it is bound to is theirs.
//!
//! It is asked anew on every request, whatever the cache remembers of the token: what is remembered is who the token
//! belongs to, never that this sender may use it.

use std::sync::Arc;

use super::carried::{Carried, invalid};
use super::certificate::Clients;
use crate::model::{Arrival, Binding, CredentialFault as Fault, IdentityAttributes, Refusal};

/// What proofs are held against.
#[derive(Debug)]
pub(super) struct Possession {
    clients: Arc<Clients>,
}

impl Possession {
    pub(super) fn new(clients: Arc<Clients>) -> Self {
        Self { clients }
    }

    /// Whether the sender may use the token in `Authorization`.
    ///
    /// # Errors
    /// The refusal where a token is bound and not proven, or sent as bound and is not.
    pub(super) fn prove(
        &self,
        holder: &IdentityAttributes,
        carried: &Carried<'_>,
        _arrival: &Arrival,
    ) -> Result<(), Refusal> {
        let as_dpop = carried.authorization("dpop").is_some();
        match &holder.binding {
            None if as_dpop => Err(unproven("the token is sent as DPoP and bound to no key")),
            None => Ok(()),
            Some(Binding::Key(_)) => Err(unproven(
                "the token is bound to a key, and there is no proof",
            )),
            Some(Binding::Certificate(expected)) => self.certificate(expected, carried),
        }
    }

    /// RFC 8705, section 3: the client's certificate is the one the token names. Who vouches for that certificate plays no
    /// part: its key was proven on the client's connection.
    fn certificate(&self, expected: &[u8; 32], carried: &Carried<'_>) -> Result<(), Refusal> {
        let client = self.clients.of(carried.request)?;
        let client = client
            .ok_or_else(|| unproven("the token is bound to a certificate, and there is none"))?;
        let digest = client.digest().ok_or_else(|| {
            unproven("the token is bound to a certificate, and Envoy does not hand it over")
        })?;
        if digest == *expected {
            Ok(())
        } else {
            Err(unproven("the token is bound to another certificate"))
        }
    }
}

fn unproven(detail: &'static str) -> Refusal {
    invalid(Fault::Possession, detail)
}

//! Proof of possession: whoever presents a bound token shows with each request that the key it is bound to is theirs.
//!
//! It is asked anew on every request, whatever the cache remembers of the token: what is remembered is who the token
//! belongs to, never that this sender may use it.

use std::sync::Arc;

use super::carried::{Carried, invalid};
use super::certificate::Clients;
use super::dpop::{Bound, Dpop};
use crate::model::{
    Arrival, Binding, CredentialFault as Fault, IdentityAttributes, Reason, Refusal,
};

/// What proofs are held against.
#[derive(Debug)]
pub(super) struct Possession {
    clients: Arc<Clients>,
    dpop: Option<Dpop>,
}

impl Possession {
    /// Without `dpop`, a token that is bound to a key is good for nobody.
    pub(super) fn new(clients: Arc<Clients>, dpop: Option<Dpop>) -> Self {
        Self { clients, dpop }
    }

    /// Whether the sender may use the token in `Authorization`. If so, the nonce for its next proof where it needs a new
    /// one.
    ///
    /// # Errors
    /// The refusal where a token is bound and not proven, or sent as bound and is not.
    pub(super) fn prove(
        &self,
        holder: &IdentityAttributes,
        carried: &Carried<'_>,
        arrival: &Arrival,
    ) -> Result<Option<String>, Refusal> {
        let as_dpop = carried.authorization("dpop");
        match &holder.binding {
            None if as_dpop.is_some() => {
                Err(unproven("the token is sent as DPoP and bound to no key"))
            }
            None => Ok(None),
            Some(Binding::Key(thumbprint)) => {
                let dpop = self.dpop.as_ref().ok_or_else(|| {
                    unproven("the token is bound to a key, and `identity.dpop` is not configured")
                })?;
                // RFC 9449, section 7.2: whoever sends it as a bearer token may have stolen it.
                let token = as_dpop
                    .ok_or_else(|| unproven("the token is bound to a key, and not sent as DPoP"))?;
                dpop.prove(&Bound {
                    thumbprint,
                    token,
                    request: carried.request,
                    at: arrival.at,
                })
            }
            Some(Binding::Certificate(expected)) => {
                self.certificate(expected, carried).map(|()| None)
            }
        }
    }

    /// The nonce to send along with this refusal, where it asks for one.
    pub(super) fn nonce(&self, refusal: &Refusal, arrival: &Arrival) -> Option<String> {
        let asked = refusal.reason == Reason::CredentialInvalid(Fault::Nonce);
        let dpop = self.dpop.as_ref().filter(|_| asked)?;
        dpop.nonce(arrival.at)
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

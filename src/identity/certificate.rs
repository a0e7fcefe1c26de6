//! Client certificates (X.509, RFC 5280): who a connection belongs to.
//!
//! ```text
//! request ▶ presented: the certificate ▶ cache: seen before? ▶ paper: read, names ▶ authorities: chain, revocation ▶ holder
//! ```
//!
//! | file | does |
//! |---|---|
//! | `presented` | the client's certificate of a request: the connection's, or what a configured hop passes on |
//! | `xfcc`, `client_cert` | strict reading of the two headers |
//! | `paper` | strict reading of one certificate |
//! | `authorities`, `revoked` | who vouches, and which certificates they took back |
//!
//! That the client has the certificate's key, the TLS handshake proved to Envoy (or to the hop). That an authority vouches
//! for it is proven here where `ca_files` are configured; else the settings have to say that Envoy validates, since it hands
//! over what it did not validate just the same.

mod authorities;
mod client_cert;
mod paper;
mod presented;
mod revoked;
mod xfcc;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::future::ready;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use self::authorities::InForce;
use self::paper::{Paper, chain};
use super::carried::{Carried, Place, Presented};
use super::denial::Denial;
use super::scheme::{Prepared, Preparing, Proof, Proven, Scheme, SchemeName};
use super::settings::{CertificateSettings, NameSettings};
use super::token::Wrong;
use crate::model::{
    Arrival, Binding, CERTIFICATE, Clock, CredentialFault as Fault, IdentityAttributes, Problem,
    Refusal, SpiffeId,
};

pub(super) use authorities::Authorities;
pub(super) use presented::Clients;

/// For how long Envoy's word for a SPIFFE ID is believed where it does not hand the certificate over. The cache ends it
/// sooner; the connection is asked about again with each request.
const WORD: SignedDuration = SignedDuration::from_mins(5);

/// The scheme.
#[derive(Debug)]
pub(super) struct Certificate {
    settings: CertificateSettings,
    clients: Arc<Clients>,
    authorities: Arc<Authorities>,
}

/// Who a certificate says it is, and whose word that needs: a place in the list of sources.
struct Holder {
    attributes: IdentityAttributes,
    source: usize,
}

impl Certificate {
    /// Reads the files of authorities and revocation lists: at start only.
    ///
    /// # Errors
    /// Every file that cannot be read or used.
    pub(super) fn load(
        settings: &CertificateSettings,
        clients: Arc<Clients>,
        clock: &dyn Clock,
    ) -> Result<Self, Vec<Problem>> {
        Ok(Self {
            settings: settings.clone(),
            clients,
            authorities: Arc::new(Authorities::load(settings, clock.monotonic())?),
        })
    }

    /// The files it stands on.
    pub(super) fn authorities(&self) -> &Arc<Authorities> {
        &self.authorities
    }

    fn judge(
        &self,
        credential: &[u8],
        now: Timestamp,
        in_force: &InForce,
    ) -> Result<Proven, Denial> {
        if let Ok(name) = std::str::from_utf8(credential) {
            return self.believe(name, now, in_force);
        }
        let (leaf, rest) = chain(credential)?;
        leaf.of_a_client()?;
        let skew = SignedDuration::try_from(self.settings.clock_skew.0).unwrap_or_default();
        let life = leaf.life(now, skew)?;
        let mut last = None;
        for holder in self.holders(&leaf, life.until)? {
            match in_force.vouch(holder.source, (&leaf, &rest), life) {
                Ok(until) => {
                    let digest = presented::sha256(leaf.der());
                    let attributes = IdentityAttributes {
                        issued_at: Some(leaf.not_before()),
                        binding: digest.map(Binding::Certificate),
                        claims: leaf.claims()?,
                        ..holder.attributes
                    };
                    return Ok(Proven::new(attributes, until, Arc::clone(&in_force.ground)));
                }
                Err(denial) => last = Some(denial),
            }
        }
        Err(last.unwrap_or_else(|| {
            Wrong(
                Fault::Certificate,
                "the certificate has no name that the settings accept",
            )
            .into()
        }))
    }

    /// Who the certificate says it is: by its SPIFFE ID, else by every rule whose name it has.
    fn holders(&self, leaf: &Paper<'_>, expires_at: Timestamp) -> Result<Vec<Holder>, Wrong> {
        if let Some(id) = leaf.spiffe()? {
            let source = self.trust_domain(&id)?;
            let attributes = IdentityAttributes::workload(id, expires_at);
            return Ok(vec![Holder { attributes, source }]);
        }
        let mut holders = Vec::new();
        let first = self.settings.trust_domains.len();
        for (index, rule) in self.settings.names.iter().enumerate() {
            let NameSettings { from, issuer, .. } = rule;
            if let Some(name) = leaf.name(*from)? {
                let who = (issuer.as_str().into(), name);
                holders.push(Holder {
                    attributes: IdentityAttributes::of(
                        rule.principal,
                        CERTIFICATE,
                        who,
                        expires_at,
                    ),
                    source: first + index,
                });
            }
        }
        Ok(holders)
    }

    fn trust_domain(&self, id: &SpiffeId) -> Result<usize, Wrong> {
        let mut domains = self.settings.trust_domains.iter();
        domains
            .position(|domain| domain.name == id.trust_domain())
            .ok_or(Wrong(Fault::Issuer, "the trust domain is not configured"))
    }

    /// Envoy's word for a SPIFFE ID, without the certificate.
    fn believe(&self, name: &str, now: Timestamp, in_force: &InForce) -> Result<Proven, Denial> {
        let refused = |fault, detail| Err(Denial::from(Wrong(fault, detail)));
        if self.settings.require_certificate {
            let detail = "the client is named without its certificate: set include_peer_certificate in Envoy";
            return refused(Fault::Certificate, detail);
        }
        let Some(id) = SpiffeId::parse(name) else {
            let detail = "the client's name is no SPIFFE ID, and its certificate is not there";
            return refused(Fault::Certificate, detail);
        };
        let source = self.trust_domain(&id)?;
        if in_force.has_authorities(source) {
            let detail = "the trust domain has ca_files, and the certificate is not there";
            return refused(Fault::Certificate, detail);
        }
        let until = now.saturating_add(WORD).unwrap_or(now);
        let attributes = IdentityAttributes::workload(id, until);
        Ok(Proven::new(attributes, until, Arc::clone(&in_force.ground)))
    }
}

impl Scheme for Certificate {
    fn name(&self) -> SchemeName {
        SchemeName::Certificate
    }

    fn find<'r>(&self, carried: &Carried<'r>) -> Result<Option<Presented<'r>>, Refusal> {
        let client = self.clients.of(carried.request)?;
        Ok(client.map(|client| Presented {
            credential: client.into_credential(),
            place: Place::Connection,
        }))
    }

    fn prepare<'a>(&'a self, credential: &'a [u8], arrival: &'a Arrival) -> Preparing<'a> {
        let in_force = self.authorities.in_force();
        let proof: Proof<'a> = Box::new(move || self.judge(credential, arrival.at, &in_force));
        Box::pin(ready(Prepared {
            waited: None,
            proof: Ok(proof),
        }))
    }
}

/// A refusal for a certificate that cannot be used.
const fn unusable(detail: &'static str) -> Wrong {
    Wrong(Fault::Certificate, detail)
}

/// The bytes of a credential: certificates in DER, the client's own first, or a name.
type Credential<'r> = Cow<'r, [u8]>;

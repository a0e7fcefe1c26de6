//! The client's certificate of a request: one reader for all who ask, so that nobody judges another certificate than
//! whoever asks for possession.
//!
//! It is the one of the connection to Envoy. Where that connection comes from a configured hop, the client is behind the
//! hop: then it is what the hop passes on, and nothing where the hop passes nothing on.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::super::carried::{ambiguous, invalid};
use super::super::settings::{CertificateSettings, ForwardedHeader};
use super::xfcc::{self, Element};
use super::{Credential, client_cert};
use crate::model::{AccessRequest, CredentialFault as Fault, Peer, Refusal};

/// The longest header that is read, and the longest chain in DER.
const MAX_HEADER: usize = 64 * 1024;

const XFCC: &str = "x-forwarded-client-cert";

/// Reads the certificates of clients.
#[derive(Debug, Default)]
pub(in super::super) struct Clients {
    hops: Vec<IpNet>,
    header: Option<ForwardedHeader>,
    last_of_several: bool,
}

/// What a client proved itself with to Envoy, or to a hop.
pub(in super::super) enum Client<'r> {
    /// Its certificate, and behind it those that come with it, all in DER. `own` is the length of the first.
    Certificate {
        /// All of them.
        chain: Cow<'r, [u8]>,
        /// How long the client's own is.
        own: usize,
    },
    /// A name of it, without the certificate.
    Named {
        /// The name.
        name: Cow<'r, str>,
        /// SHA-256 of the certificate, where a hop tells it.
        digest: Option<[u8; 32]>,
    },
}

impl Clients {
    /// A reader with the hops of these settings.
    pub(in super::super) fn new(settings: Option<&CertificateSettings>) -> Self {
        let forwarded = settings.and_then(|settings| settings.forwarded.as_ref());
        let Some(forwarded) = forwarded else {
            return Self::default();
        };
        Self {
            // Settings with a network that is none were refused before.
            hops: forwarded
                .from
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            header: Some(forwarded.header),
            last_of_several: forwarded.last_of_several,
        }
    }

    /// What the client of a request proved itself with.
    ///
    /// # Errors
    /// The refusal of a header of a hop that cannot be read in one way. What anybody else sends in it is not looked at.
    pub(in super::super) fn of<'r>(
        &self,
        request: &'r AccessRequest,
    ) -> Result<Option<Client<'r>>, Refusal> {
        let peer = &request.peer;
        match self.header {
            Some(header) if self.is_hop(peer) => match header {
                ForwardedHeader::XForwardedClientCert => self.xfcc(request),
                ForwardedHeader::ClientCert => rfc9440(request),
            },
            _ => Ok(direct(peer)),
        }
    }

    fn is_hop(&self, peer: &Peer) -> bool {
        let ip: Option<IpAddr> = peer.address.map(|address| address.ip().to_canonical());
        ip.is_some_and(|ip| self.hops.iter().any(|network| network.contains(&ip)))
    }

    fn xfcc<'r>(&self, request: &'r AccessRequest) -> Result<Option<Client<'r>>, Refusal> {
        let Some(field) = the_field(request, XFCC)? else {
            return Ok(None);
        };
        let mut elements = xfcc::read(field).map_err(malformed)?;
        let Some(last) = elements.pop() else {
            return Ok(None);
        };
        if !elements.is_empty() && !self.last_of_several {
            return Err(ambiguous("the hop tells of several connections"));
        }
        let client = client(&last)?;
        if is_the_peer_itself(&client, &request.peer) {
            return Err(ambiguous(
                "the hop's own certificate stands where the client's should: Envoy must not append to x-forwarded-client-cert",
            ));
        }
        Ok(Some(client))
    }
}

impl<'r> Client<'r> {
    /// What stands for it: certificates in DER, or the name. No certificate in DER is text.
    pub(super) fn into_credential(self) -> Credential<'r> {
        match self {
            Self::Certificate { chain, .. } => chain,
            Self::Named { name, .. } => match name {
                Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
                Cow::Owned(name) => Cow::Owned(name.into_bytes()),
            },
        }
    }

    /// SHA-256 of the client's own certificate (`x5t#S256`: RFC 8705, section 3.1); `None` where nobody tells it.
    pub(in super::super) fn digest(&self) -> Option<[u8; 32]> {
        match self {
            Self::Certificate { chain, own } => sha256(chain.get(..*own)?),
            Self::Named { digest, .. } => *digest,
        }
    }
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> Option<[u8; 32]> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().ok()
}

/// What the connection to Envoy says.
fn direct(peer: &Peer) -> Option<Client<'_>> {
    let certificate = peer.certificate.as_deref().filter(|der| !der.is_empty());
    if let Some(der) = certificate {
        return Some(Client::Certificate {
            chain: Cow::Borrowed(der),
            own: der.len(),
        });
    }
    let name = peer.principal.as_deref().filter(|name| !name.is_empty())?;
    Some(Client::Named {
        name: Cow::Borrowed(name),
        digest: None,
    })
}

/// The one line of a header.
fn the_field<'r>(request: &'r AccessRequest, name: &str) -> Result<Option<&'r str>, Refusal> {
    let mut fields = request.headers.values(name);
    let Some(field) = fields.next() else {
        return Ok(None);
    };
    if fields.next().is_some() {
        return Err(ambiguous(
            "the header with the client's certificate is there several times",
        ));
    }
    if field.len() > MAX_HEADER {
        return Err(malformed(
            "the header with the client's certificate is longer than 64 KiB",
        ));
    }
    std::str::from_utf8(field)
        .map(Some)
        .map_err(|_| malformed("the header with the client's certificate is no text"))
}

/// RFC 9440, section 2.
fn rfc9440(request: &AccessRequest) -> Result<Option<Client<'_>>, Refusal> {
    let behind = the_field(request, client_cert::CHAIN)?;
    let Some(field) = the_field(request, client_cert::OWN)? else {
        return match behind {
            None => Ok(None),
            Some(_) => Err(malformed(
                "there is a client-cert-chain without client-cert",
            )),
        };
    };
    let own = client_cert::item(field).map_err(malformed)?;
    let more = behind.map(client_cert::list).transpose();
    certificates(own, more.map_err(malformed)?.unwrap_or_default()).map(Some)
}

/// What an element of `x-forwarded-client-cert` tells: the certificate, else its URI name.
fn client<'r>(element: &Element<'_>) -> Result<Client<'r>, Refusal> {
    let hash = element.hash.as_deref();
    let told = hash
        .map(|text| hex32(text).ok_or_else(|| malformed("`Hash` is no SHA-256 in hex")))
        .transpose()?;
    // The chain begins with the client's own certificate.
    let chain = element.chain.as_deref().map(pem).transpose()?;
    let (own, more) = match (element.cert.as_deref().map(pem).transpose()?, chain) {
        (Some(own), chain) => {
            let mut own = own.into_iter();
            let (Some(first), None) = (own.next(), own.next()) else {
                return Err(malformed("`Cert` is not one certificate"));
            };
            let chain = chain.unwrap_or_default();
            if chain.first().is_some_and(|other| *other != first) {
                return Err(malformed(
                    "`Chain` does not begin with the certificate of `Cert`",
                ));
            }
            (first, chain.into_iter().skip(1).collect())
        }
        (None, Some(chain)) => {
            let mut chain = chain.into_iter();
            let first = chain
                .next()
                .ok_or_else(|| malformed("`Chain` holds no certificate"))?;
            (first, chain.collect())
        }
        (None, None) => return named(element, told),
    };
    let client = certificates(own, more)?;
    if told.is_some() && told != client.digest() {
        return Err(malformed("`Hash` is not that of the certificate"));
    }
    Ok(client)
}

fn named<'r>(element: &Element<'_>, digest: Option<[u8; 32]>) -> Result<Client<'r>, Refusal> {
    match element.uri.as_slice() {
        [name] if !name.is_empty() => Ok(Client::Named {
            name: Cow::Owned(name.clone().into_owned()),
            digest,
        }),
        [_, _, ..] => Err(malformed("the certificate holds several URI names")),
        _ => Err(malformed(
            "the hop passes on neither a certificate nor its URI name",
        )),
    }
}

/// Joins certificates in DER, each of which is exactly one.
fn certificates<'r>(own: Vec<u8>, more: Vec<Vec<u8>>) -> Result<Client<'r>, Refusal> {
    let whole = |der: &Vec<u8>| {
        webpki::EndEntityCert::try_from(&CertificateDer::from(der.as_slice())).is_ok()
    };
    if !whole(&own) || !more.iter().all(whole) {
        return Err(malformed(
            "what the hop passes on is no X.509 v3 certificate",
        ));
    }
    let (length, mut chain) = (own.len(), own);
    for der in more {
        chain.extend(der);
    }
    if chain.len() > MAX_HEADER {
        return Err(malformed(
            "the client's certificates are longer than 64 KiB",
        ));
    }
    Ok(Client::Certificate {
        chain: Cow::Owned(chain),
        own: length,
    })
}

/// Percent-encoded PEM, as Envoy writes it.
fn pem(text: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    let text: Vec<u8> = percent_decode_str(text).collect();
    let all = CertificateDer::pem_slice_iter(&text).map(|one| one.map(|der| der.as_ref().to_vec()));
    let all: Result<Vec<_>, _> = all.collect();
    all.map_err(|_| malformed("what the hop passes on is no PEM"))
}

/// Whether what a hop tells of its client is the hop itself: then this Envoy has added it, and not the hop.
fn is_the_peer_itself(client: &Client<'_>, peer: &Peer) -> bool {
    let own = peer.certificate.as_deref().and_then(sha256);
    let same_certificate = own.is_some() && own == client.digest();
    let same_name = match client {
        Client::Named { name, .. } => peer.principal.as_deref() == Some(&**name),
        Client::Certificate { .. } => false,
    };
    same_certificate || same_name
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn malformed(detail: &'static str) -> Refusal {
    invalid(Fault::Certificate, detail)
}

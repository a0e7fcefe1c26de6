//! The other end of the connection to Envoy: its address, and what its certificate proved to Envoy.

use std::net::{IpAddr, SocketAddr};

use percent_encoding::percent_decode_str;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::model::{Peer, Refusal};

use super::super::proto::auth::attribute_context;
use super::super::proto::core::{Address, address, socket_address};
use super::malformed;

/// Longest certificate in Envoy's percent-encoded PEM.
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
/// Longest principal name.
const MAX_PRINCIPAL_BYTES: usize = 2048;

/// Reads the downstream peer. `x-forwarded-client-cert` plays no part: a client can send it.
pub(super) fn read(source: Option<attribute_context::Peer>) -> Result<Peer, Refusal> {
    let Some(source) = source else {
        return Ok(Peer::default());
    };
    Ok(Peer {
        address: source.address.and_then(read_address),
        principal: read_principal(source.principal)?,
        certificate: read_certificate(&source.certificate)?,
    })
}

/// An address that is none is as good as no address: a policy that asks for one is not satisfied.
fn read_address(address: Address) -> Option<SocketAddr> {
    let Some(address::Address::SocketAddress(socket)) = address.address else {
        return None;
    };
    let ip: IpAddr = socket.address.parse().ok()?;
    let port = match socket.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) => u16::try_from(port).ok()?,
        Some(socket_address::PortSpecifier::NamedPort(_)) | None => 0,
    };
    Some(SocketAddr::new(ip, port))
}

/// A name that a control byte could cut short or split is nobody's (CVE-2026-47778: NUL in a SAN).
fn read_principal(principal: String) -> Result<Option<String>, Refusal> {
    if principal.len() > MAX_PRINCIPAL_BYTES || principal.chars().any(char::is_control) {
        return Err(malformed(
            "the peer's principal holds a control character or is too long",
        ));
    }
    Ok(Some(principal).filter(|name| !name.is_empty()))
}

/// Percent-encoded PEM of exactly one certificate, with one URI name at most: Envoy takes the first of several for the
/// principal, another reader may take the last.
fn read_certificate(encoded: &str) -> Result<Option<Vec<u8>>, Refusal> {
    if encoded.is_empty() {
        return Ok(None);
    }
    if encoded.len() > MAX_CERTIFICATE_BYTES {
        return Err(malformed("the peer's certificate is too long"));
    }
    let pem: Vec<u8> = percent_decode_str(encoded).collect();
    let mut certificates = CertificateDer::pem_slice_iter(&pem);
    let (Some(Ok(certificate)), None) = (certificates.next(), certificates.next()) else {
        return Err(malformed(
            "the peer's certificate is not one certificate in PEM",
        ));
    };
    let parsed = webpki::EndEntityCert::try_from(&certificate)
        .map_err(|_| malformed("the peer's certificate is no X.509 v3 certificate"))?;
    if parsed.valid_uri_names().nth(1).is_some() {
        return Err(malformed("the peer's certificate holds several URI names"));
    }
    Ok(Some(certificate.as_ref().to_vec()))
}

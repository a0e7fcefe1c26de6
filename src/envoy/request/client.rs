//! The client's address, by the configured rule and by nothing else.

use std::net::IpAddr;

use crate::model::{Headers, Peer};

use super::ClientAddress;

/// The client's address; `None` where the configured place names none, or nothing that is an address.
pub(super) fn address(rule: ClientAddress, peer: &Peer, headers: &Headers) -> Option<IpAddr> {
    let address = match rule {
        ClientAddress::Peer => Some(peer.address?.ip()),
        ClientAddress::EnvoyExternalAddress => {
            headers.single("x-envoy-external-address")?.parse().ok()
        }
        ClientAddress::ForwardedFor { trusted_hops } => forwarded_for(headers, trusted_hops),
    };
    address.map(|address| address.to_canonical())
}

/// The `hops`-th entry from the right, over all fields of that name as if they were one (RFC 9110, section 5.3).
fn forwarded_for(headers: &Headers, hops: usize) -> Option<IpAddr> {
    let fields: Vec<&[u8]> = headers.values("x-forwarded-for").collect();
    let entry = fields
        .into_iter()
        .rev()
        .flat_map(|field| field.rsplit(|byte| *byte == b','))
        .nth(hops.checked_sub(1)?)?;
    std::str::from_utf8(entry)
        .ok()?
        .trim_matches([' ', '\t'])
        .parse()
        .ok()
}

//! Over what: the connection between client and Envoy.

use super::ClientCertificates;
use crate::model::{AccessRequest, TlsFacts};

/// The facts about the connection. Whether a certificate is good is Envoy's to check, and the operator's to say that it
/// does: a certificate that nobody validated reaches this as one that was.
pub(super) fn facts(request: &AccessRequest, certificates: ClientCertificates) -> TlsFacts {
    let peer = &request.peer;
    let named = peer.principal.as_ref().is_some_and(|name| !name.is_empty());
    let certified = peer
        .certificate
        .as_ref()
        .is_some_and(|certificate| !certificate.is_empty());
    TlsFacts {
        mutual: certificates == ClientCertificates::Validated && (named || certified),
        sni: request.sni.as_deref().and_then(server_name),
        peer: None,
    }
}

/// The server name in the spelling of [`crate::model::Host`], so that policies can compare the two: lower case, without a
/// trailing dot (RFC 6066, section 3, allows neither a dot nor a port).
fn server_name(sni: &str) -> Option<String> {
    let name = sni.strip_suffix('.').unwrap_or(sni);
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

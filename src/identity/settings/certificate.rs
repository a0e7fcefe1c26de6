//! Client certificates: which ones name whom, who vouches for them, who may pass them on.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Found, seconds};
use crate::model::{Period, PrincipalKind, is_trust_domain};

/// Whose client certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateSettings {
    /// The SPIFFE trust domains whose workloads are accepted.
    pub trust_domains: Vec<TrustDomainSettings>,
    /// How certificates without a SPIFFE ID name their holders. They are tried in order; with none, such certificates are
    /// refused.
    pub names: Vec<NameSettings>,
    /// Says that Envoy validates every client certificate that it hands over (`trusted_ca` in the listener's
    /// `validation_context`, and no `ACCEPT_UNTRUSTED`), and that each hop of `forwarded` does. Envoy hands over what it did
    /// not validate just the same, so without this every trust domain and name needs its `ca_files`.
    pub validated_elsewhere: bool,
    /// Whether Envoy has to hand the certificate over (`include_peer_certificate`). Where it need not, its word for the
    /// SPIFFE ID is enough; then nobody here can tell an expired or a revoked certificate.
    pub require_certificate: bool,
    /// Files with certificate revocation lists, in PEM or DER. They are read again when they change. With any, the issuer
    /// of each client certificate must have one.
    pub crl_files: Vec<PathBuf>,
    /// What becomes of a certificate whose issuer has no revocation list in force: none at all, or one whose `nextUpdate`
    /// has passed.
    pub without_crl: WithoutCrl,
    /// How far the clock of a certificate's issuer and ours may differ. At most `60s`.
    pub clock_skew: Period,
    /// How often `ca_files` and `crl_files` are looked at.
    pub reload_interval: Period,
    /// Hops that end the client's TLS connection and pass its certificate on in a header. Without it no header is read.
    pub forwarded: Option<ForwardedSettings>,
}

impl CertificateSettings {
    /// The issuers of callers known by certificates.
    pub(super) fn vouching(&self) -> impl Iterator<Item = String> {
        let domains = self.trust_domains.iter();
        let domains = domains.map(|domain| format!("spiffe://{}", domain.name));
        domains.chain(self.names.iter().map(|rule| rule.issuer.clone()))
    }
}

impl Default for CertificateSettings {
    fn default() -> Self {
        Self {
            trust_domains: Vec::new(),
            names: Vec::new(),
            validated_elsewhere: false,
            require_certificate: true,
            crl_files: Vec::new(),
            without_crl: WithoutCrl::Refuse,
            clock_skew: Period::seconds(30),
            reload_interval: Period::seconds(5),
            forwarded: None,
        }
    }
}

/// A SPIFFE trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrustDomainSettings {
    /// Its name, such as `example.com`. Must be set.
    pub name: String,
    /// Files with the certificates in PEM that vouch for its workloads, intermediate ones included. They vouch for no other
    /// trust domain. Without them `validated_elsewhere` must be set.
    pub ca_files: Vec<PathBuf>,
}

/// How a certificate without a SPIFFE ID names its holder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NameSettings {
    /// Which of its names counts. A certificate that has several of that kind is refused.
    pub from: NameFrom,
    /// Who vouches for that name: the principal is `<issuer>|<name>`. Must be set.
    pub issuer: String,
    /// What kind of principal the holder is.
    pub principal: PrincipalKind,
    /// Files with the certificates in PEM that vouch for such names, intermediate ones included. Without them
    /// `validated_elsewhere` must be set.
    pub ca_files: Vec<PathBuf>,
}

impl Default for NameSettings {
    fn default() -> Self {
        Self {
            from: NameFrom::Dns,
            issuer: String::new(),
            principal: PrincipalKind::Client,
            ca_files: Vec::new(),
        }
    }
}

/// A name in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameFrom {
    /// The DNS name among the subject's alternative names. A wildcard is no name.
    Dns,
    /// The e-mail address among the subject's alternative names.
    Email,
    /// The common name of the subject, for authorities that write no alternative names.
    CommonName,
}

/// What becomes of a certificate that nobody can tell the revocation of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WithoutCrl {
    /// It is answered with 503.
    Refuse,
    /// It is accepted as if it were not revoked.
    Accept,
}

/// Who passes certificates on, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardedSettings {
    /// The header that the hops write.
    pub header: ForwardedHeader,
    /// The networks of the hops, such as `10.0.3.0/24`. The header is read only where the connection to Envoy comes from
    /// there, and ignored otherwise; the hop's own certificate then says nothing. Each hop must replace what clients
    /// send in that header. Must be set.
    pub from: Vec<String>,
    /// Whether the header may tell of several connections (`x-forwarded-client-cert` of a hop that appends). The last one
    /// counts: it is what the nearest hop wrote. Otherwise several are refused.
    pub last_of_several: bool,
}

impl Default for ForwardedSettings {
    fn default() -> Self {
        Self {
            header: ForwardedHeader::XForwardedClientCert,
            from: Vec::new(),
            last_of_several: false,
        }
    }
}

/// A header that carries a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// Envoy's `x-forwarded-client-cert`.
    XForwardedClientCert,
    /// `client-cert`, and `client-cert-chain` beside it (RFC 9440).
    ClientCert,
}

impl CertificateSettings {
    pub(super) fn check(&self, found: &mut Found) {
        let place = found.place.clone();
        if self.trust_domains.is_empty() && self.names.is_empty() {
            found.say("trust_domains", "must name at least one, or `names` must");
        }
        let mut seen = BTreeSet::new();
        for (index, domain) in self.trust_domains.iter().enumerate() {
            found.place = format!("{place}.trust_domains[{index}]");
            if !is_trust_domain(&domain.name) {
                found.say("name", "is no trust domain like `example.com`");
            }
            if !seen.insert(&domain.name) {
                found.say("name", "is listed twice");
            }
            self.check_authorities(&domain.ca_files, found);
        }
        for (index, name) in self.names.iter().enumerate() {
            found.place = format!("{place}.names[{index}]");
            name.check(found);
            self.check_authorities(&name.ca_files, found);
        }
        found.place.clone_from(&place);
        found.between("clock_skew", self.clock_skew, super::ZERO, seconds(60));
        found.between(
            "reload_interval",
            self.reload_interval,
            seconds(1),
            seconds(60 * 60),
        );
        if !self.require_certificate && !self.validated_elsewhere {
            let what = "is false, but without `validated_elsewhere` only the certificate itself can be believed";
            found.say("require_certificate", what);
        }
        if !self.require_certificate && !self.crl_files.is_empty() {
            let what = "is false, but `crl_files` can be held against certificates only";
            found.say("require_certificate", what);
        }
        if let Some(forwarded) = &self.forwarded {
            found.place = format!("{place}.forwarded");
            forwarded.check(found);
            found.place = place;
        }
    }

    fn check_authorities(&self, files: &[PathBuf], found: &mut Found) {
        if files.is_empty() && !self.validated_elsewhere {
            let what = "must name the files of whoever vouches, or `validated_elsewhere` must say that Envoy validates";
            found.say("ca_files", what);
        }
    }
}

impl NameSettings {
    fn check(&self, found: &mut Found) {
        found.text("issuer", &self.issuer);
        if self.issuer.contains('|') {
            found.say(
                "issuer",
                "must not hold `|`: principals are named `<issuer>|<name>`",
            );
        }
        if self.issuer.starts_with("spiffe:") {
            found.say(
                "issuer",
                "must not be a trust domain: those name their own workloads",
            );
        }
    }
}

impl ForwardedSettings {
    fn check(&self, found: &mut Found) {
        if self.from.is_empty() {
            found.say("from", "must name at least one network");
        }
        for (index, text) in self.from.iter().enumerate() {
            let field = format!("from[{index}]");
            match text.parse::<IpNet>() {
                Err(_) => found.say(&field, "is no network like `10.0.3.0/24`"),
                Ok(network) if network.prefix_len() == 0 => {
                    found.say(
                        &field,
                        "holds every address, so that any client could name itself",
                    );
                }
                Ok(network) if network != network.trunc() => {
                    found.say(&field, "has bits set behind its length");
                }
                Ok(_) => {}
            }
        }
        if self.last_of_several && self.header == ForwardedHeader::ClientCert {
            found.say("last_of_several", "is for `x-forwarded-client-cert` only");
        }
    }
}

//! Certificates: one authority, and whom it vouches for.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};

pub(crate) const CLIENT_NAME: &str = "spiffe://example.com/ns/shop/sa/client";
pub(crate) const OTHER_NAME: &str = "spiffe://example.com/ns/shop/sa/other";
pub(crate) const ENVOY_NAME: &str = "spiffe://example.com/ns/edge/sa/envoy";

/// Files in PEM.
pub(crate) struct Papers {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Papers {
    pub(crate) fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let papers = Self {
            folder: folder.to_owned(),
            authority,
        };
        fs::write(papers.authority_file(), papers.authority.pem()).unwrap();
        papers.issue(
            "server",
            SanType::DnsName("api.example.com".try_into().unwrap()),
        );
        papers.issue(
            "cardea",
            SanType::DnsName("cardea.test".try_into().unwrap()),
        );
        papers.issue("client", SanType::URI(CLIENT_NAME.try_into().unwrap()));
        papers.issue("other", SanType::URI(OTHER_NAME.try_into().unwrap()));
        papers.issue("envoy", SanType::URI(ENVOY_NAME.try_into().unwrap()));
        papers
    }

    pub(crate) fn authority_file(&self) -> PathBuf {
        self.folder.join("authority.crt")
    }

    pub(crate) fn certificate_file(&self, whose: &str) -> PathBuf {
        self.folder.join(format!("{whose}.crt"))
    }

    pub(crate) fn key_file(&self, whose: &str) -> PathBuf {
        self.folder.join(format!("{whose}.key"))
    }

    fn issue(&self, whose: &str, name: SanType) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.certificate_file(whose), certificate.pem()).unwrap();
        fs::write(self.key_file(whose), key.serialize_pem()).unwrap();
    }
}

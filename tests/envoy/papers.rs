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
        let uri = |name: &str| SanType::URI(name.try_into().unwrap());
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        papers.issue("server", vec![dns("api.example.com")]);
        papers.issue("cardea", vec![dns("cardea.test")]);
        papers.issue("client", vec![uri(CLIENT_NAME)]);
        papers.issue("other", vec![uri(OTHER_NAME)]);
        papers.issue("envoy", vec![uri(ENVOY_NAME)]);
        papers.issue("double", vec![uri(OTHER_NAME), uri(CLIENT_NAME)]);
        papers.issue("cut", vec![uri(&format!("{CLIENT_NAME}\0.evil"))]);
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

    fn issue(&self, whose: &str, names: Vec<SanType>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
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

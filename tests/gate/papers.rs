//! Certificates: one authority, and whom it vouches for.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// Files in PEM.
pub(crate) struct Papers {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Papers {
    /// For a server on this machine, and for one who asks it.
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
        papers.issue("redis", SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        papers.issue(
            "cardea",
            SanType::DnsName("cardea.test".try_into().unwrap()),
        );
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
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.certificate_file(whose), certificate.pem()).unwrap();
        fs::write(self.key_file(whose), key.serialize_pem()).unwrap();
    }
}

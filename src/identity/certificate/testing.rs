//! For tests: an authority in a folder, the certificates and lists it gives out, and a room that believes it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::super::testing::{OPERATION, arrival, clock, request, snapshot};
use super::super::{Identified, Identity, Settings, Who};
use crate::identity::{CertificateSettings, ForwardedHeader, ForwardedSettings};
use crate::identity::{NameSettings, TrustDomainSettings};
use crate::model::{
    AccessRequest, Clock, CredentialFault as Fault, ManualClock, Reason, VerifiedIdentity,
};

pub(super) const DOMAIN: &str = "example.com";
pub(super) const WEB: &str = "spiffe://example.com/ns/shop/sa/web";

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// An authority, and its folder.
pub(super) struct Authority {
    folder: TempDir,
    issuer: Issuer,
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(super) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

pub(super) fn email(text: &str) -> SanType {
    SanType::Rfc822Name(text.try_into().unwrap())
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub(super) fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        let issuer = Issuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(super) fn list_file(&self) -> PathBuf {
        self.folder.path().join("revoked.crl")
    }

    /// A certificate with these alternative names and this serial number, in DER.
    pub(super) fn issue(&self, serial: u64, names: &[SanType]) -> Vec<u8> {
        self.issue_with(serial, names, |_| {})
    }

    pub(super) fn issue_with(
        &self,
        serial: u64,
        names: &[SanType],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<u8> {
        leaf(&self.issuer, (serial, names), change)
    }

    /// An authority below this one: its certificate, and itself.
    pub(super) fn below(&self, change: impl FnOnce(&mut CertificateParams)) -> Issuer {
        let mut params = authority_params("below");
        change(&mut params);
        Issuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap()
    }

    /// Writes a list of revoked serial numbers, good until the end of that year.
    pub(super) fn revoke(&self, serials: &[u64], last_year: i32) {
        fs::write(self.list_file(), self.list(serials, last_year)).unwrap();
    }

    pub(super) fn list(&self, serials: &[u64], last_year: i32) -> String {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2029, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2029, 1, 1),
            next_update: date_time_ymd(last_year, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

pub(super) fn leaf(
    issuer: &Issuer,
    (serial, names): (u64, &[SanType]),
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = names.to_vec();
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2029, 1, 1);
    params.not_after = date_time_ymd(2031, 1, 1);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, issuer).unwrap().der().to_vec()
}

/// An identity room that believes certificates, and a principal that is the holder's Cedar name.
pub(super) struct Room {
    pub(super) clock: Arc<ManualClock>,
    pub(super) identity: Arc<Identity<String>>,
}

impl Room {
    pub(super) fn open(certificates: CertificateSettings) -> Self {
        Self::with(&Settings {
            certificates: Some(certificates),
            ..Settings::default()
        })
    }

    pub(super) fn with(settings: &Settings) -> Self {
        let clock = clock();
        let dynamic: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let identity = Identity::start(settings, dynamic, &Handle::current()).unwrap();
        Self { clock, identity }
    }

    pub(super) async fn ask(&self, request: &AccessRequest) -> Identified<String> {
        let arrival = arrival(&self.clock);
        let finish = |identity: &VerifiedIdentity| {
            format!(
                "{:?} {}|{}",
                identity.kind, identity.issuer, identity.subject
            )
        };
        self.identity
            .identify((request, OPERATION), &arrival, &snapshot(), finish)
            .await
    }

    pub(super) async fn told(&self, request: &AccessRequest) -> Result<String, Reason> {
        told(&self.ask(request).await)
    }

    /// What a connection with this certificate comes to.
    pub(super) async fn shown(&self, der: &[u8]) -> Result<String, Reason> {
        self.told(&showing(der)).await
    }

    /// What the certificate says of its holder.
    pub(super) async fn holder(&self, der: &[u8]) -> Arc<VerifiedIdentity> {
        match self.ask(&showing(der)).await.who {
            Ok(Who::Verified(known)) => Arc::clone(known.identity()),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn told(identified: &Identified<String>) -> Result<String, Reason> {
    match &identified.who {
        Ok(Who::Anonymous) => Ok("nobody".into()),
        Ok(Who::Verified(known)) => Ok(known.principal().clone()),
        Err(refusal) => Err(refusal.reason.clone()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with results")]
pub(super) fn workload(id: &str) -> Result<String, Reason> {
    Ok(format!("Workload spiffe://{DOMAIN}|{id}"))
}

pub(super) fn invalid(fault: Fault) -> Result<String, Reason> {
    Err(Reason::CredentialInvalid(fault))
}

/// A request over a connection with this certificate.
pub(super) fn showing(der: &[u8]) -> AccessRequest {
    let mut request = request(&[], "");
    request.peer.certificate = Some(der.to_vec());
    request
}

/// Settings that believe workloads of [`DOMAIN`] by this authority.
pub(super) fn settings(authority: &Authority) -> CertificateSettings {
    CertificateSettings {
        trust_domains: vec![domain(DOMAIN, &[authority.file()])],
        ..CertificateSettings::default()
    }
}

pub(super) fn domain(name: &str, ca_files: &[PathBuf]) -> TrustDomainSettings {
    TrustDomainSettings {
        name: name.to_owned(),
        ca_files: ca_files.to_vec(),
    }
}

pub(super) fn names(authority: &Authority, rules: &str) -> Vec<NameSettings> {
    let mut rules: Vec<NameSettings> = serde_saphyr::from_str(rules).unwrap();
    for rule in &mut rules {
        rule.ca_files = vec![authority.file()];
    }
    rules
}

pub(super) fn forwarded(header: ForwardedHeader) -> ForwardedSettings {
    ForwardedSettings {
        header,
        from: vec!["10.0.3.0/24".to_owned()],
        ..ForwardedSettings::default()
    }
}

/// A request from an address with these header fields.
pub(super) fn passed_on(from: &str, fields: &[(&str, &str)]) -> AccessRequest {
    let mut request = request(&[], "");
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    request.headers = crate::model::Headers::new(fields.collect());
    request.peer.address = Some(format!("{from}:40000").parse().unwrap());
    request
}

/// Percent-encoded PEM, as Envoy writes it.
pub(super) fn pem(der: &[u8]) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        let _ = writeln!(text, "{}", str::from_utf8(line).unwrap());
    }
    text.push_str("-----END CERTIFICATE-----\n");
    utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()
}

/// A byte sequence of a structured field.
pub(super) fn sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

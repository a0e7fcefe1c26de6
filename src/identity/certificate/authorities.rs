//! Who vouches for client certificates: authorities and revocation lists, from files that are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;

use super::super::denial::Denial;
use super::super::ground::{Ground, Lease};
use super::super::settings::CertificateSettings;
use super::paper::{Life, Paper, moment};
use super::revoked::Lists;
use crate::model::{CredentialFault as Fault, Problem};

/// The longest file of authorities, and of revocation lists, in bytes.
const MAX_AUTHORITIES: usize = 1024 * 1024;
const MAX_LIST: usize = 32 * 1024 * 1024;

/// The authorities and lists in force, and the files they came from.
#[derive(Debug)]
pub(in super::super) struct Authorities {
    settings: CertificateSettings,
    lease: Arc<Lease>,
    current: ArcSwap<InForce>,
    /// Digest of what was last looked at, good or broken, so that each change is reported once.
    seen: Mutex<blake3::Hash>,
}

/// Authorities and lists that were read together.
#[derive(Debug)]
pub(super) struct InForce {
    /// Those of each source: the trust domains, then the rules for names.
    anchors: Vec<Vec<TrustAnchor<'static>>>,
    lists: Lists,
    /// What proofs by them stand on.
    pub(super) ground: Arc<Ground>,
}

/// What a look at the files led to.
enum Reloaded {
    /// They are as they were.
    Same,
    /// They are in force; what was proven by the old ones is proven anew.
    Swapped,
    /// They changed and cannot be used; the old ones stay.
    Kept(Vec<Problem>),
}

/// The files as they were read: those of each source, then the lists.
struct Files {
    sources: Vec<Vec<File>>,
    lists: Vec<File>,
}

/// A file.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl Authorities {
    /// Reads all files: at start only.
    ///
    /// # Errors
    /// Every file that cannot be read or used.
    pub(super) fn load(
        settings: &CertificateSettings,
        epoch: Instant,
    ) -> Result<Self, Vec<Problem>> {
        let lease = Lease::endless(epoch);
        let files = Files::read(settings)?;
        let current = files.in_force(settings, &lease)?;
        Ok(Self {
            settings: settings.clone(),
            lease,
            current: ArcSwap::from_pointee(current),
            seen: Mutex::new(files.digest()),
        })
    }

    /// What counts now.
    pub(super) fn in_force(&self) -> Arc<InForce> {
        self.current.load_full()
    }

    /// Looks at the files at the set interval, without end. For the background runtime.
    pub(in super::super) async fn keep_fresh(self: Arc<Self>) {
        let files = self.settings.crl_files.len() + source_files(&self.settings).flatten().count();
        if files == 0 {
            return;
        }
        loop {
            tokio::time::sleep(self.settings.reload_interval.0).await;
            self.refresh().await;
        }
    }

    /// Looks at the files once, and tells the log what became of it.
    pub(in super::super) async fn refresh(self: &Arc<Self>) {
        let own = Arc::clone(self);
        match tokio::task::spawn_blocking(move || own.reload()).await {
            Ok(Reloaded::Swapped) => {
                tracing::info!(
                    "the authorities and revocation lists of client certificates were replaced"
                );
            }
            Ok(Reloaded::Kept(problems)) => {
                for problem in problems {
                    tracing::error!(%problem, "changed authorities or revocation lists of client certificates cannot be used; the old ones stay");
                }
            }
            Ok(Reloaded::Same) | Err(_) => {}
        }
    }

    /// Looks at the files once. It blocks.
    fn reload(&self) -> Reloaded {
        let read = Files::read(&self.settings);
        let digest = match &read {
            Ok(files) => files.digest(),
            Err(problems) => blake3::hash(format!("{problems:?}").as_bytes()),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == digest {
            return Reloaded::Same;
        }
        *seen = digest;
        match read.and_then(|files| files.in_force(&self.settings, &self.lease)) {
            Ok(new) => {
                let old = self.current.swap(Arc::new(new));
                // After the swap: whoever is proven anew meets the new ones.
                old.ground.withdraw();
                Reloaded::Swapped
            }
            Err(problems) => Reloaded::Kept(problems),
        }
    }
}

/// The files of each source, in the order of the sources.
fn source_files(settings: &CertificateSettings) -> impl Iterator<Item = &Vec<PathBuf>> {
    let domains = settings.trust_domains.iter().map(|domain| &domain.ca_files);
    domains.chain(settings.names.iter().map(|name| &name.ca_files))
}

impl InForce {
    /// Whether certificates of this source are validated here.
    pub(super) fn has_authorities(&self, source: usize) -> bool {
        self.anchors.get(source).is_none_or(|all| !all.is_empty())
    }

    /// Until when an authority of the source vouches for a certificate.
    ///
    /// # Errors
    /// The denial of a certificate that none vouches for, or that was taken back.
    pub(super) fn vouch(
        &self,
        source: usize,
        (leaf, rest): (&Paper<'_>, &[X509Certificate<'_>]),
        life: Life,
    ) -> Result<Timestamp, Denial> {
        let mut until = life.valid_until;
        let mut path = Vec::new();
        if self.has_authorities(source) {
            let anchors = self.anchors.get(source).map_or(&[][..], Vec::as_slice);
            path = self.path(anchors, (leaf, rest), life.at)?;
        }
        let (own, now) = (leaf.parsed(), life.now);
        let ended = self.lists.check((own, true), now, &self.ground)?;
        until = until.min(ended.unwrap_or(until));
        for authority in path {
            let ended = self.lists.check((authority, false), now, &self.ground)?;
            until = until.min(moment(authority.validity().not_after));
            until = until.min(ended.unwrap_or(until));
        }
        Ok(until)
    }

    /// The certificates between a client's and an authority's (RFC 5280, section 6).
    fn path<'p>(
        &self,
        anchors: &[TrustAnchor<'_>],
        (leaf, rest): (&Paper<'_>, &'p [X509Certificate<'p>]),
        at: Timestamp,
    ) -> Result<Vec<&'p X509Certificate<'p>>, Denial> {
        let refused = |error: webpki::Error| {
            let (fault, detail) = fault(&error);
            Denial::by_key(fault, detail, &self.ground)
        };
        let own = CertificateDer::from(leaf.der());
        let own = EndEntityCert::try_from(&own).map_err(refused)?;
        let behind: Vec<CertificateDer<'_>> = rest
            .iter()
            .map(|certificate| CertificateDer::from(certificate.as_raw()))
            .collect();
        let seconds = u64::try_from(at.as_second()).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = KeyUsage::client_auth();
        let path = own
            .verify_for_usage(algorithms(), anchors, &behind, at, usage, None, None)
            .map_err(refused)?;
        let used = |certificate: &&X509Certificate<'_>| {
            let mut used = path.intermediate_certificates();
            used.any(|one| one.der().as_ref() == certificate.as_raw())
        };
        Ok(rest.iter().filter(used).collect())
    }
}

/// Why webpki does not accept a certificate.
fn fault(error: &webpki::Error) -> (Fault, &'static str) {
    use webpki::Error;
    match error {
        Error::UnknownIssuer => (
            Fault::Issuer,
            "no configured authority vouches for the certificate",
        ),
        Error::InvalidSignatureForPublicKey => (
            Fault::Signature,
            "a signature in the certificate's chain does not match",
        ),
        Error::CertExpired { .. } => (Fault::Expired, "a certificate of the chain has expired"),
        Error::CertNotValidYet { .. } => (
            Fault::NotYetValid,
            "a certificate of the chain is not valid yet",
        ),
        Error::NameConstraintViolation => (
            Fault::Certificate,
            "the authority may not vouch for the certificate's names",
        ),
        _ => (
            Fault::Certificate,
            "the certificate's chain does not hold (RFC 5280)",
        ),
    }
}

/// The signature algorithms that certificates and lists may use.
pub(super) fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    rustls::crypto::aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all
}

impl Files {
    fn read(settings: &CertificateSettings) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut all = |paths: &[PathBuf], most: usize| {
            let files = paths.iter().filter_map(|path| match read_now(path, most) {
                Ok(bytes) => Some(File {
                    path: path.clone(),
                    bytes,
                }),
                Err(problem) => {
                    problems.push(problem);
                    None
                }
            });
            files.collect::<Vec<_>>()
        };
        let sources = source_files(settings)
            .map(|paths| all(paths, MAX_AUTHORITIES))
            .collect();
        let lists = all(&settings.crl_files, MAX_LIST);
        if problems.is_empty() {
            Ok(Self { sources, lists })
        } else {
            Err(problems)
        }
    }

    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for file in self.sources.iter().flatten().chain(&self.lists) {
            hasher.update(&(file.bytes.len() as u64).to_le_bytes());
            hasher.update(&file.bytes);
        }
        hasher.finalize()
    }

    fn in_force(
        &self,
        settings: &CertificateSettings,
        lease: &Arc<Lease>,
    ) -> Result<InForce, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut known = Vec::new();
        let mut anchors = Vec::new();
        for files in &self.sources {
            let mut of_source = Vec::new();
            for file in files {
                match authorities(file) {
                    Ok(all) => {
                        of_source.extend(all.iter().filter_map(anchor));
                        known.extend(all);
                    }
                    Err(problem) => problems.push(problem),
                }
            }
            anchors.push(of_source);
        }
        match Lists::read(&self.lists, &known, settings.without_crl) {
            Ok(lists) if problems.is_empty() => Ok(InForce {
                anchors,
                lists,
                ground: Ground::under(lease),
            }),
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more);
                Err(problems)
            }
        }
    }
}

/// The certificates of a file.
fn authorities(file: &File) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let wrong = |what: &str| Problem::new(format!("the file {what}")).in_file(&file.path);
    let mut all = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&file.bytes) {
        let certificate = certificate.map_err(|_| wrong("is no PEM"))?;
        if anchor(&certificate).is_none() {
            return Err(wrong("holds a certificate that cannot be an authority's"));
        }
        all.push(certificate);
    }
    if all.is_empty() {
        return Err(wrong("holds no certificate in PEM"));
    }
    Ok(all)
}

fn anchor(certificate: &CertificateDer<'static>) -> Option<TrustAnchor<'static>> {
    let anchor = webpki::anchor_from_trusted_cert(certificate).ok()?;
    Some(anchor.to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "called at start, and from the background runtime's blocking threads"
)]
fn read_now(path: &Path, most: usize) -> Result<Vec<u8>, Problem> {
    let wrong = |what: String| Problem::new(what).in_file(path);
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot read it: {error}")))?;
    if bytes.len() > most {
        return Err(wrong(format!("is longer than {most} bytes")));
    }
    Ok(bytes)
}

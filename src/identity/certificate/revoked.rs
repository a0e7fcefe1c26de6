//! Certificate revocation lists (RFC 5280, section 5): which certificates their issuers took back.
//!
//! Only whole lists of the issuer's own certificates are read: delta lists, indirect lists and lists of a part
//! (`issuingDistributionPoint`) are refused when they are loaded, since none of them alone tells that a certificate is good.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use webpki::{BorrowedCertRevocationList, CertRevocationList, EndEntityCert};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::super::denial::Denial;
use super::super::ground::Ground;
use super::super::settings::WithoutCrl;
use super::authorities::{File, algorithms};
use super::paper::moment;
use crate::model::{CredentialFault as Fault, Problem};

/// The lists of all issuers.
#[derive(Debug)]
pub(super) struct Lists {
    configured: bool,
    without: WithoutCrl,
    /// By the issuer's distinguished name in DER.
    by_issuer: HashMap<Vec<u8>, List>,
}

/// What one issuer took back.
#[derive(Debug)]
struct List {
    serials: HashSet<Vec<u8>>,
    next_update: Timestamp,
}

/// A list as it was read.
struct Read {
    issuer: Vec<u8>,
    list: List,
}

impl Lists {
    /// Reads lists. Where there are authorities, one of them has to have signed each list.
    ///
    /// # Errors
    /// Every list that cannot be used.
    pub(super) fn read(
        files: &[File],
        authorities: &[CertificateDer<'_>],
        without: WithoutCrl,
    ) -> Result<Self, Vec<Problem>> {
        let mut by_issuer: HashMap<Vec<u8>, List> = HashMap::new();
        let mut problems = Vec::new();
        for file in files {
            match read(file, authorities) {
                Ok(lists) => {
                    for Read { issuer, list } in lists {
                        by_issuer
                            .entry(issuer)
                            .and_modify(|known| known.merge(&list))
                            .or_insert(list);
                    }
                }
                Err(what) => {
                    let what = format!("the revocation list {what}");
                    problems.push(Problem::new(what).in_file(&file.path));
                }
            }
        }
        if problems.is_empty() {
            Ok(Self {
                configured: !files.is_empty(),
                without,
                by_issuer,
            })
        } else {
            Err(problems)
        }
    }

    /// Until when the lists say that a certificate was not taken back; `None` where they need not. `must`: its issuer has
    /// to have a list.
    ///
    /// # Errors
    /// The denial of one that was, or of which that cannot be told.
    pub(super) fn check(
        &self,
        (certificate, must): (&X509Certificate<'_>, bool),
        now: Timestamp,
        ground: &Arc<Ground>,
    ) -> Result<Option<Timestamp>, Denial> {
        if !self.configured {
            return Ok(None);
        }
        let unknown = |detail| match self.without {
            WithoutCrl::Refuse => Err(Denial::KeysUnavailable(detail)),
            WithoutCrl::Accept => Ok(None),
        };
        match self.by_issuer.get(certificate.issuer().as_raw()) {
            None if must => unknown("the certificate's issuer has no revocation list"),
            None => Ok(None),
            Some(list) if list.serials.contains(plain(certificate.raw_serial())) => {
                let detail = "the certificate is on its issuer's revocation list";
                Err(Denial::by_key(Fault::Revoked, detail, ground))
            }
            Some(list) if now >= list.next_update => {
                unknown("the revocation list of the certificate's issuer is out of date")
            }
            Some(list) => Ok((self.without == WithoutCrl::Refuse).then_some(list.next_update)),
        }
    }
}

impl List {
    /// Several lists of one name may be of several keys, so what any of them says counts, and the first to end ends all.
    fn merge(&mut self, other: &Self) {
        self.serials.extend(other.serials.iter().cloned());
        self.next_update = self.next_update.min(other.next_update);
    }
}

/// The lists of a file: one in DER, or any number in PEM.
fn read(file: &File, authorities: &[CertificateDer<'_>]) -> Result<Vec<Read>, &'static str> {
    if file.bytes.first() == Some(&0x30) {
        return Ok(vec![one(&file.bytes, authorities)?]);
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(&file.bytes);
    let lists: Vec<Read> = lists
        .map(|list| one(&list.map_err(|_| "is neither DER nor PEM")?, authorities))
        .collect::<Result<_, _>>()?;
    if lists.is_empty() {
        return Err("is neither DER nor PEM");
    }
    Ok(lists)
}

fn one(der: &[u8], authorities: &[CertificateDer<'_>]) -> Result<Read, &'static str> {
    // webpki refuses what it does not understand whole: versions, critical extensions, entries of others' certificates.
    let strict = BorrowedCertRevocationList::from_der(der)
        .map_err(|_| "cannot be used: it is malformed, a delta, indirect, or without nextUpdate")?;
    let serials: Result<HashSet<Vec<u8>>, _> = strict
        .into_iter()
        .map(|entry| entry.map(|entry| plain(entry.serial_number).to_vec()))
        .collect();
    let serials = serials.map_err(|_| "holds an entry that cannot be read")?;
    if CertRevocationList::from(strict)
        .issuing_distribution_point()
        .is_some()
    {
        return Err("is of a part of the issuer's certificates (issuingDistributionPoint)");
    }
    let (_, parsed) = CertificateRevocationList::from_der(der).map_err(|_| "cannot be read")?;
    let next_update = parsed.next_update().ok_or("has no nextUpdate")?;
    if !authorities.is_empty() && !signed_by_any(&parsed, authorities) {
        return Err("is signed by none of the configured authorities");
    }
    Ok(Read {
        issuer: parsed.issuer().as_raw().to_vec(),
        list: List {
            serials,
            next_update: moment(next_update),
        },
    })
}

fn signed_by_any(list: &CertificateRevocationList<'_>, authorities: &[CertificateDer<'_>]) -> bool {
    authorities
        .iter()
        .any(|authority| signed_by(list, authority).unwrap_or(false))
}

/// Whether an authority of the list's issuer name, that may sign lists, signed it.
fn signed_by(list: &CertificateRevocationList<'_>, authority: &CertificateDer<'_>) -> Option<bool> {
    let (_, parsed) = X509Certificate::from_der(authority).ok()?;
    if parsed.subject().as_raw() != list.issuer().as_raw() {
        return Some(false);
    }
    let usage = parsed.key_usage().ok()?;
    if usage.is_some_and(|usage| !usage.value.crl_sign()) {
        return Some(false);
    }
    let key = EndEntityCert::try_from(authority).ok()?;
    let (signed, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
    let good = |algorithm: &&dyn rustls_pki_types::SignatureVerificationAlgorithm| {
        key.verify_signature(*algorithm, signed, signature).is_ok()
    };
    Some(algorithms().iter().any(good))
}

/// A serial number without leading zeros.
fn plain(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial.get(zeros..).unwrap_or_default()
}

//! Who may sign a bundle, and whether one of them did: Ed25519 (RFC 8032) over the archive's bytes.
//!
//! Keys are PEM as OpenSSL writes it: PKCS#8 for the private one, `SubjectPublicKeyInfo` (RFC 8410) for the public one.
//! A signature is a text file of one line: `ed25519`, the key's id, the signature's 64 bytes in base64. The id is the first
//! 16 hex digits of the SHA-256 of the public key's DER form; it says which key to try and proves nothing.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use secrecy::{ExposeSecret, SecretString};

use super::manifest::digest_of;
use crate::model::{Problem, shown};

/// The longest signature file, in bytes.
pub const MAX_SIGNATURE: usize = 1024;
/// The longest key file, in bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;
/// What stands before the 32 bytes of an Ed25519 key in `SubjectPublicKeyInfo` (RFC 8410, section 4).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// The first word of a signature.
const ALGORITHM: &str = "ed25519";

/// Which key a signature is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyId(String);

impl KeyId {
    fn of(public: &[u8]) -> Self {
        let digest = digest_of(&[&SPKI, public].concat());
        Self(digest.get(..16).unwrap_or_default().to_owned())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The keys whose signatures are believed.
#[derive(Debug, Clone)]
pub struct PublicKeys(Vec<(KeyId, [u8; 32])>);

/// An archive's bytes, proven to be signed by one of the trusted keys.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'a> {
    bytes: &'a [u8],
}

impl<'a> Verified<'a> {
    /// The one place that claims that an archive is signed.
    fn assertion(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl PublicKeys {
    /// Reads keys from files, one or more in each. Blocks.
    ///
    /// # Errors
    /// Every file that cannot be read, and every key that is no Ed25519 key. No file at all is an error too.
    pub fn read(files: &[PathBuf]) -> Result<Self, Vec<Problem>> {
        if files.is_empty() {
            return Err(vec![
                Problem::new("no public key is named, so no signature can be believed")
                    .hint("make a key pair with `cardea bundle keygen`"),
            ]);
        }
        let mut keys = Vec::new();
        let mut problems = Vec::new();
        for file in files {
            match read_bounded(file).and_then(|pem| public_keys(&pem)) {
                Ok(more) => keys.extend(more),
                Err(wrong) => problems.push(Problem::new(wrong).in_file(file)),
            }
        }
        if problems.is_empty() {
            Ok(Self(keys))
        } else {
            Err(problems)
        }
    }

    /// The ids of the keys.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.0.iter().map(|(id, _)| id)
    }

    /// Verifies an archive's signature before anything in the archive is looked at.
    ///
    /// # Errors
    /// A signature that is none, is of a key that is not trusted, or is not over these bytes.
    pub fn verify<'a>(
        &self,
        archive: &'a [u8],
        signature: &[u8],
    ) -> Result<(Verified<'a>, KeyId), Problem> {
        let (id, signature) = parse(signature).ok_or_else(|| {
            Problem::new("the signature is not in the form of one")
                .hint("sign the archive with `cardea bundle sign`")
        })?;
        let Some((_, key)) = self.0.iter().find(|(known, _)| *known == id) else {
            return Err(
                Problem::new(format!("the bundle is signed with the key {id}, which is not trusted"))
                    .hint("name its public key among those that may sign, or sign the bundle with a trusted key"),
            );
        };
        UnparsedPublicKey::new(&ED25519, key)
            .verify(archive, &signature)
            .map_err(|_| {
                Problem::new(format!("the signature of the key {id} is not over this archive"))
                    .hint("the archive was changed after it was signed, or the two do not belong together")
            })?;
        Ok((Verified::assertion(archive), id))
    }
}

/// Reads a signature. One line, no room for a second reading.
fn parse(text: &[u8]) -> Option<(KeyId, [u8; 64])> {
    if text.len() > MAX_SIGNATURE {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.strip_suffix('\n').unwrap_or(text).split(' ');
    let (algorithm, id, signature) = (words.next()?, words.next()?, words.next()?);
    let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    let well_formed =
        words.next().is_none() && algorithm == ALGORITHM && id.len() == 16 && id.bytes().all(hex);
    if !well_formed {
        return None;
    }
    let signature = STANDARD.decode(signature).ok()?.try_into().ok()?;
    Some((KeyId(id.to_owned()), signature))
}

/// A key that signs bundles.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

/// A new key pair, as files hold it.
#[derive(Debug)]
pub struct NewKey {
    /// The private key in PEM.
    pub private: SecretString,
    /// The public key in PEM.
    pub public: String,
    /// Its id.
    pub id: KeyId,
}

impl SigningKey {
    /// Makes a key pair.
    ///
    /// # Errors
    /// Where the machine gives no random bytes.
    pub fn generate() -> Result<NewKey, Problem> {
        // Version 1 of PKCS#8: OpenSSL reads no other.
        let private = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|_| Problem::new("cannot make a key: the machine gives no random bytes"))?;
        let key = Self::from_der(private.as_ref()).map_err(Problem::new)?;
        let public = key.pair.public_key().as_ref();
        Ok(NewKey {
            public: pem("PUBLIC KEY", &[&SPKI, public].concat()),
            private: pem("PRIVATE KEY", private.as_ref()).into(),
            id: KeyId::of(public),
        })
    }

    /// Reads a private key. Blocks.
    ///
    /// # Errors
    /// A file that cannot be read or holds no Ed25519 key. What stands in it is never quoted.
    pub fn read(file: &Path) -> Result<Self, Problem> {
        let key = read_bounded(file).and_then(|text| {
            let text = SecretString::from(String::from_utf8(text).unwrap_or_default());
            let der = PrivatePkcs8KeyDer::from_pem_slice(text.expose_secret().as_bytes())
                .map_err(|_| "the file holds no private key in PEM (PKCS#8)".to_owned())?;
            Self::from_der(der.secret_pkcs8_der())
        });
        key.map_err(|wrong| Problem::new(wrong).in_file(file))
    }

    fn from_der(der: &[u8]) -> Result<Self, String> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map(|pair| Self { pair })
            .map_err(|_| "the private key is no Ed25519 key".to_owned())
    }

    /// The id of this key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(self.pair.public_key().as_ref())
    }

    /// Signs an archive: the text of the signature file.
    #[must_use]
    pub fn sign(&self, archive: &[u8]) -> String {
        let signature = STANDARD.encode(self.pair.sign(archive));
        format!("{ALGORITHM} {} {signature}\n", self.id())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.id()).finish()
    }
}

fn public_keys(text: &[u8]) -> Result<Vec<(KeyId, [u8; 32])>, String> {
    let mut keys = Vec::new();
    for der in SubjectPublicKeyInfoDer::pem_slice_iter(text) {
        let der = der.map_err(|_| "the file is not PEM".to_owned())?;
        let key = der.strip_prefix(&SPKI).and_then(|key| key.try_into().ok());
        let key: [u8; 32] = key.ok_or_else(|| "a public key is no Ed25519 key".to_owned())?;
        keys.push((KeyId::of(&key), key));
    }
    if keys.is_empty() {
        return Err("the file holds no public key in PEM".to_owned());
    }
    Ok(keys)
}

fn read_bounded(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(MAX_KEY_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read the key: {}", shown(&error.to_string(), 256)))?;
    if bytes.len() as u64 > MAX_KEY_FILE {
        return Err("the key file is longer than 64 KiB".to_owned());
    }
    Ok(bytes)
}

/// RFC 7468: base64 in lines of 64 characters between two labels.
fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    for (index, c) in body.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            lines.push('\n');
        }
        lines.push(c);
    }
    lines + "\n-----END " + label + "-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (SigningKey, PublicKeys) {
        let folder = tempfile::tempdir().unwrap();
        let new = SigningKey::generate().unwrap();
        let (private, public) = (folder.path().join("k.key"), folder.path().join("k.pub"));
        std::fs::write(&private, new.private.expose_secret()).unwrap();
        std::fs::write(&public, &new.public).unwrap();
        let key = SigningKey::read(&private).unwrap();
        assert_eq!(key.id(), new.id);
        (key, PublicKeys::read(&[public]).unwrap())
    }

    #[test]
    fn what_a_trusted_key_signed_is_verified_and_nothing_else() {
        let ((key, trusted), (stranger, _)) = (key(), key());
        let signature = key.sign(b"archive");
        let (verified, id) = trusted.verify(b"archive", signature.as_bytes()).unwrap();
        assert_eq!((verified.bytes(), id), (&b"archive"[..], key.id()));
        let refused = |archive: &[u8], signature: &str| {
            let wrong = trusted.verify(archive, signature.as_bytes()).unwrap_err();
            wrong.message
        };
        assert!(refused(b"archivE", &signature).contains("not over this archive"));
        assert!(refused(b"archive", &stranger.sign(b"archive")).contains("not trusted"));
        // A stranger's signature under a trusted key's name.
        let borrowed = stranger
            .sign(b"archive")
            .replace(&stranger.id().0, &key.id().0);
        assert!(refused(b"archive", &borrowed).contains("not over this archive"));
    }

    #[test]
    fn a_signature_has_one_form() {
        let (key, trusted) = key();
        let good = key.sign(b"x");
        let line = good.trim_end();
        let bad = [
            String::new(),
            "\n".to_owned(),
            format!("{good}{good}"),
            format!(" {good}"),
            format!("{line} more\n"),
            format!("{line}\r\n"),
            good.replace("ed25519", "none"),
            good.replace("ed25519 ", "ed25519  "),
            good.to_uppercase(),
            line.get(..line.len() - 4).unwrap().to_owned(),
            "x".repeat(MAX_SIGNATURE + 1),
        ];
        for signature in bad {
            let wrong = trusted.verify(b"x", signature.as_bytes()).unwrap_err();
            assert!(
                wrong.message.contains("not in the form"),
                "{signature:?}: {wrong}"
            );
        }
        assert!(trusted.verify(b"x", &[0xff; 90]).is_err());
        assert!(trusted.verify(b"x", line.as_bytes()).is_ok());
    }

    #[test]
    fn keys_that_are_none_are_refused_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let pair = rcgen::KeyPair::generate().unwrap();
        let files = [
            folder.path().join("none.pub"),
            file("empty.pub", ""),
            file("text.pub", "no key"),
            file("p256.pub", &pair.public_key_pem()),
            file(
                "private.pub",
                SigningKey::generate().unwrap().private.expose_secret(),
            ),
            file("long.pub", &"x".repeat(65 * 1024)),
        ];
        let problems = PublicKeys::read(&files).unwrap_err();
        assert_eq!(problems.len(), files.len(), "{problems:?}");
        assert!(
            problems
                .iter()
                .zip(&files)
                .all(|(p, f)| p.file.as_ref() == Some(f))
        );
        assert!(PublicKeys::read(&[]).is_err());
        let private = file("p256.key", &pair.serialize_pem());
        let wrong = SigningKey::read(&private).unwrap_err();
        assert!(wrong.message.contains("no Ed25519 key"), "{wrong}");
        let wrong = SigningKey::read(&files[2]).unwrap_err();
        assert!(wrong.message.contains("no private key"), "{wrong}");
    }

    #[test]
    fn a_signing_key_shows_only_its_id() {
        let (key, _) = key();
        assert_eq!(format!("{key:?}"), format!("SigningKey({:?})", key.id()));
    }
}

//! What an API key looks like: `<prefix>_<id>_<secret><check>`.
//!
//! The id (12 characters) is public and names the key in lists and logs. The secret is 43 random characters of base62:
//! 256 bits. The check is the CRC-32 of everything before it, as 6 characters of base62: it keeps nobody out, but a typo is
//! told without a look into the store, and whoever scans repositories for leaked keys knows one from other words.

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretString};

use super::super::digest::Digest;
use crate::model::Problem;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Characters of the id.
const ID: usize = 12;
/// Characters of the secret: 62^43 is more than 2^256.
const SECRET: usize = 43;
/// Characters of the check.
const CHECK: usize = 6;

/// A new key: its id, and its text, which is shown once and kept nowhere.
#[derive(Debug)]
pub struct FreshKey {
    /// The public name.
    pub id: String,
    /// The key.
    pub text: SecretString,
}

impl FreshKey {
    /// A key of fresh random bytes.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn generate(prefix: &str) -> Result<Self, Problem> {
        let id = random(ID)?;
        let mut text = format!("{prefix}_{id}_{}", random(SECRET)?);
        let check = check(text.as_bytes());
        text.push_str(&check);
        Ok(Self {
            id,
            text: text.into(),
        })
    }
}

/// Whether a text can be a key at all: its form and its check.
pub(super) fn well_formed(text: &[u8], prefix: &str) -> bool {
    let body = || {
        let rest = text.strip_prefix(prefix.as_bytes())?.strip_prefix(b"_")?;
        let (id, rest) = rest.split_at_checked(ID)?;
        let rest = rest.strip_prefix(b"_")?;
        let plain = |part: &[u8]| part.iter().all(u8::is_ascii_alphanumeric);
        (rest.len() == SECRET + CHECK && plain(id) && plain(rest)).then_some(())
    };
    let checked = || {
        let (before, own) = text.split_at_checked(text.len().checked_sub(CHECK)?)?;
        (check(before).as_bytes() == own).then_some(())
    };
    body().and_then(|()| checked()).is_some()
}

/// Random characters, each as likely as any other.
fn random(count: usize) -> Result<String, Problem> {
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| Problem::new("the system gives no random bytes"))?;
        // 248 is the largest multiple of 62 in a byte: what lies above would make some characters likelier.
        let even = bytes.iter().filter(|byte| **byte < 248);
        let letters = even.filter_map(|byte| ALPHABET.get(usize::from(byte % 62)));
        let left = count - text.len();
        text.extend(letters.take(left).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

fn check(text: &[u8]) -> String {
    let mut rest = crc32(text);
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        let index = usize::try_from(rest % 62).unwrap_or_default();
        *digit = ALPHABET.get(index).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// CRC-32 as in zip and PNG (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0xEDB8_8320
        } else {
            crc >> 1
        }
    };
    let add = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, add)
}

/// The secret that keys the hashes of keys. Without it nobody can tell whether a key is in the store, whatever leaks.
#[derive(Debug, Clone)]
pub struct HashKey {
    key: hmac::Key,
    id: String,
}

impl HashKey {
    /// Reads one: 64 hexadecimal digits.
    ///
    /// # Errors
    /// Where it is something else. Nothing of it is repeated.
    pub fn parse(text: &SecretString) -> Result<Self, Problem> {
        let bytes = unhex(text.expose_secret()).ok_or_else(|| {
            Problem::new("the hash key of API keys must be 64 hexadecimal digits")
                .hint("`cardea keys init` makes one")
        })?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let name = hmac::sign(&key, b"cardea: the name of this hash key");
        let id = name.as_ref().iter().take(8);
        Ok(Self {
            id: id.map(|byte| format!("{byte:02x}")).collect(),
            key,
        })
    }

    /// The text of a new one.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn generate() -> Result<SecretString, Problem> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| Problem::new("the system gives no random bytes"))?;
        Ok(hex(&bytes).into())
    }

    /// Its public name, by which a store says which one it needs.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What stands for a key in the store.
    pub(super) fn hash(&self, key: &[u8]) -> Option<KeyHash> {
        let tag = hmac::sign(&self.key, key);
        // HMAC-SHA-256 gives 32 bytes, always; nothing else may stand for a key.
        let bytes = tag.as_ref().try_into().ok()?;
        Some(KeyHash(Digest(blake3::Hash::from_bytes(bytes))))
    }
}

/// The keyed hash of a key (HMAC-SHA-256). Two are compared in constant time, which the type underneath promises, and its
/// first bytes choose the place in a table: they say nothing of the key to anybody without the hash key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyHash(Digest);

impl KeyHash {
    /// As the store writes it: 64 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(Self(Digest(blake3::Hash::from_bytes(unhex(text)?))))
    }

    /// As the store writes it.
    pub(super) fn to_hex(self) -> String {
        hex(self.0.0.as_bytes())
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != 64 || !text.bytes().all(plain) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_is_well_formed_and_any_change_of_it_is_told() {
        let key = FreshKey::generate("cardea").unwrap();
        let text = key.text.expose_secret();
        assert!(text.starts_with(&format!("cardea_{}_", key.id)));
        assert_eq!(text.len(), "cardea".len() + 1 + ID + 1 + SECRET + CHECK);
        assert!(well_formed(text.as_bytes(), "cardea"));
        assert!(!well_formed(text.as_bytes(), "other"));
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert!(!well_formed(&bytes, "cardea"), "at {at}");
            assert!(
                !well_formed(&text.as_bytes()[..at], "cardea"),
                "cut at {at}"
            );
        }
        let longer = format!("{text}0");
        assert!(!well_formed(longer.as_bytes(), "cardea"));
        assert_ne!(FreshKey::generate("cardea").unwrap().id, key.id);
    }

    #[test]
    fn the_check_is_the_usual_crc32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(check(b"").len(), CHECK);
    }

    #[test]
    fn a_hash_is_hmac_sha_256_and_needs_its_key() {
        // RFC 4231, section 4.2, has a shorter key; a key of 32 zero bytes is told apart from another.
        let zeros: SecretString = "0".repeat(64).into();
        let ones: SecretString = "1".repeat(64).into();
        let (zeros, ones) = (
            HashKey::parse(&zeros).unwrap(),
            HashKey::parse(&ones).unwrap(),
        );
        let hash = zeros.hash(b"key").unwrap();
        assert_eq!(KeyHash::parse(&hash.to_hex()), Some(hash));
        assert_ne!(hash, ones.hash(b"key").unwrap());
        assert_ne!(zeros.id(), ones.id());
        let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]), b"key");
        let expected: String = expected
            .as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(hash.to_hex(), expected);
    }

    #[test]
    fn a_hash_key_is_64_digits_and_is_never_shown() {
        for bad in ["", "abc", &"g".repeat(64), &"A".repeat(64), &"0".repeat(66)] {
            let problem = HashKey::parse(&SecretString::from(bad)).unwrap_err();
            assert!(bad.is_empty() || !problem.to_string().contains(bad));
        }
        let text = HashKey::generate().unwrap();
        let key = HashKey::parse(&text).unwrap();
        assert!(!format!("{key:?}").contains(text.expose_secret().get(..16).unwrap()));
    }
}

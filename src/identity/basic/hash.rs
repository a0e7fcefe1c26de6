//! Password hashes: Argon2id (RFC 9106) in the PHC string format, read strictly.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// What a hash must cost at least: OWASP's table of equal settings, as memory in KiB and passes.
const LEAST: [(u32, u32); 5] = [
    (47_104, 1),
    (19_456, 2),
    (12_288, 3),
    (9_216, 4),
    (7_168, 5),
];

/// What a hash may cost at most: memory in KiB, passes, lanes. Whoever writes the file must not stop the service by it.
const MOST: (u32, u32, u32) = (262_144, 16, 16);

/// How long salt and tag may be, in bytes (RFC 9106, section 3.1 recommends 16 for the salt, and 32 for the tag).
const SALT: std::ops::RangeInclusive<usize> = 16..=64;
const TAG: std::ops::RangeInclusive<usize> = 32..=64;

/// One hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hash {
    pub(super) cost: Cost,
    salt: Vec<u8>,
    tag: Vec<u8>,
}

/// What checking a password costs. In the order of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    memory: u32,
    passes: u32,
    lanes: u32,
}

/// What fresh hashes cost: OWASP's first recommendation for a check that somebody waits for.
pub(super) const USUAL: Cost = Cost {
    memory: 19_456,
    passes: 2,
    lanes: 1,
};

impl Hash {
    /// Reads one: `$argon2id$v=19$m=19456,t=2,p=1$<salt>$<tag>`.
    ///
    /// # Errors
    /// What is wrong with it. Nothing of it is repeated.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.split('$');
        let mut next = || parts.next().ok_or("is no PHC string of six parts");
        let ("", kind) = (next()?, next()?) else {
            return Err("is no PHC string: it does not begin with `$`");
        };
        if kind != "argon2id" {
            return Err("is not Argon2id: make one with `cardea keys hash-password`");
        }
        if next()? != "v=19" {
            return Err("is not of Argon2's version 19 (1.3)");
        }
        let cost = Cost::parse(next()?)?;
        let bytes = |part: &str| {
            STANDARD_NO_PAD
                .decode(part)
                .map_err(|_| "holds what is no base64")
        };
        let (salt, tag) = (bytes(next()?)?, bytes(next()?)?);
        if parts.next().is_some() {
            return Err("is no PHC string of six parts");
        }
        if !SALT.contains(&salt.len()) || !TAG.contains(&tag.len()) {
            return Err("must have a salt of 16 to 64 bytes and a tag of 32 to 64 bytes");
        }
        Ok(Self { cost, salt, tag })
    }

    /// The hash of a password, with a fresh salt.
    ///
    /// # Errors
    /// Where the system gives no random bytes or no memory.
    pub(super) fn of(password: &str) -> Result<Self, &'static str> {
        let mut fresh = Self::nobodys(USUAL)?;
        fresh.tag = fresh
            .compute(password)
            .ok_or("there is not enough memory")?;
        Ok(fresh)
    }

    /// A hash that no password has, for users that do not exist: checking one against it costs the same.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub(super) fn nobodys(cost: Cost) -> Result<Self, &'static str> {
        let (mut salt, mut tag) = (vec![0; 16], vec![0; 32]);
        for bytes in [&mut salt, &mut tag] {
            aws_lc_rs::rand::fill(bytes).map_err(|_| "the system gives no random bytes")?;
        }
        Ok(Self { cost, salt, tag })
    }

    /// Whether this is the password. It takes tens of milliseconds and as much memory as the hash says.
    pub(super) fn verify(&self, password: &str) -> bool {
        let tag = self.compute(password);
        tag.is_some_and(|tag| verify_slices_are_equal(&tag, &self.tag).is_ok())
    }

    fn compute(&self, password: &str) -> Option<Vec<u8>> {
        let mut tag = vec![0; self.tag.len()];
        let Cost {
            memory,
            passes,
            lanes,
        } = self.cost;
        let params = Params::new(memory, passes, lanes, Some(tag.len())).ok()?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &self.salt, &mut tag)
            .ok()?;
        Some(tag)
    }
}

impl Cost {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must say what it costs as `m=..,t=..,p=..`";
        let mut parts = text.split(',');
        let mut number = |name: &str| {
            let digits = parts.next()?.strip_prefix(name)?.strip_prefix('=')?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
            digits.parse().ok().filter(|_| plain)
        };
        let (Some(memory), Some(passes), Some(lanes)) = (number("m"), number("t"), number("p"))
        else {
            return Err(FORM);
        };
        if parts.next().is_some() {
            return Err(FORM);
        }
        if !LEAST.iter().any(|(m, t)| memory >= *m && passes >= *t) {
            return Err("is too cheap to guess: at least `m=19456,t=2,p=1` or what costs the same");
        }
        if (memory > MOST.0) || (passes > MOST.1) || (lanes > MOST.2) {
            return Err("costs too much to check: at most `m=262144,t=16,p=16`");
        }
        Ok(Self {
            memory,
            passes,
            lanes,
        })
    }
}

/// The PHC string.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost {
            memory,
            passes,
            lanes,
        } = self.cost;
        let [salt, tag] = [&self.salt, &self.tag].map(|bytes| STANDARD_NO_PAD.encode(bytes));
        write!(
            f,
            "$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${tag}"
        )
    }
}

/// Shows what it costs only.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash")
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_and_no_other_is() {
        let hash = Hash::of("correct horse").unwrap();
        let read = Hash::parse(&hash.to_string()).unwrap();
        assert_eq!(read, hash);
        assert!(read.verify("correct horse"));
        assert!(!read.verify("correct horsf"));
        assert!(!Hash::nobodys(USUAL).unwrap().verify("correct horse"));
        assert!(!format!("{hash:?}").contains(&STANDARD_NO_PAD.encode(&hash.tag)));
    }

    #[test]
    fn a_hash_of_the_reference_program_is_understood() {
        // `echo -n password | argon2 somesaltsomesalt -id -t 2 -k 19456 -p 1 -l 32 -e` has this form; the tag is computed
        // here by the same parameters and salt.
        let cost = USUAL;
        let salt = b"somesaltsomesalt".to_vec();
        let mut hash = Hash {
            cost,
            salt,
            tag: vec![0; 32],
        };
        hash.tag = hash.compute("password").unwrap();
        let text = hash.to_string();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$"));
        assert!(Hash::parse(&text).unwrap().verify("password"));
    }

    #[test]
    fn weak_costly_and_foreign_hashes_are_refused() {
        let salt = STANDARD_NO_PAD.encode([7; 16]);
        let tag = STANDARD_NO_PAD.encode([7; 32]);
        let with = |head: &str| format!("{head}${salt}${tag}");
        for (text, word) in [
            (with("$argon2id$v=19$m=19455,t=2,p=1"), "too cheap"),
            (with("$argon2id$v=19$m=19456,t=1,p=1"), "too cheap"),
            (with("$argon2id$v=19$m=4096,t=16,p=1"), "too cheap"),
            (with("$argon2id$v=19$m=1048576,t=2,p=1"), "too much"),
            (with("$argon2id$v=19$m=19456,t=99,p=1"), "too much"),
            (with("$argon2id$v=19$m=19456,t=2,p=99"), "too much"),
            (with("$argon2id$v=19$t=2,m=19456,p=1"), "m=..,t=..,p=.."),
            (with("$argon2id$v=19$m=019456,t=2,p=1"), "m=..,t=..,p=.."),
            (with("$argon2id$v=19$m=19456,t=2,p=1,x=1"), "m=..,t=..,p=.."),
            (with("$argon2id$v=16$m=19456,t=2,p=1"), "version"),
            (with("$argon2i$v=19$m=19456,t=2,p=1"), "Argon2id"),
            (with("$2b$12$"), "Argon2id"),
            (with("argon2id$v=19$m=19456,t=2,p=1"), "begin"),
            (
                format!("$argon2id$v=19$m=19456,t=2,p=1${salt}"),
                "six parts",
            ),
            (with("$argon2id$v=19$m=19456,t=2,p=1") + "$x", "six parts"),
            (format!("$argon2id$v=19$m=19456,t=2,p=1$!!${tag}"), "base64"),
            (
                format!("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA${tag}"),
                "salt",
            ),
            ("hunter2".to_owned(), "PHC"),
            (String::new(), "PHC"),
        ] {
            let error = Hash::parse(&text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        for good in [
            "m=19456,t=2,p=1",
            "m=47104,t=1,p=1",
            "m=65536,t=3,p=4",
            "m=7168,t=5,p=1",
        ] {
            assert!(
                Hash::parse(&with(&format!("$argon2id$v=19${good}"))).is_ok(),
                "{good}"
            );
        }
    }
}

//! The name of a credential in the cache.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};

/// The keyed hash of a credential.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(pub(super) blake3::Hash);

/// Shows nothing: it is what a credential is found by.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Eight bytes of a keyed hash spread well, and nobody can aim at them.
        if let Some(first) = self.0.as_bytes().first_chunk() {
            state.write_u64(u64::from_le_bytes(*first));
        }
    }
}

/// Takes hashes that are hashes already as they are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ready;

impl BuildHasher for Ready {
    type Hasher = Taken;

    fn build_hasher(&self) -> Taken {
        Taken(0)
    }
}

pub(super) struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = self.0.rotate_left(5) ^ value;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
}

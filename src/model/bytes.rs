//! Looking at every byte of a text, fast: these checks run over every header of every request.

/// How many bytes are looked at between two chances to stop. A multiple of every vector length.
const BLOCK: usize = 128;

/// Whether all bytes are as `good` says. Within a block nothing branches, so that the compiler looks at many bytes at a
/// time: `good` should not branch either (`|` and `&` in place of `||` and `&&`).
#[must_use]
pub fn every_byte(bytes: &[u8], good: impl Fn(u8) -> bool) -> bool {
    bytes
        .chunks(BLOCK)
        .all(|block| block.iter().fold(true, |all, byte| all & good(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_byte_is_found_wherever_it_stands() {
        for length in [0, 1, 127, 128, 129, 300] {
            let mut bytes = vec![b'a'; length];
            assert!(every_byte(&bytes, |b| b == b'a'), "{length}");
            for at in 0..length {
                bytes[at] = b'b';
                assert!(!every_byte(&bytes, |b| b == b'a'), "{length} {at}");
                bytes[at] = b'a';
            }
        }
    }
}

//! The list itself: a few bits for each token (draft-ietf-oauth-status-list, section 4).

use flate2::{Decompress, FlushDecompress, Status as Step};
use serde_json::Value;

use super::super::token::base64url;
use super::content::Unusable;

/// How much is unpacked at once, at least.
const CHUNK: usize = 64 * 1024;

/// The statuses of many tokens.
pub(super) struct Bits {
    /// How many bits each has: 1, 2, 4 or 8.
    size: u8,
    bytes: Vec<u8>,
}

/// It is long, and says who is revoked.
impl std::fmt::Debug for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bits")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Bits {
    /// Reads the claim `status_list` of a list (section 4.2), which may be `most` bytes long once it is unpacked. It
    /// computes for as long as that takes.
    ///
    /// # Errors
    /// What keeps it from being used.
    pub(super) fn read(claim: Option<&Value>, most: usize) -> Result<Self, Unusable> {
        let claim = claim.and_then(Value::as_object);
        let claim = claim.ok_or(Unusable("holds no object `status_list`"))?;
        let size = match claim.get("bits").and_then(Value::as_u64) {
            Some(1) => 1,
            Some(2) => 2,
            Some(4) => 4,
            Some(8) => 8,
            _ => return Err(Unusable("has `bits` that are not 1, 2, 4 or 8")),
        };
        let packed = claim.get("lst").and_then(Value::as_str);
        let packed = packed.and_then(base64url);
        let packed = packed.ok_or(Unusable("has a `lst` that is no strict base64url"))?;
        let bytes = unpack(&packed, most)?;
        Ok(Self { size, bytes })
    }

    /// The status at a place; `None` beyond the end.
    pub(super) fn at(&self, index: u64) -> Option<u8> {
        let each = u64::from(8 / self.size);
        let byte = usize::try_from(index / each).ok()?;
        let byte = *self.bytes.get(byte)?;
        // Less than 8, so it fits: the lowest bits come first.
        let shift = u8::try_from(index % each).ok()? * self.size;
        let mask = u8::MAX >> (8 - self.size);
        Some((byte >> shift) & mask)
    }
}

/// Unpacks one whole zlib stream (RFC 1950) and nothing beside it. It never holds more than `most` bytes and one.
fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, Unusable> {
    const BROKEN: Unusable = Unusable("has a `lst` that is no whole zlib stream");
    let mut engine = Decompress::new(true);
    let mut bytes = Vec::new();
    let mut rest = packed;
    loop {
        if bytes.len() == bytes.capacity() {
            let room = (most + 1).saturating_sub(bytes.len());
            bytes.reserve_exact(bytes.len().max(CHUNK).min(room));
        }
        let before = (rest.len(), bytes.len());
        let taken = engine.total_in();
        let step = engine.decompress_vec(rest, &mut bytes, FlushDecompress::None);
        let step = step.map_err(|_| BROKEN)?;
        let taken = usize::try_from(engine.total_in() - taken).map_err(|_| BROKEN)?;
        rest = rest.get(taken..).ok_or(BROKEN)?;
        if bytes.len() > most {
            return Err(Unusable("is longer than `max_list_bytes` once unpacked"));
        }
        match step {
            Step::StreamEnd if rest.is_empty() => return Ok(bytes),
            Step::StreamEnd => return Err(Unusable("has a `lst` that goes on after its end")),
            Step::Ok | Step::BufError if before == (rest.len(), bytes.len()) => return Err(BROKEN),
            Step::Ok | Step::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::{packed, status_list};
    use super::*;
    use crate::identity::testing::b64;

    const MOST: usize = 1 << 20;

    fn read(bits: u64, bytes: &[u8]) -> Bits {
        Bits::read(Some(&status_list(bits, bytes)), MOST).unwrap()
    }

    fn refused(claim: &Value) -> &'static str {
        Bits::read(Some(claim), MOST).unwrap_err().0
    }

    /// The statuses, one after the other, up to the end.
    fn all(bits: &Bits) -> Vec<u8> {
        (0..).map_while(|index| bits.at(index)).collect()
    }

    #[test]
    fn the_lowest_bits_come_first() {
        // One bit: 0xB9 is 10111001, 0xA3 is 10100011.
        let one = [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1];
        assert_eq!(all(&read(1, &[0xB9, 0xA3])), one);
        // Two bits: 0xC9 is 11 00 10 01, 0x44 is 01 00 01 00, 0xF9 is 11 11 10 01.
        let two = [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3];
        assert_eq!(all(&read(2, &[0xC9, 0x44, 0xF9])), two);
        assert_eq!(all(&read(4, &[0x21, 0xF0])), [1, 2, 0, 15]);
        assert_eq!(all(&read(8, &[0, 3, 255])), [0, 3, 255]);
        assert_eq!(all(&read(1, &[])), Vec::<u8>::new());
    }

    #[test]
    fn a_list_that_another_program_packed_is_read() {
        // 0xB9 0xA3 as one stored block of zlib, by hand: header, final block, its length twice, two bytes, Adler-32.
        let stored = [
            0x78, 0x01, 0x01, 0x02, 0x00, 0xFD, 0xFF, 0xB9, 0xA3, 0x02, 0x17, 0x01, 0x5D,
        ];
        let claim = json!({"bits": 1, "lst": b64(stored)});
        let bits = Bits::read(Some(&claim), MOST).unwrap();
        assert_eq!(bits.bytes, [0xB9, 0xA3]);
        let mut wrong = stored;
        wrong[12] ^= 1;
        let claim = json!({"bits": 1, "lst": b64(wrong)});
        assert!(refused(&claim).contains("zlib"), "the checksum is held");
    }

    #[test]
    fn no_place_beyond_the_end_has_a_status() {
        let bits = read(2, &[0; 3]);
        assert_eq!(bits.at(11), Some(0));
        for beyond in [12, 13, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(bits.at(beyond), None, "{beyond}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let lst = b64(packed(&[0]));
        for (claim, what) in [
            (json!(null), "no object"),
            (json!([1]), "no object"),
            (json!({"lst": lst}), "`bits`"),
            (json!({"bits": 0, "lst": lst}), "`bits`"),
            (json!({"bits": 3, "lst": lst}), "`bits`"),
            (json!({"bits": 16, "lst": lst}), "`bits`"),
            (json!({"bits": -1, "lst": lst}), "`bits`"),
            (json!({"bits": 1.0, "lst": lst}), "`bits`"),
            (json!({"bits": "1", "lst": lst}), "`bits`"),
            (json!({"bits": 1}), "base64url"),
            (json!({"bits": 1, "lst": 7}), "base64url"),
            (json!({"bits": 1, "lst": format!("{lst}=")}), "base64url"),
            (json!({"bits": 1, "lst": format!(" {lst}")}), "base64url"),
            (json!({"bits": 1, "lst": ""}), "zlib"),
            (json!({"bits": 1, "lst": b64([0; 40])}), "zlib"),
        ] {
            assert!(refused(&claim).contains(what), "{claim}");
        }
        assert!(Bits::read(None, MOST).is_err());
    }

    #[test]
    fn a_list_that_breaks_off_or_goes_on_is_refused() {
        let whole = packed(&[0xB9; 3000]);
        for cut in 0..whole.len() {
            let claim = json!({"bits": 1, "lst": b64(&whole[..cut])});
            assert!(refused(&claim).contains("zlib"), "{cut}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        let claim = json!({"bits": 1, "lst": b64(&longer)});
        assert!(refused(&claim).contains("goes on"));
        let twice = json!({"bits": 1, "lst": b64([whole.clone(), whole].concat())});
        assert!(refused(&twice).contains("goes on"));
    }

    #[test]
    fn a_bomb_goes_off_at_the_limit() {
        let bomb = status_list(1, &vec![0; 8 * MOST]);
        assert!(bomb["lst"].as_str().unwrap().len() < MOST / 32, "a bomb");
        assert!(refused(&bomb).contains("max_list_bytes"));
        let beyond = status_list(1, &vec![0; MOST + 1]);
        assert!(refused(&beyond).contains("max_list_bytes"));
        let bits = read(1, &vec![7; MOST]);
        assert_eq!(bits.bytes.len(), MOST);
        assert!(bits.bytes.capacity() <= MOST + 1, "no room is wasted");
    }

    proptest! {
        #[test]
        fn every_list_is_read_as_it_was_written(size in 0_u32..4, bytes: Vec<u8>) {
            let size = 1_u8 << size;
            let bits = read(u64::from(size), &bytes);
            let mut expected = Vec::new();
            for byte in &bytes {
                let text = format!("{byte:08b}");
                let end = text.len();
                let width = usize::from(size);
                expected.extend((0..8 / width).map(|place| {
                    let (from, to) = (end - (place + 1) * width, end - place * width);
                    u8::from_str_radix(text.get(from..to).unwrap(), 2).unwrap()
                }));
            }
            prop_assert_eq!(all(&bits), expected);
        }

        #[test]
        fn no_bytes_unpack_to_more_than_the_limit(bytes: Vec<u8>) {
            if let Ok(unpacked) = unpack(&bytes, 100) {
                prop_assert!(unpacked.len() <= 100);
            }
        }
    }
}

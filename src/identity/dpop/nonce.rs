//! Nonces of ours (RFC 9449, section 8): they show that a proof was made lately, whatever its sender's clock says, and
//! nothing is kept for them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

/// Makes and knows nonces: the number of a stretch of time, under a secret.
pub(super) struct Nonces {
    secret: [u8; 32],
    /// Seconds a stretch has.
    stretch: i64,
}

/// What a nonce is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It is of this stretch of time, or of the next by another replica's clock.
    Current,
    /// It is of the stretch before, so it will not do for much longer.
    Ageing,
    /// It is none of ours, or too old.
    Nothing,
}

impl Nonces {
    pub(super) fn new(secret: [u8; 32], stretch: i64) -> Self {
        Self {
            secret,
            stretch: stretch.max(1),
        }
    }

    /// The nonce of this moment.
    pub(super) fn at(&self, now: Timestamp) -> String {
        self.of(self.number(now))
    }

    /// What a nonce is worth at this moment.
    pub(super) fn worth(&self, nonce: &str, now: Timestamp) -> Worth {
        let number = self.number(now);
        let is = |number: i64| {
            verify_slices_are_equal(self.of(number).as_bytes(), nonce.as_bytes()).is_ok()
        };
        if is(number) || is(number.saturating_add(1)) {
            Worth::Current
        } else if is(number.saturating_sub(1)) {
            Worth::Ageing
        } else {
            Worth::Nothing
        }
    }

    fn number(&self, now: Timestamp) -> i64 {
        now.as_second().div_euclid(self.stretch)
    }

    fn of(&self, number: i64) -> String {
        let mac = blake3::keyed_hash(&self.secret, &number.to_be_bytes());
        URL_SAFE_NO_PAD.encode(mac.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_nonce_does_for_its_stretch_of_time_and_the_next() {
        let nonces = Nonces::new([1; 32], 100);
        let nonce = nonces.at(at(250));
        for (second, worth) in [
            (199, Worth::Current),
            (200, Worth::Current),
            (299, Worth::Current),
            (300, Worth::Ageing),
            (399, Worth::Ageing),
            (400, Worth::Nothing),
            (99, Worth::Nothing),
        ] {
            assert_eq!(nonces.worth(&nonce, at(second)), worth, "{second}");
        }
    }

    #[test]
    fn a_nonce_of_another_secret_is_worth_nothing() {
        let (ours, theirs) = (Nonces::new([1; 32], 100), Nonces::new([2; 32], 100));
        assert_eq!(ours.worth(&theirs.at(at(250)), at(250)), Worth::Nothing);
        assert_eq!(ours.worth("", at(250)), Worth::Nothing);
    }
}

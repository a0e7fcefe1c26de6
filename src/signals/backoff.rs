//! Pauses after failures.

use std::time::Duration;

use aws_lc_rs::rand;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);

/// The longest pause, where no shorter one is wanted.
const LAST: Duration = Duration::from_secs(5 * 60);

/// Pauses that double with each failure, a tenth more or less, so that many instances do not ask at once.
#[derive(Debug)]
pub(super) struct Backoff {
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses of at most `longest`, and never less than a second.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest: longest.clamp(Duration::from_secs(1), LAST),
            failures: 0,
        }
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        let pause = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1);
        spread(pause)
    }
}

/// About as long.
pub(super) fn spread(pause: Duration) -> Duration {
    let mut random = [128];
    // Without random bytes the pause is simply the middle one.
    let _kept = rand::fill(&mut random);
    let [random] = random;
    pause.mul_f64(0.9 + 0.2 * f64::from(random) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(3));
        let about = |pause: Duration, millis: u64| {
            let expected = Duration::from_millis(millis);
            assert!(
                pause >= expected.mul_f64(0.89) && pause <= expected.mul_f64(1.11),
                "{pause:?}"
            );
        };
        for millis in [500, 1000, 2000, 3000, 3000] {
            about(backoff.next(), millis);
        }
        backoff.reset();
        about(backoff.next(), 500);
        for _ in 0..100 {
            assert!(backoff.next() <= Duration::from_secs(4));
        }
    }
}

//! How long to wait after a failure. Pure: the jitter is an argument.

use std::time::Duration;

/// Pauses that double from `min` to `max`, each with up to half again of jitter.
///
/// The jitter keeps a fleet from returning all at once to a Consul that has just come back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub min: Duration,
    /// The longest pause, jitter not counted.
    pub max: Duration,
}

impl Backoff {
    /// The same with no pause longer than `max`, but for the first.
    pub fn at_most(self, max: Duration) -> Self {
        Self { min: self.min, max: self.max.min(max).max(self.min) }
    }

    /// The wait after `failures` failures in a row. `jitter` is drawn from 0.0 to 1.0.
    pub fn delay(self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.min.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        let pause = doubled.min(self.max);
        pause.saturating_add((pause / 2).mul_f64(jitter.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff =
        Backoff { min: Duration::from_millis(100), max: Duration::from_secs(2) };

    #[test]
    fn pauses_double_up_to_the_limit() {
        for (failures, jitter, expected_ms) in [
            (0, 0.0, 100),
            (1, 0.0, 100),
            (1, 1.0, 150),
            (2, 0.0, 200),
            (2, 0.5, 250),
            (5, 0.0, 1_600),
            (6, 0.0, 2_000),
            (6, 1.0, 3_000),
            (u32::MAX, 1.0, 3_000),
        ] {
            let delay = BACKOFF.delay(failures, jitter);
            assert_eq!(delay.as_millis(), expected_ms, "failures {failures}, jitter {jitter}");
        }
    }

    #[test]
    fn a_lower_limit_leaves_the_first_pause() {
        for (max_ms, expected_ms) in [(5_000, 2_000), (2_000, 2_000), (500, 500), (50, 100)] {
            let lowered = BACKOFF.at_most(Duration::from_millis(max_ms));
            assert_eq!(lowered.delay(9, 0.0).as_millis(), expected_ms, "{max_ms}");
            assert_eq!(lowered.min, BACKOFF.min);
        }
    }

    proptest! {
        #[test]
        fn no_pause_leaves_its_bounds(failures: u32, jitter in 0.0..=1.0) {
            let delay = BACKOFF.delay(failures, jitter);
            prop_assert!(delay >= BACKOFF.min);
            prop_assert!(delay <= BACKOFF.max * 3 / 2);
        }

        #[test]
        fn the_longest_durations_do_not_overflow(failures: u32, jitter in 0.0..=1.0) {
            let backoff = Backoff { min: Duration::MAX, max: Duration::MAX };
            prop_assert!(backoff.delay(failures, jitter) == Duration::MAX);
        }
    }
}

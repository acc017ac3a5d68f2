//! How long things take: in every run of the tests, and in a long one.
//!
//! Every run has short times of fingerpost's own, so that a fault outlasts them soon. A long run,
//! `tests/run --long`, has the defaults that operators have, and stricter bounds.

use std::env;
use std::time::Duration;

/// The times of this run.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How late a reply from memory may be.
    pub reply_within: Duration,
    /// How long a fault is held that has no time of its own; Consul elects a leader within it.
    pub hold: Duration,
    /// Longer than any question to Consul waits for its answer.
    pub hang: Duration,
    /// How long a sudden loss of names is not believed.
    pub guard_hold: Duration,
    /// Whether this is a long run.
    pub is_long: bool,
}

impl Times {
    /// Those of this run.
    pub fn of_this_run() -> Self {
        let is_long = env::var("FINGERPOST_TEST_LONG").is_ok_and(|set| !set.is_empty());
        let secs = Duration::from_secs;
        match is_long {
            true => Self {
                reply_within: Duration::from_millis(100),
                hold: secs(20),
                hang: secs(45),
                guard_hold: secs(60),
                is_long,
            },
            // Other tests are compiled and run beside, so a reply may be late that is not slow.
            false => Self {
                reply_within: secs(1),
                hold: secs(4),
                hang: secs(6),
                guard_hold: secs(1),
                is_long,
            },
        }
    }

    /// The variables that give fingerpost its times.
    pub fn variables(self) -> Vec<(String, String)> {
        let short = [
            ("FINGERPOST_CONSUL_WAIT", "2s".to_owned()),
            ("FINGERPOST_CONSUL_TIMEOUT", "2s".to_owned()),
            ("FINGERPOST_GUARD_HOLD", format!("{}s", self.guard_hold.as_secs())),
        ];
        let short = if self.is_long { &[][..] } else { &short[..] };
        // The catalogue of these tests is smaller than those in which a share means something.
        let least = ("FINGERPOST_GUARD_LEAST", "3".to_owned());
        short.iter().cloned().chain([least]).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// How soon after Consul can be heard again its truth is answered.
pub const CONVERGED_WITHIN: Duration = Duration::from_secs(5);

/// How long an instance that is watched may be answered after a healthy Consul shows it critical.
pub const CRITICAL_WITHIN: Duration = Duration::from_secs(2);

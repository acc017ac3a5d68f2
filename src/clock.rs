//! The program's clock: milliseconds since it started.
//!
//! The core reads no clock; it is handed this number. What must not be older than some time is
//! marked with a number of the same clock.

use std::time::Duration;

use tokio::time::Instant;

/// Counts from the program's start. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts counting.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds until now.
    pub fn now_ms(self) -> u64 {
        millis(self.0.elapsed())
    }

    /// Now, as a time that may be before the program's start.
    pub fn signed_ms(self) -> i64 {
        i64::try_from(self.now_ms()).unwrap_or(i64::MAX)
    }

    /// Milliseconds until `later` from now.
    pub fn after_ms(self, later: Duration) -> u64 {
        self.now_ms().saturating_add(millis(later))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

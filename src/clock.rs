//! The program's clock: milliseconds since it started.
//!
//! The core reads no clock; it is handed this number. What must not be older than some time is
//! marked with a number of the same clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

    /// Milliseconds until `time`, none where it was before the program's start.
    pub fn ms_at(self, time: Instant) -> u64 {
        millis(time.saturating_duration_since(self.0))
    }

    /// Now, as a time that may be before the program's start.
    pub fn signed_ms(self) -> i64 {
        i64::try_from(self.now_ms()).unwrap_or(i64::MAX)
    }

    /// When the program started, in milliseconds of the clock that people read.
    ///
    /// As that clock has it now: one that is set later does not matter to those who keep this.
    pub fn start_unix_ms(self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_sub(self.signed_ms())
    }

    /// When `time` was, since the start of 1970, by the clock that people read as it is set now.
    pub fn since_1970(time: Instant) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(time.elapsed())
    }

    /// Milliseconds until `later` from now.
    pub fn after_ms(self, later: Duration) -> u64 {
        self.now_ms().saturating_add(millis(later))
    }
}

/// `duration` in milliseconds, as far as they can be counted.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

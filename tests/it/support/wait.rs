//! The one way in which tests wait: for an event, with bounded patience.
//!
//! No test sleeps for a time in which something "should have happened"; it says what it waits
//! for and gets it as soon as it is there. Time is the runtime's, so these are for tests that
//! talk to sockets and processes, not for those that pause the clock.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

/// How long any wait of the tests lasts at most. Only a failing test is ever this slow.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `probe` is true.
///
/// # Panics
///
/// When it is not within [`PATIENCE`], naming `what` and the caller.
#[track_caller]
pub fn eventually(
    what: impl Display,
    mut probe: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let seen = poll(PATIENCE, async || probe().await.then_some(())).await;
        assert!(seen.is_some(), "{caller}: waited {PATIENCE:?} in vain: {what}");
    }
}

/// Waits for the `Some` of `probe`, for at most `patience`; `None` when it did not come.
pub async fn poll<T>(patience: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = probe().await {
            return Some(seen);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Lets `time` pass, of which a test is made: a fault that is held, a link that is slow.
///
/// It is for no event: see [`eventually`].
pub async fn pause(time: Duration) {
    pause_until(Instant::now() + time).await;
}

/// As [`pause`], until `due`.
pub async fn pause_until(due: Instant) {
    tokio::time::sleep_until(due).await;
}

/// What `future` comes to.
///
/// # Panics
///
/// When that takes longer than [`PATIENCE`], naming `what` and the caller.
#[track_caller]
pub fn within<F: Future>(what: impl Display, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: waited {PATIENCE:?} in vain: {what}"),
        }
    }
}

/// Between two probes: short beside what a person notices, long beside what a probe costs.
const INTERVAL: Duration = Duration::from_millis(20);

//! Signs of life of threads: each counts its rounds, and whoever looks sees who stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The rounds of one thread. Copies count together.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// One round more.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All threads, as they were seen last.
#[derive(Debug, Default)]
pub struct Pulses(Vec<Seen>);

#[derive(Debug)]
struct Seen {
    pulse: Pulse,
    beats: u64,
    /// When it was first seen to have counted so far.
    since: Instant,
}

impl Pulses {
    /// Looks at `pulses` from now on.
    pub fn new(pulses: impl IntoIterator<Item = Pulse>) -> Self {
        let since = Instant::now();
        let seen = |pulse: Pulse| Seen { beats: pulse.beats(), pulse, since };
        Self(pulses.into_iter().map(seen).collect())
    }

    /// Which thread, if any, has not gone round since it was last looked at, and for longer than any
    /// round takes.
    pub fn find_still(&mut self) -> Option<usize> {
        let now = Instant::now();
        for seen in &mut self.0 {
            let beats = seen.pulse.beats();
            if beats != seen.beats {
                (seen.beats, seen.since) = (beats, now);
            }
        }
        self.0.iter().position(|seen| now - seen.since > ROUND_MAX)
    }
}

/// A quiet thread goes round ten times a second, and a busy one for each batch.
const ROUND_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_go_round_stands_still() {
        let [first, second] = [Pulse::default(), Pulse::default()];
        let mut pulses = Pulses::new([first.clone(), second.clone()]);
        let later = async || tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(pulses.find_still(), None);
        later().await;
        first.beat();
        assert_eq!(pulses.find_still(), None);
        later().await;
        assert_eq!(pulses.find_still(), Some(1));
        second.beat();
        assert_eq!(pulses.find_still(), None);
        later().await;
        later().await;
        assert_eq!(pulses.find_still(), Some(0));
    }
}

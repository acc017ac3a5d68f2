//! What the data plane leaves behind at a service: how often it was asked for, and when last.
//!
//! The counts live beside the service, in the snapshot, so that a query touches no map and the
//! counts of a service go when it goes. Each worker has a lane of its own, a cache line wide.
//!
//! **Hot.** Relaxed stores, nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the cache had for a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CacheResult {
    /// In memory, and too old to be answered.
    Expired,
    /// Answered with records, or with "no such type" for instances that are there.
    Hit,
    /// Not in memory; Consul is asked first.
    Miss,
    /// Answered that there is nothing.
    Negative,
    /// Answered from memory while Consul cannot be heard, or what it shows no more is held back.
    Stale,
}

impl CacheResult {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 5] = [Self::Expired, Self::Hit, Self::Miss, Self::Negative, Self::Stale];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Negative => "negative",
            Self::Stale => "stale",
        }
    }
}

/// How a service is asked for: counts, its own or shared with others, and when it last was.
#[derive(Debug)]
pub struct Usage {
    lanes: Arc<[Lane]>,
    /// False where several services share these counts.
    own: bool,
    /// Seconds of the program's clock.
    asked_secs: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Lane([AtomicU64; CacheResult::ALL.len()]);

impl Usage {
    /// Counts for `lanes` workers, at least one; `own` if they are one service's.
    pub fn new(lanes: usize, own: bool) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        Self { lanes, own, asked_secs: AtomicU64::new(0) }
    }

    /// For another service that shares these counts.
    pub fn shared(&self) -> Self {
        Self { lanes: Arc::clone(&self.lanes), own: false, asked_secs: AtomicU64::new(0) }
    }

    /// Notes that the service was asked for at this time of the program's clock.
    pub fn mark(&self, now_ms: u64) {
        let now_secs = now_ms / 1000;
        // A line that all workers read is written once a second.
        if self.asked_secs.load(Ordering::Relaxed) != now_secs {
            self.asked_secs.store(now_secs, Ordering::Relaxed);
        }
    }

    /// When the service was last asked for, to the second below.
    pub fn asked_ms(&self) -> u64 {
        self.asked_secs.load(Ordering::Relaxed) * 1000
    }

    /// Counts one question that worker `lane` answered.
    pub fn count(&self, lane: usize, result: CacheResult) {
        if let Some(count) = self.lanes.get(lane).and_then(|lane| lane.0.get(result as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The sum over all workers.
    pub fn total(&self, result: CacheResult) -> u64 {
        let counts = self.lanes.iter().filter_map(|lane| lane.0.get(result as usize));
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Whether these are one service's alone.
    pub fn is_own(&self) -> bool {
        self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_the_lanes() {
        let usage = Usage::new(2, true);
        usage.count(0, CacheResult::Hit);
        usage.count(1, CacheResult::Hit);
        usage.count(1, CacheResult::Stale);
        usage.count(9, CacheResult::Hit);
        let totals = CacheResult::ALL.map(|result| (result.as_str(), usage.total(result)));
        assert_eq!(
            totals,
            [("expired", 0), ("hit", 2), ("miss", 0), ("negative", 0), ("stale", 1)]
        );
    }

    #[test]
    fn who_shares_counts_is_asked_for_alone() {
        let other = Usage::new(1, false);
        let (one, two) = (other.shared(), other.shared());
        one.count(0, CacheResult::Hit);
        one.mark(5_900);
        assert_eq!((two.total(CacheResult::Hit), other.total(CacheResult::Hit)), (1, 1));
        assert_eq!((one.asked_ms(), two.asked_ms()), (5_000, 0));
    }
}

//! What the data plane leaves behind at a service: how often it was asked for, and when last.
//!
//! The counts live beside the service, in the snapshot, so that a query touches no map and the
//! counts of a service go when it goes. Each worker has a lane of its own, a cache line wide.
//!
//! **Hot.** Relaxed stores, nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the cache had for a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CacheResult {
    /// Answered with records, or with "no such type" for instances that are there.
    Hit,
    /// Not in memory; Consul is asked first.
    Miss,
    /// Answered that there is nothing.
    Negative,
    /// Answered from memory while Consul cannot be heard.
    Stale,
}

impl CacheResult {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 4] = [Self::Hit, Self::Miss, Self::Negative, Self::Stale];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Negative => "negative",
            Self::Stale => "stale",
        }
    }
}

/// Counts of one service, or of all that share a label.
#[derive(Debug)]
pub struct Usage {
    lanes: Box<[Lane]>,
    /// False where several services share these counts.
    own: bool,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Lane([AtomicU64; CacheResult::ALL.len()]);

impl Usage {
    /// Counts for `lanes` workers, at least one; `own` if they are one service's.
    pub fn new(lanes: usize, own: bool) -> Self {
        Self { lanes: (0..lanes.max(1)).map(|_| Lane::default()).collect(), own }
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
        assert_eq!(totals, [("hit", 2), ("miss", 0), ("negative", 0), ("stale", 1)]);
    }
}

//! Services that were fetched on demand: which of them are still in memory.
//!
//! A shelf holds names; the instances are in the snapshot. It is bounded in number and in bytes, and
//! a service that is not asked for is taken off after its idle time, or before to make room for
//! others. Queries never touch it: a service that is asked for is fetched again when it is no longer
//! fresh, and that is when its place is renewed.

use std::time::Duration;

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::mpsc;

use crate::consul::Key;

/// The names of services held on demand.
#[derive(Debug)]
pub struct Shelf {
    /// With what each weighs.
    names: Cache<Key, u32>,
    /// What the lightest weighs, so that there are not too many.
    bytes_min: u32,
    removed: mpsc::UnboundedReceiver<Removed>,
}

/// A service that was taken off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Removed {
    /// Which one.
    pub key: Key,
    /// Whether it had to make room, rather than being idle.
    pub crowded_out: bool,
}

impl Shelf {
    /// Room for `services_max` names with `bytes_max` bytes in all, each for `idle` after it was last
    /// put on.
    pub fn new(services_max: usize, bytes_max: u64, idle: Duration) -> Self {
        // As many can be taken off as were put on, so the channel is bounded by the shelf.
        let (sender, removed) = mpsc::unbounded_channel();
        let bytes_min = bytes_max.max(1).div_ceil(services_max.max(1) as u64);
        let names = Cache::builder()
            .max_capacity(bytes_max.max(bytes_min))
            .weigher(|_, bytes: &u32| *bytes)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(idle)
            .eviction_listener(move |key: std::sync::Arc<Key>, _, cause| {
                let crowded_out = cause == RemovalCause::Size;
                if cause.was_evicted() {
                    // The other end goes when the program does.
                    sender.send(Removed { key: key.as_ref().clone(), crowded_out }).ok();
                }
            })
            .build();
        let bytes_min = u32::try_from(bytes_min).unwrap_or(u32::MAX);
        Self { names, bytes_min, removed }
    }

    /// Puts a service of so many bytes on, or renews its place.
    pub fn put(&self, key: Key, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.names.insert(key, bytes.max(self.bytes_min));
    }

    /// Whether a service is on it.
    pub fn has(&self, key: &Key) -> bool {
        self.names.contains_key(key)
    }

    /// Takes a service off without a word: it is watched now, or gone.
    pub fn take(&self, key: &Key) {
        self.names.invalidate(key);
    }

    /// Does what is due, and returns what has been taken off since.
    pub fn sweep(&mut self) -> Vec<Removed> {
        self.names.run_pending_tasks();
        std::iter::from_fn(|| self.removed.try_recv().ok()).collect()
    }

    /// What those on it weigh.
    pub fn bytes(&self) -> u64 {
        self.names.weighted_size()
    }

    /// How many services are on it.
    pub fn count(&self) -> usize {
        self.names.entry_count() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Form;

    fn key(number: usize) -> Key {
        Key::new("dc1", Form::Service, &format!("s{number}"))
    }

    #[test]
    fn a_full_shelf_makes_room() {
        for (services_max, bytes_max, bytes) in [(10, 1_000_000, 9), (99, 1_000, 100)] {
            let mut shelf = Shelf::new(services_max, bytes_max, Duration::from_secs(600));
            for number in 0..30 {
                shelf.put(key(number), bytes);
                // The first is asked for all the time.
                shelf.put(key(0), bytes);
                shelf.sweep().iter().for_each(|removed| assert!(removed.crowded_out));
            }
            assert_eq!((shelf.count(), shelf.bytes()), (10, bytes_max));
            assert!(shelf.has(&key(0)) && shelf.has(&key(29)) && !shelf.has(&key(20)));
        }
    }

    #[test]
    fn what_is_larger_than_all_there_is_goes_at_once() {
        let mut shelf = Shelf::new(10, 100, Duration::from_secs(600));
        shelf.put(key(1), 10);
        shelf.put(key(2), 101);
        let removed = shelf.sweep();
        assert!(removed.iter().any(|removed| removed.key == key(2) && removed.crowded_out));
        assert!(!shelf.has(&key(2)));
    }

    #[test]
    fn what_is_taken_is_not_reported() {
        let mut shelf = Shelf::new(10, 100, Duration::from_secs(600));
        shelf.put(key(1), 1);
        shelf.put(key(1), 1);
        shelf.take(&key(1));
        assert_eq!(shelf.sweep(), []);
        assert_eq!(shelf.count(), 0);
    }
}

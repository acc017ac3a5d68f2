//! Services that were fetched on demand: which of them are still in memory.
//!
//! A shelf holds names; the instances are in the snapshot. It is bounded, and a service that is
//! not asked for is taken off after its idle time. Queries never touch it: a service that is
//! asked for is fetched again when it is no longer fresh, and that is when its place is renewed.

use std::time::Duration;

use moka::notification::RemovalCause;
use moka::sync::Cache;
use tokio::sync::mpsc;

use crate::consul::Key;

/// The names of services held on demand.
#[derive(Debug)]
pub struct Shelf {
    names: Cache<Key, ()>,
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
    /// Room for `services_max` names, each for `idle` after it was last put on.
    pub fn new(services_max: usize, idle: Duration) -> Self {
        // As many can be taken off as were put on, so the channel is bounded by the shelf.
        let (sender, removed) = mpsc::unbounded_channel();
        let names = Cache::builder()
            .max_capacity(services_max as u64)
            .time_to_idle(idle)
            .eviction_listener(move |key: std::sync::Arc<Key>, (), cause| {
                let crowded_out = cause == RemovalCause::Size;
                if cause.was_evicted() {
                    // The other end goes when the program does.
                    sender.send(Removed { key: key.as_ref().clone(), crowded_out }).ok();
                }
            })
            .build();
        Self { names, removed }
    }

    /// Puts a service on, or renews its place.
    pub fn put(&self, key: Key) {
        self.names.insert(key, ());
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
        let mut shelf = Shelf::new(10, Duration::from_secs(600));
        (0..30).for_each(|number| shelf.put(key(number)));
        let removed = shelf.sweep();
        assert_eq!(shelf.count(), 10);
        assert_eq!(removed.len(), 20);
        assert!(removed.iter().all(|removed| removed.crowded_out));
    }

    #[test]
    fn what_is_taken_is_not_reported() {
        let mut shelf = Shelf::new(10, Duration::from_secs(600));
        shelf.put(key(1));
        shelf.put(key(1));
        shelf.take(&key(1));
        assert_eq!(shelf.sweep(), []);
        assert_eq!(shelf.count(), 0);
    }
}

//! Names that only Consul can deny: of the mesh, of ingress, of peers, and of prepared queries.
//!
//! ```text
//!   known, with instances     watched or fetched as a service is
//!   denied                    kept for a short while; the shelf for them is small
//!   not known                 asked for, so many a second
//! ```
//! **Invariant:** no flood of such names reaches Consul, and none grows without bound.

use std::time::Duration;

use prometheus::IntCounter;
use tokio::time::Instant;

use crate::config::CacheConfig;
use crate::consul::Key;
use crate::consul::shelf::{Removed, Shelf};

/// What is let through to Consul, and what Consul denied.
#[derive(Debug)]
pub struct Unlisted {
    /// For names that nothing says exist.
    invented: Allowance,
    /// For names of services that are listed: an invented one must not be in their way.
    listed: Allowance,
    denied: Shelf,
    refused: IntCounter,
}

/// So many a second, saved up for a second at most.
#[derive(Debug)]
struct Allowance {
    every: Duration,
    /// When all is there again.
    full_at: Instant,
}

impl Unlisted {
    /// With the bounds of `cache`; `refused` counts what is beyond.
    pub fn new(cache: &CacheConfig, refused: IntCounter, now: Instant) -> Self {
        let per_second = u32::try_from(cache.unlisted_per_second).unwrap_or(u32::MAX);
        let every = Duration::from_secs(1) / per_second.max(1);
        Self {
            invented: Allowance { every, full_at: now },
            listed: Allowance { every, full_at: now },
            denied: Shelf::new(cache.denied_max, cache.denied_max as u64, DENIED_IDLE),
            refused,
        }
    }

    /// Whether a name that is not known to exist may be asked for now; `is_listed` if it is that of
    /// a service.
    pub fn admit(&mut self, is_listed: bool, now: Instant) -> bool {
        let allowance = if is_listed { &mut self.listed } else { &mut self.invented };
        let is_admitted = allowance.take(now);
        if !is_admitted {
            self.refused.inc();
        }
        is_admitted
    }

    /// Keeps a name that Consul denied.
    pub fn deny(&self, key: Key) {
        self.denied.put(key, 1);
    }

    /// Takes a name off that exists after all.
    pub fn allow(&self, key: &Key) {
        self.denied.take(key);
    }

    /// What need not be kept any longer.
    pub fn sweep(&mut self) -> Vec<Removed> {
        self.denied.sweep()
    }
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.every;
        let is_there = full_at - now <= Duration::from_secs(1);
        if is_there {
            self.full_at = full_at;
        }
        is_there
    }
}

/// How long a name is remembered that is denied and not asked for.
const DENIED_IDLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn so_many_a_second_and_the_rest_is_counted() {
        let mut cache = Config::default().cache;
        cache.unlisted_per_second = 4;
        let mut now = Instant::now();
        let refused = IntCounter::new("refused", "help").unwrap();
        let mut unlisted = Unlisted::new(&cache, refused.clone(), now);
        let mut admitted = |now| (0..10).filter(|_| unlisted.admit(false, now)).count();
        assert_eq!((admitted(now), refused.get()), (4, 6));
        now += Duration::from_millis(500);
        assert_eq!(admitted(now), 2);
        now += Duration::from_secs(60);
        assert_eq!(admitted(now), 4, "no more than a second's are saved up");
        assert!(unlisted.admit(true, now), "those that are listed have an allowance of their own");
    }
}

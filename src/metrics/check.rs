//! Memory compared with Consul: how often, and how often it was wrong.

use prometheus::{IntCounter, Registry};

use crate::metrics::counter;

/// Counts of comparisons.
#[derive(Clone, Debug)]
pub struct CheckMetrics {
    /// What is watched was read again and compared with what is in memory.
    pub checks: IntCounter,
    /// Comparisons that found a difference which did not go by itself.
    pub divergences: IntCounter,
}

impl CheckMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            checks: counter(
                registry,
                "fingerpost_cache_checks_total",
                "Watched services and lists that were read again and compared with memory.",
            )?,
            divergences: counter(
                registry,
                "fingerpost_cache_divergence_total",
                "Comparisons with Consul that found memory to be wrong, and mended it.",
            )?,
        })
    }
}

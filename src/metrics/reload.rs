//! Metrics of configurations that were read again.

use prometheus::{Gauge, IntCounterVec, IntGauge, Opts, Registry};

use crate::clock::Clock;
use crate::metrics::add;

/// How reloads went.
#[derive(Clone, Debug)]
pub struct ReloadMetrics {
    total: IntCounterVec,
    last_successful: IntGauge,
    last_success: Gauge,
    clock: Clock,
}

impl ReloadMetrics {
    /// Makes and registers them; `clock` is the program's.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry, clock: Clock) -> Result<Self, prometheus::Error> {
        let total = IntCounterVec::new(
            Opts::new(
                "fingerpost_config_reloads_total",
                "Times that the configuration was read again, by what came of it.",
            ),
            &["result"],
        )?;
        let last_successful = IntGauge::new(
            "fingerpost_config_last_reload_successful",
            "Whether the configuration that was read last is in use.",
        )?;
        let last_success = Gauge::new(
            "fingerpost_config_last_reload_success_timestamp_seconds",
            "When the configuration in use was read, in Unix time.",
        )?;
        let metrics = Self {
            total: add(registry, total)?,
            last_successful: add(registry, last_successful)?,
            last_success: add(registry, last_success)?,
            clock,
        };
        for result in [APPLIED, REFUSED] {
            metrics.total.with_label_values(&[result]);
        }
        metrics.note_success();
        Ok(metrics)
    }

    /// Counts one, and whether it was taken.
    pub fn count(&self, is_applied: bool) {
        self.total.with_label_values(&[if is_applied { APPLIED } else { REFUSED }]).inc();
        match is_applied {
            true => self.note_success(),
            false => self.last_successful.set(0),
        }
    }

    fn note_success(&self) {
        self.last_successful.set(1);
        let now_ms = self.clock.start_unix_ms().saturating_add(self.clock.signed_ms());
        self.last_success.set(now_ms as f64 / 1000.0);
    }
}

const APPLIED: &str = "applied";
const REFUSED: &str = "refused";

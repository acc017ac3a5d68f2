//! Metrics of what is told of queries: the query log, and dnstap.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::metrics::{add, counter};

/// Counts of the query log and of dnstap.
#[derive(Clone, Debug)]
pub struct TapMetrics {
    /// Lines of the query log.
    pub log_lines: IntCounter,
    /// Queries that were to have one and have none.
    pub log_left_out: IntCounter,
    /// Frames that the collector was sent.
    pub frames_sent: IntCounter,
    /// Frames that it was not sent.
    pub frames_dropped: IntCounter,
    /// Whether there is a collector.
    pub connected: IntGauge,
}

impl TapMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let connected = IntGauge::new(
            "fingerpost_dnstap_connected",
            "Whether the collector of dnstap takes frames.",
        )?;
        Ok(Self {
            log_lines: counter(
                registry,
                "fingerpost_query_log_lines_total",
                "Lines of the query log that were written.",
            )?,
            log_left_out: counter(
                registry,
                "fingerpost_query_log_left_out_total",
                "Queries without the line that was due to them: too many came.",
            )?,
            frames_sent: counter(
                registry,
                "fingerpost_dnstap_frames_sent_total",
                "Frames that the collector of dnstap was sent.",
            )?,
            frames_dropped: counter(
                registry,
                "fingerpost_dnstap_frames_dropped_total",
                "Frames that the collector of dnstap was not sent: too many waited, or it was away.",
            )?,
            connected: add(registry, connected)?,
        })
    }
}

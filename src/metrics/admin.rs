//! The connections of the operator's port.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, Registry};

use crate::metrics::{add, counter};

/// Counts of the admin port.
#[derive(Clone, Debug)]
pub struct AdminMetrics {
    /// 1 while `/ready` is 200, set when the metrics are asked for.
    pub ready: IntGauge,
    log_lost: Arc<Mutex<IntCounter>>,
    /// Connections that are open.
    pub connections: IntGauge,
    /// Connections closed because no request was whole in time, or no reply was read.
    pub idle_closed: IntCounter,
    /// Connections closed at once, since enough others are open.
    pub refused: IntCounter,
    /// Streams of events that are open.
    pub listeners: IntGauge,
    /// Events that streams were too slow for.
    pub events_missed: IntCounter,
    /// Streams that were refused, since enough others are open.
    pub listeners_refused: IntCounter,
}

impl AdminMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let connections =
            IntGauge::new("fingerpost_admin_connections", "HTTP connections that are open.")?;
        let listeners =
            IntGauge::new("fingerpost_admin_listeners", "Streams of /v1/events that are open.")?;
        let ready = IntGauge::new("fingerpost_ready", "1 while /ready is 200, else 0.")?;
        Ok(Self {
            ready: add(registry, ready)?,
            log_lost: Arc::new(Mutex::new(counter(
                registry,
                "fingerpost_log_lines_lost_total",
                "Lines of the log that were not written, as its reader was too slow.",
            )?)),
            connections: add(registry, connections)?,
            idle_closed: counter(
                registry,
                "fingerpost_admin_idle_closed_total",
                "HTTP connections closed because no complete request came in time, or its reply \
                 was not read.",
            )?,
            refused: counter(
                registry,
                "fingerpost_admin_refused_total",
                "HTTP connections closed at once because too many were open.",
            )?,
            listeners: add(registry, listeners)?,
            events_missed: counter(
                registry,
                "fingerpost_admin_events_missed_total",
                "Events that streams of /v1/events were told to be without, as they were too slow.",
            )?,
            listeners_refused: counter(
                registry,
                "fingerpost_admin_listeners_refused_total",
                "Streams of /v1/events refused because too many were open.",
            )?,
        })
    }

    /// Says how many lines of the log have been lost by now.
    pub fn set_log_lost(&self, lines: u64) {
        // Two scrapes at once must not count the same lines twice.
        let counter = self.log_lost.lock().unwrap_or_else(PoisonError::into_inner);
        counter.inc_by(lines.saturating_sub(counter.get()));
    }
}

//! The connections of the operator's port.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::metrics::{add, counter};

/// Counts of the admin port.
#[derive(Clone, Debug)]
pub struct AdminMetrics {
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
        Ok(Self {
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
}

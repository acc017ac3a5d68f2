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
        })
    }
}

//! Metrics of what vanished from Consul and is answered still.

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::metrics::{add, counter};

/// What is held back.
#[derive(Clone, Debug)]
pub struct GuardMetrics {
    /// Datacenters in which all that vanishes is.
    pub holding: IntGauge,
    /// What is missing and held back, in all of them.
    pub held_back: IntGauge,
    /// Times that too much had vanished at once.
    pub alarms: IntCounter,
    quorum: IntGaugeVec,
}

impl GuardMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(name, help)?);
        Ok(Self {
            holding: gauge(
                "fingerpost_guard_holding",
                "Datacenters in which all that vanishes from Consul is answered still.",
            )?,
            held_back: gauge(
                "fingerpost_guard_held_back",
                "Instances, services, nodes and queries that Consul lacks and that are answered \
                 still.",
            )?,
            alarms: counter(
                registry,
                "fingerpost_guard_alarms_total",
                "How often too much had vanished from Consul at once to be believed.",
            )?,
            quorum: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "fingerpost_consul_quorum",
                        "Whether the servers of the local datacenter have a leader and are enough.",
                    ),
                    &["dc"],
                )?,
            )?,
        })
    }

    /// Says whether the servers of the local datacenter can be believed.
    pub fn set_quorum(&self, datacenter: &str, is_whole: bool) {
        self.quorum.with_label_values(&[datacenter]).set(is_whole.into());
    }

    /// Says that nobody tells.
    pub fn unset_quorum(&self, datacenter: &str) {
        self.quorum.remove_label_values(&[datacenter]).ok();
    }
}

//! What we cost Consul: requests, connections, bytes.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::metrics::{add, counter};

/// Counts of what is asked of Consul.
#[derive(Clone, Debug)]
pub struct CostMetrics {
    /// Connections that were opened.
    pub connections: IntCounter,
    /// New connections that Consul closed at once.
    pub refusals: IntCounter,
    requests: IntCounterVec,
    bytes: IntCounterVec,
    filtered: IntGaugeVec,
}

impl CostMetrics {
    /// Makes and registers them, with a series for each endpoint.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = add(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "fingerpost_consul_requests_total",
                    "Requests to Consul that ended, by what was asked and whether it came.",
                ),
                &["endpoint", "outcome"],
            )?,
        )?;
        let bytes = add(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "fingerpost_consul_response_bytes_total",
                    "Bytes of Consul's replies, headers not counted.",
                ),
                &["endpoint"],
            )?,
        )?;
        let filtered = add(
            registry,
            IntGaugeVec::new(
                Opts::new(
                    "fingerpost_consul_results_filtered",
                    "1 while Consul's last reply left out what the token may not read.",
                ),
                &["endpoint"],
            )?,
        )?;
        for endpoint in ENDPOINTS {
            filtered.with_label_values(&[endpoint]);
            bytes.with_label_values(&[endpoint]);
            for outcome in [CAME, FAILED] {
                requests.with_label_values(&[endpoint, outcome]);
            }
        }
        let connections = counter(
            registry,
            "fingerpost_consul_connections_opened_total",
            "Connections to Consul that were opened.",
        )?;
        let refusals = counter(
            registry,
            "fingerpost_consul_connections_refused_total",
            "New connections that Consul closed at once, as it does past its limit.",
        )?;
        Ok(Self { connections, refusals, requests, bytes, filtered })
    }

    /// Notes whether the last reply of an endpoint left something out.
    pub fn set_filtered(&self, endpoint: &str, is_filtered: bool) {
        self.filtered.with_label_values(&[endpoint]).set(i64::from(is_filtered));
    }

    /// The endpoints whose last reply left something out.
    pub fn filtered(&self) -> impl Iterator<Item = &'static str> {
        let is_filtered = |endpoint: &&str| self.filtered.with_label_values(&[endpoint]).get() > 0;
        ENDPOINTS.into_iter().filter(is_filtered)
    }

    /// Counts a request that ended, with so many bytes or with none that count.
    pub fn count(&self, endpoint: &str, bytes: Option<usize>) {
        let outcome = if bytes.is_some() { CAME } else { FAILED };
        self.requests.with_label_values(&[endpoint, outcome]).inc();
        self.bytes.with_label_values(&[endpoint]).inc_by(bytes.unwrap_or(0) as u64);
    }
}

const CAME: &str = "ok";
const FAILED: &str = "failed";

/// What a source asks for, so that the series exist from the start.
const ENDPOINTS: [&str; 13] = [
    "agent/members",
    "agent/self",
    "catalog/datacenters",
    "catalog/nodes",
    "catalog/service",
    "catalog/services",
    "health/connect",
    "health/ingress",
    "health/service",
    "query",
    "query/execute",
    "status/leader",
    "status/peers",
];

//! Every metric this program exports, and nothing else.
//!
//! A metric is a field here or a family in one of the two collectors, so the compiler finds each
//! use, and the files of this folder are the documentation. What a query touches is an atomic of
//! its own worker ([`dns`]); what the catalogue holds is read from the snapshot when a scrape
//! comes ([`catalog`]), so series of services that are gone are gone.

pub mod admin;
pub mod catalog;
pub mod check;
pub mod connections;
pub mod cost;
pub mod dns;
pub mod family;
pub mod forward;
pub mod guard;
pub mod process;
pub mod reload;
pub mod snapshot;
pub mod tap;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::build;
use crate::catalog::Usage;
use crate::clock::Clock;
use crate::store::Store;

pub use admin::AdminMetrics;
pub use check::CheckMetrics;
pub use connections::{ConnectionMetrics, End};
pub use cost::CostMetrics;
pub use dns::{DnsMetrics, Tally};
pub use forward::{ForwardMetrics, RecursorMetrics};
pub use guard::GuardMetrics;
pub use reload::ReloadMetrics;
pub use snapshot::SnapshotMetrics;
pub use tap::TapMetrics;

/// Handles to all metrics. Cheap to clone; clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Connections of the admin port.
    pub admin: AdminMetrics,
    /// Queries and replies.
    pub dns: Arc<DnsMetrics>,
    /// What is asked of Consul, and what comes of it.
    pub consul: ConsulMetrics,
    /// Memory compared with Consul.
    pub check: CheckMetrics,
    /// What we cost Consul.
    pub cost: CostMetrics,
    /// What is asked of the recursors.
    pub forward: ForwardMetrics,
    /// What vanished from Consul and is answered still.
    pub guard: GuardMetrics,
    /// Configurations that were read again.
    pub reload: ReloadMetrics,
    /// What is kept on disk.
    pub snapshot: SnapshotMetrics,
    /// What is told of queries.
    pub tap: TapMetrics,
    /// Cache results of names without a service, and of services without a label of their own.
    pub other: Arc<Usage>,
    registry: Registry,
}

/// Metrics of the source.
#[derive(Clone, Debug)]
pub struct ConsulMetrics {
    /// Services that are watched.
    pub watches: IntGauge,
    /// Watches, those of lists included, whose last round brought nothing.
    pub watches_failing: IntGauge,
    /// Requests being made, blocking ones included.
    pub requests_in_flight: IntGauge,
    /// Services in memory that were fetched on demand.
    pub on_demand: IntGauge,
    /// What they take, in bytes.
    pub on_demand_bytes: IntGauge,
    /// Such services dropped to stay within the bound.
    pub evictions: IntCounter,
    /// Watches that make room for services which are asked for.
    pub relieved: IntCounter,
    /// Fetches that nobody waits for.
    pub refreshes: IntCounter,
    /// Services that were due for one and had none within the second.
    pub refreshes_deferred: IntCounter,
    /// Questions for names in no list that were not put to Consul.
    pub unlisted_refused: IntCounter,
    /// A change arrives from Consul, and the answers show it.
    pub propagation: Histogram,
    /// Snapshots published.
    pub publications: IntCounter,
    failures: IntCounterVec,
    latency: HistogramVec,
    /// Whose series of `latency` there may be: the services with counts of their own.
    labels: Labels,
}

/// Tells whether a service has series of its own.
#[derive(Clone, Debug)]
struct Labels(Arc<Store>);

/// How instances came from Consul.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// A query that does not block: from the request to the published answer.
    Fetch,
    /// A blocking query that returned: from its reply to the published answer.
    Watch,
}

impl Metrics {
    /// Makes and registers every metric. `lanes` is the number of workers that count queries; ages are
    /// taken by `clock`.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(
        store: &Arc<Store>,
        clock: Clock,
        lanes: usize,
        health_series_max: usize,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let dns = Arc::new(DnsMetrics::register(&registry, lanes)?);
        let other = Arc::new(Usage::new(lanes, false));
        let consul = ConsulMetrics::register(&registry, store)?;
        let admin = AdminMetrics::register(&registry)?;
        let check = CheckMetrics::register(&registry)?;
        let cost = CostMetrics::register(&registry)?;
        let forward = ForwardMetrics::register(&registry)?;
        let guard = GuardMetrics::register(&registry)?;
        let reload = ReloadMetrics::register(&registry, clock)?;
        let snapshot = SnapshotMetrics::register(&registry, clock)?;
        let tap = TapMetrics::register(&registry)?;
        registry.register(Box::new(catalog::CatalogCollector::new(
            Arc::clone(store),
            Arc::clone(&other),
            health_series_max,
        )?))?;
        let info = IntGaugeVec::new(
            Opts::new("fingerpost_build_info", "Always 1; the labels say what is running."),
            &["version", "revision"],
        )?;
        info.with_label_values(&[build::VERSION, build::REVISION]).set(1);
        registry.register(Box::new(info))?;
        // What the process takes, as the libraries of Prometheus name it.
        registry.register(Box::new(process::ProcessCollector::new(clock)?))?;
        Ok(Self {
            admin,
            dns,
            consul,
            check,
            cost,
            forward,
            guard,
            reload,
            snapshot,
            tap,
            other,
            registry,
        })
    }

    /// All metrics in Prometheus' text format; with `names`, those only.
    ///
    /// # Errors
    ///
    /// Fails on a metric that the format does not allow, which is a bug in this folder.
    pub fn encode(&self, names: &BTreeSet<String>) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.retain(|family| names.is_empty() || names.contains(family.name()));
        TextEncoder::new().encode_to_string(&families)
    }

    /// All families, for the test that lints them.
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

impl ConsulMetrics {
    fn register(registry: &Registry, store: &Arc<Store>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            watches: gauge(
                registry,
                "watches",
                "Services watched, each by a blocking query of its own.",
            )?,
            watches_failing: gauge(
                registry,
                "watches_failing",
                "Watches of services and of lists whose last query brought nothing.",
            )?,
            requests_in_flight: gauge(
                registry,
                "requests_in_flight",
                "Requests to Consul being made, blocking ones included.",
            )?,
            on_demand: gauge(
                registry,
                "on_demand_services",
                "Services in memory that were fetched on demand.",
            )?,
            on_demand_bytes: gauge(
                registry,
                "on_demand_bytes",
                "What services take in memory that were fetched on demand, roughly.",
            )?,
            evictions: counter(
                registry,
                "fingerpost_consul_on_demand_evictions_total",
                "Services fetched on demand that were dropped to stay within the bound.",
            )?,
            relieved: counter(
                registry,
                "fingerpost_consul_watches_relieved_total",
                "Watches that nobody has asked for and that make room for others.",
            )?,
            refreshes: counter(
                registry,
                "fingerpost_consul_refreshes_total",
                "Fetches behind the answers, of what is asked for and in memory.",
            )?,
            refreshes_deferred: counter(
                registry,
                "fingerpost_consul_refreshes_deferred_total",
                "Services that were due for a fetch behind the answers and had none in a second.",
            )?,
            unlisted_refused: counter(
                registry,
                "fingerpost_consul_unlisted_refused_total",
                "Questions for names in no list that were not put to Consul: too many came.",
            )?,
            propagation: propagation(registry)?,
            publications: counter(
                registry,
                "fingerpost_catalog_publications_total",
                "Snapshots of the catalogue that were published.",
            )?,
            failures: failures(registry)?,
            latency: latency(registry)?,
            labels: Labels(Arc::clone(store)),
        })
    }

    /// Counts a request that failed; `kind` is one of the source's own words.
    pub fn count_failure(&self, kind: &str) {
        self.failures.with_label_values(&[kind]).inc();
    }

    /// Records how long the instances of `service` took.
    pub fn observe(&self, service: &str, operation: Operation, took: Duration) {
        let label = if self.labels.has_own(service) { service } else { OTHER };
        self.latency.with_label_values(&[label, operation.as_str()]).observe(took.as_secs_f64());
    }

    /// Drops the series of a service that is gone.
    pub fn forget(&self, service: &str) {
        for operation in [Operation::Fetch, Operation::Watch] {
            // It has none where it was never fetched that way.
            self.latency.remove_label_values(&[service, operation.as_str()]).ok();
        }
    }
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Watch => "watch",
        }
    }
}

impl Labels {
    fn has_own(&self, service: &str) -> bool {
        let key = service.to_ascii_lowercase();
        self.0.snapshot.load().datacenters().any(|datacenter| {
            matches!(
                datacenter.service(key.as_bytes()),
                crate::catalog::Found::Here(service) if service.usage.is_own()
            )
        })
    }
}

fn failures(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let opts = Opts::new(
        "fingerpost_consul_failures_total",
        "Requests to Consul that brought nothing, by what went wrong.",
    );
    let failures = add(registry, IntCounterVec::new(opts, &["kind"])?)?;
    for kind in FAILURE_KINDS {
        failures.with_label_values(&[kind]);
    }
    Ok(failures)
}

fn latency(registry: &Registry) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(
        "fingerpost_discovery_latency_seconds",
        "How long a service's instances took from Consul to the answers.",
    );
    let opts = opts.buckets(LATENCY_BUCKETS.to_vec());
    add(registry, HistogramVec::new(opts, &["service", "operation"])?)
}

fn propagation(registry: &Registry) -> Result<Histogram, prometheus::Error> {
    add(
        registry,
        Histogram::with_opts(
            HistogramOpts::new(
                "fingerpost_propagation_seconds",
                "From a change's arrival from Consul until the answers show it.",
            )
            .buckets(LATENCY_BUCKETS.to_vec()),
        )?,
    )
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    add(registry, IntCounter::new(name, help)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    add(registry, IntGauge::new(format!("fingerpost_consul_{name}"), help)?)
}

fn add<M: Clone + Collector + 'static>(
    registry: &Registry,
    metric: M,
) -> Result<M, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// The label of services that have none of their own.
pub const OTHER: &str = "other";

/// From a tenth of a millisecond to ten seconds.
const LATENCY_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 2.5, 10.0];

/// The kinds of failure a source reports, so that their series exist from the start.
const FAILURE_KINDS: [&str; 10] = [
    "body",
    "connect",
    "crowded",
    "cut",
    "exchange",
    "interrupted",
    "no_leader",
    "status",
    "timeout",
    "too_large",
];

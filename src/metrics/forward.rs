//! What is asked of the recursors, and what comes of it.
//!
//! Labels are the recursors of the configuration and words of this file; no name that is asked for
//! becomes one.

use std::net::SocketAddr;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::metrics::add;

/// Metrics of the forwarder.
#[derive(Clone, Debug)]
pub struct ForwardMetrics {
    /// Questions answered from the cache.
    pub hits: IntCounter,
    /// Questions that had to be asked.
    pub misses: IntCounter,
    /// Questions that waited for the answer to another's.
    pub merged: IntCounter,
    /// Bytes of the answers that are kept, as the bound counts them.
    pub cache_bytes: IntGauge,
    /// Answers dropped to stay within the bound.
    pub evictions: IntCounter,
    /// Questions to recursors under way.
    pub in_flight: IntGauge,
    /// Questions that no recursor answered.
    pub unanswered: IntCounter,
    /// Questions that were not asked, since enough others are.
    pub refused: IntCounter,
    responses: IntCounterVec,
    failures: IntCounterVec,
    durations: HistogramVec,
}

/// The metrics of one recursor.
#[derive(Clone, Debug)]
pub struct RecursorMetrics {
    /// From a question to its answer, or to giving up.
    pub duration: Histogram,
    responses: IntCounterVec,
    failures: IntCounterVec,
    name: String,
}

impl ForwardMetrics {
    /// Makes and registers the metrics.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            add(registry, IntCounter::new(format!("fingerpost_forward_{name}_total"), help)?)
        };
        let gauge = |name: &str, help: &str| {
            add(registry, IntGauge::new(format!("fingerpost_forward_{name}"), help)?)
        };
        let by = |name: &str, help: &str, labels: &[&str]| {
            let options = Opts::new(format!("fingerpost_forward_{name}_total"), help);
            add(registry, IntCounterVec::new(options, labels)?)
        };
        Ok(Self {
            hits: counter("cache_hits", "Other names answered from memory.")?,
            misses: counter("cache_misses", "Other names that the recursors were asked for.")?,
            merged: counter("merged", "Other names that waited for the answer to the same.")?,
            cache_bytes: gauge("cache_bytes", "Memory of the answers that are kept.")?,
            evictions: counter("cache_evictions", "Answers dropped to stay within the bound.")?,
            in_flight: gauge("in_flight", "Questions to recursors under way.")?,
            unanswered: counter("unanswered", "Questions that no recursor answered.")?,
            refused: counter("refused", "Questions not asked because too many were waiting.")?,
            responses: by(
                "responses",
                "Replies of the recursors, by response code.",
                &["recursor", "rcode"],
            )?,
            failures: by(
                "failures",
                "Questions that a recursor gave no reply to, by what went wrong.",
                &["recursor", "kind"],
            )?,
            durations: add(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "fingerpost_forward_duration_seconds",
                        "From a question to a recursor until its reply, or until giving up.",
                    )
                    .buckets(BUCKETS.to_vec()),
                    &["recursor"],
                )?,
            )?,
        })
    }

    /// The metrics of the recursor at `address`; its series are there from now on.
    pub fn recursor(&self, address: SocketAddr) -> RecursorMetrics {
        let name = address.to_string();
        for (rcode, _) in RCODES {
            self.responses.with_label_values(&[name.as_str(), rcode]);
        }
        for kind in FAILURE_KINDS {
            self.failures.with_label_values(&[name.as_str(), kind]);
        }
        RecursorMetrics {
            duration: self.durations.with_label_values(&[name.as_str()]),
            responses: self.responses.clone(),
            failures: self.failures.clone(),
            name,
        }
    }
}

impl RecursorMetrics {
    /// Counts a reply.
    pub fn count_reply(&self, rcode: u16) {
        let known = RCODES.iter().find(|(_, value)| *value == rcode);
        let label = known.map_or("other", |(name, _)| *name);
        self.responses.with_label_values(&[self.name.as_str(), label]).inc();
    }

    /// Counts a question without a reply; `kind` is one of the forwarder's own words.
    pub fn count_failure(&self, kind: &str) {
        self.failures.with_label_values(&[self.name.as_str(), kind]).inc();
    }
}

const RCODES: [(&str, u16); 7] = [
    ("NOERROR", 0),
    ("NXDOMAIN", 3),
    ("SERVFAIL", 2),
    ("REFUSED", 5),
    ("FORMERR", 1),
    ("NOTIMP", 4),
    ("other", u16::MAX),
];

/// The kinds of failure, so that their series exist from the start.
const FAILURE_KINDS: [&str; 3] = ["garbage", "network", "timeout"];

/// From a half millisecond to ten seconds.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

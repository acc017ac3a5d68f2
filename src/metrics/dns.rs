//! Counts of queries and replies, kept by each worker for itself and summed at scrape.
//!
//! A worker's [`Tally`] touches only atomics of its own lane, so counting costs the same with one
//! worker and with many.
//!
//! **Hot.** [`Tally::count`] is two or three relaxed additions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};
use prometheus::{IntCounter, IntGauge, Registry};

use crate::answer::{CookieCheck, Outcome, Replied, Transport, Want};
use crate::catalog::{CacheResult, Usage};
use crate::metrics::add;
use crate::metrics::connections::ConnectionMetrics;
use crate::metrics::family::{empty, family, label};

/// Metrics of the listeners.
#[derive(Debug)]
pub struct DnsMetrics {
    lanes: Arc<[Lane]>,
    /// Queries whose answer panicked.
    pub panics: IntCounter,
    /// Queries waiting for Consul or a recursor.
    pub waiting: IntGauge,
    /// Queries that were not let wait, since enough others do.
    pub waiting_refused: IntCounter,
    /// Queries that waited in vain.
    pub waiting_expired: IntCounter,
    /// Connections.
    pub connections: ConnectionMetrics,
    /// Times that a changed certificate was read.
    pub certificate_loads: IntCounter,
    /// Times that it could not be.
    pub certificate_failures: IntCounter,
    /// Replies that could not be sent.
    pub send_failures: IntCounter,
}

/// One worker's counts.
#[derive(Clone, Debug)]
pub struct Tally {
    lanes: Arc<[Lane]>,
    lane: usize,
    other: Arc<Usage>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Lane {
    requests: [[AtomicU64; TYPES.len()]; PROTOCOLS.len()],
    responses: [AtomicU64; RCODES.len()],
    cookies: [AtomicU64; COOKIES.len()],
    truncated: AtomicU64,
    ignored: AtomicU64,
    durations: [AtomicU64; BOUNDS_NANOS.len() + 1],
    duration_nanos: AtomicU64,
}

impl DnsMetrics {
    /// Makes and registers the metrics, for `lanes` workers.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry, lanes: usize) -> Result<Self, prometheus::Error> {
        let lanes: Arc<[Lane]> = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        registry.register(Box::new(LaneCollector::new(Arc::clone(&lanes))?))?;
        let counter = |name: &str, help: &str| {
            add(registry, IntCounter::new(format!("fingerpost_dns_{name}_total"), help)?)
        };
        let gauge = |name: &str, help: &str| {
            add(registry, IntGauge::new(format!("fingerpost_dns_{name}"), help)?)
        };
        Ok(Self {
            lanes,
            panics: counter("panics", "Queries whose answer panicked; they got SERVFAIL.")?,
            waiting: gauge(
                "waiting",
                "Queries waiting for something to come from Consul or a recursor.",
            )?,
            waiting_refused: counter(
                "waiting_refused",
                "Queries that got SERVFAIL because too many were waiting.",
            )?,
            waiting_expired: counter("waiting_expired", "Queries that waited in vain.")?,
            connections: ConnectionMetrics::register(registry)?,
            certificate_loads: counter(
                "certificate_loads",
                "Times that a changed certificate was read.",
            )?,
            certificate_failures: counter(
                "certificate_failures",
                "Times that a changed certificate could not be read; the last one is kept.",
            )?,
            send_failures: counter("send_failures", "Replies that could not be sent.")?,
        })
    }

    /// The counts of worker `lane`.
    pub fn tally(&self, lane: usize, other: &Arc<Usage>) -> Tally {
        Tally { lanes: Arc::clone(&self.lanes), lane, other: Arc::clone(other) }
    }
}

impl Tally {
    /// Counts one query and what became of it.
    ///
    /// A question that wants something counts as a miss now, and as a query when it is answered.
    /// The service that it was about is asked for at `now_ms` of the program's clock.
    pub fn count(&self, transport: Transport, outcome: &Outcome<'_>, now_ms: u64) {
        match outcome {
            Outcome::Replied(replied) => {
                if let Some((_, Some(usage))) = replied.cache {
                    usage.mark(now_ms);
                }
                self.count_reply(transport, replied);
            }
            // It was answered before it comes here.
            Outcome::Why { .. } => (),
            Outcome::Silence => {
                if let Some(lane) = self.lanes.get(self.lane) {
                    lane.ignored.fetch_add(1, Ordering::Relaxed);
                }
            }
            Outcome::Wants(want) => {
                let usage = match want {
                    Want::Datacenter { .. } | Want::Unlisted { .. } => &*self.other,
                    // What the catalogue never has is no miss of its.
                    Want::Foreign | Want::Host { .. } => return,
                    Want::Service { usage, .. } => usage,
                };
                usage.count(self.lane, CacheResult::Miss);
            }
        }
    }

    /// Counts that `replies` took as long as that, each.
    pub fn time(&self, replies: u64, took: Duration) {
        let Some(lane) = self.lanes.get(self.lane) else { return };
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.iter().position(|bound| nanos <= *bound);
        if let Some(count) = lane.durations.get(bucket.unwrap_or(BOUNDS_NANOS.len())) {
            count.fetch_add(replies, Ordering::Relaxed);
            lane.duration_nanos.fetch_add(nanos.saturating_mul(replies), Ordering::Relaxed);
        }
    }

    fn count_reply(&self, transport: Transport, replied: &Replied<'_>) {
        if let Some((result, usage)) = replied.cache {
            usage.unwrap_or(&self.other).count(self.lane, result);
        }
        let Some(lane) = self.lanes.get(self.lane) else { return };
        let add = |counter: Option<&AtomicU64>| {
            counter.map(|counter| counter.fetch_add(1, Ordering::Relaxed));
        };
        add(lane
            .requests
            .get(transport as usize)
            .and_then(|row| row.get(type_slot(replied.qtype))));
        add(lane.responses.get(rcode_slot(replied.rcode)));
        if replied.truncated {
            add(Some(&lane.truncated));
        }
        if let Some(slot) = COOKIES.iter().position(|(_, check)| *check == replied.cookie) {
            add(lane.cookies.get(slot));
        }
    }
}

/// Sums the lanes when a scrape comes.
#[derive(Debug)]
struct LaneCollector {
    lanes: Arc<[Lane]>,
    descriptions: Vec<Desc>,
}

impl LaneCollector {
    fn new(lanes: Arc<[Lane]>) -> Result<Self, prometheus::Error> {
        let describe = |(name, help, labels): (&str, &str, &[&str])| {
            let labels = labels.iter().map(|name| (*name).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
        };
        let families = [REQUESTS, RESPONSES, COOKIE_CHECKS, TRUNCATED, IGNORED, DURATION];
        let descriptions = families.into_iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { lanes, descriptions })
    }

    fn sum<'l>(&'l self, counter: impl Fn(&'l Lane) -> Option<&'l AtomicU64>) -> f64 {
        let counters = self.lanes.iter().filter_map(counter);
        counters.map(|counter| counter.load(Ordering::Relaxed)).sum::<u64>() as f64
    }

    fn duration(&self) -> MetricFamily {
        let mut histogram = Histogram::default();
        let mut cumulative = 0;
        let mut buckets = Vec::new();
        for (at, bound) in BOUNDS_NANOS.into_iter().enumerate() {
            cumulative += self.sum(|lane| lane.durations.get(at)) as u64;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound as f64 / 1e9);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        cumulative += self.sum(|lane| lane.durations.get(BOUNDS_NANOS.len())) as u64;
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative);
        histogram.set_sample_sum(self.sum(|lane| Some(&lane.duration_nanos)) / 1e9);
        let mut metric = Metric::from_label(Vec::new());
        metric.set_histogram(histogram);
        let mut family = empty(DURATION.0, DURATION.1, MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        family
    }
}

impl Collector for LaneCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let requests = PROTOCOLS.iter().enumerate().flat_map(|(row, protocol)| {
            TYPES.iter().enumerate().map(move |(slot, (name, _))| {
                let total = self.sum(|lane| lane.requests.get(row)?.get(slot));
                (vec![label("protocol", protocol), label("type", name)], total)
            })
        });
        let responses = RCODES.iter().enumerate().map(|(slot, (name, _))| {
            (vec![label("rcode", name)], self.sum(|lane| lane.responses.get(slot)))
        });
        let cookies = COOKIES.iter().enumerate().map(|(slot, (name, _))| {
            (vec![label("result", name)], self.sum(|lane| lane.cookies.get(slot)))
        });
        let single = |counter: fn(&Lane) -> Option<&AtomicU64>| [(Vec::new(), self.sum(counter))];
        let counter = MetricType::COUNTER;
        vec![
            family(REQUESTS.0, REQUESTS.1, counter, requests),
            family(RESPONSES.0, RESPONSES.1, counter, responses),
            family(COOKIE_CHECKS.0, COOKIE_CHECKS.1, counter, cookies),
            family(TRUNCATED.0, TRUNCATED.1, counter, single(|lane| Some(&lane.truncated))),
            family(IGNORED.0, IGNORED.1, counter, single(|lane| Some(&lane.ignored))),
            self.duration(),
        ]
    }
}

fn type_slot(qtype: Option<u16>) -> usize {
    let Some(qtype) = qtype else { return TYPES.len() - 1 };
    TYPES.iter().position(|(_, number)| *number == qtype).unwrap_or(TYPES.len() - 2)
}

fn rcode_slot(rcode: u16) -> usize {
    RCODES.iter().position(|(_, number)| *number == rcode).unwrap_or(RCODES.len() - 1)
}

type Family = (&'static str, &'static str, &'static [&'static str]);

const REQUESTS: Family = (
    "fingerpost_dns_requests_total",
    "Queries answered, by protocol and type.",
    &["protocol", "type"],
);
const RESPONSES: Family =
    ("fingerpost_dns_responses_total", "Replies made, by response code.", &["rcode"]);
const COOKIE_CHECKS: Family =
    ("fingerpost_dns_cookies_total", "Queries with a cookie, by what it was worth.", &["result"]);
const TRUNCATED: Family =
    ("fingerpost_dns_truncated_total", "Replies cut by size, with TC set.", &[]);
const IGNORED: Family =
    ("fingerpost_dns_ignored_total", "Messages not answered: too short, or no query.", &[]);
const DURATION: Family = (
    "fingerpost_dns_request_duration_seconds",
    "From a query's arrival to its reply, waiting for others included.",
    &[],
);

/// One for each [`Transport`], in its order.
const PROTOCOLS: [&str; 6] = ["https", "https3", "quic", "tcp", "tls", "udp"];

/// The last two: any other type, and no question that could be read. 0 is a reserved type.
const TYPES: [(&str, u16); 16] = [
    ("A", 1),
    ("AAAA", 28),
    ("SRV", 33),
    ("ANY", 255),
    ("NS", 2),
    ("SOA", 6),
    ("PTR", 12),
    ("TXT", 16),
    ("CNAME", 5),
    ("MX", 15),
    ("DS", 43),
    ("DNSKEY", 48),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("other", 0),
    ("none", 0),
];

const RCODES: [(&str, u16); 8] = [
    ("NOERROR", 0),
    ("NXDOMAIN", 3),
    ("SERVFAIL", 2),
    ("REFUSED", 5),
    ("FORMERR", 1),
    ("NOTIMP", 4),
    ("BADVERS", 16),
    ("other", u16::MAX),
];

/// Queries without one are not counted.
const COOKIES: [(&str, CookieCheck); 3] =
    [("alone", CookieCheck::Alone), ("valid", CookieCheck::Valid), ("wrong", CookieCheck::Wrong)];

/// From five microseconds to two and a half seconds.
const BOUNDS_NANOS: [u64; 12] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    25_000_000,
    100_000_000,
    500_000_000,
    2_500_000_000,
];

//! Counts of connections, by how they carry DNS and by what ended them.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::answer::Transport;
use crate::metrics::add;

/// Metrics of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    open: [IntGauge; CONNECTED.len()],
    ended: [[IntCounter; ENDS.len()]; CONNECTED.len()],
    refused: [[IntCounter; STATUSES.len()]; HTTP.len()],
    /// Times a query had to wait, since enough others of its connection were being answered.
    pub pipeline_full: IntCounter,
}

/// What ended a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// It made room for another.
    Crowded,
    /// It failed: the client reset it, or sent what is none of the protocol.
    Failed,
    /// The client closed it.
    Finished,
    /// Its handshake failed, or took too long.
    Handshake,
    /// No query came for too long.
    Idle,
    /// A query took too long from its first byte to its last.
    Message,
    /// It had its share of queries.
    Queries,
    /// There was no room for it.
    Refused,
    /// We stop.
    Stopped,
    /// The client did not read its replies.
    Unread,
}

impl ConnectionMetrics {
    /// Makes and registers the metrics.
    ///
    /// # Errors
    ///
    /// Fails when a name is taken, which is a bug in this folder.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let open = Opts::new("fingerpost_dns_connections", "Connections that are open.");
        let open = add(registry, IntGaugeVec::new(open, &["protocol"])?)?;
        let ended = Opts::new(
            "fingerpost_dns_connections_ended_total",
            "Connections that ended, by what ended them.",
        );
        let ended = add(registry, IntCounterVec::new(ended, &["protocol", "reason"])?)?;
        let refused = Opts::new(
            "fingerpost_dns_http_refused_total",
            "Requests over HTTPS without a query that could be answered, by the status they got.",
        );
        let refused = add(registry, IntCounterVec::new(refused, &["protocol", "status"])?)?;
        let full = IntCounter::new(
            "fingerpost_dns_pipeline_full_total",
            "Times a query had to wait because too many others of its connection were open.",
        )?;
        Ok(Self {
            open: CONNECTED.map(|protocol| open.with_label_values(&[protocol])),
            ended: CONNECTED
                .map(|protocol| ENDS.map(|end| ended.with_label_values(&[protocol, end]))),
            refused: HTTP.map(|protocol| {
                STATUSES.map(|status| refused.with_label_values(&[protocol, &status.to_string()]))
            }),
            pipeline_full: add(registry, full)?,
        })
    }

    /// Connections that carry DNS by `transport` and are open. `None` where there are none.
    pub fn open(&self, transport: Transport) -> Option<&IntGauge> {
        self.open.get(transport as usize)
    }

    /// Counts a connection that has ended, or that was not let in.
    pub fn count_end(&self, transport: Transport, end: End) {
        let counter = self.ended.get(transport as usize).and_then(|row| row.get(end as usize));
        counter.map(IntCounter::inc);
    }

    /// Counts a request that was answered with `status` and without DNS.
    pub fn count_refused(&self, transport: Transport, status: u16) {
        let row = self.refused.get(transport as usize);
        let at = STATUSES.iter().position(|known| *known == status);
        let counter = row.zip(at).and_then(|(row, at)| row.get(at));
        counter.map(IntCounter::inc);
    }
}

/// One for each [`Transport`] that has connections, in its order.
const CONNECTED: [&str; 5] = ["https", "https3", "quic", "tcp", "tls"];

/// Those that are HTTP, which come first.
const HTTP: [&str; 2] = ["https", "https3"];

/// What a request may get instead of DNS.
const STATUSES: [u16; 6] = [400, 404, 405, 408, 413, 415];

/// One for each [`End`], in its order.
const ENDS: [&str; 10] = [
    "crowded",
    "failed",
    "finished",
    "handshake",
    "idle",
    "message",
    "queries",
    "refused",
    "stopped",
    "unread",
];

//! Where queries are told of, beside the metrics: to the query log, and to dnstap.
//!
//! The listeners hold a [`Tap`]. While nobody is to be told, which is the default, a query costs one load
//! and one branch, always taken the same way. Otherwise what is to be told is copied into the
//! [`Queue`] of who tells it; who is slow loses records, and no answer waits.
//!
//! **Hot.** No lock, and no allocation once the buffers have grown.

pub mod queue;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::answer::{Replied, Transport};
use crate::catalog::CacheResult;
use crate::config::{DnstapConfig, LogConfig, Queries};
use crate::metrics::TapMetrics;
use crate::wire::rcode;

pub use queue::{Queue, Record};

/// What the listeners tell.
#[derive(Debug)]
pub struct Tap {
    /// Whether anybody is told.
    is_open: AtomicBool,
    which: AtomicU8,
    sample: AtomicUsize,
    per_second: AtomicI64,
    /// Lines that this second has left; a reader who finds none takes none.
    left: AtomicI64,
    log: Queue,
    dnstap: Option<Arc<Queue>>,
    metrics: TapMetrics,
    /// Who tells the log's lines is woken when these are wanted.
    opened: Notify,
}

/// A query that was answered, and how.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'e> {
    /// As it came.
    pub query: &'e [u8],
    /// As it goes.
    pub reply: &'e [u8],
    /// What was decided.
    pub replied: &'e Replied<'e>,
    /// How both travel.
    pub transport: Transport,
    /// Who asks: address and port.
    pub client: (IpAddr, u16),
    /// Who is asked; the address where that is known.
    pub local: (Option<IpAddr>, u16),
    /// When the query came.
    pub since: Instant,
    /// Whether something had to be had first.
    pub has_waited: bool,
}

impl Tap {
    /// Tells as `log` says, and dnstap where there is a collector.
    pub fn new(log: &LogConfig, dnstap: &DnstapConfig, metrics: TapMetrics) -> Self {
        let has_collector = dnstap.socket.is_some() || dnstap.address.is_some();
        let queue = || Arc::new(Queue::new(dnstap.queue / FRAMES));
        let tap = Self {
            is_open: AtomicBool::new(false),
            which: AtomicU8::new(0),
            sample: AtomicUsize::new(1),
            per_second: AtomicI64::new(0),
            left: AtomicI64::new(0),
            log: Queue::new(LOG_RECORDS_MAX),
            dnstap: has_collector.then(queue),
            metrics,
            opened: Notify::new(),
        };
        tap.set_log(log);
        tap
    }

    /// Logs from now on what `config` says.
    pub fn set_log(&self, config: &LogConfig) {
        self.sample.store(config.queries_sample.max(1), Ordering::Relaxed);
        let per_second = i64::try_from(config.queries_per_second).unwrap_or(i64::MAX);
        if self.per_second.swap(per_second, Ordering::Relaxed) != per_second {
            self.refill();
        }
        self.which.store(config.queries as u8, Ordering::Relaxed);
        let is_open = config.queries != Queries::Off || self.dnstap.is_some();
        self.is_open.store(is_open, Ordering::Relaxed);
        self.opened.notify_one();
    }

    /// Whether anybody is told.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Whether some queries are to have a line.
    pub fn is_logging(&self) -> bool {
        self.which.load(Ordering::Relaxed) != Queries::Off as u8
    }

    /// Tells of `exchange` whoever is to be told.
    #[cold]
    pub fn tell(&self, exchange: &Exchange<'_>) {
        if self.is_due(exchange.replied.rcode, fastrand::usize(..)) {
            // A question, and what is before it.
            let query = exchange.query.get(..QUESTION_END_MAX).unwrap_or(exchange.query);
            if !self.may_log() || !self.log.put(|record| copy(exchange, query, &[], record)) {
                self.metrics.log_left_out.inc();
            }
        }
        if let Some(queue) = &self.dnstap
            && !queue.put(|record| copy(exchange, exchange.query, exchange.reply, record))
        {
            self.metrics.frames_dropped.inc_by(FRAMES as u64);
        }
    }

    /// The lines that are due.
    pub fn log(&self) -> &Queue {
        &self.log
    }

    /// What the collector is to be sent, if there is one.
    pub fn dnstap(&self) -> Option<Arc<Queue>> {
        self.dnstap.clone()
    }

    /// Lets another second's lines pass.
    pub fn refill(&self) {
        self.left.store(self.per_second.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Waits until what is logged is told anew.
    pub async fn opened(&self) {
        self.opened.notified().await;
    }

    /// Whether a reply with this `rcode` is to have a line; `draw` is any number.
    fn is_due(&self, rcode: u16, draw: usize) -> bool {
        let which = self.which.load(Ordering::Relaxed);
        if which == Queries::Errors as u8 {
            return !matches!(rcode, rcode::NOERROR | rcode::NXDOMAIN);
        }
        let is_drawn = || draw.is_multiple_of(self.sample.load(Ordering::Relaxed));
        which == Queries::All as u8 || which == Queries::Sampled as u8 && is_drawn()
    }

    /// Takes one of this second's lines. Once there is none nothing is written, so that threads do
    /// not take the number from each other.
    fn may_log(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0 && self.left.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

fn copy(exchange: &Exchange<'_>, query: &[u8], reply: &[u8], record: &mut Record) {
    record.query.clear();
    record.query.extend_from_slice(query);
    record.reply.clear();
    record.reply.extend_from_slice(reply);
    record.reply_bytes = exchange.reply.len();
    record.transport = exchange.transport;
    record.client = exchange.client;
    record.local = exchange.local;
    record.since = exchange.since;
    record.took = exchange.since.elapsed();
    record.rcode = exchange.replied.rcode;
    record.is_truncated = exchange.replied.truncated;
    record.is_stale = matches!(exchange.replied.cache, Some((CacheResult::Stale, _)));
    record.has_waited = exchange.has_waited;
}

/// Of a query: one of what was asked, one of what was answered.
pub const FRAMES: usize = 2;

/// Lines that may wait: what the UDP threads can bring between two looks at them.
const LOG_RECORDS_MAX: usize = 4096;

/// A header, the longest name, type and class.
const QUESTION_END_MAX: usize = 12 + 255 + 4;

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::answer::CookieCheck;

    fn tap(queries: Queries, sample: usize, per_second: usize, dnstap: &DnstapConfig) -> Tap {
        let log = LogConfig {
            queries,
            queries_sample: sample,
            queries_per_second: per_second,
            ..LogConfig::default()
        };
        Tap::new(&log, dnstap, TapMetrics::register(&Registry::new()).unwrap())
    }

    const REPLIED: Replied<'_> = Replied {
        rcode: 0,
        qtype: None,
        truncated: false,
        cache: None,
        cookie: CookieCheck::Absent,
    };

    fn exchange<'e>(replied: &'e Replied<'e>) -> Exchange<'e> {
        Exchange {
            query: b"query",
            reply: b"reply",
            replied,
            transport: Transport::Udp,
            client: ([127, 0, 0, 1].into(), 1),
            local: (None, 2),
            since: Instant::now(),
            has_waited: false,
        }
    }

    fn tell(tap: &Tap, rcode: u16) {
        tap.tell(&exchange(&Replied { rcode, ..REPLIED }));
    }

    #[test]
    fn an_answer_that_may_be_old_is_told_so() {
        for (cache, expected) in [
            (None, false),
            (Some((CacheResult::Hit, None)), false),
            (Some((CacheResult::Stale, None)), true),
        ] {
            let tap = tap(Queries::All, 1, 1, &DnstapConfig::default());
            let replied = Replied { cache, ..REPLIED };
            tap.tell(&Exchange { replied: &replied, ..exchange(&REPLIED) });
            assert_eq!(tap.log.take().unwrap().is_stale, expected, "{cache:?}");
        }
    }

    /// How many wait.
    fn waiting(queue: &Queue) -> usize {
        std::iter::from_fn(|| queue.take()).count()
    }

    #[test]
    fn what_is_due_a_line() {
        for (queries, expected) in [
            (Queries::Off, &[][..]),
            (Queries::Errors, &[1, 2, 4, 5, 9, 16, 23]),
            (Queries::All, &[0, 1, 2, 3, 4, 5, 9, 16, 23]),
        ] {
            let tap = tap(queries, 1, 1000, &DnstapConfig::default());
            let rcodes = [0, 1, 2, 3, 4, 5, 9, 16, 23].into_iter();
            let due: Vec<u16> = rcodes.filter(|rcode| tap.is_due(*rcode, 7)).collect();
            assert_eq!(due, expected, "{queries:?}");
            assert_eq!(tap.is_open(), queries != Queries::Off);
        }
    }

    #[test]
    fn one_of_so_many_is_due() {
        let tap = tap(Queries::Sampled, 100, 1000, &DnstapConfig::default());
        let due: Vec<usize> = (0..300).filter(|draw| tap.is_due(0, *draw)).collect();
        assert_eq!(due, [0, 100, 200]);
    }

    #[test]
    fn a_second_has_so_many_lines_and_the_rest_is_counted() {
        let tap = tap(Queries::All, 1, 3, &DnstapConfig::default());
        let counts = |tap: &Tap| (waiting(&tap.log), tap.metrics.log_left_out.get());
        (0..5).for_each(|_| tell(&tap, 0));
        assert_eq!(counts(&tap), (3, 2));
        tap.refill();
        (0..4).for_each(|_| tell(&tap, 0));
        assert_eq!(counts(&tap), (3, 3));
    }

    #[test]
    fn a_collector_that_is_slow_loses_frames_and_the_log_none() {
        let dnstap = DnstapConfig { socket: Some("s".into()), queue: 4, ..DnstapConfig::default() };
        let tap = tap(Queries::Off, 1, 3, &dnstap);
        assert!(tap.is_open() && !tap.is_logging());
        (0..5).for_each(|_| tell(&tap, 0));
        assert_eq!(tap.metrics.frames_dropped.get(), 6);
        assert_eq!(waiting(&tap.dnstap().unwrap()), 2);
        assert_eq!((waiting(&tap.log), tap.metrics.log_left_out.get()), (0, 0));
    }

    #[test]
    fn what_is_logged_can_be_changed() {
        let tap = tap(Queries::Off, 1, 3, &DnstapConfig::default());
        assert!(!tap.is_open());
        tap.set_log(&LogConfig { queries: Queries::All, ..LogConfig::default() });
        assert!(tap.is_open() && tap.is_logging());
        tell(&tap, 3);
        assert_eq!(waiting(&tap.log), 1);
    }
}

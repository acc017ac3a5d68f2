//! What the streams of one QUIC connection share: its answers, its use, and its bounds.
//!
//! Each query has a stream of its own and they run side by side, so what one connection may take
//! is counted here for all of them:
//!
//! ```text
//!   what came of queries that are not answered     RECEIVED_BYTES_MAX, and QUIC's own window
//!   replies that did not arrive                    `send_bytes_max`, and one more
//! ```
//! That is a few hundred KiB at the worst, and a reply for each query that had to wait. One that is
//! idle holds what QUIC and TLS need of it, some 40 KiB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::answer::Draft;
use crate::config::ConnectionsConfig;
use crate::dns::front::{Begun, Front};
use crate::dns::peer::Peer;
use crate::dns::places::Place;
use crate::metrics::{End, Tally};

/// One connection, as its streams see it.
#[derive(Debug)]
pub struct Streams<'c> {
    /// What they answer from.
    pub front: &'c Front,
    /// Bounds on the connection.
    pub limits: ConnectionsConfig,
    /// Where the connection is known.
    pub place: &'c Place,
    /// Told when nothing more is read.
    pub closing: CancellationToken,
    tally: &'c Tally,
    peer: Peer,
    /// Queries that wait for what is not in memory.
    waiting: AtomicUsize,
    queries: AtomicUsize,
    dropped: AtomicUsize,
    was_full: AtomicBool,
    /// When the last query came, by the program's clock.
    used_ms: AtomicU64,
    received_bytes: Arc<AtomicUsize>,
    unsent_bytes: AtomicUsize,
    /// Told when a reply has arrived.
    sent: Notify,
}

/// What is wrong with a stream, and so with its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The client does not keep to the protocol.
    Broken,
    /// Unfinished queries hold too much, or too many were given up.
    Excess,
    /// The connection is no more; it knows why.
    Lost,
    /// The query did not come whole in time.
    Slow,
    /// The client did not take its reply.
    Unread,
}

impl Fault {
    /// What to count the connection's end as, which it is.
    pub fn end(self) -> End {
        match self {
            Self::Broken | Self::Excess | Self::Lost => End::Failed,
            Self::Slow => End::Message,
            Self::Unread => End::Unread,
        }
    }
}

/// Bytes of a query that count until it is answered.
#[derive(Debug)]
pub struct Held {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl<'c> Streams<'c> {
    /// Those of a connection that has just begun.
    pub fn new(
        front: &'c Front,
        tally: &'c Tally,
        peer: Peer,
        limits: ConnectionsConfig,
        place: &'c Place,
    ) -> Self {
        Self {
            front,
            limits,
            place,
            closing: CancellationToken::new(),
            tally,
            peer,
            waiting: AtomicUsize::new(0),
            queries: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            was_full: AtomicBool::new(false),
            used_ms: AtomicU64::new(front.clock.now_ms()),
            received_bytes: Arc::default(),
            unsent_bytes: AtomicUsize::new(0),
            sent: Notify::new(),
        }
    }

    /// Nothing of a query yet.
    pub fn hold(&self) -> Held {
        Held::new(self.received())
    }

    /// What is counted of queries that are not answered, in bytes.
    pub fn received(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.received_bytes)
    }

    /// Answers `query`, once enough of the replies before it have arrived.
    pub async fn answer(&self, query: Vec<u8>) -> Draft {
        loop {
            let sent = self.sent.notified();
            if self.unsent_bytes.load(Ordering::Relaxed) < self.limits.send_bytes_max {
                break;
            }
            sent.await;
        }
        let (since, mut draft) = (Instant::now(), Draft::default());
        match self.front.begin(&query, &self.peer, self.tally, since, &mut draft) {
            // What is no query is none of use either.
            Begun::Done if draft.reply.is_empty() => (),
            Begun::Done => self.note_use(),
            Begun::Waits { waiting, now_ms } => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                self.note_use();
                // A task of its own: it is to be counted, also where the client goes meanwhile.
                let (front, tally, peer) = (self.front.clone(), self.tally.clone(), self.peer);
                let answered = self.front.tasks.spawn(async move {
                    front.complete(waiting, &query, &peer, &tally, (since, now_ms)).await
                });
                // A panic has cost this one answer; it was logged.
                draft = answered.await.unwrap_or_default();
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.rest();
            }
        }
        draft
    }

    /// Has `sending` bring `bytes` to the client.
    ///
    /// # Errors
    ///
    /// Fails when that takes too long, which is not as long once the connection is to be closed.
    pub async fn send<T>(
        &self,
        bytes: usize,
        sending: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        self.unsent_bytes.fetch_add(bytes, Ordering::Relaxed);
        let closed = async {
            self.closing.cancelled().await;
            sleep(LINGER).await;
        };
        let sent = tokio::select! {
            biased;
            sent = timeout(self.limits.idle, sending) => sent.map_err(|_| Fault::Unread),
            () = closed => Err(Fault::Lost),
        };
        self.unsent_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.sent.notify_waiters();
        sent.inspect_err(|_| self.front.metrics.dns.send_failures.inc())
    }

    /// Notes a query that the client has given up, or that never was one.
    ///
    /// # Errors
    ///
    /// Fails when it does little else (RFC 9250 §4.3.1).
    pub fn drop_query(&self) -> Result<(), Fault> {
        match self.dropped.fetch_add(1, Ordering::Relaxed) >= DROPPED_MAX {
            true => Err(Fault::Excess),
            false => Ok(()),
        }
    }

    /// Whether no more streams are taken while `open` are. Each time that begins is counted.
    pub fn is_full(&self, open: usize) -> bool {
        let is_full = open >= self.limits.pipeline_max;
        if !self.was_full.swap(is_full, Ordering::Relaxed) && is_full {
            self.front.metrics.dns.connections.pipeline_full.inc();
        }
        is_full
    }

    /// Whether the connection has had its share.
    pub fn is_used_up(&self) -> bool {
        self.queries.load(Ordering::Relaxed) >= self.limits.connection_queries_max
    }

    /// Resolves when nothing has been asked for too long.
    pub async fn idle(&self) {
        while let Some(rest) = self.rest_of_idle() {
            sleep(rest).await;
        }
    }

    /// For how long nothing needs to come yet. `None` where it is idle for too long already.
    fn rest_of_idle(&self) -> Option<Duration> {
        let used_ms = match self.waiting.load(Ordering::Relaxed) {
            0 => self.used_ms.load(Ordering::Relaxed),
            // Nobody is idle who waits for us.
            _ => self.front.clock.now_ms(),
        };
        let idle = Duration::from_millis(self.front.clock.now_ms().saturating_sub(used_ms));
        self.limits.idle.checked_sub(idle).filter(|rest| !rest.is_zero())
    }

    fn note_use(&self) {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.used_ms.store(self.front.clock.now_ms(), Ordering::Relaxed);
        self.rest();
    }

    /// Tells whether others may have the place.
    fn rest(&self) {
        match self.waiting.load(Ordering::Relaxed) {
            0 => self.place.touch(),
            _ => self.place.hold(),
        }
    }
}

impl Held {
    /// Nothing, to be counted in `all`.
    pub fn new(all: Arc<AtomicUsize>) -> Self {
        Self { all, bytes: 0 }
    }

    /// Counts what came.
    ///
    /// # Errors
    ///
    /// Fails when the connection's queries hold too much.
    pub fn add(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes;
        let before = self.all.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > RECEIVED_BYTES_MAX { Err(Fault::Excess) } else { Ok(()) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How long a client may take to hear the last of what we have to say, when we close.
pub const LINGER: Duration = Duration::from_millis(500);

/// Queries of one connection that come to nothing.
const DROPPED_MAX: usize = 10_000;

/// The longest query there can be, and others beside it.
const RECEIVED_BYTES_MAX: usize = 128 * 1024;

//! DNS over TCP and TLS: one connection, its framing and its limits, around the answers.
//!
//! ```text
//!   len16 query  len16 query ...  -->  answered at once, or a task that waits
//!   len16 reply  len16 reply ...  <--  in the order in which they are ready (RFC 7766 §6.2.1.1)
//! ```
//! Each message has two bytes of length before it (RFC 1035 §4.2.2). A client may send many
//! queries before it reads a reply; past a bound it is not read until some are answered. One that
//! sends nothing, nothing whole, or reads nothing for too long is closed.
//!
//! **Invariant:** whatever ends a connection in order, what was read of it is answered first. What
//! it holds of memory is bounded: a query, the replies of `send_bytes_max` and one more.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use crate::answer::Draft;
use crate::config::ConnectionsConfig;
use crate::dns::front::{Begun, Front};
use crate::dns::peer::Peer;
use crate::dns::places::Place;
use crate::metrics::{End, Tally};

/// Serves one connection until something ends it.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    front: &Front,
    tally: &Tally,
    peer: Peer,
    limits: ConnectionsConfig,
    place: &Place,
) -> End {
    let now = Instant::now();
    let mut connection = Connection {
        stream,
        front,
        tally,
        peer,
        limits,
        place,
        received: BytesMut::new(),
        replies: Vec::new(),
        draft: Draft::default(),
        waiting: FuturesUnordered::new(),
        queries: 0,
        used: now,
        begun: None,
    };
    match connection.converse().await {
        Ok(end) => {
            connection.close(end).await;
            end
        }
        Err(end) => end,
    }
}

struct Connection<'c, S> {
    stream: S,
    front: &'c Front,
    tally: &'c Tally,
    peer: Peer,
    limits: ConnectionsConfig,
    place: &'c Place,
    /// Begins with a length at all times.
    received: BytesMut,
    /// Each with its length before it.
    replies: Vec<u8>,
    draft: Draft,
    waiting: FuturesUnordered<JoinHandle<Bytes>>,
    queries: usize,
    /// When the last query came.
    used: Instant,
    /// When the first byte came of a query that is not whole.
    begun: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Reads and answers until something ends it.
    ///
    /// # Errors
    ///
    /// Fails with what ended it where nothing can be said to the client any more.
    async fn converse(&mut self) -> Result<End, End> {
        let mut ending = None;
        let mut was_full = false;
        loop {
            self.answer_whole().await?;
            if self.queries >= self.limits.connection_queries_max {
                ending.get_or_insert(End::Queries);
            }
            let is_full = self.waiting.len() >= self.limits.pipeline_max;
            if is_full && !was_full {
                self.front.metrics.dns.connections.pipeline_full.inc();
            }
            if was_full && !is_full {
                // Nothing was read meanwhile, so what had begun could not become whole.
                self.begun = self.begun.map(|_| Instant::now());
            }
            was_full = is_full;
            if let Some(end) = ending.filter(|_| self.waiting.is_empty()) {
                return Ok(end);
            }
            let (deadline, late) = self.deadline(is_full);
            self.received.reserve(READ_BYTES);
            tokio::select! {
                biased;
                // A panic has cost that one answer; it was logged.
                Some(reply) = self.waiting.next(), if !self.waiting.is_empty() => {
                    push(&mut self.replies, &reply.unwrap_or_default());
                    self.rest();
                }
                read = self.stream.read_buf(&mut self.received), if ending.is_none() && !is_full => {
                    match read {
                        // Half a query at the end costs those before it nothing.
                        Ok(0) => ending = Some(End::Finished),
                        Ok(_) => (),
                        Err(error) => return Err(failed(&error)),
                    }
                }
                () = self.front.cancel.cancelled(), if ending.is_none() => {
                    // What has come by now is answered.
                    self.stream.read_buf(&mut self.received).now_or_never();
                    ending = Some(End::Stopped);
                }
                () = self.place.crowded(), if ending.is_none() => ending = Some(End::Crowded),
                () = sleep_until(deadline), if ending.is_none() => ending = Some(late),
            }
        }
    }

    /// Answers what was received whole, as far as the pipeline takes it, and sends what is ready.
    async fn answer_whole(&mut self) -> Result<(), End> {
        while self.waiting.len() < self.limits.pipeline_max
            && self.queries < self.limits.connection_queries_max
            && let Some(len) = whole_frame(&self.received)
        {
            self.answer(len);
            self.received.advance(len);
            if self.replies.len() >= self.limits.send_bytes_max {
                self.send().await?;
            }
        }
        let is_partial = !self.received.is_empty() && whole_frame(&self.received).is_none();
        self.begun = is_partial.then(|| self.begun.unwrap_or_else(Instant::now));
        // Replies to queries that came together leave together.
        self.send().await?;
        self.shrink();
        Ok(())
    }

    /// Answers the frame of `len` bytes that was received first.
    fn answer(&mut self, len: usize) {
        self.begun = None;
        let query = self.received.get(LENGTH_BYTES..len).unwrap_or_default();
        let since = Instant::now();
        match self.front.begin(query, &self.peer, self.tally, since, &mut self.draft) {
            // What is no query is none of use either.
            Begun::Done if self.draft.reply.is_empty() => (),
            Begun::Done => {
                push(&mut self.replies, &self.draft.reply);
                self.note_use(since);
            }
            Begun::Waits { waiting, now_ms } => {
                // A task of its own: its place among those that wait must not be held while this
                // client does not read.
                let (front, tally, peer) = (self.front.clone(), self.tally.clone(), self.peer);
                let query = query.to_vec();
                let answered = async move {
                    let draft =
                        front.complete(waiting, &query, &peer, &tally, (since, now_ms)).await;
                    draft.reply.into()
                };
                self.waiting.push(self.front.tasks.spawn(answered));
                self.note_use(since);
            }
        }
    }

    fn note_use(&mut self, now: Instant) {
        self.queries += 1;
        self.used = now;
        self.rest();
    }

    /// Tells whether others may have the place.
    fn rest(&self) {
        match self.waiting.is_empty() {
            true => self.place.touch(),
            false => self.place.hold(),
        }
    }

    /// Sends the replies that are ready. A client that does not read them is given up, and at once
    /// where another needs its place.
    async fn send(&mut self) -> Result<(), End> {
        if self.replies.is_empty() {
            return Ok(());
        }
        let Self { stream, replies, place, .. } = self;
        let sending = async {
            stream.write_all(replies).await?;
            stream.flush().await
        };
        let stopped = async {
            self.front.cancel.cancelled().await;
            sleep(STOPPED_UNREAD).await;
        };
        let end = tokio::select! {
            biased;
            sent = timeout(self.limits.idle, sending) => match sent {
                Ok(Ok(())) => {
                    self.replies.clear();
                    return Ok(());
                }
                Ok(Err(error)) => failed(&error),
                Err(_) => End::Unread,
            },
            () = place.crowded() => End::Crowded,
            () = stopped => End::Stopped,
        };
        self.front.metrics.dns.send_failures.inc();
        Err(end)
    }

    /// Until when it may stay as it is, and what ends it then. While the pipeline is full nothing is
    /// read, so no query is late.
    fn deadline(&self, is_full: bool) -> (Instant, End) {
        let begun = self.begun.filter(|_| !is_full);
        let message = begun.map(|begun| (begun + self.limits.message_timeout, End::Message));
        // Nobody is idle who waits for us.
        let used = if self.waiting.is_empty() { self.used } else { Instant::now() };
        let idle = used + self.limits.idle;
        match message {
            Some(message) if message.0 < idle => message,
            _ => (idle, End::Idle),
        }
    }

    /// Gives back what an unusual query or reply has made room for.
    fn shrink(&mut self) {
        if self.received.is_empty() && self.received.capacity() > KEPT_BYTES {
            self.received = BytesMut::new();
        }
        if self.replies.capacity() > KEPT_BYTES {
            self.replies = Vec::new();
        }
        if self.draft.reply.capacity() > KEPT_BYTES {
            self.draft.reply = Vec::new();
        }
    }

    /// Closes in order. What still comes is read and dropped for a moment: an end with something
    /// unread is a reset, which takes the replies with it (RFC 9293 §3.10.7.4), and which CoreDNS
    /// takes for a failure.
    async fn close(&mut self, end: End) {
        let mut dropped = [0; 4096];
        let closing = async {
            let is_closed = self.stream.shutdown().await.is_err();
            // Nothing comes any more; or it was idle, and its place is another's.
            if is_closed || matches!(end, End::Crowded | End::Finished) {
                return;
            }
            while self.stream.read(&mut dropped).await.is_ok_and(|len| len > 0) {}
        };
        // Whoever goes on sending is not waited for.
        timeout(LINGER, closing).await.ok();
    }
}

fn push(replies: &mut Vec<u8>, reply: &[u8]) {
    if let (Ok(len), false) = (u16::try_from(reply.len()), reply.is_empty()) {
        replies.extend_from_slice(&len.to_be_bytes());
        replies.extend_from_slice(reply);
    }
}

fn failed(error: &io::Error) -> End {
    // Over TLS many just go (RFC 8446 §6.1 asks for a word before).
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return End::Finished;
    }
    debug!(%error, "a connection failed");
    End::Failed
}

/// The length of the frame that `received` begins with, its own two bytes included, once it is
/// whole.
fn whole_frame(received: &[u8]) -> Option<usize> {
    let [high, low, rest @ ..] = received else { return None };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    (rest.len() >= len).then_some(LENGTH_BYTES + len)
}

/// RFC 1035 §4.2.2.
const LENGTH_BYTES: usize = 2;

/// Room for what is read at once.
const READ_BYTES: usize = 1024;

/// Room that a connection keeps, for queries and for replies each.
const KEPT_BYTES: usize = 16_384;

/// How long a shutdown waits for a client to read its replies.
const STOPPED_UNREAD: Duration = Duration::from_secs(1);

/// How long a client may take to close when we have.
const LINGER: Duration = Duration::from_millis(200);

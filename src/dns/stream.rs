//! TCP: our own accept loop, framing and limits around the answers.
//!
//! ```text
//!   len16 query  len16 query ...  -->  answered at once, or a task that waits
//!   len16 reply  len16 reply ...  <--  in the order in which they are ready (RFC 7766 §6.2.1.1)
//! ```
//! Each message has two bytes of length before it (RFC 1035 §4.2.2). A client may send many
//! queries before it reads a reply; past a bound it is not read until some are answered. One that
//! sends nothing whole, or reads nothing, for the idle time is closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use socket2::{Domain, Protocol as Transport4, Socket, Type};
use tokio::net::tcp::WriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tracing::{debug, warn};

use crate::answer::{Asked, Draft, Outcome, Transport, Turn};
use crate::dns::front::{Front, Late, Waiting};
use crate::metrics::Tally;

/// Opens a listening socket on `address`, alone: a second program there is refused.
///
/// # Errors
///
/// Fails when the system refuses it, as it does when the address is in use.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Transport4::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Not SO_REUSEPORT. This one only lets a restart bind while old connections die down.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Queries of one connection being answered at once.
    pub pipeline_max: usize,
    /// How long a connection may stay without a whole query, or without reading a reply.
    pub idle: Duration,
}

/// Accepts connections and serves each in a task, until the front is cancelled.
pub async fn serve(
    listener: TcpListener,
    front: Front,
    lane: usize,
    limits: StreamLimits,
    places: Arc<Semaphore>,
) {
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = front.cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Descriptors have run out, most likely. Others are given time to close.
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "cannot accept TCP connections");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            front.metrics.dns.tcp_refused.inc();
            continue;
        };
        let tally = front.tally(lane);
        let connection = Connection::new(front.clone(), tally, limits, &stream, peer);
        let connection = Arc::new(connection);
        front.tasks.spawn(async move {
            let _place = place;
            connection.run(stream).await;
        });
    }
}

/// One connection.
#[derive(Debug)]
struct Connection {
    front: Front,
    tally: Tally,
    limits: StreamLimits,
    client: IpAddr,
    local: Option<IpAddr>,
}

/// A query's reply, or the wait for it.
enum Turned {
    Now(Draft),
    Later { waiting: Waiting, now_ms: u64 },
}

impl Connection {
    fn new(
        front: Front,
        tally: Tally,
        limits: StreamLimits,
        stream: &TcpStream,
        peer: SocketAddr,
    ) -> Self {
        let local = stream.local_addr().ok().map(|address| address.ip());
        Self { front, tally, limits, client: peer.ip(), local }
    }

    async fn run(self: Arc<Self>, stream: TcpStream) {
        self.front.metrics.dns.tcp_connections.inc();
        if let Err(error) = self.serve(stream).await {
            debug!(%error, "TCP connection ended");
        }
        self.front.metrics.dns.tcp_connections.dec();
    }

    async fn serve(self: &Arc<Self>, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (reading, writing) = stream.split();
        let mut queries = FramedRead::new(reading, whole_frames());
        let mut replies = FramedWrite::new(writing, frames());
        let mut waiting = FuturesUnordered::<JoinHandle<Bytes>>::new();
        let mut draft = Draft::default();
        let mut last_query = Instant::now();
        let mut was_full = false;
        let mut stopping = false;
        loop {
            let has_more = has_whole_frame(queries.read_buffer());
            let is_full = waiting.len() >= self.limits.pipeline_max;
            if is_full && !was_full {
                self.front.metrics.dns.tcp_pipeline_full.inc();
            }
            was_full = is_full;
            // Replies to queries that came together leave together.
            if !has_more || is_full {
                self.within_idle(SinkExt::<Bytes>::flush(&mut replies)).await?;
            }
            // What was read is answered, also when we have had enough; nothing more is read.
            if stopping && !has_more && waiting.is_empty() {
                break;
            }
            let idle_left = self.limits.idle.saturating_sub(last_query.elapsed());
            tokio::select! {
                biased;
                Some(reply) = waiting.next(), if !waiting.is_empty() => {
                    // A panic has cost that one answer; it was logged.
                    self.send(&mut replies, reply.unwrap_or_default()).await?;
                }
                query = queries.next(), if !is_full && (has_more || !stopping) => {
                    // Half a query at the end costs those before it nothing.
                    let query = query.transpose();
                    let query = query.inspect_err(|error| debug!(%error, "a query was cut off"));
                    let Ok(Some(mut query)) = query else {
                        stopping = true;
                        continue;
                    };
                    query.advance(LENGTH_BYTES);
                    last_query = Instant::now();
                    match self.first_turn(&query, last_query, std::mem::take(&mut draft)) {
                        Turned::Now(done) => {
                            self.send(&mut replies, Bytes::copy_from_slice(&done.reply)).await?;
                            draft = done;
                        }
                        Turned::Later { waiting: place, now_ms } => {
                            // A task of its own: its place among those that wait must not be held
                            // while this client does not read.
                            let turn =
                                Arc::clone(self).last_turn(place, query, last_query, now_ms);
                            waiting.push(self.front.tasks.spawn(turn));
                        }
                    }
                }
                () = self.front.cancel.cancelled(), if !stopping => stopping = true,
                () = sleep(idle_left), if waiting.is_empty() => {
                    self.front.metrics.dns.tcp_idle_closed.inc();
                    return Ok(());
                }
            }
        }
        self.within_idle(SinkExt::<Bytes>::close(&mut replies)).await
    }

    fn first_turn(&self, query: &BytesMut, since: Instant, mut draft: Draft) -> Turned {
        let (snapshot, policy) = (self.front.store.snapshot.load(), self.front.store.policy.load());
        let asked = self.asked(query, self.front.clock.now_ms(), Turn::First);
        let mut outcome = self.front.respond(&snapshot, &policy, &asked, &mut draft);
        if let Outcome::Wants(want) = &outcome {
            self.tally.count(Transport::Tcp, &outcome, since.elapsed(), asked.now_ms);
            if let Some(waiting) = self.front.ask(want, query) {
                return Turned::Later { waiting, now_ms: asked.now_ms };
            }
            let asked = Asked { turn: Turn::Last, ..asked };
            outcome = self.front.respond(&snapshot, &policy, &asked, &mut draft);
        }
        self.tally.count(Transport::Tcp, &outcome, since.elapsed(), asked.now_ms);
        Turned::Now(draft)
    }

    async fn last_turn(
        self: Arc<Self>,
        waiting: Waiting,
        query: BytesMut,
        since: Instant,
        now_ms: u64,
    ) -> Bytes {
        let asked = self.asked(&query, now_ms, Turn::Last);
        let late = Late { asked, since };
        self.front.finish(waiting, &late, &self.tally).await.reply.into()
    }

    fn asked<'q>(&self, query: &'q [u8], now_ms: u64, turn: Turn) -> Asked<'q> {
        Asked {
            bytes: query,
            transport: Transport::Tcp,
            client: self.client,
            local: self.local,
            seed: fastrand::u64(..),
            now_ms,
            turn,
            near: None,
            hosts: &[],
        }
    }

    async fn send(
        &self,
        replies: &mut FramedWrite<WriteHalf<'_>, LengthDelimitedCodec>,
        reply: Bytes,
    ) -> io::Result<()> {
        match reply.is_empty() {
            true => Ok(()),
            false => self.within_idle(replies.feed(reply)).await,
        }
    }

    /// Bounds the wait for a client that does not read.
    async fn within_idle(&self, sending: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        let sent = timeout(self.limits.idle, sending).await.map_err(io::Error::from);
        sent.flatten().inspect_err(|_| self.front.metrics.dns.send_failures.inc())
    }
}

fn frames() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(LENGTH_BYTES).new_codec()
}

/// Leaves the length before each message, so that the buffer begins with one at all times: what is
/// taken off before the message is whole could not be told from its first bytes.
fn whole_frames() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .length_field_length(LENGTH_BYTES)
        .length_adjustment(LENGTH_BYTES as isize)
        .num_skip(0)
        .new_codec()
}

/// Whether a length and as many bytes lie in the buffer.
fn has_whole_frame(buffer: &[u8]) -> bool {
    match buffer {
        [high, low, rest @ ..] => rest.len() >= usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

/// RFC 1035 §4.2.2.
const LENGTH_BYTES: usize = 2;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

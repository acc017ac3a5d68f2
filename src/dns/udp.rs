//! The UDP loop: one thread for each core and address, each with a socket of its own.
//!
//! The kernel spreads clients over the sockets (`SO_REUSEPORT`); of one that was handed over, the
//! threads have copies. A thread takes what is queued,
//! answers it from memory and sends all replies; a query that has to wait is copied out to a task,
//! so the thread goes on.
//!
//! **Hot.** The buffers are the loop's; per query there is no lock and no allocation.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::debug;

use crate::answer::{Draft, Transport};
use crate::dns::batch::Batch;
use crate::dns::datagram::{Datagrams, Route};
use crate::dns::front::{Begun, Front, Waiting};
use crate::dns::peer::Peer;
use crate::dns::pulse::Pulse;
use crate::metrics::Tally;

/// Opens a socket on `address` that others of ours may share.
///
/// # Errors
///
/// Fails when the system refuses it: the operator's to mend.
pub fn bind(address: SocketAddr) -> io::Result<Datagrams> {
    Datagrams::bind(address, STOP_CHECK)
}

/// Makes use of a socket that is bound already.
///
/// # Errors
///
/// Fails when the system refuses it.
pub fn adopt(socket: UdpSocket) -> io::Result<Datagrams> {
    Datagrams::adopt(socket, STOP_CHECK)
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    socket: Arc<Datagrams>,
    /// Where it is bound.
    port: u16,
    front: Front,
    tally: Tally,
    runtime: Handle,
    pulse: Pulse,
}

impl Worker {
    /// Serves `socket`, counting in `lane`. Queries that wait do so on `runtime`.
    pub fn new(socket: Datagrams, front: Front, lane: usize, runtime: Handle) -> Self {
        let tally = front.tally(lane);
        // Only told, never needed.
        let port = socket.local_addr().map_or(0, |address| address.port());
        let socket = Arc::new(socket);
        Self { socket, port, front, tally, runtime, pulse: Pulse::default() }
    }

    /// Its sign of life.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Answers until the front is cancelled, and then what is still queued.
    pub fn run(&self) {
        let mut batch = Batch::new(&self.socket);
        let mut draft = Draft::default();
        // Set once we are to stop: until when what is queued is still answered.
        let mut drain_until = None;
        loop {
            self.pulse.beat();
            if drain_until.is_none() && self.front.cancel.is_cancelled() {
                drain_until = Some(Instant::now() + DRAIN_MAX);
                self.socket.stop_waiting();
            }
            match batch.receive(&self.socket) {
                Ok(count) => self.answer(&mut batch, count, &mut draft),
                Err(error) if is_pause(&error) && drain_until.is_some() => return,
                Err(error) if is_pause(&error) => (),
                Err(error) => debug!(%error, "cannot receive"),
            }
            if drain_until.is_some_and(|until| Instant::now() > until) {
                return;
            }
        }
    }

    /// Answers the `count` queries of a batch, each in its place.
    fn answer(&self, batch: &mut Batch, count: usize, draft: &mut Draft) {
        let (moment, mut replies) = (self.front.moment(Instant::now()), 0);
        for at in 0..count {
            let Some((query, route)) = batch.query(at) else { continue };
            let peer = Peer {
                transport: Transport::Udp,
                client: route.peer.ip(),
                client_port: route.peer.port(),
                local: route.local,
                local_port: self.port,
            };
            match self.front.begin_at(&moment, query, &peer, &self.tally, draft) {
                Begun::Done => {
                    replies += u64::from(!draft.reply.is_empty());
                    batch.reply(at, &mut draft.reply);
                }
                Begun::Waits { waiting, now_ms } => {
                    let begun = (moment.since(), now_ms);
                    self.answer_later(waiting, query, &peer, route, begun);
                }
            }
        }
        // They leave together, so none was there before the last.
        self.tally.time(replies, moment.since().elapsed());
        if let Some((failures, error)) = batch.send(&self.socket) {
            self.front.metrics.dns.send_failures.inc_by(failures as u64);
            debug!(%error, failures, "cannot send");
        }
    }

    /// Out of the loop: the only place where a query is copied.
    fn answer_later(
        &self,
        waiting: Waiting,
        query: &[u8],
        peer: &Peer,
        route: Route,
        begun: (Instant, u64),
    ) {
        let (front, tally) = (self.front.clone(), self.tally.clone());
        let (socket, query, peer) = (Arc::clone(&self.socket), query.to_vec(), *peer);
        let answered = async move {
            let draft = front.complete(waiting, &query, &peer, &tally, begun).await;
            send(&socket, &draft.reply, route, &front);
        };
        self.front.tasks.spawn_on(answered, &self.runtime);
    }
}

fn send(socket: &Datagrams, reply: &[u8], route: Route, front: &Front) {
    if reply.is_empty() {
        return;
    }
    if let Err(error) = socket.send(reply, route) {
        front.metrics.dns.send_failures.inc();
        debug!(%error, peer = %route.peer, "cannot send");
    }
}

/// Nothing came, or a signal did.
fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// How long a shutdown may go unnoticed on a quiet socket.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// How long the queue is emptied at a shutdown: clients that go on asking must not prevent it.
const DRAIN_MAX: Duration = Duration::from_secs(1);

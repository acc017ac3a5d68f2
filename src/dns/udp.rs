//! The UDP loop: one thread for each core and address, each with a socket of its own.
//!
//! The kernel spreads clients over the sockets (`SO_REUSEPORT`). A thread reads one query,
//! answers it from memory and sends the reply; a query that has to wait is copied out to a task,
//! so the thread goes on.
//!
//! **Hot.** The buffers are the loop's; per query there is no lock and no allocation.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::answer::{Asked, Draft, Outcome, Transport, Turn};
use crate::dns::datagram::{Datagrams, Route};
use crate::dns::front::{Front, Late, Waiting};
use crate::metrics::Tally;

/// Opens a socket on `address` that others of ours may share.
///
/// # Errors
///
/// Fails when the system refuses it: the operator's to mend.
pub fn bind(address: SocketAddr) -> io::Result<Datagrams> {
    Datagrams::bind(address, STOP_CHECK)
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    socket: Arc<Datagrams>,
    front: Front,
    tally: Tally,
    runtime: Handle,
}

impl Worker {
    /// Serves `socket`, counting in `lane`. Queries that wait do so on `runtime`.
    pub fn new(socket: Datagrams, front: Front, lane: usize, runtime: Handle) -> Self {
        let tally = front.tally(lane);
        Self { socket: Arc::new(socket), front, tally, runtime }
    }

    /// Answers until the front is cancelled, and then what is still queued.
    pub fn run(&self) {
        let mut buffer = vec![0; QUERY_MAX];
        let mut draft = Draft::default();
        let mut random = fastrand::Rng::new();
        // Set once we are to stop: until when what is queued is still answered.
        let mut drain_until = None;
        loop {
            if drain_until.is_none() && self.front.cancel.is_cancelled() {
                drain_until = Some(Instant::now() + DRAIN_MAX);
                if let Err(error) = self.socket.stop_waiting() {
                    warn!(%error, "cannot drain a UDP socket");
                    return;
                }
            }
            let (len, route) = match self.socket.receive(&mut buffer) {
                Ok(received) => received,
                Err(error) if is_pause(&error) && drain_until.is_some() => return,
                Err(error) if is_pause(&error) => continue,
                Err(error) => {
                    debug!(%error, "cannot receive");
                    continue;
                }
            };
            let asked = Asked {
                bytes: buffer.get(..len).unwrap_or_default(),
                transport: Transport::Udp,
                client: route.peer.ip(),
                local: route.local,
                seed: random.u64(..),
                now_ms: self.front.clock.now_ms(),
                turn: Turn::First,
                near: None,
                hosts: &[],
            };
            self.answer(asked, route, &mut draft);
            if drain_until.is_some_and(|until| Instant::now() > until) {
                return;
            }
        }
    }

    fn answer(&self, asked: Asked<'_>, route: Route, draft: &mut Draft) {
        let since = Instant::now();
        let (snapshot, policy) = (self.front.store.snapshot.load(), self.front.store.policy.load());
        let mut outcome = self.front.respond(&snapshot, &policy, &asked, draft);
        if let Outcome::Wants(want) = &outcome {
            self.tally.count(Transport::Udp, &outcome, since.elapsed(), asked.now_ms);
            match self.front.ask(want, asked.bytes) {
                Some(waiting) => return self.answer_later(waiting, &asked, route, since),
                None => {
                    let asked = Asked { turn: Turn::Last, ..asked };
                    outcome = self.front.respond(&snapshot, &policy, &asked, draft);
                }
            }
        }
        self.send(&draft.reply, route);
        self.tally.count(Transport::Udp, &outcome, since.elapsed(), asked.now_ms);
    }

    /// Out of the loop: the only place where a query is copied.
    fn answer_later(&self, waiting: Waiting, asked: &Asked<'_>, route: Route, since: Instant) {
        let (front, tally) = (self.front.clone(), self.tally.clone());
        let (socket, bytes) = (Arc::clone(&self.socket), asked.bytes.to_vec());
        let Asked { transport, client, local, now_ms, .. } = *asked;
        let answered = async move {
            let (bytes, turn) = (&bytes[..], Turn::Last);
            let hosts = &[];
            let asked =
                Asked { bytes, transport, client, local, seed: 0, now_ms, turn, near: None, hosts };
            let late = Late { asked, since };
            let draft = front.finish(waiting, &late, &tally).await;
            send(&socket, &draft.reply, route, &front);
        };
        self.front.tasks.spawn_on(answered, &self.runtime);
    }

    fn send(&self, reply: &[u8], route: Route) {
        send(&self.socket, reply, route, &self.front);
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

/// The largest datagram.
const QUERY_MAX: usize = 65_535;

/// How long a shutdown may go unnoticed on a quiet socket.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// How long the queue is emptied at a shutdown: clients that go on asking must not prevent it.
const DRAIN_MAX: Duration = Duration::from_secs(1);

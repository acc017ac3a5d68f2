//! Asks over UDP: as much as a server answers, or at a pace.
//!
//! Bursts go out in one call (UDP GSO) and replies are taken in batches, so that one core has more
//! to ask than the fastest server on the other can answer.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, recvmmsg, sendmsg};
use tokio::time::Instant;

use crate::case::{Case, Queries};
use crate::figures::Figures;
use crate::peers::Peer;

/// One round with one server.
pub struct Run {
    /// Queries answered a second.
    pub rate: f64,
    /// CPU time of the server per query, in microseconds.
    pub cpu_us: f64,
    /// CPU time of the server per second: 1 is one core, wholly used.
    pub load: f64,
}

impl Run {
    /// Of a round in which `answered` replies came.
    pub fn new(peer: &Peer, answered: u64, (since, cpu): (Instant, Duration)) -> Self {
        let (taken, cpu) = (since.elapsed().as_secs_f64(), (peer.cpu() - cpu).as_secs_f64());
        let answered = answered as f64;
        Self { rate: answered / taken, cpu_us: cpu * 1e6 / answered, load: cpu / taken }
    }
}

/// Asks `peer` from `ports` ports so that it always has more to do.
pub fn saturate(peer: &Peer, case: &Case, queries: &Queries, ports: usize) -> Run {
    let mut intake = Intake::new();
    let window = LANES * WINDOW / ports;
    let lane = |at: usize| Lane::new(peer.udp, queries, at * queries.len(), window);
    let mut lanes: Vec<Lane<'_>> = (0..ports).map(lane).collect();
    ask_for(WARM_UP, &mut lanes, case, &mut intake);
    let begun = (Instant::now(), peer.cpu());
    let answered = ask_for(ROUND, &mut lanes, case, &mut intake);
    let run = Run::new(peer, answered, begun);
    settle(peer);
    run
}

/// Keeps `lanes` busy for `duration`; gives the number of replies.
fn ask_for(duration: Duration, lanes: &mut [Lane<'_>], case: &Case, intake: &mut Intake) -> u64 {
    let (since, mut answered) = (Instant::now(), 0);
    while since.elapsed() < duration {
        answered += lanes.iter_mut().map(|lane| lane.turn(case, intake)).sum::<u64>();
    }
    answered
}

/// Waits until `peer` has nothing left to do, so that the next one has the core.
pub fn settle(peer: &Peer) {
    let begun = Instant::now();
    let mut before = peer.cpu();
    while begun.elapsed() < SETTLE_MAX {
        std::thread::sleep(SETTLE_LOOK);
        let now = peer.cpu();
        if now - before < SETTLE_LOOK / 5 {
            return;
        }
        before = now;
    }
}

/// Latencies at a pace, in microseconds.
pub struct Pace {
    pub latencies: Figures,
    /// Queries that had no reply.
    pub lost: usize,
}

/// Asks `peer` `rate` times a second, whatever it does. A query's time begins when it was due.
pub fn pace(peer: &Peer, case: &Case, queries: &Queries, rate: f64) -> Pace {
    let mut intake = Intake::new();
    let lane = |at: usize| Lane::new(peer.udp, queries, at, usize::MAX);
    let mut lanes: Vec<Lane<'_>> = (0..PACED_LANES).map(lane).collect();
    let mut due = vec![[Duration::ZERO; 1 << 16]; PACED_LANES];
    let (mut taken, mut sent, begun) = (Vec::new(), 0_usize, Instant::now());
    loop {
        let now = begun.elapsed();
        let is_over = now > PACED_ROUND;
        while !is_over && Duration::from_secs_f64(sent as f64 / rate) < now {
            let (lane, times) = (&mut lanes[sent % PACED_LANES], &mut due[sent % PACED_LANES]);
            times[usize::from(lane.id)] = Duration::from_secs_f64(sent as f64 / rate);
            lane.send_one();
            sent += 1;
        }
        for (lane, times) in lanes.iter_mut().zip(&due) {
            intake.take(&lane.socket, |reply| {
                let id = usize::from(case.check(reply));
                let latency = begun.elapsed().saturating_sub(times[id]);
                taken.push(latency.as_secs_f64() * 1e6);
            });
        }
        if taken.len() == sent && is_over || now > PACED_ROUND + PACED_LOST {
            break;
        }
    }
    let lost = sent - taken.len();
    Pace { latencies: taken.into_iter().collect(), lost }
}

/// One client port, with its queries.
struct Lane<'q> {
    socket: UdpSocket,
    queries: &'q Queries,
    /// The next of them.
    next: usize,
    /// What goes out in one call.
    burst: Vec<u8>,
    /// The next query's id. Those of the last window may still be answered.
    id: u16,
    window: usize,
    outstanding: usize,
    heard: Instant,
}

impl<'q> Lane<'q> {
    fn new(server: SocketAddr, queries: &'q Queries, next: usize, window: usize) -> Self {
        let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.connect(server).expect("an address to ask");
        socket.set_nonblocking(true).expect("a socket that does not block");
        let (burst, heard) = (Vec::new(), Instant::now());
        Self { socket, queries, next, burst, id: 0, window, outstanding: 0, heard }
    }

    /// Takes all replies that are there, and asks as much again. Gives the number of replies.
    fn turn(&mut self, case: &Case, intake: &mut Intake) -> u64 {
        let Self { socket, id, window, outstanding, .. } = self;
        let mut answered = 0;
        intake.take(socket, |reply| {
            // Late ones, given up as lost, are no answers to what is outstanding.
            let age = usize::from(id.wrapping_sub(case.check(reply)));
            if age <= *window + BURST && *outstanding > 0 {
                *outstanding -= 1;
                answered += 1;
            }
        });
        if answered > 0 {
            self.heard = Instant::now();
        } else if self.outstanding > 0 && self.heard.elapsed() > LOST {
            self.outstanding = 0;
            self.heard = Instant::now();
        }
        while self.outstanding + self.burst_len() <= self.window && self.send_burst().is_ok() {}
        answered
    }

    fn burst_len(&self) -> usize {
        BURST.min(self.window)
    }

    fn send_burst(&mut self) -> nix::Result<()> {
        self.burst.clear();
        for _ in 0..self.burst_len() {
            self.append();
        }
        let segment = self.queries.len() as u16;
        let segments = [ControlMessage::UdpGsoSegments(&segment)];
        let bytes = [IoSlice::new(&self.burst)];
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::empty());
        sendmsg::<()>(fd, &bytes, &segments, flags, None)?;
        self.outstanding += self.burst_len();
        Ok(())
    }

    fn send_one(&mut self) {
        self.burst.clear();
        self.append();
        self.socket.send(&self.burst).ok();
    }

    /// Adds the next query to what goes out.
    fn append(&mut self) {
        let at = self.burst.len();
        self.burst.extend_from_slice(self.queries.get(self.next));
        self.burst[at..at + 2].copy_from_slice(&self.id.to_be_bytes());
        self.id = self.id.wrapping_add(1);
        self.next += 1;
    }
}

/// Takes replies, a batch in a call.
struct Intake {
    headers: MultiHeaders<()>,
    buffers: Vec<[u8; 4096]>,
}

impl Intake {
    fn new() -> Self {
        Self { headers: MultiHeaders::preallocate(BATCH, None), buffers: vec![[0; 4096]; BATCH] }
    }

    /// All that `socket` has.
    fn take(&mut self, socket: &UdpSocket, mut with: impl FnMut(&[u8])) {
        loop {
            let mut slices: Vec<_> =
                self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
            let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            let lens = match recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) {
                Ok(taken) => taken.map(|message| message.bytes).collect::<Vec<usize>>(),
                Err(Errno::EAGAIN) => return,
                Err(error) => panic!("replies cannot be taken: {error}"),
            };
            for (buffer, len) in self.buffers.iter().zip(&lens) {
                with(&buffer[..*len]);
            }
            if lens.len() < BATCH {
                return;
            }
        }
    }
}

/// Client ports of a saturating round, unless other numbers of them are compared.
pub const LANES: usize = 8;

/// Of a paced round.
const PACED_LANES: usize = 4;

/// Queries outstanding on a port, where there are [`LANES`] of them: all together are no more than
/// a socket's buffer holds by default.
const WINDOW: usize = 32;
const BURST: usize = 16;
const BATCH: usize = 32;

const WARM_UP: Duration = Duration::from_millis(50);
const ROUND: Duration = Duration::from_millis(400);
const PACED_ROUND: Duration = Duration::from_millis(400);

/// When what is outstanding is taken for lost, so that a full queue does not end the round. Longer
/// than the slowest takes for all of it, or it would be asked more than it can answer.
const LOST: Duration = Duration::from_secs(5);

/// When a reply of a paced round is taken for lost.
const PACED_LOST: Duration = Duration::from_millis(200);

/// How long one may take to answer what was asked of it.
const SETTLE_MAX: Duration = Duration::from_secs(30);
const SETTLE_LOOK: Duration = Duration::from_millis(5);

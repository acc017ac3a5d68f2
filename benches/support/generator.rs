//! Asks over UDP: as much as a server answers, at a pace, or a query a millisecond.
//!
//! It is fed with queries of one length and a check that every reply has to pass. Bursts go out in
//! one call (UDP GSO) and replies are taken in batches, so that one core has more to ask than the
//! fastest server on the other can answer.
//!
//! It knows no names and no records: what is asked, and what is right, is the bench's.

// What one bench leaves unused is not dead.
#![allow(dead_code)]

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, recvmmsg, sendmsg};
use tokio::time::Instant;

use crate::figures::Figures;
use crate::processes::cpu;
use crate::question::{ask, asking};

/// Queries of one length, with ids of zero.
pub struct Queries {
    bytes: Vec<u8>,
    len: usize,
}

impl Queries {
    /// # Panics
    ///
    /// When one is longer than another, as GSO sends pieces of one length, or there is none.
    pub fn new(queries: &[Vec<u8>]) -> Self {
        let len = queries.first().expect("a query").len();
        assert!(queries.iter().all(|query| query.len() == len), "queries of one length");
        Self { bytes: queries.concat(), len }
    }

    /// Query `at`, counted round and round.
    pub fn get(&self, at: usize) -> &[u8] {
        let at = at * self.len % self.bytes.len();
        &self.bytes[at..at + self.len]
    }

    /// The length of each.
    pub fn len(&self) -> usize {
        self.len
    }
}

/// Who is asked, and what.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub server: SocketAddr,
    /// The server's process, whose CPU time is looked at.
    pub pid: u32,
    pub queries: &'a Queries,
    /// Panics when a reply, of which there is a header at least, is not as it has to be.
    pub check: &'a dyn Fn(&[u8]),
}

impl Asked<'_> {
    /// The id of a reply that is as it has to be.
    fn id(&self, reply: &[u8]) -> u16 {
        assert!(reply.len() >= HEADER, "a reply of {} bytes", reply.len());
        (self.check)(reply);
        u16::from_be_bytes([reply[0], reply[1]])
    }
}

/// How much is asked of a server that always has more to do.
#[derive(Clone, Copy)]
pub struct Saturation {
    /// Client ports.
    pub ports: usize,
    /// Queries outstanding on each.
    pub window: usize,
    /// What comes before the round.
    pub warm_up: Duration,
    pub round: Duration,
    /// When what is outstanding is taken for lost, so that a full queue does not end the round.
    pub lost: Duration,
}

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
    /// Of a round in which `answered` replies came from the process `pid`, since a time at which it
    /// had had so much of the CPU.
    pub fn new(pid: u32, answered: u64, (since, before): (Instant, Duration)) -> Self {
        let (taken, cpu) = (since.elapsed().as_secs_f64(), (cpu(pid) - before).as_secs_f64());
        let answered = answered as f64;
        Self { rate: answered / taken, cpu_us: cpu * 1e6 / answered, load: cpu / taken }
    }
}

/// Asks so that the server always has more to do.
pub fn saturate(asked: Asked<'_>, how: Saturation) -> Run {
    let mut intake = Intake::new();
    let lane = |at: usize| Lane::new(asked, at * asked.queries.len(), how.window, how.lost);
    let mut lanes: Vec<Lane<'_>> = (0..how.ports).map(lane).collect();
    ask_for(how.warm_up, &mut lanes, &mut intake);
    let begun = (Instant::now(), cpu(asked.pid));
    let answered = ask_for(how.round, &mut lanes, &mut intake);
    Run::new(asked.pid, answered, begun)
}

/// Keeps `lanes` busy for `duration`; gives the number of replies.
fn ask_for(duration: Duration, lanes: &mut [Lane<'_>], intake: &mut Intake) -> u64 {
    let (since, mut answered) = (Instant::now(), 0);
    while since.elapsed() < duration {
        answered += lanes.iter_mut().map(|lane| lane.turn(intake)).sum::<u64>();
    }
    answered
}

/// Waits until the process `pid` has nothing left to do, so that the next one has the core.
pub fn settle(pid: u32) {
    let begun = Instant::now();
    let mut before = cpu(pid);
    while begun.elapsed() < SETTLE_MAX {
        std::thread::sleep(SETTLE_LOOK);
        let now = cpu(pid);
        if now - before < SETTLE_LOOK / 5 {
            return;
        }
        before = now;
    }
}

/// Latencies of queries that do not wait for a busy server.
pub struct Pace {
    /// In microseconds.
    pub latencies: Figures,
    /// Queries that had no reply.
    pub lost: usize,
}

/// Asks `rate` times a second, whatever the server does. A query's time begins when it was due.
pub fn pace(asked: Asked<'_>, rate: f64) -> Pace {
    let mut intake = Intake::new();
    let lane = |at: usize| Lane::new(asked, at, usize::MAX, PACED_LOST);
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
                let id = usize::from(asked.id(reply));
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

/// Asks once a millisecond for the duration of `round`, each time a query of its own, and waits for
/// the reply. One that is not right counts as lost.
pub fn trickle(
    server: SocketAddr,
    round: Duration,
    query: impl Fn(u16) -> Vec<u8>,
    is_right: impl Fn(u16, &[u8]) -> bool,
) -> Pace {
    let socket = asking(server);
    let (mut taken, mut lost, begun) = (Vec::new(), 0, Instant::now());
    let mut reply = [0; 1500];
    for id in 0..u16::MAX {
        if begun.elapsed() > round {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        let mut query = query(id);
        let since = Instant::now();
        let reply = ask(&socket, &mut query, id, &mut reply);
        let latency = since.elapsed();
        match reply {
            Some(reply) if is_right(id, reply) => taken.push(latency.as_secs_f64() * 1e6),
            _ => lost += 1,
        }
    }
    Pace { latencies: taken.into_iter().collect(), lost }
}

/// One client port, with its queries.
struct Lane<'a> {
    socket: UdpSocket,
    asked: Asked<'a>,
    /// The next of its queries.
    next: usize,
    /// What goes out in one call.
    burst: Vec<u8>,
    /// The next query's id. Those of the last window may still be answered.
    id: u16,
    window: usize,
    outstanding: usize,
    heard: Instant,
    lost: Duration,
}

impl<'a> Lane<'a> {
    fn new(asked: Asked<'a>, next: usize, window: usize, lost: Duration) -> Self {
        let socket = asking(asked.server);
        socket.set_nonblocking(true).expect("a socket that does not block");
        let (burst, heard) = (Vec::new(), Instant::now());
        Self { socket, asked, next, burst, id: 0, window, outstanding: 0, heard, lost }
    }

    /// Takes all replies that are there, and asks as much again. Gives the number of replies.
    fn turn(&mut self, intake: &mut Intake) -> u64 {
        let Self { socket, asked, id, window, outstanding, .. } = self;
        let mut answered = 0;
        intake.take(socket, |reply| {
            // Late ones, given up as lost, are no answers to what is outstanding.
            let age = usize::from(id.wrapping_sub(asked.id(reply)));
            if age <= *window + BURST && *outstanding > 0 {
                *outstanding -= 1;
                answered += 1;
            }
        });
        if answered > 0 {
            self.heard = Instant::now();
        } else if self.outstanding > 0 && self.heard.elapsed() > self.lost {
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
        let segment = self.asked.queries.len() as u16;
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
        self.burst.extend_from_slice(self.asked.queries.get(self.next));
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

/// Client ports of a paced round.
const PACED_LANES: usize = 4;
const PACED_ROUND: Duration = Duration::from_millis(400);

/// When a reply of a paced round is taken for lost.
const PACED_LOST: Duration = Duration::from_millis(200);

/// The bytes that every message begins with.
const HEADER: usize = 12;

const BURST: usize = 16;
const BATCH: usize = 32;

/// How long one may take to answer what was asked of it.
const SETTLE_MAX: Duration = Duration::from_secs(30);
const SETTLE_LOOK: Duration = Duration::from_millis(5);

//! Who asks over UDP: so much that the server always has more to do, or a query every millisecond.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::time::Instant;

use crate::catalog::{Catalog, name};
use crate::figures::Figures;
use crate::processes::cpu;
use crate::question::{addresses, ask, asking, question};

/// One round of a server that always has more to do.
pub struct Run {
    /// Queries answered a second.
    pub rate: f64,
    /// CPU time of the server's, of all of its core: below 1 it had time to rest.
    pub busy: f64,
}

/// Asks `server` so that it always has more to do.
pub fn saturate(server: SocketAddr, pid: u32, catalog: Catalog) -> Run {
    let mut lanes: Vec<Lane> = (0..LANES).map(|lane| Lane::new(server, lane, catalog)).collect();
    ask_for(WARM_UP, &mut lanes);
    let (since, before) = (Instant::now(), cpu(pid));
    let answered = ask_for(ROUND, &mut lanes) as f64;
    let (taken, cpu) = (since.elapsed().as_secs_f64(), cpu(pid) - before);
    Run { rate: answered / taken, busy: cpu.as_secs_f64() / taken }
}

/// One round of a server that is asked once a millisecond.
pub struct Pace {
    /// In microseconds.
    pub latencies: Figures,
    /// Queries of which no reply came.
    pub lost: usize,
    /// As of [`Run`]: next to nothing, but for what else the server does.
    pub busy: f64,
}

/// Asks `server` once a millisecond.
pub fn pace(server: SocketAddr, pid: u32, catalog: Catalog) -> Pace {
    let socket = asking(server);
    let (mut taken, mut lost) = (Vec::new(), 0);
    let (begun, before) = (Instant::now(), cpu(pid));
    for id in 0..u16::MAX {
        if begun.elapsed() > ROUND {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        match ask_once(&socket, id, usize::from(id) % catalog.services, catalog) {
            Some(latency) => taken.push(latency.as_secs_f64() * 1e6),
            None => lost += 1,
        }
    }
    let cpu = (cpu(pid) - before).as_secs_f64();
    let busy = cpu / begun.elapsed().as_secs_f64();
    Pace { latencies: taken.into_iter().collect(), lost, busy }
}

/// Asks for a hundred services, from the first to the last.
pub fn check(server: SocketAddr, catalog: Catalog) {
    let socket = asking(server);
    for id in 0..100 {
        let service = usize::from(id) * (catalog.services - 1) / 99;
        ask_once(&socket, id, service, catalog).expect("an answer");
    }
}

/// Asks for a service; the reply must have three of its addresses. `None` when it was lost.
fn ask_once(socket: &UdpSocket, id: u16, service: usize, catalog: Catalog) -> Option<Duration> {
    let (mut query, mut reply) = (question(&name(service)), [0; 512]);
    let since = Instant::now();
    let reply = ask(socket, &mut query, id, &mut reply)?;
    let taken = since.elapsed();
    let (heard, all) = (addresses(reply), catalog.addresses_of(service));
    let is_right = heard.len() == SHOWN && heard.iter().all(|one| all.contains(one));
    assert!(is_right, "{heard:?} of {all:?}");
    Some(taken)
}

/// Keeps `lanes` busy for `duration`; gives the number of replies.
fn ask_for(duration: Duration, lanes: &mut [Lane]) -> u64 {
    let (since, mut answered) = (Instant::now(), 0);
    while since.elapsed() < duration {
        answered += lanes.iter_mut().map(Lane::turn).sum::<u64>();
    }
    answered
}

/// One client port, with its queries.
struct Lane {
    socket: UdpSocket,
    /// [`BURST`] queries of one length for as many services, one after the other.
    burst: Vec<u8>,
    query_len: usize,
    /// The next query's id. Those of the last [`WINDOW`] may still be answered.
    id: u16,
    outstanding: usize,
    heard: Instant,
}

impl Lane {
    fn new(server: SocketAddr, lane: usize, catalog: Catalog) -> Self {
        let socket = asking(server);
        socket.set_nonblocking(true).expect("a socket that does not block");
        let services = (0..BURST).map(|at| (lane + at * LANES) % catalog.services);
        let burst: Vec<u8> = services.flat_map(|service| question(&name(service))).collect();
        let query_len = burst.len() / BURST;
        Self { socket, burst, query_len, id: 0, outstanding: 0, heard: Instant::now() }
    }

    /// Takes all replies that are there, and asks as much again. Gives the number of replies.
    fn turn(&mut self) -> u64 {
        let (mut reply, mut answered) = ([0; 512], 0);
        while let Ok(len) = self.socket.recv(&mut reply) {
            let is_right = len > 12 && reply[3] & 0xf == 0 && usize::from(reply[7]) == SHOWN;
            assert!(is_right, "rcode {}, {} answers", reply[3] & 0xf, reply[7]);
            let id = u16::from_be_bytes([reply[0], reply[1]]);
            // Late ones, given up as lost, are no answers to what is outstanding.
            if usize::from(self.id.wrapping_sub(id)) <= WINDOW + BURST {
                self.outstanding = self.outstanding.saturating_sub(1);
                answered += 1;
            }
        }
        if answered > 0 {
            self.heard = Instant::now();
        } else if self.outstanding > 0 && self.heard.elapsed() > LOST {
            self.outstanding = 0;
            self.heard = Instant::now();
        }
        while self.outstanding + BURST <= WINDOW && self.send().is_ok() {}
        answered
    }

    fn send(&mut self) -> nix::Result<()> {
        for query in self.burst.chunks_exact_mut(self.query_len) {
            query[..2].copy_from_slice(&self.id.to_be_bytes());
            self.id = self.id.wrapping_add(1);
        }
        let segment = self.query_len as u16;
        let segments = [ControlMessage::UdpGsoSegments(&segment)];
        let bytes = [IoSlice::new(&self.burst)];
        sendmsg::<()>(self.socket.as_raw_fd(), &bytes, &segments, MsgFlags::empty(), None)?;
        self.outstanding += BURST;
        Ok(())
    }
}

/// Addresses of an answer without EDNS.
const SHOWN: usize = 3;

const LANES: usize = 8;
const WINDOW: usize = 64;
const BURST: usize = 16;

const WARM_UP: Duration = Duration::from_millis(100);
const ROUND: Duration = Duration::from_millis(1_000);

/// When what is outstanding is taken for lost, so that a full queue does not end the round.
const LOST: Duration = Duration::from_millis(100);

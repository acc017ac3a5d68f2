//! How many queries one core answers, beside NSD, Knot, unbound, dnsmasq, hickory-server, Consul's
//! own DNS, and an echo.
//!
//! ```text
//!   core 1   generator: 8 ports, 32 queries outstanding on each, bursts of 16 (UDP GSO)
//!            or 4 connections, 64 queries outstanding on each
//!   core 0   one of the servers, with one thread and the same zone; the others are idle
//! ```
//! **Budget** (the targets at the end of the output, each with its bound): over UDP 1.10 of NSD and
//! Knot, 0.90 of an echo that does nothing but send batches back; 10 to 100 times Consul; a flood
//! of names that there are not costs what hits do; over TCP and TLS more than hickory-server. A
//! target is met when both quartiles of the ratios, taken round by round, are.
//!
//! All servers are asked in alternation. Every reply's id, rcode and number of answers is checked.
//! `load` is the CPU time that a server had per second: below 1 it was not saturated, and its
//! rate says little; CPU time per query, of all its threads, still compares. Latencies are those
//! of queries that come at a fixed pace, counted from when each was due.
//!
//! fingerpost serves a catalogue file with its default configuration, but one thread; it counts,
//! marks what is asked for, and answers cookies. `bare` is `dns::batch` and `answer::respond`
//! without these counts. `10,000 names` draws from as many services. Beside the hits there is a row
//! for each thing that is on by default and takes time, or that resolvers do unasked: EDNS, a cookie,
//! letters of mixed case (0x20), a tag, the short form, the AAAA that comes with every A, PTR; and one
//! for a socket on `[::1]` and on `0.0.0.0`. What each costs is told beside our own A x3.
//!
//! Run: `tests/run bench serve [--rounds N] [--only TEXT] [--json] [--pictures FOLDER]`, which
//! provides the peers; fifteen minutes. Without them: `cargo bench --bench serve`.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::panic, clippy::unwrap_used)]
#![allow(unreachable_pub)]

mod case;
#[path = "../support/figures.rs"]
mod figures;
#[path = "../support/generator.rs"]
mod generator;
#[path = "../support/options.rs"]
mod options;
mod peers;
mod picture;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/question.rs"]
mod question;
mod roles;
mod stream;
// Its own tests are not run here, so what they use is unused.
#[allow(unused_imports)]
#[path = "../../tests/it/support/mod.rs"]
mod support;
mod table;
#[path = "../support/target.rs"]
mod target;
mod zone;

use std::path::Path;
use std::time::Duration;

use crate::case::Case;
use crate::figures::{Place, pin};
use crate::generator::{Asked, Pace, Queries, Run, Saturation, pace, settle};
use crate::options::Options;
use crate::peers::{Files, Peer, Server};
use crate::stream::Carrier;
use crate::zone::Zone;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts[..] {
        ["--echo"] => return roles::echo(),
        ["--bare", catalog] => return roles::bare(catalog),
        ["--hickory", records, certificate, key] => {
            return roles::hickory(records, certificate, key);
        }
        _ => (),
    }
    support::choose_crypto();
    let options = Options::read(15, &["--only TEXT", "--pictures FOLDER"]);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let stage = runtime.block_on(Stage::set());
    let mut results = Results::plan(&stage, &options);
    for round in 1..=options.rounds {
        results.measure(&stage);
        if !options.json {
            eprintln!("round {round} of {}", options.rounds);
        }
    }
    match options.json {
        true => println!("{}", table::json(&stage, &results)),
        false => table::print(&stage, &results),
    }
    if let Some(folder) = options.own("--pictures") {
        picture::write(Path::new(folder), &stage, &results);
    }
}

/// All servers.
struct Stage {
    peers: Vec<Peer>,
    files: Files,
    pinned: bool,
    place: Place,
}

impl Stage {
    async fn set() -> Self {
        let (place, zone) = (Place::here(), Zone::new());
        let files = Files::new(&zone);
        let mut peers = Vec::new();
        // What is started now stays there; then the generator moves away.
        let mut pinned = pin("0");
        for server in
            [Server::Ours, Server::Wild, Server::Six, Server::Bare].iter().chain(Server::ALL)
        {
            peers.extend(peers::start(*server, &zone, &files).await);
        }
        pinned &= pin(if place.cores > 2 { "0,2" } else { "0,1" });
        peers.extend(peers::start(Server::Double, &zone, &files).await);
        pinned &= pin("1");
        Self { peers, files, pinned, place }
    }

    fn peer(&self, server: Server) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.server == server)
    }
}

/// How the queries of a row come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// From this many ports.
    Udp(usize),
    Stream(Carrier),
}

/// One case, by several servers.
struct Row {
    way: Way,
    case: &'static Case,
    queries: Queries,
    entries: Vec<(Server, Vec<Run>)>,
}

impl Row {
    fn new(stage: &Stage, way: Way, case: &'static Case, servers: &[Server]) -> Self {
        let serves = |server: &&Server| match (stage.peer(**server), way) {
            (None, _) => false,
            (Some(_), Way::Udp(_)) => true,
            (Some(peer), Way::Stream(Carrier::Tcp)) => peer.tcp.is_some(),
            (Some(peer), Way::Stream(Carrier::Tls)) => peer.tls.is_some(),
        };
        let entries = servers.iter().filter(serves).map(|server| (*server, Vec::new())).collect();
        Self { way, case, queries: case.queries(), entries }
    }

    /// What it is called in tables.
    fn label(&self) -> String {
        match self.way {
            Way::Udp(LANES) => self.case.label.to_owned(),
            Way::Udp(1) => format!("{}, from one port", self.case.label),
            Way::Udp(ports) => format!("{}, from {ports} ports", self.case.label),
            Way::Stream(Carrier::Tcp) => format!("{} over TCP", self.case.label),
            Way::Stream(Carrier::Tls) => format!("{} over TLS", self.case.label),
        }
    }

    fn runs(&self, server: Server) -> Option<&[Run]> {
        self.entries.iter().find(|(other, _)| *other == server).map(|(_, runs)| &runs[..])
    }

    fn measure(&mut self, stage: &Stage) {
        let Self { way, case, queries, entries } = self;
        for (server, runs) in entries {
            let Some(peer) = stage.peer(*server) else { continue };
            runs.extend(match *way {
                Way::Udp(ports) => Some(saturate(peer, case, queries, ports)),
                Way::Stream(carrier) => {
                    stream::saturate(peer, carrier, &stage.files.authority(), case, queries)
                }
            });
        }
    }
}

/// Asks `peer` from `ports` ports so that it always has more to do, and waits until it has not.
fn saturate(peer: &Peer, case: &Case, queries: &Queries, ports: usize) -> Run {
    let check = |reply: &[u8]| case.check(reply);
    let how = Saturation { ports, window: LANES * WINDOW / ports, ..SATURATION };
    let run = generator::saturate(asked(peer, queries, &check), how);
    settle(peer.pid);
    run
}

fn asked<'a>(peer: &Peer, queries: &'a Queries, check: &'a dyn Fn(&[u8])) -> Asked<'a> {
    Asked { server: peer.udp, pid: peer.pid, queries, check }
}

/// Latencies of one server at shares of the rate that it can answer.
struct Load {
    server: Server,
    /// Share, rate and latencies, round by round.
    paces: Vec<(f64, Vec<(f64, Pace)>)>,
}

struct Results {
    rows: Vec<Row>,
    loads: Vec<Load>,
}

impl Results {
    /// What there is to measure.
    fn plan(stage: &Stage, options: &Options) -> Self {
        let with_ours = |others: &[Server]| [&[Server::Ours], others].concat();
        let mut rows = Vec::new();
        for case in case::UDP {
            let mut servers = with_ours(case.others);
            if case.label == PACED || case.label.starts_with("SRV x10") {
                servers.extend([Server::Wild, Server::Six, Server::Bare]);
            }
            rows.push(Row::new(stage, Way::Udp(LANES), case, &servers));
        }
        for carrier in [Carrier::Tcp, Carrier::Tls] {
            for case in case::STREAMS {
                let servers = with_ours(case.others);
                rows.push(Row::new(stage, Way::Stream(carrier), case, &servers));
            }
        }
        for ports in [1, 4, 64] {
            let servers = [Server::Ours, Server::Double];
            rows.push(Row::new(stage, Way::Udp(ports), &case::STREAMS[0], &servers));
        }
        // Rows whose label has this.
        let only = options.own("--only").unwrap_or_default();
        rows.retain(|row| row.label().contains(only));
        let load = |server: &Server| Load {
            server: *server,
            paces: SHARES.iter().map(|share| (*share, Vec::new())).collect(),
        };
        let is_here = |server: &&Server| stage.peer(**server).is_some();
        let has_rates = rows.iter().any(|row| row.label() == PACED);
        let loads = LOADED.iter().filter(is_here).filter(|_| has_rates).map(load).collect();
        Self { rows, loads }
    }

    /// One round of everything.
    fn measure(&mut self, stage: &Stage) {
        for row in &mut self.rows {
            row.measure(stage);
        }
        let Some(row) = self.rows.iter().find(|row| row.label() == PACED) else { return };
        for Load { server, paces } in &mut self.loads {
            let (Some(peer), Some(runs)) = (stage.peer(*server), row.runs(*server)) else {
                continue;
            };
            let Some(whole) = runs.last().map(|run| run.rate) else { continue };
            let check = |reply: &[u8]| row.case.check(reply);
            for (share, rounds) in paces {
                let rate = whole * *share;
                rounds.push((rate, pace(asked(peer, &row.queries, &check), rate)));
            }
        }
    }
}

/// Client ports, unless other numbers of them are compared.
const LANES: usize = 8;

/// Queries outstanding on a port, where there are [`LANES`] of them: all together are no more than
/// a socket's buffer holds by default.
const WINDOW: usize = 32;

/// Lost is what takes longer than the slowest takes for all of it, or it would be asked more than
/// it can answer.
const SATURATION: Saturation = Saturation {
    ports: LANES,
    window: WINDOW,
    warm_up: Duration::from_millis(50),
    round: Duration::from_millis(400),
    lost: Duration::from_secs(5),
};

/// The row whose rates say at which pace latencies are looked at.
const PACED: &str = "A x3";

/// Of the rate that a server answers.
const SHARES: [f64; 4] = [0.1, 0.25, 0.5, 0.75];

/// Whose latencies are looked at.
const LOADED: [Server; 5] = [Server::Ours, Server::Nsd, Server::Knot, Server::Consul, Server::Echo];

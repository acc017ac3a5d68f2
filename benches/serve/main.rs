//! How many queries one core answers over UDP, beside Consul's own DNS and beside an echo.
//!
//! ```text
//!   core 1   generator: 8 sockets, 64 queries outstanding on each, bursts of 16 (UDP GSO)
//!   core 0   one of: the server (one worker), Consul, an echo that sends queries back
//! ```
//! **Budget:** at least 0.85 of the echo, which makes two system calls for each query and answers
//! nothing; so 5 times Consul for A of 3, 10 times for SRV of 10, 30 times for SRV of 50. Ours takes
//! what is queued in one call and sends all replies in another. NXDOMAIN costs no more than a hit.
//!
//! Both servers have the same services: ours watches the Consul beside it. They are asked in
//! alternation, a second each; every reply's id, rcode and number of answers is checked. Where
//! other programs take from the two cores, or `taskset` is missing, rates say little; CPU time per
//! query, of all the server's threads, still compares.
//!
//! Set on 2 cores of an AMD EPYC (Zen 5) under KVM, Consul 1.8.7. Run:
//! `FINGERPOST_TEST_CONSUL=/path/to/consul cargo bench --bench serve -- [--rounds N] [--json]`

#![allow(clippy::expect_used, clippy::print_stdout, clippy::panic, clippy::unwrap_used)]
#![allow(unreachable_pub)]

#[path = "support/figures.rs"]
mod figures;
// Its own tests are not run here, so what they use is unused.
#[allow(unused_imports)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::figures::{Figures, Place, pin, said_by};
use crate::support::consul::Consul;
use crate::support::consul_binary;
use crate::support::program::{ANY_PORT, Program};

fn main() {
    let mut options = Options { rounds: 15, json: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => (),
            "--echo" => return echo(),
            "--json" => options.json = true,
            "--rounds" => {
                let count = arguments.next().and_then(|count| count.parse().ok());
                options.rounds = count.expect("--rounds takes a number");
            }
            other => panic!("{other} is none of --rounds N, --json"),
        }
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let Some(stage) = runtime.block_on(Stage::set()) else { return };
    run(&stage, &options);
}

struct Options {
    rounds: usize,
    json: bool,
}

fn run(stage: &Stage, options: &Options) {
    let binary = consul_binary().expect("the Consul that was there");
    let version = said_by(&binary.to_string_lossy(), &["version"]);
    let (place, pinned) = (&stage.place, if stage.pinned { "pinned" } else { "NOT pinned" });
    let mut rows = Vec::new();
    if !options.json {
        println!("\nqueries a second on one core: {place}, {version}, {pinned}");
        println!("medians of {} rounds in alternation; ratios with quartiles\n", options.rounds);
        println!("{:<13}{:^27}{:^21}  {:^41}", "", "q/s", "CPU us/q", "q/s, ours to");
        println!(
            "{:<13}{:>9}{:>9}{:>9}{:>7}{:>7}{:>7}   {:<22}echo",
            "", "ours", "Consul", "echo", "ours", "Consul", "echo", "Consul"
        );
    }
    for case in CASES {
        let row = Row::measure(case, stage, options.rounds);
        match options.json {
            true => rows.push(row.json()),
            false => row.print(),
        }
    }
    if options.json {
        let place = place.to_string();
        let all = json!({ "place": place, "consul": version, "pinned": pinned, "rows": rows });
        println!("{all}");
    }
}

/// The servers, all on the first core.
struct Stage {
    _consul: Consul,
    _server: Program,
    _echo: Echo,
    /// Ours, Consul's, the echo.
    targets: [Target; 3],
    pinned: bool,
    place: Place,
}

impl Stage {
    async fn set() -> Option<Self> {
        let place = Place::here();
        // What is started now stays there; then the generator moves away.
        let pinned = pin(0);
        let consul = Consul::start().await?;
        for size in SIZES {
            for instance in 0..size {
                consul.register(registration(size, instance)).await;
            }
        }
        let url = format!("http://{}", consul.http_address());
        let arguments = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--consul", &url];
        let server = Program::start(&arguments, &[("FINGERPOST_DNS_WORKERS", "1")]);
        server.ready().await;
        let echo = Echo::start();
        let pinned = pinned && pin(1);
        let targets = [
            Target { address: server.dns_address().await, pid: server.pid() },
            Target { address: consul.dns_address(), pid: consul.pid() },
            Target { address: echo.address, pid: echo.child.id() },
        ];
        Some(Self { _consul: consul, _server: server, _echo: echo, targets, pinned, place })
    }
}

/// A server that is asked.
#[derive(Clone, Copy)]
struct Target {
    address: SocketAddr,
    pid: u32,
}

impl Target {
    /// CPU time that all its threads have had.
    fn cpu(self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid));
        let nanos = threads.into_iter().flatten().flatten().filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }
}

/// One case, by all servers.
struct Row {
    case: &'static Case,
    /// Queries a second: ours, Consul's, the echo's.
    rates: [Figures; 3],
    /// Microseconds of CPU time per query, likewise.
    costs: [Figures; 3],
    /// Our rate to Consul's, and to the echo's, round by round.
    ratios: [Figures; 2],
}

impl Row {
    fn measure(case: &'static Case, stage: &Stage, rounds: usize) -> Self {
        let mut runs = [(); 3].map(|()| Vec::new());
        for _ in 0..rounds {
            for (target, runs) in stage.targets.iter().zip(&mut runs) {
                runs.push(saturate(*target, case));
            }
        }
        let [ours, consul, echo] = &runs;
        let over = |others: &[Run]| {
            ours.iter().zip(others).map(|(ours, other)| ours.rate / other.rate).collect()
        };
        let ratios = [over(consul), over(echo)];
        let rates = runs.each_ref().map(|runs| runs.iter().map(|run| run.rate).collect());
        let costs = runs.each_ref().map(|runs| runs.iter().map(|run| run.cpu_us).collect());
        Self { case, rates, costs, ratios }
    }

    fn print(&self) {
        let [ours, consul, echo] = self.rates.each_ref().map(Figures::median);
        let [to_consul, to_echo] = self.ratios.each_ref().map(|ratios| {
            let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| ratios.quantile(share));
            format!("{middle:.2} [{low:.2}..{high:.2}]")
        });
        print!("{:<13}{ours:>9.0}{consul:>9.0}{echo:>9.0}", self.case.label);
        let [ours, consul, echo] = self.costs.each_ref().map(Figures::median);
        println!("{ours:>7.2}{consul:>7.2}{echo:>7.2}   {to_consul:<22}{to_echo}");
    }

    fn json(&self) -> Value {
        let figures = |figures: &Figures| {
            let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| figures.quantile(share));
            json!({ "median": middle, "quartiles": [low, high] })
        };
        let all = |of: &[Figures; 3]| {
            let [ours, consul, echo] = of.each_ref().map(figures);
            json!({ "ours": ours, "consul": consul, "echo": echo })
        };
        let [to_consul, to_echo] = self.ratios.each_ref().map(figures);
        json!({
            "case": self.case.label, "rate": all(&self.rates), "cpu_us": all(&self.costs),
            "ours_to_consul": to_consul, "ours_to_echo": to_echo,
        })
    }
}

/// What is asked, and the rcode and number of answers of every reply but an echo's.
struct Case {
    label: &'static str,
    name: &'static str,
    qtype: u16,
    edns: Option<u16>,
    rcode: u8,
    answers: std::ops::RangeInclusive<u16>,
}

impl Case {
    fn query(&self) -> Vec<u8> {
        let additional = u8::from(self.edns.is_some());
        let mut query = vec![0, 0, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, additional];
        for label in self.name.split('.').chain([""]) {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&self.qtype.to_be_bytes());
        query.extend_from_slice(&1_u16.to_be_bytes());
        if let Some(payload) = self.edns {
            query.extend_from_slice(&[0, 0, 41]);
            query.extend_from_slice(&payload.to_be_bytes());
            query.extend_from_slice(&[0; 6]);
        }
        query
    }

    fn check(&self, reply: &[u8]) {
        let &[_, _, high, low, _, _, answers_high, answers_low, ..] = reply else {
            panic!("{}: a reply of {} bytes", self.label, reply.len());
        };
        let is_echo = high & 0x80 == 0;
        let answers = u16::from_be_bytes([answers_high, answers_low]);
        let is_right = low & 0xf == self.rcode && self.answers.contains(&answers);
        assert!(is_echo || is_right, "{}: rcode {}, {answers} answers", self.label, low & 0xf);
    }
}

/// One round with one server.
struct Run {
    /// Queries answered a second.
    rate: f64,
    /// Of the server's, per query.
    cpu_us: f64,
}

/// Asks `target` so that it always has more to do.
fn saturate(target: Target, case: &Case) -> Run {
    let mut lanes: Vec<Lane> = (0..LANES).map(|_| Lane::new(target.address, case)).collect();
    ask_for(WARM_UP, &mut lanes, case);
    let (since, cpu) = (Instant::now(), target.cpu());
    let answered = ask_for(ROUND, &mut lanes, case) as f64;
    let (taken, cpu) = (since.elapsed(), target.cpu() - cpu);
    Run { rate: answered / taken.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / answered }
}

/// Keeps `lanes` busy for `duration`; gives the number of replies.
fn ask_for(duration: Duration, lanes: &mut [Lane], case: &Case) -> u64 {
    let (since, mut answered) = (Instant::now(), 0);
    while since.elapsed() < duration {
        answered += lanes.iter_mut().map(|lane| lane.turn(case)).sum::<u64>();
    }
    answered
}

/// One client port, with its queries.
struct Lane {
    socket: UdpSocket,
    /// [`BURST`] queries of one length, one after the other.
    burst: Vec<u8>,
    query_len: usize,
    /// The next query's id. Those of the last [`WINDOW`] may still be answered.
    id: u16,
    outstanding: usize,
    heard: Instant,
}

impl Lane {
    fn new(server: SocketAddr, case: &Case) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server).expect("an address to ask");
        socket.set_nonblocking(true).expect("a socket that does not block");
        let query = case.query();
        let (burst, query_len) = (query.repeat(BURST), query.len());
        Self { socket, burst, query_len, id: 0, outstanding: 0, heard: Instant::now() }
    }

    /// Takes all replies that are there, and asks as much again. Gives the number of replies.
    fn turn(&mut self, case: &Case) -> u64 {
        let (mut reply, mut answered) = ([0; 4096], 0);
        while let Ok(len) = self.socket.recv(&mut reply) {
            case.check(&reply[..len]);
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

/// This program in another role, on the core of the servers; it ends with this value.
struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    fn start() -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let mut command = Command::new(program);
        command.arg("--echo").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("an echo");
        let mut line = String::new();
        let output = child.stdout.take().expect("the echo's output");
        BufReader::new(output).read_line(&mut line).expect("the echo's address");
        Self { child, address: line.trim().parse().expect("an address") }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends every datagram back, until its parent is gone.
fn echo() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    println!("{}", socket.local_addr().expect("an address"));
    io::stdout().flush().ok();
    std::thread::spawn(|| {
        io::stdin().lines().for_each(drop);
        std::process::exit(0);
    });
    let mut buffer = [0; 4096];
    loop {
        if let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..len], peer).ok();
        }
    }
}

fn registration(size: usize, instance: usize) -> Value {
    json!({
        "Node": format!("node-{instance}"),
        "Address": format!("10.0.0.{}", instance + 1),
        "Service": {
            "ID": format!("web{size}-{instance}"), "Service": format!("web{size}"),
            "Port": 8080, "Tags": ["v1"],
        },
    })
}

const fn case(
    label: &'static str,
    name: &'static str,
    qtype: u16,
    edns: Option<u16>,
    answers: std::ops::RangeInclusive<u16>,
) -> Case {
    Case { label, name, qtype, edns, rcode: if *answers.start() == 0 { 3 } else { 0 }, answers }
}

/// No answers are NXDOMAIN here. How many fit beside 1232 bytes is each server's own affair.
const CASES: &[Case] = &[
    case("A x3", "web3.service.consul", A, None, 3..=3),
    case("A x10 EDNS", "web10.service.consul", A, Some(1232), 10..=10),
    case("A x50 EDNS", "web50.service.consul", A, Some(1232), 50..=50),
    case("SRV x3", "web3.service.consul", SRV, None, 3..=3),
    case("SRV x10 EDNS", "web10.service.consul", SRV, Some(1232), 10..=10),
    case("SRV x50 EDNS", "web50.service.consul", SRV, Some(1232), 5..=50),
    case("NXDOMAIN", "nothing.service.consul", A, None, 0..=0),
];

const A: u16 = 1;
const SRV: u16 = 33;

/// Instances of the services `web3`, `web10` and `web50`.
const SIZES: [usize; 3] = [3, 10, 50];

const LANES: usize = 8;
const WINDOW: usize = 64;
const BURST: usize = 16;

const WARM_UP: Duration = Duration::from_millis(100);
const ROUND: Duration = Duration::from_millis(900);

/// When what is outstanding is taken for lost, so that a full queue does not end the round.
const LOST: Duration = Duration::from_millis(100);

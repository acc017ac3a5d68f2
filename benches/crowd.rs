//! What 1,000 idle and 100 hostile connections cost those who ask over UDP.
//!
//! ```text
//!   core 1   one client over UDP, a query every millisecond
//!            in every other round, also the crowd: each of ten addresses has 100 idle connections
//!            and 10 hostile ones
//!   core 0   the server: UDP, TCP and TLS
//! ```
//! The hostile ones never read what they ask for; send a query a byte at a time; begin TLS and say
//! no more; connect and go, again and again. A quarter each, and all as fast as they are let.
//! **Budget:** the crowd leaves UDP's p99 where it is: the quartiles of the ratio have 1 between
//! them.
//!
//! Where other programs take from the two cores, or `taskset` is missing, latencies say little.
//!
//! Run: `cargo bench --bench crowd -- [--rounds N] [--json]`

#![allow(clippy::expect_used, clippy::print_stdout, clippy::panic, clippy::unwrap_used)]
#![allow(unreachable_pub)]

#[path = "support/figures.rs"]
mod figures;
#[path = "support/generator.rs"]
mod generator;
#[path = "support/options.rs"]
mod options;
#[path = "support/processes.rs"]
mod processes;
#[path = "support/question.rs"]
mod question;
// Its own tests are not run here, so what they use is unused.
#[allow(unused_imports)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::figures::{Figures, Place, pin};
use crate::generator::{Pace, trickle};
use crate::options::Options;
use crate::support::authority::{Authority, SERVER};
use crate::support::program::{ANY_PORT, Program};

fn main() {
    let options = Options::read(15, &[]);
    let place = Place::here();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let rows = runtime.block_on(measure(options.rounds));
    print(&place, &rows, &options);
}

/// One round of each kind, one after the other.
struct Pair {
    quiet: Figures,
    crowded: Figures,
    lost: usize,
    /// Connections that were open in the middle of the crowded round.
    open: usize,
}

async fn measure(rounds: usize) -> Vec<Pair> {
    let pinned = pin("0");
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let tls = free_port();
    let [cert, key] = ["server.pem", "server.key"].map(|name| authority.path(name));
    let [cert, key] = [&cert, &key].map(|path| path.to_str().expect("a path of text"));
    let tls_text = tls.to_string();
    let server = Program::start(
        &["demo", "--dns", ANY_PORT, "--admin", ANY_PORT],
        &[
            ("FINGERPOST_DNS_WORKERS", "1"),
            ("FINGERPOST_DNS_CONNECTIONS_MAX", "4096"),
            ("FINGERPOST_DNS_TLS_LISTEN", &tls_text),
            ("FINGERPOST_DNS_CERT_FILE", cert),
            ("FINGERPOST_DNS_KEY_FILE", key),
        ],
    );
    server.ready().await;
    if !(pinned && pin("1")) {
        println!("NOT pinned: taskset is missing");
    }
    let (dns, admin) = (server.dns_address().await, server.admin_address().await);
    let mut pairs = Vec::new();
    ask(dns).await;
    for _ in 0..rounds {
        let quiet = ask(dns).await;
        let crowd = Crowd::gather(dns, tls).await;
        let open = gathered(admin).await;
        let crowded = ask(dns).await;
        crowd.leave().await;
        settle(admin).await;
        let lost = quiet.lost + crowded.lost;
        pairs.push(Pair { quiet: quiet.latencies, crowded: crowded.latencies, lost, open });
    }
    pairs
}

fn print(place: &Place, pairs: &[Pair], options: &Options) {
    let of = |figure: fn(&Figures) -> f64| {
        let [quiet, crowded]: [Figures; 2] = [
            pairs.iter().map(|pair| figure(&pair.quiet)).collect(),
            pairs.iter().map(|pair| figure(&pair.crowded)).collect(),
        ];
        let ratio: Figures =
            pairs.iter().map(|pair| figure(&pair.crowded) / figure(&pair.quiet)).collect();
        (quiet, crowded, ratio)
    };
    let rows = [("p50", of(Figures::median)), ("p99", of(|figures| figures.quantile(0.99)))];
    let lost: usize = pairs.iter().map(|pair| pair.lost).sum();
    let open = pairs.iter().map(|pair| pair.open).min().unwrap_or_default();
    if options.json {
        let row = |(label, (quiet, crowded, ratio)): &(&str, (Figures, Figures, Figures))| {
            let ratio = ratio.quartiles();
            let (quiet, crowded) = (quiet.median(), crowded.median());
            json!({ "figure": label, "quiet_us": quiet, "crowded_us": crowded, "ratio": ratio })
        };
        let rows: Vec<Value> = rows.iter().map(row).collect();
        let place = place.to_string();
        println!("{}", json!({ "place": place, "rows": rows, "lost": lost, "open_min": open }));
        return;
    }
    println!("\nUDP beside a crowd of connections: {place}");
    println!("medians of {} rounds in alternation; ratios with quartiles\n", pairs.len());
    println!("{:<5}{:>12}{:>13}   crowded to quiet", "", "quiet us", "crowded us");
    for (label, (quiet, crowded, ratio)) in rows {
        let (quiet, crowded) = (quiet.median(), crowded.median());
        println!("{label:<5}{quiet:>12.1}{crowded:>13.1}   {ratio}");
    }
    println!("queries lost: {lost}; connections open in the least crowded round: {open}");
}

/// Asks once a millisecond for a round, from a thread that has nothing else to do.
async fn ask(server: SocketAddr) -> Pace {
    let is_right = |_, reply: &[u8]| reply[3] & 0xf == 0;
    let asking = move || trickle(server, ROUND, |_| QUERY.to_vec(), is_right);
    tokio::task::spawn_blocking(asking).await.expect("a client that is content")
}

/// Connections that are of no good.
struct Crowd {
    _idle: Vec<TcpStream>,
    hostile: JoinSet<()>,
}

impl Crowd {
    async fn gather(dns: SocketAddr, tls: SocketAddr) -> Self {
        let (mut idle, mut hostile) = (Vec::new(), JoinSet::new());
        for host in 1..=HOSTS {
            for _ in 0..IDLE_EACH {
                idle.push(connect(host, dns).await.expect("a connection"));
            }
            for number in 0..HOSTILE_EACH {
                match number % 4 {
                    0 => hostile.spawn(never_read(host, dns)),
                    1 => hostile.spawn(send_slowly(host, dns)),
                    2 => hostile.spawn(begin_tls(host, tls)),
                    _ => hostile.spawn(come_and_go(host, dns)),
                };
            }
        }
        Self { _idle: idle, hostile }
    }

    async fn leave(mut self) {
        self.hostile.shutdown().await;
    }
}

async fn connect(host: u8, server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 1, host), 0).into())?;
    socket.connect(server).await
}

/// Asks all the time and reads nothing; when it is thrown out, it comes back.
async fn never_read(host: u8, server: SocketAddr) {
    let mut batch = Vec::new();
    for _ in 0..100 {
        batch.extend_from_slice(&(QUERY.len() as u16).to_be_bytes());
        batch.extend_from_slice(QUERY);
    }
    loop {
        let Ok(mut stream) = connect(host, server).await else { continue };
        while stream.write_all(&batch).await.is_ok() {}
    }
}

/// Sends a query a byte at a time, and never the last.
async fn send_slowly(host: u8, server: SocketAddr) {
    loop {
        let Ok(mut stream) = connect(host, server).await else { continue };
        while stream.write_all(&[0]).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Sends the beginning of a handshake and waits to be thrown out.
async fn begin_tls(host: u8, server: SocketAddr) {
    loop {
        let Ok(mut stream) = connect(host, server).await else { continue };
        if stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.is_ok() {
            stream.read_to_end(&mut Vec::new()).await.ok();
        }
    }
}

/// Connects, asks once, and goes.
async fn come_and_go(host: u8, server: SocketAddr) {
    loop {
        if let Ok(mut stream) = connect(host, server).await {
            let len = (QUERY.len() as u16).to_be_bytes();
            stream.write_all(&[&len, QUERY].concat()).await.ok();
            stream.readable().await.ok();
        }
        // As fast as ports of one address last, with a minute of rest each.
        sleep(Duration::from_millis(50)).await;
    }
}

/// Connections of TCP and TLS that the server counts as open.
async fn open(admin: SocketAddr) -> usize {
    let text = reqwest::get(format!("http://{admin}/metrics")).await.expect("a scrape");
    let text = text.text().await.expect("text");
    let lines = text.lines().filter_map(|line| line.strip_prefix("fingerpost_dns_connections{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

/// Waits until all of the idle ones at least are connected, and tells how many are.
async fn gathered(admin: SocketAddr) -> usize {
    loop {
        let open = open(admin).await;
        if open >= usize::from(HOSTS) * IDLE_EACH {
            return open;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until nobody is connected any more.
async fn settle(admin: SocketAddr) {
    while open(admin).await > 0 {
        sleep(Duration::from_millis(20)).await;
    }
}

/// One that was free a moment ago: the log tells of no other than that of UDP.
fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind(ANY_PORT).expect("a port");
    listener.local_addr().expect("its number")
}

/// Addresses that connections come from, and how many come from each.
const HOSTS: u8 = 10;
const IDLE_EACH: usize = 100;
const HOSTILE_EACH: usize = 10;

const ROUND: Duration = Duration::from_secs(2);

/// A of a node that the demo has.
const QUERY: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x02n1\x04node\x06consul\0\0\x01\0\x01";

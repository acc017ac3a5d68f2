//! How soon a change in a real Consul is answered: from one check's flip to the first DNS reply
//! that shows it.
//!
//! ```text
//!   PUT ---> Consul ---> blocking query of ours           what any client of Consul's can have
//!                 `----> the server's watch --> DNS       ours, over UDP
//!                 `----> Consul's own DNS                 beside it, in alternate rounds
//! ```
//! **Budget:** the reply is right within 50 ms of the blocking query's return, at p99.
//!
//! Each round flips one service and looks at it by a blocking query and by one of the two DNS
//! servers, which is asked again and again. Rounds are paced so that the floor under a watch's
//! rounds (a bucket of eight, filled four times a second) is not met; `burst` meets it on purpose.
//! What a figure is made of: the asking adds up to its own pace, and this program, Consul and the
//! server share the machine's cores.
//!
//! Set on 2 cores of an AMD EPYC (Zen 5) under KVM, Consul 1.8.7. Run:
//! `FINGERPOST_TEST_CONSUL=/path/to/consul cargo bench --bench freshness -- [--rounds N] [--json]`

#![allow(clippy::expect_used, clippy::print_stdout, clippy::panic, clippy::unwrap_used)]
#![allow(unreachable_pub)]

#[path = "support/figures.rs"]
mod figures;
// Its own tests are not run here, so what they use is unused.
#[allow(unused_imports)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task;
use tokio::time::{self, Instant};

use crate::figures::{Figures, Place, said_by};
use crate::support::consul::Consul;
use crate::support::consul_binary;
use crate::support::metrics::value;
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::eventually;

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run(&options));
}

struct Options {
    rounds: usize,
    json: bool,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { rounds: 200, json: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => (),
                "--json" => options.json = true,
                "--rounds" => {
                    let count = arguments.next().and_then(|count| count.parse().ok());
                    options.rounds = count.expect("--rounds takes a number");
                }
                other => panic!("{other} is none of --rounds N, --json"),
            }
        }
        options
    }
}

async fn run(options: &Options) {
    let Some(binary) = consul_binary() else { return };
    let version = said_by(&binary.to_string_lossy(), &["version"]);
    let place = Place::here();
    let mut tables = Vec::new();
    for services in WATCHED {
        let stage = Stage::set(services).await;
        tables.push((services, stage.measure(options.rounds).await));
    }
    if options.json {
        let tables = tables.iter().map(|(services, table)| table.json(*services));
        let tables: Vec<Value> = tables.collect();
        println!(
            "{}",
            json!({ "place": place.to_string(), "consul": version, "unit": "ms", "tables": tables })
        );
        return;
    }
    println!("\nfrom a flip to the answer, in ms: {place}, {version}");
    for (services, table) in &tables {
        table.print(*services);
    }
}

/// A Consul with services, and a server that watches them.
struct Stage {
    consul: Consul,
    server: Program,
    services: usize,
}

impl Stage {
    async fn set(services: usize) -> Self {
        let consul = Consul::start().await.expect("a Consul that was there");
        for service in 0..services {
            for instance in 0..INSTANCES {
                consul.register(registration(service, instance)).await;
            }
        }
        let url = format!("http://{}", consul.http_address());
        let arguments = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--consul", &url];
        // A start watches few services until a wait has passed; what is measured comes after.
        let server = Program::start(&arguments, &[("FINGERPOST_CONSUL_WAIT", "2s")]);
        server.ready().await;
        let stage = Self { consul, server, services };
        let watches = async || value(&stage.scrape().await, "fingerpost_consul_watches");
        eventually("all are watched", async || watches().await >= services as f64).await;
        stage
    }

    async fn measure(&self, rounds: usize) -> Table {
        let servers = [self.server.dns_address().await, self.consul.dns_address()];
        let mut table = Table::default();
        let before = self.propagation().await;
        // The first rounds warm connections and caches, and are not counted.
        let mut shown = vec![INSTANCES; self.services];
        for round in 0..WARM_UP + rounds * servers.len() {
            let service = round / servers.len() % self.services;
            // Each server is looked at once a sweep, in turn first: it sees both directions.
            let sweep = round / servers.len() / self.services;
            let at = (round + sweep) % servers.len();
            let status = if shown[service] == INSTANCES { "critical" } else { "passing" };
            shown[service] = if status == "critical" { INSTANCES - 1 } else { INSTANCES };
            let flips = [Flip { instance: 0, status }];
            let seen = self.change(service, &flips, shown[service], servers[at]).await;
            if round >= WARM_UP {
                table.add(at, seen);
            }
            time::sleep(PACE).await;
        }
        let after = self.propagation().await;
        table.published_mean = (after.0 - before.0) / (after.1 - before.1) * 1e3;
        for _ in 0..BURSTS.min(rounds) {
            table.bursts.push(self.burst(servers[0]).await);
        }
        table
    }

    /// Many changes of one service at once. The last one alone makes the count that is waited for.
    async fn burst(&self, server: SocketAddr) -> Seen {
        for instance in 0..INSTANCES {
            self.flip(0, Flip { instance, status: "passing" }).await;
        }
        time::sleep(QUIET).await;
        let restless = (0..BURST - 1).map(|at| Flip {
            instance: 0,
            status: if at % 2 == 0 { "critical" } else { "passing" },
        });
        let last = Flip { instance: 1, status: "critical" };
        let flips: Vec<Flip> = restless.chain([last]).collect();
        self.change(0, &flips, INSTANCES - 2, server).await
    }

    /// Makes `flips`, and waits until `shown` instances of the service are answered. Times are
    /// since the last flip was sent.
    async fn change(
        &self,
        service: usize,
        flips: &[Flip],
        shown: usize,
        server: SocketAddr,
    ) -> Seen {
        let path = self.consul.url(&format!("/v1/health/service/{}", service_name(service)));
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        // The first look says where to wait from.
        let (index, _) = look(&client, &path, 0).await;
        let asking = task::spawn_blocking(move || ask_until(server, service, shown));
        let flipping = async {
            time::sleep(ARMED).await;
            let mut since = Instant::now();
            for flip in flips {
                since = Instant::now();
                self.flip(service, *flip).await;
            }
            (since, Instant::now())
        };
        let ((since, taken), blocking) =
            tokio::join!(flipping, look_until(&client, &path, index, shown));
        let dns = asking.await.expect("an answer in the end");
        let ms = |at: Instant| at.saturating_duration_since(since).as_secs_f64() * 1e3;
        Seen { taken: ms(taken), blocking: ms(blocking), dns: ms(dns) }
    }

    /// The sum and the count of what the server itself measured, in seconds.
    async fn propagation(&self) -> (f64, f64) {
        let text = self.scrape().await;
        let of = |what: &str| value(&text, &format!("fingerpost_propagation_seconds_{what}"));
        (of("sum"), of("count"))
    }

    async fn scrape(&self) -> String {
        let url = format!("http://{}/metrics", self.server.admin_address().await);
        let reply = reqwest::get(url).await.expect("the server's metrics");
        reply.text().await.expect("all of the metrics")
    }

    async fn flip(&self, service: usize, flip: Flip) {
        let Flip { instance, status } = flip;
        let (node, id) = (node_name(instance), service_id(service, instance));
        self.consul.set_check(&node, Some(&id), &format!("check:{id}"), status).await;
    }
}

/// One check's new status.
#[derive(Clone, Copy)]
struct Flip {
    instance: usize,
    status: &'static str,
}

/// When one change was seen, in ms since it was sent.
#[derive(Clone, Copy)]
struct Seen {
    /// Consul's reply to it.
    taken: f64,
    blocking: f64,
    dns: f64,
}

#[derive(Default)]
struct Table {
    ours: Vec<Seen>,
    consul: Vec<Seen>,
    bursts: Vec<Seen>,
    /// By the server's own metric: from a reply of Consul's that is in, to the answers.
    published_mean: f64,
}

impl Table {
    fn add(&mut self, server: usize, seen: Seen) {
        match server {
            0 => self.ours.push(seen),
            _ => self.consul.push(seen),
        }
    }

    fn rows(&self) -> Vec<(&'static str, Figures)> {
        let of = |seen: &[Seen], figure: fn(&Seen) -> f64| seen.iter().map(figure).collect();
        let behind: fn(&Seen) -> f64 = |seen| seen.dns - seen.blocking;
        vec![
            ("Consul has taken the change", of(&self.ours, |seen| seen.taken)),
            ("a blocking query returns it", of(&self.ours, |seen| seen.blocking)),
            ("our DNS answers it", of(&self.ours, |seen| seen.dns)),
            ("  behind the blocking query", of(&self.ours, behind)),
            ("Consul's own DNS answers it", of(&self.consul, |seen| seen.dns)),
            ("  behind the blocking query", of(&self.consul, behind)),
            ("burst: a blocking query", of(&self.bursts, |seen| seen.blocking)),
            ("burst: our DNS", of(&self.bursts, |seen| seen.dns)),
        ]
    }

    fn print(&self, services: usize) {
        let (rounds, bursts) = (self.ours.len(), self.bursts.len());
        println!("\n{services} services watched, {rounds} rounds, {bursts} bursts of {BURST}");
        println!("{:<32}{:>9}{:>9}{:>9}{:>9}", "", "p50", "p90", "p99", "max");
        for (name, figures) in self.rows() {
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| figures.quantile(share));
            println!("{name:<32}{p50:>9.2}{p90:>9.2}{p99:>9.2}{:>9.2}", figures.max());
        }
        let mean = self.published_mean;
        println!(
            "{:<32}{mean:>9.2}   (mean, by the server's own metric)",
            "  reply in, until published"
        );
    }

    fn json(&self, services: usize) -> Value {
        let rows = self.rows().into_iter().map(|(name, figures)| {
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| figures.quantile(share));
            let (count, max) = (figures.count(), figures.max());
            json!({ "row": name, "count": count, "p50": p50, "p90": p90, "p99": p99, "max": max })
        });
        let rows: Vec<Value> = rows.collect();
        json!({ "services": services, "rows": rows, "published_mean": self.published_mean })
    }
}

/// Repeats a blocking query until `shown` instances are not critical.
async fn look_until(client: &reqwest::Client, path: &str, mut index: u64, shown: usize) -> Instant {
    loop {
        let (next, healthy) = look(client, path, index).await;
        if healthy == shown {
            return Instant::now();
        }
        index = next;
    }
}

/// `X-Consul-Index`, and how many instances are not critical.
async fn look(client: &reqwest::Client, path: &str, index: u64) -> (u64, usize) {
    let url = format!("{path}?index={index}&wait=60s");
    let reply = client.get(url).send().await.expect("Consul's reply");
    let index = reply.headers().get("X-Consul-Index").and_then(|index| index.to_str().ok());
    let index = index.and_then(|index| index.parse().ok()).expect("an index");
    let text = reply.text().await.expect("Consul's whole reply");
    // One check each, so that counting words is enough.
    (index, INSTANCES - text.matches("\"critical\"").count())
}

/// Asks for A records until there are `shown`.
fn ask_until(server: SocketAddr, service: usize, shown: usize) -> Instant {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server).expect("an address to ask");
    socket.set_read_timeout(Some(LOST)).expect("a timeout");
    let (mut query, mut reply) = (query(service), [0; 512]);
    for id in 0_u16.. {
        query[..2].copy_from_slice(&id.to_be_bytes());
        socket.send(&query).expect("a query that leaves");
        match socket.recv(&mut reply) {
            Ok(len) if len > 12 && reply[..2] == query[..2] && usize::from(reply[7]) == shown => {
                return Instant::now();
            }
            _ => std::thread::sleep(ASK_EVERY),
        }
    }
    panic!("{} never had {shown} answers", service_name(service));
}

fn query(service: usize) -> Vec<u8> {
    let mut query = b"\0\0\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in [&*service_name(service), "service", "consul", ""] {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(b"\0\x01\0\x01");
    query
}

fn registration(service: usize, instance: usize) -> Value {
    let (name, id, node) =
        (service_name(service), service_id(service, instance), node_name(instance));
    json!({
        "Node": node,
        "Address": format!("10.0.0.{}", instance + 1),
        "Service": { "ID": id, "Service": name, "Port": 8080, "Tags": ["v1", "http"] },
        "Check": {
            "Node": node, "CheckID": format!("check:{id}"), "Name": "check",
            "ServiceID": id, "Status": "passing",
        },
    })
}

fn service_name(service: usize) -> String {
    format!("fresh-{service:03}")
}

fn service_id(service: usize, instance: usize) -> String {
    format!("{}-{instance}", service_name(service))
}

fn node_name(instance: usize) -> String {
    format!("node-{instance}")
}

/// Services that are watched beside Consul's own.
const WATCHED: [usize; 2] = [3, 50];

/// As many as Consul's DNS answers without EDNS.
const INSTANCES: usize = 3;

const WARM_UP: usize = 8;
const BURSTS: usize = 10;
const BURST: usize = 20;

/// Until a blocking query has surely reached Consul.
const ARMED: Duration = Duration::from_millis(30);

/// Between two rounds; with [`ARMED`] longer than the floor under a watch's rounds.
const PACE: Duration = Duration::from_millis(250);

/// Until every watch may go two rounds at once again.
const QUIET: Duration = Duration::from_millis(1_500);

/// Between a reply and the next query. Less, and asking takes from Consul the core that it needs.
const ASK_EVERY: Duration = Duration::from_micros(100);

/// When a datagram is taken for lost.
const LOST: Duration = Duration::from_millis(500);

//! From a change in a real Consul to the first answer that shows it.
//!
//! ```text
//!   a check is flipped (PUT) --+--> a blocking query of our own returns     "http"
//!                              +--> the first DNS reply of ours shows it    "dns"
//!                              +--> (in turn) Consul's own DNS shows it     "consul's dns"
//! ```
//! All times are from the moment at which the PUT is sent. A round measures the first two side by
//! side, so `dns - http` is what we add to the fastest that a watcher of Consul can be; it may be
//! below zero, when our watch is woken first. **Budget:** 50 ms for `dns - http` in every round.
//!
//! A watch goes round four times a second after eight quick rounds, so each service rests between
//! two flips; `burst` shows what happens if it does not.
//!
//! Run: `cargo bench --bench freshness [-- --json]`. Consul is taken from `FINGERPOST_TEST_CONSUL`
//! or `PATH`; `tests/run` unpacks one.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]
// The tests' support is a toolbox, with tests of its own that are no part of a bench.
#![allow(dead_code, unreachable_pub, unused_imports)]

#[path = "support/figures.rs"]
mod figures;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use fingerpost::app::Origin;
use fingerpost::config::{Config, ConsulAddress};
use fingerpost::consul::Client;
use hickory_proto::rr::RecordType;
use serde_json::json;
use tokio::time::Instant;

use crate::figures::{Figures, Place};
use crate::support::consul::Consul;
use crate::support::dns::question;
use crate::support::server::Server;

/// The times of one series of flips.
#[derive(Default)]
struct Series {
    http: Vec<Duration>,
    dns: Vec<Duration>,
    consul_dns: Vec<Duration>,
    /// `dns - http`, in milliseconds; signed.
    added_ms: Vec<f64>,
}

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(consul) = Consul::start().await else { return };
        let server = serve(&consul).await;
        let mut rows = Vec::new();
        for (what, services, rounds, rest) in [
            ("1 service", 1, 40, REST),
            ("50 services in turn", 50, 200, REST / 50),
            ("burst of 1 service", 1, 40, Duration::ZERO),
        ] {
            rows.push((what, measure(&consul, &server, services, rounds, rest).await));
        }
        if json { print_json(&rows) } else { print_table(&rows) }
    });
}

/// Registers the services, starts a server on the same machine and waits until it is ready.
async fn serve(consul: &Consul) -> Server {
    for number in 0..50 {
        let name = format!("s{number}");
        consul
            .register(json!({
                "Node": format!("n{number}"),
                "Address": format!("10.0.0.{number}"),
                "Service": { "ID": &name, "Service": &name, "Port": 80 },
                "Check": { "CheckID": &name, "Name": &name, "ServiceID": &name, "Status": "passing" },
            }))
            .await;
    }
    support::choose_crypto();
    let mut config = Config::default();
    config.consul.addresses = vec![ConsulAddress::Http(consul.url(""))];
    let client = Client::new(&config.consul).unwrap();
    let server = Server::start(config, Origin::Consul(client));
    server.ready().await;
    server
}

async fn measure(
    consul: &Consul,
    server: &Server,
    services: usize,
    rounds: usize,
    rest: Duration,
) -> Series {
    let mut series = Series::default();
    for round in 0..rounds {
        let number = round % services;
        let name = format!("s{number}");
        // Each service is flipped to and fro.
        let down = (round / services).is_multiple_of(2);
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        let (index, _) = consul.get(&format!("/v1/health/service/{name}")).await;
        let held = format!("/v1/health/service/{name}?index={index}&wait=10s");
        let start = Instant::now();
        let flip = async {
            let status = if down { "critical" } else { "passing" };
            consul.set_check(&format!("n{number}"), Some(&name), &name, status).await;
        };
        // Polling three at once would measure how they share two cores.
        if round % 4 == 3 {
            let theirs = watch_dns(consul.dns_address(), &name, down, start);
            let (at, ()) = tokio::join!(theirs, flip);
            series.consul_dns.push(at);
            // Ours has to see it too before the next flip.
            watch_dns(server.dns(), &name, down, start).await;
            continue;
        }
        let http = async {
            consul.get(&held).await;
            start.elapsed()
        };
        let ours = watch_dns(server.dns(), &name, down, start);
        let (http, dns, ()) = tokio::join!(http, ours, flip);
        series.http.push(http);
        series.dns.push(dns);
        series.added_ms.push((dns.as_secs_f64() - http.as_secs_f64()) * 1e3);
    }
    series.added_ms.sort_by(f64::total_cmp);
    series
}

/// Asks again and again until the service is denied (`down`) or answered; the time from `start`.
async fn watch_dns(server: SocketAddr, service: &str, down: bool, start: Instant) -> Duration {
    let query = question(&format!("{service}.service.consul"), RecordType::A).to_vec().unwrap();
    let wanted = if down { NXDOMAIN } else { NOERROR };
    let asking = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(GIVE_UP)).unwrap();
        let mut reply = [0; 512];
        loop {
            socket.send(&query).unwrap();
            socket.recv(&mut reply).unwrap();
            if reply[3] & 0xf == wanted {
                return start.elapsed();
            }
            assert!(start.elapsed() < GIVE_UP, "the change did not arrive");
            // A poll that never pauses would take a core from Consul.
            std::thread::sleep(POLL);
        }
    });
    asking.await.unwrap()
}

fn print_table(rows: &[(&str, Series)]) {
    println!("From the change to the answer, in ms. {}", Place::here());
    println!(
        "{:<22}{:>16}{:>16}{:>22}{:>20}",
        "", "http p50/p99", "dns p50/p99", "dns-http p50/p99/max", "consul's dns p50/p99"
    );
    for (what, series) in rows {
        let pair = |taken: &[Duration]| {
            let figures = Figures::new(taken.to_vec());
            format!("{:.2} / {:.2}", millis(figures.median()), millis(figures.quantile(0.99)))
        };
        let added = &series.added_ms;
        println!(
            "{what:<22}{:>16}{:>16}{:>22}{:>20}",
            pair(&series.http),
            pair(&series.dns),
            format!("{:.2} / {:.2} / {:.2}", at(added, 0.5), at(added, 0.99), at(added, 1.0)),
            pair(&series.consul_dns),
        );
    }
}

fn print_json(rows: &[(&str, Series)]) {
    let row = |(what, series): &(&str, Series)| {
        let pair = |taken: &[Duration]| {
            let figures = Figures::new(taken.to_vec());
            json!({ "p50_ms": millis(figures.median()), "p99_ms": millis(figures.quantile(0.99)) })
        };
        let added = &series.added_ms;
        json!({
            "case": what,
            "http": pair(&series.http),
            "dns": pair(&series.dns),
            "consul_dns": pair(&series.consul_dns),
            "added": { "p50_ms": at(added, 0.5), "p99_ms": at(added, 0.99), "max_ms": at(added, 1.0) },
        })
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    println!("{}", json!({ "place": Place::here().to_string(), "rows": rows }));
}

fn at(sorted: &[f64], share: f64) -> f64 {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;

/// Longer than a watch's bucket takes to be full again.
const REST: Duration = Duration::from_millis(700);

/// How finely a change is seen.
const POLL: Duration = Duration::from_micros(100);

const GIVE_UP: Duration = Duration::from_secs(10);

//! A scripted Consul as a process of its own, and the server that watches it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{self, Instant, MissedTickBehavior};

use crate::catalog::Catalog;
use crate::figures::pin;
use crate::scripted::Scripted;
use crate::support::authority::{Authority, SERVER};
use crate::support::metrics::value;
use crate::support::program::{ANY_PORT, Program};

/// This program in another role; it ends with this value.
pub struct Site {
    child: Child,
    address: SocketAddr,
}

impl Site {
    /// One with a certificate of `authority`: on core 2, where the machine has so many `cores`.
    pub fn start(catalog: Catalog, authority: &Authority, cores: usize) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let [cert, key] = ["server.pem", "server.key"].map(|file| authority.path(file));
        let mut command = Command::new("nice");
        command.args(["-n", "5"]);
        if cores > 2 {
            command.args(["taskset", "-c", "2"]);
        }
        command.arg(program).arg("--consul");
        command.args([catalog.services.to_string(), catalog.instances.to_string()]);
        command.arg(cert).arg(key).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a scripted Consul");
        let address = line(&mut child).parse().expect("an address");
        Self { child, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        // What comes before this program in the command becomes it.
        self.child.id()
    }

    /// Makes so many changes a second from now on.
    pub fn change(&mut self, rate: u64) {
        let input = self.child.stdin.as_mut().expect("its input");
        writeln!(input, "{rate}").expect("a scripted Consul that listens");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The first line that a child prints.
pub fn line(child: &mut Child) -> String {
    let mut line = String::new();
    let output = child.stdout.as_mut().expect("the child's output");
    BufReader::new(output).read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

/// The role: serves until its parent is gone, and takes rates by line.
pub fn serve(arguments: &[&str]) {
    let [services, instances, cert, key] = arguments else { panic!("{arguments:?}") };
    let number = |text: &str| text.parse().expect("a number");
    let catalog = Catalog { services: number(services), instances: number(instances) };
    let [cert, key] = [cert, key].map(|file| std::fs::read(file).expect("a file of PEM"));
    let rate = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&rate);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let line = line.expect("a line");
            told.store(line.trim().parse().expect("changes a second"), Ordering::Relaxed);
        }
        std::process::exit(0);
    });
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let scripted = Scripted::start(catalog, &cert, &key).await;
        println!("{}", scripted.address());
        io::stdout().flush().expect("a parent that reads");
        change(&scripted, catalog, &rate).await;
    });
}

/// Changes one service after the other, as often as is told. Those that are due come together
/// where time was short.
async fn change(scripted: &Scripted, catalog: Catalog, rate: &AtomicU64) {
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut since, mut due, mut service) = (Instant::now(), 0.0, 0);
    loop {
        ticks.tick().await;
        let rate = rate.load(Ordering::Relaxed) as f64;
        if rate > 0.0 {
            scripted.prepare();
        }
        due += since.elapsed().as_secs_f64() * rate;
        since = Instant::now();
        while due >= 1.0 {
            scripted.change(service);
            service = (service + 1) % catalog.services;
            due -= 1.0;
        }
    }
}

/// Starts the server on core 0, beside a Consul at `consul` with a certificate of `authority`. Gives
/// when that was, too.
pub fn watch(consul: SocketAddr, services: usize, authority: &Authority) -> (Program, Instant) {
    let url = format!("https://{consul}");
    let ca = authority.path("ca.pem");
    let streams = (services + 100).max(2000).to_string();
    let arguments = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--consul", &url];
    let env = [
        ("FINGERPOST_DNS_WORKERS", "1"),
        ("FINGERPOST_CONSUL_STREAMS_MAX", &*streams),
        ("FINGERPOST_CONSUL_CA_FILE", ca.to_str().expect("a path of text")),
        ("FINGERPOST_CONSUL_TLS_SERVER_NAME", SERVER),
    ];
    pin("0");
    let since = Instant::now();
    let server = Program::start(&arguments, &env);
    pin("1");
    (server, since)
}

/// Waits for the line of the log that says `ready`.
pub fn ready(server: &Program) {
    let since = Instant::now();
    while !server.stderr().contains(" ready ") {
        assert!(since.elapsed() < PATIENCE, "not ready after {PATIENCE:?}:\n{}", server.stderr());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until all services of a catalog are watched and in memory, and Consul's own; gives the
/// metrics that say so. It is late by a tenth, as each look takes from the server.
pub async fn complete(server: &Program, services: usize, since: Instant) -> String {
    // What is heard first is a change, and counted when it is published.
    let series = ["fingerpost_propagation_seconds_count", "fingerpost_consul_watches"];
    loop {
        let text = scrape(server).await;
        let all = (services + 1) as f64;
        if series.iter().all(|series| value(&text, series) >= all) {
            return text;
        }
        let taken = since.elapsed();
        assert!(taken < PATIENCE, "not complete after {PATIENCE:?}:\n{}", server.stderr());
        time::sleep(LOOK_EVERY.max(taken / 10)).await;
    }
}

/// The server's metrics.
pub async fn scrape(server: &Program) -> String {
    let url = format!("http://{}/metrics", server.admin_address().await);
    reqwest::get(url).await.expect("a scrape").text().await.expect("text")
}

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(1);

/// Between two looks at the log: what `ready` is late by at most.
const LOOK_EVERY: Duration = Duration::from_millis(1);

const PATIENCE: Duration = Duration::from_secs(120);

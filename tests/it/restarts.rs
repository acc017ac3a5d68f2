//! A large catalogue, the limits that both have by default, and fingerpost started again and again:
//! another program on the same machine uses the agent all the while.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::consul::Consul;
use crate::support::dns::addresses;
use crate::support::metrics;
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::{eventually, pause, poll};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_uses_the_agent_across_restarts() {
    let Some(consul) = Consul::start().await else { return };
    fill(&consul).await;
    let other = Other::start(&consul);

    for round in 0..4 {
        let mut program = serve(&consul).await;
        let server = program.dns_address().await;
        for number in (0..SERVICES).step_by(37) {
            let name = format!("s{number:03}.service.consul");
            let is_answered = async || !addresses(server, &name).await.is_empty();
            eventually(format!("{name} is answered in run {round}"), is_answered).await;
        }
        if round < 3 {
            program.signal("KILL");
            program.status().await;
            continue;
        }
        let url = format!("http://{}/metrics", program.admin_address().await);
        let watches = async || {
            let text = reqwest::get(&url).await.ok()?.text().await.ok()?;
            let watches = metrics::value(&text, "fingerpost_consul_watches");
            // 80 connections, less 8 to spare, two lists and the prepared queries.
            (watches >= 69.0).then_some(watches)
        };
        // Longer than Consul holds a query of an earlier run.
        let all = poll(Duration::from_secs(100), watches).await;
        assert_eq!(all, Some(69.0), "{}", program.stderr());
        let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let refused = metrics::value(&text, "fingerpost_consul_connections_refused_total");
        assert_eq!(refused, 0.0);
    }
    let (requests, most) = other.end().await;
    assert!(requests > 500, "only {requests} requests");
    assert!(most <= 200 - 40, "{most} of the 200 connections that Consul allows");
}

/// Registers the services `s000` to `s999`, with ten instances each on nodes of their own.
async fn fill(consul: &Consul) {
    let nodes: Vec<Value> = (0..INSTANCES)
        .map(|node| {
            let address = format!("10.0.0.{node}");
            json!({ "Node": { "Verb": "set", "Node": { "Node": format!("n{node}"), "Address": address } } })
        })
        .collect();
    consul.put("/v1/txn", &Value::Array(nodes)).await;
    let instance = |at: usize| {
        let (service, node) = (at / INSTANCES, at % INSTANCES);
        let name = format!("s{service:03}");
        let set = json!({ "ID": name, "Service": name, "Port": 80 });
        json!({ "Service": { "Verb": "set", "Node": format!("n{node}"), "Service": set } })
    };
    let all: Vec<usize> = (0..SERVICES * INSTANCES).collect();
    // As many as Consul takes at once.
    for some in all.chunks(64) {
        consul.put("/v1/txn", &some.iter().map(|at| instance(*at)).collect()).await;
    }
}

async fn serve(consul: &Consul) -> Program {
    let address = consul.http_address().to_string();
    let env = [("CONSUL_HTTP_ADDR", &*address), ("FINGERPOST_LOG_LEVEL", "debug")];
    let program = Program::start(&["serve", "--dns", ANY_PORT, "--admin", ANY_PORT], &env);
    program.ready().await;
    program
}

/// Another program, which opens a connection for each request.
struct Other {
    requests: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Other {
    fn start(consul: &Consul) -> Self {
        let (requests, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (done, seen, end) = (Arc::clone(&requests), Arc::clone(&most), cancel.clone());
        let (url, port) = (consul.url("/v1/status/leader"), consul.http_address().port());
        tasks.spawn(async move {
            let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy();
            let client = client.timeout(Duration::from_secs(5)).build().unwrap();
            while !end.is_cancelled() {
                let reply = client.get(&url).send().await;
                let reply = reply.unwrap_or_else(|error| panic!("Consul lets nobody in: {error}"));
                assert_eq!(reply.status(), 200);
                done.fetch_add(1, Ordering::Relaxed);
                seen.fetch_max(connections(port), Ordering::Relaxed);
                pause(Duration::from_millis(20)).await;
            }
        });
        Self { requests, most, cancel, tasks }
    }

    /// How many requests were answered, and how many connections Consul had at most.
    async fn end(self) -> (usize, usize) {
        assert!(!self.tasks.is_empty(), "a request was not answered");
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        (self.requests.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed))
    }
}

/// The connections to a port of this machine that its server has open, be their clients gone or not.
fn connections(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let is_open = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, state) = (words[1], words[3]);
        local.ends_with(&format!(":{port:04X}")) && matches!(state, "01" | "08")
    };
    table.lines().skip(1).filter(is_open).count()
}

const SERVICES: usize = 1_000;

const INSTANCES: usize = 10;

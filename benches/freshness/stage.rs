//! A Consul with services, a server that watches them all, and those who look at both.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task;
use tokio::time::{self, Instant};

use crate::catalog::{Catalog, name};
use crate::figures::pin;
use crate::question::{addresses, ask, asking, question};
use crate::source::{Kind, Source};
use crate::support::authority::SERVER;
use crate::support::metrics::value;
use crate::support::program::{ANY_PORT, Program};
use crate::support::wait::poll;
use crate::table::{Cost, Seen, Table};

pub struct Stage {
    source: Source,
    server: Program,
    kind: Kind,
    catalog: Catalog,
    /// By service, as last made.
    versions: Vec<u64>,
}

impl Stage {
    pub async fn set(kind: Kind, services: usize) -> Self {
        let catalog = Catalog { services, instances: INSTANCES };
        let source = Source::start(kind, catalog).await;
        let (url, ca) = (source.address(), source.ca());
        let most = (services + 100).to_string();
        let mut env = vec![
            ("FINGERPOST_DNS_WORKERS", "1"),
            ("FINGERPOST_CONSUL_CONNECTIONS_MAX", "9000"),
            ("FINGERPOST_CONSUL_STREAMS_MAX", &most),
        ];
        if kind != Kind::Http {
            env.push(("FINGERPOST_CONSUL_CA_FILE", ca.to_str().expect("a path of text")));
            env.push(("FINGERPOST_CONSUL_TLS_SERVER_NAME", SERVER));
        } else {
            env[1] = ("FINGERPOST_CONSUL_CONNECTIONS_MAX", &most);
        }
        let arguments = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--consul", &url];
        pin("0");
        let server = Program::start(&arguments, &env);
        pin("1");
        server.ready().await;
        let versions = vec![0; services];
        let stage = Self { source, server, kind, catalog, versions };
        // Over plain HTTP few services are watched in the first minute, and held queries return
        // every ten seconds: what is measured comes after.
        time::sleep(FIRST_MINUTE).await;
        let complete = async || {
            let text = stage.scrape().await;
            // What is heard first is a change, and counted when it is published.
            let series = ["fingerpost_propagation_seconds_count", "fingerpost_consul_watches"];
            series.iter().all(|series| value(&text, series) >= services as f64).then_some(())
        };
        poll(COMPLETE_WITHIN, complete).await.expect("watches of all services");
        time::sleep(QUIET).await;
        stage
    }

    /// Looks at changes of one service after the other, `rounds` times by each DNS server.
    pub async fn measure(mut self, rounds: usize) -> Table {
        let ours = self.server.dns_address().await;
        let servers: Vec<SocketAddr> =
            [Some(ours), self.source.dns()].into_iter().flatten().collect();
        let mut table = Table::new(self.kind, self.catalog.services);
        let before = self.propagation().await;
        for round in 0..WARM_UP + rounds * servers.len() {
            let service = round / servers.len() % self.catalog.services;
            // Each server is looked at once a sweep, in turn first: it sees both directions.
            let sweep = round / servers.len() / self.catalog.services;
            let at = (round + sweep) % servers.len();
            let seen = self.change(service, servers[at]).await;
            // The first rounds warm connections and caches, and are not counted.
            if round >= WARM_UP {
                table.add(at, seen);
            }
            time::sleep(PACE).await;
        }
        let after = self.propagation().await;
        table.published_mean = (after.0 - before.0) / (after.1 - before.1) * 1e3;
        if self.kind == Kind::Http {
            for _ in 0..BURSTS.min(rounds) {
                table.bursts.push(self.burst(ours).await);
            }
        }
        table.cost = self.cost().await;
        table
    }

    /// The next version of a service.
    async fn change(&mut self, service: usize, server: SocketAddr) -> Seen {
        let version = self.versions[service];
        self.versions[service] += 1;
        let critical = |version| usize::from(version % 2 == 1);
        let shown = Shown { service, before: critical(version), after: critical(version + 1) };
        let source = &self.source;
        let change = async {
            let since = source.change(service, version + 1).await;
            (since, Instant::now())
        };
        self.look(shown, server, change).await
    }

    /// Many changes of the service 0 at once. The last one alone makes the count that is waited for.
    async fn burst(&mut self, server: SocketAddr) -> Seen {
        let source = &self.source;
        for instance in 0..INSTANCES {
            source.flip(0, instance, "passing").await;
        }
        time::sleep(QUIET).await;
        let change = async {
            for at in 0..BURST - 1 {
                source.flip(0, 0, if at % 2 == 0 { "critical" } else { "passing" }).await;
            }
            let since = source.flip(0, 1, "critical").await;
            (since, Instant::now())
        };
        let seen = self.look(Shown { service: 0, before: 0, after: 2 }, server, change).await;
        for instance in 0..INSTANCES {
            source.flip(0, instance, "passing").await;
        }
        self.versions[0] += self.versions[0] % 2;
        seen
    }

    /// Looks at a service while it is changed. Times are since what `change` gives first.
    async fn look(
        &self,
        shown: Shown,
        server: SocketAddr,
        change: impl Future<Output = (Instant, Instant)>,
    ) -> Seen {
        let path = format!("{}/v1/health/service/{}", self.source.url(), name(shown.service));
        let (client, catalog) = (self.source.client(), self.catalog);
        // The first look says where to wait from.
        let (index, critical) = look(client, &path, 0).await;
        assert_eq!(critical, shown.before, "instances that are critical before the change");
        let (asked, was_asked) = oneshot::channel();
        let asking = task::spawn_blocking(move || ask_until(server, catalog, shown, asked));
        let changing = async {
            was_asked.await.expect("an answer of before");
            time::sleep(ARMED).await;
            change.await
        };
        let ((since, taken), blocking) =
            tokio::join!(changing, look_until(client, &path, index, shown.after));
        let (dns, lost) = asking.await.expect("an answer in the end");
        let ms = |at: Instant| at.saturating_duration_since(since).as_secs_f64() * 1e3;
        Seen { taken: ms(taken), blocking: ms(blocking), dns: ms(dns), lost }
    }

    /// CPU time of Consul's for each change, with the server that watches and without.
    async fn cost(mut self) -> Option<Cost> {
        let watched = self.cost_now().await?;
        self.server.signal("TERM");
        self.server.status().await;
        let alone = self.cost_now().await?;
        Some(Cost { watched, alone })
    }

    async fn cost_now(&mut self) -> Option<f64> {
        let pause = async || time::sleep(REST).await;
        pause().await;
        let (since, before) = (Instant::now(), self.source.cpu_ms()?);
        pause().await;
        let rest = (self.source.cpu_ms()? - before) / since.elapsed().as_secs_f64();
        let (since, before) = (Instant::now(), self.source.cpu_ms()?);
        for change in 0..COUNTED {
            let service = change % self.catalog.services;
            self.versions[service] += 1;
            self.source.change(service, self.versions[service]).await;
            time::sleep(CHANGE_EVERY).await;
        }
        let all = self.source.cpu_ms()? - before;
        Some((all - rest * since.elapsed().as_secs_f64()) / COUNTED as f64)
    }

    /// The sum and the count of what the server itself measured, in seconds.
    async fn propagation(&self) -> (f64, f64) {
        let text = self.scrape().await;
        let of = |what: &str| value(&text, &format!("fingerpost_propagation_seconds_{what}"));
        (of("sum"), of("count"))
    }

    async fn scrape(&self) -> String {
        let url = format!("http://{}/metrics", self.server.admin_address().await);
        let reply = self.source.client().get(url).send().await.expect("the server's metrics");
        reply.text().await.expect("all of the metrics")
    }
}

/// How many instances of a service are critical: the first ones.
#[derive(Clone, Copy)]
struct Shown {
    service: usize,
    before: usize,
    after: usize,
}

/// Repeats a blocking query until so many instances are critical.
async fn look_until(client: &reqwest::Client, path: &str, mut index: u64, after: usize) -> Instant {
    loop {
        let (next, critical) = look(client, path, index).await;
        if critical == after {
            return Instant::now();
        }
        index = next;
    }
}

/// `X-Consul-Index`, and how many instances are critical.
async fn look(client: &reqwest::Client, path: &str, index: u64) -> (u64, usize) {
    let url = format!("{path}?index={index}&wait=60000ms");
    let reply = client.get(url).send().await.expect("Consul's reply");
    assert_eq!(reply.status(), 200, "{path}");
    let index = reply.headers().get("X-Consul-Index").and_then(|index| index.to_str().ok());
    let index = index.and_then(|index| index.parse().ok()).expect("an index");
    let text = reply.text().await.expect("Consul's whole reply");
    // One check each, so that counting words is enough.
    (index, text.matches("\"critical\"").count())
}

/// Asks until the addresses of after are all there is; tells `asked` when those of before were.
/// Gives how many queries were lost.
fn ask_until(
    server: SocketAddr,
    catalog: Catalog,
    shown: Shown,
    asked: oneshot::Sender<()>,
) -> (Instant, usize) {
    let socket = asking(server);
    let (mut query, mut reply, mut lost) = (question(&name(shown.service)), [0; 512], 0);
    let all = catalog.addresses_of(shown.service);
    let [before, after] = [shown.before, shown.after].map(|critical| &all[critical..]);
    let is = |heard: &[_], expected: &[_]| {
        heard.len() == expected.len() && expected.iter().all(|address| heard.contains(address))
    };
    let mut asked = Some(asked);
    for id in 0..=u16::MAX {
        match ask(&socket, &mut query, id, &mut reply) {
            None => lost += 1,
            Some(reply) => {
                let (now, heard) = (Instant::now(), addresses(reply));
                if is(&heard, after) {
                    assert!(asked.is_none(), "the change was shown before it was made");
                    return (now, lost);
                }
                // In a burst the first instance comes and goes.
                let is_between = shown.after == 2 && is(&heard, &all[1..]);
                assert!(is_between || is(&heard, before), "{heard:?} of {all:?}");
                asked.take().map(|asked| asked.send(()));
            }
        }
        std::thread::sleep(ASK_EVERY);
    }
    panic!("{} never had {after:?}", name(shown.service));
}

/// As many as Consul's DNS answers without EDNS.
const INSTANCES: usize = 3;

const WARM_UP: usize = 8;
const BURSTS: usize = 10;
pub const BURST: usize = 20;

/// A wait of the server's, and a sixteenth.
const FIRST_MINUTE: Duration = Duration::from_secs(64);
const COMPLETE_WITHIN: Duration = Duration::from_secs(60);

/// Until a blocking query has surely reached Consul.
const ARMED: Duration = Duration::from_millis(30);

/// Between two rounds; no service is changed twice within a bucket's filling.
const PACE: Duration = Duration::from_millis(50);

/// Until every watch may go two rounds at once again.
const QUIET: Duration = Duration::from_millis(1_500);

/// Between two changes while Consul's CPU time is taken, and how long it is looked at in rest.
const CHANGE_EVERY: Duration = Duration::from_millis(20);
const REST: Duration = Duration::from_secs(4);
const COUNTED: usize = 200;

/// Between a reply and the next query. Less, and asking takes from Consul the core that it needs.
const ASK_EVERY: Duration = Duration::from_micros(100);

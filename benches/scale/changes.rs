//! The answers of a server while its catalog changes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::catalog::Catalog;
use crate::figures::Figures;
use crate::generator::Pace;
use crate::processes::cpu;
use crate::support::authority::{Authority, SERVER};
use crate::support::metrics::value;
use crate::support::program::Program;
use crate::target::{Bound, Target};
use crate::{load, site};

/// One kind of round for each of [`RATES`].
pub struct Changes([Vec<Round>; 3]);

/// A second of saturation, and another of a query a millisecond.
struct Round {
    queries: f64,
    /// How much of its core the server had, saturated.
    busy: f64,
    /// How much it had otherwise.
    paced_busy: f64,
    /// How much of its own core, or of that which asks, the scripted Consul had.
    consul_busy: f64,
    p50_us: f64,
    p99_us: f64,
    lost: usize,
    /// Changes a second that the server took in.
    arrived: f64,
}

/// Asks in alternation while so many changes a second arrive.
pub fn measure(runtime: &Runtime, rounds: usize, cores: usize) -> Changes {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let mut consul = site::Site::start(CATALOG, &authority, cores);
    let (server, since) = site::watch(consul.address(), CATALOG.services, &authority);
    runtime.block_on(site::complete(&server, CATALOG.services, since));
    let dns = runtime.block_on(server.dns_address());
    load::check(dns, CATALOG);
    // In the first minute, held queries return every ten seconds.
    std::thread::sleep(FIRST_MINUTE);
    let mut changes = Changes([(); 3].map(|()| Vec::new()));
    for round in 0..rounds {
        for turn in 0..RATES.len() {
            // Each is first, second and last as often.
            let at = (round + turn) % RATES.len();
            consul.change(RATES[at]);
            std::thread::sleep(SETTLED);
            let (since, before) = (Instant::now(), taken_in(runtime, &server));
            let consul_before = cpu(consul.pid());
            let run = load::saturate(dns, server.pid(), CATALOG);
            let consul_busy = (cpu(consul.pid()) - consul_before).as_secs_f64();
            let consul_busy = consul_busy / since.elapsed().as_secs_f64();
            let (Pace { latencies, lost }, paced_busy) = load::pace(dns, server.pid(), CATALOG);
            let arrived = taken_in(runtime, &server) - before;
            changes.0[at].push(Round {
                queries: run.rate,
                busy: run.load,
                paced_busy,
                consul_busy,
                p50_us: latencies.median(),
                p99_us: latencies.quantile(0.99),
                lost,
                arrived: arrived / since.elapsed().as_secs_f64(),
            });
        }
    }
    changes
}

/// Changes that the server has heard of and answers.
fn taken_in(runtime: &Runtime, server: &Program) -> f64 {
    let text = runtime.block_on(site::scrape(server));
    value(&text, "fingerpost_propagation_seconds_count")
}

impl Changes {
    pub fn print(&self) {
        let Catalog { services, instances } = CATALOG;
        println!("\nasked while {services} services of {instances} instances change, in turn");
        println!("medians of {} rounds in alternation; to rest: with quartiles\n", self.0[0].len());
        println!(
            "{:>9}{:>9}{:>10}{:>6}{:>7}{:>8}{:>8}{:>8}{:>6}  {:<20}p99 to rest",
            "changes/s",
            "arrived",
            "q/s",
            "busy",
            "paced",
            "Consul",
            "p50 us",
            "p99 us",
            "lost",
            "q/s to rest"
        );
        for (at, rate) in RATES.iter().enumerate() {
            let median = |figure| self.of(at, figure).median();
            let lost: usize = self.0[at].iter().map(|round| round.lost).sum();
            let [queries, p99] = self.to_rest(at);
            println!(
                "{rate:>9}{:>9.0}{:>10.0}{:>6.2}{:>7.2}{:>8.2}{:>8.0}{:>8.0}{lost:>6}  {queries:<20}{p99}",
                median(|round| round.arrived),
                median(|round| round.queries),
                median(|round| round.busy),
                median(|round| round.paced_busy),
                median(|round| round.consul_busy),
                median(|round| round.p50_us),
                median(|round| round.p99_us),
            );
        }
        println!();
        self.explain();
    }

    /// Under the highest rate, round by round.
    pub fn targets(&self) -> [Target; 2] {
        let last = RATES.len() - 1;
        let [queries, p99] = self.to_rest(last);
        let rate = RATES[last];
        // What is met or missed then is not the server's doing.
        let is_saturated = self.is_saturated(0) && self.is_saturated(last);
        let doubt = if is_saturated { "" } else { ", NOT saturated" };
        let target = |text, figures, bound| Target { text, figures, bound };
        [
            target(
                format!("q/s, {rate} changes a second: >= {RATE_MIN} x at rest{doubt}"),
                queries,
                Bound::AtLeast(RATE_MIN),
            ),
            target(
                format!("p99, {rate} changes a second: <= {P99_MAX} x at rest"),
                p99,
                Bound::AtMost(P99_MAX),
            ),
        ]
    }

    /// What a change takes of the server's core, and whether the rates are the server's at all.
    fn explain(&self) {
        let last = RATES.len() - 1;
        let paced = |at| self.of(at, |round| round.paced_busy).median();
        let arrived = self.of(last, |round| round.arrived).median();
        let each = (paced(last) - paced(0)) / arrived * 1e3;
        println!("busy: of core 0, saturated and paced; a change takes {each:.3} ms of it");
        println!("Consul: of the core that it has, or shares with who asks, meanwhile saturated");
        for at in (0..RATES.len()).filter(|at| !self.is_saturated(*at)) {
            let (rate, busy) = (RATES[at], self.of(at, |round| round.busy).median());
            println!("NOT saturated at {rate} changes: the server had {busy:.2} of its core");
        }
    }

    /// Whether it is the server that limits the queries a second.
    fn is_saturated(&self, at: usize) -> bool {
        self.of(at, |round| round.busy).median() >= BUSY_MIN
    }

    pub fn json(&self) -> Value {
        let rows = RATES.iter().enumerate().map(|(at, rate)| {
            let median = |figure| self.of(at, figure).median();
            let [queries, p99] = self.to_rest(at).map(|ratio| ratio.quartiles());
            json!({
                "changes": rate, "arrived": median(|round| round.arrived),
                "queries": median(|round| round.queries), "busy": median(|round| round.busy),
                "paced_busy": median(|round| round.paced_busy),
                "consul_busy": median(|round| round.consul_busy),
                "p50_us": median(|round| round.p50_us), "p99_us": median(|round| round.p99_us),
                "lost": self.0[at].iter().map(|round| round.lost).sum::<usize>(),
                "queries_to_rest": queries, "p99_to_rest": p99,
            })
        });
        json!({
            "services": CATALOG.services, "instances": CATALOG.instances,
            "rows": rows.collect::<Vec<Value>>(),
        })
    }

    fn of(&self, at: usize, figure: fn(&Round) -> f64) -> Figures {
        self.0[at].iter().map(figure).collect()
    }

    /// The ratios to rest, round by round: of the queries a second, and of p99.
    fn to_rest(&self, at: usize) -> [Figures; 2] {
        let figures: [fn(&Round) -> f64; 2] = [|round| round.queries, |round| round.p99_us];
        figures.map(|figure| {
            let pairs = self.0[at].iter().zip(&self.0[0]);
            pairs.map(|(round, rest)| figure(round) / figure(rest)).collect()
        })
    }
}

const CATALOG: Catalog = Catalog { services: 1000, instances: 10 };

/// Changes a second; the first is rest.
const RATES: [u64; 3] = [0, 100, 1000];

const FIRST_MINUTE: Duration = Duration::from_secs(65);

/// After the rate was set, until it is as it was set.
const SETTLED: Duration = Duration::from_millis(500);

/// Of the queries a second at rest.
const RATE_MIN: f64 = 0.9;

/// Of the p99 at rest.
const P99_MAX: f64 = 2.0;

/// Of its core: below, it is not the server that limits the queries a second.
const BUSY_MIN: f64 = 0.9;

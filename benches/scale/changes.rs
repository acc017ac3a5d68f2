//! The answers of a server while its catalog changes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::catalog::Catalog;
use crate::figures::Figures;
use crate::support::authority::{Authority, SERVER};
use crate::support::metrics::value;
use crate::support::program::Program;
use crate::{load, site, verdict};

/// One kind of round for each of [`RATES`].
pub struct Changes([Vec<Round>; 3]);

/// A second of saturation, and another of a query a millisecond.
struct Round {
    queries: f64,
    /// How much of its core the server had, saturated.
    busy: f64,
    /// How much it had otherwise.
    paced_busy: f64,
    p50_us: f64,
    p99_us: f64,
    lost: usize,
    /// Changes a second that the server took in.
    arrived: f64,
}

/// Asks in alternation while so many changes a second arrive.
pub fn measure(runtime: &Runtime, rounds: usize) -> Changes {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let mut consul = site::Site::start(CATALOG, &authority);
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
            let run = load::saturate(dns, server.pid(), CATALOG);
            let load::Pace { latencies, lost, busy } = load::pace(dns, server.pid(), CATALOG);
            let arrived = taken_in(runtime, &server) - before;
            changes.0[at].push(Round {
                queries: run.rate,
                busy: run.busy,
                paced_busy: busy,
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
            "{:>9}{:>9}{:>10}{:>6}{:>7}{:>8}{:>8}{:>6}  {:<20}p99 to rest",
            "changes/s",
            "arrived",
            "q/s",
            "busy",
            "paced",
            "p50 us",
            "p99 us",
            "lost",
            "q/s to rest"
        );
        for (at, rate) in RATES.iter().enumerate() {
            let median = |figure| self.of(at, figure).median();
            let lost: usize = self.0[at].iter().map(|round| round.lost).sum();
            let [queries, p99] = self
                .to_rest(at)
                .map(|[low, middle, high]| format!("{middle:.2} [{low:.2}..{high:.2}]"));
            println!(
                "{rate:>9}{:>9.0}{:>10.0}{:>6.2}{:>7.2}{:>8.0}{:>8.0}{lost:>6}  {queries:<20}{p99}",
                median(|round| round.arrived),
                median(|round| round.queries),
                median(|round| round.busy),
                median(|round| round.paced_busy),
                median(|round| round.p50_us),
                median(|round| round.p99_us),
            );
        }
        println!();
        self.explain();
        let [queries, p99] = self.to_rest(RATES.len() - 1).map(|quartiles| quartiles[1]);
        println!(
            "q/s to rest: {queries:.2}, at least {RATE_MIN}: {}",
            verdict(queries >= RATE_MIN)
        );
        println!("p99 to rest: {p99:.2}, at most {P99_MAX}: {}", verdict(p99 <= P99_MAX));
    }

    /// What a change takes of the server's core, and whether the rates are the server's at all.
    fn explain(&self) {
        let last = RATES.len() - 1;
        let paced = |at| self.of(at, |round| round.paced_busy).median();
        let arrived = self.of(last, |round| round.arrived).median();
        let each = (paced(last) - paced(0)) / arrived * 1e3;
        println!("busy: of core 0, saturated and paced; a change takes {each:.3} ms of it");
        let busy = self.of(0, |round| round.busy).median();
        if busy < BUSY_MIN {
            println!("NOT saturated: at rest the server had {busy:.2} of its core");
        }
    }

    pub fn json(&self) -> Value {
        let rows = RATES.iter().enumerate().map(|(at, rate)| {
            let median = |figure| self.of(at, figure).median();
            let [queries, p99] = self.to_rest(at);
            json!({
                "changes": rate, "arrived": median(|round| round.arrived),
                "queries": median(|round| round.queries), "busy": median(|round| round.busy),
                "paced_busy": median(|round| round.paced_busy),
                "p50_us": median(|round| round.p50_us), "p99_us": median(|round| round.p99_us),
                "lost": self.0[at].iter().map(|round| round.lost).sum::<usize>(),
                "queries_to_rest": queries, "p99_to_rest": p99,
            })
        });
        json!({
            "services": CATALOG.services, "instances": CATALOG.instances,
            "rows": rows.collect::<Vec<Value>>(), "queries_min": RATE_MIN, "p99_max": P99_MAX,
        })
    }

    fn of(&self, at: usize, figure: fn(&Round) -> f64) -> Figures {
        self.0[at].iter().map(figure).collect()
    }

    /// Quartiles of the ratios to rest, round by round: of the queries a second, and of p99.
    fn to_rest(&self, at: usize) -> [[f64; 3]; 2] {
        let figures: [fn(&Round) -> f64; 2] = [|round| round.queries, |round| round.p99_us];
        figures.map(|figure| {
            let pairs = self.0[at].iter().zip(&self.0[0]);
            let ratio: Figures = pairs.map(|(round, rest)| figure(round) / figure(rest)).collect();
            [0.25, 0.5, 0.75].map(|share| ratio.quantile(share))
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

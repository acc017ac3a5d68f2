//! What was measured, for people and for programs.

use serde_json::{Value, json};

use crate::case::FEATURES;
use crate::figures::Figures;
use crate::generator::Run;
use crate::peers::Server;
use crate::target::{self, Bound, Target};
use crate::{Load, PACED, Results, Row, Stage};

/// Prints everything.
pub fn print(stage: &Stage, results: &Results) {
    let pinned = if stage.pinned { "pinned" } else { "NOT pinned" };
    let rounds = results.rows.first().and_then(|row| row.entries.first());
    let rounds = rounds.map_or(0, |(_, runs)| runs.len());
    println!("\nqueries that one core answers: {}, {pinned}", stage.place);
    for peer in stage.peers.iter().filter(|peer| !peer.version.is_empty()) {
        println!("  {}: {}", peer.server.name(), peer.version);
    }
    println!("medians of {rounds} rounds in alternation; ratios, round by round, with quartiles\n");
    println!("{:<32}{:>10}{:>10}{:>6}   fingerpost's rate to it", "", "q/s", "CPU us/q", "load");
    for row in &results.rows {
        print_row(row);
    }
    print_features(results);
    print_loads(&results.loads);
    println!("memory (PSS):");
    for peer in &stage.peers {
        println!("  {:<30}{:>8.1} MiB", peer.server.name(), peer.memory_mib());
    }
    let targets: Vec<Target> = AIMS.iter().filter_map(|aim| aim.target(results)).collect();
    target::print(&targets);
}

fn print_row(row: &Row) {
    println!("{}", row.label());
    for (server, runs) in &row.entries {
        let of = |figure: fn(&Run) -> f64| runs.iter().map(figure).collect::<Figures>().median();
        let (rate, cost, load) = (of(|run| run.rate), of(|run| run.cpu_us), of(|run| run.load));
        let ratio = match server {
            Server::Ours => String::new(),
            _ => row.runs(Server::Ours).map_or(String::new(), |ours| over(ours, runs).to_string()),
        };
        println!("  {:<30}{rate:>10.0}{cost:>10.2}{load:>6.2}   {ratio}", server.name());
    }
    println!();
}

/// What costs how much, of those things that are there unasked.
fn print_features(results: &Results) {
    let features = features(results);
    if features.is_empty() {
        return;
    }
    println!("fingerpost, to its own {PACED} on 127.0.0.1");
    println!("{:<32}{:<22}CPU/q", "", "rate");
    for Feature { label, rate, cost } in features {
        println!("  {label:<30}{rate:<22}{cost}");
    }
    println!();
}

/// Something that is there unasked, beside [`PACED`].
struct Feature {
    label: String,
    /// Of the rates, round by round.
    rate: Figures,
    /// Of CPU time per query.
    cost: Figures,
}

fn features(results: &Results) -> Vec<Feature> {
    let row = |label: &str| results.rows.iter().find(|row| row.label() == label);
    let Some(plain) = row(PACED) else { return Vec::new() };
    let Some(ours) = plain.runs(Server::Ours) else { return Vec::new() };
    let feature =
        |label, runs| Feature { label, rate: over(runs, ours), cost: cost_over(runs, ours) };
    let sockets = [Server::Wild, Server::Six].into_iter().filter_map(|server| {
        Some(feature(format!("{PACED}, {}", server.name()), plain.runs(server)?))
    });
    let rows = FEATURES
        .iter()
        .filter_map(|label| Some(feature((*label).to_owned(), row(label)?.runs(Server::Ours)?)));
    sockets.chain(rows).collect()
}

fn print_loads(loads: &[Load]) {
    if loads.is_empty() {
        return;
    }
    println!("A x3: latencies at a pace, in us (medians over rounds)");
    println!(
        "{:<32}{:>6}{:>10}{:>8}{:>8}{:>8}{:>7}",
        "", "share", "q/s", "p50", "p99", "p999", "lost"
    );
    for load in loads {
        for (share, at) in points(load) {
            let Point { rate, p50, p99, p999, lost } = at;
            let name = load.server.name();
            println!("  {name:<30}{share:>6}{rate:>10.0}{p50:>8.0}{p99:>8.0}{p999:>8.0}{lost:>7}");
        }
    }
    println!();
}

/// One server at one pace.
pub struct Point {
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub lost: usize,
}

/// By the share of its rate.
pub fn points(load: &Load) -> impl Iterator<Item = (f64, Point)> {
    load.paces.iter().map(|(share, rounds)| {
        let of = |share: f64| {
            let quantiles = rounds.iter().map(|(_, pace)| pace.latencies.quantile(share));
            quantiles.collect::<Figures>().median()
        };
        let rate = rounds.iter().map(|(rate, _)| *rate).collect::<Figures>().median();
        let lost = rounds.iter().map(|(_, pace)| pace.lost).sum();
        (*share, Point { rate, p50: of(0.5), p99: of(0.99), p999: of(0.999), lost })
    })
}

/// Rates of `ours` to those of `others`, round by round.
fn over(ours: &[Run], others: &[Run]) -> Figures {
    ours.iter().zip(others).map(|(ours, other)| ours.rate / other.rate).collect()
}

/// The same of CPU time per query.
fn cost_over(ours: &[Run], others: &[Run]) -> Figures {
    ours.iter().zip(others).map(|(ours, other)| ours.cpu_us / other.cpu_us).collect()
}

/// Everything, for programs.
pub fn json(stage: &Stage, results: &Results) -> Value {
    let rows: Vec<Value> = results.rows.iter().map(json_row).collect();
    let loads = results.loads.iter().flat_map(|load| {
        points(load).map(|(share, Point { rate, p50, p99, p999, lost })| {
            json!({
                "server": load.server.name(), "share": share, "rate": rate,
                "p50_us": p50, "p99_us": p99, "p999_us": p999, "lost": lost,
            })
        })
    });
    let servers = stage.peers.iter().map(|peer| {
        let memory = peer.memory_mib();
        json!({ "server": peer.server.name(), "version": peer.version, "pss_mib": memory })
    });
    let features = features(results).into_iter().map(|Feature { label, rate, cost }| {
        json!({ "row": label, "rate": quartiles(&rate), "cpu_us": quartiles(&cost) })
    });
    let aims = AIMS.iter().filter_map(|aim| {
        let target = aim.target(results)?;
        let (ratio, verdict) = (quartiles(&target.figures), target.verdict());
        Some(json!({ "target": target.text, "ratio": ratio, "verdict": verdict }))
    });
    json!({
        "place": stage.place.to_string(), "pinned": stage.pinned,
        "servers": servers.collect::<Vec<Value>>(), "rows": rows,
        "features": features.collect::<Vec<Value>>(),
        "latencies": loads.collect::<Vec<Value>>(), "targets": aims.collect::<Vec<Value>>(),
    })
}

fn json_row(row: &Row) -> Value {
    let entries = row.entries.iter().map(|(server, runs)| {
        let of = |figure: fn(&Run) -> f64| quartiles(&runs.iter().map(figure).collect());
        let ratio = row.runs(Server::Ours).map(|ours| quartiles(&over(ours, runs)));
        json!({
            "server": server.name(), "rate": of(|run| run.rate),
            "cpu_us": of(|run| run.cpu_us), "load": of(|run| run.load), "ours_to_it": ratio,
        })
    });
    json!({ "row": row.label(), "servers": entries.collect::<Vec<Value>>() })
}

fn quartiles(figures: &Figures) -> Value {
    let [low, middle, high] = figures.quartiles();
    json!({ "median": middle, "quartiles": [low, high] })
}

/// A ratio of two entries of the tables, and where it is to be.
struct Aim {
    /// Row and server.
    ours: (&'static str, Server),
    to: (&'static str, Server),
    aspect: Aspect,
}

enum Aspect {
    /// The rates: their ratio is this at least.
    Rate(f64),
    /// CPU time per query: this at most.
    Cost(f64),
}

impl Aim {
    const fn rate(row: &'static str, to: Server, bound: f64) -> Self {
        Self { ours: (row, Server::Ours), to: (row, to), aspect: Aspect::Rate(bound) }
    }

    /// It, as it was measured.
    fn target(&self, results: &Results) -> Option<Target> {
        let runs = |(label, server): (&str, Server)| {
            results.rows.iter().find(|row| row.label() == label)?.runs(server)
        };
        let (ours, to) = (runs(self.ours)?, runs(self.to)?);
        let (figures, bound) = match self.aspect {
            Aspect::Rate(bound) => (over(ours, to), Bound::AtLeast(bound)),
            Aspect::Cost(bound) => (cost_over(ours, to), Bound::AtMost(bound)),
        };
        Some(Target { text: self.text(), figures, bound })
    }

    fn text(&self) -> String {
        let [ours, to] = [self.ours, self.to].map(|(row, server)| (row, server.name()));
        let to = if ours.0 == to.0 { to.1.to_owned() } else { format!("{} {}", to.1, to.0) };
        match self.aspect {
            Aspect::Rate(bound) => format!("{}, {}: rate >= {bound} x {to}", ours.0, ours.1),
            Aspect::Cost(bound) => format!("{}, {}: CPU/q <= {bound} x {to}", ours.0, ours.1),
        }
    }
}

const SRV: &str = "SRV x10, EDNS";

const AIMS: &[Aim] = &[
    Aim::rate("A x3", Server::Nsd, 1.10),
    Aim::rate("A x3", Server::Knot, 1.10),
    Aim::rate(SRV, Server::Nsd, 1.10),
    Aim::rate(SRV, Server::Knot, 1.10),
    Aim::rate("A x3", Server::Echo, 0.90),
    Aim::rate(SRV, Server::Echo, 0.90),
    Aim { ours: ("A x3", Server::Bare), to: ("A x3", Server::Echo), aspect: Aspect::Rate(0.95) },
    Aim { ours: (SRV, Server::Bare), to: (SRV, Server::Echo), aspect: Aspect::Rate(0.95) },
    Aim::rate("A x3", Server::Consul, 10.0),
    Aim::rate(SRV, Server::Consul, 25.0),
    Aim::rate("SRV x50, EDNS", Server::Consul, 100.0),
    Aim::rate("A x1500, EDNS", Server::Consul, 100.0),
    Aim {
        ours: ("NXDOMAIN flood", Server::Ours),
        to: ("A x3", Server::Ours),
        aspect: Aspect::Rate(0.95),
    },
    Aim {
        ours: ("A x3, from 64 ports", Server::Double),
        to: ("A x3, from 64 ports", Server::Ours),
        aspect: Aspect::Cost(1.10),
    },
    Aim::rate("A x3 over TCP", Server::Hickory, 1.0),
    Aim::rate("SRV x10, EDNS over TCP", Server::Hickory, 1.0),
    Aim::rate("A x3 over TLS", Server::Hickory, 1.0),
    Aim::rate("SRV x10, EDNS over TLS", Server::Hickory, 1.0),
];

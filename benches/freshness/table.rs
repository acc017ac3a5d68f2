//! What was seen of the changes in one Consul, as rows.

use serde_json::{Value, json};

use crate::figures::Figures;
use crate::source::Kind;
use crate::target::verdict;

/// When one change was seen, in ms since it was sent.
#[derive(Clone, Copy)]
pub struct Seen {
    /// Consul's reply to it.
    pub taken: f64,
    pub blocking: f64,
    pub dns: f64,
    /// Queries of which no reply came.
    pub lost: usize,
}

/// CPU time of Consul's for each change, in ms.
pub struct Cost {
    /// While the server watches all services.
    pub watched: f64,
    /// While nobody does.
    pub alone: f64,
}

pub struct Table {
    kind: Kind,
    services: usize,
    ours: Vec<Seen>,
    consul: Vec<Seen>,
    pub bursts: Vec<Seen>,
    /// By the server's own metric: from a reply of Consul's that is in, to the answers.
    pub published_mean: f64,
    pub cost: Option<Cost>,
}

impl Table {
    pub fn new(kind: Kind, services: usize) -> Self {
        let (ours, consul, bursts) = (Vec::new(), Vec::new(), Vec::new());
        Self { kind, services, ours, consul, bursts, published_mean: f64::NAN, cost: None }
    }

    pub fn add(&mut self, server: usize, seen: Seen) {
        match server {
            0 => self.ours.push(seen),
            _ => self.consul.push(seen),
        }
    }

    pub fn print(&self) {
        let Self { kind, services, .. } = self;
        let (rounds, bursts) = (self.ours.len(), self.bursts.len());
        println!("\n{services} services of {}, {rounds} rounds", kind.label());
        println!("{:<32}{:>9}{:>9}{:>9}{:>9}", "", "p50", "p90", "p99", "max");
        for (name, figures) in self.rows() {
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| figures.quantile(share));
            println!("{name:<32}{p50:>9.2}{p90:>9.2}{p99:>9.2}{:>9.2}", figures.max());
        }
        let mean = self.published_mean;
        println!("  reply in, until published: {mean:.2} in the mean, by the server's own metric");
        if bursts > 0 {
            println!("  {bursts} bursts of {} changes of one service", crate::stage::BURST);
        }
        if let Some(Cost { watched, alone }) = self.cost {
            println!(
                "  Consul's CPU ms a change: {watched:.2}, and {alone:.2} with the server gone"
            );
        }
        println!("  queries lost: {}", self.lost());
        let ratio = self.ratio();
        let met = verdict(ratio.median() <= RATIO_MAX);
        println!("DNS behind a bare blocking query: p50 ratio {ratio}, at most {RATIO_MAX}: {met}");
        let p99 = self.p99();
        println!("DNS p99 {p99:.2} ms, at most {P99_MAX_MS} ms: {}", verdict(p99 <= P99_MAX_MS));
    }

    pub fn json(&self) -> Value {
        let rows = self.rows().into_iter().map(|(name, figures)| {
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| figures.quantile(share));
            let (count, max) = (figures.count(), figures.max());
            json!({ "row": name, "count": count, "p50": p50, "p90": p90, "p99": p99, "max": max })
        });
        let rows: Vec<Value> = rows.collect();
        let cost = self.cost.as_ref();
        let cost = cost.map(|cost| json!({ "watched": cost.watched, "alone": cost.alone }));
        let [low, middle, high] = self.ratio().quartiles();
        json!({
            "consul": self.kind.label(), "services": self.services, "rows": rows,
            "published_mean": self.published_mean, "consul_cpu_ms": cost, "lost": self.lost(),
            "ratio": { "median": middle, "quartiles": [low, high], "max": RATIO_MAX },
            "dns_p99": { "ms": self.p99(), "max": P99_MAX_MS },
        })
    }

    fn rows(&self) -> Vec<(&'static str, Figures)> {
        let of = |seen: &[Seen], figure: fn(&Seen) -> f64| seen.iter().map(figure).collect();
        let behind: fn(&Seen) -> f64 = |seen| seen.dns - seen.blocking;
        let mut rows = vec![
            ("Consul has taken the change", of(&self.ours, |seen| seen.taken)),
            ("a blocking query returns it", of(&self.ours, |seen| seen.blocking)),
            ("our DNS answers it", of(&self.ours, |seen| seen.dns)),
            ("  behind the blocking query", of(&self.ours, behind)),
            ("Consul's own DNS answers it", of(&self.consul, |seen| seen.dns)),
            ("  behind the blocking query", of(&self.consul, behind)),
            ("burst: a blocking query", of(&self.bursts, |seen| seen.blocking)),
            ("burst: our DNS", of(&self.bursts, |seen| seen.dns)),
        ];
        rows.retain(|(_, figures): &(_, Figures)| figures.count() > 0);
        rows
    }

    /// The answer's time to the blocking query's, round by round.
    fn ratio(&self) -> Figures {
        self.ours.iter().map(|seen| seen.dns / seen.blocking).collect()
    }

    fn p99(&self) -> f64 {
        let dns: Figures = self.ours.iter().map(|seen| seen.dns).collect();
        dns.quantile(0.99)
    }

    fn lost(&self) -> usize {
        let all = [&self.ours, &self.consul, &self.bursts].into_iter().flatten();
        all.map(|seen| seen.lost).sum()
    }
}

/// Of the answer's time to the bare blocking query's, at p50.
const RATIO_MAX: f64 = 1.5;

const P99_MAX_MS: f64 = 10.0;

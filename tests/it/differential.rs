//! The judge of this project: Consul's own DNS and ours, asked the same, thousands of times.
//!
//! A seed becomes a catalogue, which goes into a real Consul of two datacenters; a server of ours
//! watches it. Every name form is asked for in every type and by many ways, of both. What differs
//! must follow from a set of named rules, each of which says what either side says. What does not
//! follow fails, and is printed with the seed, what is registered, and both replies.
//!
//! `tests/run differential --seeds N` judges N more seeds, `--seed S` that one.

mod ask;
mod existing;
mod generate;
mod judge;
mod limits;
mod mutate;
mod name;
mod names;
mod pending;
mod register;
mod reply;
mod report;
mod rules;
mod run;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::env;

use crate::differential::judge::{judge, strictly};
use crate::differential::mutate::MUTATIONS;
use crate::differential::pending::PENDING;
use crate::differential::report::report;
use crate::differential::rules::{OTHER_RULES, RULES};
use crate::differential::run::{Case, Run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_from_consul_is_explained() {
    let mut tally = Tally::default();
    for seed in SEEDS {
        let Some(run) = Run::of(seed, NODES, SHARE).await else { return };
        tally.judge(&run);
    }
    tally.check();
    let hits = |name: &&str| tally.hits.get(name).copied().unwrap_or_default();
    let needed = RULES.iter().map(|rule| rule.name);
    let unneeded: Vec<&str> = needed.chain(OTHER_RULES).filter(|name| hits(name) == 0).collect();
    assert!(unneeded.is_empty(), "rules that explained nothing: {unneeded:#?}");
    let pending = PENDING.iter().map(|pending| pending.name);
    let done: Vec<&str> = pending.filter(|name| hits(name) == 0).collect();
    assert!(done.is_empty(), "no longer pending, so delete: {done:#?}");
}

/// Judges more seeds, where somebody asks for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_seed_will_do() {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let (first, count) = match (number("FINGERPOST_TEST_SEED"), number("FINGERPOST_TEST_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, Some(count)) => (fastrand::u64(1_000..u64::from(u32::MAX)), count),
        (None, None) => return,
    };
    let (mut tally, mut questions) = (Tally::default(), 0);
    for seed in first..first + count {
        let Some(run) = Run::of(seed, NODES, SHARE).await else { return };
        let before = tally.failures.len();
        tally.judge(&run);
        questions += run.cases.len();
        let failed = tally.failures.len() - before;
        eprintln!("seed {seed}: {} questions, {failed} not explained", run.cases.len());
    }
    eprintln!("{questions} questions, and the rules that were needed: {:#?}", tally.hits);
    tally.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_catches_what_is_wrong() {
    let Some(run) = Run::of(SEEDS[0], 20, 0.1).await else { return };
    let judged: Vec<&Case> =
        run.cases.iter().filter(|case| strictly(&run, case).complaints.is_empty()).collect();
    let mut escaped = Vec::new();
    for mutation in MUTATIONS {
        let mut tried = 0;
        for case in &judged {
            let mut wrong = (*case).clone();
            if !(mutation.apply)(case, &mut wrong.ours) {
                continue;
            }
            tried += 1;
            let verdict = strictly(&run, &wrong);
            if verdict.complaints.is_empty() {
                escaped.push(format!("{}: {}", mutation.name, report(&run, &wrong, &verdict)));
            }
        }
        assert!(tried > 0, "{}: no reply can be wrong in this way", mutation.name);
    }
    let (count, shown) = (escaped.len(), escaped.len().min(SHOWN_MAX));
    assert!(count == 0, "{count} wrong replies were let through:\n{}", escaped[..shown].join("\n"));
    assert!(MUTATIONS.len() >= 30);
}

/// What came of all that was judged.
#[derive(Debug, Default)]
struct Tally {
    /// How often each rule, or pending entry, was needed.
    hits: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

impl Tally {
    fn judge(&mut self, run: &Run) {
        for case in &run.cases {
            let verdict = judge(run, case);
            for rule in verdict.rules.iter().chain(&verdict.pending) {
                *self.hits.entry(rule).or_default() += 1;
            }
            if !verdict.complaints.is_empty() {
                self.failures.push(report(run, case, &verdict));
            }
        }
    }

    fn check(&self) {
        let shown = &self.failures[..self.failures.len().min(SHOWN_MAX)];
        let count = self.failures.len();
        assert!(count == 0, "{count} differences are not explained:\n{}", shown.join("\n"));
    }
}

/// The seeds of every run; one that has failed stays.
const SEEDS: [u64; 8] = [1, 2, 3, 4, 491_438_998, 1_472_683_486, 2_884_492_233, 3_017_775_685];

/// Nodes of the first datacenter, beside the odd ones.
const NODES: usize = 150;

/// How many of the names of frequent forms are asked.
const SHARE: f64 = 0.3;

const SHOWN_MAX: usize = 10;

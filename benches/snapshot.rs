//! What one change costs, from a source's report to the snapshot that is answered from.
//!
//! **Budget:** one change to one service costs the same at 100 and at 10,000 services of 10
//! instances: at most 1.5 times as much, and at most 100 us. The services are changed in turn,
//! so at 10,000 each is met cold: the ratio includes what the processor's caches forgot. `hot`
//! changes one service again and again, and shows the cost without that.
//!
//! Lists cost what is in them, and a list is changed far more rarely than a service: `listed` and
//! `nodes_same` are here to be seen, and have no budget.
//!
//! Set on 2 cores of an AMD EPYC (Zen 5) under KVM. Run: `cargo bench --bench snapshot`.

#![allow(clippy::expect_used, clippy::print_stdout, unreachable_pub)]

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use fingerpost::catalog::Change;
use fingerpost::catalog::model::{Health, Instance};
use fingerpost::clock::Clock;
use fingerpost::metrics::Metrics;
use fingerpost::publisher::Publisher;
use fingerpost::store::Store;
use tokio::time::Instant;

use crate::support::figures::{Figures, Place};

/// A catalogue that is being served, and its source.
struct Catalog {
    publisher: Publisher,
    services: Vec<Vec<Instance>>,
    /// The service that changes next.
    next: usize,
}

impl Catalog {
    fn new(services: usize) -> Self {
        let store = Arc::new(Store::new(support::policy()));
        let metrics = Metrics::register(&store, Clock::start(), LANES, 0)
            .expect("metrics of their own registry");
        let (_, rules) = tokio::sync::watch::channel(support::rules());
        let publisher = Publisher::new(store, metrics, rules, LANES, LABELS_MAX);
        let services = (0..services)
            .map(|number| {
                let name = support::service_name(number);
                support::instances(&name, number * INSTANCES, INSTANCES)
            })
            .collect();
        let mut catalog = Self { publisher, services, next: 0 };
        let lists = [support::datacenters(), catalog.nodes(), catalog.listing(0)];
        catalog.publisher.publish(lists);
        for number in 0..catalog.services.len() {
            catalog.publisher.publish([catalog.service(number)]);
        }
        catalog
    }

    /// One instance of a service turns critical, or passing again.
    fn flip(&mut self, number: usize) -> Change {
        let first = self.services.get_mut(number).and_then(|instances| instances.first_mut());
        if let Some(instance) = first {
            instance.health = match instance.health {
                Health::Passing => Health::Critical,
                _ => Health::Passing,
            };
        }
        self.service(number)
    }

    /// A flip of the service whose turn it is. The stride keeps the prefetcher from guessing.
    fn flip_next(&mut self) -> Change {
        self.next = (self.next + STRIDE) % self.services.len();
        self.flip(self.next)
    }

    fn service(&self, number: usize) -> Change {
        let instances = self.services.get(number).cloned().unwrap_or_default();
        support::service(&support::service_name(number), instances)
    }

    /// How long it takes until what `change` makes is answered from.
    fn publish_timed(&mut self, change: impl FnOnce(&mut Self) -> Change) -> Duration {
        let change = change(self);
        let since = Instant::now();
        let changed = self.publisher.publish([change]);
        let taken = since.elapsed();
        black_box(changed);
        taken
    }

    /// All names, and `more` new ones.
    fn listing(&self, more: usize) -> Change {
        let names = (0..self.services.len()).map(support::service_name);
        support::listing(names.chain((0..more).map(|number| format!("new-{number}"))))
    }

    fn nodes(&self) -> Change {
        support::nodes(self.services.len())
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    rows(&mut criterion);
    criterion.final_summary();
    // With a filter, the ratio is not what was asked for.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        ratios();
    }
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for size in SIZES {
        let mut catalog = Catalog::new(size);
        let mut row = |name: &str, change: &mut dyn FnMut(&mut Catalog) -> Change| {
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_custom(|rounds| {
                    (0..rounds).map(|_| catalog.publish_timed(&mut *change)).sum()
                });
            });
        };
        row("service", &mut Catalog::flip_next);
        row("service_hot", &mut |catalog| catalog.flip(0));
        row("nodes_same", &mut |catalog| catalog.nodes());
        let mut more = 0;
        row("listed", &mut |catalog| {
            more = 1 - more;
            catalog.listing(more)
        });
    }
    group.finish();
}

/// Sizes in alternation, so that whatever else the machine does meets all of them.
fn ratios() {
    let mut catalogs = SIZES.map(Catalog::new);
    println!("\none change to one service: {}", Place::here());
    println!("{ROUNDS} rounds of {CHANGES} changes, sizes in alternation; median per change\n");
    let smallest = SIZES.first().copied().unwrap_or_default();
    println!("{:<12} {:>9} {:>11}   ratio to {smallest} [quartiles]", "", "services", "us");
    for (name, flip) in [
        ("in turn", Catalog::flip_next as fn(&mut Catalog) -> Change),
        ("hot", |catalog: &mut Catalog| catalog.flip(0)),
    ] {
        let mut taken = SIZES.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for (catalog, taken) in catalogs.iter_mut().zip(&mut taken) {
                let changes = (0..CHANGES).map(|_| catalog.publish_timed(flip).as_secs_f64() * 1e6);
                taken.push(changes.collect::<Figures>().median());
            }
        }
        let [first, ..] = taken.clone();
        for (size, taken) in SIZES.iter().zip(taken) {
            let ratios: Figures =
                taken.iter().zip(&first).map(|(this, first)| this / first).collect();
            let us = taken.into_iter().collect::<Figures>().median();
            let [low, ratio, high] = [0.25, 0.5, 0.75].map(|share| ratios.quantile(share));
            println!("{name:<12} {size:>9} {us:>11.2}   {ratio:.2} [{low:.2}..{high:.2}]");
        }
    }
}

/// Services in the catalogue, smallest first.
const SIZES: [usize; 3] = [100, 1_000, 10_000];

const INSTANCES: usize = 10;

/// Two workers and the lane that tasks share; services with counts of their own, as by default.
const LANES: usize = 3;
const LABELS_MAX: usize = 1_000;

/// Prime, so that each service has its turn.
const STRIDE: usize = 37;

const ROUNDS: usize = 41;
const CHANGES: usize = 200;

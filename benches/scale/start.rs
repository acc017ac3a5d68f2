//! From the start of the server until it is ready, and what it takes of the memory then.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::catalog::{Catalog, entry_bytes, registration_bytes};
use crate::figures::{Figures, said_by};
use crate::options::Options;
use crate::processes::{peak, pss};
use crate::support::authority::{Authority, SERVER};
use crate::support::consul_binary;
use crate::support::metrics::value;
use crate::target::{Bound, Target};
use crate::{fetch, load, real, site};

pub struct Starts(Vec<Row>);

/// Starts with one Consul.
struct Row {
    consul: String,
    catalog: Catalog,
    ready_ms: Figures,
    /// Until every service is watched and in memory.
    complete_ms: Figures,
    fetches_ms: Figures,
    /// Of the last two, round by round.
    ratio: Figures,
    /// As they were taken, one after the other.
    pss_mib: Vec<f64>,
    peak_mib: Figures,
    connections: usize,
    bytes: u64,
}

/// Starts the server a few times beside each Consul.
pub fn measure(runtime: &Runtime, options: &Options, cores: usize) -> Starts {
    let authority = Authority::new();
    authority.issue("server", SERVER);
    let starts = options.rounds.min(STARTS_MAX);
    if !options.json {
        print_head();
    }
    let mut rows = Vec::new();
    let mut add = |consul, catalog| {
        let row = Row::measure(consul, catalog, &authority, runtime, starts);
        if !options.json {
            row.print();
        }
        rows.push(row);
    };
    for services in SERVICES {
        for instances in INSTANCES {
            let catalog = Catalog { services, instances };
            let site = site::Site::start(catalog, &authority, cores);
            let consul = Consul { label: "scripted".to_owned(), address: site.address() };
            add(consul, catalog);
        }
    }
    if let Some(binary) = consul_binary() {
        let catalog = Catalog { services: 1000, instances: 10 };
        let consul = runtime.block_on(real::start(catalog, Some(&authority)));
        let label = said_by(&binary.to_string_lossy(), &["version"]);
        let address = consul.https_address();
        add(Consul { label, address }, catalog);
    }
    Starts(rows)
}

/// One that is started beside.
struct Consul {
    label: String,
    address: SocketAddr,
}

impl Row {
    fn print(&self) {
        let Catalog { services, instances } = self.catalog;
        let size = format!("{services} x {instances}");
        let ratio = &self.ratio;
        println!(
            "{size:>17} {:<15}{:>5}{:>8.1}{:>9.0}{:>8.0}{:>11.0}  {ratio:<20}{:>9.1}{:>9.1}",
            self.consul,
            self.connections,
            self.bytes as f64 / 1e6,
            self.ready_ms.median(),
            self.complete_ms.median(),
            self.fetches_ms.median(),
            self.pss().median(),
            self.peak_mib.median(),
        );
    }

    fn pss(&self) -> Figures {
        self.pss_mib.iter().copied().collect()
    }

    fn measure(
        consul: Consul,
        catalog: Catalog,
        authority: &Authority,
        runtime: &Runtime,
        starts: usize,
    ) -> Self {
        let Consul { label, address } = consul;
        let (mut ready, mut complete, mut fetches) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sets, mut peaks) = (Vec::new(), Vec::new());
        let (mut connections, mut bytes) = (0, 0);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        for _ in 0..starts {
            let (server, since) = site::watch(address, catalog.services, authority);
            site::ready(&server);
            ready.push(ms(since.elapsed()));
            let told = runtime.block_on(site::complete(&server, catalog.services, since));
            complete.push(ms(since.elapsed()));
            connections = value(&told, "fingerpost_consul_connections_opened_total") as usize;
            load::check(runtime.block_on(server.dns_address()), catalog);
            let told = runtime.block_on(site::scrape(&server));
            assert_eq!(value(&told, "fingerpost_consul_on_demand_services"), 0.0, "all watched");
            std::thread::sleep(SETTLED);
            sets.push(pss(server.pid()));
            peaks.push(peak(server.pid()));
            drop(server);
            let ca = authority.path("ca.pem");
            let fetched = fetch::run(address, catalog.services, connections, &ca);
            fetches.push(ms(fetched.taken));
            bytes = fetched.bytes;
        }
        let ratio =
            complete.iter().zip(&fetches).map(|(complete, fetches)| complete / fetches).collect();
        Self {
            consul: label,
            catalog,
            ready_ms: ready.into_iter().collect(),
            complete_ms: complete.into_iter().collect(),
            fetches_ms: fetches.into_iter().collect(),
            ratio,
            pss_mib: sets,
            peak_mib: peaks.into_iter().collect(),
            connections,
            bytes,
        }
    }
}

fn print_head() {
    println!(
        "\nfrom the start until ready, and until all is in memory; medians, ratios with quartiles\n"
    );
    println!(
        "{:>17} {:<15}{:>5}{:>8}{:>9}{:>8}{:>11}  {:<20}{:>9}{:>9}",
        "services x each",
        "Consul",
        "conn",
        "MB",
        "ready ms",
        "all ms",
        "fetches ms",
        "ratio",
        "PSS MiB",
        "peak MiB"
    );
}

impl Starts {
    /// What memory is to be seen beside.
    pub fn print(&self) {
        let (entry, registered) = (entry_bytes(), registration_bytes());
        println!(
            "\nan instance has {entry} bytes in Consul's replies, {registered} where it is registered"
        );
    }

    pub fn json(&self) -> Value {
        let rows = self.0.iter().map(|row| {
            json!({
                "services": row.catalog.services, "instances": row.catalog.instances,
                "consul": row.consul, "connections": row.connections, "bytes": row.bytes,
                "ready_ms": row.ready_ms.median(),
                "complete_ms": row.complete_ms.median(), "fetches_ms": row.fetches_ms.median(),
                "ratio": row.ratio.quartiles(), "pss_mib": row.pss().median(), "peak_mib": row.peak_mib.median(),
            })
        });
        let rows: Vec<Value> = rows.collect();
        json!({
            "rows": rows, "entry_bytes": entry_bytes(), "registration_bytes": registration_bytes(),
        })
    }

    /// What the rows come to.
    pub fn targets(&self) -> Vec<Target> {
        let at_most = |text, figures, most| Target { text, figures, bound: Bound::AtMost(most) };
        let mut targets = Vec::new();
        for row in self.0.iter().filter(|row| row.catalog.is(1000, 10)) {
            let text = format!("MiB at 1000 x 10, {}: <= {MIB_MAX}", row.consul);
            targets.push(at_most(text, row.pss(), MIB_MAX));
        }
        let entry = entry_bytes() as f64;
        for [few, many] in self.0.as_chunks().0 {
            let more = many.catalog.services * (many.catalog.instances - few.catalog.instances);
            let pairs = few.pss_mib.iter().zip(&many.pss_mib);
            let bytes = pairs.map(|(few, many)| (many - few) * 1024.0 * 1024.0 / more as f64);
            let services = few.catalog.services;
            let text = format!("bytes for a further instance of {services}: <= its JSON, {entry}");
            targets.push(at_most(text, bytes.collect(), entry));
        }
        for row in &self.0 {
            let Catalog { services, instances } = row.catalog;
            let consul = &row.consul;
            let text = format!(
                "all in memory, {services} x {instances}, {consul}: <= {READY_MAX} x the fetches"
            );
            targets.push(at_most(text, row.ratio.clone(), READY_MAX));
        }
        targets
    }
}

const SERVICES: [usize; 3] = [100, 1000, 10_000];
const INSTANCES: [usize; 2] = [10, 100];

/// Starts of a kind, however many rounds there are.
const STARTS_MAX: usize = 5;

/// Until memory is looked at.
const SETTLED: Duration = Duration::from_secs(2);

const MIB_MAX: f64 = 64.0;

/// Of the time of the fetches.
const READY_MAX: f64 = 3.0;

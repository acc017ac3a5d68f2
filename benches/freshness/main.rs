//! How soon a change in Consul is answered: from one check's flip to the first DNS reply that shows
//! it.
//!
//! ```text
//!   flip ---> Consul ---> a bare blocking query           what any client of Consul's can have
//!                  `----> the server's watch --> DNS      ours, over UDP
//!                  `----> Consul's own DNS                beside it, in alternate rounds
//! ```
//! **Budget:** DNS answers within 1.5 times what the bare blocking query takes, at p50; within 10 ms
//! at p99.
//!
//! Each round flips one service and looks at it by a blocking query and by one of the two DNS
//! servers, which is asked again and again. Every reply must have the addresses of before or of
//! after. All services are watched: over plain HTTP both bounds on connections are raised for it.
//! Ten thousand services are a scripted Consul's, as a real one takes minutes to register them and
//! the cores that it needs. What a change costs Consul is measured with nobody else looking, and
//! once more when the server is gone.
//!
//! The server is on core 0; Consul and this program share core 1, so both looks are late by what the
//! other takes. The asking adds up to its own pace. Rounds are paced so that the floor under a
//! watch's rounds (a bucket of eight, filled four times a second) is not met; `burst` meets it on
//! purpose.
//!
//! Run: `FINGERPOST_TEST_CONSUL=/path/to/consul cargo bench --bench freshness -- [--rounds N] [--json]`

#![allow(clippy::expect_used, clippy::print_stdout, clippy::panic, clippy::unwrap_used)]
#![allow(unreachable_pub)]

#[path = "../support/catalog.rs"]
mod catalog;
#[path = "../support/figures.rs"]
mod figures;
#[path = "../support/options.rs"]
mod options;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/question.rs"]
mod question;
#[path = "../support/real.rs"]
mod real;
#[path = "../support/scripted.rs"]
mod scripted;
mod source;
mod stage;
// Its own tests are not run here, so what they use is unused.
#[allow(unused_imports)]
#[path = "../../tests/it/support/mod.rs"]
mod support;
mod table;
#[path = "../support/target.rs"]
mod target;

use serde_json::{Value, json};

use crate::figures::{Place, pin, said_by};
use crate::options::Options;
use crate::source::Kind;
use crate::stage::Stage;
use crate::support::{choose_crypto, consul_binary};
use crate::table::Table;

fn main() {
    let options = Options::read(100, &[]);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    choose_crypto();
    runtime.block_on(run(&options));
}

async fn run(options: &Options) {
    let Some(binary) = consul_binary() else { return };
    let version = said_by(&binary.to_string_lossy(), &["version"]);
    let place = Place::here();
    if !pin("1") {
        println!("NOT pinned: taskset is missing");
    }
    if !options.json {
        println!("\nfrom a flip to the answer, in ms: {place}, {version}");
    }
    let mut tables = Vec::new();
    for (kind, services) in STAGES {
        let table: Table = Stage::set(kind, services).await.measure(options.rounds).await;
        match options.json {
            true => tables.push(table.json()),
            false => table.print(),
        }
    }
    if options.json {
        let tables: Vec<Value> = tables;
        let place = place.to_string();
        println!(
            "{}",
            json!({ "place": place, "consul": version, "unit": "ms", "tables": tables })
        );
    }
}

/// Services that are watched beside Consul's own, and where they are.
const STAGES: [(Kind, usize); 5] = [
    (Kind::Http, 100),
    (Kind::Https, 100),
    (Kind::Http, 1000),
    (Kind::Https, 1000),
    (Kind::Scripted, 10_000),
];

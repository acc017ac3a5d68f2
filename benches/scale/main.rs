//! What a large catalog costs: the time to be ready, the memory, and the answers while it changes.
//!
//! ```text
//!   core 0   the server; or, in alternate rounds, a program that fetches the same bodies and drops
//!            them, over as many connections of HTTP/2
//!   core 1   who asks; and the real Consul, or the scripted one where there is no core 2
//!   core 2   the scripted Consul, where there is such a core
//! ```
//! **Budget:** 64 MiB for 1,000 services of 10 instances; a further instance takes no more memory
//! than its JSON has bytes; all in memory within 3 times what the fetches take; while 1,000 changes a
//! second arrive, 0.9 of the queries a second at rest and no more than twice the p99. The targets at
//! the end of the output are these; one is met when both quartiles over the rounds are. Starts are
//! five of a kind at most.
//!
//! A server says that it is ready when the lists and the first services are in, and fetches what it
//! is asked for meanwhile. So what is compared with the fetches is the time until it watches all.
//!
//! All is over HTTPS, where every service is watched from the first reply on; `consul.streams_max`
//! is raised for 10,000. A scripted Consul stands in where a real one has no place: on one core
//! shared with who asks, 1.8.7 takes about 1,000 registrations a second and nothing else. The
//! scripted one is a process of its own, which gives way to who asks (`nice`), and sends what Consul
//! 1.8.7 would send, to the byte. Before it makes changes it writes all bodies, so that a change is
//! but sent; what that takes of a core is shown (`Consul`). Where it shares that core with who asks,
//! less is asked while it sends: rates compare as long as the server is `busy`, else the output says
//! that it was not saturated. Memory is the proportional set (`smaps_rollup`) two seconds after
//! the server is ready; the peak is the resident set's.
//!
//! Changes go over the services in turn, so that each is far below the floor under a watch's rounds.
//! How many of them arrived is what the server itself counts. Where other programs take from the two
//! cores, or `taskset` is missing, times say little.
//!
//! Run: `FINGERPOST_TEST_CONSUL=/path/to/consul cargo bench --bench scale -- [--rounds N] [--json]
//! [--only start|changes]`

#![allow(clippy::expect_used, clippy::print_stdout, clippy::panic, clippy::unwrap_used)]
#![allow(unreachable_pub)]

#[path = "../support/catalog.rs"]
mod catalog;
mod changes;
mod fetch;
#[path = "../support/figures.rs"]
mod figures;
#[path = "../support/generator.rs"]
mod generator;
mod load;
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
mod site;
mod start;
// Its own tests are not run here, so what they use is unused.
#[allow(unused_imports)]
#[path = "../../tests/it/support/mod.rs"]
mod support;
#[path = "../support/target.rs"]
mod target;

use serde_json::{Value, json};

use crate::changes::Changes;
use crate::figures::{Place, pin};
use crate::options::Options;
use crate::start::Starts;
use crate::support::choose_crypto;
use crate::target::Target;

fn main() {
    choose_crypto();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["--consul", arguments @ ..] => site::serve(arguments),
        ["--fetch", arguments @ ..] => fetch::fetch(arguments),
        _ => run(&Options::read(15, &[ONLY])),
    }
}

fn run(options: &Options) {
    let place = Place::here();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    if !pin("1") {
        println!("NOT pinned: taskset is missing");
    }
    if !options.json {
        println!("\nwhat a large catalog costs: {place}");
    }
    let start = has(options, "start").then(|| start::measure(&runtime, options, place.cores));
    if let Some(start) = start.as_ref().filter(|_| !options.json) {
        start.print();
    }
    let changes =
        has(options, "changes").then(|| changes::measure(&runtime, options.rounds, place.cores));
    if let Some(changes) = changes.as_ref().filter(|_| !options.json) {
        changes.print();
    }
    let mut targets: Vec<Target> = start.iter().flat_map(Starts::targets).collect();
    targets.extend(changes.iter().flat_map(Changes::targets));
    if options.json {
        let (start, changes) = (start.map(|it| it.json()), changes.map(|it| it.json()));
        let targets: Vec<Value> = targets.iter().map(Target::json).collect();
        let place = place.to_string();
        println!(
            "{}",
            json!({ "place": place, "start": start, "changes": changes, "targets": targets })
        );
    } else {
        target::print(&targets);
    }
}

/// Whether this part is measured.
fn has(options: &Options, part: &str) -> bool {
    options.own("--only").is_none_or(|only| only == part)
}

const ONLY: &str = "--only start|changes";

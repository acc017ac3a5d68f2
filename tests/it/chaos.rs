//! A bad day of Consul's, with real processes and real faults, while questions are asked.
//!
//! Each set-up goes through its faults in turn. Whatever happens, the same holds of every reply:
//! see [`judge`]. What users see of it is a table in the README, a row for each fault.

mod account;
mod agent;
mod cluster;
mod datacenters;
mod judge;
mod net;
mod secured;
mod served;
mod stream;
mod times;
mod trial;
mod voice;
mod world;

use crate::chaos::cluster::Cluster;
use crate::chaos::datacenters::Datacenters;
use crate::chaos::secured::Secured;
use crate::chaos::times::Times;
use crate::chaos::trial::{Scene, Trial, say};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_has_a_bad_day() {
    let times = Times::of_this_run();
    let Some(cluster) = Cluster::start(times).await else { return };
    go_through(cluster, &cluster::Fault::ALL, times).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_datacenters_have_a_bad_day() {
    let times = Times::of_this_run();
    let Some(datacenters) = Datacenters::start(times).await else { return };
    go_through(datacenters, &datacenters::Fault::ALL, times).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secured_consul_has_a_bad_day() {
    let times = Times::of_this_run();
    let Some(secured) = Secured::start(times).await else { return };
    go_through(secured, &secured::Fault::ALL, times).await;
}

#[test]
fn the_readme_has_a_row_for_each_fault() {
    let words = [
        cluster::Fault::ALL.map(Cluster::words).to_vec(),
        datacenters::Fault::ALL.map(Datacenters::words).to_vec(),
        secured::Fault::ALL.map(Secured::words).to_vec(),
    ]
    .concat();
    let table = README.split_once("| fault | what users see |").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = rows.filter_map(|row| row.split(" | ").next()?.strip_prefix("| ")).collect();
    assert_eq!(rows, words);
}

async fn go_through<S: Scene>(mut scene: S, faults: &[S::Fault], times: Times) {
    let mut trial = Trial::of(&mut scene, times).await;
    for fault in faults.iter().filter(|fault| !awaits_guard::<S>(**fault)) {
        trial.suffer(&mut scene, *fault, false).await;
    }
    if times.is_long {
        for fault in faults.iter().filter(|fault| S::may_die(**fault)) {
            trial.suffer(&mut scene, *fault, true).await;
        }
    }
    trial.end();
}

fn awaits_guard<S: Scene>(fault: S::Fault) -> bool {
    let words = S::words(fault);
    let awaits = AWAITS_GUARD.contains(&words);
    if awaits {
        say(&format!("SKIPPED, for lack of a guard against sudden emptiness: {words}"));
    }
    awaits
}

/// Faults that show names as missing until what is suddenly empty is not believed at once.
const AWAITS_GUARD: &[&str] = &[];

const README: &str = include_str!("../../README.md");

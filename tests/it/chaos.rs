//! A bad day of Consul's, with real processes and real faults, while questions are asked.
//!
//! Each set-up goes through its faults in turn. Whatever happens, the same holds of every reply:
//! see [`judge`].

mod agent;
mod cluster;
mod judge;
mod net;
mod served;
mod stream;
mod times;
mod trial;
mod voice;
mod world;

use crate::chaos::cluster::Cluster;
use crate::chaos::times::Times;
use crate::chaos::trial::Trial;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_has_a_bad_day() {
    let times = Times::of_this_run();
    let Some(mut cluster) = Cluster::start(times).await else { return };
    let mut trial = Trial::of(&cluster, times);
    for fault in cluster::Fault::ALL {
        trial.suffer(&mut cluster, fault).await;
    }
    trial.end();
}

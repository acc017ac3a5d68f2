//! What fills the snapshots: a Consul, a catalogue file, or what is compiled in.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::app::Origin;
use crate::board::Board;
use crate::catalog::Change;
use crate::clock::Clock;
use crate::config::Config;
use crate::consul;
use crate::demand::Demand;
use crate::file;
use crate::metrics::Metrics;
use crate::publisher::{Publisher, told};

/// What fills the snapshots.
pub struct Source {
    /// Where it comes from.
    pub origin: Origin,
    /// Publishes it.
    pub publisher: Publisher,
    /// What the listeners lack.
    pub demands: mpsc::Receiver<Demand>,
    /// Where watches say how they stand.
    pub board: Arc<Board>,
    /// The clock that the answers are given.
    pub clock: Clock,
}

impl Source {
    /// Fills them until cancelled.
    pub async fn run(self, config: Config, metrics: Metrics, cancel: CancellationToken) {
        let Self { origin, mut publisher, demands, board, clock } = self;
        match origin {
            Origin::Consul(client) => {
                let parts = consul::Parts { client, publisher, demands, metrics, board, clock };
                consul::run(parts, &config.consul, &config.cache, config.guard, cancel).await;
            }
            Origin::File { catalog, path } => {
                publish_all(&mut publisher, catalog.changes());
                let publisher = Arc::new(Mutex::new(publisher));
                let renewing = renew(Arc::clone(&publisher));
                let publish = async move |changes: Vec<Change>| {
                    publisher.lock().await.publish(changes);
                };
                tokio::select! {
                    () = file::follow(path, catalog, cancel, publish) => (),
                    () = renewing => (),
                }
            }
            Origin::Fixed(changes) => {
                publish_all(&mut publisher, changes);
                let renewing = renew(Arc::new(Mutex::new(publisher)));
                cancel.run_until_cancelled(renewing).await;
            }
        }
    }
}

/// Makes all records anew whenever other rules are told.
async fn renew(publisher: Arc<Mutex<Publisher>>) {
    let mut rules = publisher.lock().await.rules();
    loop {
        told(&mut rules).await;
        publisher.lock().await.renew();
    }
}

/// A source that is read in one go is ready at once.
fn publish_all(publisher: &mut Publisher, changes: Vec<Change>) {
    publisher.publish(changes);
    publisher.set_pending(Vec::new());
    let snapshot = publisher.snapshot();
    let services: usize = snapshot.datacenters().map(|dc| dc.service_count()).sum();
    let nodes: usize = snapshot.datacenters().map(|dc| dc.node_count()).sum();
    info!(services, nodes, "ready");
}

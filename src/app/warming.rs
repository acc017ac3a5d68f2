//! The snapshot file's part in the program: read before the first question, and kept while it runs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::Origin;
use crate::catalog::{Datacenter, Found};
use crate::config::Config;
use crate::dns::Front;
use crate::publisher::Publisher;
use crate::store::Store;
use crate::warm::Warm;

/// Publishes what an earlier run left, and is ready if that is enough to be. What is returned keeps
/// the file from then on; `None` where there is to be none.
pub fn start(
    config: &Config,
    origin: &Origin,
    front: &Front,
    publisher: &mut Publisher,
) -> Option<Warm> {
    let warm = Warm::new(&config.snapshot, front.clock, front.metrics.snapshot.clone())?;
    if !matches!(origin, Origin::Consul(_)) {
        warn!("snapshot.path means nothing without a Consul");
        return None;
    }
    if publisher.publish(warm.load(config.consul.datacenter.as_deref())) {
        let snapshot = publisher.snapshot();
        let services: usize = snapshot.datacenters().map(|dc| dc.service_count()).sum();
        let nodes: usize = snapshot.datacenters().map(|dc| dc.node_count()).sum();
        info!(services, nodes, "answering from the snapshot file until consul is heard");
        let has_lists = |local: &Datacenter| local.has_services() && local.has_nodes();
        if matches!(snapshot.datacenter(None), Found::Here(local) if has_lists(local)) {
            publisher.set_pending(Vec::new());
        }
    }
    Some(warm)
}

/// Keeps the snapshot file until `cancel`, if there is to be one.
pub async fn keep(warm: Option<Warm>, store: Arc<Store>, cancel: CancellationToken) {
    match warm {
        Some(warm) => warm.keep(store, cancel).await,
        None => cancel.cancelled().await,
    }
}

//! From a source's changes to the snapshot that is answered from.
//!
//! Each source owns one: it applies changes in the order in which they came and publishes once
//! for all that came together. This is also where a snapshot gets its serial, the Unix second of
//! the change, and where the series of services that are gone are dropped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::catalog::model::Health;
use crate::catalog::{Builder, Change, Rules, Snapshot};
use crate::metrics::Metrics;
use crate::news::News;
use crate::store::{Pending, Store};

/// Builds snapshots and publishes them.
#[derive(Debug)]
pub struct Publisher {
    builder: Builder,
    store: Arc<Store>,
    metrics: Metrics,
    rules: watch::Receiver<Rules>,
    news: News,
}

impl Publisher {
    /// Publishes to `store`. `lanes` workers count, and `labels_max` services have own counts.
    pub fn new(
        store: Arc<Store>,
        metrics: Metrics,
        rules: watch::Receiver<Rules>,
        lanes: usize,
        labels_max: usize,
    ) -> Self {
        let first = rules.borrow().clone();
        let builder = Builder::new(first, lanes, labels_max, Arc::clone(&metrics.other));
        Self { builder, store, metrics, rules, news: News::new() }
    }

    /// Where other rules are told; whoever owns this waits for them, see [`told`].
    pub fn rules(&self) -> watch::Receiver<Rules> {
        self.rules.clone()
    }

    /// Makes all records by the rules that were told last, and publishes them.
    pub fn renew(&mut self) {
        let rules = self.rules.borrow_and_update().clone();
        if self.builder.set_rules(rules) {
            self.builder.stamp(unix_secs());
            self.store.snapshot.publish(self.builder.snapshot());
            self.metrics.consul.publications.inc();
        }
    }

    /// Where it tells what each publication changed.
    pub fn news(&self) -> News {
        self.news.clone()
    }

    /// Takes `changes` in and publishes them as one. False if nothing is different for them.
    pub fn publish(&mut self, changes: impl IntoIterator<Item = Change>) -> bool {
        let before = self.store.snapshot.load();
        let (mut changed, mut lists_changed) = (false, false);
        for change in changes {
            let is_list = matches!(change, Change::Datacenters { .. } | Change::Services { .. });
            let applied = self.builder.apply(change);
            changed |= applied;
            lists_changed |= applied && is_list;
        }
        if !changed {
            return false;
        }
        self.builder.stamp(unix_secs());
        self.store.snapshot.publish(self.builder.snapshot());
        self.metrics.consul.publications.inc();
        let after = self.store.snapshot.load();
        self.news.tell(&before, &after);
        if lists_changed {
            for gone in labels(&before).difference(&labels(&after)) {
                self.metrics.consul.forget(gone);
            }
        }
        true
    }

    /// Whether `change` would make a difference if it were published now.
    pub fn would_change(&self, change: Change) -> bool {
        self.builder.clone().apply(change)
    }

    /// Whether an instance of this health is answered with.
    pub fn shows(&self, health: Health) -> bool {
        self.builder.shows(health)
    }

    /// The catalogue as it was last published.
    pub fn snapshot(&self) -> Snapshot {
        self.builder.snapshot()
    }

    /// Says what has to happen before the program is ready. Nothing: it is, and stays so.
    pub fn set_pending(&self, pending: Vec<String>) {
        let is_ready = self.store.pending.load().0.is_empty();
        if !is_ready {
            self.store.pending.publish(Pending(pending));
        }
    }
}

/// Returns when other rules were told; never, where nobody will tell any.
pub async fn told(rules: &mut watch::Receiver<Rules>) {
    if rules.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The services with series of their own.
fn labels(snapshot: &Snapshot) -> BTreeSet<Box<str>> {
    let services = snapshot.datacenters().flat_map(|datacenter| datacenter.services());
    services.filter(|service| service.usage.is_own()).map(|service| service.name.clone()).collect()
}

/// The clock that people read, for the SOA serial. It wraps in the year 2106 (RFC 1982).
fn unix_secs() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() as u32
}

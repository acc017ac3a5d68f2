//! How the keeper lets go: of services that nobody asks for, and of watches that ended.

use tokio::time::Instant;

use crate::catalog::{Change, Found, Service, Snapshot};
use crate::consul::Key;
use crate::consul::keeper::{Keeper, hold};
use crate::consul::view::find;

impl Keeper {
    /// What an ended watch said is as good as if it had just been fetched.
    pub fn loosen(&mut self, ended: Vec<Key>) {
        let snapshot = self.publisher.snapshot();
        let changes = ended.iter().filter_map(|key| {
            let service = find(&snapshot, key)?;
            Some(hold(key, self.on_demand(&service.instances)))
        });
        let changes: Vec<_> = changes.collect();
        self.publisher.publish(changes);
        ended.into_iter().for_each(|key| self.shelve(key, &snapshot));
    }

    /// Keeps what is in memory of a service that is not watched, as long as there is room.
    pub fn shelve(&self, key: Key, snapshot: &Snapshot) {
        let bytes = find(snapshot, &key).map_or(0, Service::bytes);
        self.shelf.put(key, bytes);
    }

    /// Ends watches of what nobody asks for, where something else is asked for.
    pub fn rotate(&mut self) {
        let (snapshot, now_ms) = (self.publisher.snapshot(), self.clock.now_ms());
        if now_ms >= self.rotates_at_ms {
            self.rotates_at_ms = now_ms + ROTATE_EVERY_MS;
            let relieved = self.watches.rotate(&snapshot, self.idle, now_ms);
            self.metrics.consul.relieved.inc_by(relieved as u64);
        }
    }

    /// Lets go of services that nobody asks for, unless Consul could not tell us of them again.
    pub fn sweep(&mut self) {
        self.waiting.sweep(Instant::now());
        let removed = self.shelf.sweep();
        self.metrics.consul.on_demand.set(self.shelf.count() as i64);
        self.metrics.consul.on_demand_bytes.set(self.shelf.bytes() as i64);
        if removed.is_empty() {
            return;
        }
        let snapshot = self.publisher.snapshot();
        let mut changes = Vec::new();
        for removed in removed {
            let Key { datacenter, form, service } = removed.key.clone();
            let is_cut_off = matches!(
                snapshot.datacenter(Some(datacenter.as_bytes())),
                Found::Here(datacenter) if datacenter.is_cut_off() || datacenter.is_loaded()
            );
            if self.watches.has(&removed.key) {
                continue;
            }
            if removed.crowded_out {
                self.metrics.consul.evictions.inc();
            } else if is_cut_off {
                self.shelve(removed.key, &snapshot);
                continue;
            }
            changes.push(Change::Release { datacenter, form, service });
        }
        self.publisher.publish(changes);
    }
}

/// All services are looked at.
const ROTATE_EVERY_MS: u64 = 5_000;

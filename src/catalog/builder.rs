//! Changes in, the next snapshot out, sharing with the last one all that did not change.
//!
//! The builder is the only place where a catalogue changes. It is a plain value: the source owns
//! it, applies changes in the order in which they came, and publishes what [`Builder::snapshot`]
//! gives.
//!
//! The list of names rules: a service exists from the moment it is listed until it is not, and
//! instances of an unlisted one are an answer that crossed a newer list on its way. So a name is
//! never lost because two replies came in the other order.

pub mod prepared;
pub mod renewal;
pub mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalog::addressing::View;
use crate::catalog::change::Change;
use crate::catalog::form::Form;
use crate::catalog::missed::Missed;
use crate::catalog::model::{Address, Health, Node};
use crate::catalog::nodes::NodeRecord;
use crate::catalog::reverse::{self, Owned, Owner, Pointer};
use crate::catalog::selection::Rules;
use crate::catalog::shards::{Keyed, Shards};
use crate::catalog::snapshot::{Counted, Datacenter, Service, Snapshot};
use crate::catalog::usage::Usage;

/// Makes snapshots from changes. A clone goes its own way.
#[derive(Clone, Debug)]
pub struct Builder {
    rules: Rules,
    next: Snapshot,
    /// Workers that count at once.
    lanes: usize,
    /// Services that may still have counts of their own.
    labels_left: usize,
    /// The counts of all other services.
    other: Arc<Usage>,
}

impl Builder {
    /// Starts with nothing heard. `lanes` is the number of workers that count, and `labels_max`
    /// how many services have counts of their own; the rest share `other`.
    pub fn new(rules: Rules, lanes: usize, labels_max: usize, other: Arc<Usage>) -> Self {
        let next = Snapshot { rules: Some(Arc::new(rules.clone())), ..Snapshot::default() };
        Self { rules, next, lanes, labels_left: labels_max, other }
    }

    /// The catalogue as it is now. Cheap: nothing is copied that a change did not touch.
    pub fn snapshot(&self) -> Snapshot {
        self.next.clone()
    }

    /// Whether an instance of this health is answered with.
    pub fn shows(&self, health: Health) -> bool {
        self.rules.shows(health)
    }

    /// Sets the SOA serial of the snapshots to come. It never goes back, whatever the clock does.
    pub fn stamp(&mut self, serial: u32) {
        self.next.serial = self.next.serial.max(serial);
    }

    /// Takes a change in. False if nothing is different for it.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Datacenters { local, names } => self.set_datacenters(&local, names),
            Change::Hold { datacenter, form, service, held } => {
                self.hold(&datacenter, form, &service, held)
            }
            Change::Loaded { datacenter, since_ms } => {
                self.datacenter_mut(&datacenter).is_some_and(|it| it.set_loaded(since_ms))
            }
            Change::Missed { datacenter, missed } => {
                self.datacenter_mut(&datacenter).is_some_and(|it| it.set_missed(missed))
            }
            Change::Nodes { datacenter, nodes } => self.set_nodes(&datacenter, &nodes),
            Change::Owned { datacenter, service, addresses } => {
                self.set_addresses(&datacenter, &service, &addresses)
            }
            Change::Queries { datacenter, queries } => self.set_queries(&datacenter, queries),
            Change::Reach { datacenter, cut_off_ms } => {
                self.datacenter_mut(&datacenter).is_some_and(|it| it.reach(cut_off_ms))
            }
            Change::Release { datacenter, form, service } => {
                self.release(&datacenter, form, &service)
            }
            Change::Service {
                datacenter, form: Form::Service, service, instances, held, ..
            } => self.set_service(&datacenter, &service, instances, held),
            Change::Service { datacenter, form, service, instances, held, executed } => {
                let told = services::Told { instances, held, executed };
                self.set_unlisted(&datacenter, form, &service, told)
            }
            Change::Settle { datacenter, service } => self.settle(&datacenter, &service),
            Change::Services { datacenter, listing } => self.set_services(&datacenter, listing),
            Change::Whole { datacenter } => {
                let datacenter = self.datacenter_mut(&datacenter);
                datacenter.is_some_and(|it| !std::mem::replace(&mut it.is_whole, true))
            }
        }
    }

    fn set_datacenters(&mut self, local: &str, names: Vec<String>) -> bool {
        let local = local.to_ascii_lowercase();
        let mut names: BTreeSet<String> =
            names.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.remove(&local);
        let mut next = Vec::with_capacity(names.len() + 1);
        for name in std::iter::once(&local).chain(&names) {
            let known = self.next.datacenters.iter().find(|known| *known.name == **name);
            next.push(known.cloned().unwrap_or_else(|| Arc::new(unheard(name))));
        }
        let is_same = self.next.local.as_deref() == Some(&local)
            && next.len() == self.next.datacenters.len()
            && next.iter().zip(&self.next.datacenters).all(|(new, old)| Arc::ptr_eq(new, old));
        let gone = self.next.datacenters.iter().filter(|old| !names.contains(&*old.name));
        let labels = gone.filter(|old| *old.name != *local).flat_map(|old| old.services());
        self.labels_left += labels.filter(|service| service.usage.is_own()).count();
        self.next.local = Some(local.into());
        self.next.datacenters = next;
        !is_same
    }

    fn set_nodes(&mut self, datacenter: &str, nodes: &[Node]) -> bool {
        let Some(at) = self.position(datacenter) else { return false };
        let (view, ttl_secs) = (self.view(at), self.rules.node_ttl_secs);
        let zone = self.rules.zone.as_str().to_owned();
        let Some(datacenter) = self.next.datacenters.get_mut(at).map(Arc::make_mut) else {
            return false;
        };
        let was_loaded = datacenter.nodes_loaded_ms.take().is_some();
        let first = datacenter.nodes.is_none() || was_loaded;
        let mut map = datacenter.nodes.take().unwrap_or_default();
        // Consul lists nodes by name; of two that differ in case only, the first is answered.
        let mut new = BTreeMap::new();
        for node in nodes {
            new.entry(node.name.to_ascii_lowercase()).or_insert(node);
        }
        let gone: Vec<_> = map
            .iter()
            .filter(|old| str::from_utf8(old.key()).is_ok_and(|key| !new.contains_key(key)))
            .cloned()
            .collect();
        let mut changed = first || !gone.is_empty();
        for old in gone {
            map.remove(old.key());
            parents(old.key()).for_each(|parent| count_down(&mut datacenter.node_parents, parent));
        }
        for (key, node) in &new {
            let record = NodeRecord::encode(key.as_bytes(), node, view, ttl_secs);
            match map.get(key.as_bytes()) {
                Some(old) if **old == record => continue,
                Some(_) => (),
                None => parents(key.as_bytes())
                    .for_each(|parent| count_up(&mut datacenter.node_parents, parent)),
            }
            map.insert(Arc::new(record));
            changed = true;
        }
        datacenter.nodes = Some(map);
        let owned = new.values().filter_map(|node| match node.address {
            Address::Ip(ip) => Some((reverse::name(ip).into(), Owner::Node((*node.name).into()))),
            Address::Host(_) => None,
        });
        let scope = format!("{}.{zone}", datacenter.name);
        let owned: BTreeSet<_> = owned.collect();
        changed |= datacenter.set_node_owners(owned, &|owner| owner.record(&scope, ttl_secs));
        changed
    }

    /// Whose clients ask for the datacenter at `at`.
    fn view(&self, at: usize) -> View {
        // The local one comes first.
        self.rules.view(at == 0)
    }

    fn usage(&mut self) -> Arc<Usage> {
        match self.labels_left.checked_sub(1) {
            Some(left) => {
                self.labels_left = left;
                Arc::new(Usage::new(self.lanes, true))
            }
            None => Arc::new(self.other.shared()),
        }
    }

    fn position(&self, datacenter: &str) -> Option<usize> {
        let name = datacenter.to_ascii_lowercase();
        self.next.datacenters.iter().position(|known| *known.name == *name)
    }

    fn datacenter_mut(&mut self, datacenter: &str) -> Option<&mut Datacenter> {
        let at = self.position(datacenter)?;
        self.next.datacenters.get_mut(at).map(Arc::make_mut)
    }

    fn service(&self, at: usize, key: &[u8]) -> Option<&Arc<Service>> {
        self.next.datacenters.get(at)?.services.as_ref()?.get(key)
    }
}

impl Datacenter {
    fn reach(&mut self, cut_off_ms: Option<i64>) -> bool {
        // Each failure says that it is cut off; the first one says since when.
        let next = cut_off_ms.map(|now_ms| self.cut_off_ms.unwrap_or(now_ms));
        std::mem::replace(&mut self.cut_off_ms, next) != next
    }

    fn set_missed(&mut self, missed: Missed) -> bool {
        let is_same = match &self.missed {
            Some(before) => **before == missed,
            None => missed.is_empty(),
        };
        if !is_same {
            self.missed = Some(missed).filter(|missed| !missed.is_empty()).map(Arc::new);
        }
        !is_same
    }

    fn set_loaded(&mut self, since_ms: i64) -> bool {
        self.services_loaded_ms = self.services.as_ref().map(|_| since_ms);
        self.nodes_loaded_ms = self.nodes.as_ref().map(|_| since_ms);
        self.owners_loaded_ms = self.services_loaded_ms;
        true
    }

    /// Makes `owned`, reverse names with nodes, the nodes of the index.
    fn set_node_owners(
        &mut self,
        owned: BTreeSet<Owned>,
        record: &dyn Fn(&Owner) -> Box<[u8]>,
    ) -> bool {
        let old: BTreeSet<_> = self.node_owners.iter().cloned().collect();
        if old == owned {
            return false;
        }
        old.difference(&owned).for_each(|(name, owner)| self.disown(name, owner));
        for (name, owner) in owned.difference(&old) {
            self.own(name, owner.clone(), record(owner));
        }
        self.node_owners = owned.into_iter().collect();
        true
    }

    /// Puts an owner into the index of addresses.
    fn own(&mut self, name: &str, owner: Owner, record: Box<[u8]>) {
        if record.is_empty() {
            return;
        }
        let key = name.as_bytes();
        let known = self.pointers.get(key).map(|pointer| pointer.owners.clone());
        if known.is_none() {
            parents(key).for_each(|parent| count_up(&mut self.pointer_parents, parent));
        }
        let mut owners = known.unwrap_or_default();
        owners.retain(|(known, _)| *known != owner);
        let at = owners.partition_point(|(known, _)| *known < owner);
        owners.insert(at, (owner, record));
        self.pointers.insert(Arc::new(Pointer { key: key.into(), owners }));
    }

    /// Takes an owner out of the index of addresses.
    fn disown(&mut self, name: &str, owner: &Owner) {
        let key = name.as_bytes();
        let Some(pointer) = self.pointers.get(key) else { return };
        let mut owners = pointer.owners.clone();
        owners.retain(|(known, _)| known != owner);
        match owners.is_empty() {
            true => {
                self.pointers.remove(key);
                parents(key).for_each(|parent| count_down(&mut self.pointer_parents, parent));
            }
            false => drop(self.pointers.insert(Arc::new(Pointer { key: key.into(), owners }))),
        }
    }
}

/// Puts `next` in the place of the service `key`, which is given back, and keeps the number of
/// `answerable` instances right.
fn swap(
    services: &mut Shards<Service>,
    key: &[u8],
    next: Option<Service>,
    answerable: &mut usize,
) -> Option<Arc<Service>> {
    let count = |service: &Service| {
        service.instances.iter().filter(|instance| instance.is_answerable()).count()
    };
    *answerable += next.as_ref().map_or(0, count);
    let old = match next {
        Some(next) => services.insert(Arc::new(next)),
        None => services.remove(key),
    };
    *answerable -= old.as_deref().map_or(0, count);
    old
}

fn unheard(name: &str) -> Datacenter {
    Datacenter {
        name: name.into(),
        cut_off_ms: None,
        services_loaded_ms: None,
        nodes_loaded_ms: None,
        owners_loaded_ms: None,
        services: None,
        answerable: 0,
        nodes: None,
        tags: Shards::default(),
        node_parents: Shards::default(),
        unlisted: std::array::from_fn(|_| Shards::default()),
        queries: None,
        query_parents: Shards::default(),
        is_whole: false,
        missed: None,
        pointers: Shards::default(),
        pointer_parents: Shards::default(),
        node_owners: Arc::default(),
        unswept: 0,
    }
}

/// `dots` and `are.dots` for the node `two.are.dots`.
fn parents(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let dots = name.iter().enumerate().filter(|(_, byte)| **byte == b'.');
    dots.filter_map(|(at, _)| name.get(at + 1..))
}

/// The names that exist where the query kept as `key` found something: its parents, and itself for
/// all clients where it is kept for those of one network.
fn proved(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut parts = key.split(|byte| *byte == 0);
    let name = parts.next().unwrap_or_default();
    parents(name).chain(parts.next().map(|_| name))
}

fn count_up(counts: &mut Shards<Counted>, key: &[u8]) {
    let count = counts.get(key).map_or(0, |counted| counted.count) + 1;
    counts.insert(Arc::new(Counted { key: key.into(), count }));
}

fn count_down(counts: &mut Shards<Counted>, key: &[u8]) {
    match counts.get(key).map_or(0, |counted| counted.count) {
        0 | 1 => drop(counts.remove(key)),
        count => drop(counts.insert(Arc::new(Counted { key: key.into(), count: count - 1 }))),
    }
}

#[cfg(test)]
mod tests;

//! Changes in, the next snapshot out, sharing with the last one all that did not change.
//!
//! The builder is the only place where a catalogue changes. It is a plain value: the source owns
//! it, applies changes in the order in which they came, and publishes what [`Builder::snapshot`]
//! gives.
//!
//! The list of names rules: a service exists from the moment it is listed until it is not, and
//! instances of an unlisted one are an answer that crossed a newer list on its way. So a name is
//! never lost because two replies came in the other order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalog::change::{Change, Held};
use crate::catalog::model::{Address, Health, Instance, Node};
use crate::catalog::rrsets::RRsets;
use crate::catalog::selection::Rules;
use crate::catalog::shards::{Keyed, Shards};
use crate::catalog::snapshot::{Counted, Datacenter, NodeRecord, Service, Snapshot};
use crate::catalog::usage::Usage;
use crate::wire::{record, rtype};

/// Makes snapshots from changes.
#[derive(Debug)]
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
        Self { rules, next: Snapshot::default(), lanes, labels_left: labels_max, other }
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
            Change::Hold { datacenter, service, held } => self.hold(&datacenter, &service, held),
            Change::Nodes { datacenter, nodes } => self.set_nodes(&datacenter, &nodes),
            Change::Reach { datacenter, reachable } => {
                self.datacenter_mut(&datacenter).is_some_and(|datacenter| {
                    std::mem::replace(&mut datacenter.reachable, reachable) != reachable
                })
            }
            Change::Release { datacenter, service } => self.release(&datacenter, &service),
            Change::Service { datacenter, service, instances, held } => {
                self.set_service(&datacenter, &service, instances, held)
            }
            Change::Settle { datacenter, service } => self.settle(&datacenter, &service),
            Change::Services { datacenter, listing } => self.set_services(&datacenter, listing),
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
        let ttl_secs = self.rules.node_ttl_secs;
        let Some(datacenter) = self.datacenter_mut(datacenter) else { return false };
        let first = datacenter.nodes.is_none();
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
        for (key, node) in new {
            let record = node_record(key.as_bytes(), node, ttl_secs);
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
        changed
    }

    fn set_services(&mut self, datacenter: &str, listing: Vec<(String, Vec<String>)>) -> bool {
        let mut new = BTreeMap::<String, (String, BTreeSet<String>)>::new();
        for (name, tags) in listing {
            let entry =
                new.entry(name.to_ascii_lowercase()).or_insert_with(|| (name, BTreeSet::new()));
            entry.1.extend(tags.iter().map(|tag| tag.to_ascii_lowercase()));
        }
        let Some(at) = self.position(datacenter) else { return false };
        let before = self.next.datacenters.get(at).map(Arc::clone);
        let first = before.as_ref().is_none_or(|datacenter| datacenter.services.is_none());
        let mut changed = first;

        let gone: Vec<Arc<Service>> = before
            .iter()
            .flat_map(|datacenter| datacenter.services())
            .filter(|old| str::from_utf8(&old.key).is_ok_and(|key| !new.contains_key(key)))
            .cloned()
            .collect();
        drop(before);
        if let Some(datacenter) = self.next.datacenters.get_mut(at).filter(|_| first) {
            Arc::make_mut(datacenter).services = Some(Shards::default());
        }
        for old in gone {
            self.labels_left += usize::from(old.usage.is_own());
            self.replace(at, &old.key, None);
            changed = true;
        }
        for (key, (name, tags)) in new {
            let tags: Arc<[Box<str>]> = tags.into_iter().map(String::into_boxed_str).collect();
            let next = match self.service(at, key.as_bytes()) {
                Some(old) if old.listed_tags == tags => continue,
                // Other tags mean other instances: what was fetched before is not fresh any more,
                // or a tag that is listed now would be denied.
                Some(old) => Service {
                    awaited_tags: awaited(&tags, old.rrsets.is_some(), &old.instances),
                    listed_tags: tags,
                    held: match old.held {
                        Held::OnDemand { .. } => Held::OnDemand { fresh_until_ms: 0 },
                        Held::Failing | Held::Watched => old.held,
                    },
                    ..old.as_ref().clone()
                },
                None => Service {
                    name: name.into(),
                    usage: self.usage(),
                    held: Held::OnDemand { fresh_until_ms: 0 },
                    instances: Arc::default(),
                    rrsets: None,
                    key: key.clone().into_bytes().into(),
                    listed_tags: tags,
                    awaited_tags: Arc::default(),
                },
            };
            self.replace(at, key.as_bytes(), Some(next));
            changed = true;
        }
        changed
    }

    fn set_service(
        &mut self,
        datacenter: &str,
        service: &str,
        instances: Vec<Instance>,
        held: Held,
    ) -> bool {
        let key = service.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        let Some(old) = self.service(at, key.as_bytes()).cloned() else { return false };
        if old.rrsets.is_some() && *old.instances == *instances {
            return self.hold(datacenter, service, held);
        }
        let ttl_secs = self.rules.service_ttl_secs(&key);
        let scope = self.next.datacenters.get(at).map_or("", |datacenter| &*datacenter.name);
        let rrsets = RRsets::encode(&self.rules, scope, ttl_secs, &instances);
        let next = Service {
            held,
            awaited_tags: awaited(&old.listed_tags, true, &instances),
            instances: instances.into(),
            rrsets: Some(Arc::new(rrsets)),
            ..old.as_ref().clone()
        };
        self.replace(at, key.as_bytes(), Some(next));
        true
    }

    fn hold(&mut self, datacenter: &str, service: &str, held: Held) -> bool {
        let key = service.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        let Some(old) = self.service(at, key.as_bytes()) else { return false };
        if old.rrsets.is_none() || old.held == held {
            return false;
        }
        let next = Service { held, ..old.as_ref().clone() };
        self.replace(at, key.as_bytes(), Some(next));
        true
    }

    fn settle(&mut self, datacenter: &str, service: &str) -> bool {
        let key = service.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        let Some(old) = self.service(at, key.as_bytes()) else { return false };
        if old.awaited_tags.is_empty() {
            return false;
        }
        let next = Service { awaited_tags: Arc::default(), ..old.as_ref().clone() };
        self.replace(at, key.as_bytes(), Some(next));
        true
    }

    fn release(&mut self, datacenter: &str, service: &str) -> bool {
        let key = service.to_ascii_lowercase();
        let Some(at) = self.position(datacenter) else { return false };
        let Some(old) = self.service(at, key.as_bytes()) else { return false };
        if old.rrsets.is_none() {
            return false;
        }
        let next = Service {
            held: Held::OnDemand { fresh_until_ms: 0 },
            awaited_tags: Arc::default(),
            instances: Arc::default(),
            rrsets: None,
            ..old.as_ref().clone()
        };
        self.replace(at, key.as_bytes(), Some(next));
        true
    }

    /// Puts `next` in the place of the service `key`, and keeps the count of each tag right.
    fn replace(&mut self, at: usize, key: &[u8], next: Option<Service>) {
        let Some(datacenter) = self.next.datacenters.get_mut(at).map(Arc::make_mut) else { return };
        let Some(services) = &mut datacenter.services else { return };
        let new = next.as_ref().map(tags_of).unwrap_or_default();
        let old = match next {
            Some(next) => services.insert(Arc::new(next)),
            None => services.remove(key),
        };
        let old = old.as_deref().map(tags_of).unwrap_or_default();
        new.difference(&old).for_each(|tag| count_up(&mut datacenter.tags, tag));
        old.difference(&new).for_each(|tag| count_down(&mut datacenter.tags, tag));
    }

    fn usage(&mut self) -> Arc<Usage> {
        match self.labels_left.checked_sub(1) {
            Some(left) => {
                self.labels_left = left;
                Arc::new(Usage::new(self.lanes, true))
            }
            None => Arc::clone(&self.other),
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

fn unheard(name: &str) -> Datacenter {
    Datacenter {
        name: name.into(),
        reachable: true,
        services: None,
        nodes: None,
        tags: Shards::default(),
        node_parents: Shards::default(),
    }
}

fn node_record(key: &[u8], node: &Node, ttl_secs: u32) -> NodeRecord {
    let mut bytes = Vec::new();
    let rtype = match &node.address {
        Address::Host(host) => {
            if let Some(target) = record::name(host) {
                record::push_answer(&mut bytes, ttl_secs, &record::cname(target));
            }
            rtype::CNAME
        }
        Address::Ip(ip) => {
            record::push_answer(&mut bytes, ttl_secs, &record::address(*ip));
            record::address_type(*ip)
        }
    };
    NodeRecord { rtype, record: bytes.into(), key: key.into() }
}

/// Those of the tags `listed` that none of the known `instances` has.
fn awaited(listed: &[Box<str>], is_known: bool, instances: &[Instance]) -> Arc<[Box<str>]> {
    // What is not known is fetched before anything is denied.
    if !is_known {
        return Arc::default();
    }
    let tags = instances.iter().flat_map(|instance| &instance.tags);
    let tags: BTreeSet<String> = tags.map(|tag| tag.to_ascii_lowercase()).collect();
    listed.iter().filter(|tag| !tags.contains(&***tag)).cloned().collect()
}

/// The tags of a service that can be a label of their own: of its listing and of its instances.
fn tags_of(service: &Service) -> BTreeSet<Box<[u8]>> {
    let listed = service.listed_tags.iter().map(|tag| tag.as_bytes());
    let used = service.rrsets.iter().flat_map(|rrsets| rrsets.tags());
    listed.chain(used).filter(|tag| !tag.contains(&b'.')).map(Into::into).collect()
}

/// `dots` and `are.dots` for the node `two.are.dots`.
fn parents(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let dots = name.iter().enumerate().filter(|(_, byte)| **byte == b'.');
    dots.filter_map(|(at, _)| name.get(at + 1..))
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

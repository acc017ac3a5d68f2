//! The catalogue, frozen: every look-up that the answers need, and nothing that waits.
//!
//! A snapshot never changes. The builder makes the next one, which shares with this one all that
//! did not change, and the store swaps them.
//!
//! **Invariant:** if a name has records, each of its parents exists: tags and node names are kept
//! with their parents' counts (RFC 8020, "NXDOMAIN: there really is nothing underneath").
//!
//! **Hot.** Look-ups hash once and allocate nothing.

use std::sync::Arc;

use crate::catalog::change::Held;
use crate::catalog::model::Instance;
use crate::catalog::rrsets::RRsets;
use crate::catalog::shards::{Keyed, Shards};
use crate::catalog::usage::Usage;

/// Everything that was last heard.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The Unix second of the last change that was published: the SOA's serial.
    pub serial: u32,
    pub(in crate::catalog) datacenters: Vec<Arc<Datacenter>>,
    /// The name, lower case, of the datacenter meant where a query names none.
    pub(in crate::catalog) local: Option<Box<str>>,
}

/// One datacenter.
#[derive(Clone, Debug)]
pub struct Datacenter {
    /// Lower case.
    pub name: Box<str>,
    /// False while the source does not hear of it: what is here may be old.
    pub reachable: bool,
    /// `None` until the list of names is in: until then no name is known to be missing.
    pub(in crate::catalog) services: Option<Shards<Service>>,
    /// `None` until the list of nodes is in.
    pub(in crate::catalog) nodes: Option<Shards<NodeRecord>>,
    /// Each tag without dots, and how many services have it.
    pub(in crate::catalog) tags: Shards<Counted>,
    /// Each name that a dotted node's name ends with, and how many do.
    pub(in crate::catalog) node_parents: Shards<Counted>,
}

/// A service, known by name at least.
#[derive(Clone, Debug)]
pub struct Service {
    /// As registered.
    pub name: Box<str>,
    /// What the data plane counts.
    pub usage: Arc<Usage>,
    /// How its instances are kept fresh.
    pub held: Held,
    /// All instances, whatever their health. Empty where none were fetched.
    pub instances: Arc<[Instance]>,
    /// `None` where its instances are not in memory.
    pub rrsets: Option<Arc<RRsets>>,
    pub(in crate::catalog) key: Box<[u8]>,
    /// Of the list of names, lower case, sorted.
    pub(in crate::catalog) listed_tags: Arc<[Box<str>]>,
    /// Those of the listed tags that no instance has, whatever its health: the instances may be
    /// older than the list.
    pub(in crate::catalog) awaited_tags: Arc<[Box<str>]>,
}

impl Service {
    /// Whether instances with this tag, in lower case, or with one that ends with it, may exist
    /// though none is known: they are listed, and the instances may be older than the list.
    pub fn awaits(&self, tag: &[u8]) -> bool {
        self.awaited_tags.iter().any(|awaited| {
            let rest = awaited.as_bytes().strip_suffix(tag);
            rest.is_some_and(|rest| rest.is_empty() || (rest.len() > 1 && rest.ends_with(b".")))
        })
    }
}

/// A node's one record: an address, or a CNAME.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeRecord {
    /// A, AAAA or CNAME.
    pub rtype: u16,
    /// Ready to be copied; empty where the node's address is no name either.
    pub record: Box<[u8]>,
    pub(in crate::catalog) key: Box<[u8]>,
}

/// How many things of the catalogue have a name.
#[derive(Clone, Debug)]
pub struct Counted {
    pub(in crate::catalog) key: Box<[u8]>,
    pub(in crate::catalog) count: usize,
}

/// What a snapshot says about a datacenter.
#[derive(Clone, Copy, Debug)]
pub enum Found<T> {
    /// It is there.
    Here(T),
    /// A list that is in lacks it.
    Missing,
    /// Not heard of yet, so it is not known to be missing.
    Unheard,
}

impl Snapshot {
    /// The datacenter of this name, in lower case; without a name, the local one.
    pub fn datacenter(&self, name: Option<&[u8]>) -> Found<&Datacenter> {
        let Some(local) = &self.local else { return Found::Unheard };
        let name = name.unwrap_or(local.as_bytes());
        match self.datacenters.iter().find(|datacenter| datacenter.name.as_bytes() == name) {
            Some(datacenter) => Found::Here(datacenter),
            None => Found::Missing,
        }
    }

    /// All datacenters, the local one first.
    pub fn datacenters(&self) -> impl Iterator<Item = &Arc<Datacenter>> {
        self.datacenters.iter()
    }
}

impl Datacenter {
    /// The service of this name, in lower case.
    pub fn service(&self, name: &[u8]) -> Found<&Service> {
        found(self.services.as_ref(), name)
    }

    /// The record of the node of this name, in lower case.
    pub fn node(&self, name: &[u8]) -> Found<&NodeRecord> {
        found(self.nodes.as_ref(), name)
    }

    /// All services, in no order that means anything.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().flat_map(Shards::iter)
    }

    /// How many services are known by name.
    pub fn service_count(&self) -> usize {
        self.services.as_ref().map_or(0, Shards::len)
    }

    /// How many nodes are known.
    pub fn node_count(&self) -> usize {
        self.nodes.as_ref().map_or(0, Shards::len)
    }

    /// Whether the list of services is in.
    pub fn has_services(&self) -> bool {
        self.services.is_some()
    }

    /// Whether the list of nodes is in.
    pub fn has_nodes(&self) -> bool {
        self.nodes.is_some()
    }

    /// Whether some service has this tag, in lower case and without dots.
    pub fn has_tag(&self, tag: &[u8]) -> bool {
        self.tags.get(tag).is_some()
    }

    /// Whether some node's dotted name ends with this one.
    pub fn has_node_below(&self, name: &[u8]) -> bool {
        self.node_parents.get(name).is_some()
    }
}

impl Keyed for Service {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

impl Keyed for NodeRecord {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

impl Keyed for Counted {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

fn found<'s, T: Keyed>(map: Option<&'s Shards<T>>, key: &[u8]) -> Found<&'s T> {
    match map.map(|map| map.get(key)) {
        Some(Some(value)) => Found::Here(value.as_ref()),
        Some(None) => Found::Missing,
        None => Found::Unheard,
    }
}

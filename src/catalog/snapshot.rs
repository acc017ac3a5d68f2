//! The catalogue, frozen: every look-up that the answers need, and nothing that waits.
//!
//! A snapshot never changes. The builder makes the next one, which shares with this one all that
//! did not change, and the store swaps them.
//!
//! **Invariant:** if a name has records, each of its parents exists: tags and node names are kept
//! with their parents' counts (RFC 8020, "NXDOMAIN: there really is nothing underneath").
//!
//! **Hot.** Look-ups hash once and allocate nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::catalog::change::{Executed, Held};
use crate::catalog::form::Form;
use crate::catalog::missed::Missed;
use crate::catalog::model::{Instance, Node};
use crate::catalog::nodes::NodeRecord;
use crate::catalog::queries::Queries;
use crate::catalog::reverse::{self, Owned, Owner, Pointer};
use crate::catalog::rrsets::RRsets;
use crate::catalog::selection::Rules;
use crate::catalog::shards::{Keyed, Shards, Tell};
use crate::catalog::usage::Usage;

/// Everything that was last heard.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The Unix second of the last change that was published: the SOA's serial.
    pub serial: u32,
    /// How its records were made; `None` where nothing was published yet.
    pub rules: Option<Arc<Rules>>,
    pub(in crate::catalog) datacenters: Vec<Arc<Datacenter>>,
    /// The name, lower case, of the datacenter meant where a query names none.
    pub(in crate::catalog) local: Option<Box<str>>,
}

/// One datacenter.
#[derive(Clone, Debug)]
pub struct Datacenter {
    /// Lower case.
    pub name: Box<str>,
    /// Since when the source does not hear of it, in milliseconds of the program's clock, which may
    /// be before its start; `None` while it does.
    pub(in crate::catalog) cut_off_ms: Option<i64>,
    /// When the list of services was last known to be right, if it was read from a snapshot file.
    pub(in crate::catalog) services_loaded_ms: Option<i64>,
    /// The same of the list of nodes.
    pub(in crate::catalog) nodes_loaded_ms: Option<i64>,
    /// The same of addresses that services have of their own, until all were read again.
    pub(in crate::catalog) owners_loaded_ms: Option<i64>,
    /// `None` until the list of names is in: until then no name is known to be missing.
    pub(in crate::catalog) services: Option<Shards<Service>>,
    /// Instances that are not critical, of all services and in `unlisted`.
    pub(in crate::catalog) answerable: usize,
    /// `None` until the list of nodes is in.
    pub(in crate::catalog) nodes: Option<Shards<NodeRecord>>,
    /// Each tag without dots, and how many services have it.
    pub(in crate::catalog) tags: Shards<Counted>,
    /// Each name that a dotted node's name ends with, and how many do.
    pub(in crate::catalog) node_parents: Shards<Counted>,
    /// What was heard of the forms in [`Form::UNLISTED`], in that order.
    pub(in crate::catalog) unlisted: [Shards<Service>; Form::UNLISTED.len()],
    /// The prepared queries there are; `None` where that is not known.
    pub(in crate::catalog) queries: Option<Arc<Queries>>,
    /// Each name that a dotted query's name ends with, and how many do. Only of those that were
    /// executed and found something: a template may have any name. Where that is by the client, the
    /// whole name is one of them.
    pub(in crate::catalog) query_parents: Shards<Counted>,
    /// Whether what was not heard of in `unlisted` does not exist.
    pub(in crate::catalog) is_whole: bool,
    /// What is held back; `None` is nothing.
    pub(in crate::catalog) missed: Option<Arc<Missed>>,
    /// Whose each address is, by its reverse name.
    pub(in crate::catalog) pointers: Shards<Pointer>,
    /// Each name that such a name ends with, and how many do.
    pub(in crate::catalog) pointer_parents: Shards<Counted>,
    /// What the nodes have in the index of addresses.
    pub(in crate::catalog) node_owners: Arc<[Owned]>,
    /// Services whose addresses were not heard yet, or are a file's that are to be read again: one
    /// of them may have an address that seems to be nobody's.
    pub(in crate::catalog) unswept: usize,
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
    /// The addresses of its own that its instances have. Stays when they are let go of; `None` as
    /// long as nothing was heard of them.
    pub(in crate::catalog) owned: Option<Arc<[Owned]>>,
    /// Whether these are a file's and to be read again.
    pub(in crate::catalog) owned_is_loaded: bool,
    /// What a prepared query said besides.
    pub(in crate::catalog) executed: Option<Executed>,
    /// Those of the listed tags that no instance has, whatever its health: the instances may be
    /// older than the list.
    pub(in crate::catalog) awaited_tags: Arc<[Box<str>]>,
}

impl Service {
    /// What it takes in memory, in bytes, roughly.
    pub fn bytes(&self) -> usize {
        // For each record there is where it begins, once for all instances and once for each tag.
        let encoded = self.rrsets.as_ref().map_or(0, |rrsets| 2 * rrsets.bytes.len());
        let instances: usize = self.instances.iter().map(Instance::bytes).sum();
        size_of::<Self>() + instances + encoded
    }

    /// Whether the addresses of its instances were ever heard of.
    pub fn is_swept(&self) -> bool {
        self.owned.is_some() && !self.owned_is_loaded
    }

    /// The addresses of its own that its instances have, each with the node and the ID of one, as a
    /// source says them; `None` where they were never heard of.
    pub fn addresses(&self) -> Option<impl Iterator<Item = (IpAddr, &str, &str)>> {
        let owned = self.owned.as_ref()?.iter();
        Some(owned.filter_map(|(name, owner)| match owner {
            Owner::Service { node, id, .. } => Some((reverse::ip(name)?, &**node, &**id)),
            Owner::Node(_) => None,
        }))
    }

    /// What a prepared query said besides its instances; `None` for all else.
    pub fn executed(&self) -> Option<&Executed> {
        self.executed.as_ref()
    }

    /// Whether instances with tags that are listed, and that none in memory has, may exist.
    pub fn awaits_some(&self) -> bool {
        !self.awaited_tags.is_empty()
    }

    /// How many addresses of their own its instances have, be they in memory or not.
    pub fn address_count(&self) -> usize {
        self.owned.as_ref().map_or(0, |owned| owned.len())
    }

    /// The tags of the list of names, in lower case, sorted.
    pub fn listed_tags(&self) -> impl Iterator<Item = &str> {
        self.listed_tags.iter().map(|tag| &**tag)
    }

    /// Whether instances with this tag, in lower case, or with one that ends with it, may exist
    /// though none is known: they are listed, and the instances may be older than the list.
    pub fn awaits(&self, tag: &[u8]) -> bool {
        self.awaited_tags.iter().any(|awaited| {
            let rest = awaited.as_bytes().strip_suffix(tag);
            rest.is_some_and(|rest| rest.is_empty() || (rest.len() > 1 && rest.ends_with(b".")))
        })
    }
}

/// How many things of the catalogue have a name.
#[derive(Clone, Debug)]
pub struct Counted {
    pub(in crate::catalog) key: Box<[u8]>,
    pub(in crate::catalog) count: usize,
}

/// What an answer about a datacenter is read from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum List {
    /// The nodes.
    Nodes,
    /// Whose each address is.
    Owners,
    /// The services, and what there is of each.
    Services,
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

    /// The names of all nodes, in lower case, in no order that means anything.
    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter().flat_map(Shards::iter);
        nodes.filter_map(|node| str::from_utf8(node.key()).ok())
    }

    /// How many services are known by name.
    pub fn service_count(&self) -> usize {
        self.services.as_ref().map_or(0, Shards::len)
    }

    /// How many instances are known that are not critical.
    pub fn answerable_count(&self) -> usize {
        self.answerable
    }

    /// How many nodes are known.
    pub fn node_count(&self) -> usize {
        self.nodes.as_ref().map_or(0, Shards::len)
    }

    /// Whether it is known that the source does not hear of it.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off_ms.is_some()
    }

    /// Whether its list of services was read from a snapshot file and not heard since.
    pub fn is_loaded(&self) -> bool {
        self.services_loaded_ms.is_some()
    }

    /// Whether the source has told this list, be it a while ago: no file's is in its place.
    pub fn has_heard(&self, list: List) -> bool {
        match list {
            List::Nodes => self.has_nodes() && self.nodes_loaded_ms.is_none(),
            List::Owners => self.unswept == 0 && self.owners_loaded_ms.is_none(),
            List::Services => self.has_services() && self.services_loaded_ms.is_none(),
        }
    }

    /// Whether both lists of names were heard, be it a while ago.
    pub fn is_heard(&self) -> bool {
        self.has_heard(List::Services) && self.has_heard(List::Nodes)
    }

    /// All nodes, in no order that means anything.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flat_map(Shards::iter).map(|record| &record.node)
    }

    /// Tells each service that is not as in `before`, of which `None` has none: as it was, then as it
    /// is. What both share is passed over unseen.
    pub fn changed_services(&self, before: Option<&Self>, tell: &mut Tell<'_, Service>) {
        changes(before.and_then(|it| it.services.as_ref()), self.services.as_ref(), tell);
    }

    /// The same of its nodes.
    pub fn changed_nodes(&self, before: Option<&Self>, tell: &mut Tell<'_, NodeRecord>) {
        changes(before.and_then(|it| it.nodes.as_ref()), self.nodes.as_ref(), tell);
    }

    /// Since when this list may be old, in milliseconds of the program's clock, which may be before
    /// its start; `None` where it is not.
    pub fn old_since(&self, list: List) -> Option<i64> {
        // Each answer asks.
        let loaded_ms = match list {
            List::Nodes => self.nodes_loaded_ms,
            List::Owners => {
                let lists_ms = earlier(self.nodes_loaded_ms, self.services_loaded_ms);
                earlier(lists_ms, self.owners_loaded_ms)
            }
            List::Services => self.services_loaded_ms,
        };
        earlier(self.cut_off_ms, loaded_ms)
    }

    /// Whether some of what is in memory of `service` is held back: the source shows it no more.
    pub fn misses_service(&self, service: &Service) -> bool {
        self.missed.as_ref().is_some_and(|missed| contains(&missed.services, &service.key))
    }

    /// Whether this node is.
    pub fn misses_node(&self, node: &NodeRecord) -> bool {
        self.missed.as_ref().is_some_and(|missed| contains(&missed.nodes, node.key()))
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

    /// What was heard of a name of an unlisted form, in lower case. Nothing proves nothing, unless
    /// all there is was told.
    pub fn unlisted(&self, form: Form, name: &[u8]) -> Found<&Service> {
        let services = form.place().and_then(|place| self.unlisted.get(place));
        match services.and_then(|services| services.get(name)) {
            Some(service) => Found::Here(service.as_ref()),
            None if self.is_whole => Found::Missing,
            None => Found::Unheard,
        }
    }

    /// Whether names of which nothing was heard do not exist, whatever their form.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// All that was heard of unlisted forms.
    pub fn all_unlisted(&self) -> impl Iterator<Item = (Form, &Arc<Service>)> {
        let forms = Form::UNLISTED.into_iter().zip(&self.unlisted);
        forms.flat_map(|(form, services)| services.iter().map(move |service| (form, service)))
    }

    /// The prepared queries there are; `None` where that is not known.
    pub fn queries(&self) -> Option<&Queries> {
        self.queries.as_deref()
    }

    /// Whether a dotted query's name ends with this one, in lower case: one of the list, or one
    /// that found something. Also whether one of this name found something for some client, where
    /// that depends on the client.
    pub fn has_query_below(&self, name: &[u8]) -> bool {
        let is_listed = self.queries.as_ref().is_some_and(|queries| queries.has_below(name));
        is_listed || self.query_parents.get(name).is_some()
    }

    /// Whose an address is, by its reverse name in lower case. Missing only once it is known that
    /// no service has it.
    pub fn pointer(&self, name: &[u8]) -> Found<&Pointer> {
        let is_whole = self.unswept == 0 && self.nodes.is_some() && self.services.is_some();
        match (self.pointers.get(name), is_whole) {
            (Some(pointer), _) => Found::Here(pointer.as_ref()),
            (None, true) => Found::Missing,
            (None, false) => Found::Unheard,
        }
    }

    /// Whether some known address's reverse name ends with this one.
    pub fn has_pointer_below(&self, name: &[u8]) -> bool {
        self.pointer_parents.get(name).is_some()
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

impl Keyed for Counted {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Tells what is different in `after`; `None` has nothing.
fn changes<T: Keyed>(
    before: Option<&Shards<T>>,
    after: Option<&Shards<T>>,
    tell: &mut Tell<'_, T>,
) {
    let none = Shards::default();
    after.unwrap_or(&none).changes_since(before.unwrap_or(&none), tell);
}

fn contains(names: &BTreeSet<String>, key: &[u8]) -> bool {
    str::from_utf8(key).is_ok_and(|key| names.contains(key))
}

/// The earlier of two times, or the one that there is.
fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (None, time) | (time, None) => time,
    }
}

fn found<'s, T: Keyed>(map: Option<&'s Shards<T>>, key: &[u8]) -> Found<&'s T> {
    match map.map(|map| map.get(key)) {
        Some(Some(value)) => Found::Here(value.as_ref()),
        Some(None) => Found::Missing,
        None => Found::Unheard,
    }
}

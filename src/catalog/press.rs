//! Makes the records of a service: what each instance is answered with, encoded into one arena.
//!
//! Runs when the catalogue changes, never per query. Which address an instance has for which type
//! of question is [`addressing`](crate::catalog::addressing)'s to say; here it becomes bytes, each
//! distinct address and host once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use crate::catalog::addressing::{Accept, By, Reached, View};
use crate::catalog::form::Form;
use crate::catalog::model::{Address, Instance};
use crate::catalog::rrsets::{PortRecords, Printed, RRsets, Selection, Span, SrvSpan, TargetIn};
use crate::catalog::selection::{self, Rules};
use crate::name::{Labels, Lookup, Place, Subject, Zone};
use crate::wire::record;

/// Whose records are made, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// What is shown, and the zone.
    pub rules: &'a Rules,
    /// What kind of name is asked for.
    pub form: Form,
    /// That name in lower case: a service's, or a prepared query's.
    pub name: &'a str,
    /// What stands between `node` and the zone in the name of a node.
    pub node_scope: &'a str,
    /// What stands between `addr` and the zone; may be empty.
    pub address_scope: &'a str,
    /// Whose clients ask.
    pub view: View,
    /// Whether instances are left out by their health. A query has done so itself, by its own rules.
    pub leaves_out: bool,
    /// Of all records.
    pub ttl_secs: u32,
}

impl Order<'_> {
    /// Encodes what is shown of `instances`.
    pub fn encode(&self, instances: &[Instance]) -> RRsets {
        let shown: Vec<&Instance> = instances
            .iter()
            .filter(|instance| !self.leaves_out || self.rules.shows(instance.health))
            .collect();
        let mut press = Press::new(self);
        let printed: Vec<Printed> = shown.iter().map(|instance| press.print(instance)).collect();
        let ports = press.ports(&shown, &printed);

        let mut tags = BTreeMap::<String, Vec<usize>>::new();
        for (at, instance) in shown.iter().enumerate() {
            for tag in &instance.tags {
                let places = tags.entry(tag.to_ascii_lowercase()).or_default();
                if places.last() != Some(&at) {
                    places.push(at);
                }
            }
        }
        let keeps_printed = tags.len() > 1;
        RRsets {
            all: gather(&printed, 0..shown.len()),
            tags: tags
                .into_iter()
                .map(|(tag, places)| (tag.into_bytes().into(), gather(&printed, places)))
                .collect(),
            ports,
            printed: if keeps_printed { printed.into() } else { Box::default() },
            is_sorted: false,
            mesh: instances.iter().find_map(mesh_address),
            bytes: press.bytes.into(),
        }
    }
}

/// The mesh's address for the service, which Consul tells at its proxies.
fn mesh_address(instance: &Instance) -> Option<IpAddr> {
    match instance.tagged.as_ref()?.mesh {
        Some(Address::Ip(ip)) => Some(ip),
        Some(Address::Host(_)) | None => None,
    }
}

fn gather(printed: &[Printed], places: impl IntoIterator<Item = usize>) -> Selection {
    let mut gathered = Gathered::default();
    for at in places {
        if let (Some(printed), Ok(at)) = (printed.get(at), u32::try_from(at)) {
            gathered.add(at, printed);
        }
    }
    gathered.into_selection()
}

/// A selection while it is being put together.
#[derive(Default)]
pub struct Gathered {
    a: Vec<Span>,
    aaaa: Vec<Span>,
    any: Vec<Span>,
    cname: Vec<Span>,
    srv: Vec<SrvSpan>,
    /// Span starts of the addresses and hosts that are in, by list.
    seen: HashSet<(u8, u32)>,
    seen_srv: HashSet<u32>,
    members: Vec<u32>,
}

impl Gathered {
    /// Adds the records of the instance at `at`.
    pub fn add(&mut self, at: u32, printed: &Printed) {
        self.members.push(at);
        for (number, list, span) in [
            (0, &mut self.a, printed.a),
            (1, &mut self.aaaa, printed.aaaa),
            (2, &mut self.any, printed.any),
            (3, &mut self.cname, printed.cname),
        ] {
            list.extend(span.filter(|span| self.seen.insert((number, span.start))));
        }
        // Consul compares node, address and port, and so gives a record twice where two nodes have a
        // service at one address; an RRset has no duplicates (RFC 2181 §5).
        let Self { seen, seen_srv, .. } = self;
        let is_new = |srv: &SrvSpan| {
            seen_srv.insert(printed.identity) && seen.insert((SRV_LIST, srv.record.start))
        };
        self.srv.extend(printed.srv.filter(is_new));
    }

    /// The selection.
    pub fn into_selection(self) -> Selection {
        let mut targets: Vec<u32> = self.srv.iter().map(|span| span.target).collect();
        targets.sort_unstable();
        targets.dedup();
        let has_address = !self.a.is_empty() || !self.aaaa.is_empty() || !self.any.is_empty();
        let starts = |spans: &[Span]| spans.iter().map(|span| span.start).collect::<HashSet<_>>();
        let is_all = starts(&self.any) == &starts(&self.a) | &starts(&self.aaaa);
        Selection {
            srv_len_min: self.srv.iter().map(|span| span.record.len).min().unwrap_or(0),
            shares_targets: targets.len() < self.srv.len(),
            a: self.a.into(),
            aaaa: self.aaaa.into(),
            any: if is_all { None } else { Some(self.any.into()) },
            cname: if has_address { Box::default() } else { self.cname.into() },
            srv: self.srv.into(),
            members: self.members.into(),
        }
    }
}

/// Encodes into one arena, each distinct address and host once.
struct Press<'c> {
    order: &'c Order<'c>,
    bytes: Vec<u8>,
    addresses: HashMap<IpAddr, Span>,
    hosts: HashMap<String, Option<Span>>,
    targets: HashMap<String, u32>,
    /// By target in lower case, port and weight.
    records: HashMap<(String, u16, u16), SrvSpan>,
    identities: HashMap<(&'c str, Option<&'c Address>, u16), u32>,
}

impl<'c> Press<'c> {
    fn new(order: &'c Order<'c>) -> Self {
        Self {
            order,
            bytes: Vec::new(),
            addresses: HashMap::new(),
            hosts: HashMap::new(),
            targets: HashMap::new(),
            records: HashMap::new(),
            identities: HashMap::new(),
        }
    }

    fn print(&mut self, instance: &'c Instance) -> Printed {
        let reach = |accept| self.order.reach(instance, accept);
        let (a, aaaa, any) = (reach(Accept::A), reach(Accept::Aaaa), reach(Accept::Any));
        let port = self.order.view.port(instance);
        let identity = (&*instance.node.name, self.order.view.own_address(instance), port);
        let srv = self.srv(instance, any, port);
        Printed {
            a: self.address(a.address, IpAddr::is_ipv4),
            aaaa: self.address(aaaa.address, IpAddr::is_ipv6),
            any: self.address(any.address, |_| true),
            cname: [any, a, aaaa].into_iter().find_map(|reached| self.cname(reached.address)),
            srv,
            identity: self.identity(identity),
        }
    }

    /// The instances by the names of their ports, each with its SRV record for that port.
    fn ports(&mut self, shown: &[&'c Instance], printed: &[Printed]) -> Box<[PortRecords]> {
        let mut ports = BTreeMap::<String, Vec<(u32, Printed)>>::new();
        for ((at, instance), printed) in (0..).zip(shown).zip(printed) {
            for named in &instance.ports {
                let reached = self.order.reach(instance, Accept::Any);
                let srv = self.srv(instance, reached, named.port);
                let own = self.order.view.own_address(instance);
                let identity = self.identity((&*instance.node.name, own, named.port));
                let printed = Printed { srv, identity, ..*printed };
                let of_port = ports.entry(named.name.to_ascii_lowercase()).or_default();
                if of_port.last().is_none_or(|(last, _)| *last != at) {
                    of_port.push((at, printed));
                }
            }
        }
        ports
            .into_iter()
            .map(|(name, of_port)| {
                let mut gathered = Gathered::default();
                of_port.iter().for_each(|(at, printed)| gathered.add(*at, printed));
                PortRecords {
                    name: name.into_bytes().into(),
                    selection: gathered.into_selection(),
                    printed: of_port.into_iter().map(|(_, printed)| printed).collect(),
                }
            })
            .collect()
    }

    /// Equal for records that lead to the same port of the same target.
    ///
    fn identity(&mut self, identity: (&'c str, Option<&'c Address>, u16)) -> u32 {
        let next = u32::try_from(self.identities.len()).unwrap_or(u32::MAX);
        *self.identities.entry(identity).or_insert(next)
    }

    /// The record of an address of the family that is wanted.
    fn address(&mut self, address: &Address, is_wanted: impl Fn(&IpAddr) -> bool) -> Option<Span> {
        let Address::Ip(ip) = address else { return None };
        if !is_wanted(ip) {
            return None;
        }
        if let Some(span) = self.addresses.get(ip) {
            return Some(*span);
        }
        let ttl_secs = self.order.ttl_secs;
        let span =
            self.push(|bytes| record::push_answer(bytes, ttl_secs, &record::address(*ip)))?;
        self.addresses.insert(*ip, span);
        Some(span)
    }

    fn cname(&mut self, address: &Address) -> Option<Span> {
        let Address::Host(host) = address else { return None };
        if let Some(span) = self.hosts.get(host) {
            return *span;
        }
        let ttl_secs = self.order.ttl_secs;
        let span = record::name(host).and_then(|target| {
            self.push(|bytes| record::push_answer(bytes, ttl_secs, &record::cname(target)))
        });
        self.hosts.insert(host.clone(), span);
        span
    }

    fn srv(&mut self, instance: &Instance, reached: Reached<'_>, port: u16) -> Option<SrvSpan> {
        let (text, target_in) = self.order.target(instance, reached);
        let target = record::name(&text)?;
        let (ttl_secs, weight) = (self.order.ttl_secs, selection::weight(instance));
        let key = text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase();
        if let Some(span) = self.records.get(&(key.clone(), port, weight)) {
            return Some(*span);
        }
        let rdata = record::srv(weight, port, target);
        let span = self.push(|bytes| record::push_answer(bytes, ttl_secs, &rdata))?;
        let tail_len = match reached.address {
            Address::Host(_) => 0,
            Address::Ip(ip) => {
                let rdata = record::address(*ip);
                self.push(|bytes| record::push_tail(bytes, ttl_secs, &rdata))?.len
            }
        };
        let next = u32::try_from(self.targets.len()).ok()?;
        let target = *self.targets.entry(key.clone()).or_insert(next);
        let span = SrvSpan { record: span, tail_len, target_in, target };
        self.records.insert((key, port, weight), span);
        Some(span)
    }

    fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<Span> {
        let start = u32::try_from(self.bytes.len()).ok()?;
        if !encode(&mut self.bytes) {
            return None;
        }
        let len = u16::try_from(self.bytes.len() - start as usize).ok()?;
        Some(Span { start, len })
    }
}

impl Order<'_> {
    /// Where `instance` is reached; by its node where it is registered under the name that leads
    /// to it, which would otherwise lead in a circle.
    fn reach<'c>(&self, instance: &'c Instance, accept: Accept) -> Reached<'c> {
        let reached = self.view.reach(instance, accept);
        match reached.address {
            Address::Host(host) if self.is_self(host, instance) => {
                let Reached { address, by } = self.view.reach_node(&instance.node, accept);
                // Consul names the node, whichever of its addresses that is.
                Reached { address, by: if by == By::Address { By::Node } else { by } }
            }
            Address::Host(_) | Address::Ip(_) => reached,
        }
    }

    /// Whether `host` is a name that leads to this instance: of the service with a tag of its own or
    /// with none, or of the query that found it.
    fn is_self(&self, host: &str, instance: &Instance) -> bool {
        let wire = Zone::new(host).ok();
        let labels = wire.and_then(|name| Labels::from_wire(name.wire()));
        let found = labels
            .as_ref()
            .and_then(|labels| Lookup::parse(labels, labels.below(&self.rules.zone)?).ok());
        let Some(Lookup { subject, place }) = found else { return false };
        let scope = self.node_scope.as_bytes();
        let is_here = match place {
            Place::Local => true,
            Place::Datacenter(datacenter) => datacenter == scope,
            Place::Peer(peer) => scope.strip_suffix(b".peer") == Some(peer),
        };
        let has_tag =
            |tag: &[u8]| instance.tags.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(tag));
        let name = match (self.form, subject) {
            (Form::Connect, Subject::Connect { service })
            | (Form::Ingress, Subject::Ingress { service }) => service,
            (Form::Peer | Form::Service, Subject::Service { service, tag, port: None, .. })
                if tag.is_none_or(has_tag) =>
            {
                service
            }
            (Form::Query, Subject::Query { query, .. }) => query,
            _ => return false,
        };
        is_here && name == self.name.as_bytes()
    }

    /// The name of an SRV's target.
    fn target(&self, instance: &Instance, reached: Reached<'_>) -> (String, TargetIn) {
        let zone = self.rules.zone.as_str();
        match (reached.by, reached.address) {
            (_, Address::Host(host)) => (host.clone(), TargetIn::Host),
            (By::Node, Address::Ip(ip)) => {
                let node = format!("{}.node.{}.{zone}", instance.node.name, self.node_scope);
                // A node may be registered under what is no name; its address still is one.
                match record::name(&node) {
                    Some(_) => (node, TargetIn::Zone),
                    None => (self.address_target(*ip), TargetIn::Zone),
                }
            }
            (By::Address | By::Host, Address::Ip(ip)) => (self.address_target(*ip), TargetIn::Zone),
        }
    }

    fn address_target(&self, ip: IpAddr) -> String {
        let (zone, scope) = (self.rules.zone.as_str(), self.address_scope);
        let dot = if scope.is_empty() { "" } else { "." };
        format!("{}.addr.{scope}{dot}{zone}", hex(ip))
    }
}

/// An address as the label of an `.addr` name: lower-case hexadecimal digits.
fn hex(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:08x}", ip.to_bits()),
        IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
    }
}

/// Beside those of addresses and hosts, which are numbered from 0.
const SRV_LIST: u8 = 4;

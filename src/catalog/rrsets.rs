//! The records of one service, encoded once, for all of its instances and for each tag.
//!
//! ```text
//!   bytes   [A][AAAA][SRV][its address' tail][SRV][tail]...    one arena for the service
//!   a, srv  (start, len) into it                               one list for each selection
//! ```
//! A tag's list points at the same bytes as the whole service's, so an instance costs its records
//! once, however many tags it has. Picking k of n records is picking k of n spans.
//!
//! **Invariant:** only instances that [`Rules::shows`] are in here; critical ones never are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use crate::catalog::model::{Address, Instance};
use crate::catalog::selection::{self, Rules};
use crate::wire::record;

/// All records of a service, by tag.
#[derive(Debug, Default)]
pub struct RRsets {
    bytes: Box<[u8]>,
    all: Selection,
    /// Sorted by tag; tags are lower case.
    tags: Box<[(Box<[u8]>, Selection)]>,
}

/// The records of the instances that have a tag, or of all.
#[derive(Debug, Default)]
pub struct Selection {
    /// Distinct addresses.
    pub a: Box<[Span]>,
    /// Distinct addresses.
    pub aaaa: Box<[Span]>,
    /// Only where there is no address at all: a CNAME stands alone (RFC 1034 §3.6.2).
    pub cname: Box<[Span]>,
    /// Distinct by node, address and port.
    pub srv: Box<[SrvSpan]>,
    /// The shortest of `srv`, in bytes; 0 if there is none.
    pub srv_len_min: u16,
    /// Whether two of `srv` have the same target.
    pub shares_targets: bool,
    instances: usize,
}

/// A record in the arena.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    start: u32,
    len: u16,
}

/// An SRV record in the arena, and its target's address behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SrvSpan {
    record: Span,
    /// The bytes of the additional record, owner left off; 0 where the target is elsewhere.
    tail_len: u16,
    /// Equal for records with the same target, and less than the number of targets.
    pub target: u32,
}

impl RRsets {
    /// Encodes what `rules` show of `instances`, which run in `datacenter`.
    pub fn encode(rules: &Rules, datacenter: &str, ttl_secs: u32, instances: &[Instance]) -> Self {
        let shown: Vec<&Instance> =
            instances.iter().filter(|instance| rules.shows(instance.health)).collect();
        let mut press = Press {
            rules,
            datacenter,
            ttl_secs,
            bytes: Vec::new(),
            addresses: HashMap::new(),
            hosts: HashMap::new(),
            targets: HashMap::new(),
        };
        let printed: Vec<Printed> = shown.iter().map(|instance| press.print(instance)).collect();

        let mut tags = BTreeMap::<String, Vec<usize>>::new();
        for (at, instance) in shown.iter().enumerate() {
            for tag in &instance.tags {
                let places = tags.entry(tag.to_ascii_lowercase()).or_default();
                if places.last() != Some(&at) {
                    places.push(at);
                }
            }
        }
        Self {
            all: Selection::gather(&shown, &printed, 0..shown.len()),
            tags: tags
                .into_iter()
                .map(|(tag, places)| {
                    (tag.into_bytes().into(), Selection::gather(&shown, &printed, places))
                })
                .collect(),
            bytes: press.bytes.into(),
        }
    }

    /// The records of all instances.
    pub fn all(&self) -> &Selection {
        &self.all
    }

    /// The records of the instances with this tag, given in lower case.
    pub fn tagged(&self, tag: &[u8]) -> Option<&Selection> {
        let at = self.tags.binary_search_by(|(key, _)| key.as_ref().cmp(tag)).ok()?;
        self.tags.get(at).map(|(_, selection)| selection)
    }

    /// Whether `tag` is the end of a longer, dotted tag: `b` where an instance has `a.b`.
    ///
    /// Such a name has names with records below it, so it exists (RFC 8020).
    pub fn has_tag_below(&self, tag: &[u8]) -> bool {
        self.tags.iter().any(|(key, _)| {
            key.strip_suffix(tag).is_some_and(|rest| rest.len() > 1 && rest.ends_with(b"."))
        })
    }

    /// The tags in use, lower case.
    pub fn tags(&self) -> impl Iterator<Item = &[u8]> {
        self.tags.iter().map(|(tag, _)| tag.as_ref())
    }

    /// The record at `span`.
    pub fn record(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.bytes.get(start..start + usize::from(span.len)).unwrap_or_default()
    }

    /// The SRV record at `span`, and its target's address with the owner left off.
    pub fn srv(&self, span: SrvSpan) -> (&[u8], &[u8]) {
        let end = span.record.start as usize + usize::from(span.record.len);
        let tail = self.bytes.get(end..end + usize::from(span.tail_len)).unwrap_or_default();
        (self.record(span.record), tail)
    }
}

impl Selection {
    /// Whether no instance is in it.
    pub fn is_empty(&self) -> bool {
        self.instances == 0
    }

    fn gather(
        shown: &[&Instance],
        printed: &[Printed],
        places: impl IntoIterator<Item = usize>,
    ) -> Self {
        let mut gathered = Gathered::default();
        for at in places {
            if let (Some(instance), Some(printed)) = (shown.get(at), printed.get(at)) {
                gathered.add(instance, printed);
            }
        }
        gathered.into_selection()
    }
}

/// A selection while it is being put together.
#[derive(Default)]
struct Gathered<'c> {
    a: Vec<Span>,
    aaaa: Vec<Span>,
    cname: Vec<Span>,
    srv: Vec<SrvSpan>,
    /// Span starts of the addresses and hosts that are in, and what makes an SRV distinct.
    seen: HashSet<u32>,
    seen_srv: HashSet<(&'c str, Option<&'c Address>, u16)>,
    instances: usize,
}

impl<'c> Gathered<'c> {
    fn add(&mut self, instance: &'c Instance, printed: &Printed) {
        self.instances += 1;
        for (list, span) in [
            (&mut self.a, printed.a),
            (&mut self.aaaa, printed.aaaa),
            (&mut self.cname, printed.cname),
        ] {
            list.extend(span.filter(|span| self.seen.insert(span.start)));
        }
        let identity = (&*instance.node.name, instance.address.as_ref(), instance.port);
        self.srv.extend(printed.srv.filter(|_| self.seen_srv.insert(identity)));
    }

    fn into_selection(self) -> Selection {
        let mut targets: Vec<u32> = self.srv.iter().map(|span| span.target).collect();
        targets.sort_unstable();
        targets.dedup();
        let has_address = !self.a.is_empty() || !self.aaaa.is_empty();
        Selection {
            srv_len_min: self.srv.iter().map(|span| span.record.len).min().unwrap_or(0),
            shares_targets: targets.len() < self.srv.len(),
            a: self.a.into(),
            aaaa: self.aaaa.into(),
            cname: if has_address { Box::default() } else { self.cname.into() },
            srv: self.srv.into(),
            instances: self.instances,
        }
    }
}

/// Where the records of one instance are.
#[derive(Clone, Copy, Debug, Default)]
struct Printed {
    a: Option<Span>,
    aaaa: Option<Span>,
    cname: Option<Span>,
    srv: Option<SrvSpan>,
}

/// Encodes into one arena, each distinct address and host once.
struct Press<'r> {
    rules: &'r Rules,
    datacenter: &'r str,
    ttl_secs: u32,
    bytes: Vec<u8>,
    addresses: HashMap<IpAddr, Span>,
    hosts: HashMap<String, Option<Span>>,
    targets: HashMap<String, u32>,
}

impl Press<'_> {
    fn print(&mut self, instance: &Instance) -> Printed {
        let mut printed = Printed { srv: self.srv(instance), ..Printed::default() };
        match instance.effective_address() {
            Address::Host(host) => printed.cname = self.cname(host),
            Address::Ip(ip @ IpAddr::V4(_)) => printed.a = self.address(*ip),
            Address::Ip(ip @ IpAddr::V6(_)) => printed.aaaa = self.address(*ip),
        }
        printed
    }

    fn address(&mut self, ip: IpAddr) -> Option<Span> {
        if let Some(span) = self.addresses.get(&ip) {
            return Some(*span);
        }
        let ttl_secs = self.ttl_secs;
        let span = self.push(|bytes| record::push_answer(bytes, ttl_secs, &record::address(ip)))?;
        self.addresses.insert(ip, span);
        Some(span)
    }

    fn cname(&mut self, host: &str) -> Option<Span> {
        if let Some(span) = self.hosts.get(host) {
            return *span;
        }
        let ttl_secs = self.ttl_secs;
        let span = record::name(host).and_then(|target| {
            self.push(|bytes| record::push_answer(bytes, ttl_secs, &record::cname(target)))
        });
        self.hosts.insert(host.to_owned(), span);
        span
    }

    fn srv(&mut self, instance: &Instance) -> Option<SrvSpan> {
        let text = self.target(instance);
        let target = record::name(&text)?;
        let weight = selection::weight(instance);
        let ttl_secs = self.ttl_secs;
        let rdata = record::srv(weight, instance.port, target);
        let span = self.push(|bytes| record::push_answer(bytes, ttl_secs, &rdata))?;
        let tail_len = match instance.effective_address() {
            Address::Host(_) => 0,
            Address::Ip(ip) => {
                let rdata = record::address(*ip);
                self.push(|bytes| record::push_tail(bytes, ttl_secs, &rdata))?.len
            }
        };
        let next = u32::try_from(self.targets.len()).ok()?;
        let target = *self.targets.entry(text.to_ascii_lowercase()).or_insert(next);
        Some(SrvSpan { record: span, tail_len, target })
    }

    /// The name of an SRV's target: the node where the service has no address of its own, else
    /// the address itself, as Consul's V1 server does; a host as it is.
    fn target(&self, instance: &Instance) -> String {
        let scope = format!("{}.{}", self.datacenter, self.rules.zone.as_str());
        match (&instance.address, &instance.node.address) {
            (Some(Address::Host(host)), _) | (None, Address::Host(host)) => host.clone(),
            (Some(Address::Ip(ip)), _) => format!("{}.addr.{scope}", hex(*ip)),
            (None, Address::Ip(ip)) => {
                let node = format!("{}.node.{scope}", instance.node.name);
                // A node may be registered under what is no name; its address still is one.
                match record::name(&node) {
                    Some(_) => node,
                    None => format!("{}.addr.{scope}", hex(*ip)),
                }
            }
        }
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

/// An address as the label of an `.addr` name: lower-case hexadecimal digits.
fn hex(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:08x}", ip.to_bits()),
        IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
    }
}

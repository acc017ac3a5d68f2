//! From the labels of a name to what the catalogue has for it, whatever type is asked for.
//!
//! **Invariant:** whether a name exists never depends on the type that is asked for, and if a
//! name has records, none of its parents is [`Finding::Missing`] (RFC 8020).

use std::net::IpAddr;

use crate::answer::{Asked, Turn, Want};
use crate::catalog::snapshot::NodeRecord;
use crate::catalog::{CacheResult, Datacenter, Found, RRsets, Selection, Service, Snapshot, Usage};
use crate::name::{Labels, Lookup, Subject};
use crate::wire::{ede, rcode};

/// What the catalogue has for a name, before its type is looked at.
#[derive(Clone, Copy, Debug)]
pub enum Finding<'s> {
    /// An address that the name itself spells.
    Address(IpAddr),
    /// The zone itself.
    Apex,
    /// The name exists and holds nothing: a parent of names.
    Empty,
    /// The name does not exist.
    Missing,
    /// `ns.<zone>`, which is us.
    NameServer,
    /// A node, healthy or not.
    Node(&'s NodeRecord),
    /// Consul has not been heard yet.
    NotReady,
    /// Instances that may be answered with.
    Service {
        /// The records of the whole service.
        rrsets: &'s RRsets,
        /// Which of them: all, or those with a tag. Never empty.
        selection: &'s Selection,
    },
    /// Consul was asked and did not answer in time.
    Unreachable,
    /// Consul may have the name; nothing here can tell.
    Unserved,
    /// Something is to be fetched first.
    Wants(Want<'s>),
}

impl Finding<'_> {
    /// The rcode, whatever type is asked for.
    pub fn rcode(&self) -> u16 {
        match self {
            Self::Missing => rcode::NXDOMAIN,
            Self::NotReady | Self::Unreachable | Self::Unserved | Self::Wants(_) => rcode::SERVFAIL,
            Self::Address(_)
            | Self::Apex
            | Self::Empty
            | Self::NameServer
            | Self::Node(_)
            | Self::Service { .. } => rcode::NOERROR,
        }
    }

    /// Why there is no answer, for clients that sent EDNS (RFC 8914).
    pub fn extended_error(&self) -> Option<(u16, &'static str)> {
        match self {
            Self::NotReady => Some((ede::NOT_READY, "the catalogue has not been heard yet")),
            Self::Unreachable => {
                Some((ede::NO_REACHABLE_AUTHORITY, "Consul did not answer in time"))
            }
            Self::Unserved => Some((ede::NOT_SUPPORTED, "this kind of name is not served here")),
            _ => None,
        }
    }
}

/// A finding, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'s> {
    /// What there is.
    pub finding: Finding<'s>,
    /// What the cache had; `None` where it was not asked.
    pub cache: Option<(CacheResult, Option<&'s Usage>)>,
}

/// Looks the first `count` of `labels` up: those left when the zone is removed.
pub fn find<'s>(
    snapshot: &'s Snapshot,
    asked: &Asked<'_>,
    labels: &Labels,
    count: usize,
) -> Trace<'s> {
    let search = Search { snapshot, asked };
    let Ok(lookup) = Lookup::parse(labels, count) else {
        // Such a name can never have records, but before the first sync nothing is denied.
        return search.trace(search.within(None, |_| Finding::Missing), None, None);
    };
    let scope = lookup.datacenter;
    match lookup.subject {
        Subject::Address { address } => search.trace(search.address(address, scope), None, None),
        Subject::Apex => search.trace(Finding::Apex, None, None),
        Subject::Bare { label } => search.trace(search.bare(label), None, None),
        // The kinds are there whatever the catalogue holds; a datacenter has to be known.
        Subject::Kind if scope.is_none() => search.trace(Finding::Empty, None, None),
        Subject::Kind => search.trace(search.within(scope, |_| Finding::Empty), scope, None),
        Subject::Node { node } => {
            let finding = search.within(scope, |datacenter| search.node(datacenter, node));
            search.trace(finding, scope, None)
        }
        Subject::Service { service, tag } => {
            let mut hit = None;
            let finding = search.within(scope, |datacenter| {
                let (finding, service) = search.service(datacenter, service, tag);
                hit = service;
                finding
            });
            search.trace(finding, scope, hit)
        }
        Subject::Unserved { .. } => {
            search.trace(search.within(scope, |_| Finding::Unserved), scope, None)
        }
    }
}

#[derive(Clone, Copy)]
struct Search<'s, 'a> {
    snapshot: &'s Snapshot,
    asked: &'a Asked<'a>,
}

impl<'s> Search<'s, '_> {
    /// What `search` finds in the datacenter of this name, if there is one.
    fn within(
        self,
        scope: Option<&[u8]>,
        search: impl FnOnce(&'s Datacenter) -> Finding<'s>,
    ) -> Finding<'s> {
        match self.snapshot.datacenter(scope) {
            Found::Here(datacenter) => search(datacenter),
            Found::Missing => Finding::Missing,
            Found::Unheard => Finding::NotReady,
        }
    }

    /// Addresses need no catalogue, so they are answered before there is one.
    fn address(self, address: IpAddr, scope: Option<&[u8]>) -> Finding<'s> {
        match self.snapshot.datacenter(scope) {
            Found::Missing => Finding::Missing,
            Found::Here(_) | Found::Unheard => Finding::Address(address),
        }
    }

    /// `dc1`, the parent of `web.dc1`, and `_tcp` or `_v1`, the parents of `_web._tcp`.
    fn bare(self, label: &[u8]) -> Finding<'s> {
        if label == NAME_SERVER {
            return Finding::NameServer;
        }
        match self.snapshot.datacenter(Some(label)) {
            Found::Here(_) => Finding::Empty,
            Found::Unheard => Finding::NotReady,
            Found::Missing => self.within(None, |local| self.mark(local, label)),
        }
    }

    fn node(self, datacenter: &'s Datacenter, name: &[u8]) -> Finding<'s> {
        match datacenter.node(name) {
            Found::Here(node) => Finding::Node(node),
            Found::Missing if datacenter.has_node_below(name) => Finding::Empty,
            Found::Missing => Finding::Missing,
            Found::Unheard => self.unheard(datacenter),
        }
    }

    fn service(
        self,
        datacenter: &'s Datacenter,
        name: &[u8],
        tag: Option<&[u8]>,
    ) -> (Finding<'s>, Option<&'s Service>) {
        let service = match datacenter.service(name) {
            Found::Here(service) => service,
            // `_v1.service.consul`, the parent of `_web._v1.service.consul`.
            Found::Missing if tag.is_none() => return (self.mark(datacenter, name), None),
            Found::Missing => return (Finding::Missing, None),
            Found::Unheard => return (self.unheard(datacenter), None),
        };
        let is_due = service.held.is_due(self.asked.now_ms);
        let want = Want::Service {
            datacenter: &datacenter.name,
            service: &service.name,
            usage: &service.usage,
        };
        let rrsets = match (&service.rrsets, self.asked.turn) {
            (Some(rrsets), _) if !is_due => rrsets,
            (_, Turn::First) => return (Finding::Wants(want), Some(service)),
            // Consul did not answer: what was true a while ago is better than nothing.
            (Some(rrsets), Turn::Last) => rrsets,
            (None, Turn::Last) => return (Finding::Unreachable, Some(service)),
        };
        let finding = match select(rrsets, tag) {
            // A service may be called `_v1`, which is the parent of `_web._v1` all the same.
            Finding::Missing if tag.is_none() => self.mark(datacenter, name),
            // The list has the tag, and the instances may be older than the list.
            Finding::Missing if tag.is_some_and(|tag| service.awaits(tag)) => {
                match self.asked.turn {
                    Turn::First => Finding::Wants(want),
                    Turn::Last => Finding::Unreachable,
                }
            }
            finding => finding,
        };
        (finding, Some(service))
    }

    /// A label such as `_tcp` or `_v1` on its own: the parent of every service that has the tag.
    fn mark(self, datacenter: &'s Datacenter, label: &[u8]) -> Finding<'s> {
        let Some(tag) = label.strip_prefix(b"_").filter(|tag| !tag.is_empty()) else {
            return if datacenter.has_services() {
                Finding::Missing
            } else {
                self.unheard(datacenter)
            };
        };
        if !datacenter.has_services() {
            return self.unheard(datacenter);
        }
        match tag == b"tcp" || datacenter.has_tag(tag) {
            true => Finding::Empty,
            false => Finding::Missing,
        }
    }

    /// The lists of this datacenter are not in: another's are wanted, the local one's are coming.
    fn unheard(self, datacenter: &'s Datacenter) -> Finding<'s> {
        let is_local = matches!(
            self.snapshot.datacenter(None), Found::Here(local) if local.name == datacenter.name
        );
        match self.asked.turn {
            Turn::First if !is_local => {
                Finding::Wants(Want::Datacenter { datacenter: &datacenter.name })
            }
            Turn::First | Turn::Last => Finding::NotReady,
        }
    }

    fn trace(
        self,
        finding: Finding<'s>,
        scope: Option<&[u8]>,
        service: Option<&'s Service>,
    ) -> Trace<'s> {
        let is_stale = || {
            let datacenter = self.snapshot.datacenter(scope);
            let is_cut_off = matches!(datacenter, Found::Here(datacenter) if !datacenter.reachable);
            // On the last turn, something fetched long ago is still here: Consul did not answer.
            let is_old = service.is_some_and(|service| service.held.is_stale(self.asked.now_ms));
            is_cut_off || is_old
        };
        let result = match finding {
            Finding::Node(_) | Finding::Service { .. } | Finding::Empty | Finding::Missing
                if is_stale() =>
            {
                Some(CacheResult::Stale)
            }
            Finding::Node(_) | Finding::Service { .. } => Some(CacheResult::Hit),
            Finding::Empty | Finding::Missing => Some(CacheResult::Negative),
            Finding::Unreachable => Some(CacheResult::Miss),
            Finding::Address(_)
            | Finding::Apex
            | Finding::NameServer
            | Finding::NotReady
            | Finding::Unserved
            | Finding::Wants(_) => None,
        };
        Trace {
            finding,
            cache: result.map(|result| (result, service.map(|service| &*service.usage))),
        }
    }
}

/// The instances with `tag`, or all.
///
/// As Consul: no instance that may be shown, and the name does not exist. Unless there is one
/// further down: `b.web` exists where an instance of `web` has the tag `a.b`.
fn select<'s>(rrsets: &'s RRsets, tag: Option<&[u8]>) -> Finding<'s> {
    let selection = match tag {
        None => Some(rrsets.all()),
        Some(tag) => rrsets.tagged(tag),
    };
    match selection.filter(|selection| !selection.is_empty()) {
        Some(selection) => Finding::Service { rrsets, selection },
        None if tag.is_some_and(|tag| rrsets.has_tag_below(tag)) => Finding::Empty,
        None => Finding::Missing,
    }
}

/// The label of the name server's own name below the zone.
const NAME_SERVER: &[u8] = b"ns";

//! From the labels of a name to what the catalogue has for it, whatever type is asked for.
//!
//! **Invariant:** whether a name exists never depends on the type that is asked for, and if a
//! name has records, none of its parents is [`Finding::Missing`] (RFC 8020).

use std::net::IpAddr;

use crate::answer::finding::{Finding, Trace};
use crate::answer::select::{Part, select};
use crate::answer::stale::{self, Age, Basis};
use crate::answer::{Asked, Policy, Turn, Want};
use crate::catalog::queries::{self, QueryEntry};
use crate::catalog::{CacheResult, Datacenter, Form, Found, List, RRsets, Service, Snapshot};
use crate::name::grammar::NAME_SERVER;
use crate::name::{Labels, Lookup, ParseError, Place, Subject};

/// Looks the first `count` of `labels` up: those left when the zone is removed.
pub fn find<'s>(
    snapshot: &'s Snapshot,
    policy: &Policy,
    asked: &Asked<'_>,
    labels: &Labels,
    count: usize,
) -> Trace<'s> {
    let search = Search { snapshot, policy, asked };
    let basis = Basis::default();
    let Ok(lookup) = read(snapshot, labels, count) else {
        // Such a name can never have records, but before the first sync nothing is denied.
        return search.trace(search.within(None, |_| Finding::Missing), basis);
    };
    if count == 1 && policy.is_name_server(labels) {
        return search.trace(Finding::NameServer, basis);
    }
    let found = search.look_up(&lookup);
    let (Finding::Missing, Some(other)) = (&found.finding, lookup.unmarked(labels)) else {
        return found;
    };
    // The parent of `v1._a._web`, where a service is called `_web`.
    let other = search.look_up(&other);
    let other = Trace { cache: found.cache, is_by_client: false, ..other };
    match other.finding {
        Finding::Empty | Finding::Service { .. } => Trace { finding: Finding::Empty, ..other },
        Finding::Expired
        | Finding::NotReady
        | Finding::Unreachable
        | Finding::Wants(Want::Service { .. })
            if !matches!(lookup.place, Place::Peer(_)) =>
        {
            other
        }
        _ => found,
    }
}

/// What the first `count` of `labels` mean where these are the datacenters there are.
///
/// # Errors
///
/// Fails where no rule of the grammar matches.
pub fn read<'q>(
    snapshot: &Snapshot,
    labels: &'q Labels,
    count: usize,
) -> Result<Lookup<'q>, ParseError> {
    let lookup = Lookup::parse(labels, count)?;
    let is_missing = |name| matches!(snapshot.datacenter(Some(name)), Found::Missing);
    Ok(match (lookup.subject, lookup.place) {
        // A datacenter may be called `dc`, and `web.dc` is the parent of `v1.web.dc` then.
        (Subject::Scope, Place::Datacenter(name)) if is_missing(name) => {
            Lookup::short(labels, count)
        }
        _ => lookup,
    })
}

/// Looks up whose address the whole of `labels`, a reverse name, is. `None` where that is nobody's
/// and not ours to say, as the name is not in a zone of ours.
pub fn find_reverse<'s>(
    snapshot: &'s Snapshot,
    policy: &Policy,
    asked: &Asked<'_>,
    labels: &Labels,
    is_in_zone: bool,
) -> Option<Trace<'s>> {
    let search = Search { snapshot, policy, asked };
    let name = labels.join(0..labels.count());
    let finding = search.within(None, |local| match local.pointer(name) {
        Found::Here(pointer) => Finding::Pointer(pointer),
        Found::Missing | Found::Unheard if local.has_pointer_below(name) => Finding::Empty,
        Found::Missing => Finding::Missing,
        Found::Unheard => Finding::NotReady,
    });
    let list = match &finding {
        Finding::Empty | Finding::Missing if !is_in_zone => return None,
        Finding::Pointer(pointer) if pointer.is_of_node() => List::Nodes,
        _ => List::Owners,
    };
    Some(search.trace(finding, Basis { list: Some(list), ..Basis::default() }))
}

#[derive(Clone, Copy)]
struct Search<'s, 'a> {
    snapshot: &'s Snapshot,
    policy: &'a Policy,
    asked: &'a Asked<'a>,
}

impl<'s> Search<'s, '_> {
    fn look_up(self, lookup: &Lookup<'_>) -> Trace<'s> {
        let scope = match lookup.place {
            Place::Datacenter(name) => Some(name),
            Place::Local => None,
            Place::Peer(peer) => {
                let mut hit = None;
                let finding = self.within(None, |local| {
                    let (finding, service) = self.exported(local, &lookup.subject, peer);
                    hit = service;
                    finding
                });
                return self.trace(finding, Basis { service: hit, ..Basis::default() });
            }
        };
        let (mut hit, mut is_by_client) = (None, false);
        let finding = match lookup.subject {
            Subject::Address { address } => {
                return self.trace(self.address(address, scope), Basis::default());
            }
            Subject::Apex => Finding::Apex,
            Subject::Bare { label } => self.bare(label),
            // The kinds are there whatever the catalogue holds; a datacenter has to be known.
            Subject::Kind | Subject::Scope => return self.kind(scope),
            Subject::Node { node } => self.within(scope, |datacenter| self.node(datacenter, node)),
            Subject::Connect { service }
            | Subject::Ingress { service }
            | Subject::Query { query: service, .. }
            | Subject::Service { service, .. }
            | Subject::Virtual { service } => self.within(scope, |datacenter| {
                let (finding, service) = match lookup.subject {
                    Subject::Service { tag, port, is_marked, .. } => {
                        self.service(datacenter, service, Part { tag, port, is_marked })
                    }
                    Subject::Ingress { .. } => self.unlisted(datacenter, Form::Ingress, service),
                    Subject::Query { whole, .. } => {
                        is_by_client = self.is_by_client(datacenter, service);
                        match self.query(datacenter, service, is_by_client) {
                            (Finding::Missing, hit) if is_query_parent(datacenter, whole) => {
                                (Finding::Empty, hit)
                            }
                            found => found,
                        }
                    }
                    Subject::Virtual { .. } => self.mesh_address(datacenter, service),
                    _ => self.unlisted(datacenter, Form::Connect, service),
                };
                hit = service;
                finding
            }),
        };
        let list = matches!(lookup.subject, Subject::Node { .. }).then_some(List::Nodes);
        let basis = Basis { scope, list, service: hit, node: None };
        Trace { is_by_client, ..self.trace(finding, basis) }
    }

    /// `service.consul`, which is there before anything was heard and never grows old, and
    /// `service.dc1.consul`.
    fn kind(self, scope: Option<&[u8]>) -> Trace<'s> {
        match (scope, self.snapshot.datacenter(scope)) {
            (None, _) => Trace {
                finding: Finding::Empty,
                cache: Some((CacheResult::Negative, None)),
                is_by_client: false,
                is_stale: false,
            },
            (Some(_), Found::Here(_)) => self.trace(Finding::Empty, Basis::default()),
            (Some(_), Found::Missing) => self.trace(Finding::Missing, Basis::default()),
            (Some(_), Found::Unheard) => self.trace(Finding::NotReady, Basis::default()),
        }
    }

    /// What `search` finds in the datacenter of this name, if there is one.
    fn within(
        self,
        scope: Option<&[u8]>,
        search: impl FnOnce(&'s Datacenter) -> Finding<'s>,
    ) -> Finding<'s> {
        match self.snapshot.datacenter(scope) {
            Found::Here(datacenter) if self.wants_lists(datacenter) => {
                Finding::Wants(Want::Datacenter { datacenter: &datacenter.name })
            }
            Found::Here(datacenter) => search(datacenter),
            Found::Missing => Finding::Missing,
            Found::Unheard => Finding::NotReady,
        }
    }

    /// Whether the lists are a file's, and may be had from Consul.
    fn wants_lists(self, datacenter: &Datacenter) -> bool {
        datacenter.is_loaded()
            && self.asked.turn == Turn::First
            && !stale::is_away(self.snapshot, datacenter)
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
        // With name servers of other names, `ns` is a parent still: of `default.ns`.
        if label == NAME_SERVER {
            return match self.policy.name_servers.is_empty() {
                true => Finding::NameServer,
                false => Finding::Empty,
            };
        }
        match self.snapshot.datacenter(Some(label)) {
            Found::Here(_) => Finding::Empty,
            Found::Unheard => Finding::NotReady,
            // Consul needs no `.service` where the label has an underscore.
            Found::Missing if is_mark(label) => {
                self.within(None, |local| self.service(local, label, Part::default()).0)
            }
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
        part: Part<'_>,
    ) -> (Finding<'s>, Option<&'s Service>) {
        // A label alone may be the parent of names that RFC 2782 writes with it.
        let is_alone = part.tag.is_none() && !part.is_marked;
        let service = match datacenter.service(name) {
            Found::Here(service) => service,
            // `_v1.service.consul`, the parent of `_web._v1.service.consul`.
            Found::Missing if is_alone => return (self.mark(datacenter, name), None),
            Found::Missing => return (Finding::Missing, None),
            Found::Unheard => return (self.unheard(datacenter), None),
        };
        let want = || Want::Service {
            datacenter: &datacenter.name,
            service: &service.name,
            usage: &service.usage,
        };
        let rrsets = match self.held(service, stale::is_away(self.snapshot, datacenter), want) {
            Ok(rrsets) => rrsets,
            Err(finding) => return (finding, Some(service)),
        };
        let finding = match select(rrsets, part) {
            // A service may be called `_v1`, which is the parent of `_web._v1` all the same.
            Finding::Missing if is_alone => self.mark(datacenter, name),
            // The list has the tag, and the instances may be older than the list.
            Finding::Missing if part.tag.is_some_and(|tag| service.awaits(tag)) => {
                match self.asked.turn {
                    Turn::First => Finding::Wants(want()),
                    Turn::Again | Turn::Last => Finding::Unreachable,
                }
            }
            finding => finding,
        };
        (finding, Some(service))
    }

    /// The records of `service`, or what has to happen before they are there; nobody waits for
    /// better ones while Consul `is_away`.
    fn held(
        self,
        service: &'s Service,
        is_away: bool,
        want: impl FnOnce() -> Want<'s>,
    ) -> Result<&'s RRsets, Finding<'s>> {
        match (service.rrsets.as_deref(), self.asked.turn) {
            (Some(rrsets), _) if is_away || !service.held.is_due(self.asked.now_ms) => Ok(rrsets),
            (_, Turn::First) | (None, Turn::Again) => Err(Finding::Wants(want())),
            // What was had first was the lists, or a host.
            (Some(_), Turn::Again) if service.held.is_unsure() => Err(Finding::Wants(want())),
            // Consul did not answer: what was true a while ago is better than nothing.
            (Some(rrsets), Turn::Again | Turn::Last) => Ok(rrsets),
            (None, Turn::Last) => Err(Finding::Unreachable),
        }
    }

    /// Whether what was fetched is to be fetched again, and could not be.
    fn is_old(self, service: &Service) -> bool {
        self.asked.turn == Turn::Last && service.held.is_due(self.asked.now_ms)
    }

    /// What was heard of a name that only Consul can deny.
    fn unlisted(
        self,
        datacenter: &'s Datacenter,
        form: Form,
        name: &[u8],
    ) -> (Finding<'s>, Option<&'s Service>) {
        let Some(name) = str::from_utf8(name).ok().filter(|name| !name.is_empty()) else {
            // Consul's names are UTF-8.
            return (Finding::Missing, None);
        };
        let want = || Want::Unlisted { datacenter: &datacenter.name, form, name: name.into() };
        let service = match (datacenter.unlisted(form, name.as_bytes()), self.asked.turn) {
            (Found::Here(service), _) => service,
            (Found::Missing, _) => return (Finding::Missing, None),
            (Found::Unheard, Turn::Again | Turn::First) => return (Finding::Wants(want()), None),
            (Found::Unheard, Turn::Last) => return (Finding::Unreachable, None),
        };
        // What Consul denied is not held in its stead.
        let is_denied = service.rrsets.as_ref().is_some_and(|rrsets| rrsets.all().is_empty());
        let is_away = !is_denied && stale::is_away(self.snapshot, datacenter);
        let finding = match self.held(service, is_away, want) {
            // What Consul denied a while ago, only Consul can deny now.
            Ok(_) if is_denied && self.is_old(service) => Finding::Unreachable,
            Ok(rrsets) => select(rrsets, Part::default()),
            Err(finding) => finding,
        };
        (finding, Some(service))
    }

    fn query(
        self,
        datacenter: &'s Datacenter,
        name: &[u8],
        is_by_client: bool,
    ) -> (Finding<'s>, Option<&'s Service>) {
        match datacenter.queries().map(|queries| queries.find(name)) {
            Some(None) => (Finding::Missing, None),
            _ if is_by_client => self.query_by_client(datacenter, name),
            Some(Some(_)) | None => self.unlisted(datacenter, Form::Query, name),
        }
    }

    fn is_by_client(self, datacenter: &Datacenter, name: &[u8]) -> bool {
        let query = datacenter.queries().and_then(|queries| queries.find(name));
        query.is_some_and(QueryEntry::is_by_client)
    }

    /// A query whose result depends on where the client is.
    fn query_by_client(
        self,
        datacenter: &'s Datacenter,
        name: &[u8],
    ) -> (Finding<'s>, Option<&'s Service>) {
        let client = self.asked.near.unwrap_or(self.asked.client);
        match str::from_utf8(name) {
            Ok(name) => {
                let name = queries::name_for(name, client);
                self.unlisted(datacenter, Form::Query, name.as_bytes())
            }
            Err(_) => (Finding::Missing, None),
        }
    }

    /// The address that stands for a service in the mesh, which its proxies know.
    fn mesh_address(
        self,
        datacenter: &'s Datacenter,
        name: &[u8],
    ) -> (Finding<'s>, Option<&'s Service>) {
        match self.unlisted(datacenter, Form::Connect, name) {
            (Finding::Service { rrsets, .. }, service) => match rrsets.mesh {
                Some(address) => (Finding::Address(address), service),
                None => (Finding::Missing, service),
            },
            other => other,
        }
    }

    /// What a cluster peer exports to us.
    fn exported(
        self,
        local: &'s Datacenter,
        subject: &Subject<'_>,
        peer: &[u8],
    ) -> (Finding<'s>, Option<&'s Service>) {
        match *subject {
            Subject::Kind | Subject::Scope => (Finding::Empty, None),
            Subject::Service { service, tag, port, is_marked } => {
                let part = Part { tag, port, is_marked };
                let name = [service, b".", peer].concat();
                let (finding, hit) = match self.unlisted(local, Form::Peer, &name) {
                    (Finding::Service { rrsets, .. }, hit) => (select(rrsets, part), hit),
                    other => other,
                };
                // `_tcp.service.west.peer`, the parent of `_web._tcp.service.west.peer`; which
                // tags the peer has, no list says.
                match finding {
                    Finding::Missing if tag.is_none() && is_mark(service) => (Finding::Empty, hit),
                    finding => (finding, hit),
                }
            }
            Subject::Address { .. } | Subject::Apex | Subject::Bare { .. } => {
                (Finding::Missing, None)
            }
            _ if local.is_whole() => (Finding::Missing, None),
            Subject::Connect { .. }
            | Subject::Ingress { .. }
            | Subject::Node { .. }
            | Subject::Query { .. }
            | Subject::Virtual { .. } => (Finding::Unserved, None),
        }
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
            Turn::Again | Turn::First if !is_local => {
                Finding::Wants(Want::Datacenter { datacenter: &datacenter.name })
            }
            Turn::Again | Turn::First | Turn::Last => Finding::NotReady,
        }
    }

    fn trace(self, finding: Finding<'s>, basis: Basis<'s, '_>) -> Trace<'s> {
        let service = basis.service;
        let (is_negative, has_data) = match finding {
            Finding::Empty | Finding::Missing => (true, false),
            Finding::Node(_) | Finding::Pointer(_) | Finding::Service { .. } => (false, true),
            // The mesh's address for a service, and no address that the name spells.
            Finding::Address(_) => (false, service.is_some()),
            _ => (false, false),
        };
        let node = match finding {
            Finding::Node(node) => Some(node),
            _ => None,
        };
        let age = match is_negative || has_data {
            true => Basis { node, ..basis }.age(self.snapshot, self.asked),
            false => Age::default(),
        };
        let is_expired = age.is_expired(self.policy, self.asked.now_ms);
        // What is held back adds records and denies nothing.
        let is_old = age.is_old || has_data && age.is_missed;
        let result = match finding {
            _ if is_expired => Some(CacheResult::Expired),
            _ if is_old => Some(CacheResult::Stale),
            Finding::Unreachable => Some(CacheResult::Miss),
            _ if is_negative => Some(CacheResult::Negative),
            _ if has_data => Some(CacheResult::Hit),
            _ => None,
        };
        Trace {
            finding: if is_expired { Finding::Expired } else { finding },
            cache: result.map(|result| (result, service.map(|service| &*service.usage))),
            is_by_client: false,
            is_stale: is_old && !is_expired,
        }
    }
}

/// Whether names of queries are below this one: `b.query` of `a.b.query`, and `_tcp.query` and
/// `b._tcp.query` of `_a.b._tcp.query`.
fn is_query_parent(datacenter: &Datacenter, whole: &[u8]) -> bool {
    let last = whole.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let left = whole.get(..(whole.len() - last.len()).saturating_sub(1)).filter(|_| is_mark(last));
    left.is_some_and(|left| left.is_empty() || datacenter.has_query_below(left))
        || datacenter.has_query_below(whole)
}

/// Whether a label has the underscore of RFC 2782, and something after it.
fn is_mark(label: &[u8]) -> bool {
    matches!(label, [b'_', _, ..])
}

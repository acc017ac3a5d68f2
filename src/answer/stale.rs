//! How old an answer may be, and what is said of one that may be old (RFC 8767): that it is, and for
//! how long to keep it.
//!
//! **Hot.** Whether an answer is old is asked once for each.

use crate::answer::{Asked, Policy, Turn};
use crate::catalog::nodes::NodeRecord;
use crate::catalog::{Datacenter, Found, List, Service, Snapshot};
use crate::name::Labels;
use crate::wire::{ede, rcode, ttl};

/// What a finding was read from, and so how old it may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Basis<'s, 'q> {
    /// The datacenter's name; `None` is the local one.
    pub scope: Option<&'q [u8]>,
    /// `None` is the services, as it mostly is.
    pub list: Option<List>,
    /// The service that it is about.
    pub service: Option<&'s Service>,
    /// The node that it is about.
    pub node: Option<&'s NodeRecord>,
}

/// How old something may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Age {
    /// Whether it may be.
    pub is_old: bool,
    /// Whether records of it may be gone: Consul is heard, and shows something of it no more.
    pub is_missed: bool,
    /// Since when nothing bears it out, in milliseconds of the program's clock.
    since_ms: Option<i64>,
}

impl Basis<'_, '_> {
    /// What is known of the age of what is in memory.
    pub fn age(self, snapshot: &Snapshot, asked: &Asked<'_>) -> Age {
        let Self { scope, list, service, node } = self;
        // Which datacenters there are, the local one's Consul says.
        let datacenter =
            here(snapshot, scope).or_else(|| here(snapshot, None).filter(|_| scope.is_some()));
        let list = list.unwrap_or(List::Services);
        let of_list = datacenter.and_then(|datacenter| datacenter.old_since(list));
        // What had to be had first was fetched just now; on the last turn Consul did not answer.
        let held = service.map(|service| service.held);
        let held = held.filter(|held| asked.turn != Turn::Again || held.is_unsure());
        let of_service = held.and_then(|held| held.old_since(asked.now_ms));
        let is_missed = |datacenter: &Datacenter| {
            service.is_some_and(|service| datacenter.misses_service(service))
                || node.is_some_and(|node| datacenter.misses_node(node))
        };
        Age {
            is_old: of_list.is_some() || of_service.is_some(),
            is_missed: datacenter.is_some_and(is_missed),
            // A service's own query may be heard while its list cannot be had.
            since_ms: if service.is_some() { of_service } else { of_list },
        }
    }
}

impl Age {
    /// Whether it is past what `policy` allows.
    pub fn is_expired(self, policy: &Policy, now_ms: u64) -> bool {
        self.since_ms.is_some_and(|since_ms| policy.is_expired(since_ms, now_ms))
    }
}

/// Whether it is known that nothing can be had from Consul about `datacenter` at present.
pub fn is_away(snapshot: &Snapshot, datacenter: &Datacenter) -> bool {
    if datacenter.is_cut_off() {
        return true;
    }
    // The local one's lists come unasked, and tell whether Consul is there.
    datacenter.is_loaded()
        && here(snapshot, None).is_none_or(|local| local.is_cut_off() || local.is_loaded())
}

fn here<'s>(snapshot: &'s Snapshot, scope: Option<&[u8]>) -> Option<&'s Datacenter> {
    match snapshot.datacenter(scope) {
        Found::Here(datacenter) => Some(datacenter),
        Found::Missing | Found::Unheard => None,
    }
}

/// What the client is told of an old answer with this rcode (RFC 8914 §4.4, §4.20).
pub fn error(rcode: u16) -> (u16, &'static str) {
    match rcode {
        rcode::NXDOMAIN => (ede::STALE_NXDOMAIN, NOT_BORNE_OUT),
        _ => (ede::STALE_ANSWER, NOT_BORNE_OUT),
    }
}

/// Brings the TTLs of the catalogue's records into the limits for what is old. What recursors said
/// has TTLs of its own.
pub fn limit_ttls(reply: &mut [u8], policy: &Policy) {
    ttl::limit(reply, TTL_SECS_MIN..=TTL_SECS_MAX, |owner| {
        let labels = Labels::from_wire(owner);
        let is_in = |labels: &Labels| policy.zones.iter().any(|zone| labels.below(zone).is_some());
        labels.as_ref().is_some_and(is_in)
    });
}

/// Consul is not heard, or shows it no more and is not believed yet.
const NOT_BORNE_OUT: &str = "Consul does not bear it out at present";

/// A client that keeps nothing would ask again at once, and there is nothing new to be had.
const TTL_SECS_MIN: u32 = 1;

/// RFC 8767 §5 recommends it: what is new is to be seen soon.
const TTL_SECS_MAX: u32 = 30;

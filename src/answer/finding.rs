//! What the catalogue has for a name, and what that comes to whatever type is asked for.

use std::net::IpAddr;

use crate::answer::Want;
use crate::answer::select::Selected;
use crate::catalog::nodes::NodeRecord;
use crate::catalog::reverse::Pointer;
use crate::catalog::{CacheResult, RRsets, Usage};
use crate::wire::{ede, rcode};

/// What the catalogue has for a name, before its type is looked at.
#[derive(Debug)]
pub enum Finding<'s> {
    /// An address that the name itself spells.
    Address(IpAddr),
    /// The zone itself.
    Apex,
    /// The name exists and holds nothing: a parent of names.
    Empty,
    /// What there is was heard too long ago.
    Expired,
    /// The name does not exist.
    Missing,
    /// `ns.<zone>`, which is us.
    NameServer,
    /// A node, healthy or not.
    Node(&'s NodeRecord),
    /// Consul has not been heard yet.
    NotReady,
    /// Whose an address is.
    Pointer(&'s Pointer),
    /// Instances that may be answered with.
    Service {
        /// The records of the whole service.
        rrsets: &'s RRsets,
        /// Which of them. Never empty.
        selection: Selected<'s>,
    },
    /// Consul did not say in time: it was not asked, or did not answer.
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
            Self::Expired
            | Self::NotReady
            | Self::Unreachable
            | Self::Unserved
            | Self::Wants(_) => rcode::SERVFAIL,
            Self::Address(_)
            | Self::Apex
            | Self::Empty
            | Self::NameServer
            | Self::Node(_)
            | Self::Pointer(_)
            | Self::Service { .. } => rcode::NOERROR,
        }
    }

    /// Why there is no answer, for clients that sent EDNS (RFC 8914).
    pub fn extended_error(&self) -> Option<(u16, &'static str)> {
        match self {
            Self::Expired => {
                let text = "what is in memory is older than dns_config.max_stale";
                Some((ede::NO_REACHABLE_AUTHORITY, text))
            }
            Self::NotReady => {
                Some((ede::NOT_READY, "the catalogue has not been heard in full yet"))
            }
            Self::Unreachable => {
                Some((ede::NO_REACHABLE_AUTHORITY, "not heard from Consul in time"))
            }
            Self::Unserved => Some((ede::NOT_SUPPORTED, "this kind of name is not served here")),
            _ => None,
        }
    }
}

/// A finding, and whose it is.
#[derive(Debug)]
pub struct Trace<'s> {
    /// What there is.
    pub finding: Finding<'s>,
    /// What the cache had; `None` where it was not asked.
    pub cache: Option<(CacheResult, Option<&'s Usage>)>,
    /// Whether clients elsewhere may find something else.
    pub is_by_client: bool,
    /// Whether it may be old.
    pub is_stale: bool,
}

impl Trace<'_> {
    /// A name that is there for its type alone.
    pub fn of_parent() -> Self {
        Self { finding: Finding::Empty, ..Self::of_zone() }
    }

    /// A zone itself, for which no catalogue is asked.
    pub fn of_zone() -> Self {
        Self { finding: Finding::Apex, cache: None, is_by_client: false, is_stale: false }
    }
}

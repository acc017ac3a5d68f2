//! What the catalogue has for a name, and what that comes to whatever type is asked for.

use std::net::IpAddr;
use std::ops::Deref;

use crate::answer::Want;
use crate::catalog::nodes::NodeRecord;
use crate::catalog::reverse::Pointer;
use crate::catalog::{CacheResult, RRsets, Selection, Usage};
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
    /// Consul was asked and did not answer in time.
    Unreachable,
    /// Consul may have the name; nothing here can tell.
    Unserved,
    /// Something is to be fetched first.
    Wants(Want<'s>),
}

/// Some of a service's records.
#[derive(Debug)]
pub enum Selected<'s> {
    /// Put together for this question.
    Joined(Box<Selection>),
    /// All of them, or those with a tag.
    Kept(&'s Selection),
}

impl Deref for Selected<'_> {
    type Target = Selection;

    fn deref(&self) -> &Selection {
        match self {
            Self::Joined(selection) => selection,
            Self::Kept(selection) => selection,
        }
    }
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
            | Self::Pointer(_)
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
#[derive(Debug)]
pub struct Trace<'s> {
    /// What there is.
    pub finding: Finding<'s>,
    /// What the cache had; `None` where it was not asked.
    pub cache: Option<(CacheResult, Option<&'s Usage>)>,
    /// Whether clients elsewhere may find something else.
    pub is_by_client: bool,
}

/// Which of a service's instances are meant.
#[derive(Clone, Copy, Default)]
pub struct Part<'q> {
    /// `None` is those with any tag, or none.
    pub tag: Option<&'q [u8]>,
    /// `None` is the one that all have.
    pub port: Option<&'q [u8]>,
    /// Whether the name is written as in RFC 2782, so that nothing is below it.
    pub is_marked: bool,
}

/// The instances of that part, or all.
///
/// As Consul: no instance that may be shown, and the name does not exist. Unless there is one
/// further down: `b.web` exists where an instance of `web` has the tag `a.b`.
pub fn select<'s>(rrsets: &'s RRsets, part: Part<'_>) -> Finding<'s> {
    let Part { tag, port, is_marked } = part;
    let service = |selection| Finding::Service { rrsets, selection };
    let kept = |selection: Option<&'s Selection>| {
        let selection = selection.filter(|selection| !selection.is_empty());
        selection.map(|selection| service(Selected::Kept(selection)))
    };
    let joined = |selection: Option<Box<Selection>>| {
        selection.map(|selection| service(Selected::Joined(selection)))
    };
    let found = match (tag, port) {
        (None, None) => kept(Some(rrsets.all())),
        (None, Some(port)) => kept(rrsets.with_port(port)),
        (Some(tag), Some(port)) => joined(rrsets.tagged_with_port(tag, port)),
        (Some(tag), None) if is_marked => kept(rrsets.tagged(tag)),
        // The rest is where Consul knows no such name: a port before the service, as its newest
        // versions have it, and several tags.
        (Some(tag), None) => kept(rrsets.tagged(tag))
            .or_else(|| kept(rrsets.with_port(tag.strip_suffix(b".port")?)))
            .or_else(|| joined(rrsets.tagged_all(tag))),
    };
    let is_parent = || {
        let is_end = |tag| rrsets.has_tag_below(tag) || tag == b"port" && rrsets.has_ports();
        !is_marked && tag.is_some_and(is_end)
    };
    match found {
        Some(finding) => finding,
        None if is_parent() => Finding::Empty,
        None => Finding::Missing,
    }
}

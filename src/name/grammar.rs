//! The grammar of names under the zone: what does `db.service.dc2.consul` ask for?
//!
//! The grammar is Consul's own, read right to left, with the short form of the platform's
//! standard where Consul has nothing. The rightmost *kind* label splits a name in two: the
//! **subject** on its left, the **scope** on its right.
//!
//! ```text
//!   primary . db . service . dc2       (.consul already removed)
//!   └─ subject ──┘ └ kind ┘ └scope┘
//!   primary . db . dc2                 without a kind, the last label is the scope
//! ```
//!
//! This module knows no datacenter and no service: that `dc2` exists is for the catalogue to say.
//! It allocates nothing: every [`Lookup`] borrows from the labels it was parsed from.

use std::net::IpAddr;

use thiserror::Error;

use crate::name::address;
use crate::name::labels::Labels;
use crate::name::scope::{Place, Scope};

/// What a name under the zone asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lookup<'q> {
    /// What is left of the kind label, in its role.
    pub subject: Subject<'q>,
    /// Whose catalogue is meant.
    pub place: Place<'q>,
}

/// The thing being looked up, with its parts already in their roles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject<'q> {
    /// An address written out in the name.
    Address {
        /// As spelled, of either family.
        address: IpAddr,
    },
    /// The zone itself.
    Apex,
    /// One label below the zone that is no kind: perhaps a datacenter, or `_tag`.
    Bare {
        /// The label.
        label: &'q [u8],
    },
    /// The instances of a service's mesh: its sidecars, and those that need none.
    Connect {
        /// The service's name.
        service: &'q [u8],
    },
    /// The ingress gateways that a service is bound to.
    Ingress {
        /// The service's name.
        service: &'q [u8],
    },
    /// A kind word with nothing on its left, as in `service.consul`: a parent of names.
    Kind,
    /// A node, with the dots of its name.
    Node {
        /// The node's name.
        node: &'q [u8],
    },
    /// A prepared query.
    Query {
        /// Its name, with dots, or its ID.
        query: &'q [u8],
        /// All that is left of `query` in the name, which the query's name is a part of where it is
        /// written as in RFC 2782.
        whole: &'q [u8],
    },
    /// Words of a scope with no kind on their left, as in `dc1.dc.consul`: a parent of names.
    Scope,
    /// Instances of a service, all of them or those with one tag, with the tag's dots.
    Service {
        /// The service's name, which is one label.
        service: &'q [u8],
        /// `None` asks for all instances.
        tag: Option<&'q [u8]>,
        /// Which of several ports; `None` is the one that all instances have.
        port: Option<&'q [u8]>,
        /// Whether it is written as in RFC 2782, `_web._v1`: nothing is below such a name.
        is_marked: bool,
    },
    /// The address that stands for a service in the mesh.
    Virtual {
        /// The service's name.
        service: &'q [u8],
    },
}

/// The words that split a name into subject and scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Addr,
    Connect,
    Ingress,
    Node,
    Query,
    Service,
    Virtual,
}

/// Why a name inside the zone matches no rule of the grammar.
///
/// Every variant is answered with NXDOMAIN; they differ only for the log.
#[allow(missing_docs, reason = "the messages say it")]
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ParseError {
    #[error("the label left of `addr` is no address")]
    BadAddress,
    #[error(
        "what follows the kind of name is neither a datacenter nor pairs such as dc1.dc, each word \
         once, in which the only namespace and the only partition are called default"
    )]
    BadScope,
    #[error("the part left of `addr` is more than one label")]
    BadSubject,
}

impl<'q> Lookup<'q> {
    /// Reads the first `count` of `labels`: those left when the zone is removed.
    ///
    /// # Errors
    ///
    /// Fails when no rule of the grammar matches; the name then does not exist.
    pub fn parse(labels: &'q Labels, count: usize) -> Result<Self, ParseError> {
        let kind = (0..count).rev().find_map(|at| Some((at, Kind::from_label(labels.label(at))?)));
        let Some((kind_at, kind)) = kind else {
            return Ok(Self::without_kind(labels, count));
        };
        let scope = Scope::parse(labels, kind_at + 1, count)?;
        let place = match (kind, scope.place) {
            // Consul: a virtual address is the local datacenter's, so one label is a peer.
            (Kind::Virtual, Place::Datacenter(label)) if count == kind_at + 2 => Place::Peer(label),
            (_, place) => place,
        };
        Ok(Self { subject: Subject::parse(kind, labels, kind_at, scope.port)?, place })
    }

    /// The short forms: RFC 2782 without `.service`, and `[tag.]service.datacenter`; and what is
    /// the parent of names that have a kind.
    fn without_kind(labels: &'q Labels, count: usize) -> Self {
        let local = |subject| Self { subject, place: Place::Local };
        match count {
            0 => local(Subject::Apex),
            1 if Scope::is_word(labels.label(0)) && labels.label(0) != NAME_SERVER => {
                local(Subject::Scope)
            }
            1 => local(Subject::Bare { label: labels.label(0) }),
            // Before the datacenter's rule: `_web._tcp` has the same shape as `web.dc1`.
            2 if is_rfc2782(labels, 2) => local(Subject::service(labels, 2, None)),
            // Consul needs no `.service` where the last label has an underscore.
            _ if matches!(labels.label(count - 1), [b'_', _, ..]) => {
                local(Subject::service(labels, count, None))
            }
            _ => match Self::scope_alone(labels, count) {
                Some(place) => Self { subject: Subject::Scope, place },
                None => Self::short(labels, count),
            },
        }
    }

    /// Reads `[tag.]service.datacenter` from the first `count` labels, of at least two, also where
    /// the last one is a word.
    pub fn short(labels: &'q Labels, count: usize) -> Self {
        let last = count.saturating_sub(1);
        Self {
            subject: Subject::service(labels, last, None),
            place: Place::Datacenter(labels.label(last)),
        }
    }

    /// The other meaning of `_v1._web`, which RFC 2782 reads as `web` with the tag `v1`: a service
    /// called `_web`, with the tag `_v1`. `None` for all other names; `labels` are this one's.
    pub fn unmarked(&self, labels: &'q Labels) -> Option<Self> {
        let Subject::Service { service, tag, port, is_marked: true } = self.subject else {
            return None;
        };
        let (first, second) = (labels.label(0), labels.label(1));
        let is_rfc2782 = first.strip_prefix(b"_") == Some(service)
            && second.strip_prefix(b"_") == Some(tag.unwrap_or(b"tcp"));
        let subject =
            Subject::Service { service: second, tag: Some(first), port, is_marked: false };
        is_rfc2782.then_some(Self { subject, ..*self })
    }

    /// The place that pairs of words name, perhaps behind a word whose value is missing.
    fn scope_alone(labels: &'q Labels, count: usize) -> Option<Place<'q>> {
        let start = count % 2;
        let is_scope = start == 0 || Scope::is_word(labels.label(0));
        let scope = Scope::parse(labels, start, count).ok().filter(|_| is_scope)?;
        Some(scope.place)
    }
}

impl<'q> Subject<'q> {
    fn parse(
        kind: Kind,
        labels: &'q Labels,
        count: usize,
        port: Option<&'q [u8]>,
    ) -> Result<Self, ParseError> {
        // Consul: labels further left mean nothing to the kinds of the mesh.
        let last = labels.label(count.saturating_sub(1));
        Ok(match kind {
            _ if count == 0 => Self::Kind,
            Kind::Addr if count > 1 => return Err(ParseError::BadSubject),
            Kind::Addr => Self::Address {
                address: address::from_hex(labels.label(0)).ok_or(ParseError::BadAddress)?,
            },
            Kind::Connect => Self::Connect { service: last },
            Kind::Ingress => Self::Ingress { service: last },
            Kind::Node => Self::Node { node: labels.join(0..count) },
            Kind::Query => {
                Self::Query { query: query(labels, count), whole: labels.join(0..count) }
            }
            Kind::Service => Self::service(labels, count, port),
            Kind::Virtual => Self::Virtual { service: last },
        })
    }

    /// Reads `[tag.]service` or `_service._tag` from the first `count` labels, of at least one.
    fn service(labels: &'q Labels, count: usize, port: Option<&'q [u8]>) -> Self {
        if is_rfc2782(labels, count) {
            let tag = labels.label(1).get(1..).unwrap_or_default();
            return Self::Service {
                service: labels.label(0).get(1..).unwrap_or_default(),
                // Consul: `_tcp` means no tag, while `_udp` is a tag like any other.
                tag: (tag != b"tcp").then_some(tag),
                port,
                is_marked: true,
            };
        }
        Self::Service {
            service: labels.label(count - 1),
            // Consul: all labels left of the service are one tag, which may contain dots.
            tag: (count > 1).then(|| labels.join(0..count - 1)),
            port,
            is_marked: false,
        }
    }
}

impl Kind {
    fn from_label(label: &[u8]) -> Option<Self> {
        Some(match label {
            b"addr" => Self::Addr,
            b"connect" => Self::Connect,
            b"ingress" => Self::Ingress,
            b"node" => Self::Node,
            b"query" => Self::Query,
            b"service" => Self::Service,
            b"virtual" => Self::Virtual,
            _ => return None,
        })
    }
}

/// Exactly two parts, both with an underscore and something after it (RFC 2782, as Consul).
fn is_rfc2782(labels: &Labels, count: usize) -> bool {
    let is_marked = |at| matches!(labels.label(at), [b'_', _, ..]);
    count == 2 && is_marked(0) && is_marked(1)
}

/// A query's name with its dots; of `_name._proto`, the name (Consul since 1.14).
fn query(labels: &Labels, count: usize) -> &[u8] {
    let is_marked = |at| matches!(labels.label(at), [b'_', _, ..]);
    match count > 1 && is_marked(0) && is_marked(count - 1) {
        true => labels.join(0..count - 1).get(1..).unwrap_or_default(),
        false => labels.join(0..count),
    }
}

/// The label of the name server's own name below the zone.
pub const NAME_SERVER: &[u8] = b"ns";

#[cfg(test)]
mod tests;

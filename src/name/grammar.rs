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

/// What a name under the zone asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lookup<'q> {
    /// What is left of the kind label, in its role.
    pub subject: Subject<'q>,
    /// The datacenter named in the query, or `None` for the agent's own.
    pub datacenter: Option<&'q [u8]>,
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
    /// A kind word with nothing on its left, as in `service.consul`: a parent of names.
    Kind,
    /// A node, with the dots of its name.
    Node {
        /// The node's name.
        node: &'q [u8],
    },
    /// Instances of a service, all of them or those with one tag, with the tag's dots.
    Service {
        /// The service's name, which is one label.
        service: &'q [u8],
        /// `None` asks for all instances.
        tag: Option<&'q [u8]>,
    },
    /// A form that Consul has and that is not answered here yet.
    Unserved {
        /// Which form.
        kind: Kind,
    },
}

/// The words that split a name into subject and scope.
#[allow(missing_docs, reason = "the words are Consul's")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
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
    #[error("the part right of the kind label is not a datacenter")]
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
        let datacenter = match count - kind_at - 1 {
            0 => None,
            1 => Some(labels.label(kind_at + 1)),
            _ => return Err(ParseError::BadScope),
        };
        Ok(Self { subject: Subject::parse(kind, labels, kind_at)?, datacenter })
    }

    /// The short forms: RFC 2782 without `.service`, and `[tag.]service.datacenter`.
    fn without_kind(labels: &'q Labels, count: usize) -> Self {
        let datacenter = count.checked_sub(1).map(|last| labels.label(last));
        match count {
            0 => Self { subject: Subject::Apex, datacenter: None },
            1 => Self { subject: Subject::Bare { label: labels.label(0) }, datacenter: None },
            // Before the datacenter's rule: `_web._tcp` has the same shape as `web.dc1`.
            2 if is_rfc2782(labels, 2) => {
                Self { subject: Subject::service(labels, 2), datacenter: None }
            }
            _ => Self { subject: Subject::service(labels, count - 1), datacenter },
        }
    }
}

impl<'q> Subject<'q> {
    fn parse(kind: Kind, labels: &'q Labels, count: usize) -> Result<Self, ParseError> {
        Ok(match kind {
            _ if count == 0 => Self::Kind,
            Kind::Addr if count > 1 => return Err(ParseError::BadSubject),
            Kind::Addr => Self::Address {
                address: address::from_hex(labels.label(0)).ok_or(ParseError::BadAddress)?,
            },
            Kind::Node => Self::Node { node: labels.join(0..count) },
            Kind::Service => Self::service(labels, count),
            Kind::Connect | Kind::Ingress | Kind::Query | Kind::Virtual => Self::Unserved { kind },
        })
    }

    /// Reads `[tag.]service` or `_service._tag` from the first `count` labels, of at least one.
    fn service(labels: &'q Labels, count: usize) -> Self {
        if is_rfc2782(labels, count) {
            let tag = labels.label(1).get(1..).unwrap_or_default();
            return Self::Service {
                service: labels.label(0).get(1..).unwrap_or_default(),
                // Consul: `_tcp` means no tag, while `_udp` is a tag like any other.
                tag: (tag != b"tcp").then_some(tag),
            };
        }
        Self::Service {
            service: labels.label(count - 1),
            // Consul: all labels left of the service are one tag, which may contain dots.
            tag: (count > 1).then(|| labels.join(0..count - 1)),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn render(lookup: &Lookup<'_>) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut line = match lookup.subject {
            Subject::Address { address } => format!("address {address}"),
            Subject::Apex => "apex".to_owned(),
            Subject::Bare { label } => format!("bare {}", text(label)),
            Subject::Kind => "kind".to_owned(),
            Subject::Node { node } => format!("node {}", text(node)),
            Subject::Service { service, tag: None } => format!("service {}", text(service)),
            Subject::Service { service, tag: Some(tag) } => {
                format!("service {} tag {}", text(service), text(tag))
            }
            Subject::Unserved { kind } => format!("unserved {kind:?}"),
        };
        if let Some(datacenter) = lookup.datacenter {
            line += &format!(" in {}", text(datacenter));
        }
        line
    }

    /// The one place that calls the parser: `got` is the lookup in a short written form.
    #[track_caller]
    fn check(name: &str, expected: &str) {
        let mut wire = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        let labels = Labels::from_wire(&wire).unwrap();
        let got = match Lookup::parse(&labels, labels.count()) {
            Ok(lookup) => render(&lookup),
            Err(error) => format!("error: {error:?}"),
        };
        assert_eq!(got, expected, "name: {name}");
    }

    #[test]
    fn names_and_what_they_ask_for() {
        for (name, expected) in [
            // plain forms
            ("", "apex"),
            ("db.service", "service db"),
            ("DB.Service", "service db"),
            ("web-1.node", "node web-1"),
            ("my_svc.service", "service my_svc"),
            // everything left of the service is one tag
            ("primary.db.service", "service db tag primary"),
            ("a.b.db.service", "service db tag a.b"),
            // a node's name may contain dots
            ("node.dots.node", "node node.dots"),
            // RFC 2782: the protocol `_tcp` is no tag, anything else is
            ("_db._tcp.service", "service db"),
            ("_db._primary.service", "service db tag primary"),
            ("_db._udp.service", "service db tag udp"),
            ("_db._tcp.service.dc2", "service db in dc2"),
            // not exactly two parts with underscores: the plain form
            ("_db.service", "service _db"),
            ("_x._tcp.db.service", "service db tag _x._tcp"),
            ("_db._a.b.service", "service b tag _db._a"),
            ("_db.x.service", "service x tag _db"),
            ("_._tcp.service", "service _tcp tag _"),
            // scope
            ("db.service.dc2", "service db in dc2"),
            ("n1.node.dc2", "node n1 in dc2"),
            // addresses
            ("0a000001.addr", "address 10.0.0.1"),
            ("0a000001.addr.dc1", "address 10.0.0.1 in dc1"),
            ("fd000000000000000000000000000006.addr", "address fd00::6"),
            // the rightmost kind label wins, so a service may be called `node`
            ("node.service", "service node"),
            ("web.node.service", "service node tag web"),
            ("foo.service.service", "service service tag foo"),
            // kind words on their own
            ("service", "kind"),
            ("node", "kind"),
            ("query", "kind"),
            ("service.dc1", "kind in dc1"),
            ("addr.dc1", "kind in dc1"),
        ] {
            check(name, expected);
        }
    }

    #[test]
    fn short_names_and_what_they_ask_for() {
        for (name, expected) in [
            ("web.dc1", "service web in dc1"),
            ("v1.web.dc1", "service web tag v1 in dc1"),
            ("a.b.web.dc1", "service web tag a.b in dc1"),
            ("_web._v1.dc1", "service web tag v1 in dc1"),
            ("_web._tcp.dc1", "service web in dc1"),
            ("_web._tcp", "service web"),
            ("_web._v1", "service web tag v1"),
            ("_tcp.dc1", "service _tcp in dc1"),
            ("dc1", "bare dc1"),
            ("_tcp", "bare _tcp"),
            // kind words win
            ("node.dc1", "kind in dc1"),
            ("web.service.dc1", "service web in dc1"),
            ("web.node.dc1", "node web in dc1"),
        ] {
            check(name, expected);
        }
    }

    #[test]
    fn forms_that_only_consul_answers() {
        for (name, expected) in [
            ("web.connect", "unserved Connect"),
            ("web.ingress.dc1", "unserved Ingress in dc1"),
            ("web.query", "unserved Query"),
            ("web.virtual", "unserved Virtual"),
        ] {
            check(name, expected);
        }
    }

    #[test]
    fn names_that_do_not_exist() {
        for (name, expected) in [
            ("db.service.dc2.ns", "error: BadScope"),
            ("web.service.dc1.dc", "error: BadScope"),
            ("x.0a000001.addr", "error: BadSubject"),
            ("0a0001.addr", "error: BadAddress"),
            ("zz000001.addr", "error: BadAddress"),
        ] {
            check(name, expected);
        }
    }
}

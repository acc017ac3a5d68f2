//! Whose an address is: the answer to a reverse question, from an index and without a scan.
//!
//! ```text
//!   1.0.0.10.in-addr.arpa  --> owners: node n1, then service web on n2     the first is answered
//! ```
//! As in Consul: one PTR; a node before a service, and nodes in the order of their names. Unlike
//! there, its TTL is that of the node or the service.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::catalog::shards::Keyed;
use crate::wire::record;

/// All owners of one address.
#[derive(Clone, Debug)]
pub struct Pointer {
    pub(in crate::catalog) key: Box<[u8]>,
    /// Never empty; the first is answered.
    pub(in crate::catalog) owners: Vec<(Owner, Box<[u8]>)>,
}

/// One of those who have an address. Ordered as they are answered: a node before a service, then by
/// node and ID, without regard to letter case as in Consul's own tables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owner {
    /// A node, by name.
    Node(Box<str>),
    /// An instance of a service.
    Service {
        /// The node that it runs on.
        node: Box<str>,
        /// Its ID.
        id: Box<str>,
        /// The service's name as registered.
        service: Box<str>,
    },
}

/// The reverse name of an address, and one of those who have it.
pub type Owned = (Box<str>, Owner);

impl Pointer {
    /// Whether the first owner is a node.
    pub fn is_of_node(&self) -> bool {
        matches!(self.owners.first(), Some((Owner::Node(_), _)))
    }

    /// The PTR record of the first owner.
    pub fn record(&self) -> &[u8] {
        self.owners.first().map_or(&[], |(_, record)| record)
    }
}

impl Owner {
    /// The PTR record to this owner in `scope`, which is the datacenter with the zone.
    ///
    /// Empty where the owner has no name in DNS.
    pub fn record(&self, scope: &str, ttl_secs: u32) -> Box<[u8]> {
        let name = match self {
            Self::Node(node) => format!("{node}.node.{scope}"),
            Self::Service { service, .. } => format!("{service}.service.{scope}"),
        };
        let mut bytes = Vec::new();
        if let Some(target) = record::name(&name) {
            record::push_answer(&mut bytes, ttl_secs, &record::ptr(target));
        }
        bytes.into()
    }
}

impl Ord for Owner {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Node(_), Self::Service { .. }) => Ordering::Less,
            (Self::Service { .. }, Self::Node(_)) => Ordering::Greater,
            (Self::Node(name), Self::Node(other)) => {
                caseless(name, other).then_with(|| name.cmp(other))
            }
            (
                Self::Service { node, id, service },
                Self::Service { node: other_node, id: other_id, service: other_service },
            ) => caseless(node, other_node)
                .then_with(|| caseless(id, other_id))
                .then_with(|| (node, id, service).cmp(&(other_node, other_id, other_service))),
        }
    }
}

impl PartialOrd for Owner {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Keyed for Pointer {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

fn caseless(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.bytes(), b.bytes());
    a.map(|byte| byte.to_ascii_lowercase()).cmp(b.map(|byte| byte.to_ascii_lowercase()))
}

/// The name that is asked for the owner of `ip` (RFC 1035 §3.5, RFC 3596 §2.5).
pub fn name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            let digits = (0..32).map(|at| format!("{:x}.", bits >> (4 * at) & 0xf));
            digits.collect::<String>() + "ip6.arpa"
        }
    }
}

/// The address that `name`, in lower case, asks for the owner of.
pub fn ip(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let mut bytes = [0; 4];
        let mut parts = octets.rsplit('.');
        for byte in &mut bytes {
            *byte = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| bytes.into());
    }
    let mut bits = 0;
    let mut digits = name.strip_suffix(".ip6.arpa")?.rsplit('.');
    for _ in 0..32 {
        bits = bits << 4 | u128::from_str_radix(digits.next()?, 16).ok()?;
    }
    digits.next().is_none().then(|| IpAddr::from(bits.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_their_reverse_names() {
        for (ip, expected) in [
            ("10.1.0.2", "2.0.1.10.in-addr.arpa"),
            (
                "2001:db8::567:89ab",
                "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ] {
            assert_eq!(name(ip.parse().unwrap()), expected);
            assert_eq!(super::ip(expected), ip.parse().ok());
        }
        for name in ["0.10.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "a.ip6.arpa", "x"] {
            assert_eq!(ip(name), None, "{name}");
        }
    }

    /// The order of Consul 1.8.7.
    #[test]
    fn nodes_come_first_and_by_name_whatever_its_case() {
        let service = |node: &str, id: &str| Owner::Service {
            node: node.into(),
            id: id.into(),
            service: "web".into(),
        };
        let node = |name: &str| Owner::Node(name.into());
        let expected = [
            node("bb"),
            node("Zed"),
            service("aa", "A1"),
            service("aa", "b1"),
            service("aa", "Z1"),
            service("Zed", "a1"),
        ];
        let mut owners = expected.to_vec();
        owners.reverse();
        owners.sort();
        assert_eq!(owners, expected);
    }
}

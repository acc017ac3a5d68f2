//! Which of an instance's addresses a question is answered with, and under which name.
//!
//! ```text
//!   question     the own datacenter             another one, with translate_wan_addrs
//!   A            lan_ipv4, else the address     wan_ipv4, lan_ipv4, wan, else the address
//!   AAAA         lan_ipv6, else the address     wan_ipv6, lan_ipv6, wan, else the address
//!   SRV, ANY     as AAAA, then as A             as AAAA, then as A
//! ```
//! A service's own address comes first, its node's where it has none. These are Consul's rules;
//! that a tagged IPv6 address wins where both families would do is its V1 server's as well.
//!
//! An agent with `translate_wan_addrs` has put the address for clients elsewhere in place of the
//! registered one already, in what it tells of other datacenters. The tag `lan`, which agents give
//! their nodes, still says what a node was registered with.

use crate::catalog::model::{Address, Instance, Node, Tagged};

/// What a type of question takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accept {
    /// IPv4, or a host.
    A,
    /// IPv6, or a host.
    Aaaa,
    /// Whatever comes first.
    Any,
}

/// Whose clients ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum View {
    /// Those of the own datacenter, or of one that is reached like the own.
    Lan,
    /// Those of another datacenter.
    Wan,
}

/// Where an instance is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reached<'c> {
    /// An address, or a host that has one.
    pub address: &'c Address,
    /// How an SRV record names it.
    pub by: By,
}

/// How an SRV record names where an instance is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// By the address itself, as `<hex>.addr`.
    Address,
    /// By the host that was registered.
    Host,
    /// By its node.
    Node,
}

impl View {
    /// Where `instance` is reached by a question that takes `accept`.
    pub fn reach(self, instance: &Instance, accept: Accept) -> Reached<'_> {
        let tagged = instance.tagged.as_deref();
        match self.choose(instance.address.as_ref(), tagged, accept) {
            Some(address @ Address::Ip(_)) => Reached { address, by: By::Address },
            Some(address @ Address::Host(_)) => Reached { address, by: By::Host },
            None => self.reach_node(&instance.node, accept),
        }
    }

    /// Where `node` is reached by a question that takes `accept`.
    pub fn reach_node(self, node: &Node, accept: Accept) -> Reached<'_> {
        let tagged = node.tagged.as_deref();
        let lan = tagged.filter(|_| self == Self::Wan).and_then(|tagged| tagged.lan.as_ref());
        let registered = lan.unwrap_or(&node.address);
        let address = self.choose(Some(registered), tagged, accept).unwrap_or(registered);
        let is_put_in_place =
            self == Self::Wan && lan.is_none() && tagged.is_some_and(|tagged| tagged.has(address));
        let by = match address {
            Address::Host(_) => By::Host,
            // The node's name would lead to the other address.
            Address::Ip(_) if address != registered || is_put_in_place => By::Address,
            Address::Ip(_) => By::Node,
        };
        Reached { address, by }
    }

    /// The service's own address, as questions of any type have it; `None` where it has none.
    pub fn own_address(self, instance: &Instance) -> Option<&Address> {
        self.choose(instance.address.as_ref(), instance.tagged.as_deref(), Accept::Any)
    }

    /// The port that clients connect to.
    pub fn port(self, instance: &Instance) -> u16 {
        match (self, &instance.tagged) {
            (Self::Wan, Some(tagged)) if tagged.wan_port != 0 => tagged.wan_port,
            _ => instance.port,
        }
    }

    fn choose<'c>(
        self,
        plain: Option<&'c Address>,
        tagged: Option<&'c Tagged>,
        accept: Accept,
    ) -> Option<&'c Address> {
        let Some(tagged) = tagged else { return plain };
        let (ipv4, ipv6) = (tagged.lan_ipv4.as_ref(), tagged.lan_ipv6.as_ref());
        let (plain, ipv4, ipv6) = match self {
            Self::Lan => (plain, ipv4, ipv6),
            Self::Wan => (
                tagged.wan.as_ref().or(plain),
                tagged.wan_ipv4.as_ref().or(ipv4),
                tagged.wan_ipv6.as_ref().or(ipv6),
            ),
        };
        match accept {
            Accept::A => ipv4.or(plain),
            Accept::Aaaa => ipv6.or(plain),
            Accept::Any => ipv6.or(ipv4).or(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::model::{Health, Weights};

    fn address(text: &str) -> Option<Address> {
        Address::from_text(text)
    }

    /// `tags` as in `lan_ipv4=10.0.0.1 wan=...`.
    fn tagged(tags: &str) -> Option<Box<Tagged>> {
        let mut tagged = Tagged::default();
        for (key, value) in tags.split(' ').filter_map(|pair| pair.split_once('=')) {
            match key {
                "lan" => tagged.lan = address(value),
                "lan_ipv4" => tagged.lan_ipv4 = address(value),
                "lan_ipv6" => tagged.lan_ipv6 = address(value),
                "wan" => tagged.wan = address(value),
                "wan_ipv4" => tagged.wan_ipv4 = address(value),
                "wan_ipv6" => tagged.wan_ipv6 = address(value),
                "port" => tagged.wan_port = value.parse().unwrap(),
                _ => panic!("no such tag: {key}"),
            }
        }
        Some(Box::new(tagged))
    }

    /// What A, AAAA and SRV are answered with, the latter's target and port.
    fn reached(view: View, node: (&str, &str), service: (&str, &str)) -> String {
        let node =
            Node { tagged: tagged(node.1), ..Node::new("n1".to_owned(), address(node.0).unwrap()) };
        let instance = Instance {
            id: "web".to_owned(),
            node,
            address: address(service.0),
            port: 80,
            ports: Vec::new(),
            tagged: tagged(service.1),
            tags: Vec::new(),
            weights: Weights::default(),
            health: Health::Passing,
            worst: None,
        };
        let at = |accept| {
            let Reached { address, by } = view.reach(&instance, accept);
            let address = match address {
                Address::Host(host) => host.clone(),
                Address::Ip(ip) => ip.to_string(),
            };
            (address, by)
        };
        let ((a, _), (aaaa, _), (any, by)) = (at(Accept::A), at(Accept::Aaaa), at(Accept::Any));
        format!("A {a} AAAA {aaaa} SRV {any} by {by:?} port {}", view.port(&instance))
    }

    /// The rows are observations of Consul 1.8.7.
    #[test]
    fn addresses_within_a_datacenter() {
        let both = "lan_ipv4=10.1.0.2 lan_ipv6=fd00::2";
        for (node, service, expected) in [
            (("10.1.0.2", ""), ("", ""), "A 10.1.0.2 AAAA 10.1.0.2 SRV 10.1.0.2 by Node port 80"),
            (
                ("10.1.0.2", ""),
                ("10.1.0.2", ""),
                "A 10.1.0.2 AAAA 10.1.0.2 SRV 10.1.0.2 by Address port 80",
            ),
            (
                ("10.1.0.2", both),
                ("", ""),
                "A 10.1.0.2 AAAA fd00::2 SRV fd00::2 by Address port 80",
            ),
            (
                ("fd00::3", "lan_ipv4=10.1.0.3 lan_ipv6=fd00::3"),
                ("", ""),
                "A 10.1.0.3 AAAA fd00::3 SRV fd00::3 by Node port 80",
            ),
            (
                ("10.1.0.2", ""),
                ("10.9.0.22", "lan_ipv6=fd00::22 wan=198.51.100.22 port=1099"),
                "A 10.9.0.22 AAAA fd00::22 SRV fd00::22 by Address port 80",
            ),
            (("10.1.0.2", ""), ("x.test", ""), "A x.test AAAA x.test SRV x.test by Host port 80"),
            (("x.test", ""), ("", ""), "A x.test AAAA x.test SRV x.test by Host port 80"),
            // Of another datacenter, as an agent that translates sends them to us that do not.
            (
                ("198.51.100.1", "wan=198.51.100.1"),
                ("", ""),
                "A 198.51.100.1 AAAA 198.51.100.1 SRV 198.51.100.1 by Node port 80",
            ),
            (
                ("198.51.100.1", "lan=10.1.0.1 lan_ipv4=10.1.0.1 wan=198.51.100.1"),
                ("", ""),
                "A 10.1.0.1 AAAA 198.51.100.1 SRV 10.1.0.1 by Address port 80",
            ),
            (
                ("198.51.100.1", "wan=198.51.100.1"),
                ("198.51.100.22", "lan_ipv4=10.9.0.22 wan=198.51.100.22 port=1099"),
                "A 10.9.0.22 AAAA 198.51.100.22 SRV 10.9.0.22 by Address port 80",
            ),
        ] {
            assert_eq!(reached(View::Lan, node, service), expected, "{node:?} {service:?}");
        }
    }

    #[test]
    fn addresses_for_other_datacenters() {
        for (node, service, expected) in [
            (
                ("10.1.0.1", "wan=198.51.100.1"),
                ("", ""),
                "A 198.51.100.1 AAAA 198.51.100.1 SRV 198.51.100.1 by Address port 80",
            ),
            (
                ("10.1.0.1", "wan=198.51.100.1"),
                ("10.9.0.22", "wan=198.51.100.22 port=1099"),
                "A 198.51.100.22 AAAA 198.51.100.22 SRV 198.51.100.22 by Address port 1099",
            ),
            (
                ("10.1.0.1", "lan_ipv6=fd00::1"),
                ("", ""),
                "A 10.1.0.1 AAAA fd00::1 SRV fd00::1 by Address port 80",
            ),
            (
                ("10.1.0.1", "lan_ipv4=10.1.0.1 wan=198.51.100.1"),
                ("", ""),
                "A 10.1.0.1 AAAA 198.51.100.1 SRV 10.1.0.1 by Address port 80",
            ),
            (
                ("10.1.0.1", "wan=198.51.100.1 wan_ipv6=2001:db8::1"),
                ("", ""),
                "A 198.51.100.1 AAAA 2001:db8::1 SRV 2001:db8::1 by Address port 80",
            ),
            // As an agent that translates sends them: the address is the one for elsewhere.
            (
                ("fd00::1", "lan=10.1.0.1 lan_ipv6=fd00::1"),
                ("", ""),
                "A 10.1.0.1 AAAA fd00::1 SRV fd00::1 by Address port 80",
            ),
            (
                ("198.51.100.1", "wan=198.51.100.1"),
                ("", ""),
                "A 198.51.100.1 AAAA 198.51.100.1 SRV 198.51.100.1 by Address port 80",
            ),
            (
                ("10.1.0.1", "lan=10.1.0.1 lan_ipv4=10.1.0.1 wan=10.1.0.1 wan_ipv4=10.1.0.1"),
                ("", ""),
                "A 10.1.0.1 AAAA 10.1.0.1 SRV 10.1.0.1 by Node port 80",
            ),
        ] {
            assert_eq!(reached(View::Wan, node, service), expected, "{node:?} {service:?}");
        }
    }
}

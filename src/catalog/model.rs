//! What a catalogue holds, as plain public data: nodes, instances and their health.
//!
//! A source (Consul, a catalogue file) speaks in these words. They carry no index, no encoding
//! and no time; what is made of them for the answers is the builder's.

use std::net::IpAddr;

/// A machine of the catalogue.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Node {
    /// As registered; names are compared without regard to case.
    pub name: String,
    /// Where the node is reached.
    pub address: Address,
    /// Where else it is; `None` where no such address is registered.
    pub tagged: Option<Box<Tagged>>,
    /// Keys with their values, sorted.
    pub meta: Vec<(String, String)>,
}

/// Addresses of a node or a service for those who ask from elsewhere, or for one family.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Tagged {
    /// What a node was registered with, where an agent has put another address in its place.
    pub lan: Option<Address>,
    /// Answers questions for A from the own datacenter.
    pub lan_ipv4: Option<Address>,
    /// Answers questions for AAAA from the own datacenter.
    pub lan_ipv6: Option<Address>,
    /// Where clients in other datacenters connect.
    pub wan: Option<Address>,
    /// The same for A.
    pub wan_ipv4: Option<Address>,
    /// The same for AAAA.
    pub wan_ipv6: Option<Address>,
    /// The port that goes with `wan`; 0 is the service's own.
    pub wan_port: u16,
    /// The address that stands for the service in the mesh (`consul-virtual`).
    pub mesh: Option<Address>,
}

impl Tagged {
    /// The addresses by Consul's tags for them; `None` where no question is answered with any.
    pub fn by_tag(at: impl Fn(&str) -> Option<Address>, wan_port: u16) -> Option<Box<Self>> {
        let tagged = Self {
            lan: at("lan"),
            lan_ipv4: at("lan_ipv4"),
            lan_ipv6: at("lan_ipv6"),
            wan: at("wan"),
            wan_ipv4: at("wan_ipv4"),
            wan_ipv6: at("wan_ipv6"),
            wan_port,
            mesh: at("consul-virtual"),
        };
        (tagged != Self::default()).then(|| Box::new(tagged))
    }

    /// Whether `address` is one of those that an agent puts in the place of what is registered.
    pub fn has(&self, address: &Address) -> bool {
        [&self.wan_ipv6, &self.lan_ipv6, &self.wan_ipv4, &self.lan_ipv4, &self.wan]
            .into_iter()
            .any(|tagged| tagged.as_ref() == Some(address))
    }
}

/// One of several ports of an instance.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct NamedPort {
    /// As registered; compared without regard to case.
    pub name: String,
    /// Its number.
    pub port: u16,
}

impl Node {
    /// A node with nothing but an address.
    pub fn new(name: String, address: Address) -> Self {
        Self { name, address, tagged: None, meta: Vec::new() }
    }
}

/// One instance of a service, with the node that it runs on.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Instance {
    /// The service's ID, unique on its node.
    pub id: String,
    /// Where it runs.
    pub node: Node,
    /// The service's own address; `None` is the node's.
    pub address: Option<Address>,
    /// 0 where none is registered, as for services known by name only.
    pub port: u16,
    /// Ports that have names; none for most.
    pub ports: Vec<NamedPort>,
    /// Where else it is; `None` where no such address is registered.
    pub tagged: Option<Box<Tagged>>,
    /// As registered; compared without regard to case.
    pub tags: Vec<String>,
    /// Of its SRV record.
    pub weights: Weights,
    /// Its own and its node's checks together.
    pub health: Health,
    /// The check that makes it so; `None` where all pass, or where the source does not tell.
    pub worst: Option<Box<WorstCheck>>,
}

/// A check that does not pass.
///
/// Its output is left out: it changes all the time, and no answer with it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WorstCheck {
    /// Unique on its node.
    pub id: String,
    /// For people; may be empty.
    pub name: String,
    /// Whether it is about the node, and so about all that runs there.
    pub is_of_node: bool,
}

impl Instance {
    /// Gives it the worst of `checks`, each with its status; the first by ID of several such.
    pub fn judge(&mut self, checks: impl IntoIterator<Item = (Health, WorstCheck)>) {
        let known = self.worst.take().map(|worst| (self.health, *worst));
        let all = known.into_iter().chain(checks);
        let worst = all.max_by(|(a, first), (b, second)| a.cmp(b).then_with(|| second.cmp(first)));
        if let Some((health, check)) = worst.filter(|(health, _)| *health >= self.health) {
            self.health = health;
            self.worst = (health != Health::Passing).then(|| Box::new(check));
        }
    }

    /// Whether anybody may be answered with it.
    pub fn is_answerable(&self) -> bool {
        self.health != Health::Critical
    }

    /// What it takes in memory, in bytes, roughly.
    pub fn bytes(&self) -> usize {
        let texts = [&self.id, &self.node.name].into_iter().chain(&self.tags);
        let texts = texts.chain(self.ports.iter().map(|port| &port.name));
        let texts = texts.chain(self.node.meta.iter().flat_map(|(key, value)| [key, value]));
        let worst = self.worst.iter().flat_map(|worst| [&worst.id, &worst.name]);
        let texts: usize = texts.chain(worst).map(|text| text.len() + size_of::<String>()).sum();
        let tagged = [&self.tagged, &self.node.tagged].into_iter().flatten().count();
        size_of::<Self>() + tagged * size_of::<Tagged>() + texts
    }

    /// Where clients should connect: the service's own address, else the node's.
    pub fn effective_address(&self) -> &Address {
        self.address.as_ref().unwrap_or(&self.node.address)
    }
}

/// An address as registered.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// Anything that is no IP literal; the name of an external host.
    Host(String),
    /// An IP literal.
    Ip(IpAddr),
}

impl Address {
    /// Reads an address as Consul stores it. `None` for the empty string, which is "not set".
    ///
    /// As in Consul, an address of IPv4 in IPv6's clothes (`::ffff:10.0.0.1`) is the one of IPv4:
    /// no host has the other.
    pub fn from_text(text: &str) -> Option<Self> {
        match text.parse::<IpAddr>() {
            _ if text.is_empty() => None,
            Ok(ip) => Some(Self::Ip(ip.to_canonical())),
            Err(_) => Some(Self::Host(text.to_owned())),
        }
    }
}

/// The worst of an instance's checks, its node's included.
///
/// Ordered from best to worst. No checks at all is `Passing`; maintenance is a critical check.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Health {
    /// All is well, or nothing is checked.
    Passing,
    /// Answered with, unless only passing ones are.
    Warning,
    /// A status that Consul does not define. Kept as a warning is, with weight 1 whatever the other
    /// checks say.
    Unknown,
    /// Never answered with.
    Critical,
}

impl Health {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }

    /// Reads the status of one check.
    pub fn from_status(status: &str) -> Self {
        match status {
            "passing" => Self::Passing,
            "warning" => Self::Warning,
            "critical" | "maintenance" => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

/// SRV weights by health. Consul's default is 1 for both.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Weights {
    /// While all checks pass.
    pub passing: u16,
    /// While the worst check is a warning.
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

//! What is registered in Consul for one seed, and what follows from it.
//!
//! The judge takes what a name answers from Consul's own replies, not from here. It asks the
//! world only what no reply can say: which names have names below them, which instances are
//! registered twice, what the next section of an answer was made of.

use std::collections::BTreeMap;

/// A catalogue of two datacenters; the first is the one that is asked.
#[derive(Clone, Debug)]
pub struct World {
    /// What it was drawn from.
    pub seed: u64,
    /// What both servers are configured with.
    pub settings: Settings,
    /// `dc1` and `dc2`.
    pub places: [Place; 2],
    /// In `dc1`.
    pub queries: Vec<PreparedQuery>,
}

/// What both servers are configured with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Leaves out warnings.
    pub only_passing: bool,
    /// Seconds.
    pub node_ttl: u32,
    /// Service name, or prefix and `*`, to seconds.
    pub service_ttl: Vec<(&'static str, u32)>,
    /// Seconds: the SOA's last number and TTL.
    pub min_ttl: u32,
    /// 0 is none.
    pub a_record_limit: usize,
    /// Over UDP without EDNS.
    pub udp_answer_limit: usize,
    /// Whether Consul sets TC.
    pub enable_truncate: bool,
    /// Whether we watch all services, or fetch most of them when they are asked for.
    pub watches_all: bool,
    /// Whether there are tagged addresses at all.
    pub has_tagged: bool,
    /// Whether `wan` addresses stand for instances of `dc2`.
    pub translate_wan_addrs: bool,
}

/// A datacenter.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name.
    pub dc: &'static str,
    /// Names in lower case differ.
    pub nodes: Vec<Node>,
    /// Each on one of `nodes`.
    pub instances: Vec<Instance>,
    /// Services behind the ingress gateway, where there is one.
    pub ingress: Vec<String>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// As registered.
    pub name: String,
    /// An address, or the hostname of an external node.
    pub address: String,
    /// `lan_ipv4` and the like.
    pub tagged: BTreeMap<&'static str, String>,
    /// Metadata.
    pub meta: BTreeMap<&'static str, &'static str>,
    /// Checks of the node itself: id and status.
    pub checks: Vec<(&'static str, &'static str)>,
}

/// An instance of a service.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its place in the list of nodes.
    pub node: usize,
    /// Unique on its node.
    pub id: String,
    /// The service, as registered.
    pub service: String,
    /// Empty: the node's.
    pub address: String,
    /// May be 0.
    pub port: u16,
    /// As registered.
    pub tags: Vec<String>,
    /// Passing and warning.
    pub weights: (u16, u16),
    /// `lan_ipv4`, `wan` and the like, each with its port.
    pub tagged: BTreeMap<&'static str, (String, u16)>,
    /// Statuses of its checks.
    pub checks: Vec<&'static str>,
    /// What it is.
    pub kind: Kind,
}

/// What an instance is, to Consul Connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An ingress gateway.
    IngressGateway,
    /// Speaks Connect itself.
    Native,
    /// A proxy of this service.
    Proxy(String),
    /// None of these.
    Typical,
}

/// A prepared query.
#[derive(Clone, Debug)]
pub struct PreparedQuery {
    /// Its name, or the prefix of a template.
    pub name: String,
    /// Whether `name` is a template's prefix.
    pub is_template: bool,
    /// The service that it looks for.
    pub service: String,
    /// Tags that an instance must have.
    pub tags: Vec<String>,
    /// Leaves out warnings.
    pub only_passing: bool,
    /// Datacenters to try where this one has nothing.
    pub failover: Vec<&'static str>,
    /// Seconds.
    pub ttl: Option<u32>,
}

/// How well an instance is, the worst last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Health {
    /// All checks pass, or there is none.
    Passing,
    /// Something is not well.
    Warning,
    /// A status that Consul does not know.
    Unknown,
    /// Out of service.
    Critical,
}

impl World {
    /// Whether `instance` may be answered with.
    pub fn shows(&self, place: &Place, instance: &Instance) -> bool {
        match place.health(instance) {
            Health::Passing => true,
            Health::Unknown | Health::Warning => !self.settings.only_passing,
            Health::Critical => false,
        }
    }
}

impl Settings {
    /// The TTL of a service: by its name, else by the longest prefix of it, else 0.
    pub fn service_ttl_of(&self, service: &str) -> u32 {
        let service = service.to_lowercase();
        let exact = self.service_ttl.iter().find(|(key, _)| *key == service);
        let prefixes = self.service_ttl.iter().filter(|(key, _)| {
            key.strip_suffix('*').is_some_and(|prefix| service.starts_with(prefix))
        });
        exact.or_else(|| prefixes.max_by_key(|(key, _)| key.len())).map_or(0, |(_, ttl)| *ttl)
    }
}

impl Instance {
    /// Its own address, or none, and those it is tagged with.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let tagged = self.tagged.values().map(|(address, _)| address.as_str());
        tagged.chain([self.address.as_str()])
    }

    /// Its own port and those of its tagged addresses.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.tagged.values().map(|(_, port)| *port).chain([self.port])
    }
}

impl Place {
    /// The worst of all checks of the instance and its node.
    pub fn health(&self, instance: &Instance) -> Health {
        let node = self.nodes[instance.node].checks.iter().map(|(_, status)| *status);
        let health = |status| match status {
            "passing" => Health::Passing,
            "warning" => Health::Warning,
            "critical" => Health::Critical,
            _ => Health::Unknown,
        };
        let all = node.chain(instance.checks.iter().copied()).map(health);
        all.max().unwrap_or(Health::Passing)
    }

    /// The weight in the SRV record of `instance`.
    pub fn weight(&self, instance: &Instance) -> u16 {
        match self.health(instance) {
            Health::Passing => instance.weights.0,
            Health::Warning => instance.weights.1,
            Health::Unknown | Health::Critical => 1,
        }
    }

    /// The instances of a service, in any letter case.
    pub fn instances_of(&self, service: &str) -> impl Iterator<Item = &Instance> {
        let service = service.to_lowercase();
        self.instances.iter().filter(move |instance| instance.service.to_lowercase() == service)
    }

    /// The node of this name, in any letter case.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name.eq_ignore_ascii_case(name))
    }
}

/// The words of the grammar.
pub const KINDS: [&str; 7] = ["addr", "connect", "ingress", "node", "query", "service", "virtual"];

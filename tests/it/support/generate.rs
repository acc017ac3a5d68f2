//! Random catalogues and queries for the property tests, the same in every run.
//!
//! The pools of names are small, so that things collide: tags that look like services, services
//! that look like tags, names that hold kind words, dots and odd letter case.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fingerpost::catalog::change::Held;
use fingerpost::catalog::model::{Address, Health, Instance, Node, Weights};
use fingerpost::catalog::{Change, Form};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

/// So many cases, drawn from a fixed seed; nothing is written to disk.
pub fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x0f19_e4b0_57a1_d053),
        ..ProptestConfig::default()
    }
}

/// A whole catalogue. The first datacenter is the local one.
#[derive(Clone, Debug)]
pub struct World {
    /// At least one.
    pub places: Vec<Place>,
}

/// What a datacenter holds.
#[derive(Clone, Debug)]
pub struct Place {
    /// The datacenter's name.
    pub name: String,
    /// By name.
    pub nodes: Vec<Node>,
    /// Names in lower case differ.
    pub services: Vec<(String, Vec<Instance>)>,
}

impl World {
    /// What a source would report of it.
    pub fn changes(&self) -> Vec<Change> {
        let names = self.places.iter().map(|place| place.name.clone()).collect();
        let mut changes = vec![Change::Datacenters { local: self.places[0].name.clone(), names }];
        for Place { name: datacenter, nodes, services } in &self.places {
            let datacenter = || datacenter.clone();
            let listing = services.iter().map(|(name, instances)| (name.clone(), tags(instances)));
            changes.push(Change::Services { datacenter: datacenter(), listing: listing.collect() });
            changes.push(Change::Nodes { datacenter: datacenter(), nodes: nodes.clone() });
            changes.extend(services.iter().map(|(service, instances)| Change::Service {
                datacenter: datacenter(),
                service: service.clone(),
                instances: instances.clone(),
                held: Held::Watched,
                form: Form::Service,
                executed: None,
            }));
        }
        changes
    }

    /// Every name that may have data, by every form of the grammar, the zone left off.
    pub fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::from(["ns".to_owned(), "0a000001.addr".to_owned()]);
        for (at, place) in self.places.iter().enumerate() {
            let dc = &place.name;
            let mut forms = Vec::new();
            for (service, instances) in &place.services {
                forms.extend([format!("{service}.service"), format!("_{service}._tcp.service")]);
                names.insert(format!("{service}.{dc}"));
                names.insert(format!("_{service}._tcp.{dc}"));
                for tag in tags(instances) {
                    forms.push(format!("{tag}.{service}.service"));
                    forms.push(format!("_{service}._{tag}.service"));
                    names.insert(format!("{tag}.{service}.{dc}"));
                    names.insert(format!("_{service}._{tag}.{dc}"));
                    if at == 0 {
                        names.insert(format!("_{service}._{tag}"));
                    }
                }
                if at == 0 {
                    names.insert(format!("_{service}._tcp"));
                }
            }
            forms.extend(place.nodes.iter().map(|node| format!("{}.node", node.name)));
            names.insert(format!("0a000001.addr.{dc}"));
            names.extend(forms.iter().map(|form| format!("{form}.{dc}")));
            if at == 0 {
                names.extend(forms);
            }
        }
        names
    }
}

/// A catalogue of two datacenters.
pub fn world() -> impl Strategy<Value = World> {
    let other = select(vec!["dc2", "EU-west", "ns", "service", "node"]);
    (place("dc1"), other.prop_flat_map(place))
        .prop_map(|(local, other)| World { places: vec![local, other] })
}

fn place(name: &'static str) -> impl Strategy<Value = Place> {
    let services = prop::collection::btree_map(select(&SERVICES[..]), instances(), 0..4);
    (nodes(), services).prop_map(move |(nodes, services)| Place {
        name: name.to_owned(),
        nodes,
        services: services.into_iter().map(|(name, all)| (name.to_owned(), all)).collect(),
    })
}

/// Some nodes, each with an address of its own.
pub fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let names = prop::sample::subsequence(&NODES[..], 0..=NODES.len());
    names.prop_map(|names| names.into_iter().map(node).collect())
}

/// The instances of one service, on any node.
pub fn instances() -> impl Strategy<Value = Vec<Instance>> {
    prop::collection::vec(instance(), 0..4).prop_map(|mut instances| {
        for (at, instance) in instances.iter_mut().enumerate() {
            instance.id = format!("id-{at}");
        }
        instances
    })
}

fn instance() -> impl Strategy<Value = Instance> {
    let tags = prop::sample::subsequence(&TAGS[..], 0..3);
    (select(&NODES[..]), address(), 0..5_u16, tags, health()).prop_map(
        |(on, address, port, tags, health)| Instance {
            id: String::new(),
            node: node(on),
            address,
            port,
            ports: Vec::new(),
            tagged: None,
            tags: tags.into_iter().map(str::to_owned).collect(),
            weights: Weights::default(),
            health,
        },
    )
}

fn address() -> impl Strategy<Value = Option<Address>> {
    prop_oneof![
        3 => Just(None),
        2 => (1..9_u8).prop_map(|last| Some(ip(Ipv4Addr::new(10, 9, 0, last)))),
        1 => (1..9_u16).prop_map(|last| Some(ip(Ipv6Addr::new(0xfd00, 0, 0, 9, 0, 0, 0, last)))),
        1 => Just(Some(Address::Host("www.example.com".to_owned()))),
    ]
}

fn health() -> impl Strategy<Value = Health> {
    select(vec![Health::Passing, Health::Unknown, Health::Warning, Health::Critical])
}

/// The node of this name, at the address that it has in every catalogue.
fn node(name: &str) -> Node {
    let at = NODES.iter().position(|known| *known == name).unwrap_or_default() as u8;
    let address = match at {
        1 => ip(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        2 => Address::Host("host.example.com".to_owned()),
        at => ip(Ipv4Addr::new(10, 0, 0, at + 1)),
    };
    Node::new(name.to_owned(), address)
}

fn ip(ip: impl Into<IpAddr>) -> Address {
    Address::Ip(ip.into())
}

/// The distinct tags of `instances`.
pub fn tags(instances: &[Instance]) -> Vec<String> {
    let tags: BTreeSet<&String> = instances.iter().flat_map(|instance| &instance.tags).collect();
    tags.into_iter().cloned().collect()
}

/// A query with RD for `name`, its dots apart and the zone left off, in the letter case given.
pub fn query(name: &str, qtype: u16, edns: Option<u16>) -> Vec<u8> {
    let additional = u8::from(edns.is_some());
    let mut bytes = vec![0x1d, 0x1d, 1, 0, 0, 1, 0, 0, 0, 0, 0, additional];
    for label in name.split('.').filter(|label| !label.is_empty()).chain(["Consul"]) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&qtype.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    if let Some(payload) = edns {
        let [high, low] = payload.to_be_bytes();
        bytes.extend_from_slice(&[0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]);
    }
    bytes
}

/// Services: plain, odd case, like a tag's label, like a kind, like a datacenter.
pub const SERVICES: [&str; 8] = ["web", "Api", "my_svc", "_web", "_v1", "_TCP", "node", "dc1"];

/// Tags: plain, odd case, dotted, with underscores, like a service, like a kind.
pub const TAGS: [&str; 9] =
    ["v1", "V2", "a.b", "x.A.b", "_v1", "udp", "web", "service", "canary.node"];

/// Nodes: plain, odd case, dotted, one another's parents, with kind words in them.
pub const NODES: [&str; 8] =
    ["n1", "N6", "outside", "node.dots", "Two.node.dots", "dots", "a.service", "x.addr.y"];

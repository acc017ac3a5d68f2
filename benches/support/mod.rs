//! What the benches stand on: a catalogue of any size, order statistics, and where they ran.
//!
//! Everything is computed from numbers, so that two runs measure the same catalogue.

// Each file is a toolbox: what one bench leaves unused is not dead.
#![allow(dead_code)]

pub mod figures;

use std::net::{IpAddr, Ipv4Addr};

use fingerpost::answer::Policy;
use fingerpost::catalog::model::{Address, Health, Instance, Node, Weights};
use fingerpost::catalog::{Change, Form, Held, Rules};
use fingerpost::name::Zone;

/// The datacenter of everything in here.
pub const DATACENTER: &str = "dc1";

/// The rules of a default configuration.
pub fn rules() -> Rules {
    Rules::new(zone())
}

/// The policy of a default configuration.
pub fn policy() -> Policy {
    Policy::new(zone())
}

/// All datacenters: the one.
pub fn datacenters() -> Change {
    Change::Datacenters { local: DATACENTER.to_owned(), names: vec![DATACENTER.to_owned()] }
}

/// `count` nodes, as a list of nodes says.
pub fn nodes(count: usize) -> Change {
    let nodes = (0..count).map(node).collect();
    Change::Nodes { datacenter: DATACENTER.to_owned(), nodes }
}

/// The list of names, each with the tags that its instances have.
pub fn listing(names: impl IntoIterator<Item = String>) -> Change {
    let tags = || TAGS.concat().iter().map(|tag| (*tag).to_owned()).collect();
    let listing = names.into_iter().map(|name| (name, tags())).collect();
    Change::Services { datacenter: DATACENTER.to_owned(), listing }
}

/// `instances` of the service `name`, watched.
pub fn service(name: &str, instances: Vec<Instance>) -> Change {
    Change::Service {
        datacenter: DATACENTER.to_owned(),
        form: Form::Service,
        service: name.to_owned(),
        instances,
        held: Held::Watched,
        executed: None,
    }
}

/// `count` instances of the service `name`, on `count` of the nodes from `first` on.
pub fn instances(name: &str, first: usize, count: usize) -> Vec<Instance> {
    let instance = |at: usize| Instance {
        id: format!("{name}-{at:05}-5f3a9c"),
        node: node((first + at) % NODES),
        // Instances of one service on one node differ by port, as under a scheduler.
        address: None,
        port: 20_000 + (first + at / NODES) as u16 % 12_000,
        ports: Vec::new(),
        tagged: None,
        tags: TAGS.iter().map(|tags| tags[at % tags.len()].to_owned()).collect(),
        weights: Weights::default(),
        health: Health::Passing,
        worst: None,
    };
    (0..count).map(instance).collect()
}

/// The name of service `number`.
pub fn service_name(number: usize) -> String {
    format!("team{}-service-{number:05}", number % 40)
}

fn node(number: usize) -> Node {
    let ip = Ipv4Addr::from_bits(0x0a00_0000 + 256 + number as u32);
    let name = format!("node-{number:05}.rack{}", number % 32);
    Node::new(name, Address::Ip(IpAddr::V4(ip)))
}

fn zone() -> Zone {
    Zone::new("consul").expect("consul is a zone")
}

/// What `instances` spreads over; more than the largest service has instances.
pub const NODES: usize = 12_000;

/// Of each row, an instance has one.
const TAGS: [&[&str]; 3] = [&["v1", "v2"], &["zone-a", "zone-b", "zone-c"], &["http"]];

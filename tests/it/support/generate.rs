//! Random catalogues and queries for the property tests, the same in every run.
//!
//! The pools of names are small, so that things collide: tags that look like services, services
//! that look like tags, datacenters that look like words, names that hold kind words, dots and odd
//! letter case, hosts that lead back into the zone. Which names a catalogue may have data for is
//! told by `names`; how a question is written, here.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fingerpost::catalog::change::Held;
use fingerpost::catalog::model::{Address, Health, Instance, NamedPort, Node, Tagged, Weights};
use fingerpost::catalog::queries::{Queries, QueryEntry};
use fingerpost::catalog::{Change, Executed, Form};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::RngSeed;

pub use names::reverse_name;

/// So many cases, drawn from a fixed seed; nothing is written to disk.
pub fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x0f19_e4b0_57a1_d053),
        // A catalogue that fails is worth half a minute of making it small.
        max_shrink_time: 30_000,
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
    /// What was heard of names in no list; no two are the same.
    pub unlisted: Vec<Unlisted>,
    /// The prepared queries; `None` where they are not known.
    pub queries: Option<Vec<QueryEntry>>,
}

/// What was heard of a name in no list.
#[derive(Clone, Debug)]
pub struct Unlisted {
    /// Any but [`Form::Service`].
    pub form: Form,
    /// As a change tells it: of a peer's service, both with a dot.
    pub name: String,
    /// None where Consul denied it.
    pub instances: Vec<Instance>,
    /// Of a prepared query.
    pub executed: Option<Executed>,
}

impl World {
    /// What a source would report of it.
    pub fn changes(&self) -> Vec<Change> {
        let names = self.places.iter().map(|place| place.name.clone()).collect();
        let mut changes = vec![Change::Datacenters { local: self.places[0].name.clone(), names }];
        for Place { name: datacenter, nodes, services, unlisted, queries } in &self.places {
            let datacenter = || datacenter.clone();
            let listing = services.iter().map(|(name, instances)| (name.clone(), tags(instances)));
            changes.push(Change::Services { datacenter: datacenter(), listing: listing.collect() });
            changes.push(Change::Nodes { datacenter: datacenter(), nodes: nodes.clone() });
            changes
                .extend(services.iter().map(|(name, all)| told(&datacenter(), name, all.clone())));
            changes.extend(unlisted.iter().map(|unlisted| unlisted.change(&datacenter())));
            let queries = queries.clone().map(Queries::new);
            changes.push(Change::Queries { datacenter: datacenter(), queries });
        }
        changes
    }

    /// The same with each instance as `change` leaves it; without those for which it is false.
    pub fn retain(mut self, mut change: impl FnMut(&mut Instance) -> bool) -> Self {
        for place in &mut self.places {
            place.services.iter_mut().for_each(|(_, all)| all.retain_mut(&mut change));
            place.unlisted.iter_mut().for_each(|it| it.instances.retain_mut(&mut change));
        }
        self
    }
}

impl Unlisted {
    /// What a source reports of it.
    pub fn change(&self, datacenter: &str) -> Change {
        Change::Service {
            datacenter: datacenter.to_owned(),
            form: self.form,
            service: self.name.clone(),
            instances: self.instances.clone(),
            held: Held::Watched,
            executed: self.executed.clone(),
        }
    }
}

/// What a source reports of a service.
pub fn told(datacenter: &str, service: &str, instances: Vec<Instance>) -> Change {
    Change::Service {
        datacenter: datacenter.to_owned(),
        service: service.to_owned(),
        instances,
        held: Held::Watched,
        form: Form::Service,
        executed: None,
    }
}

/// A catalogue of two datacenters.
pub fn world() -> impl Strategy<Value = World> {
    let other =
        select(vec!["dc2", "EU-west", "ns", "service", "node", "dc", "port", "peer", "web"]);
    (place("dc1"), other.prop_flat_map(place))
        .prop_map(|(local, other)| World { places: vec![local, other] })
}

fn place(name: &'static str) -> impl Strategy<Value = Place> {
    let services = prop::collection::btree_map(select(&SERVICES[..]), instances(), 0..4);
    (nodes(), services, all_unlisted(), queries()).prop_map(
        move |(nodes, services, unlisted, queries)| Place {
            name: name.to_owned(),
            nodes,
            services: numbered(services),
            unlisted,
            queries,
        },
    )
}

/// The services, each ID on one of them alone.
fn numbered(services: BTreeMap<&str, Vec<Instance>>) -> Vec<(String, Vec<Instance>)> {
    let numbered = |(number, (name, mut instances)): (usize, (&str, Vec<Instance>))| {
        instances.iter_mut().for_each(|instance| instance.id += &format!("-{number}"));
        (name.to_owned(), instances)
    };
    services.into_iter().enumerate().map(numbered).collect()
}

/// Some nodes, by name.
pub fn nodes() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec((any::<bool>(), node()), NODES.len()).prop_map(|drawn| {
        let named = NODES.iter().zip(drawn).filter(|(_, (is_there, _))| *is_there);
        named.map(|(name, (_, node))| Node { name: (*name).to_owned(), ..node }).collect()
    })
}

/// The instances of one service, on any node.
pub fn instances() -> impl Strategy<Value = Vec<Instance>> {
    prop::collection::vec(instance(), 0..4).prop_map(|mut instances| {
        for (at, instance) in instances.iter_mut().enumerate() {
            // In the order of letters whatever their case, and in no other.
            instance.id = format!("{}-{at}", if at % 2 == 0 { "id" } else { "ID" });
        }
        instances
    })
}

/// The prepared queries of a datacenter, or that they are not known.
pub fn queries() -> impl Strategy<Value = Option<Vec<QueryEntry>>> {
    prop::option::of(subsequence(&QUERIES[..], 0..4)).prop_map(|names| {
        let entry = |name: &str| QueryEntry {
            name: name.trim_end_matches('*').to_owned(),
            id: format!("id-of-{}", name.trim_end_matches('*')),
            is_template: name.ends_with('*'),
            near: String::new(),
            modified: 1,
        };
        names.map(|names| names.into_iter().map(entry).collect())
    })
}

/// What was heard of some names in no list.
pub fn all_unlisted() -> impl Strategy<Value = Vec<Unlisted>> {
    prop::collection::btree_map(0..Form::UNLISTED.len() * 5, (instances(), executed()), 0..4)
        .prop_map(|heard| {
            heard.into_iter().map(|(at, (all, how))| unlisted(at, all, how)).collect()
        })
}

/// What was heard of one name in no list.
pub fn some_unlisted() -> impl Strategy<Value = Unlisted> {
    (0..Form::UNLISTED.len() * 5, instances(), executed())
        .prop_map(|(at, instances, executed)| unlisted(at, instances, executed))
}

fn unlisted(at: usize, instances: Vec<Instance>, executed: Executed) -> Unlisted {
    let form = Form::UNLISTED[at / 5];
    let is_query = form == Form::Query;
    let name = if is_query { EXECUTED[at % 5] } else { SERVICES[at % 5] };
    let name = if form == Form::Peer { format!("{name}.west") } else { name.to_owned() };
    Unlisted { form, name, instances, executed: is_query.then_some(executed) }
}

fn executed() -> impl Strategy<Value = Executed> {
    (select(vec!["dc1", "dc2"]), any::<bool>()).prop_map(|(datacenter, is_sorted)| Executed {
        datacenter: datacenter.to_owned(),
        service: "web".to_owned(),
        ttl_secs: Some(3),
        is_sorted,
    })
}

fn instance() -> impl Strategy<Value = Instance> {
    let tags = subsequence(&TAGS[..], 0..4);
    let ports = prop::collection::vec((select(&PORTS[..]), 7000..7003_u16), 0..3);
    let weights = (0..3_u16, 0..3_u16);
    let on = (select(&NODES[..]), node());
    let kinds = (tags, health(), weights, ports);
    (on, prop::option::weighted(0.6, address()), 0..2_u16, tagged(), kinds).prop_map(
        |((name, node), address, port, tagged, (tags, health, weights, ports))| Instance {
            id: String::new(),
            node: Node { name: name.to_owned(), ..node },
            address,
            port,
            ports: ports.into_iter().map(|(name, port)| named(name, port)).collect(),
            tagged,
            tags: tags.into_iter().map(str::to_owned).collect(),
            weights: Weights { passing: weights.0, warning: weights.1 },
            health,
            worst: None,
        },
    )
}

fn named(name: &str, port: u16) -> NamedPort {
    NamedPort { name: name.to_owned(), port }
}

/// A node that has no name yet.
fn node() -> impl Strategy<Value = Node> {
    let meta = subsequence(&META[..], 0..4);
    (address(), tagged(), meta).prop_map(|(address, tagged, meta)| Node {
        name: String::new(),
        address,
        tagged,
        meta: meta.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    })
}

fn tagged() -> impl Strategy<Value = Option<Box<Tagged>>> {
    let address = || prop::option::weighted(0.3, address());
    let all =
        (address(), address(), address(), address(), address(), address(), 0..2_u16, address());
    prop::option::weighted(0.3, all).prop_map(|all| {
        let (lan, lan_ipv4, lan_ipv6, wan, wan_ipv4, wan_ipv6, wan_port, mesh) = all?;
        let tagged = Tagged { lan, lan_ipv4, lan_ipv6, wan, wan_ipv4, wan_ipv6, wan_port, mesh };
        Some(Box::new(tagged))
    })
}

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        6 => (1..9_u8).prop_map(|last| ip(Ipv4Addr::new(10, 9, 0, last))),
        3 => (1..9_u16).prop_map(|last| ip(Ipv6Addr::new(0xfd00, 0, 0, 9, 0, 0, 0, last))),
        // In no reverse zone of ours.
        1 => Just(ip(Ipv4Addr::new(192, 0, 2, 1))),
        2 => select(&HOSTS[..]).prop_map(|host| Address::Host(host.to_owned())),
    ]
}

fn health() -> impl Strategy<Value = Health> {
    select(vec![Health::Passing, Health::Unknown, Health::Warning, Health::Critical])
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
    message(&format!("{name}.Consul"), qtype, edns.map(|payload| (payload, &[][..])))
}

/// A query with RD for `name`, and an OPT record with this size and these options.
pub fn message(name: &str, qtype: u16, edns: Option<(u16, &[u8])>) -> Vec<u8> {
    let additional = u8::from(edns.is_some());
    let mut bytes = vec![0x1d, 0x1d, 1, 0, 0, 1, 0, 0, 0, 0, 0, additional];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&qtype.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    if let Some((payload, options)) = edns {
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&payload.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0]);
        bytes.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(options);
    }
    bytes
}

/// Services: plain, odd case, like a tag's label, like a kind, like a datacenter, like a word.
/// The first five are also heard of in no list.
pub const SERVICES: [&str; 14] = [
    "web", "Api", "_v1", "port", "service", "my_svc", "_web", "_TCP", "node", "dc1", "dc",
    "default", "query", "peer",
];

/// Tags: plain, odd case, dotted, one the end of another, with underscores, like a service, like a
/// kind, like a port.
pub const TAGS: [&str; 14] = [
    "v1",
    "V2",
    "a",
    "b",
    "a.b",
    "x.A.b",
    "_v1",
    "_tcp",
    "udp",
    "web",
    "service",
    "canary.node",
    "port",
    "http.port",
];

/// Nodes: plain, odd case, dotted, one another's parents, with kind words in them.
pub const NODES: [&str; 9] =
    ["n1", "N6", "Zed", "outside", "node.dots", "Two.node.dots", "dots", "a.service", "x.addr.y"];

/// Ports: plain, odd case, like a tag, like their own word, dotted.
pub const PORTS: [&str; 5] = ["http", "Admin", "v1", "port", "a.http"];

/// Prepared queries, those with a star templates: plain, dotted, one the end of another, with
/// words of the grammar.
pub const QUERIES: [&str; 9] =
    ["geo", "plain.dotted", "dotted", "web.query", "_v1", "t-*", "t-long.*", "a.*", "*"];

/// Names that queries are executed for.
const EXECUTED: [&str; 5] = ["geo", "plain.dotted", "t-x.y", "id-of-geo", "a.b.query.c"];

/// Metadata: plain, to be escaped, two with one text, empty.
const META: [(&str, &str); 6] = [
    ("a=b", "c`d"),
    ("empty", ""),
    ("k", "v"),
    ("rfc1035-a", "hello"),
    ("rfc1035-b", "hello"),
    ("rfc1035-empty", ""),
];

/// Hosts: elsewhere, twice the same, no names at all, and in the zone: of every kind, missing, and
/// the zone itself.
pub const HOSTS: [&str; 18] = [
    "www.example.com",
    "WWW.example.com.",
    "a..b",
    "10.1.0.2:80",
    "web.service.consul",
    "WEB.service.consul.",
    "api.service.consul",
    "v1.web.service.dc1.consul",
    "n1.node.consul",
    "N6.node.dc1.consul",
    "0a000007.addr.consul",
    "geo.query.consul",
    "web.connect.consul",
    "web.virtual.consul",
    "nope.service.consul",
    "consul",
    "ns.consul",
    "web.service.alt.example",
];

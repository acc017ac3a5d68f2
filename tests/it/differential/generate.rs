//! A seed becomes a [`World`]: the same seed, the same world.
//!
//! A few dozen services, nodes and tags have names that a server may trip over; the rest, some
//! hundreds, are there so that nothing is small. Addresses collide on purpose.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::differential::world::{Instance, Kind, Node, Place, PreparedQuery, Settings, World};

/// The world of `seed`, with about `size` nodes.
pub fn world(seed: u64, size: usize) -> World {
    let mut rng = Rng::with_seed(seed);
    let settings = settings(&mut rng, seed);
    let near = place(&mut rng, "dc1", size);
    let far = place(&mut rng, "dc2", size / 4);
    let mut places = [near, far];
    if !settings.has_tagged {
        for place in &mut places {
            place.nodes.iter_mut().for_each(|node| node.tagged.clear());
            place.instances.iter_mut().for_each(|instance| instance.tagged.clear());
        }
    }
    World { seed, settings, places, queries: queries(&mut rng) }
}

fn settings(rng: &mut Rng, seed: u64) -> Settings {
    Settings {
        only_passing: rng.u8(..4) == 0,
        node_ttl: 5,
        service_ttl: vec![("web", 7), ("w*", 3), ("svc-1*", 11), ("external", 13)],
        min_ttl: 17,
        a_record_limit: *pick(rng, &[0, 0, 2, 4]),
        udp_answer_limit: *pick(rng, &[3, 3, 5, 20]),
        enable_truncate: rng.bool(),
        watches_all: seed % 4 < 2,
        has_tagged: seed.is_multiple_of(2),
        translate_wan_addrs: rng.bool(),
    }
}

fn place(rng: &mut Rng, dc: &'static str, size: usize) -> Place {
    let mut nodes: Vec<Node> = NODES.iter().map(|name| node(rng, name)).collect();
    nodes.extend((0..size).map(|number| node(rng, &format!("node-{number:03}"))));
    // A node whose name can be written without escapes, with all that its twin has.
    let spaced = nodes.iter().find(|node| node.name == "sp ace").unwrap().clone();
    nodes.push(Node { name: "twin-sp-ace".to_owned(), ..spaced });
    for (name, address) in EXTERNAL_NODES {
        let tagged = BTreeMap::new();
        nodes.push(Node { address: (*address).to_owned(), tagged, ..node(rng, name) });
    }

    let mut place = Place { dc, nodes, instances: Vec::new(), ingress: Vec::new() };
    for service in SERVICES.iter().filter(|service| **service != FAR || dc == "dc2") {
        for _ in 0..rng.usize(1..7) {
            add(rng, &mut place, service);
        }
    }
    for number in 0..size {
        for _ in 0..rng.usize(1..4) {
            add(rng, &mut place, &format!("svc-{number:03}"));
        }
    }
    for _ in 0..size {
        add(rng, &mut place, "many");
    }
    if dc == "dc1" {
        add_external(rng, &mut place);
        add_on_external(rng, &mut place);
        add_connect(rng, &mut place);
    }
    place
}

fn node(rng: &mut Rng, name: &str) -> Node {
    let mut tagged = BTreeMap::new();
    if rng.u8(..8) == 0 {
        for (key, range) in [("lan_ipv4", 0), ("lan_ipv6", 1), ("wan", 0), ("wan_ipv4", 0)] {
            if rng.bool() {
                tagged.insert(key, spelled(rng, range));
            }
        }
    }
    let mut meta = BTreeMap::new();
    if rng.u8(..3) == 0 {
        for (key, value) in META {
            if rng.bool() {
                meta.insert(*key, *value);
            }
        }
    }
    let mut checks = Vec::new();
    match rng.u8(..16) {
        0 => checks.push(("_node_maintenance", "critical")),
        1 => checks.push(("disk", "critical")),
        2 => checks.push(("disk", "warning")),
        3 | 4 => checks.push(("disk", "passing")),
        _ => (),
    }
    let family = u8::from(rng.u8(..5) == 0);
    Node { name: name.to_owned(), address: spelled(rng, family), tagged, meta, checks }
}

/// Adds an instance of `service`, or two alike; gives what was added.
fn add<'p>(rng: &mut Rng, place: &'p mut Place, service: &str) -> &'p mut [Instance] {
    let start = place.instances.len();
    // Instances of one service have one kind of address, so that no reply is left to chance.
    let node = rng.usize(..place.nodes.len() - EXTERNAL_NODES.len());
    let mut tags: Vec<String> = Vec::new();
    for _ in 0..rng.usize(..4) {
        let tag = pick(rng, &TAGS);
        if !tags.iter().any(|other| other == tag) {
            tags.push((*tag).to_owned());
        }
    }
    twin_tags(&mut tags);
    let mut tagged = BTreeMap::new();
    if rng.u8(..10) == 0 {
        for (key, family) in [("lan_ipv4", 0), ("lan_ipv6", 1), ("wan", 0), ("lan", 0)] {
            if rng.bool() {
                tagged.insert(key, (spelled(rng, family), rng.u16(1000..1100)));
            }
        }
    }
    let checks = match rng.u8(..10) {
        0 => vec!["critical"],
        1 => vec!["passing", "warning"],
        2 => vec!["unknown"],
        3 => vec!["warning"],
        4..=6 => vec!["passing"],
        _ => vec![],
    };
    let family = u8::from(rng.u8(..4) == 0);
    let address = if rng.bool() { String::new() } else { address(rng, family) };
    // Consul sends no reply that has a PTR to such a name: it cannot be written.
    let address = if service.len() > 63 { String::new() } else { address };
    let instance = Instance {
        node,
        id: format!("{service}-{}", place.instances.len()),
        service: service.to_owned(),
        address,
        port: *pick(rng, &[0, 80, 443, 8080, 8080]),
        tags,
        weights: (rng.u16(1..5), rng.u16(..4)),
        tagged,
        checks,
        kind: Kind::Typical,
    };
    if rng.u8(..12) == 0 {
        // The same node, address and port once more, perhaps with another weight.
        let id = format!("{}-again", instance.id);
        let again = Instance { id, weights: (rng.u16(1..5), 1), ..instance.clone() };
        twin(place, again);
    }
    twin(place, instance);
    &mut place.instances[start..]
}

/// Adds `instance`; where its name needs escapes, also as a service whose name needs none.
fn twin(place: &mut Place, instance: Instance) {
    if let Some((_, plain)) = TWINS.iter().find(|(name, _)| *name == instance.service) {
        let id = format!("twin-{}", instance.id);
        place.instances.push(Instance { id, service: (*plain).to_owned(), ..instance.clone() });
    }
    place.instances.push(instance);
}

/// Gives an instance with tags that Consul's DNS cannot ask for one that it can.
fn twin_tags(tags: &mut Vec<String>) {
    let has = |tag: &str| tags.iter().any(|other| other.eq_ignore_ascii_case(tag));
    let mut more = Vec::new();
    if has(SPACED_TAG.0) {
        more.push(SPACED_TAG.1.to_owned());
    }
    if has(PAIR.0) && has(PAIR.1) {
        more.push(PAIR_TAG.to_owned());
    }
    tags.extend(more);
}

/// Services elsewhere: hostnames out of the zone, in it, and what only looks like one.
fn add_external(rng: &mut Rng, place: &mut Place) {
    for (service, hosts) in EXTERNAL_SERVICES {
        for host in *hosts {
            for instance in add(rng, place, service) {
                instance.address = (*host).to_owned();
                instance.tagged.clear();
                instance.checks.clear();
                instance.node = 0;
            }
        }
    }
}

/// Services of nodes that are elsewhere themselves.
fn add_on_external(rng: &mut Rng, place: &mut Place) {
    let first = place.nodes.len() - EXTERNAL_NODES.len();
    for (node, service) in (first..).zip(["on-ext-1", "on-ext-2"]) {
        place.nodes[node].checks.clear();
        for instance in add(rng, place, service) {
            instance.address.clear();
            instance.tagged.clear();
            instance.checks.clear();
            instance.node = node;
        }
    }
}

fn add_connect(rng: &mut Rng, place: &mut Place) {
    for service in ["web", "my_svc", "UPPER", "svc-000", "svc-001"] {
        for _ in 0..rng.usize(1..4) {
            for instance in add(rng, place, &format!("{service}-proxy")) {
                instance.kind = Kind::Proxy(service.to_owned());
                instance.port = 21_000;
            }
        }
    }
    add(rng, place, "native")[0].kind = Kind::Native;
    for _ in 0..3 {
        for instance in add(rng, place, "gateway") {
            (instance.kind, instance.port) = (Kind::IngressGateway, 8443);
        }
    }
    place.ingress = ["web", "svc-000"].map(str::to_owned).to_vec();
}

fn queries(rng: &mut Rng) -> Vec<PreparedQuery> {
    let mut queries = Vec::new();
    let mut query = |name: &str, service: &str| PreparedQuery {
        name: name.to_owned(),
        is_template: false,
        service: service.to_owned(),
        tags: Vec::new(),
        only_passing: rng.bool(),
        failover: Vec::new(),
        ttl: rng.bool().then_some(23),
    };
    queries.push(query("q-web", "web"));
    queries.push(query("Q-Upper", "UPPER"));
    queries.push(query("q.dot", "my_svc"));
    queries.push(query("q-none", "no-such-service"));
    queries.push(query("q-many", "many"));
    queries.push(PreparedQuery { tags: vec!["v1".to_owned()], ..query("q-v1", "web") });
    queries.push(PreparedQuery { tags: vec!["!v1".to_owned()], ..query("q-not-v1", "web") });
    let far = vec!["dc2"];
    queries.push(PreparedQuery { failover: far, ..query("q-failover", FAR) });
    queries.push(PreparedQuery { failover: vec!["dc2"], ..query("q-near", "web") });
    let service = "${match(1)}".to_owned();
    queries.push(PreparedQuery { is_template: true, service, ..query("geo-", "") });
    queries
}

/// One of a few addresses of the family, so that they collide; 0 is IPv4.
fn address(rng: &mut Rng, family: u8) -> String {
    match family {
        0 => format!("10.{}.0.{}", rng.u8(..4), rng.u8(1..60)),
        _ => format!("fd00::{:x}", rng.u16(1..60)),
    }
}

/// The same, now and then an address of IPv4 as IPv6 has it. Not for services: of their addresses
/// Consul compares the text with a reverse name, so that such a one has none.
fn spelled(rng: &mut Rng, family: u8) -> String {
    match address(rng, family) {
        address if family == 0 && rng.u8(..12) == 0 => format!("::ffff:{address}"),
        address => address,
    }
}

fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}

/// A service that the first datacenter lacks.
const FAR: &str = "only-in-dc2";

/// Names of services that something is odd about.
pub const SERVICES: [&str; 22] = [
    "web",
    "Web2",
    "my_svc",
    "a-b",
    "x",
    "node",
    "service",
    "query",
    "tcp",
    "dc1",
    "_odd",
    "_v1",
    "dot.svc",
    "UPPER",
    "spa ce",
    "gr\u{fc}n",
    LONG,
    TOO_LONG,
    "twin",
    "Twin",
    "ns",
    FAR,
];

const LONG: &str = "lllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll";
const TOO_LONG: &str = "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm";

/// Services whose names need escapes, and services that are the same without.
pub const TWINS: [(&str, &str); 2] = [("spa ce", "spa-ce-twin"), ("gr\u{fc}n", "gr-n-twin")];

/// Tags that something is odd about.
pub const TAGS: [&str; 10] =
    ["v1", "V2", "a.b", "tcp", "_sip._udp", "x y", "long.dotted.tag", "udp", "node", "_u"];

/// A tag that needs escapes, and one that is on the same instances.
pub const SPACED_TAG: (&str, &str) = ("x y", "twin-x-y");

/// Two tags, and one that is where both are.
pub const PAIR: (&str, &str) = ("v1", "v2");
/// See [`PAIR`].
pub const PAIR_TAG: &str = "pair-v1-v2";

/// Names of nodes that something is odd about.
pub const NODES: [&str; 8] =
    ["n1", "Node.Dots", "n-3", "UP", NODE_LONG, "sp ace", "n.2.3", "service"];

const NODE_LONG: &str = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";

/// Nodes without an agent, by a hostname.
const EXTERNAL_NODES: &[(&str, &str)] =
    &[("ext-1", "host.example.com"), ("ext-2", "n1.node.consul")];

/// Services whose address is a hostname.
const EXTERNAL_SERVICES: &[(&str, &[&str])] = &[
    ("external", &["www.example.com"]),
    ("externals", &["a.example.com", "b.example.com", "b.example.com"]),
    ("literal", &["10.1.0.2:80"]),
    ("mixed", &["www.example.com", "10.3.0.77"]),
    ("chain", &["n1.node.consul"]),
    ("chained", &["chain.service.consul"]),
    ("loop", &["loop.service.dc1.consul"]),
];

/// Metadata, with what RFC 1464 escapes.
const META: &[(&str, &str)] =
    &[("owner", "a \"team\""), ("a=b", "c`d"), ("rfc1035-text", "v=hello"), ("empty", "")];

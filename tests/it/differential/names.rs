//! Which names are asked for: every form of the grammar, about a world's odd and ordinary things.

use std::net::IpAddr;

use fastrand::Rng;

use crate::differential::generate::{PAIR_TAG, SERVICES, SPACED_TAG, TAGS, TWINS};
use crate::differential::name::Labels;
use crate::differential::world::{Instance, KINDS, World};

/// The form of a name: what a rule is about.
#[allow(missing_docs, reason = "the examples in `Names` say it")]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Form {
    Addr,
    AltDomain,
    AltNode,
    Apex,
    Bare,
    Chaos,
    Connect,
    Escaped,
    EscapedNode,
    Foreign,
    Ingress,
    Kind,
    Marked,
    NameServer,
    Node,
    Peer,
    Query,
    QueryMarked,
    Reverse,
    Rfc2782,
    ScopeWords,
    Service,
    Short,
    TagPair,
    Tagged,
    Virtual,
}

/// A name to ask for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its form.
    pub form: Form,
    /// As it is asked, the zone included.
    pub name: Labels,
    /// A name that Consul answers as this one is to be answered, where Consul does not know it.
    pub same: Option<Labels>,
    /// The service or node that it is about, if any, and in which of the world's places.
    pub about: Option<(usize, String)>,
}

impl Form {
    /// Whether it asks for the instances of a service.
    pub fn is_of_instances(self) -> bool {
        matches!(
            self,
            Self::AltDomain
                | Self::Connect
                | Self::Escaped
                | Self::Ingress
                | Self::Marked
                | Self::Query
                | Self::QueryMarked
                | Self::Rfc2782
                | Self::ScopeWords
                | Self::Service
                | Self::Short
                | Self::TagPair
                | Self::Tagged
        )
    }

    /// Whether it asks for a node.
    pub fn is_of_node(self) -> bool {
        matches!(self, Self::AltNode | Self::EscapedNode | Self::Node)
    }
}

/// All names of `world`, in every form, some in odd letter case.
pub fn subjects(world: &World, rng: &mut Rng) -> Vec<Subject> {
    let mut names = Names { rng, subjects: Vec::new() };
    names.zone();
    names.nodes(world);
    names.addresses(world);
    names.services(world);
    names.marks();
    names.connect();
    names.queries();
    names.parents_of_queries();
    names.elsewhere(world);
    names.subjects
}

struct Names<'r> {
    rng: &'r mut Rng,
    subjects: Vec<Subject>,
}

impl Names<'_> {
    fn zone(&mut self) {
        for name in ["", "", "", ""] {
            self.add(Form::Apex, name, None, None);
        }
        self.add(Form::NameServer, "ns", None, None);
        for name in ["dc1", "DC2", "dc9", "foo", "_tcp", "_v1", "_none", "_u", "dc", "dc1.dc"] {
            // Consul takes a mark alone for a service, where SRV is asked.
            let same = name.starts_with('_').then(|| format!("{name}.service"));
            let form = if same.is_some() { Form::Marked } else { Form::Bare };
            self.add(form, name, same.as_deref(), Some((0, name.to_owned())));
        }
        for kind in KINDS {
            for scope in SCOPES {
                self.add(Form::Kind, &join(kind, scope), None, None);
            }
        }
    }

    fn nodes(&mut self, world: &World) {
        for node in world.places[0].nodes.iter().filter(|node| !node.name.contains(' ')) {
            for scope in self.scopes(3) {
                self.of(Form::Node, &node.name, &format!("{}.node", node.name), scope, None);
            }
        }
        for name in ["dots", "2.3", "3", "nope", "x.n1", "node"] {
            for scope in SCOPES {
                self.add(Form::Node, &join(&format!("{name}.node"), scope), None, None);
            }
        }
        for scope in SCOPES {
            let same = join("twin-sp-ace.node", scope);
            let about = Some((place_of(scope), "twin-sp-ace".to_owned()));
            self.add(Form::EscapedNode, &join("sp ace.node", scope), Some(&same), about);
        }
    }

    fn addresses(&mut self, world: &World) {
        for hex in HEX {
            for scope in ["", "dc1", "Dc2", "dc9", "x.y"] {
                self.add(Form::Addr, &join(&format!("{hex}.addr"), scope), None, None);
            }
        }
        for name in REVERSE_NAMES {
            self.add_absolute(Form::Reverse, name);
        }
        let near = &world.places[0];
        let nodes = near.nodes.iter().map(|node| &node.address);
        let services = near.instances.iter().map(|instance| &instance.address).take(SERVICES_MAX);
        for ip in nodes.chain(services).filter_map(|address| address.parse::<IpAddr>().ok()) {
            let ip = ip.to_canonical();
            self.add_absolute(Form::Reverse, &reverse_name(ip));
        }
    }

    fn services(&mut self, world: &World) {
        let mut services: Vec<String> = SERVICES.map(str::to_owned).to_vec();
        for name in ["nope", "external", "externals", "literal", "mixed", "chain", "chained"] {
            services.push(name.to_owned());
        }
        services.extend(["loop", "many", "consul", "gateway", "web-proxy"].map(str::to_owned));
        services.extend(["on-ext-1", "on-ext-2"].map(str::to_owned));
        let odd: Vec<&str> = TAGS.into_iter().chain(TAGS_OF_NOBODY).collect();
        for service in &services {
            self.service(service, &odd);
        }
        let instances = &world.places[0].instances;
        let ordinary: Vec<&Instance> =
            instances.iter().filter(|instance| instance.service.starts_with("svc-")).collect();
        for _ in 0..ORDINARY {
            let instance = ordinary[self.rng.usize(..ordinary.len())];
            let mut tags: Vec<&str> = instance.tags.iter().map(String::as_str).collect();
            tags.push("none");
            self.service(&instance.service, &tags);
        }
    }

    /// Every form of one service's name.
    fn service(&mut self, service: &str, tags: &[&str]) {
        let plain = TWINS.iter().find(|(name, _)| *name == service).map(|(_, twin)| *twin);
        let (form, twin) = (|form| if plain.is_some() { Form::Escaped } else { form }, plain);
        let twin = twin.unwrap_or(service);
        for scope in self.scopes(4) {
            let same = plain.map(|plain| join(&format!("{plain}.service"), scope));
            self.of(form(Form::Service), service, &format!("{service}.service"), scope, same);
            self.short(service, service, twin, scope);
        }
        for (scope, same) in SCOPES_IN_WORDS.iter().filter(|_| plain.is_none()) {
            let same = same.map(|same| join(&format!("{service}.service"), same));
            self.of(Form::ScopeWords, service, &format!("{service}.service"), scope, same);
        }
        if plain.is_none() {
            self.of(Form::Peer, service, &format!("{service}.service"), "dc1.peer", None);
        }
        for tag in tags {
            let is_plain = !tag.contains(' ');
            let asked = if is_plain { tag } else { SPACED_TAG.1 };
            let twin_of = |head: String| (!is_plain || plain.is_some()).then_some(head);
            for scope in self.scopes(1) {
                let same = twin_of(join(&format!("{asked}.{twin}.service"), scope));
                let kind = if same.is_some() { Form::Escaped } else { Form::Tagged };
                self.of(kind, service, &format!("{tag}.{service}.service"), scope, same);
            }
            for scope in self.scopes(1) {
                let same = twin_of(join(&format!("_{twin}._{asked}.service"), scope));
                let kind = if same.is_some() { Form::Escaped } else { Form::Rfc2782 };
                self.of(kind, service, &format!("_{service}._{tag}.service"), scope, same);
                let same = join(&format!("_{twin}._{asked}.service"), scope);
                if !tag.contains('.') && !service.contains('.') && !scope.contains('.') {
                    let head = format!("_{service}._{tag}");
                    self.of(Form::Marked, service, &head, scope, Some(same));
                }
            }
            let scope = self.scopes(1)[0];
            self.short(service, &format!("{tag}.{service}"), &format!("{asked}.{twin}"), scope);
        }
        for pair in ["v1.v2", "V2.v1"] {
            let same = Some(format!("{PAIR_TAG}.{service}.service"));
            if plain.is_none() {
                self.of(Form::TagPair, service, &format!("{pair}.{service}.service"), "", same);
            }
        }
    }

    /// The short form, where none of its labels is a kind word.
    fn short(&mut self, service: &str, head: &str, twin: &str, scope: &str) {
        let is_free = !head.split('.').any(|label| KINDS.contains(&label));
        if is_free && !scope.is_empty() && !scope.contains('.') {
            let same = join(&format!("{twin}.service"), scope);
            self.of(Form::Short, service, head, scope, Some(same));
        }
    }

    /// Parents of names, and services called like them.
    fn marks(&mut self) {
        for tag in ["_tcp", "_v1", "_V2", "_none", "_udp", "_u", "_node"] {
            for scope in SCOPES {
                self.of(Form::Service, tag, &format!("{tag}.service"), scope, None);
                self.of(Form::Rfc2782, tag, &format!("_{tag}._tcp.service"), scope, None);
                if !scope.is_empty() && !scope.contains('.') {
                    let same = join(&format!("{tag}.service"), scope);
                    self.of(Form::Short, tag, tag, scope, Some(same));
                }
            }
        }
    }

    fn connect(&mut self) {
        for service in ["web", "my_svc", "UPPER", "svc-000", "native", "nope", "v1.web", "x"] {
            for scope in SCOPES {
                let name = service.rsplit('.').next().unwrap_or_default();
                self.of(Form::Connect, name, &format!("{service}.connect"), scope, None);
                self.of(Form::Ingress, name, &format!("{service}.ingress"), scope, None);
                self.of(Form::Virtual, name, &format!("{service}.virtual"), scope, None);
            }
        }
    }

    fn queries(&mut self) {
        for (query, service) in QUERIES {
            for scope in SCOPES {
                self.of(Form::Query, service, &format!("{query}.query"), scope, None);
            }
            let same = Some(format!("{query}.query"));
            self.of(Form::QueryMarked, service, &format!("_{query}._tcp.query"), "", same);
        }
    }

    fn parents_of_queries(&mut self) {
        for name in ["_tcp.query", "dot._tcp.query", "nope._tcp.query"] {
            for _ in 0..3 {
                self.add(Form::Query, name, None, None);
            }
        }
    }

    fn elsewhere(&mut self, world: &World) {
        for name in ["example.com", "consul.example", "web.service.consul.example", "arpa.test"] {
            self.add_absolute(Form::Foreign, name);
        }
        for name in ["id.server", "version.bind", "Version.BIND"] {
            self.add_absolute(Form::Chaos, name);
        }
        let services = world.places[0].instances.iter().map(|instance| &instance.service);
        let heads = services.filter(|name| name.starts_with("svc-0")).take(20);
        let heads = heads.map(|name| (Form::AltDomain, name.clone(), format!("{name}.service")));
        let nodes = ["n1", "node-001", "Node.Dots", "nope"];
        let nodes = nodes.map(|name| (Form::AltNode, name.to_owned(), format!("{name}.node")));
        for (form, about, head) in heads.chain(nodes) {
            let name = self.oddly(&Labels::new(&format!("{head}.{ALT_DOMAIN}")));
            self.push(Subject { form, name, same: None, about: Some((0, about)) });
        }
    }

    fn of(&mut self, form: Form, about: &str, head: &str, scope: &str, same: Option<String>) {
        let about = Some((place_of(scope), about.to_owned()));
        self.add(form, &join(head, scope), same.as_deref(), about);
    }

    fn add(&mut self, form: Form, name: &str, same: Option<&str>, about: Option<(usize, String)>) {
        let name = self.oddly(&Labels::new(name).below(&zone()));
        let same = same.map(|same| Labels::new(same).below(&zone()));
        self.push(Subject { form, name, same, about });
    }

    fn add_absolute(&mut self, form: Form, name: &str) {
        let name = self.oddly(&Labels::new(name));
        self.push(Subject { form, name, same: None, about: None });
    }

    fn push(&mut self, subject: Subject) {
        let fits = |name: &Labels| name.to_wire().is_some();
        if fits(&subject.name) && subject.same.as_ref().is_none_or(fits) {
            self.subjects.push(subject);
        }
    }

    /// The name as it is, or in a letter case that nobody would type (DNS 0x20).
    fn oddly(&mut self, name: &Labels) -> Labels {
        if self.rng.u8(..3) > 0 {
            return name.clone();
        }
        let rng = &mut *self.rng;
        name.with_each(|byte| match rng.bool() {
            true => byte.to_ascii_uppercase(),
            false => byte.to_ascii_lowercase(),
        })
    }

    fn scopes(&mut self, count: usize) -> Vec<&'static str> {
        let mut scopes = SCOPES.to_vec();
        self.rng.shuffle(&mut scopes);
        scopes.truncate(count);
        scopes
    }
}

/// The zone that both answer for.
pub fn zone() -> Labels {
    Labels::new("consul")
}

/// The name of an address (RFC 1035 §3.5, RFC 3596 §2.5).
pub fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let hex = format!("{:032x}", ip.to_bits());
            let digits = hex.chars().rev().map(|digit| format!("{digit}."));
            digits.collect::<String>() + "ip6.arpa"
        }
    }
}

fn join(head: &str, scope: &str) -> String {
    if scope.is_empty() { head.to_owned() } else { format!("{head}.{scope}") }
}

/// Where names with this scope are looked up.
fn place_of(scope: &str) -> usize {
    usize::from(scope.get(..3).is_some_and(|dc| dc.eq_ignore_ascii_case("dc2")))
}

/// The second name of the zone, as Consul is configured.
pub const ALT_DOMAIN: &str = "alt.test";

/// What is right of the kind word: nothing, a datacenter known or not, and what is no datacenter.
const SCOPES: [&str; 6] = ["", "dc1", "DC1", "dc2", "dc9", "x.y"];

/// Scopes that 1.8.7 does not know, and the scope that each is, if any.
const SCOPES_IN_WORDS: [(&str, Option<&str>); 7] = [
    ("dc1.dc", Some("dc1")),
    ("DC2.dc", Some("dc2")),
    ("dc9.dc", None),
    ("default.ns", Some("")),
    ("default.ap.dc1.dc", Some("dc1")),
    ("other.ns", None),
    ("group.sg", None),
];

/// Names of the zone that stand as addresses in the catalogue.
pub const HOSTS: [&str; 3] = ["chain.service.consul", "loop.service.dc1.consul", "n1.node.consul"];

/// The reverse zone that we are configured with.
pub const REVERSE_ZONE: &str = "10.in-addr.arpa";

const HEX: [&str; 10] = [
    "0a000001",
    "0A00000f",
    "fd000000000000000000000000000006",
    "FD00000000000000000000000000000a",
    "00000000000000000000ffff0a010001",
    "0a0000011",
    "0a0001",
    "zz000001",
    "x.0a000001",
    "nope",
];

/// Tags that no instance has, but that are ends of such, or only where two are.
const TAGS_OF_NOBODY: [&str; 7] = ["none", "b", "tag", "dotted.tag", "A.B", PAIR_TAG, "a.c"];

/// How many ordinary services are asked for.
const ORDINARY: usize = 120;

/// Reverse names of no address, of parents, of other zones.
const REVERSE_NAMES: [&str; 10] = [
    "10.in-addr.arpa",
    "10.in-addr.arpa",
    "0.10.in-addr.arpa",
    "0.1.10.in-addr.arpa",
    "77.10.in-addr.arpa",
    "1.77.0.10.in-addr.arpa",
    "x.in-addr.arpa",
    "1.2.0.192.in-addr.arpa",
    "foo.arpa",
    "1.ip6.arpa",
];

/// Addresses of services whose reverse names are asked for.
const SERVICES_MAX: usize = 100;

/// Prepared queries as they are asked for, and the service that each looks for.
const QUERIES: [(&str, &str); 12] = [
    ("q-web", "web"),
    ("q-upper", "UPPER"),
    ("Q-Upper", "UPPER"),
    ("q.dot", "my_svc"),
    ("dot", ""),
    ("q-none", ""),
    ("q-many", "many"),
    ("q-v1", "web"),
    ("q-not-v1", "web"),
    ("q-failover", "only-in-dc2"),
    ("q-near", "web"),
    ("geo-web", "web"),
];

//! Every name that a catalogue may have data for, by every form of the grammar.

use std::collections::BTreeSet;
use std::net::IpAddr;

use fingerpost::catalog::Form;
use fingerpost::catalog::model::{Address, Instance};

use crate::support::generate::{Place, Unlisted, World, tags};

impl World {
    /// Every name that may have data, by every form of the grammar, the zone left off.
    pub fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::from(["", "ns", "0a000001.addr"].map(str::to_owned));
        for (at, place) in self.places.iter().enumerate() {
            names.extend(place.names(at == 0));
        }
        names.retain(|name| is_name(name));
        names
    }

    /// The reverse names of all addresses that something has.
    pub fn reverse_names(&self) -> BTreeSet<String> {
        let places = self.places.iter();
        places.flat_map(Place::addresses).map(reverse_name).collect()
    }
}

impl Place {
    fn names(&self, is_local: bool) -> Vec<String> {
        let dc = &self.name;
        let mut scopes = vec![
            format!(".{dc}"),
            format!(".{dc}.dc"),
            format!(".default.ns.{dc}.dc"),
            format!(".{dc}.dc.default.ap"),
        ];
        if is_local {
            scopes.extend(["", ".default.ns", ".default.ap.default.ns"].map(str::to_owned));
        }
        // In pairs of words, which a single label is not.
        let mut paired = vec![format!(".{dc}.dc"), format!(".default.ap.{dc}.dc")];
        paired.extend(is_local.then(String::new));
        let bare: Vec<String> = is_local.then(String::new).into_iter().collect();

        let mut names = Vec::new();
        let mut add = |form: &str, scopes: &[String]| {
            names.extend(scopes.iter().map(|scope| format!("{form}{scope}")));
        };
        add("0a000001.addr", &scopes);
        for (service, instances) in &self.services {
            for left in lefts(service, instances) {
                add(&format!("{left}.service"), &scopes);
                // Without the kind: the marks of RFC 2782 need no datacenter.
                let is_marked = left.starts_with('_') && left.matches('.').count() == 1;
                add(&left, &[format!(".{dc}")]);
                add(&left, if is_marked { &bare } else { &[] });
                for port in ports(instances) {
                    add(&format!("{left}.service.{port}.port"), &paired);
                }
            }
        }
        for node in &self.nodes {
            add(&format!("{}.node", node.name), &scopes);
        }
        for Unlisted { form, name, instances, .. } in &self.unlisted {
            match form {
                Form::Connect => {
                    for kind in ["connect", "virtual"] {
                        let scopes = if kind == "virtual" { &paired } else { &scopes };
                        add(&format!("{name}.{kind}"), scopes);
                        add(&format!("any.v1.{name}.{kind}"), scopes);
                    }
                }
                Form::Ingress => add(&format!("{name}.ingress"), &scopes),
                Form::Query => {
                    add(&format!("{name}.query"), &scopes);
                    add(&format!("_{name}._tcp.query"), &scopes);
                }
                // A peer is the local datacenter's.
                Form::Peer if is_local => {
                    let (service, peer) = name.split_once('.').unwrap();
                    let scopes = [format!(".{peer}.peer"), format!(".default.ns.{peer}.peer")];
                    for left in lefts(service, instances) {
                        add(&format!("{left}.service"), &scopes);
                        for port in ports(instances) {
                            add(&format!("{left}.service.{port}.port"), &scopes);
                        }
                    }
                }
                Form::Peer | Form::Service => (),
            }
        }
        names
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let nodes = self.nodes.iter().map(|node| &node.address);
        let instances = self.services.iter().flat_map(|(_, instances)| instances);
        let addresses = nodes.chain(instances.filter_map(|instance| instance.address.as_ref()));
        addresses.filter_map(|address| match address {
            Address::Ip(ip) => Some(*ip),
            Address::Host(_) => None,
        })
    }
}

/// What may stand left of `service` for these instances: the name alone and with its mark, with
/// each tag, with each two tags, with each port.
fn lefts(service: &str, instances: &[Instance]) -> Vec<String> {
    let mut lefts = vec![service.to_owned(), format!("_{service}._tcp")];
    let tags = tags(instances);
    for tag in &tags {
        lefts.push(format!("{tag}.{service}"));
        lefts.push(format!("_{service}._{tag}"));
        for other in tags.iter().filter(|other| *other != tag) {
            lefts.push(format!("{other}.{tag}.{service}"));
        }
    }
    lefts.extend(ports(instances).iter().map(|port| format!("{port}.port.{service}")));
    lefts
}

fn ports(instances: &[Instance]) -> BTreeSet<&str> {
    let ports = instances.iter().flat_map(|instance| &instance.ports);
    ports.map(|port| &*port.name).collect()
}

/// Whether `name` is one in DNS too, with a zone after it.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| (1..=63).contains(&label.len());
    name.is_empty() || name.len() < 230 && name.split('.').all(is_label)
}

/// As RFC 1035 §3.5 and RFC 3596 §2.5 write it.
pub fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let digits: String = ip.octets().iter().map(|octet| format!("{octet:02x}")).collect();
            let reversed = digits.chars().rev().map(|digit| format!("{digit}."));
            reversed.collect::<String>() + "ip6.arpa"
        }
    }
}

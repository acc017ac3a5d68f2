//! Whatever the order in which changes came, what is answered is the catalogue as it is now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fingerpost::answer::Transport;
use fingerpost::catalog::change::Held;
use fingerpost::catalog::model::{Address, Health, Instance, Node};
use fingerpost::catalog::{Change, Form};
use hickory_proto::op::Message;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::support::generate::{NODES, SERVICES, TAGS, config, instances, nodes, query};
use crate::support::straight::{self, Core};

proptest! {
    #![proptest_config(config(2_000))]

    /// Nothing of what was is left: no tag, no parent of a node's name, no instance.
    #[test]
    fn the_way_to_a_catalogue_does_not_show(changes in changes()) {
        let (mut builder, mut known) = (straight::builder(straight::rules()), Known::default());
        for change in changes {
            known.hear(&change);
            builder.apply(change);
        }
        let mut walked = Core::of(builder.snapshot(), straight::policy());
        let mut told = Core::new(straight::rules(), straight::policy(), known.changes());
        for name in names() {
            for qtype in [SRV, ANY] {
                let bytes = query(&name, qtype, None);
                let walked = walked.outcome(&bytes, Transport::Tcp, 1);
                let told = told.outcome(&bytes, Transport::Tcp, 1);
                prop_assert_eq!(walked, told, "{} {}", name, qtype);
            }
        }
    }

    /// At every step, a service answers with the addresses of its instances that are not
    /// critical, and with no other.
    #[test]
    fn critical_instances_are_in_no_answer(changes in changes()) {
        let (mut builder, mut known) = (straight::builder(straight::rules()), Known::default());
        for change in changes {
            known.hear(&change);
            builder.apply(change);
            let mut core = Core::of(builder.snapshot(), straight::policy());
            for (datacenter, place) in &known.places {
                for (service, instances) in &place.instances {
                    let name = format!("{service}.service.{datacenter}");
                    prop_assert_eq!(addresses(&mut core, &name), shown(instances, None), "{}", name);
                    for tag in TAGS {
                        let name = format!("{tag}.{name}");
                        // RFC 2782 reads that name as another service.
                        if service.starts_with('_') && tag.starts_with('_') {
                            continue;
                        }
                        let expected = shown(instances, Some(tag));
                        prop_assert_eq!(addresses(&mut core, &name), expected, "{}", name);
                    }
                }
            }
        }
    }
}

/// The addresses of all answers for `name`, and of all that comes along with them.
fn addresses(core: &mut Core, name: &str) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    for qtype in [SRV, ANY] {
        // A tag that is listed, and that no known instance has, is asked for first.
        let bytes = query(name, qtype, None);
        let Ok(reply) = core.outcome(&bytes, Transport::Tcp, 1) else { continue };
        let message = Message::from_vec(reply).unwrap();
        let records = message.answers.iter().chain(&message.additionals);
        addresses.extend(records.filter_map(|record| record.data.ip_addr()));
    }
    addresses
}

/// The addresses of the instances with `tag` that are not critical.
fn shown(instances: &[Instance], tag: Option<&str>) -> BTreeSet<IpAddr> {
    let has_tag = |instance: &&Instance| {
        tag.is_none_or(|tag| instance.tags.iter().any(|other| other.eq_ignore_ascii_case(tag)))
    };
    let healthy = instances.iter().filter(|instance| instance.health != Health::Critical);
    let address = |instance: &Instance| match instance.address.as_ref() {
        Some(Address::Ip(ip)) => Some(*ip),
        Some(Address::Host(_)) => None,
        None => match instance.node.address {
            Address::Ip(ip) => Some(ip),
            Address::Host(_) => None,
        },
    };
    healthy.filter(has_tag).filter_map(address).collect()
}

/// What is known after some changes, kept in the plainest way. Names are in lower case.
#[derive(Default)]
struct Known {
    places: BTreeMap<String, Heard>,
}

#[derive(Clone, Default)]
struct Heard {
    nodes: Option<Vec<Node>>,
    listing: Option<BTreeMap<String, Vec<String>>>,
    instances: BTreeMap<String, Vec<Instance>>,
}

impl Known {
    fn hear(&mut self, change: &Change) {
        match change {
            Change::Datacenters { names, .. } => {
                let heard = |name: &String| self.places.get(name).cloned().unwrap_or_default();
                self.places = names.iter().map(|name| (name.clone(), heard(name))).collect();
            }
            Change::Nodes { datacenter, nodes } => {
                if let Some(place) = self.places.get_mut(datacenter) {
                    place.nodes = Some(nodes.clone());
                }
            }
            Change::Services { datacenter, listing } => {
                if let Some(place) = self.places.get_mut(datacenter) {
                    let lower =
                        |(name, tags): &(String, Vec<String>)| (name.to_lowercase(), tags.clone());
                    let listing: BTreeMap<_, _> = listing.iter().map(lower).collect();
                    place.instances.retain(|name, _| listing.contains_key(name));
                    place.listing = Some(listing);
                }
            }
            Change::Service { datacenter, service, instances, .. } => {
                let Some(place) = self.places.get_mut(datacenter) else { return };
                let service = service.to_lowercase();
                if place.listing.as_ref().is_some_and(|listing| listing.contains_key(&service)) {
                    place.instances.insert(service, instances.clone());
                }
            }
            Change::Release { datacenter, service, .. } => {
                if let Some(place) = self.places.get_mut(datacenter) {
                    place.instances.remove(&service.to_lowercase());
                }
            }
            Change::Hold { .. }
            | Change::Owned { .. }
            | Change::Queries { .. }
            | Change::Reach { .. }
            | Change::Settle { .. }
            | Change::Whole { .. } => (),
        }
    }

    /// The shortest way to tell it.
    fn changes(&self) -> Vec<Change> {
        let names: Vec<String> = self.places.keys().cloned().collect();
        if names.is_empty() {
            return Vec::new();
        }
        let mut changes = vec![Change::Datacenters { local: LOCAL.to_owned(), names }];
        for (datacenter, Heard { nodes, listing, instances }) in &self.places {
            let datacenter = || datacenter.clone();
            let nodes = nodes.clone();
            changes.extend(nodes.map(|nodes| Change::Nodes { datacenter: datacenter(), nodes }));
            if let Some(listing) = listing.clone() {
                let listing = listing.into_iter().collect();
                changes.push(Change::Services { datacenter: datacenter(), listing });
            }
            for (service, instances) in instances {
                changes.push(told(datacenter(), service, instances.clone()));
            }
        }
        changes
    }
}

fn told(datacenter: String, service: &str, instances: Vec<Instance>) -> Change {
    Change::Service {
        datacenter,
        service: service.to_owned(),
        instances,
        held: Held::Watched,
        form: Form::Service,
        executed: None,
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let service = || select(&SERVICES[..]);
    let tags = subsequence(&TAGS[..], 0..3).prop_map(owned);
    let listing = prop::collection::btree_map(service().prop_map(str::to_owned), tags, 0..5);
    let change = prop_oneof![
        1 => any::<bool>().prop_map(|both| datacenters(if both { 2 } else { 1 })),
        3 => (datacenter(), nodes()).prop_map(|(datacenter, nodes)| {
            Change::Nodes { datacenter, nodes }
        }),
        4 => (datacenter(), listing).prop_map(|(datacenter, listing)| {
            Change::Services { datacenter, listing: listing.into_iter().collect() }
        }),
        8 => (datacenter(), service(), instances())
            .prop_map(|(datacenter, service, instances)| told(datacenter, service, instances)),
        1 => (datacenter(), service()).prop_map(|(datacenter, service)| {
            Change::Release { datacenter, form: Form::Service, service: service.to_owned() }
        }),
        1 => (datacenter(), any::<bool>()).prop_map(|(datacenter, reachable)| {
            Change::Reach { datacenter, reachable }
        }),
    ];
    let all = SERVICES.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
    let start = [datacenters(2), Change::Services { datacenter: LOCAL.to_owned(), listing: all }];
    // Half of all ways begin as a source does, so that later changes find something to change.
    (any::<bool>(), prop::collection::vec(change, 0..24)).prop_map(move |(starts, changes)| {
        let start = start.iter().filter(|_| starts).cloned();
        start.chain(changes).collect()
    })
}

fn datacenters(count: usize) -> Change {
    let names = [LOCAL, REMOTE].iter().take(count).map(|name| (*name).to_owned()).collect();
    Change::Datacenters { local: LOCAL.to_owned(), names }
}

fn datacenter() -> impl Strategy<Value = String> {
    select(vec![LOCAL, REMOTE]).prop_map(str::to_owned)
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

/// Names that show what is kept: services by tag, the parents of tags, nodes and their parents.
fn names() -> Vec<String> {
    let mut forms: Vec<String> = NODES.iter().map(|node| format!("{node}.node")).collect();
    for service in SERVICES {
        forms.push(format!("{service}.service"));
        forms.extend(["v1", "b", "a.b", "_v1"].map(|tag| format!("{tag}.{service}.service")));
    }
    for tag in TAGS {
        forms.push(format!("_{tag}.service"));
    }
    let scopes = ["", ".dc1", ".dc2"];
    scopes.iter().flat_map(|scope| forms.iter().map(move |form| format!("{form}{scope}"))).collect()
}

const LOCAL: &str = "dc1";

const REMOTE: &str = "dc2";

const SRV: u16 = 33;

const ANY: u16 = 255;

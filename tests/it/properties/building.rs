//! Whatever the order in which changes came, what is answered is the catalogue as it is now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fingerpost::answer::Transport;
use fingerpost::catalog::model::{Address, Health, Instance, Node};
use fingerpost::catalog::queries::Queries;
use fingerpost::catalog::{Change, Form, Rules};
use hickory_proto::op::Message;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::properties::asking::{ZONE, policy, rules, within};
use crate::support::generate::{
    NODES, SERVICES, TAGS, Unlisted, config, instances, message, nodes, queries, query,
    reverse_name, some_unlisted, told,
};
use crate::support::straight::{self, Core};

proptest! {
    #![proptest_config(config(600))]

    /// Nothing of what was is left: no tag, no parent of a node's, a query's or an address's name,
    /// no owner of an address, no instance. What was let go of has its addresses still.
    #[test]
    fn the_way_to_a_catalogue_does_not_show(changes in changes()) {
        let (mut builder, mut known) = (straight::builder(rules()), Known::default());
        for change in changes {
            known.hear(&change);
            builder.apply(change);
        }
        let denied = known.denied();
        for change in denied.clone() {
            builder.apply(change);
        }
        let mut walked = Core::of(builder.snapshot(), policy());
        let mut told = Core::new(rules(), policy(), known.changes().into_iter().chain(denied));
        for name in names() {
            for qtype in [SRV, ANY] {
                let bytes = message(&name, qtype, None);
                let walked = walked.outcome(&bytes, Transport::Tcp, 1);
                let told = told.outcome(&bytes, Transport::Tcp, 1);
                prop_assert_eq!(walked, told, "{} {}", name, qtype);
            }
        }
    }

    /// Nor do rules that were in force before.
    #[test]
    fn other_rules_before_do_not_show(changes in changes(), at in any::<Index>()) {
        let before = Rules {
            only_passing: !rules().only_passing,
            translate_wan_addrs: !rules().translate_wan_addrs,
            node_ttl_secs: 77,
            service_ttl_secs: vec![("*".to_owned(), 78)],
            ..rules()
        };
        let mut builder = straight::builder(before);
        let (first, rest) = changes.split_at(at.index(changes.len() + 1));
        for change in first {
            builder.apply(change.clone());
        }
        prop_assert!(builder.set_rules(rules()));
        for change in rest {
            builder.apply(change.clone());
        }
        let mut changed = Core::of(builder.snapshot(), policy());
        let mut told = straight::builder(rules());
        for change in changes {
            told.apply(change);
        }
        let mut told = Core::of(told.snapshot(), policy());
        for name in names() {
            for qtype in [SRV, ANY] {
                let bytes = message(&name, qtype, None);
                let changed = changed.outcome(&bytes, Transport::Tcp, 1);
                let told = told.outcome(&bytes, Transport::Tcp, 1);
                prop_assert_eq!(changed, told, "{} {}", name, qtype);
            }
        }
    }

    /// At every step, a service answers with the addresses of its instances that are not
    /// critical, and with no other.
    #[test]
    fn critical_instances_are_in_no_answer(changes in changes()) {
        let (mut builder, mut known) = (straight::builder(straight::rules()), Known::default());
        for mut change in changes {
            if let Change::Service { instances, .. } = &mut change {
                instances.iter_mut().for_each(simplify);
            }
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

/// Takes off what leads to other addresses than an instance's own or its node's.
fn simplify(instance: &mut Instance) {
    instance.ports.clear();
    (instance.tagged, instance.node.tagged) = (None, None);
    for address in instance.address.iter_mut().chain([&mut instance.node.address]) {
        if let Address::Host(host) = address {
            *host = "www.example.com".to_owned();
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

/// The addresses of the instances with `tag` that are not critical; where none has it, those of
/// the instances with all of its labels.
fn shown(instances: &[Instance], tag: Option<&str>) -> BTreeSet<IpAddr> {
    let has = |instance: &Instance, tag: &str| {
        instance.tags.iter().any(|other| other.eq_ignore_ascii_case(tag))
    };
    let healthy = || instances.iter().filter(|instance| instance.health != Health::Critical);
    let is_a_tag = tag.is_some_and(|tag| healthy().any(|instance| has(instance, tag)));
    let is_meant = |instance: &&Instance| match tag {
        None => true,
        Some(tag) if is_a_tag => has(instance, tag),
        Some(tags) => tags.split('.').all(|tag| has(instance, tag)),
    };
    let ip = |address: &Address| match address {
        Address::Ip(ip) => Some(*ip),
        Address::Host(_) => None,
    };
    let address = |instance: &Instance| ip(instance.effective_address());
    healthy().filter(is_meant).filter_map(address).collect()
}

/// What is known after some changes, kept in the plainest way. Names are in lower case.
#[derive(Default)]
struct Known {
    places: BTreeMap<String, Heard>,
}

#[derive(Clone, Default)]
struct Heard {
    nodes: Option<Vec<Node>>,
    /// Each name as it was first spelled, and its tags.
    listing: Option<BTreeMap<String, (String, Vec<String>)>>,
    instances: BTreeMap<String, Vec<Instance>>,
    /// The addresses of services, also of those whose instances are not kept.
    owned: BTreeMap<String, Vec<(IpAddr, String, String)>>,
    unlisted: BTreeMap<(Form, String), Change>,
    queries: Option<Queries>,
    cut_off_ms: Option<i64>,
}

impl Known {
    fn hear(&mut self, change: &Change) {
        if let Change::Datacenters { names, .. } = change {
            let heard = |name: &String| self.places.get(name).cloned().unwrap_or_default();
            self.places = names.iter().map(|name| (name.clone(), heard(name))).collect();
        }
        let Some(place) = place(change).and_then(|name| self.places.get_mut(name)) else { return };
        match change {
            Change::Nodes { nodes, .. } => place.nodes = Some(nodes.clone()),
            Change::Queries { queries, .. } => place.define(queries.as_ref()),
            Change::Services { listing, .. } => place.list(listing),
            Change::Service { form: Form::Service, service, instances, .. } => {
                if place.lists(service) {
                    place.instances.insert(service.to_lowercase(), instances.clone());
                    place.owned.insert(service.to_lowercase(), owned_by(instances));
                }
            }
            Change::Service { form, service, .. } => {
                place.unlisted.insert((*form, service.to_lowercase()), change.clone());
            }
            Change::Owned { service, addresses, .. } => {
                if place.lists(service) {
                    place.owned.insert(service.to_lowercase(), addresses.clone());
                }
            }
            Change::Release { form: Form::Service, service, .. } => {
                place.instances.remove(&service.to_lowercase());
            }
            Change::Release { form, service, .. } => {
                place.unlisted.remove(&(*form, service.to_lowercase()));
            }
            Change::Reach { cut_off_ms, .. } => place.cut_off_ms = *cut_off_ms,
            Change::Datacenters { .. }
            | Change::Hold { .. }
            | Change::Loaded { .. }
            | Change::Missed { .. }
            | Change::Settle { .. }
            | Change::Whole { .. } => (),
        }
    }

    /// That Consul knows no such prepared queries, where it did not say otherwise.
    fn denied(&self) -> Vec<Change> {
        let mut denied = Vec::new();
        for (datacenter, place) in &self.places {
            for name in ["dotted", "y", "b.query.c", "query.c", "c"].map(str::to_owned) {
                if !place.unlisted.contains_key(&(Form::Query, name.clone())) {
                    let unlisted =
                        Unlisted { form: Form::Query, name, instances: Vec::new(), executed: None };
                    denied.push(unlisted.change(datacenter));
                }
            }
        }
        denied
    }

    /// The shortest way to tell it.
    fn changes(&self) -> Vec<Change> {
        let names: Vec<String> = self.places.keys().cloned().collect();
        if names.is_empty() {
            return Vec::new();
        }
        let mut changes = vec![Change::Datacenters { local: LOCAL.to_owned(), names }];
        for (name, place) in &self.places {
            let datacenter = || name.clone();
            let nodes = place.nodes.clone();
            changes.extend(nodes.map(|nodes| Change::Nodes { datacenter: datacenter(), nodes }));
            if let Some(listing) = &place.listing {
                let listing = listing.values().cloned().collect();
                changes.push(Change::Services { datacenter: datacenter(), listing });
            }
            for (service, instances) in &place.instances {
                changes.push(told(name, service, instances.clone()));
            }
            for (service, addresses) in place.owned.clone() {
                changes.push(Change::Owned { datacenter: datacenter(), service, addresses });
            }
            changes.extend(place.unlisted.values().cloned());
            let queries = place.queries.clone();
            changes.push(Change::Queries { datacenter: datacenter(), queries });
            let cut_off_ms = place.cut_off_ms;
            changes.push(Change::Reach { datacenter: datacenter(), cut_off_ms });
        }
        changes
    }
}

impl Heard {
    /// What a query gave is gone when it is another one now.
    fn define(&mut self, queries: Option<&Queries>) {
        if let (Some(old), Some(new)) = (&self.queries, queries) {
            self.unlisted.retain(|(form, name), _| {
                *form != Form::Query || old.find(name.as_bytes()) == new.find(name.as_bytes())
            });
        }
        self.queries = queries.cloned();
    }

    fn lists(&self, service: &str) -> bool {
        let listing = self.listing.as_ref();
        listing.is_some_and(|listing| listing.contains_key(&service.to_lowercase()))
    }

    fn list(&mut self, listing: &[(String, Vec<String>)]) {
        let old = self.listing.take().unwrap_or_default();
        let spelled = |key: &String, name: &String| {
            old.get(key).map_or_else(|| name.clone(), |(old, _)| old.clone())
        };
        let entry = |(name, tags): &(String, Vec<String>)| {
            let key = name.to_lowercase();
            let name = spelled(&key, name);
            (key, (name, tags.clone()))
        };
        let listing: BTreeMap<_, _> = listing.iter().map(entry).collect();
        self.instances.retain(|key, _| listing.contains_key(key));
        self.owned.retain(|key, _| listing.contains_key(key));
        self.listing = Some(listing);
    }
}

/// The datacenter that a change is about.
fn place(change: &Change) -> Option<&String> {
    match change {
        Change::Datacenters { .. } => None,
        Change::Hold { datacenter, .. }
        | Change::Loaded { datacenter, .. }
        | Change::Missed { datacenter, .. }
        | Change::Nodes { datacenter, .. }
        | Change::Owned { datacenter, .. }
        | Change::Queries { datacenter, .. }
        | Change::Reach { datacenter, .. }
        | Change::Release { datacenter, .. }
        | Change::Service { datacenter, .. }
        | Change::Services { datacenter, .. }
        | Change::Settle { datacenter, .. }
        | Change::Whole { datacenter } => Some(datacenter),
    }
}

fn owned_by(instances: &[Instance]) -> Vec<(IpAddr, String, String)> {
    let owned = |instance: &Instance| match instance.address {
        Some(Address::Ip(ip)) => Some((ip, instance.node.name.clone(), instance.id.clone())),
        Some(Address::Host(_)) | None => None,
    };
    instances.iter().filter_map(owned).collect()
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // Any letter case means the same service.
    let service = || {
        (select(&SERVICES[..]), any::<bool>()).prop_map(|(name, is_upper)| match is_upper {
            true => name.to_uppercase(),
            false => name.to_owned(),
        })
    };
    let tags = subsequence(&TAGS[..], 0..3);
    let listing = prop::collection::btree_map(select(&SERVICES[..]), (any::<bool>(), tags), 0..5);
    let change = prop_oneof![
        1 => any::<bool>().prop_map(|both| datacenters(if both { 2 } else { 1 })),
        3 => (datacenter(), nodes())
            .prop_map(|(datacenter, nodes)| Change::Nodes { datacenter, nodes }),
        4 => (datacenter(), listing)
            .prop_map(|(datacenter, listing)| Change::Services { datacenter, listing: spelled(listing) }),
        8 => (datacenter(), service(), instances())
            .prop_map(|(datacenter, service, instances)| told(&datacenter, &service, instances)),
        2 => (datacenter(), service(), instances()).prop_map(|(datacenter, service, instances)| {
            Change::Owned { datacenter, service, addresses: owned_by(&instances) }
        }),
        2 => (datacenter(), service()).prop_map(|(datacenter, service)| {
            Change::Release { datacenter, form: Form::Service, service }
        }),
        6 => (datacenter(), some_unlisted())
            .prop_map(|(datacenter, unlisted)| unlisted.change(&datacenter)),
        2 => (datacenter(), some_unlisted()).prop_map(|(datacenter, unlisted)| {
            let Unlisted { form, name: service, .. } = unlisted;
            Change::Release { datacenter, form, service }
        }),
        2 => (datacenter(), queries()).prop_map(|(datacenter, queries)| {
            Change::Queries { datacenter, queries: queries.map(Queries::new) }
        }),
        1 => (datacenter(), any::<bool>()).prop_map(|(datacenter, reachable)| {
            Change::Reach { datacenter, cut_off_ms: (!reachable).then_some(0) }
        }),
    ];
    let all = SERVICES.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
    let start = [datacenters(2), Change::Services { datacenter: LOCAL.to_owned(), listing: all }];
    // Half of all ways begin as a source does, so that later changes find something to change.
    (any::<bool>(), prop::collection::vec((0..8_u8, any::<Index>(), change), 0..24)).prop_map(
        move |(starts, drawn)| {
            let mut changes: Vec<Change> = start.iter().filter(|_| starts).cloned().collect();
            for (kind, at, change) in drawn {
                let earlier = (!changes.is_empty()).then(|| at.get(&changes).clone());
                changes.push(match (kind, earlier) {
                    // Things come back as they were, and what came is let go of.
                    (0, Some(earlier)) => earlier,
                    (1, Some(Change::Service { datacenter, form, service, .. })) => {
                        Change::Release { datacenter, form, service }
                    }
                    (2, Some(Change::Service { datacenter, service, .. })) => {
                        Change::Owned { datacenter, service, addresses: Vec::new() }
                    }
                    _ => change,
                });
            }
            changes
        },
    )
}

fn spelled(listing: BTreeMap<&str, (bool, Vec<&str>)>) -> Vec<(String, Vec<String>)> {
    let spelled = |(name, (is_upper, tags)): (&str, (bool, Vec<&str>))| {
        let name = if is_upper { name.to_uppercase() } else { name.to_owned() };
        (name, tags.into_iter().map(str::to_owned).collect())
    };
    listing.into_iter().map(spelled).collect()
}

fn datacenters(count: usize) -> Change {
    let names = [LOCAL, REMOTE].iter().take(count).map(|name| (*name).to_owned()).collect();
    Change::Datacenters { local: LOCAL.to_owned(), names }
}

fn datacenter() -> impl Strategy<Value = String> {
    select(vec![LOCAL, REMOTE]).prop_map(str::to_owned)
}

/// Names that show what is kept: services by tag, the parents of tags, nodes and their parents,
/// what is in no list, and whose the addresses are.
fn names() -> Vec<String> {
    let mut forms: Vec<String> = NODES.iter().map(|node| format!("{node}.node")).collect();
    for service in SERVICES {
        forms.push(format!("{service}.service"));
        forms.extend(["v1", "b", "a.b", "_v1"].map(|tag| format!("{tag}.{service}.service")));
    }
    for tag in TAGS {
        forms.push(format!("_{tag}.service"));
    }
    for service in &SERVICES[..5] {
        forms.extend(["connect", "ingress", "virtual"].map(|kind| format!("{service}.{kind}")));
    }
    let queries =
        ["geo", "plain.dotted", "dotted", "t-x.y", "y", "id-of-geo", "c", "query.c", "b.query.c"];
    forms.extend(queries.map(|name| format!("{name}.query")));
    let scopes = ["", ".dc1", ".dc2"];
    let scoped = |form: &String| scopes.map(|scope| format!("{form}{scope}"));
    let mut names: Vec<String> = forms.iter().flat_map(scoped).collect();
    names.extend(SERVICES[..5].iter().map(|service| format!("{service}.service.west.peer")));
    let ipv4 = (1..9).map(|last| reverse_name(Ipv4Addr::new(10, 9, 0, last).into()));
    let ipv6 =
        (1..9).map(|last| reverse_name(Ipv6Addr::new(0xfd00, 0, 0, 9, 0, 0, 0, last).into()));
    let parents =
        ["0.9.10.in-addr.arpa", "9.10.in-addr.arpa", "9.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"];
    let reverse = ipv4.chain(ipv6).chain(parents.map(str::to_owned));
    names.iter().map(|name| within(name, ZONE)).chain(reverse).collect()
}

const LOCAL: &str = "dc1";

const REMOTE: &str = "dc2";

const SRV: u16 = 33;

const ANY: u16 = 255;

//! Which names exist: parents of data do, and the type asked for has no say (RFC 8020).

use std::collections::BTreeSet;

use fingerpost::answer::Transport;
use fingerpost::catalog::model::{Address, Health, Instance, Node, Weights};
use fingerpost::catalog::{Change, Form, Held};
use proptest::prelude::*;

use crate::properties::asking::{Known, QTYPES, REVERSE, ZONE, is_within, parents, within};
use crate::support::generate::{World, config, query, world};
use crate::support::straight::{self, Core};

proptest! {
    #![proptest_config(config(160))]

    /// In the zones of addresses too.
    #[test]
    fn no_parent_of_data_is_nxdomain(world in world()) {
        let mut known = Known::of(&world);
        for name in names(&world) {
            // Nothing has records of another type and none of these.
            if [ANY, SRV].iter().all(|qtype| known.head(&name, *qtype).answers == 0) {
                continue;
            }
            for parent in ours(parents(&name)) {
                let is_missing = known.head(parent, A).rcode == NXDOMAIN;
                prop_assert!(!is_missing, "{name} has data, {parent} is NXDOMAIN");
            }
        }
    }
}

proptest! {
    // Each case asks a hundred names for twelve types.
    #![proptest_config(config(40))]

    #[test]
    fn existence_does_not_depend_on_the_type(world in world()) {
        let mut known = Known::of(&world);
        let names = names(&world);
        let parents = names.iter().flat_map(|name| ours(parents(name)));
        for name in names.iter().map(|name| &**name).chain(parents).collect::<BTreeSet<_>>() {
            let expected = known.head(name, A).rcode;
            for qtype in QTYPES {
                let rcode = known.head(name, qtype).rcode;
                prop_assert_eq!(rcode, expected, "{} type {}", name, qtype);
            }
        }
    }
}

#[test]
fn a_listed_tag_that_nobody_has_is_wanted_until_it_is_settled() {
    let dc1 = || "dc1".to_owned();
    let web = || "web".to_owned();
    let instance = |tag: &str, health| Instance {
        id: tag.to_owned(),
        node: Node::new("n1".to_owned(), Address::Ip([10, 0, 0, 1].into())),
        address: None,
        port: 80,
        ports: Vec::new(),
        tagged: None,
        tags: vec![tag.to_owned()],
        weights: Weights::default(),
        health,
        worst: None,
    };
    let listed = ["v1", "v2", "v3", "a.b"].map(str::to_owned).to_vec();
    let instances = vec![instance("v1", Health::Passing), instance("v2", Health::Critical)];
    let mut changes = vec![
        Change::Datacenters { local: dc1(), names: vec![dc1()] },
        Change::Services { datacenter: dc1(), listing: vec![(web(), listed)] },
        Change::Service {
            datacenter: dc1(),
            form: Form::Service,
            service: web(),
            instances,
            held: Held::Watched,
            executed: None,
        },
    ];
    for settled in [false, true] {
        if settled {
            changes.push(Change::Settle { datacenter: dc1(), service: web() });
        }
        let mut core = Core::new(straight::rules(), straight::policy(), changes.clone());
        for (tag, expected) in [
            ("v1", "NOERROR"),
            // Of a critical instance: it is known, and not shown.
            ("v2", "NXDOMAIN"),
            ("v3", if settled { "NXDOMAIN" } else { "wanted" }),
            ("b", if settled { "NXDOMAIN" } else { "wanted" }),
            ("v4", "NXDOMAIN"),
        ] {
            let query = query(&format!("{tag}.web.service"), A, None);
            let got = match core.outcome(&query, Transport::Udp, 0) {
                Ok(reply) if reply[3] & 0xf == NXDOMAIN => "NXDOMAIN",
                Ok(_) => "NOERROR",
                Err(_) => "wanted",
            };
            assert_eq!(got, expected, "{tag}, settled: {settled}");
        }
    }
}

/// All names that may have data.
fn names(world: &World) -> BTreeSet<String> {
    let names = world.names().into_iter().map(|name| within(&name, ZONE));
    names.chain(world.reverse_names()).collect()
}

/// Those of `names` that are in a zone of ours.
fn ours<'n>(names: impl Iterator<Item = &'n str>) -> impl Iterator<Item = &'n str> {
    let zones = REVERSE.iter().chain([&ZONE]);
    names.filter(move |name| zones.clone().any(|zone| is_within(name, zone)))
}

const NXDOMAIN: u8 = 3;

const A: u16 = 1;

const SRV: u16 = 33;

const ANY: u16 = 255;

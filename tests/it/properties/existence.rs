//! Which names exist: parents of data do, and the type asked for has no say (RFC 8020).

use fingerpost::answer::Transport;
use fingerpost::catalog::model::{Address, Health, Instance, Node, Weights};
use fingerpost::catalog::{Change, Form, Held};
use proptest::prelude::*;

use crate::support::generate::{World, config, query, world};
use crate::support::straight::{self, Core};

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn no_parent_of_data_is_nxdomain(world in world()) {
        let mut core = Core::new(straight::rules(), straight::policy(), world.changes());
        for name in world.names() {
            if QTYPES.iter().all(|qtype| ask(&mut core, &name, *qtype).answers == 0) {
                continue;
            }
            for parent in parents(&name) {
                let is_missing = ask(&mut core, parent, A).rcode == NXDOMAIN;
                prop_assert!(!is_missing, "{name} has data, {parent:?} is NXDOMAIN");
            }
        }
    }

    #[test]
    fn existence_does_not_depend_on_the_type(world in world()) {
        let mut core = Core::new(straight::rules(), straight::policy(), world.changes());
        for name in names_and_parents(&world) {
            let expected = ask(&mut core, &name, A).rcode;
            for qtype in QTYPES {
                let rcode = ask(&mut core, &name, qtype).rcode;
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

struct Seen {
    rcode: u8,
    answers: u16,
}

/// Asks over TCP, where nothing is left out, and looks at the reply's header only.
fn ask(core: &mut Core, name: &str, qtype: u16) -> Seen {
    let reply = core.ask(&query(name, qtype, None), Transport::Tcp, 0);
    Seen { rcode: reply[3] & 0xf, answers: u16::from_be_bytes([reply[6], reply[7]]) }
}

/// `b.web` and `web` for `a.b.web`, and the zone itself.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
    dots.chain([""])
}

fn names_and_parents(world: &World) -> std::collections::BTreeSet<String> {
    let names = world.names();
    let parents: Vec<String> =
        names.iter().flat_map(|name| parents(name)).map(str::to_owned).collect();
    names.into_iter().chain(parents).collect()
}

const NXDOMAIN: u8 = 3;

const A: u16 = 1;

/// A, AAAA, SRV, TXT, ANY, SOA, MX, CNAME and one that nobody knows.
const QTYPES: [u16; 9] = [A, 28, 33, 16, 255, 6, 15, 5, 65_280];

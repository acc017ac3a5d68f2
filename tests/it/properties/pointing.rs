//! Whose an address is: found in the catalogue by a scan here, and from an index in the program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fingerpost::answer::Transport;
use fingerpost::catalog::model::{Address, Instance, Node};
use hickory_proto::op::{Message, ResponseCode};
use proptest::prelude::*;

use crate::properties::asking::{Known, REVERSE, is_within};
use crate::support::generate::{World, config, message, reverse_name, world};

proptest! {
    #![proptest_config(config(1_000))]

    /// As Consul: a node before a service, nodes in the order of their names, services in that of
    /// their nodes and IDs; whatever the health. The TTL is that of what is named.
    #[test]
    fn an_address_is_its_first_owners(world in world()) {
        let mut known = Known::of(&world);
        for ip in addresses() {
            let name = reverse_name(ip);
            let reply = known.ask(&message(&name, PTR, None), Transport::Udp, 0);
            let reply = Message::from_vec(reply).unwrap();
            let got: Vec<String> =
                reply.answers.iter().map(|it| format!("{} {}", it.ttl, it.data)).collect();
            let is_ours = REVERSE.iter().any(|zone| is_within(&name, zone));
            let (expected, rcode) = match owner(&world, ip) {
                Some(owner) => (vec![owner], ResponseCode::NoError),
                None if is_ours => (Vec::new(), ResponseCode::NXDomain),
                None => (Vec::new(), ResponseCode::Refused),
            };
            prop_assert_eq!(got, expected, "{}", name);
            prop_assert_eq!(reply.metadata.response_code, rcode, "{}", name);
        }
    }
}

/// The TTL and the target of the record of `ip`.
fn owner(world: &World, ip: IpAddr) -> Option<String> {
    let local = &world.places[0];
    let has = |address: &Address| *address == Address::Ip(ip);
    let nodes = local.nodes.iter().filter(|node| has(&node.address));
    if let Some(node) = nodes.min_by_key(|node| node.name.to_lowercase()) {
        let Node { name, .. } = node;
        return Some(format!("2 {name}.node.dc1.consul."));
    }
    let all = local.services.iter();
    let all = all.flat_map(|(name, instances)| instances.iter().map(move |one| (name, one)));
    let having = all.filter(|(_, instance)| instance.address.as_ref().is_some_and(has));
    let place =
        |instance: &Instance| (instance.node.name.to_lowercase(), instance.id.to_lowercase());
    let (service, _) = having.min_by_key(|(_, instance)| place(instance))?;
    let ttl_secs = if service == "web" { 7 } else { 5 };
    Some(format!("{ttl_secs} {service}.service.dc1.consul."))
}

/// All addresses that anything may have, and some that nothing has.
fn addresses() -> impl Iterator<Item = IpAddr> {
    let ipv4 = (0..11).map(|last| Ipv4Addr::new(10, 9, 0, last).into());
    let ipv6 = (0..11).map(|last| Ipv6Addr::new(0xfd00, 0, 0, 9, 0, 0, 0, last).into());
    let others = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
    ipv4.chain(ipv6).chain(others)
}

const PTR: u16 = 12;

//! Replies as long as a stream can carry: every name in them is where it is said to be.
//!
//! A compression pointer reaches the first 16 KiB of a message, and no further (RFC 1035 §4.1.4).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use fingerpost::answer::Transport;
use hickory_proto::op::Message;
use hickory_proto::rr::RData;

use crate::support::generate::query;
use crate::support::scenario::Scenario;
use crate::support::straight::{Core, policy, rules};

#[test]
fn every_target_has_its_own_address_however_long_the_reply() {
    for width in [1, 20, 59] {
        for count in [10, 100, 230, 411, 600, 1000, 2500] {
            let nodes: BTreeMap<String, IpAddr> = (0..count).map(|at| node(at, width)).collect();
            let text: String = nodes
                .iter()
                .map(|(name, ip)| {
                    format!("node {name} {ip}\nservice k on {name} port 80 passing\n")
                })
                .collect();
            let scenario =
                Scenario::parse("large", &(text + "query consul A\nreply NOERROR")).unwrap();
            let mut core = Core::new(rules(), policy(), scenario.changes);
            let reply = core.outcome(&query("k.service", SRV, None), Transport::Tcp, 1).unwrap();
            check(reply, &nodes);
        }
    }
}

fn check(reply: &[u8], nodes: &BTreeMap<String, IpAddr>) {
    let message = Message::from_vec(reply).unwrap();
    let (count, len) = (nodes.len(), reply.len());
    let mut targets: Vec<String> = Vec::new();
    for record in &message.answers {
        let RData::SRV(srv) = &record.data else { panic!("{record}") };
        targets.push(srv.target.to_string());
    }
    assert!(targets.len() == count || len > 60_000, "{} of {count} in {len}", targets.len());
    for record in &message.additionals {
        let owner = record.name.to_string();
        assert!(targets.contains(&owner), "{owner} is no target: {count} in {len}");
        let name = owner.split('.').next().unwrap();
        assert_eq!(record.data.ip_addr(), nodes.get(name).copied(), "{owner}: {count} in {len}");
    }
    assert!(message.additionals.len() == count || len > 60_000, "{count} in {len}");
}

/// A node whose name has so many letters.
fn node(at: u32, width: usize) -> (String, IpAddr) {
    (format!("{}{at}", "n".repeat(width)), Ipv4Addr::from_bits(0x0a00_0000 + at).into())
}

const SRV: u16 = 33;

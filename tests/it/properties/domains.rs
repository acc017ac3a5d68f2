//! A second domain says what the first one says, in its own words.

use fingerpost::answer::Transport;
use fingerpost::catalog::model::{Address, Tagged};
use hickory_proto::op::Message;
use proptest::prelude::*;

use crate::properties::asking::{ALT, Known, QTYPES, ZONE, is_within, within};
use crate::support::generate::{World, config, message, world};

proptest! {
    #![proptest_config(config(25))]

    /// But for the hosts that were registered in the first domain: those stay as they are.
    #[test]
    fn the_second_domain_differs_in_its_name_only(world in world(), seed in any::<u64>()) {
        let mut known = Known::of(&without_hosts_of_ours(world.clone()));
        for name in world.names() {
            for qtype in QTYPES {
                let mut ask = |zone| {
                    let bytes = message(&within(&name, zone), qtype, None);
                    text(known.ask(&bytes, Transport::Tcp, seed))
                };
                let (first, second) = (ask(ZONE), ask(ALT));
                let expected: Vec<String> = first.iter().map(|line| renamed(line)).collect();
                prop_assert_eq!(second, expected, "{} {}", name, qtype);
            }
        }
    }
}

/// A reply, a line for its flags and one for each record.
fn text(reply: &[u8]) -> Vec<String> {
    let message = Message::from_vec(reply).unwrap();
    let records = message.answers.iter().chain(&message.authorities).chain(&message.additionals);
    let head = format!("{:?}", message.metadata);
    std::iter::once(head).chain(records.map(ToString::to_string)).collect()
}

/// The same in the second domain.
fn renamed(line: &str) -> String {
    let word = |word: &str| match word.strip_suffix('.').filter(|name| is_within(name, ZONE)) {
        Some(name) => format!("{}{ALT}.", name.strip_suffix(ZONE).unwrap_or(name)),
        None => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The same with the hosts in our domains elsewhere.
fn without_hosts_of_ours(mut world: World) -> World {
    let moved = |address: &mut Address| {
        if let Address::Host(host) = address {
            let name = host.trim_end_matches('.');
            if is_within(name, ZONE) || is_within(name, ALT) {
                *host = "elsewhere.example.com".to_owned();
            }
        }
    };
    let all_moved = |tagged: &mut Option<Box<Tagged>>| {
        if let Some(tagged) = tagged {
            let Tagged { lan_ipv4, lan_ipv6, wan, wan_ipv4, wan_ipv6, .. } = &mut **tagged;
            [lan_ipv4, lan_ipv6, wan, wan_ipv4, wan_ipv6].into_iter().flatten().for_each(moved);
        }
    };
    for node in world.places.iter_mut().flat_map(|place| &mut place.nodes) {
        moved(&mut node.address);
        all_moved(&mut node.tagged);
    }
    world.retain(|instance| {
        instance.address.iter_mut().for_each(moved);
        moved(&mut instance.node.address);
        all_moved(&mut instance.tagged);
        all_moved(&mut instance.node.tagged);
        true
    })
}
